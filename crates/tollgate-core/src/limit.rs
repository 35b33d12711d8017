//! A limit: one of the algorithms with its numbers, ready to decide.

use std::fmt;

use crate::algorithm::{
    Algorithm, FixedWindow, Gcra, LeakyBucket, Refill, SlidingLog, SlidingWindow, TokenBucket, Windows,
    fixed_window::WindowCount, meter::ArrivalTime, sliding_log::Log, sliding_window::WindowPair,
    token_bucket::Bucket,
};
use crate::decision::{Decision, Grant};
use crate::key::{Key, KeyBuilder};
use crate::quota::{Quota, write_period};
use crate::time::{Nanos, Timestamp};

/// What is allowed, and by which rule it is counted.
///
/// ```
/// use tollgate_core::{Limit, Quota};
///
/// let login = Limit::fixed_window(Quota::per_minute(5));
/// let search = Limit::sliding_window(Quota::per_minute(100));
/// let api = Limit::gcra_with_burst(Quota::per_hour(1_000), 100)?;
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Everything passes; nothing is remembered.
    Unlimited,
    /// Nothing passes, not even a request of cost 0.
    DenyAll,
    /// A steady rate with a burst.
    Gcra(Gcra),
    /// A bucket of tokens.
    TokenBucket(TokenBucket),
    /// A level that drains.
    LeakyBucket(LeakyBucket),
    /// A count for each window of the clock.
    FixedWindow(FixedWindow),
    /// A count that slides, in constant memory.
    SlidingWindow(SlidingWindow),
    /// A log of all admissions.
    SlidingLog(SlidingLog),
}

/// What is remembered of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Nothing: the limit needs no memory.
    Nothing,
    /// Of GCRA and of the leaky bucket.
    Arrival(ArrivalTime),
    /// Of a token bucket.
    Bucket(Bucket),
    /// Of a fixed window.
    Window(WindowCount),
    /// Of a sliding window counter.
    Pair(WindowPair),
    /// Of a sliding log.
    Log(Log),
}

/// Why a limit cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A number that must be at least 1 is 0.
    #[error("a {what} of 0 would deny everything; if that is meant, set the limit itself to 0")]
    Zero {
        /// Which number.
        what: &'static str,
    },
    /// A number is above what it may be.
    #[error("{what} {value} is above {most}")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// What it was.
        value: u64,
        /// What it may be.
        most: u64,
    },
    /// A sliding log would hold too much.
    #[error(
        "a sliding log of {value} remembers every admission and may hold at most {most}; \
         a sliding window counts any number in constant memory",
        most = crate::algorithm::sliding_log::MAX_LOG_LIMIT
    )]
    LogTooLarge {
        /// The limit asked for.
        value: u64,
    },
    /// What was spent would take too long to come back.
    #[error(
        "a {what} of {capacity} at {rate} takes longer than 100 years to come back; lower the {what} or raise the rate"
    )]
    TooSlow {
        /// What the limit calls its size.
        what: &'static str,
        /// Its size.
        capacity: u64,
        /// Its rate.
        rate: Quota,
    },
}

/// What came of asking a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The answer.
    pub decision: Decision,
    /// What was taken, if the request passed.
    pub grant: Option<Grant>,
}

/// Runs the same expression with the algorithm and its part of the state, and another where a limit needs none, or
/// where the state is of another kind than the limit.
macro_rules! dispatch {
    ($limit:expr, $state:expr, |$algorithm:ident, $part:ident| $known:expr, else $otherwise:expr) => {
        match ($limit, $state) {
            (Limit::Gcra($algorithm), State::Arrival($part)) => $known,
            (Limit::LeakyBucket($algorithm), State::Arrival($part)) => $known,
            (Limit::TokenBucket($algorithm), State::Bucket($part)) => $known,
            (Limit::FixedWindow($algorithm), State::Window($part)) => $known,
            (Limit::SlidingWindow($algorithm), State::Pair($part)) => $known,
            (Limit::SlidingLog($algorithm), State::Log($part)) => $known,
            _ => $otherwise,
        }
    };
}

