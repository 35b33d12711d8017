//! The fixed window: a count that starts again with each window of the clock.

use super::Algorithm;
use crate::decision::{Decision, Grant, Retry};
use crate::limit::LimitError;
use crate::quota::Quota;
use crate::time::{Nanos, Timestamp};

/// So many in each window.
///
/// Around the border of two windows twice the limit can pass in a short time; that is the price of a count that
/// everyone understands. [`SlidingWindow`](super::SlidingWindow) smooths it.
///
/// ```
/// use tollgate_core::{Limit, Quota, algorithm::FixedWindow};
///
/// let limit = Limit::from(FixedWindow::new(Quota::per_minute(5))?);
/// assert_eq!(limit.to_string(), "5/minute fixed window");
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FixedWindow {
    limit: u64,
    windows: Windows,
}

/// Which windows time is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Windows {
    /// Windows of one length, the first of which starts at the Unix epoch: minutes start on the minute, days at
    /// midnight UTC, weeks on Thursday.
    Epoch {
        /// How long a window is. None at all counts as one nanosecond.
        length: Nanos,
    },
}

impl Windows {
    /// The start of the window in which `now` lies.
    #[inline]
    pub const fn start(&self, now: Timestamp) -> Timestamp {
        match self {
            // A quota's period is never zero, but anyone can write this value.
            Self::Epoch { length: Nanos::ZERO } => now,
            Self::Epoch { length } => {
                Timestamp::from_nanos(now.as_nanos() - now.as_nanos() % length.as_nanos())
            }
        }
    }

    /// The start of the window after the one that starts at `start`.
    #[inline]
    pub const fn next(&self, start: Timestamp) -> Timestamp {
        match self {
            Self::Epoch { length: Nanos::ZERO } => start.saturating_add(Nanos::new(1)),
            Self::Epoch { length } => start.saturating_add(*length),
        }
    }
}

/// How much was taken in which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowCount {
    /// The start of the window.
    pub start: Timestamp,
    /// How much was taken in it.
    pub used: u64,
}

impl FixedWindow {
    /// `quota.count()` in each window of `quota.period()`, aligned to the Unix epoch.
    ///
    /// # Errors
    /// If the count is zero: use [`Limit::DenyAll`](crate::Limit::DenyAll).
    pub fn new(quota: Quota) -> Result<Self, LimitError> {
        if quota.count() == 0 {
            return Err(LimitError::Zero { what: "limit" });
        }
        Ok(Self { limit: quota.count(), windows: Windows::Epoch { length: quota.period() } })
    }

    /// How much each window admits.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How time is cut.
    pub const fn windows(&self) -> Windows {
        self.windows
    }

    /// The count that holds at `now`.
    fn rolled(&self, state: WindowCount, now: Timestamp) -> WindowCount {
        let current = self.windows.start(now);
        if state.start < current {
            return WindowCount { start: current, used: 0 };
        }
        // A window in the future means that the clock stepped back. Its count holds, so that the step grants nothing;
        // but it is moved to the next window at the latest, so that it does not deny for longer than that.
        WindowCount { start: state.start.min(self.windows.next(current)), used: state.used }
    }

    /// The decision of a count that [holds](Self::rolled) at `now`.
    #[inline]
    pub(crate) fn decide_rolled(&self, count: WindowCount, now: Timestamp, cost: u32) -> Decision {
        let WindowCount { start, used } = count;
        let after = used.saturating_add(u64::from(cost));
        let allowed = after <= self.limit;
        let used = if allowed { after } else { used };
        let until_next = self.windows.next(start).since(now);
        Decision {
            allowed,
            limit: self.limit,
            remaining: self.limit.saturating_sub(used),
            retry_after: if allowed {
                Retry::Now
            } else if u64::from(cost) > self.limit {
                Retry::Never
            } else {
                Retry::After(until_next)
            },
            reset_after: if used == 0 { Nanos::ZERO } else { until_next },
        }
    }
}

impl Algorithm for FixedWindow {
    type State = WindowCount;

    fn fresh(&self, now: Timestamp) -> WindowCount {
        WindowCount { start: self.windows.start(now), used: 0 }
    }

    fn settle(&self, state: &mut WindowCount, now: Timestamp) -> bool {
        let latest = self.windows.next(self.windows.start(now));
        let ahead = state.start > latest;
        if ahead {
            state.start = latest;
        }
        ahead
    }

    #[inline]
    fn decide(&self, state: &WindowCount, now: Timestamp, cost: u32) -> Decision {
        self.decide_rolled(self.rolled(*state, now), now, cost)
    }

    fn take(&self, state: &mut WindowCount, now: Timestamp, cost: u32) -> Grant {
        let mut rolled = self.rolled(*state, now);
        if cost > 0 {
            rolled.used = rolled.used.saturating_add(u64::from(cost));
            *state = rolled;
        }
        Grant { stamp: rolled.start, cost }
    }

    fn give_back(&self, state: &mut WindowCount, now: Timestamp, grant: Grant) {
        let rolled = self.rolled(*state, now);
        if rolled.start == grant.stamp {
            *state = WindowCount { used: rolled.used.saturating_sub(u64::from(grant.cost)), ..rolled };
        }
    }

    fn vacant_at(&self, state: &WindowCount) -> Timestamp {
        if state.used == 0 { Timestamp::EPOCH } else { self.windows.next(state.start) }
    }

    fn with_available(&self, available: u64, now: Timestamp) -> WindowCount {
        WindowCount { start: self.windows.start(now), used: self.limit.saturating_sub(available) }
    }
}
