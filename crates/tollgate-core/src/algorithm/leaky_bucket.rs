//! The leaky bucket as a meter: each request pours its cost in, and the level drains at a steady rate.
//!
//! The bucket as a meter and GCRA are the same rule (ITU-T I.371, annex A, gives both forms); here the user names the
//! capacity and the leak. Nothing above the capacity ever enters. See [`meter`](super::meter) for the arithmetic.

use super::gcra::checked_meter;
use super::meter::Meter;
use crate::limit::LimitError;
use crate::quota::Quota;

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

    /// The arithmetic behind it.
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// How fast it drains.
    pub const fn leak(&self) -> Quota {
        self.leak
    }
}
