//! Limits and states as plain numbers, which servers can work with.
//!
//! All numbers are whole and below 2^53, so that Redis, which has doubles only, holds them exactly: moments in microseconds, and for
//! meters a rest in parts of a microsecond, of which there are 1,000 times as many as a nanosecond is divided in.
//!
//! | letter | limits | numbers of the rule | numbers of a state |
//! |---|---|---|---|
//! | `m` | GCRA, leaky bucket, token bucket that refills steadily | from empty to full, parts of a microsecond, what a new key has spent, how long a full one is remembered: pairs but for the second | the moment of the fullest, a pair |
//! | `c` | those that come with a call | the same | the same |
//! | `b` | token bucket that refills by the batch | capacity, batch, period, what a new key misses, how long a full one is remembered | tokens missing, and since when a batch is under way |
//! | `f` | fixed window | limit, length | start, what was taken |
//! | `w` | fixed window with a carry-over | limit, carry-over, length | start, what of the carry-over had been spent before, what was taken |
//! | `q` | fixed window of a calendar | limit, carry-over, and nine edges of windows around the server's time as it was heard last; the server takes the one that it is in, or says that it is elsewhere | the same |
//! | `s` | sliding window | limit, length | start, what was taken in the window before, and in this one |
//! | `l` | sliding log | limit, length | moments, oldest first, each with what was taken at it |

use smallvec::{SmallVec, smallvec};
use tollgate_core::algorithm::fixed_window::WindowCount;
use tollgate_core::algorithm::meter::{self, ArrivalTime};
use tollgate_core::algorithm::sliding_window::WindowPair;
use tollgate_core::algorithm::token_bucket::{Bucket, Deficit};
use tollgate_core::algorithm::{FixedWindow, Refill, Windows};
#[cfg(feature = "postgres")]
use tollgate_core::packed::LONGEST_SPAN;
use tollgate_core::{Limit, Nanos, State, Timestamp};

/// Nanoseconds in the servers' unit of time.
pub(crate) const MICRO: u64 = 1_000;

/// The most entries that a sliding log may hold in a store that sends the whole log around.
const LOG_MAX: u64 = 10_000;

/// Doubles hold all whole numbers below this.
const EXACT: u128 = 1 << 53;

/// Why a limit cannot be kept in a store on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The server tells the time in microseconds.
    #[error("{0}: the store tells the time in microseconds, so the period must be a whole number of them")]
    Period(Limit),
    /// The rate leaves a remainder that is too fine.
    #[error(
        "{0}: the rate is too odd for exact arithmetic in the store; choose a rounder count or a shorter period"
    )]
    Rate(Limit),
    /// The log would be sent around with each decision.
    #[error(
        "{0}: in this store a sliding log may hold at most {LOG_MAX}; a sliding window counts any number"
    )]
    Log(Limit),
    /// The count is too large for the arithmetic of a sliding window.
    #[error("{0}: in this store a sliding window counts to 2^52 at most")]
    Count(Limit),
}

/// A state as a server keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// Of the kind of rule that wrote it.
    pub(crate) letter: u8,
    pub(crate) numbers: SmallVec<[u64; 3]>,
}

/// A limit as numbers.
///
/// What decides on a server is `redis/decide.lua`, or `postgres/decide.sql`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// It needs no state, and always says the same.
    Stateless { admits: bool },
    /// Any of those that keep the moment of the fullest.
    Meter(Meter),
    /// A window of a calendar, or one that carries over.
    Periods(FixedWindow),
    /// The others, as the letter of their kind and their numbers, of which the first so many count.
    Other(u8, [u64; 5], usize),
}

/// A meter's numbers: an amount of one takes `unit` parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Meter {
    /// How many parts a nanosecond is divided in.
    fine: u64,
    unit: u64,
    capacity: u64,
    initial: u64,
    /// How long a full one is remembered.
    rest: Nanos,
    is_bucket: bool,
    /// Whether what another limit wrote holds as it is.
    adopts: bool,
}

impl Meter {
    /// The numbers of a limit that is full at first.
    fn of(limit: &Limit, meter: &meter::Meter) -> Result<Self, Unfit> {
        let numbers = Self {
            fine: meter.parts(),
            unit: meter.unit_time(),
            capacity: meter.capacity(),
            initial: meter.capacity(),
            rest: Nanos::ZERO,
            is_bucket: false,
            adopts: meter.adopts(),
        };
        // Sums of two rests stay exact.
        if numbers.parts() > EXACT / 2 { Err(Unfit::Rate(*limit)) } else { Ok(numbers) }
    }

    /// How many parts a microsecond is divided in.
    fn parts(&self) -> u128 {
        u128::from(self.fine) * u128::from(MICRO)
    }

    /// An amount as microseconds and parts.
    fn pair(&self, amount: u64) -> [u64; 2] {
        self.split(u128::from(amount) * u128::from(self.unit))
    }

