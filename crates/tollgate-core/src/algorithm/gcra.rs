//! The generic cell rate algorithm: a steady rate and a burst, in one point of time.
//!
//! ITU-T I.371, annex A (virtual scheduling). See [`meter`](super::meter) for the arithmetic.

use super::meter::Meter;
use crate::limit::LimitError;
use crate::quota::{MAX_COUNT, Quota};
use crate::time::Nanos;

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

    /// One in each `interval`, of which `burst` may come at once, for keys whose limit comes with each call and may be
    /// another than the one before.
    ///
    /// The state is a point in time, and says the same to every limit of this kind: what one has taken counts for the next,
    /// also where that holds less, and a request that is denied leaves it as it is.
    ///
    /// `None` if the interval or the burst is zero, the burst is above [`MAX_COUNT`], or a spent burst would take longer
    /// than [`LONGEST_SPAN`](crate::packed::LONGEST_SPAN) to come back.
    ///
    /// ```
    /// use tollgate_core::{Limit, Nanos, Timestamp, algorithm::Gcra};
    ///
    /// let limit = |burst| Limit::from(Gcra::of_call(Nanos::from_secs(1), burst).unwrap());
    /// let (large, small, now) = (limit(100), limit(1), Timestamp::from_secs(60));
    /// let mut state = large.fresh(now);
    /// assert!(large.acquire(&mut state, now, 100).decision.allowed);
    /// assert!(!small.acquire(&mut state, now, 1).decision.allowed);
    /// assert!(!large.acquire(&mut state, now, 1).decision.allowed);
    /// ```
    pub fn of_call(interval: Nanos, burst: u64) -> Option<Self> {
        let gcra = Self::new(Quota::new(1, interval).ok()?, burst).ok()?;
        gcra.meter.is_short().then(|| Self { meter: gcra.meter.adopting(), ..gcra })
    }

    /// The same kind of limit with other numbers.
    pub(crate) fn resized(&self, rate: Quota, burst: u64) -> Option<Self> {
        if self.meter.adopts() && rate.count() == 1 {
            return Self::of_call(rate.period(), burst);
        }
        Self::new(rate, burst).ok()
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