impl Limit {
    /// Whether anything is remembered of its keys.
    pub const fn is_stateful(&self) -> bool {
        !matches!(self, Self::Unlimited | Self::DenyAll)
    }

    /// GCRA at this rate, all of whose count may come at once. A count of 0 denies all.
    pub fn gcra(rate: Quota) -> Self {
        // The burst is a period's count, so it comes back in one period: the only error left is a count of zero.
        Gcra::new(rate, rate.count()).map_or(Self::DenyAll, Self::Gcra)
    }

    /// GCRA at this rate, of which at most `burst` may come at once. A rate of 0 denies all.
    ///
    /// # Errors
    /// See [`Gcra::new`].
    pub fn gcra_with_burst(rate: Quota, burst: u64) -> Result<Self, LimitError> {
        if rate.count() == 0 { Ok(Self::DenyAll) } else { Gcra::new(rate, burst).map(Self::Gcra) }
    }

    /// A bucket of `capacity` tokens, refilled steadily.
    ///
    /// # Errors
    /// See [`TokenBucket::new`].
    pub fn token_bucket(capacity: u64, refill: Quota) -> Result<Self, LimitError> {
        TokenBucket::new(capacity, refill).map(Self::TokenBucket)
    }

    /// A bucket of `capacity` that leaks steadily.
    ///
    /// # Errors
    /// See [`LeakyBucket::new`].
    pub fn leaky_bucket(capacity: u64, leak: Quota) -> Result<Self, LimitError> {
        LeakyBucket::new(capacity, leak).map(Self::LeakyBucket)
    }

    /// So many in each window of the clock. A count of 0 denies all.
    pub fn fixed_window(quota: Quota) -> Self {
        FixedWindow::new(quota).map_or(Self::DenyAll, Self::FixedWindow)
    }

    /// About so many in any window's length. A count of 0 denies all.
    pub fn sliding_window(quota: Quota) -> Self {
        SlidingWindow::new(quota).map_or(Self::DenyAll, Self::SlidingWindow)
    }

    /// Exactly so many in any window's length. A count of 0 denies all.
    ///
    /// # Errors
    /// If the count is above [`MAX_LOG_LIMIT`](crate::algorithm::sliding_log::MAX_LOG_LIMIT).
    pub fn sliding_log(quota: Quota) -> Result<Self, LimitError> {
        if quota.count() == 0 { Ok(Self::DenyAll) } else { SlidingLog::new(quota).map(Self::SlidingLog) }
    }

    /// The state of a key that is seen for the first time.
    pub fn fresh(&self, now: Timestamp) -> State {
        match self {
            Self::Unlimited | Self::DenyAll => State::Nothing,
            Self::Gcra(algorithm) => State::Arrival(algorithm.fresh(now)),
            Self::LeakyBucket(algorithm) => State::Arrival(algorithm.fresh(now)),
            Self::TokenBucket(algorithm) => State::Bucket(algorithm.fresh(now)),
            Self::FixedWindow(algorithm) => State::Window(algorithm.fresh(now)),
            Self::SlidingWindow(algorithm) => State::Pair(algorithm.fresh(now)),
            Self::SlidingLog(algorithm) => State::Log(algorithm.fresh(now)),
        }
    }

    /// Makes `state` ready to decide at `now`: one that is vacant, or was written by another kind of limit, becomes
    /// a fresh one; one that lies in the future because the clock stepped back is brought back. Grants nothing that
    /// time itself did not. Returns whether anything changed.
    pub fn settle(&self, state: &mut State, now: Timestamp) -> bool {
        if self.vacant_at(state) <= now {
            let fresh = self.fresh(now);
            let changed = *state != fresh;
            *state = fresh;
            return changed;
        }
        dispatch!(self, state, |algorithm, part| algorithm.settle(part, now), else false)
    }

    /// What the limit would say of a request of this cost; takes nothing.
    pub fn decide(&self, state: &State, now: Timestamp, cost: u32) -> Decision {
        if self.vacant_at(state) <= now {
            return self.decide_settled(&self.fresh(now), now, cost);
        }
        self.decide_settled(state, now, cost)
    }

