//! A line in which each waits for a moment of its own: a limit whose burst is longer by those who may wait.

use std::time::Duration;

use tollgate_core::{Decision, Limit, LimitError, Nanos, Quota};

/// How long the quota takes for its own burst: who is further ahead than that has to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    burst_time: Nanos,
}

impl Line {
    /// Nobody ever waits in it.
    #[cfg(feature = "outgoing")]
    pub(crate) const NONE: Self = Self { burst_time: Nanos::MAX };

    /// A line at this rate, in which so many may go at once and so many wait beyond, and the limit that it is.
    ///
    /// # Errors
    /// If the burst is zero, or there are more than a limit can hold.
    pub(crate) fn new(quota: Quota, burst: u64, queue: u64) -> Result<(Self, Limit), LimitError> {
        // What is no burst by itself is none with a queue either.
        let narrow = Limit::gcra_with_burst(quota, burst)?;
        let limit = Limit::gcra_with_burst(quota, narrow.capacity().saturating_add(queue))?;
        let count = u128::from(quota.count()).max(1);
        let nanos = u128::from(quota.period().as_nanos()) * u128::from(burst) / count;
        let burst_time = Nanos::new(u64::try_from(nanos).unwrap_or(u64::MAX));
        Ok((Self { burst_time }, limit))
    }

    /// How long one has to wait who was admitted so: until the limit will be no further ahead than its burst.
    pub(crate) fn delay(self, admitted: &Decision) -> Duration {
        Duration::from_nanos(admitted.reset_after.as_nanos().saturating_sub(self.burst_time.as_nanos()))
    }
}
