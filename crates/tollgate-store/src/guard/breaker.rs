//! Whether it is worth asking a store that has failed.
//!
//! ```text
//!            failures in a row, or for some time
//!   closed ───────────────────────────────────────▶ open ──▶ half-open: one probe is under way
//!     ▲                                              ▲  a pause     │         │
//!     │                                              └── it fails ──┘         │
//!     └──────────────────────────── it succeeds ──────────────────────────────┘
//! ```
//!
//! Plain data that is told the time; the [guard](super::Guarded) makes the probes.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many failures in a row open the breaker …
const FAILURES: u64 = 5;
/// … or failures, and nothing else, for so long.
const FAILING: Duration = Duration::from_millis(500);

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// The store is asked.
    Closed,
    /// It is not.
    Open,
    /// It is not, but a probe is under way.
    HalfOpen,
}

impl Phase {
    /// The name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    /// The phase, as all threads read it.
    phase: AtomicU8,
    /// Failures since the last success.
    failures: AtomicU64,
    /// When the first of them was. Grace is counted from here, and begins anew only after a success.
    since: Mutex<Option<Instant>>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Closed as u8),
            failures: AtomicU64::new(0),
            since: Mutex::new(None),
        }
    }
}

impl Breaker {
    pub(super) fn phase(&self) -> Phase {
        // Relaxed, here and below: whoever sees the former phase asks once more, or once less.
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Closed,
            1 => Phase::Open,
            _ => Phase::HalfOpen,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How long the store has been failing.
    pub(super) fn failing_for(&self, now: Instant) -> Duration {
        self.since().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The store has answered.
    pub(super) fn succeeded(&self) {
        if self.failures() > 0 {
            self.failures.store(0, Ordering::Relaxed);
            *self.since() = None;
        }
        self.enter(Phase::Closed);
    }

    /// The store has not. Returns whether that opened the breaker, so that probes have to begin.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let mut since = self.since();
        let failing = now.saturating_duration_since(*since.get_or_insert(now));
        // Under the lock, so that one of those who fail together opens it.
        if self.phase() != Phase::Closed || (failures < FAILURES && failing < FAILING) {
            return false;
        }
        self.enter(Phase::Open);
        true
    }

    /// A probe begins, or has failed.
    pub(super) fn probing(&self, is_under_way: bool) {
        self.enter(if is_under_way { Phase::HalfOpen } else { Phase::Open });
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_tells_one_of_them() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        breaker.succeeded();
        let opened: Vec<bool> = (0..7).map(|_| breaker.failed(now)).collect();
        assert_eq!(opened, [false, false, false, false, true, false, false]);
        assert_eq!((breaker.phase(), breaker.failures()), (Phase::Open, 7));
    }

    #[test]
    fn rare_failures_open_it_too_if_nothing_else_comes() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.failed(now));
        assert!(!breaker.failed(now + Duration::from_millis(499)));
        assert!(breaker.failed(now + Duration::from_millis(500)));
    }

    #[test]
    fn an_outage_lasts_until_a_success_whatever_is_probed() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..5 {
            breaker.failed(now);
        }
        breaker.probing(true);
        assert_eq!(breaker.phase(), Phase::HalfOpen);
        breaker.probing(false);
        breaker.failed(now + Duration::from_secs(7));
        assert_eq!(breaker.failing_for(now + Duration::from_secs(9)), Duration::from_secs(9));
        breaker.succeeded();
        assert_eq!((breaker.phase(), breaker.failing_for(now)), (Phase::Closed, Duration::ZERO));
    }
}
