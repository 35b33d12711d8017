//! How long decisions take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four classes for each doubling of the time, from 0 to 2^32 microseconds' worth of nanoseconds: a time is known to a fifth.
const CLASSES: usize = 4 * 42;

/// Counts of times by classes. All orderings are relaxed: each stands for itself.
#[derive(Debug)]
pub(super) struct Latency {
    counts: Box<[AtomicU64]>,
}

/// What was counted up to some moment.
pub(super) type Counts = Box<[u64]>;

impl Default for Latency {
    fn default() -> Self {
        Self { counts: (0..CLASSES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Latency {
    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(class(nanos)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// The class of a time: its leading bit, and the two after it.
// What is cast is small.
#[allow(clippy::cast_possible_truncation)]
fn class(nanos: u64) -> usize {
    if nanos < 4 {
        return nanos as usize;
    }
    let power = nanos.ilog2() as usize;
    let fraction = (nanos >> (power - 2)) as usize & 3;
    (4 * (power - 1) + fraction).min(CLASSES - 1)
}

/// The longest time of a class, in nanoseconds.
fn longest(class: usize) -> u64 {
    if class < 4 {
        return class as u64;
    }
    let (power, fraction) = (class / 4 + 1, (class % 4) as u64);
    ((4 + fraction + 1) << (power - 2)) - 1
}

/// The time that so many of a thousand decisions do not exceed, of those between two countings; `None` if there were none.
pub(super) fn percentile(before: &Counts, after: &Counts, of_thousand: u64) -> Option<u64> {
    let between = || before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
    let total: u64 = between().sum();
    let rank = (total * of_thousand).div_ceil(1_000).max(1);
    let mut seen = 0;
    let found = between().position(|count| {
        seen += count;
        seen >= rank
    });
    found.filter(|_| total > 0).map(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_is_counted_in_them() {
        for nanos in (0..10_000).chain([1 << 20, 123_456_789, 4_000_000_000]) {
            let class = class(nanos);
            assert!(nanos <= longest(class), "{nanos}");
            assert!(class == 0 || nanos > longest(class - 1), "{nanos}");
            assert!(longest(class) <= nanos + nanos / 4, "{nanos}");
        }
        // What takes longer than anything is in the last.
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn percentiles_are_of_what_came_between() {
        let latency = Latency::default();
        let start = latency.counts();
        assert_eq!(percentile(&start, &start, 500), None);
        for micros in 1..=100 {
            latency.add(Duration::from_micros(micros));
        }
        let middle = latency.counts();
        let [half, most] = [500, 990].map(|rank| percentile(&start, &middle, rank).unwrap());
        assert!((50_000..65_000).contains(&half) && (99_000..125_000).contains(&most), "{half} {most}");
        latency.add(Duration::from_secs(1));
        let end = latency.counts();
        assert!(percentile(&middle, &end, 1).unwrap() >= 1_000_000_000);
    }
}
