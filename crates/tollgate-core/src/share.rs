//! A node's part of a limit, for when nodes cannot count together.

use crate::algorithm::{LeakyBucket, SlidingLog, SlidingWindow, TokenBucket};
use crate::limit::Limit;
use crate::quota::{MAX_PERIOD, Quota};

/// Which of how many equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    index: u32,
    count: u32,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The part of the node with this number, from 0, of so many. `None` if there is no such node.
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota, Share};
    ///
    /// let limit = Limit::fixed_window(Quota::per_minute(10));
    /// let share = |index| limit.share(Share::of(index, 4).unwrap()).capacity();
    /// assert_eq!([share(0), share(1), share(2), share(3)], [3, 3, 2, 2]);
    /// assert_eq!(Share::of(4, 4), None);
    /// ```
    pub const fn of(index: u32, count: u32) -> Option<Self> {
        if index < count { Some(Self { index, count }) } else { None }
    }

    /// The part of a number of units: together, the parts are that number.
    const fn units(self, all: u64) -> u64 {
        let (index, count) = (self.index as u64, self.count as u64);
        all / count + if index < all % count { 1 } else { 0 }
    }
}

impl Limit {
    /// The same limit with so many units less at once, and the same rate: what is left to share when nodes may hold those
    /// units ahead. `None` if nothing would be left. A count of a window is a rate, so it is the same.
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota};
    ///
    /// let limit = Limit::gcra_with_burst(Quota::per_hour(1_000), 100)?;
    /// let less = limit.lessened(5).unwrap();
    /// assert_eq!((less.capacity(), less.quota()), (95, limit.quota()));
    /// assert_eq!(limit.lessened(100), None);
    /// # Ok::<(), tollgate_core::LimitError>(())
    /// ```
    #[must_use]
    pub fn lessened(&self, units: u64) -> Option<Self> {
        let less = |all: u64| all.checked_sub(units).filter(|left| *left > 0);
        Some(match self {
            Self::Gcra(a) => Self::Gcra(a.resized(a.rate(), less(a.burst())?)?),
            Self::LeakyBucket(a) => Self::LeakyBucket(LeakyBucket::new(less(a.capacity())?, a.leak()).ok()?),
            Self::TokenBucket(a) => {
                let bucket = TokenBucket::new(less(a.capacity())?, a.refill()).ok()?;
                let initial = a.initial().min(bucket.capacity());
                Self::TokenBucket(bucket.with_refill(a.style()).ok()?.with_initial(initial).ok()?)
            }
            _ => *self,
        })
    }

    /// A node's share of this limit: the shares of all nodes together admit at most what the limit does. A node whose share
    /// is nothing denies.
    ///
    /// Bursts and counts are divided without a rest; a rate comes back as much slower as there are nodes.
    #[must_use]
    pub fn share(&self, share: Share) -> Self {
        if share.count == 1 {
            return *self;
        }
        self.shared(share).unwrap_or(Self::DenyAll)
    }

    fn shared(&self, share: Share) -> Option<Self> {
        let units = |all: u64| Some(share.units(all)).filter(|units| *units > 0);
        // As many in a period that is so many times as long.
        let slower = |rate: Quota| {
            let period = rate.period().as_nanos().checked_mul(share.count.into())?;
            let period = crate::time::Nanos::new(period);
            (period <= MAX_PERIOD).then(|| Quota::new(rate.count(), period).ok()).flatten()
        };
        let fewer = |limit: u64, quota: Option<Quota>| quota?.with_count(units(limit)?).ok();
        Some(match self {
            Self::Unlimited | Self::DenyAll => *self,
            Self::Gcra(a) => Self::Gcra(a.resized(slower(a.rate())?, units(a.burst())?)?),
            Self::LeakyBucket(a) => {
                Self::LeakyBucket(LeakyBucket::new(units(a.capacity())?, slower(a.leak())?).ok()?)
            }
            Self::TokenBucket(a) => {
                let bucket = TokenBucket::new(units(a.capacity())?, slower(a.refill())?).ok()?;
                let initial = share.units(a.initial());
                Self::TokenBucket(bucket.with_refill(a.style()).ok()?.with_initial(initial).ok()?)
            }
            Self::FixedWindow(a) => Self::FixedWindow(
                a.with_limit(units(a.limit())?).ok()?.with_carry_over(share.units(a.carry_over())).ok()?,
            ),
            Self::SlidingWindow(a) => {
                Self::SlidingWindow(SlidingWindow::new(fewer(a.limit(), self.quota())?).ok()?)
            }
            Self::SlidingLog(a) => Self::SlidingLog(SlidingLog::new(fewer(a.limit(), self.quota())?).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_together_the_limit() {
        let limits = [
            Limit::gcra_with_burst(Quota::per_minute(60), 7).unwrap(),
            Limit::token_bucket(100, Quota::per_second(3)).unwrap(),
            Limit::leaky_bucket(5, Quota::per_second(5)).unwrap(),
            Limit::fixed_window(Quota::per_hour(1_000)),
            Limit::sliding_window(Quota::per_day(3)),
            Limit::sliding_log(Quota::per_minute(8)).unwrap(),
        ];
        for limit in limits {
            for count in 1..12 {
                let shares = (0..count).map(|index| limit.share(Share::of(index, count).unwrap()));
                assert_eq!(
                    shares.map(|share| share.capacity()).sum::<u64>(),
                    limit.capacity(),
                    "{limit} by {count}"
                );
            }
        }
        assert_eq!(Limit::Unlimited.share(Share::of(1, 3).unwrap()), Limit::Unlimited);
    }

    #[test]
    fn where_there_is_less_than_one_for_each_some_deny() {
        let limit = Limit::fixed_window(Quota::per_minute(2));
        let shares: Vec<Limit> = (0..4).map(|index| limit.share(Share::of(index, 4).unwrap())).collect();
        assert_eq!(shares[1].capacity(), 1);
        assert_eq!(shares[2..], [Limit::DenyAll; 2]);
    }
}