    /// What [`decide`](Self::decide) says, of a state that was settled at `now`: one look less at the state.
    pub fn decide_settled(&self, state: &State, now: Timestamp, cost: u32) -> Decision {
        dispatch!(self, state, |algorithm, part| algorithm.decide(part, now, cost), else match self {
            Self::Unlimited => Decision::unlimited(),
            _ => Decision::deny_all(),
        })
    }

    /// Books a request that was admitted on a settled state.
    pub fn take(&self, state: &mut State, now: Timestamp, cost: u32) -> Grant {
        dispatch!(self, state, |algorithm, part| algorithm.take(part, now, cost), else Grant { stamp: now, cost })
    }

    /// Settles, decides, and takes if the request passes: the whole step for a limit that decides alone.
    pub fn acquire(&self, state: &mut State, now: Timestamp, cost: u32) -> Step {
        self.settle(state, now);
        let decision = self.decide_settled(state, now, cost);
        let grant = decision.allowed.then(|| self.take(state, now, cost));
        Step { decision, grant }
    }

    /// Gives back what was taken; see [`Algorithm::give_back`]. A state that is vacant has recovered already.
    pub fn give_back(&self, state: &mut State, now: Timestamp, grant: Grant) {
        if self.vacant_at(state) <= now {
            return;
        }
        self.settle(state, now);
        dispatch!(self, state, |algorithm, part| algorithm.give_back(part, now, grant), else {});
    }

    /// The moment from which on the state decides as a fresh one. A state of another kind of limit is vacant already.
    pub fn vacant_at(&self, state: &State) -> Timestamp {
        match (self, state) {
            // A bucket's state must also be of the bucket's own style.
            (Self::TokenBucket(algorithm), State::Bucket(bucket))
                if matches!(bucket, Bucket::Greedy(_)) != (algorithm.style() == Refill::Greedy) =>
            {
                Timestamp::EPOCH
            }
            _ => dispatch!(self, state, |algorithm, part| algorithm.vacant_at(part), else Timestamp::EPOCH),
        }
    }

    /// The state of a key whose limit was changed from `former` to this one: the former is settled up to `now`, and
    /// what it then had left is carried over, at most what this limit holds.
    ///
    /// Where both count by the same windows of a calendar it is not what was left that goes over but what was used: whoever has
    /// 200 a month in place of 100, and has used 30, has 170 left.
    pub fn carried_over(&self, former: &Limit, state: &State, now: Timestamp) -> State {
        if former.vacant_at(state) <= now {
            return self.fresh(now);
        }
        if let (Self::FixedWindow(own), Self::FixedWindow(former), State::Window(count)) =
            (self, former, state)
            && let Some(count) = own.continued(former, *count, now)
        {
            return State::Window(count);
        }
        self.with_available(former.decide(state, now, 0).remaining, now)
    }

