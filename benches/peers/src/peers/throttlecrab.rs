//! throttlecrab: GCRA in a map of one thread. All threads share it under a lock, as it wants to be borrowed mutably.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use throttlecrab::{AdaptiveStore, PeriodicStore, ProbabilisticStore, RateLimiter, Store};

use super::Peer;
use crate::error::Error;
use crate::setup::{Outcome, Setup};
use crate::workload::Texts;

/// One of its stores, by the way in which they throw out old keys.
pub(crate) trait Kept: Store + Send {
    /// A store for that many keys.
    fn with_room(setup: &Setup) -> Self;
}

impl Kept for PeriodicStore {
    fn with_room(setup: &Setup) -> Self {
        if setup.presized { Self::with_capacity(setup.keys) } else { Self::new() }
    }
}

impl Kept for AdaptiveStore {
    fn with_room(setup: &Setup) -> Self {
        // Not grown from nothing, whatever is measured: a store that is more than three quarters full looks at all its keys in
        // each decision.
        Self::with_capacity(setup.keys)
    }
}

impl Kept for ProbabilisticStore {
    fn with_room(setup: &Setup) -> Self {
        // By default it looks at all its keys once in 1,000 decisions, which is meant for fewer keys than come here.
        let store = Self::builder().cleanup_probability(setup.keys.max(1_000) as u64);
        if setup.presized { store.capacity(setup.keys).build() } else { store.build() }
    }
}

/// A limiter on one of the stores.
pub(crate) struct Throttlecrab<S: Store> {
    limiter: Mutex<RateLimiter<S>>,
    burst: i64,
    count: i64,
    period_seconds: i64,
}

pub(crate) type Periodic = Throttlecrab<PeriodicStore>;
pub(crate) type Adaptive = Throttlecrab<AdaptiveStore>;
pub(crate) type Probabilistic = Throttlecrab<ProbabilisticStore>;

impl<S: Kept> Peer for Throttlecrab<S> {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        let allowance = setup.allowance;
        // With a burst of 1 it forgets each key at once, and denies nobody.
        let burst = if setup.outcome == Outcome::Denied { 2 } else { allowance.burst };
        Ok(Self {
            limiter: Mutex::new(RateLimiter::new(S::with_room(setup))),
            burst: i64::from(burst),
            count: i64::from(allowance.count),
            period_seconds: i64::try_from(allowance.period.as_secs())
                .map_err(|error| Error::refused("throttlecrab", error))?,
        })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        let now = SystemTime::now();
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter
            .rate_limit(key, self.burst, self.count, self.period_seconds, 1, now)
            .is_ok_and(|(allowed, _)| allowed)
    }
}
