//! What the script is sent, and what it answers.
//!
//! | part | packed as |
//! |---|---|
//! | a rule | a letter for its kind, and its numbers as doubles |
//! | a request | the number of groups; for each: how many hits must admit, whether it is a shadow, how many hits there are; for each of these: the number of its rule, that of its key, what must be there, what is taken |
//! | a rule of a calendar's windows | the same, with the edges of the windows around the server's time as it was heard last; the script takes the one that it is in, or says that it is elsewhere |
//! | a state | the letter of the kind that wrote it, and its numbers as doubles: 17 or 25 bytes, but for logs |
//!
//! Doubles hold whole numbers below 2^53 exactly, and everything here is such a number: moments in microseconds, and for
//! meters a rest in parts of a microsecond, of which there are 1,000 times as many as a nanosecond is divided in.

use tollgate_core::algorithm::fixed_window::WindowCount;
use tollgate_core::algorithm::meter::{self, ArrivalTime};
use tollgate_core::algorithm::sliding_window::WindowPair;
use tollgate_core::algorithm::token_bucket::{Bucket, Deficit};
use tollgate_core::algorithm::{FixedWindow, Refill, Windows};
use tollgate_core::{Limit, Nanos, State, Timestamp};

/// Nanoseconds in the server's unit of time.
pub(super) const MICRO: u64 = 1_000;

/// The most entries that a sliding log may hold in a store that sends the whole log around.
pub(super) const LOG_MAX: u64 = 10_000;

/// Doubles hold all whole numbers below this.
const EXACT: u128 = 1 << 53;

/// Why a limit cannot be kept in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Redis tells the time in microseconds.
    #[error("{0}: Redis tells the time in microseconds, so the period must be a whole number of them")]
    Period(Limit),
    /// The rate leaves a remainder that is too fine.
    #[error(
        "{0}: the rate is too odd for exact arithmetic in Redis; choose a rounder count or a shorter period"
    )]
    Rate(Limit),
    /// The log would be sent around with each decision.
    #[error("{0}: in Redis a sliding log may hold at most {LOG_MAX}; a sliding window counts any number")]
    Log(Limit),
    /// The count is too large for the arithmetic of a sliding window.
    #[error("{0}: in Redis a sliding window counts to 2^52 at most")]
    Count(Limit),
}

/// A limit in the script's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// It needs no state, and always says the same.
    Stateless { admits: bool },
    /// Any of those that keep the moment of the fullest.
    Meter(Meter),
    /// A window of a calendar, or one that carries over.
    Periods(FixedWindow),
    /// The others, as the letter of their kind and their numbers, of which the first so many count.
    Other(u8, [f64; 5], usize),
}

/// A meter's numbers: an amount of one takes `unit` parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meter {
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
    fn pair(&self, amount: u64) -> [f64; 2] {
        self.split(u128::from(amount) * u128::from(self.unit))
    }

    fn split(&self, parts: u128) -> [f64; 2] {
        [exact(parts / self.parts()), exact(parts % self.parts())]
    }
}

/// As a double, which holds it exactly or, where it is beyond all that a limit holds, at least as the largest of those.
// Below 2^53.
#[allow(clippy::cast_precision_loss)]
fn exact(number: u128) -> f64 {
    number.min(EXACT - 1) as f64
}

/// A whole number that a double holds, back.
// Whole, not negative and below 2^53, or what somebody else wrote: then any number does.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number as u64
}

fn micros(length: Nanos) -> f64 {
    exact(u128::from(length.as_nanos() / MICRO))
}