    /// The state that a key of this limit goes on from, where its own is `own` if it has any, and these are alive of the time
    /// before a change: that in which the least is left. `None` if none is alive.
    ///
    /// There can be more than one for a moment, while some are deciding by the old rule and some by the new.
    pub fn reconciled<'s>(
        &self,
        own: Option<&State>,
        formers: impl Iterator<Item = (&'s Self, &'s State)>,
        now: Timestamp,
    ) -> Option<State> {
        let left = |state: &State| self.decide(state, now, 0).remaining;
        let own = own.filter(|own| self.vacant_at(own) > now);
        let alive = formers.filter(|(limit, state)| limit.vacant_at(state) > now);
        let carried = alive.map(|(limit, state)| self.carried_over(limit, state, now)).min_by_key(left)?;
        // What remembers nothing takes nothing over: it stays for the next change.
        if !self.is_stateful() {
            return None;
        }
        Some(own.filter(|own| left(own) <= left(&carried)).cloned().unwrap_or(carried))
    }

    /// The state in which so much is left, or all that the limit holds if that is less.
    fn with_available(&self, available: u64, now: Timestamp) -> State {
        match self {
            Self::Unlimited | Self::DenyAll => State::Nothing,
            Self::Gcra(algorithm) => State::Arrival(algorithm.with_available(available, now)),
            Self::LeakyBucket(algorithm) => State::Arrival(algorithm.with_available(available, now)),
            Self::TokenBucket(algorithm) => State::Bucket(algorithm.with_available(available, now)),
            Self::FixedWindow(algorithm) => State::Window(algorithm.with_available(available, now)),
            Self::SlidingWindow(algorithm) => State::Pair(algorithm.with_available(available, now)),
            Self::SlidingLog(algorithm) => State::Log(algorithm.with_available(available, now)),
        }
    }

    /// How long it takes at most until a key on which everything was spent is as new.
    ///
    /// ```
    /// use tollgate_core::{Limit, Nanos, Quota};
    ///
    /// assert_eq!(Limit::gcra(Quota::per_minute(5)).recovery(), Nanos::from_secs(60));
    /// assert_eq!(Limit::sliding_window(Quota::per_minute(5)).recovery(), Nanos::from_secs(120));
    /// assert_eq!(Limit::Unlimited.recovery(), Nanos::ZERO);
    /// ```
    pub fn recovery(&self) -> Nanos {
        // Windows of a calendar differ in length.
        if let Self::FixedWindow(algorithm) = self {
            return algorithm.recovery();
        }
        // All other kinds of windows begin then.
        let start = Timestamp::EPOCH;
        let spent = self.with_available(0, start);
        self.vacant_at(&spent).since(start)
    }

    /// How much the limit holds at its fullest; `u64::MAX` if it is unlimited.
    pub fn capacity(&self) -> u64 {
        match self {
            Self::Unlimited => u64::MAX,
            Self::DenyAll => 0,
            Self::Gcra(algorithm) => algorithm.burst(),
            Self::TokenBucket(algorithm) => algorithm.capacity(),
            Self::LeakyBucket(algorithm) => algorithm.capacity(),
            Self::FixedWindow(algorithm) => algorithm.capacity(),
            Self::SlidingWindow(algorithm) => algorithm.limit(),
            Self::SlidingLog(algorithm) => algorithm.limit(),
        }
    }

    /// The rate that the limit allows in the long run; `None` where there is none to say.
    pub fn quota(&self) -> Option<Quota> {
        let windowed = |limit: u64, length: Nanos| Quota::new(limit, length).ok();
        match self {
            Self::Unlimited | Self::DenyAll => None,
            Self::Gcra(algorithm) => Some(algorithm.rate()),
            Self::TokenBucket(algorithm) => Some(algorithm.refill()),
            Self::LeakyBucket(algorithm) => Some(algorithm.leak()),
            Self::FixedWindow(algorithm) => windowed(algorithm.limit(), algorithm.windows().period()),
            Self::SlidingWindow(algorithm) => windowed(algorithm.limit(), algorithm.length()),
            Self::SlidingLog(algorithm) => windowed(algorithm.limit(), algorithm.length()),
        }
    }
}

/// Writes the limit in one line: `5/minute fixed window`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::DenyAll => f.write_str("deny all"),
            Self::Gcra(a) if a.burst() == a.rate().count() => write!(f, "{} GCRA", a.rate()),
            Self::Gcra(a) => write!(f, "{} GCRA, burst {}", a.rate(), a.burst()),
            Self::TokenBucket(a) => {
                let how = if a.style() == Refill::Interval { " at once" } else { "" };
                write!(f, "{} token bucket, refilled {}{how}", a.capacity(), a.refill())?;
                if a.initial() < a.capacity() { write!(f, ", initially {}", a.initial()) } else { Ok(()) }
            }
            Self::LeakyBucket(a) => write!(f, "{} leaky bucket, leaks {}", a.capacity(), a.leak()),
            Self::FixedWindow(a) => {
                match a.windows() {
                    Windows::Epoch { length } => windowed(f, a.limit(), length, "fixed window")?,
                    Windows::Calendar(calendar) => write!(f, "{}/{}", a.limit(), calendar.name())?,
                }
                if a.carry_over() > 0 { write!(f, ", carries over {}", a.carry_over()) } else { Ok(()) }
            }
            Self::SlidingWindow(a) => windowed(f, a.limit(), a.length(), "sliding window"),
            Self::SlidingLog(a) => windowed(f, a.limit(), a.length(), "sliding log"),
        }
    }
}

