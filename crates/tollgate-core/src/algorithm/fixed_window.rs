//! The fixed window: a count that starts again with each window of the clock.

use super::{Algorithm, Calendar};
use crate::decision::{Decision, Grant, Retry};
use crate::limit::LimitError;
use crate::quota::{MAX_COUNT, Quota};
use crate::time::{Nanos, Timestamp};

/// So many in each window.
///
/// Around the border of two windows twice the limit can pass in a short time; that is the price of a count that
/// everyone understands. [`SlidingWindow`](super::SlidingWindow) smooths it.
///
/// What is left of a window can be [carried over](Self::with_carry_over) into the next one, up to so much.
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
    /// How much of what is left goes over into the next window, at most.
    carry: u64,
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
    /// Windows of a calendar, as long as its days, months or years are.
    Calendar(Calendar),
}

impl Windows {
    /// The window in which `now` lies: its start, and that of the next one.
    #[inline]
    pub fn window(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        match self {
            // A quota's period is never zero, but anyone can write this value.
            Self::Epoch { length: Nanos::ZERO } => (now, now.saturating_add(Nanos::new(1))),
            Self::Epoch { length } => {
                let start = Timestamp::from_nanos(now.as_nanos() - now.as_nanos() % length.as_nanos());
                (start, start.saturating_add(*length))
            }
            Self::Calendar(calendar) => calendar.window(now),
        }
    }

    /// The start of the window in which `now` lies.
    #[inline]
    pub fn start(&self, now: Timestamp) -> Timestamp {
        self.window(now).0
    }

    /// The start of the window after the one that starts at `start`.
    #[inline]
    pub fn next(&self, start: Timestamp) -> Timestamp {
        match self {
            Self::Epoch { length } => start.saturating_add((*length).max(Nanos::new(1))),
            Self::Calendar(calendar) => calendar.window(start).1,
        }
    }

    /// The start of the window before the one that starts at `start`. The first one has none before it, and is its own.
    #[inline]
    pub fn previous(&self, start: Timestamp) -> Timestamp {
        match self {
            Self::Epoch { length } => start.saturating_sub((*length).max(Nanos::new(1))),
            Self::Calendar(calendar) => calendar.window(start.saturating_sub(Nanos::new(1))).0,
        }
    }

    /// How long a window is; where they differ, how long one is said to be.
    pub const fn period(&self) -> Nanos {
        match self {
            Self::Epoch { length } => *length,
            Self::Calendar(calendar) => calendar.period(),
        }
    }

    /// How long the shortest window is.
    pub const fn shortest(&self) -> Nanos {
        match self {
            Self::Epoch { length } => *length,
            Self::Calendar(calendar) => calendar.shortest(),
        }
    }

    /// How long the longest window is.
    pub const fn longest(&self) -> Nanos {
        match self {
            Self::Epoch { length } => *length,
            Self::Calendar(calendar) => calendar.longest(),
        }
    }
}

/// How much was taken in which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowCount {
    /// The start of the window.
    pub start: Timestamp,
    /// How much of what can be carried over into it had been spent before. Nothing where nothing is carried over.
    pub before: u64,
    /// How much was taken in it.
    pub used: u64,
}

impl WindowCount {
    /// A window of which so much was taken.
    const fn new(start: Timestamp, used: u64) -> Self {
        Self { start, before: 0, used }
    }

    /// What is missing of all that the window can hold.
    const fn missing(self) -> u64 {
        self.before.saturating_add(self.used)
    }
}

impl FixedWindow {
    /// `quota.count()` in each window of `quota.period()`, aligned to the Unix epoch.
    ///
    /// # Errors
    /// If the count is zero: use [`Limit::DenyAll`](crate::Limit::DenyAll).
    pub fn new(quota: Quota) -> Result<Self, LimitError> {
        Self::of(quota.count(), Windows::Epoch { length: quota.period() })
    }

    /// `limit` in each window of a calendar, 1 to [`MAX_COUNT`].
    ///
    /// # Errors
    /// If the limit is zero, for which there is [`Limit::DenyAll`](crate::Limit::DenyAll), or above [`MAX_COUNT`].
    pub fn by_calendar(limit: u64, calendar: Calendar) -> Result<Self, LimitError> {
        Self::of(limit, Windows::Calendar(calendar))
    }

    fn of(limit: u64, windows: Windows) -> Result<Self, LimitError> {
        match limit {
            0 => Err(LimitError::Zero { what: "limit" }),
            1..=MAX_COUNT => Ok(Self { limit, carry: 0, windows }),
            value => Err(LimitError::TooLarge { what: "a limit of", value, most: MAX_COUNT }),
        }
    }

