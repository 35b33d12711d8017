//! The sliding window counter: the count of this window plus the part of the last one that still overlaps.
//!
//! With `e` the time since the current window of length `W` began, a cost `c` is admitted if
//! `previous·(W − e)/W + current + c ≤ limit`, computed without division, so exactly. The estimate assumes that the
//! previous window's cost came evenly spread. Where it did not, more than the limit can fall into one window's length:
//! always less than twice the limit, as each of the two windows that it touches holds at most the limit.

use super::Algorithm;
use super::meter::divide;
use crate::decision::{Decision, Grant, Retry};
use crate::limit::LimitError;
use crate::quota::Quota;
use crate::time::{Nanos, Timestamp};

/// About so many in any window's length, in constant memory.
///
/// ```
/// use tollgate_core::{Limit, Quota, algorithm::SlidingWindow};
///
/// let limit = Limit::from(SlidingWindow::new(Quota::per_minute(100))?);
/// assert_eq!(limit.to_string(), "100/minute sliding window");
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlidingWindow {
    limit: u64,
    length: Nanos,
}

/// How much was taken in the current window and in the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowPair {
    /// The start of the current window.
    pub start: Timestamp,
    /// How much was taken in the window before.
    pub previous: u64,
    /// How much was taken in the current window.
    pub current: u64,
}

impl SlidingWindow {
    /// `quota.count()` in any `quota.period()`, estimated over windows aligned to the Unix epoch.
    ///
    /// # Errors
    /// If the count is zero: use [`Limit::DenyAll`](crate::Limit::DenyAll).
    pub fn new(quota: Quota) -> Result<Self, LimitError> {
        if quota.count() == 0 {
            return Err(LimitError::Zero { what: "limit" });
        }
        Ok(Self { limit: quota.count(), length: quota.period() })
    }

    /// How much a window's length admits.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How long a window is.
    pub const fn length(&self) -> Nanos {
        self.length
    }

    #[inline]
    pub(crate) fn window_start(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_nanos(now.as_nanos() - now.as_nanos() % self.length.as_nanos())
    }

    /// The counts that hold at `now`.
    fn rolled(&self, state: WindowPair, now: Timestamp) -> WindowPair {
        let start = self.window_start(now);
        if state.start >= start {
            // See `FixedWindow::rolled` for a window in the future.
            return WindowPair { start: state.start.min(start.saturating_add(self.length)), ..state };
        }
        let previous = if state.start.saturating_add(self.length) == start { state.current } else { 0 };
        WindowPair { start, previous, current: 0 }
    }

    /// `limit − estimate` of counts that [hold](Self::rolled) at `now`, less a cost, times the window's length; negative
    /// where there is no room for it.
    #[inline]
    fn room(&self, counts: WindowPair, now: Timestamp, cost: u32) -> i128 {
        let WindowPair { start, previous, current } = counts;
        let length = self.length.as_nanos();
        let elapsed = now.since(start).as_nanos();
        // Nearly always all of it fits a word.
        let short = || {
            let word = |number: u64| i64::try_from(number).ok();
            let left = word(self.limit)?.checked_sub(word(current)?)?.checked_sub(i64::from(cost))?;
            let overlap = word(length)?.checked_sub(word(elapsed)?)?;
            left.checked_mul(word(length)?)?.checked_sub(word(previous)?.checked_mul(overlap)?)
        };
        if let Some(room) = short() {
            return i128::from(room);
        }
        // Counts are below 2^53 and lengths below 2^62: the products fit with room to spare.
        let [limit, current, previous, length, elapsed] =
            [self.limit, current, previous, length, elapsed].map(i128::from);
        (limit - current - i128::from(cost)) * length - previous * (length - elapsed)
    }

    /// Whether counts that [hold](Self::rolled) at `now` admit a cost.
    #[inline]
    pub(crate) fn admits_rolled(&self, counts: WindowPair, now: Timestamp, cost: u32) -> bool {
        // A look (cost 0) is always admitted, also where the estimate is above a limit that was lowered.
        cost == 0 || self.room(counts, now, cost) >= 0
    }

