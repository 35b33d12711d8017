//! The leaky bucket as a meter: each request pours its cost in, and the level drains at a steady rate.
//!
//! The bucket as a meter and GCRA are the same rule (ITU-T I.371, annex A, gives both forms); here the user names the
//! capacity and the leak. Nothing above the capacity ever enters. See [`meter`](super::meter) for the arithmetic.

use super::Algorithm;
use super::gcra::checked_meter;
use super::meter::{ArrivalTime, Meter};
use crate::decision::{Decision, Grant};
use crate::limit::LimitError;
use crate::quota::Quota;
use crate::time::Timestamp;

/// A bucket of `capacity` that leaks at a steady rate.
///
/// ```
/// use tollgate_core::{Limit, Quota, algorithm::LeakyBucket};
///
/// let limit = Limit::from(LeakyBucket::new(50, Quota::per_second(10))?);
/// assert_eq!(limit.to_string(), "50 leaky bucket, leaks 10/second");
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeakyBucket {
    leak: Quota,
    meter: Meter,
}

impl LeakyBucket {
    /// A bucket that holds `capacity` units of cost and loses `leak`.
    ///
    /// # Errors
    /// If the capacity or the leak is zero, the capacity is above [`MAX_COUNT`](crate::quota::MAX_COUNT), or a full
    /// bucket would take longer than 100 years to drain.
    pub fn new(capacity: u64, leak: Quota) -> Result<Self, LimitError> {
        Ok(Self { leak, meter: checked_meter(capacity, leak, "capacity")? })
    }

    /// How much the bucket holds.
    pub const fn capacity(&self) -> u64 {
        self.meter.capacity()
    }

    /// How fast it drains.
    pub const fn leak(&self) -> Quota {
        self.leak
    }
}

impl Algorithm for LeakyBucket {
    type State = ArrivalTime;

    fn fresh(&self, now: Timestamp) -> ArrivalTime {
        Meter::fresh(now)
    }

    fn settle(&self, state: &mut ArrivalTime, now: Timestamp) -> bool {
        self.meter.settle(state, now)
    }

    fn decide(&self, state: &ArrivalTime, now: Timestamp, cost: u32) -> Decision {
        self.meter.decide(*state, now, cost)
    }

    fn take(&self, state: &mut ArrivalTime, now: Timestamp, cost: u32) -> Grant {
        self.meter.take(state, now, cost)
    }

    fn give_back(&self, state: &mut ArrivalTime, now: Timestamp, grant: Grant) {
        self.meter.give_back(state, now, grant);
    }

    fn vacant_at(&self, state: &ArrivalTime) -> Timestamp {
        Meter::full_at(*state)
    }

    fn with_available(&self, available: u64, now: Timestamp) -> ArrivalTime {
        self.meter.with_available(available, now)
    }
}
