//! The algorithms: each a pure state machine, each in a room of the same shape.
//!
//! | module | state | what a user gets |
//! |---|---|---|
//! | [`gcra`] | a point in time | a rate with a burst; the default |
//! | [`token_bucket`] | a point in time, or a deficit | a capacity that refills steadily or by the batch |
//! | [`leaky_bucket`] | a point in time | a level that drains steadily, as a meter |
//! | [`fixed_window`] | a count | so many in each window of the clock, or of a [`calendar`] |
//! | [`sliding_window`] | two counts | about so many in any window, in constant memory |
//! | [`sliding_log`] | every admission | exactly so many in any window |
//!
//! GCRA, the steady token bucket and the leaky bucket as a meter are one arithmetic seen from three sides; it lives
//! in [`meter`]. What the ITU calls the *theoretical arrival time* is the moment at which the bucket is full, and
//! the level drained.

pub mod calendar;
pub mod fixed_window;
pub mod gcra;
pub mod leaky_bucket;
pub mod meter;
pub mod sliding_log;
pub mod sliding_window;
pub mod token_bucket;

pub use calendar::Calendar;
pub use fixed_window::{FixedWindow, Windows};
pub use gcra::Gcra;
pub use leaky_bucket::LeakyBucket;
pub use sliding_log::SlidingLog;
pub use sliding_window::SlidingWindow;
pub use token_bucket::{Refill, TokenBucket};

use self::meter::{ArrivalTime, Meter};
use crate::decision::{Decision, Grant};
use crate::limit::Step;
use crate::time::Timestamp;

/// A rule of limiting: how a state answers, and how it changes.
///
/// The state is data; all rules live here. A store brings a key's state, calls [`settle`](Self::settle), then
/// [`decide`](Self::decide), then, if all limits of the request agree, [`take`](Self::take).
///
/// Rules of one's own implement this trait, and are used by `CustomLimiter` of the crate `tollgate`. What each method
/// promises is what `conformance::algorithm` of `tollgate-store` tries on random histories. No argument may make any of
/// them panic: times, costs and states at the ends of their ranges saturate.
///
/// ```
/// use tollgate_core::algorithm::{Algorithm, Gcra};
/// use tollgate_core::{Quota, Timestamp};
///
/// let (rule, now) = (Gcra::new(Quota::per_minute(1), 1)?, Timestamp::from_secs(60));
/// let mut state = rule.fresh(now);
/// assert!(rule.acquire(&mut state, now, 1).decision.allowed);
/// assert!(!rule.look(&state, now, 1).allowed);
/// assert_eq!(rule.vacant_at(&state), Timestamp::from_secs(120));
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
pub trait Algorithm {
    /// What must be remembered of a key.
    type State;

    /// The state of a key that is seen for the first time.
    fn fresh(&self, now: Timestamp) -> Self::State;

    /// Mends a state that lies in the future because the clock stepped backwards: afterwards it denies for at most
    /// one full refill. Grants nothing. Returns whether anything changed.
    fn settle(&self, state: &mut Self::State, now: Timestamp) -> bool;

    /// What the limit would say of a request of this cost.
    fn decide(&self, state: &Self::State, now: Timestamp, cost: u32) -> Decision;

    /// Books a request that was admitted. Returns what was taken.
    fn take(&self, state: &mut Self::State, now: Timestamp, cost: u32) -> Grant;

    /// Gives back what was taken. Never makes more available than the limit holds at its fullest; what the limit has
    /// already recovered by itself is not given twice.
    fn give_back(&self, state: &mut Self::State, now: Timestamp, grant: Grant);

    /// The moment from which on a fresh state grants no more than this one: a store may forget it then.
    fn vacant_at(&self, state: &Self::State) -> Timestamp;

    /// The state in which `available` whole units of cost are left, or all that the limit holds if that is less.
    fn with_available(&self, available: u64, now: Timestamp) -> Self::State;

    /// Settles, decides, and takes if the request passes: the whole step of a limit that decides alone. A vacant state
    /// begins anew.
    fn acquire(&self, state: &mut Self::State, now: Timestamp, cost: u32) -> Step {
        if self.vacant_at(state) <= now {
            *state = self.fresh(now);
        } else {
            self.settle(state, now);
        }
        let decision = self.decide(state, now, cost);
        let grant = decision.allowed.then(|| self.take(state, now, cost));
        Step { decision, grant }
    }

    /// What [`acquire`](Self::acquire) would say; takes nothing.
    fn look(&self, state: &Self::State, now: Timestamp, cost: u32) -> Decision {
        if self.vacant_at(state) <= now {
            return self.decide(&self.fresh(now), now, cost);
        }
        self.decide(state, now, cost)
    }

    /// Settles, and gives back what was taken. A state that is vacant has recovered already.
    fn refund(&self, state: &mut Self::State, now: Timestamp, grant: Grant) {
        if self.vacant_at(state) > now {
            self.settle(state, now);
            self.give_back(state, now, grant);
        }
    }
}

/// The two rules that are the meter's, under other names.
macro_rules! decided_by_meter {
    ($($name:ident),+) => {$(
        impl Algorithm for $name {
            type State = ArrivalTime;

            fn fresh(&self, now: Timestamp) -> ArrivalTime {
                Meter::fresh(now)
            }

            fn settle(&self, state: &mut ArrivalTime, now: Timestamp) -> bool {
                self.meter().settle(state, now)
            }

            fn decide(&self, state: &ArrivalTime, now: Timestamp, cost: u32) -> Decision {
                self.meter().decide(*state, now, cost)
            }

            fn take(&self, state: &mut ArrivalTime, now: Timestamp, cost: u32) -> Grant {
                self.meter().take(state, now, cost)
            }

            fn give_back(&self, state: &mut ArrivalTime, now: Timestamp, grant: Grant) {
                self.meter().give_back(state, now, grant);
            }

            fn vacant_at(&self, state: &ArrivalTime) -> Timestamp {
                Meter::full_at(*state)
            }

            fn with_available(&self, available: u64, now: Timestamp) -> ArrivalTime {
                self.meter().with_available(available, now)
            }
        }
    )+};
}
decided_by_meter!(Gcra, LeakyBucket);
