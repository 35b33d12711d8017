//! The generic cell rate algorithm: a steady rate and a burst, in one point of time.
//!
//! ITU-T I.371, annex A (virtual scheduling). See [`meter`](super::meter) for the arithmetic.

use super::Algorithm;
use super::meter::{ArrivalTime, Meter};
use crate::decision::{Decision, Grant};
use crate::limit::LimitError;
use crate::quota::{MAX_COUNT, Quota};
use crate::time::Timestamp;

/// A steady rate, of which `burst` may come at once.
///
/// In any interval of length `t`, at most `burst + rate·t` is admitted.
///
/// ```
/// use tollgate_core::{Limit, Quota, algorithm::Gcra};
///
/// // 1,000 an hour, but at most 100 of them at once.
/// let limit = Limit::from(Gcra::new(Quota::per_hour(1_000), 100)?);
/// assert_eq!(limit.to_string(), "1000/hour GCRA, burst 100");
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gcra {
    rate: Quota,
    meter: Meter,
}

impl Gcra {
    /// A rate of `rate` with at most `burst` at once.
    ///
    /// # Errors
    /// If the rate or the burst is zero (use [`Limit::DenyAll`](crate::Limit::DenyAll)), the burst is above
    /// [`MAX_COUNT`], or a spent burst would take longer than 100 years to come back.
    pub fn new(rate: Quota, burst: u64) -> Result<Self, LimitError> {
        Ok(Self { rate, meter: checked_meter(burst, rate, "burst")? })
    }

    /// The steady rate.
    pub const fn rate(&self) -> Quota {
        self.rate
    }

    /// How much may be taken at once.
    pub const fn burst(&self) -> u64 {
        self.meter.capacity()
    }

    /// The arithmetic behind it.
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }
}

/// A meter of a capacity and a rate that users chose.
pub(super) fn checked_meter(capacity: u64, rate: Quota, what: &'static str) -> Result<Meter, LimitError> {
    if rate.count() == 0 || capacity == 0 {
        return Err(LimitError::Zero { what: if capacity == 0 { what } else { "rate" } });
    }
    if capacity > MAX_COUNT {
        return Err(LimitError::TooLarge { what, value: capacity, most: MAX_COUNT });
    }
    Meter::new(capacity, rate).ok_or(LimitError::TooSlow { what, capacity, rate })
}

impl Algorithm for Gcra {
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