impl Rule {
    /// A limit's numbers.
    pub(super) fn of(limit: &Limit) -> Result<Self, Unfit> {
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
                    Self::Other(b'f', [count(window.limit()), whole_micros(length)?, 0.0, 0.0, 0.0], 2)
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
                Self::Other(b's', [count(window.limit()), whole_micros(window.length())?, 0.0, 0.0, 0.0], 2)
            }
            Limit::SlidingLog(log) if log.limit() > LOG_MAX => return Err(Unfit::Log(*limit)),
            Limit::SlidingLog(log) => {
                Self::Other(b'l', [count(log.limit()), whole_micros(log.length())?, 0.0, 0.0, 0.0], 2)
            }
            // Deny all, and what is not known yet.
            _ => Self::Stateless { admits: false },
        })
    }

    /// Appends the rule as the script reads it, which is run at about this time.
    pub(super) fn write(&self, to: &mut Vec<u8>, about: Timestamp) {
        match self {
            Self::Stateless { .. } => {}
            Self::Meter(meter) => {
                let [full, full_part] = meter.pair(meter.capacity);
                let [spent, spent_part] = meter.pair(meter.capacity - meter.initial);
                let [rest, rest_part] =
                    meter.split(u128::from(meter.rest.as_nanos()) * u128::from(meter.fine));
                to.push(self.letter());
                doubles(to, &[full, full_part, exact(meter.parts()), spent, spent_part, rest, rest_part]);
            }
            Self::Periods(window) => {
                to.push(self.letter());
                doubles(to, &[exact(window.limit().into()), exact(window.carry_over().into())]);
                match window.windows() {
                    Windows::Epoch { length } => doubles(to, &[micros(length)]),
                    windows => doubles(to, &edges(&windows, about)),
                }
            }
            Self::Other(kind, numbers, count) => {
                to.push(*kind);
                doubles(to, &numbers[..*count]);
            }
        }
    }

    /// A cost as the script reads it.
    pub(super) fn cost(&self, cost: u32) -> [f64; 2] {
        match self {
            Self::Meter(meter) => meter.pair(cost.into()),
            Self::Stateless { .. } | Self::Periods(_) | Self::Other(..) => [f64::from(cost), 0.0],
        }
    }

    const fn letter(&self) -> u8 {
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
    pub(super) fn read_state(&self, value: &[u8]) -> Option<State> {
        let (letter, numbers) = value.split_first()?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        if *letter != self.letter() || !rest.is_empty() {
            return None;
        }
        let number = |index: usize| numbers.get(index).map(|bytes| whole(f64::from_le_bytes(*bytes)));
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
    pub(super) fn write_state(&self, state: &State) -> Vec<u8> {
        let mut value = vec![self.letter()];
        let moment = |moment: Timestamp| exact(u128::from(moment.as_nanos() / MICRO));
        let count = |count: u64| exact(count.into());
        match (self, state) {
            (Self::Meter(meter), State::Arrival(at) | State::Bucket(Bucket::Greedy(at))) => {
                let parts = u128::from(at.nanos) * u128::from(meter.fine)
                    + u128::from(at.fraction.min(meter.fine - 1));
                doubles(&mut value, &meter.split(parts));
            }
            (_, State::Bucket(Bucket::Interval(deficit))) => {
                doubles(&mut value, &[count(deficit.missing), moment(deficit.since)]);
            }
            (Self::Periods(_), State::Window(window)) => {
                doubles(&mut value, &[moment(window.start), count(window.before), count(window.used)]);
            }
            (_, State::Window(window)) => doubles(&mut value, &[moment(window.start), count(window.used)]),
            (_, State::Pair(pair)) => {
                doubles(&mut value, &[moment(pair.start), count(pair.previous), count(pair.current)]);
            }
            (_, State::Log(log)) => {
                for (at, sum) in log.entries() {
                    doubles(&mut value, &[moment(at), count(sum)]);
                }
            }
            _ => {}
        }
        value
    }
}

/// How many edges of windows the script is told: it decides by one window before its own and three after it, and its own may
/// be two before or after the one that it was last heard to be in.
const EDGES: usize = 9;
/// Which of them is the start of the window that it was heard to be in.
const PRESENT: usize = 3;

/// The edges of the windows around a moment, in microseconds.
fn edges(windows: &Windows, about: Timestamp) -> [f64; EDGES] {
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

/// Appends numbers, least significant byte first.
pub(super) fn doubles(to: &mut Vec<u8>, numbers: &[f64]) {
    for number in numbers {
        to.extend(number.to_le_bytes());
    }
}
