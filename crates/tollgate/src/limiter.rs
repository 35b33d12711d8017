//! One limit.

use tollgate_core::packed::LAST_MOMENT;
use tollgate_core::{Clock, Decision, Group, Hit, KeyHash, Limit, LimitId, Quota, Source, Step, Timestamp};
use tollgate_store::SystemClock;

use crate::cell::Cell;
use crate::plugin::{Check, Observers};
use crate::reservation::Reservation;

/// Limits one thing: calls to a service, lines in a log, jobs in a second.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc). Nearly all limits are decided by one compare-and-swap; those
/// whose state is more than a word have a lock.
///
/// ```
/// use tollgate::{Limiter, Quota};
///
/// let limiter = Limiter::new(Quota::per_second(10));
/// if limiter.check().is_allowed() {
///     // go on
/// }
/// ```
#[derive(Debug)]
pub struct Limiter<C = SystemClock> {
    limit: Limit,
    clock: C,
    state: Cell,
    observers: Observers,
}

/// A limiter has one key.
const ONLY: KeyHash = KeyHash(0);

impl Limiter {
    /// A limiter on this machine's clock. A [`Quota`] makes a GCRA limit.
    pub fn new(limit: impl Into<LimitOrQuota>) -> Self {
        Self::with_clock(limit, SystemClock::new())
    }
}

impl<C: Clock> Limiter<C> {
    /// A limiter on this clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{Limiter, ManualClock, Quota};
    ///
    /// let clock = ManualClock::default();
    /// let limiter = Limiter::with_clock(Quota::per_minute(1), clock.clone());
    /// assert!(limiter.check().is_allowed());
    /// assert!(!limiter.check().is_allowed());
    /// clock.advance(Duration::from_secs(60));
    /// assert!(limiter.check().is_allowed());
    /// ```
    pub fn with_clock(limit: impl Into<LimitOrQuota>, clock: C) -> Self {
        let LimitOrQuota(limit) = limit.into();
        let state = Cell::new(&limit, clock.now().min(LAST_MOMENT));
        Self { limit, clock, state, observers: Observers::default() }
    }

    /// The same limiter, whose checks these [observers](crate::plugin) see, in the place of those that it had.
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        // The shortest way does not look whether anybody observes: this one is not to take it.
        self.state = self.state.unmetered();
        self.observers = observers;
        self
    }

    /// Asks for 1, and takes it if it is there.
    #[inline(always)]
    pub fn check(&self) -> Decision {
        self.check_n(1)
    }

    /// Asks for `cost` units, and takes them if all are there. 0 only looks.
    #[inline(always)]
    pub fn check_n(&self, cost: u32) -> Decision {
        if let Cell::Metered(meter, word) = &self.state {
            let now = self.clock.now();
            let answer = Cell::update_word(word, |word| meter.acquire_word(word, now, cost));
            meter.decision(answer, cost)
        } else {
            self.check_any(cost)
        }
    }

    /// [`check_n`](Self::check_n), whatever the limit. Not inlined, so that it burdens no caller that hardly comes here.
    #[inline(never)]
    fn check_any(&self, cost: u32) -> Decision {
        self.acquire(cost).decision
    }

    fn acquire(&self, cost: u32) -> Step {
        let acquire = || {
            let now = self.now();
            self.state.update(&self.limit, |state| self.limit.acquire(state, now, cost))
        };
        if self.observers.are_none() {
            return acquire();
        }
        let hit = Hit::new(LimitId(0), ONLY, &self.limit).with_cost(cost);
        let groups = [Group::all(std::slice::from_ref(&hit))];
        self.observers.watch(&Check::of(&groups), acquire, |step| step.decision)
    }

    /// Like [`check_n`](Self::check_n), with a receipt by which the cost can be given back.
    ///
    /// # Errors
    /// The decision, if the request is denied.
    pub fn reserve(&self, cost: u32) -> Result<Reservation, Decision> {
        let step = self.acquire(cost);
        step.grant
            .map(|grant| Reservation::new([(ONLY, self.limit, grant, Source::Memory)]))
            .ok_or(step.decision)
    }

    /// Gives back what was reserved. What the limit has recovered by itself since is not given twice.
    pub fn refund(&self, reservation: Reservation) {
        let now = self.now();
        reservation.give_back(|refunds| {
            for refund in refunds {
                self.state.update(&self.limit, |state| self.limit.give_back(state, now, refund.grant));
            }
        });
    }

    /// Says what [`check_n`](Self::check_n) would, and takes nothing.
    pub fn peek(&self, cost: u32) -> Decision {
        let now = self.now();
        self.limit.decide(&self.state.read(&self.limit), now, cost)
    }

    /// What is left, and when the limit is whole again.
    pub fn status(&self) -> Decision {
        self.peek(0)
    }

    /// Makes the limit as new.
    pub fn reset(&self) {
        let now = self.now();
        self.state.update(&self.limit, |state| *state = self.limit.fresh(now));
    }

    /// The present, as far as packed states can count.
    #[inline]
    fn now(&self) -> Timestamp {
        self.clock.now().min(LAST_MOMENT)
    }

    /// The rule.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }
}

/// A limit, or a rate that is limited by GCRA: what limiters are made of.
#[derive(Clone, Copy, Debug)]
pub struct LimitOrQuota(pub(crate) Limit);

impl From<Limit> for LimitOrQuota {
    fn from(limit: Limit) -> Self {
        Self(limit)
    }
}

impl From<Quota> for LimitOrQuota {
    fn from(quota: Quota) -> Self {
        Self(Limit::gcra(quota))
    }
}
