//! A rule of one's own, for each key.

use std::fmt;
use std::marker::PhantomData;

use tollgate_core::algorithm::Algorithm;
use tollgate_core::{Clock, Decision, Grant, Key, KeyBuilder, KeyHash, Outcome, Source};
use tollgate_store::{AlgorithmStore, MemoryOptions, SystemClock, random_seed};

use crate::plugin::{Check, Observers};

/// Limits each key by a rule of one's own: any [`Algorithm`], in memory.
///
/// It is what [`KeyedLimiter`](crate::KeyedLimiter) is for the limits of this project, with the same methods. Those decide
/// in a table without locks, so where one of them serves, or several in a policy, prefer it: a decision here holds the lock of
/// the key's shard. [`conformance::algorithm`](crate::conformance::algorithm) tries whether a rule keeps what all rules promise.
///
/// ```
/// use tollgate::algorithm::{Algorithm, Gcra, meter::ArrivalTime};
/// use tollgate::{CustomLimiter, Decision, Grant, Nanos, Quota, Timestamp};
///
/// /// A rate of which a new key has nothing at first. A key is new again when all has been there for an hour.
/// struct Earned(Gcra);
///
/// impl Algorithm for Earned {
///     type State = ArrivalTime;
///
///     fn fresh(&self, now: Timestamp) -> Self::State {
///         self.0.with_available(0, now)
///     }
///     fn settle(&self, state: &mut Self::State, now: Timestamp) -> bool {
///         self.0.settle(state, now)
///     }
///     fn decide(&self, state: &Self::State, now: Timestamp, cost: u32) -> Decision {
///         self.0.decide(state, now, cost)
///     }
///     fn take(&self, state: &mut Self::State, now: Timestamp, cost: u32) -> Grant {
///         self.0.take(state, now, cost)
///     }
///     fn give_back(&self, state: &mut Self::State, now: Timestamp, grant: Grant) {
///         self.0.give_back(state, now, grant);
///     }
///     fn vacant_at(&self, state: &Self::State) -> Timestamp {
///         self.0.vacant_at(state).saturating_add(Nanos::from_secs(3_600))
///     }
///     fn with_available(&self, available: u64, now: Timestamp) -> Self::State {
///         self.0.with_available(available, now)
///     }
/// }
///
/// let limiter = CustomLimiter::<str, _>::new(Earned(Gcra::new(Quota::per_hour(10), 10)?));
/// assert!(!limiter.check("ann").is_allowed());
/// # Ok::<(), tollgate::LimitError>(())
/// ```
pub struct CustomLimiter<K: ?Sized, A: Algorithm, C = SystemClock> {
    store: AlgorithmStore<A, C>,
    hasher: KeyBuilder,
    observers: Observers,
    // The limiter takes keys, and holds none.
    keys: PhantomData<fn(&K)>,
}

impl<K: ?Sized, A: Algorithm + fmt::Debug, C> fmt::Debug for CustomLimiter<K, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomLimiter").field("algorithm", self.store.algorithm()).finish_non_exhaustive()
    }
}

/// What a [`CustomLimiter`] let a request take. Giving it back consumes it, so that it counts once.
///
/// Dropping it keeps what was taken.
#[derive(Debug)]
#[must_use = "dropped, a reservation stays taken"]
pub struct CustomReservation {
    key: KeyHash,
    grant: Grant,
    source: Source,
}

impl CustomReservation {
    /// What was taken, in units of cost.
    pub const fn cost(&self) -> u32 {
        self.grant.cost
    }
}

impl<K: Key + ?Sized, A: Algorithm> CustomLimiter<K, A> {
    /// A limiter for at most a million keys that are under way at once.
    pub fn new(algorithm: A) -> Self {
        Self::with_options(algorithm, MemoryOptions::default())
    }

    /// A limiter for so many keys, with a rule for when there are more.
    pub fn with_options(algorithm: A, options: MemoryOptions) -> Self {
        Self::with_clock(algorithm, SystemClock::new(), options)
    }
}

impl<K: Key + ?Sized, A: Algorithm, C: Clock> CustomLimiter<K, A, C> {
    /// A limiter on this clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{CustomLimiter, ManualClock, MemoryOptions, Quota, algorithm::SlidingLog};
    ///
    /// let (rule, clock) = (SlidingLog::new(Quota::per_minute(1))?, ManualClock::default());
    /// let limiter = CustomLimiter::<u64, _, _>::with_clock(rule, clock.clone(), MemoryOptions::default());
    /// assert!(limiter.check(&7).is_allowed());
    /// assert!(!limiter.check(&7).is_allowed());
    /// clock.advance(Duration::from_secs(60));
    /// assert!(limiter.check(&7).is_allowed());
    /// # Ok::<(), tollgate::LimitError>(())
    /// ```
    pub fn with_clock(algorithm: A, clock: C, options: MemoryOptions) -> Self {
        let store = AlgorithmStore::with_clock(algorithm, clock, options);
        let hasher = KeyBuilder::new(&random_seed());
        Self { store, hasher, observers: Observers::default(), keys: PhantomData }
    }

    /// The same limiter, whose checks these [observers](crate::plugin) see, in the place of those that it had.
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// The rule.
    pub const fn algorithm(&self) -> &A {
        self.store.algorithm()
    }

    /// The store.
    pub const fn store(&self) -> &AlgorithmStore<A, C> {
        &self.store
    }

    /// Asks for 1, and takes it if it is there.
    pub fn check(&self, key: &K) -> Decision {
        self.check_n(key, 1)
    }

    /// Asks for `cost` units, and takes them if all are there. 0 only looks.
    pub fn check_n(&self, key: &K, cost: u32) -> Decision {
        self.acquire(self.hash(key), cost).decision
    }

    fn acquire(&self, key: KeyHash, cost: u32) -> Outcome {
        let acquire = || self.store.acquire(key, cost);
        if self.observers.are_none() {
            return acquire();
        }
        self.observers.watch(&Check::of_custom(key, cost), acquire, |outcome| outcome.decision)
    }

    /// Like [`check_n`](Self::check_n), with a receipt by which the cost can be given back.
    ///
    /// # Errors
    /// The decision, if the request is denied.
    pub fn reserve(&self, key: &K, cost: u32) -> Result<CustomReservation, Decision> {
        let key = self.hash(key);
        let outcome = self.acquire(key, cost);
        let reservation = |grant| CustomReservation { key, grant, source: outcome.source };
        outcome.grant.map(reservation).ok_or(outcome.decision)
    }

    /// Gives back what was reserved. What the limit has recovered by itself since is not given twice.
    // It is the receipt: whoever gives it back has it no more.
    #[allow(clippy::needless_pass_by_value)]
    pub fn refund(&self, reservation: CustomReservation) {
        let CustomReservation { key, grant, source } = reservation;
        self.store.refund(key, grant, source);
    }

    /// Says what [`check_n`](Self::check_n) would, and takes nothing.
    pub fn peek(&self, key: &K, cost: u32) -> Decision {
        self.store.peek(self.hash(key), cost).decision
    }

    /// What is left for a key, and when its limit is whole again.
    pub fn status(&self, key: &K) -> Decision {
        self.peek(key, 0)
    }

    /// Forgets a key: it is as new.
    pub fn reset(&self, key: &K) {
        self.store.reset(self.hash(key));
    }

    fn hash(&self, key: &K) -> KeyHash {
        let mut builder = self.hasher;
        key.write(&mut builder);
        builder.finish()
    }
}