    /// The same, where what is left of a window is added to the next one, but at most `most`: so no window admits more than both
    /// together. Of what was carried over into a window and not taken, `most` at most goes on.
    ///
    /// A key that is not remembered counts as one of which nothing was taken before, so it begins with all that can be carried
    /// over: whoever took nothing for a whole window is forgotten, and must not lose by it.
    ///
    /// # Errors
    /// If it is above the limit, or both together are above [`MAX_COUNT`].
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota, Timestamp, algorithm::FixedWindow};
    ///
    /// let limit = Limit::from(FixedWindow::new(Quota::per_hour(10))?.with_carry_over(5)?);
    /// let mut state = limit.fresh(Timestamp::EPOCH);
    /// // Twelve of fifteen: three are left.
    /// assert!(limit.acquire(&mut state, Timestamp::EPOCH, 12).decision.allowed);
    /// assert_eq!(limit.decide(&state, Timestamp::from_secs(3_600), 0).remaining, 13);
    /// # Ok::<(), tollgate_core::LimitError>(())
    /// ```
    pub fn with_carry_over(self, most: u64) -> Result<Self, LimitError> {
        let greatest = self.limit.min(MAX_COUNT - self.limit);
        if most > greatest {
            return Err(LimitError::TooLarge { what: "a carry-over of", value: most, most: greatest });
        }
        Ok(Self { carry: most, ..self })
    }

    /// How much each window admits of its own.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How much of what is left goes over into the next window, at most.
    pub const fn carry_over(&self) -> u64 {
        self.carry
    }

    /// How much a window admits into which all was carried over that can be.
    pub const fn capacity(&self) -> u64 {
        self.limit + self.carry
    }

    /// How time is cut.
    pub const fn windows(&self) -> Windows {
        self.windows
    }

    /// How long it takes at most until a key on which everything was spent is as new.
    pub const fn recovery(&self) -> Nanos {
        let windows = if self.carry == 0 { 1 } else { 2 };
        Nanos::new(self.windows.longest().as_nanos().saturating_mul(windows))
    }

    /// Another number in the same windows, of which nothing is carried over.
    ///
    /// # Errors
    /// As for [`by_calendar`](Self::by_calendar).
    pub fn with_limit(&self, limit: u64) -> Result<Self, LimitError> {
        Self::of(limit, self.windows)
    }

    /// How long after the decision by which a cost was taken in the window that starts at `start` that window ends.
    ///
    /// By the clock of whoever decided, as the decision tells it.
    pub fn until_end(&self, start: Timestamp, decision: &Decision) -> Nanos {
        let missing = self.capacity().saturating_sub(decision.remaining);
        if missing <= self.limit {
            return decision.reset_after;
        }
        // It is whole only after the next one.
        let end = self.windows.next(start);
        let after = self.windows.next(end).since(end);
        Nanos::new(decision.reset_after.as_nanos().saturating_sub(after.as_nanos()))
    }

    /// The count that goes on from that of a limit with the same windows, if these are a calendar's: what was used in
    /// a month stays used when its limit is changed.
    pub(crate) fn continued(&self, former: &Self, state: WindowCount, now: Timestamp) -> Option<WindowCount> {
        if self.windows != former.windows || !matches!(self.windows, Windows::Calendar(_)) {
            return None;
        }
        let WindowCount { start, before, used } = former.rolled(state, now);
        let granted = former.carry.saturating_sub(before).min(self.carry);
        let before = self.carry - granted;
        Some(WindowCount { start, before, used: used.min(self.capacity() - before) })
    }

    /// The count that holds at `now`.
    fn rolled(&self, state: WindowCount, now: Timestamp) -> WindowCount {
        let (current, next) = self.windows.window(now);
        if state.start < current {
            // What was missing is made up for by what the window brings of its own; after two of them nothing is missing.
            let is_adjacent = self.carry > 0 && self.windows.previous(current) == state.start;
            let before = if is_adjacent { state.missing().saturating_sub(self.limit) } else { 0 };
            return WindowCount { start: current, before, used: 0 };
        }
        // A window in the future means that the clock stepped back. Its count holds, so that the step grants nothing;
        // but it is moved to the next window at the latest, so that it does not deny for longer than that.
        WindowCount { start: state.start.min(next), ..state }
    }

    /// When the count of a window is as new.
    fn whole_at(&self, count: WindowCount) -> Timestamp {
        let next = self.windows.next(count.start);
        match count.missing() {
            0 => Timestamp::EPOCH,
            missing if missing <= self.limit => next,
            _ => self.windows.next(next),
        }
    }

    /// The decision of a count that [holds](Self::rolled) at `now`.
    #[inline]
    pub(crate) fn decide_rolled(&self, count: WindowCount, now: Timestamp, cost: u32) -> Decision {
        let missing = count.missing();
        let after = missing.saturating_add(u64::from(cost));
        let allowed = after <= self.capacity();
        let next = self.windows.next(count.start);
        let retry_after = if allowed {
            Retry::Now
        } else if u64::from(cost) > self.capacity() {
            Retry::Never
        } else if after.saturating_sub(self.limit.min(missing)) <= self.capacity() {
            Retry::After(next.since(now))
        } else {
            Retry::After(self.windows.next(next).since(now))
        };
        let missing = if allowed { after } else { missing };
        let whole_at = if missing > self.limit { self.windows.next(next) } else { next };
        Decision {
            allowed,
            limit: self.capacity().saturating_sub(count.before),
            remaining: self.capacity().saturating_sub(missing),
            retry_after,
            reset_after: if missing == 0 { Nanos::ZERO } else { whole_at.since(now) },
        }
    }
}

impl Algorithm for FixedWindow {
    type State = WindowCount;

    fn fresh(&self, now: Timestamp) -> WindowCount {
        WindowCount::new(self.windows.start(now), 0)
    }

    fn settle(&self, state: &mut WindowCount, now: Timestamp) -> bool {
        let (_, latest) = self.windows.window(now);
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
        self.whole_at(*state)
    }

    fn with_available(&self, available: u64, now: Timestamp) -> WindowCount {
        let missing = self.capacity().saturating_sub(available);
        // As far as it can be, as spent before: what is carried over into a window is not owed to anybody.
        let before = missing.min(self.carry);
        WindowCount { start: self.windows.start(now), before, used: missing - before }
    }
}