fn windowed(f: &mut fmt::Formatter<'_>, limit: u64, length: Nanos, name: &str) -> fmt::Result {
    write!(f, "{limit}/")?;
    write_period(f, length)?;
    write!(f, " {name}")
}

/// All its numbers, so that two limits are one key only if they are the same.
impl Key for Limit {
    fn write(&self, key: &mut KeyBuilder) {
        let quota = |key: &mut KeyBuilder, quota: Quota| {
            key.push(&quota.count());
            key.push(&quota.period().as_nanos());
        };
        let kind: u64 = match self {
            Self::Unlimited => 0,
            Self::DenyAll => 1,
            Self::Gcra(_) => 2,
            Self::TokenBucket(_) => 3,
            Self::LeakyBucket(_) => 4,
            Self::FixedWindow(algorithm) => match algorithm.windows() {
                Windows::Epoch { .. } => 5,
                Windows::Calendar(_) => 8,
            },
            Self::SlidingWindow(_) => 6,
            Self::SlidingLog(_) => 7,
        };
        key.push(&kind);
        key.push(&self.capacity());
        match self {
            Self::Unlimited | Self::DenyAll => {}
            Self::Gcra(algorithm) => quota(key, algorithm.rate()),
            Self::LeakyBucket(algorithm) => quota(key, algorithm.leak()),
            Self::TokenBucket(algorithm) => {
                quota(key, algorithm.refill());
                key.push(&(algorithm.style() == Refill::Interval));
                key.push(&algorithm.initial());
            }
            Self::FixedWindow(algorithm) => {
                match algorithm.windows() {
                    Windows::Epoch { length } => key.push(&length.as_nanos()),
                    Windows::Calendar(calendar) => key.push(calendar.name()),
                }
                if algorithm.carry_over() > 0 {
                    key.push(&algorithm.carry_over());
                }
            }
            Self::SlidingWindow(algorithm) => key.push(&algorithm.length().as_nanos()),
            Self::SlidingLog(algorithm) => key.push(&algorithm.length().as_nanos()),
        }
    }
}

/// A limit is a rule like those that it is made of: what is written for any [`Algorithm`] takes limits too.
impl Algorithm for Limit {
    type State = State;

    fn fresh(&self, now: Timestamp) -> State {
        self.fresh(now)
    }

    fn settle(&self, state: &mut State, now: Timestamp) -> bool {
        self.settle(state, now)
    }

    fn decide(&self, state: &State, now: Timestamp, cost: u32) -> Decision {
        self.decide(state, now, cost)
    }

    fn take(&self, state: &mut State, now: Timestamp, cost: u32) -> Grant {
        self.take(state, now, cost)
    }

    fn give_back(&self, state: &mut State, now: Timestamp, grant: Grant) {
        self.give_back(state, now, grant);
    }

    fn vacant_at(&self, state: &State) -> Timestamp {
        self.vacant_at(state)
    }

    fn with_available(&self, available: u64, now: Timestamp) -> State {
        self.with_available(available, now)
    }

    // Limits tell by themselves what is vacant.

    fn acquire(&self, state: &mut State, now: Timestamp, cost: u32) -> Step {
        self.acquire(state, now, cost)
    }

    fn look(&self, state: &State, now: Timestamp, cost: u32) -> Decision {
        self.decide(state, now, cost)
    }

    fn refund(&self, state: &mut State, now: Timestamp, grant: Grant) {
        self.give_back(state, now, grant);
    }
}

macro_rules! from_algorithm {
    ($($name:ident),+) => {$(
        impl From<$name> for Limit {
            fn from(algorithm: $name) -> Self {
                Self::$name(algorithm)
            }
        }
    )+};
}
from_algorithm!(Gcra, TokenBucket, LeakyBucket, FixedWindow, SlidingWindow, SlidingLog);