    fn split(&self, parts: u128) -> [u64; 2] {
        [exact(parts / self.parts()), exact(parts % self.parts())]
    }
}

/// A meter whose state is one number, the nanosecond at which it is at its fullest, and at first the present.
#[cfg(feature = "postgres")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// In which one unit comes back.
    pub(crate) unit: Nanos,
    /// From empty to full: at most [`LONGEST_SPAN`].
    pub(crate) full: Nanos,
    /// How far ahead it may lie. What is farther is a clock's mistake, and brought near.
    pub(crate) farthest: Nanos,
}

/// A number that a double holds exactly; where it is beyond all that a limit holds, the largest of those.
fn exact(number: u128) -> u64 {
    u64::try_from(number.min(EXACT - 1)).unwrap_or(u64::MAX)
}

fn micros(length: Nanos) -> u64 {
    exact(u128::from(length.as_nanos() / MICRO))
}

impl Rule {
    /// A limit's numbers.
    pub(crate) fn of(limit: &Limit) -> Result<Self, Unfit> {
        let whole_micros = |period: Nanos| match period.as_nanos() % MICRO {
            0 => Ok(micros(period)),
            _ => Err(Unfit::Period(*limit)),
        };
        let count = |count: u64| exact(count.into());
        Ok(match limit {
            Limit::Unlimited => Self::Stateless { admits: true },
            Limit::Gcra(gcra) => Self::Meter(Meter::of(limit, gcra.meter())?),
            Limit::LeakyBucket(bucket) => Self::Meter(Meter::of(limit, bucket.meter())?),
            Limit::TokenBucket(bucket) if bucket.style() == Refill::Greedy => {
                let meter = Meter::of(limit, bucket.meter())?;
                Self::Meter(Meter {
                    initial: bucket.initial(),
                    rest: bucket.rest(),
                    is_bucket: true,
                    ..meter
                })
            }
            Limit::TokenBucket(bucket) => {
                let period = whole_micros(bucket.refill().period())?;
                let missing = count(bucket.capacity() - bucket.initial());
                Self::Other(
                    b'b',
                    [
                        count(bucket.capacity()),
                        count(bucket.refill().count()),
                        period,
                        missing,
                        micros(bucket.rest()),
                    ],
                    5,
                )
            }
            Limit::FixedWindow(window) => match window.windows() {
                Windows::Epoch { length } if window.carry_over() == 0 => {
                    Self::Other(b'f', [count(window.limit()), whole_micros(length)?, 0, 0, 0], 2)
                }
                Windows::Epoch { length } => whole_micros(length).map(|_| Self::Periods(*window))?,
                Windows::Calendar(calendar) => {
                    whole_micros(calendar.grain()).map(|_| Self::Periods(*window))?
                }
                _ => return Err(Unfit::Period(*limit)),
            },
            Limit::SlidingWindow(window) if u128::from(window.limit()) > EXACT / 2 => {
                return Err(Unfit::Count(*limit));
            }
            Limit::SlidingWindow(window) => {
                Self::Other(b's', [count(window.limit()), whole_micros(window.length())?, 0, 0, 0], 2)
            }
            Limit::SlidingLog(log) if log.limit() > LOG_MAX => return Err(Unfit::Log(*limit)),
            Limit::SlidingLog(log) => {
                Self::Other(b'l', [count(log.limit()), whole_micros(log.length())?, 0, 0, 0], 2)
            }
            // Deny all, and what is not known yet.
            _ => Self::Stateless { admits: false },
        })
    }

    /// The rule's numbers, for a server where it is about this time.
    pub(crate) fn numbers(&self, about: Timestamp) -> SmallVec<[u64; 7]> {
        match self {
            Self::Stateless { .. } => SmallVec::new(),
            Self::Meter(meter) => {
                let [full, full_part] = meter.pair(meter.capacity);
                let [spent, spent_part] = meter.pair(meter.capacity - meter.initial);
                let [rest, rest_part] =
                    meter.split(u128::from(meter.rest.as_nanos()) * u128::from(meter.fine));
                smallvec![full, full_part, exact(meter.parts()), spent, spent_part, rest, rest_part]
            }
            Self::Periods(window) => {
                let mut numbers = smallvec![exact(window.limit().into()), exact(window.carry_over().into())];
                match window.windows() {
                    Windows::Epoch { length } => numbers.push(micros(length)),
                    windows => numbers.extend(edges(&windows, about)),
                }
                numbers
            }
            Self::Other(_, numbers, count) => SmallVec::from_slice(&numbers[..*count]),
        }
    }

    /// A meter's numbers, if its state is one.
    #[cfg(feature = "postgres")]
    pub(crate) fn word(&self) -> Option<Word> {
        let Self::Meter(meter) = self else { return None };
        let full = Nanos::new(meter.capacity.checked_mul(meter.unit)?);
        let is_one = meter.fine == 1 && meter.initial == meter.capacity && meter.rest == Nanos::ZERO;
        (is_one && full <= LONGEST_SPAN).then(|| Word {
            unit: Nanos::new(meter.unit),
            full,
            farthest: if meter.adopts { LONGEST_SPAN } else { full },
        })
    }

