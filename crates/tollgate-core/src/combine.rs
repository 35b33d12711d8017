//! How several limits answer as one.

use crate::decision::Retry;

/// The rule by which several limits of one policy decide together.
///
/// Whatever the rule, a request that is denied takes nothing from any limit, and a request that passes takes its
/// cost from each limit that itself admits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Combine {
    /// Every limit must admit.
    #[default]
    All,
    /// One limit that admits is enough.
    Any,
    /// More than half of the limits must admit.
    Majority,
}

impl Combine {
    /// How many of `total` limits must admit. No limits at all admit everything.
    ///
    /// ```
    /// use tollgate_core::Combine;
    /// assert_eq!(Combine::All.needed(3), 3);
    /// assert_eq!(Combine::Any.needed(3), 1);
    /// assert_eq!(Combine::Majority.needed(3), 2);
    /// assert_eq!(Combine::Majority.needed(4), 3);
    /// assert_eq!(Combine::Any.needed(0), 0);
    /// ```
    pub const fn needed(self, total: usize) -> usize {
        match self {
            _ if total == 0 => 0,
            Self::All => total,
            Self::Any => 1,
            Self::Majority => total / 2 + 1,
        }
    }

    /// Whether `admitting` of `total` limits are enough.
    pub const fn admits(self, admitting: usize, total: usize) -> bool {
        admitting >= self.needed(total)
    }

    /// When the limits together would admit, given when each would: the moment at which enough of them do.
    ///
    /// ```
    /// use tollgate_core::{Combine, Nanos, Retry};
    /// let each = [Retry::Never, Retry::After(Nanos::from_secs(5)), Retry::Now];
    /// assert_eq!(Combine::All.retry_after(&each), Retry::Never);
    /// assert_eq!(Combine::Majority.retry_after(&each), Retry::After(Nanos::from_secs(5)));
    /// assert_eq!(Combine::Any.retry_after(&each), Retry::Now);
    /// ```
    pub fn retry_after(self, each: &[Retry]) -> Retry {
        // Limits only ever admit more as time passes with nothing taken, so the n-th soonest is when n admit. There
        // are few of them: counting beats sorting, and needs no memory.
        let needed = self.needed(each.len());
        if needed == 0 {
            return Retry::Now;
        }
        let by_then = |moment: Retry| each.iter().filter(|retry| **retry <= moment).count();
        each.iter().copied().filter(|moment| by_then(*moment) >= needed).min().unwrap_or(Retry::Never)
    }
}