    /// The first moment at which a cost that is denied at `now` is admitted.
    fn admits_at(&self, counts: WindowPair, cost: u64) -> Timestamp {
        let WindowPair { start, previous, current } = counts;
        // While a count of `weighing` fades over the window that starts at `from`, `budget` of it may be left.
        let fades = |from: Timestamp, weighing: u64, budget: u64| {
            let length = self.length.as_nanos();
            let left = divide(u128::from(budget) * u128::from(length), weighing.max(1));
            from.saturating_add(Nanos::new(length - u64::try_from(left).unwrap_or(length).min(length)))
        };
        match self.limit.checked_sub(current.saturating_add(cost)) {
            Some(budget) => fades(start, previous, budget),
            None => fades(start.saturating_add(self.length), current, self.limit.saturating_sub(cost)),
        }
    }

    /// The decision of counts that [hold](Self::rolled) at `now`.
    #[inline]
    pub(crate) fn decide_rolled(&self, mut counts: WindowPair, now: Timestamp, cost: u32) -> Decision {
        let allowed = self.admits_rolled(counts, now, cost);
        let room = self.room(counts, now, if allowed { cost } else { 0 });
        if allowed {
            counts.current = counts.current.saturating_add(u64::from(cost));
        }
        let room = u128::try_from(room).unwrap_or(0);
        Decision {
            allowed,
            limit: self.limit,
            remaining: u64::try_from(divide(room, self.length.as_nanos())).unwrap_or(0),
            retry_after: if allowed {
                Retry::Now
            } else if u64::from(cost) > self.limit {
                Retry::Never
            } else {
                Retry::After(self.admits_at(counts, u64::from(cost)).since(now))
            },
            reset_after: self.vacant_at(&counts).since(now),
        }
    }
}

impl Algorithm for SlidingWindow {
    type State = WindowPair;

    fn fresh(&self, now: Timestamp) -> WindowPair {
        WindowPair { start: self.window_start(now), previous: 0, current: 0 }
    }

    fn settle(&self, state: &mut WindowPair, now: Timestamp) -> bool {
        let latest = self.window_start(now).saturating_add(self.length);
        let ahead = state.start > latest;
        if ahead {
            state.start = latest;
        }
        ahead
    }

    #[inline]
    fn decide(&self, state: &WindowPair, now: Timestamp, cost: u32) -> Decision {
        self.decide_rolled(self.rolled(*state, now), now, cost)
    }

    fn take(&self, state: &mut WindowPair, now: Timestamp, cost: u32) -> Grant {
        let mut rolled = self.rolled(*state, now);
        if cost > 0 {
            rolled.current = rolled.current.saturating_add(u64::from(cost));
            *state = rolled;
        }
        Grant { stamp: rolled.start, cost }
    }

    fn give_back(&self, state: &mut WindowPair, now: Timestamp, grant: Grant) {
        let mut rolled = self.rolled(*state, now);
        let count = if grant.stamp == rolled.start {
            &mut rolled.current
        } else if grant.stamp.saturating_add(self.length) == rolled.start {
            &mut rolled.previous
        } else {
            // Its window has slid away.
            return;
        };
        *count = count.saturating_sub(u64::from(grant.cost));
        *state = rolled;
    }

    fn vacant_at(&self, state: &WindowPair) -> Timestamp {
        match state {
            WindowPair { current: 0, previous: 0, .. } => Timestamp::EPOCH,
            WindowPair { current: 0, start, .. } => start.saturating_add(self.length),
            WindowPair { start, .. } => start.saturating_add(self.length).saturating_add(self.length),
        }
    }

    fn with_available(&self, available: u64, now: Timestamp) -> WindowPair {
        WindowPair {
            start: self.window_start(now),
            previous: 0,
            current: self.limit.saturating_sub(available),
        }
    }
}