    /// A cost in the rule's unit: an amount, and the rest of it.
    pub(crate) fn cost(&self, cost: u32) -> [u64; 2] {
        match self {
            Self::Meter(meter) => meter.pair(cost.into()),
            Self::Stateless { .. } | Self::Periods(_) | Self::Other(..) => [cost.into(), 0],
        }
    }

    /// The letter of its kind; 0 if it has no states.
    pub(crate) const fn letter(&self) -> u8 {
        match self {
            Self::Stateless { .. } => 0,
            Self::Meter(meter) if meter.adopts => b'c',
            Self::Meter(_) => b'm',
            Self::Periods(window) if matches!(window.windows(), Windows::Epoch { .. }) => b'w',
            Self::Periods(_) => b'q',
            Self::Other(kind, ..) => *kind,
        }
    }

    /// The state that a value stands for; `None` if it is none of this kind of rule's.
    pub(crate) fn read_state(&self, value: &Value) -> Option<State> {
        let numbers = &value.numbers;
        if value.letter != self.letter() {
            return None;
        }
        let number = |index: usize| numbers.get(index).copied();
        let moment =
            |index: usize| number(index).map(|micros| Timestamp::from_nanos(micros.saturating_mul(MICRO)));
        Some(match self {
            Self::Stateless { .. } => State::Nothing,
            Self::Meter(meter) => {
                let parts = number(1)?;
                let at = ArrivalTime {
                    nanos: moment(0)?.as_nanos().saturating_add(parts / meter.fine),
                    fraction: parts % meter.fine,
                };
                if meter.is_bucket { State::Bucket(Bucket::Greedy(at)) } else { State::Arrival(at) }
            }
            Self::Other(b'b', ..) => {
                State::Bucket(Bucket::Interval(Deficit { missing: number(0)?, since: moment(1)? }))
            }
            Self::Periods(_) => {
                State::Window(WindowCount { start: moment(0)?, before: number(1)?, used: number(2)? })
            }
            Self::Other(b'f', ..) => {
                State::Window(WindowCount { start: moment(0)?, before: 0, used: number(1)? })
            }
            Self::Other(b's', ..) => {
                State::Pair(WindowPair { start: moment(0)?, previous: number(1)?, current: number(2)? })
            }
            Self::Other(..) => State::Log(
                (0..numbers.len() / 2).filter_map(|n| moment(2 * n).zip(number(2 * n + 1))).collect(),
            ),
        })
    }

    /// The value that stands for a state.
    pub(crate) fn value_of(&self, state: &State) -> Value {
        Value { letter: self.letter(), numbers: self.numbers_of(state) }
    }

    fn numbers_of(&self, state: &State) -> SmallVec<[u64; 3]> {
        let moment = |moment: Timestamp| exact(u128::from(moment.as_nanos() / MICRO));
        let count = |count: u64| exact(count.into());
        match (self, state) {
            (Self::Meter(meter), State::Arrival(at) | State::Bucket(Bucket::Greedy(at))) => {
                let parts = u128::from(at.nanos) * u128::from(meter.fine)
                    + u128::from(at.fraction.min(meter.fine - 1));
                SmallVec::from_slice(&meter.split(parts))
            }
            (_, State::Bucket(Bucket::Interval(deficit))) => {
                smallvec![count(deficit.missing), moment(deficit.since)]
            }
            (Self::Periods(_), State::Window(window)) => {
                smallvec![moment(window.start), count(window.before), count(window.used)]
            }
            (_, State::Window(window)) => smallvec![moment(window.start), count(window.used)],
            (_, State::Pair(pair)) => {
                smallvec![moment(pair.start), count(pair.previous), count(pair.current)]
            }
            (_, State::Log(log)) => log.entries().flat_map(|(at, sum)| [moment(at), count(sum)]).collect(),
            _ => SmallVec::new(),
        }
    }
}

/// How many edges of windows a server is told: it decides by one window before its own and three after it, and its own may
/// be two before or after the one that it was last heard to be in.
const EDGES: usize = 9;
/// Which of them is the start of the window that it was heard to be in.
const PRESENT: usize = 3;

/// The edges of the windows around a moment, in microseconds.
fn edges(windows: &Windows, about: Timestamp) -> [u64; EDGES] {
    let mut edges = [windows.start(about); EDGES];
    // Before the first window there is none, and it stands for those.
    for place in (0..PRESENT).rev() {
        edges[place] = windows.previous(edges[place + 1]);
    }
    for place in PRESENT + 1..EDGES {
        edges[place] = windows.next(edges[place - 1]);
    }
    edges.map(|edge| exact((edge.as_nanos() / MICRO).into()))
}
