//! How requests have fared of late: how many failed, and how long they took.

use std::array;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollgate_core::Level;

use super::{Health, Thresholds};

/// Counts how requests fare, for [`ErrorRate`] and [`Latency`]. To note one takes two atomic additions.
pub struct Outcomes {
    failed: AtomicU64,
    /// By how long they took: eight for each doubling.
    took: [AtomicU64; BUCKETS],
}

/// Each doubling of a time is cut into so many parts, so that a time is known by an eighth.
const PARTS: usize = 8;
/// Times from a microsecond on, up to an hour.
const BUCKETS: usize = 32 * PARTS;

/// Counts at one moment.
#[derive(Clone)]
struct Counts {
    failed: u64,
    took: [u64; BUCKETS],
}

impl Outcomes {
    /// Nothing is counted yet.
    pub fn new() -> Self {
        Self { failed: AtomicU64::new(0), took: array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Notes a request that has ended.
    pub fn note(&self, took: Duration, failed: bool) {
        self.note_many(took, failed, 1);
    }

    /// Notes as many that fared alike.
    pub fn note_many(&self, took: Duration, failed: bool, count: u32) {
        // Statistics: a reader that sees one of these without the other is off by a request.
        self.took[bucket(took)].fetch_add(count.into(), Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(count.into(), Ordering::Relaxed);
        }
    }

    fn read(&self) -> Counts {
        Counts {
            failed: self.failed.load(Ordering::Relaxed),
            took: array::from_fn(|bucket| self.took[bucket].load(Ordering::Relaxed)),
        }
    }
}

impl Default for Outcomes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { failed, took } = self.read();
        let all: u64 = took.iter().sum();
        f.debug_struct("Outcomes").field("all", &all).field("failed", &failed).finish()
    }
}

/// Where a time is counted.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).saturating_add(PARTS as u64);
    // The leading bit says which doubling, the three bits after it which part.
    let doubling = (u64::BITS - 1 - micros.leading_zeros()) as usize;
    let part = usize::try_from(micros >> (doubling - 3)).unwrap_or(0) & (PARTS - 1);
    ((doubling - 3) * PARTS + part).min(BUCKETS - 1)
}

/// The longest time that is counted there, in microseconds.
fn upper_us(bucket: usize) -> u64 {
    let (doubling, part) = (bucket / PARTS, bucket % PARTS);
    ((PARTS + part + 1) as u64) << doubling
}

/// The counts of the last so many times that somebody looked.
struct Window {
    of: Arc<Outcomes>,
    seen: VecDeque<Counts>,
}

/// Signals look back over as many samples.
const SAMPLES: usize = 10;
/// Of fewer requests a share or a percentile says nothing.
const REQUESTS_MIN: u64 = 20;

impl Window {
    fn new(of: Arc<Outcomes>) -> Self {
        let seen = VecDeque::from([of.read()]);
        Self { of, seen }
    }

    /// What came to be within the window, if that is enough.
    fn latest(&mut self) -> Option<Counts> {
        let now = self.of.read();
        if self.seen.len() > SAMPLES {
            self.seen.pop_front();
        }
        let then = self.seen.front()?;
        let since = Counts {
            failed: now.failed.saturating_sub(then.failed),
            took: array::from_fn(|bucket| now.took[bucket].saturating_sub(then.took[bucket])),
        };
        self.seen.push_back(now);
        (since.all() >= REQUESTS_MIN).then_some(since)
    }
}

impl Counts {
    fn all(&self) -> u64 {
        self.took.iter().sum()
    }

    // Counts of requests within some seconds, far below where a double is not exact.
    #[allow(clippy::cast_precision_loss)]
    fn error_rate(&self) -> f64 {
        self.failed as f64 / self.all() as f64
    }

    /// The time within which so large a share of the requests was answered, in seconds; at most an eighth too long.
    #[allow(clippy::cast_precision_loss)]
    fn percentile_s(&self, share: f64) -> f64 {
        let wanted = self.all() as f64 * share;
        let mut sum = 0;
        let reaches = |count: &u64| {
            sum += count;
            sum as f64 >= wanted
        };
        let bucket = self.took.iter().position(reaches).unwrap_or(BUCKETS - 1);
        upper_us(bucket).saturating_sub(PARTS as u64) as f64 / 1e6
    }
}

/// The share of requests that fail, over the last ten samples: from 0 to 1.
///
/// With fewer than twenty requests in that time all is taken to be well.
pub struct ErrorRate {
    window: Window,
    thresholds: Thresholds,
    level: Level,
}

impl ErrorRate {
    /// Of these requests; a threshold of 0.05 stands for five percent.
    pub fn new(of: Arc<Outcomes>, thresholds: Thresholds) -> Self {
        Self { window: Window::new(of), thresholds, level: Level::Good }
    }
}

impl Health for ErrorRate {
    fn level(&mut self) -> Level {
        let rate = self.window.latest().map_or(0.0, |counts| counts.error_rate());
        self.level = self.thresholds.level(rate, self.level);
        self.level
    }
}

/// A percentile of how long requests take, over the last ten samples.
///
/// With fewer than twenty requests in that time all is taken to be well. A time is known by an eighth, and rounded up.
pub struct Latency {
    window: Window,
    share: f64,
    thresholds: Thresholds,
    level: Level,
}

impl Latency {
    /// Of these requests, by thresholds in seconds. The percentile is from 0 to 100, such as 99; what is outside is taken for the nearest
    /// of these.
    pub fn new(of: Arc<Outcomes>, percentile: f64, thresholds: Thresholds) -> Self {
        let share = if percentile.is_nan() { 0.0 } else { percentile.clamp(0.0, 100.0) / 100.0 };
        Self { window: Window::new(of), share, thresholds, level: Level::Good }
    }
}

impl Health for Latency {
    fn level(&mut self) -> Level {
        let took_s = self.window.latest().map_or(0.0, |counts| counts.percentile_s(self.share));
        self.level = self.thresholds.level(took_s, self.level);
        self.level
    }
}

impl fmt::Debug for ErrorRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorRate").field("level", &self.level).finish_non_exhaustive()
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency").field("level", &self.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_where_it_is_known_by_an_eighth() {
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BUCKETS - 1));
        let mut last = 0;
        for exponent in 0..31 {
            for micros in [1_u64 << exponent, (1 << exponent) * 3 / 2] {
                let at = bucket(Duration::from_micros(micros));
                assert!(at >= last);
                last = at;
                let upper = upper_us(at) - PARTS as u64;
                assert!(upper >= micros && upper <= micros + (micros + 8) / 8 + 1, "{micros}: {upper}");
            }
        }
    }

    #[test]
    fn shares_and_percentiles_are_those_of_the_window() {
        let outcomes = Arc::new(Outcomes::new());
        let mut window = Window::new(Arc::clone(&outcomes));
        assert!(window.latest().is_none(), "too few to tell");
        for number in 1..=100 {
            outcomes.note(Duration::from_millis(number), number > 90);
        }
        let counts = window.latest().unwrap();
        assert_eq!((counts.all(), counts.failed), (100, 10));
        let median = counts.percentile_s(0.5);
        assert!((0.05..0.057).contains(&median), "{median}");
        for _ in 0..SAMPLES - 1 {
            assert!(window.latest().is_some());
        }
        assert!(window.latest().is_none(), "that was too long ago");
    }
}
