//! The time by which a server decides: its own, or one that it is told; and what is known of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::{Limit, State, Timestamp};

use super::batch::{Answered, Reply};
use super::rule::MICRO;
use crate::store::StoreError;

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

/// A server's time as it was last heard, in nanoseconds. A calendar's windows are sent around it.
#[derive(Debug, Default)]
pub(crate) struct HeardTime(AtomicU64);

impl HeardTime {
    /// How often a server's clock may leave the windows that it was told, before something is wrong with it.
    pub(crate) const TRIES: u32 = 4;

    /// About what time it is there.
    pub(crate) fn about(&self) -> Timestamp {
        // Relaxed, here and below: an old time costs another round trip at most.
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Notes what a server answered. Nothing if it was elsewhere: then it has changed nothing, and can be asked again.
    pub(crate) fn hear(&self, answered: Answered) -> Option<Reply> {
        let (now, reply) = match answered {
            Answered::Decided(reply) => (reply.now, Some(reply)),
            Answered::Elsewhere(now) => (now, None),
        };
        self.0.store(now.as_nanos(), Ordering::Relaxed);
        reply
    }

    /// What is wrong with a server that is elsewhere again and again.
    pub(crate) fn astray() -> StoreError {
        StoreError::Unavailable(format!("the server's clock was set {} times meanwhile", Self::TRIES))
    }
}
