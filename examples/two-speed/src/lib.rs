//! Two rates in one limit, written against public items only: an example of a rule of one's own.
//!
//! `10 a second and 100 a minute` is two limits of a policy, each with its own key in the store. Here it is one rule with one
//! state: one look-up decides both.
//!
//! ```
//! use tollgate::{CustomLimiter, Quota, algorithm::Gcra};
//! use tollgate_two_speed::TwoSpeed;
//!
//! let rule = TwoSpeed::new(Gcra::new(Quota::per_second(10), 10)?, Gcra::new(Quota::per_minute(100), 100)?);
//! let limiter = CustomLimiter::<str, _>::new(rule);
//! assert!(limiter.check_n("ann", 10).is_allowed());
//! assert!(!limiter.check("ann").is_allowed());
//! # Ok::<(), tollgate::LimitError>(())
//! ```

use tollgate::algorithm::{Algorithm, Gcra, meter::ArrivalTime};
use tollgate::{Decision, Grant, Timestamp};

/// A fast rate and a slow one, both of which must admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoSpeed {
    fast: Gcra,
    slow: Gcra,
}

/// What is remembered of a key: of each rate, when it is whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoArrivals {
    fast: ArrivalTime,
    slow: ArrivalTime,
}

impl TwoSpeed {
    /// Both rates. Which is the faster one does not matter.
    pub const fn new(fast: Gcra, slow: Gcra) -> Self {
        Self { fast, slow }
    }
}

impl Algorithm for TwoSpeed {
    type State = TwoArrivals;

    fn fresh(&self, now: Timestamp) -> TwoArrivals {
        TwoArrivals { fast: self.fast.fresh(now), slow: self.slow.fresh(now) }
    }

    fn settle(&self, state: &mut TwoArrivals, now: Timestamp) -> bool {
        // Both, whatever the first says.
        self.fast.settle(&mut state.fast, now) | self.slow.settle(&mut state.slow, now)
    }

    fn decide(&self, state: &TwoArrivals, now: Timestamp, cost: u32) -> Decision {
        let (fast, slow) =
            (self.fast.decide(&state.fast, now, cost), self.slow.decide(&state.slow, now, cost));
        let allowed = fast.allowed && slow.allowed;
        // Where one refuses the other takes nothing either: what it has left is what it has without the request.
        let unless_taken = |own: Decision, rate: &Gcra, part: &ArrivalTime| {
            if allowed { own } else { rate.decide(part, now, 0) }
        };
        let left = [unless_taken(fast, &self.fast, &state.fast), unless_taken(slow, &self.slow, &state.slow)];
        Decision {
            allowed,
            limit: fast.limit.min(slow.limit),
            remaining: left[0].remaining.min(left[1].remaining),
            // `Never` is later than any time.
            retry_after: fast.retry_after.max(slow.retry_after),
            reset_after: left[0].reset_after.max(left[1].reset_after),
        }
    }

    fn take(&self, state: &mut TwoArrivals, now: Timestamp, cost: u32) -> Grant {
        self.fast.take(&mut state.fast, now, cost);
        self.slow.take(&mut state.slow, now, cost)
    }

    fn give_back(&self, state: &mut TwoArrivals, now: Timestamp, grant: Grant) {
        self.fast.give_back(&mut state.fast, now, grant);
        self.slow.give_back(&mut state.slow, now, grant);
    }

    fn vacant_at(&self, state: &TwoArrivals) -> Timestamp {
        self.fast.vacant_at(&state.fast).max(self.slow.vacant_at(&state.slow))
    }

    fn with_available(&self, available: u64, now: Timestamp) -> TwoArrivals {
        TwoArrivals {
            fast: self.fast.with_available(available, now),
            slow: self.slow.with_available(available, now),
        }
    }
}

/// What the page about extending Tollgate shows, so that it compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/extending.md")]
mod page {}
