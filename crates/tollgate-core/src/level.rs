//! How well a service fares, and how much of a limit holds then.

use std::fmt;

use crate::algorithm::{Gcra, LeakyBucket, Refill, SlidingLog, SlidingWindow, TokenBucket};
use crate::limit::{Limit, LimitError};
use crate::quota::{MAX_COUNT, MAX_PERIOD, Quota};

/// How well a service fares. The worse is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// All is well.
    #[default]
    Good,
    /// It shows that it has too much to do.
    Degraded,
    /// It fails.
    Bad,
}

impl Level {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Good, Self::Degraded, Self::Bad];

    /// The name: `good`, `degraded` or `bad`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Bad => "bad",
        }
    }

    /// The next better one.
    #[must_use]
    pub const fn better(self) -> Self {
        match self {
            Self::Good | Self::Degraded => Self::Good,
            Self::Bad => Self::Degraded,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A share of a whole: 0 to 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    /// The whole.
    pub const WHOLE: Self = Self(100);

    /// So many hundredths; `None` if there are more than a hundred.
    pub const fn new(hundredths: u8) -> Option<Self> {
        if hundredths <= 100 { Some(Self(hundredths)) } else { None }
    }

    /// How many hundredths.
    pub const fn hundredths(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// How much of a limit holds at which level: by default all of it while the service is well, 70 % while it is degraded, 30 % while
/// it is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scaling {
    /// While it is degraded.
    pub degraded: Percent,
    /// While it is bad.
    pub bad: Percent,
}

impl Scaling {
    /// How much holds at this level.
    pub const fn at(self, level: Level) -> Percent {
        match level {
            Level::Good => Percent::WHOLE,
            Level::Degraded => self.degraded,
            Level::Bad => self.bad,
        }
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self { degraded: Percent(70), bad: Percent(30) }
    }
}

impl Limit {
    /// The same limit at a part of its rate. 0 % denies all.
    ///
    /// A steady rate is scaled exactly: 70 % of 5 a minute are 7 in two minutes. What comes in whole units (a window's count, a burst,
    /// a capacity, a batch) is rounded down, but to no less than 1: a limit does not close by being scaled.
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota};
    /// use tollgate_core::level::Percent;
    ///
    /// let percent = |hundredths| Percent::new(hundredths).expect("at most 100");
    /// let limit = Limit::gcra(Quota::per_minute(100));
    /// assert_eq!(limit.scaled(percent(70))?, Limit::gcra(Quota::per_minute(70)));
    /// let limit = Limit::fixed_window(Quota::per_minute(5));
    /// assert_eq!(limit.scaled(percent(70))?, Limit::fixed_window(Quota::per_minute(3)));
    /// # Ok::<(), tollgate_core::LimitError>(())
    /// ```
    ///
    /// # Errors
    /// If what was spent would take longer than 100 years to come back.
    pub fn scaled(&self, percent: Percent) -> Result<Self, LimitError> {
        match (percent.0, self) {
            (100, limit) | (_, limit @ (Self::Unlimited | Self::DenyAll)) => Ok(*limit),
            (0, _) => Ok(Self::DenyAll),
            (_, Self::Gcra(of)) => {
                Gcra::new(rate(of.rate(), percent)?, units(of.burst(), percent)).map(Self::Gcra)
            }
            (_, Self::LeakyBucket(of)) => {
                LeakyBucket::new(units(of.capacity(), percent), rate(of.leak(), percent)?)
                    .map(Self::LeakyBucket)
            }
            (_, Self::TokenBucket(of)) => {
                let refill = match of.style() {
                    Refill::Greedy => rate(of.refill(), percent)?,
                    Refill::Interval => batch(of.refill(), percent),
                };
                let initial = if of.initial() == 0 { 0 } else { units(of.initial(), percent) };
                TokenBucket::new(units(of.capacity(), percent), refill)?
                    .with_refill(of.style())?
                    .with_initial(initial)
                    .map(Self::TokenBucket)
            }
            (_, Self::FixedWindow(of)) => {
                let carry = of.carry_over().saturating_mul(percent.0.into()) / 100;
                of.with_limit(units(of.limit(), percent))?.with_carry_over(carry).map(Self::FixedWindow)
            }
            (_, Self::SlidingWindow(of)) => {
                let quota = Quota::new(units(of.limit(), percent), of.length());
                quota.map_or(Ok(*self), |quota| SlidingWindow::new(quota).map(Self::SlidingWindow))
            }
            (_, Self::SlidingLog(of)) => {
                let quota = Quota::new(units(of.limit(), percent), of.length());
                quota.map_or(Ok(*self), |quota| SlidingLog::new(quota).map(Self::SlidingLog))
            }
        }
    }
}

/// Whole units: at least one.
// Counts are below 2^53, so nothing overflows.
fn units(count: u64, percent: Percent) -> u64 {
    (count.saturating_mul(percent.0.into()) / 100).max(1)
}

/// A batch of whole units in the same time.
fn batch(quota: Quota, percent: Percent) -> Quota {
    quota.with_count(units(quota.count(), percent)).unwrap_or(quota)
}

/// A rate, exactly: where the count is not whole, so many times the count in so many times the period.
fn rate(quota: Quota, percent: Percent) -> Result<Quota, LimitError> {
    let hundredths = quota.count().saturating_mul(percent.0.into());
    let shared = gcd(hundredths, 100);
    let (count, periods) = (hundredths / shared, 100 / shared);
    if count > MAX_COUNT {
        // Of counts above 10^13 a unit is less than any clock can tell.
        return Ok(batch(quota, percent));
    }
    let period = quota.period().as_nanos().saturating_mul(periods);
    Quota::new(count, crate::time::Nanos::new(period)).map_err(|_| LimitError::TooSlow {
        what: "period",
        capacity: MAX_PERIOD.as_secs_ceil(),
        rate: quota,
    })
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Nanos, Timestamp};
    use std::time::Duration;

    fn at(limit: &Limit, percent: u8) -> String {
        limit.scaled(Percent(percent)).unwrap().to_string()
    }

    #[test]
    fn each_kind_is_scaled() {
        let hundred = Quota::per_minute(100);
        assert_eq!(at(&Limit::gcra(hundred), 70), Limit::gcra(Quota::per_minute(70)).to_string());
        let bursty = Limit::gcra_with_burst(hundred, 10).unwrap();
        let expected = Limit::gcra_with_burst(Quota::per_minute(30), 3).unwrap();
        assert_eq!(bursty.scaled(Percent(30)), Ok(expected));
        assert_eq!(at(&Limit::fixed_window(hundred), 30), "30/minute fixed window");
        assert_eq!(Limit::sliding_window(hundred).scaled(Percent(70)).unwrap().capacity(), 70);
        assert_eq!(Limit::sliding_log(hundred).unwrap().scaled(Percent(70)).unwrap().capacity(), 70);
        let bucket = TokenBucket::new(50, hundred).unwrap().with_initial(20).unwrap();
        assert_eq!(at(&bucket.into(), 30), "15 token bucket, refilled 30/minute, initially 6");
        let batches =
            TokenBucket::new(5, Quota::per_minute(5)).unwrap().with_refill(Refill::Interval).unwrap();
        assert_eq!(Limit::from(batches).scaled(Percent(30)).unwrap().quota(), Some(Quota::per_minute(1)));
        let leaky = Limit::leaky_bucket(50, hundred).unwrap();
        assert_eq!(at(&leaky, 30), "15 leaky bucket, leaks 30/minute");
        assert_eq!(Limit::Unlimited.scaled(Percent(0)), Ok(Limit::Unlimited));
        assert_eq!(leaky.scaled(Percent(0)), Ok(Limit::DenyAll));
        assert_eq!(leaky.scaled(Percent::WHOLE), Ok(leaky));
    }

    #[test]
    fn a_rate_that_does_not_divide_is_scaled_exactly() {
        let limit = Limit::gcra(Quota::per_minute(5)).scaled(Percent(70)).unwrap();
        let two_minutes = Duration::from_mins(2);
        assert_eq!(limit.quota(), Some(Quota::new(7, two_minutes).unwrap()));
        assert_eq!(limit.capacity(), 3);
        // What passes in ten hours of asking all the time: 3.5 a minute, and the burst.
        let mut state = limit.fresh(Timestamp::from_secs(1_000));
        let passes = (0..36_000_u64)
            .filter(|second| {
                limit.acquire(&mut state, Timestamp::from_secs(1_000 + second), 1).decision.allowed
            })
            .count();
        assert_eq!(passes, 2_100 + 2);
    }

    #[test]
    fn no_limit_closes_by_being_scaled_and_none_panics() {
        for count in [1, 2, 3, 99, MAX_COUNT / 2, MAX_COUNT] {
            for period in [Nanos::new(1), Nanos::from_secs(60), MAX_PERIOD] {
                for percent in 1..=100 {
                    let quota = Quota::new(count, period).unwrap();
                    for limit in [Limit::gcra(quota), Limit::fixed_window(quota)] {
                        if let Ok(scaled) = limit.scaled(Percent(percent)) {
                            assert!((1..=limit.capacity()).contains(&scaled.capacity()), "{limit} {percent}");
                        }
                    }
                }
            }
        }
    }
}
