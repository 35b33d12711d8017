//! The generic cell rate algorithm: a steady rate and a burst, in one point of time.
//!
//! ITU-T I.371, annex A (virtual scheduling). See [`meter`](super::meter) for the arithmetic.

use super::meter::Meter;
use crate::limit::LimitError;
use crate::quota::{MAX_COUNT, Quota};

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
