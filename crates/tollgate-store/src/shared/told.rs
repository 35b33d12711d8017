//! The time by which a server decides: its own, or one that it is told.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::{Limit, State, Timestamp};

use super::rule::MICRO;

/// The time that a server is told, in nanoseconds; 0 if it reads its own.
#[derive(Debug, Default)]
pub(crate) struct ToldTime(AtomicU64);

impl ToldTime {
    /// From now on it is this time.
    pub(crate) fn tell(&self, now: Timestamp) {
        // Relaxed: whoever tells the time is the only one to ask.
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// In microseconds, if it is told.
    pub(crate) fn micros(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(|nanos| nanos / MICRO)
    }

    /// For how many milliseconds a state is worth remembering; `None` if it is as new.
    pub(crate) fn lasting(&self, limit: &Limit, state: &State, now: Timestamp) -> Option<u64> {
        /// In case the clock is set back; and where the time is told, as the server's own says nothing then. As on the
        /// servers.
        const MORE: [u64; 2] = [1_000, 600_000];

        let more = MORE[usize::from(self.micros().is_some())];
        let vacant_at = limit.vacant_at(state);
        (vacant_at > now).then(|| vacant_at.since(now).as_nanos().div_ceil(MICRO * 1_000) + more)
    }
}
