//! What a limit answers.

use std::time::Duration;

use crate::time::{Nanos, Timestamp};

/// When the same request would pass, if nothing else is taken meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Retry {
    /// It passes now.
    Now,
    /// It passes after this long, and not one nanosecond sooner.
    After(Nanos),
    /// It can never pass: its cost is above what the limit holds at its fullest.
    Never,
}

impl Retry {
    /// How long to wait: `None` if waiting does not help.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate_core::Retry;
    /// assert_eq!(Retry::Now.duration(), Some(Duration::ZERO));
    /// assert_eq!(Retry::Never.duration(), None);
    /// ```
    pub fn duration(self) -> Option<Duration> {
        self.nanos().map(Duration::from)
    }

    /// How long to wait in nanoseconds: `None` if waiting does not help.
    pub const fn nanos(self) -> Option<Nanos> {
        match self {
            Self::Now => Some(Nanos::ZERO),
            Self::After(wait) => Some(wait),
            Self::Never => None,
        }
    }
}

/// What one limit says of one request.
///
/// ```
/// use tollgate_core::{Limit, Quota, Timestamp};
///
/// let limit = Limit::fixed_window(Quota::per_minute(5));
/// let now = Timestamp::from_secs(60);
/// let mut state = limit.fresh(now);
/// let decision = limit.acquire(&mut state, now, 2).decision;
/// assert!(decision.allowed);
/// assert_eq!((decision.limit, decision.remaining), (5, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a decision that nobody looks at limits nothing"]
pub struct Decision {
    /// Whether the request passes.
    pub allowed: bool,
    /// How much the limit holds at its fullest, in units of cost; `u64::MAX` if it is unlimited. Of a window into which
    /// some was carried over: its own and that.
    pub limit: u64,
    /// How much could still be taken at once after this request, in whole units of cost.
    pub remaining: u64,
    /// When the same request would pass. [`Retry::Now`] exactly if it is allowed.
    pub retry_after: Retry,
    /// How long until the limit is at its fullest again if nothing more is taken.
    pub reset_after: Nanos,
}

impl Decision {
    /// Whether the request passes.
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The answer of a limit that limits nothing.
    pub const fn unlimited() -> Self {
        Self {
            allowed: true,
            limit: u64::MAX,
            remaining: u64::MAX,
            retry_after: Retry::Now,
            reset_after: Nanos::ZERO,
        }
    }

    /// The answer of a limit of zero: nothing passes, ever.
    pub const fn deny_all() -> Self {
        Self { allowed: false, limit: 0, remaining: 0, retry_after: Retry::Never, reset_after: Nanos::ZERO }
    }
}

/// What was taken, so that it can be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Where in time the limit booked it: the moment, or the start of the window.
    pub stamp: Timestamp,
    /// How much was taken, in units of cost.
    pub cost: u32,
}
