//! Random limits, and random things that happen to one key of them.

use proptest::prelude::*;
use tollgate_core::algorithm::calendar::Starts;
use tollgate_core::algorithm::{Calendar, FixedWindow, Gcra, LeakyBucket, Refill, TokenBucket, Windows};
use tollgate_core::{Grant, Limit, Nanos, Quota, Retry, State, Step, Timestamp};

pub(crate) const DAY: u64 = 86_400_000_000_000;

/// The algorithms that keep a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Gcra,
    Greedy,
    Interval,
    Leaky,
    Fixed,
    /// Windows of a calendar, or such that carry over.
    Periods,
    Sliding,
    Log,
}

pub(crate) const RULES: [Rule; 8] = [
    Rule::Gcra,
    Rule::Greedy,
    Rule::Interval,
    Rule::Leaky,
    Rule::Fixed,
    Rule::Periods,
    Rule::Sliding,
    Rule::Log,
];

/// Days of which every hundredth has 23 hours, and every fiftieth beside it 25.
fn uneven_days() -> Calendar {
    const HOUR: u64 = DAY / 24;
    Calendar::named("promises: uneven days", Nanos::new(DAY), || {
        // A hundred days, the last of 23 hours, then fifty, the last of 25.
        let run = |first, count| Starts { first: Timestamp::from_nanos(first), step: Nanos::new(DAY), count };
        let pairs = (0..330).map(|pair| pair * 150 * DAY);
        pairs.flat_map(|first| [run(first, 100), run(first + 100 * DAY - HOUR, 50)]).collect()
    })
}

impl Rule {
    pub(crate) fn of(limit: &Limit) -> Self {
        match limit {
            Limit::Gcra(_) => Self::Gcra,
            Limit::TokenBucket(bucket) if bucket.style() == Refill::Interval => Self::Interval,
            Limit::TokenBucket(_) => Self::Greedy,
            Limit::LeakyBucket(_) => Self::Leaky,
            Limit::FixedWindow(window)
                if window.carry_over() > 0 || matches!(window.windows(), Windows::Calendar(_)) =>
            {
                Self::Periods
            }
            Limit::FixedWindow(_) => Self::Fixed,
            Limit::SlidingWindow(_) => Self::Sliding,
            Limit::SlidingLog(_) => Self::Log,
            other => panic!("{other} keeps no state"),
        }
    }

    /// A limit of this rule; `None` where the numbers cannot be together.
    pub(crate) fn limit(self, quota: Quota, capacity: u64, initial: u64) -> Option<Limit> {
        let bucket = || TokenBucket::new(capacity, quota).ok()?.with_initial(initial.min(capacity)).ok();
        Some(match self {
            Self::Gcra => Gcra::new(quota, capacity).ok()?.into(),
            Self::Greedy => bucket()?.into(),
            Self::Interval => bucket()?.with_refill(Refill::Interval).ok()?.into(),
            Self::Leaky => LeakyBucket::new(capacity, quota).ok()?.into(),
            Self::Fixed => Limit::fixed_window(quota),
            Self::Periods => {
                // Which of the two, and how much is carried over, by numbers that are random anyway.
                let window = if capacity.is_multiple_of(2) || capacity == 1 {
                    FixedWindow::by_calendar(quota.count(), uneven_days())
                } else {
                    FixedWindow::new(quota)
                };
                window.ok()?.with_carry_over(capacity % (quota.count() + 1)).ok()?.into()
            }
            Self::Sliding => Limit::sliding_window(quota),
            Self::Log => Limit::sliding_log(quota.with_count(quota.count().min(12)).ok()?).ok()?,
        })
    }
}

pub(crate) fn period(limit: &Limit) -> u64 {
    limit.quota().expect("a limit that keeps a state has a rate").period().as_nanos()
}

/// The longest that any cost the limit can hold is denied, if the clock never steps back.
pub(crate) fn longest_denial(limit: &Limit) -> u64 {
    let (capacity, quota) = (u128::from(limit.capacity()), limit.quota().unwrap());
    let (count, period) = (u128::from(quota.count()), u128::from(quota.period().as_nanos()));
    let longest = match Rule::of(limit) {
        Rule::Gcra | Rule::Greedy | Rule::Leaky => (capacity * period).div_ceil(count),
        Rule::Interval => capacity.div_ceil(count) * period,
        Rule::Fixed | Rule::Log => period,
        // An hour more than a day, twice.
        Rule::Periods => 2 * (period + period / 24 + 1),
        Rule::Sliding => 2 * period,
    };
    u64::try_from(longest).unwrap()
}

pub(crate) fn limits(rules: &'static [Rule]) -> impl Strategy<Value = Limit> {
    const PERIODS: [u64; 9] =
        [1, 7, 1_000_000, 999_999_937, 1_000_000_000, 60_000_000_000, DAY, 365 * DAY, 0];
    const COUNTS: [u64; 10] = [1, 1, 2, 3, 7, 10, 1_000, 1_001, 9_999_991, 0];
    let small = |raw: u64| raw % 11 + 1;
    let numbers = (0..PERIODS.len(), 0..COUNTS.len(), any::<[u64; 3]>(), any::<u8>());
    (prop::sample::select(rules), numbers).prop_filter_map(
        "numbers that cannot be together",
        move |(rule, (period, count, raw, shape))| {
            // Zero stands for any number.
            let period = if PERIODS[period] == 0 { raw[0] % DAY + 1 } else { PERIODS[period] };
            let count = if COUNTS[count] == 0 { raw[1] % 10_000_000 + 1 } else { COUNTS[count] };
            let quota = Quota::new(count, Nanos::new(period)).ok()?;
            let capacity = match shape % 3 {
                0 => count,
                1 => small(raw[2]),
                _ => raw[2] % 10_000_000 + 1,
            };
            let initial = if shape / 3 % 4 == 0 { small(raw[2] >> 32) - 1 } else { u64::MAX };
            rule.limit(quota, capacity, initial)
        },
    )
}

/// Between two days after the epoch and the year 2100: neither end of time is near.
pub(crate) fn starts() -> impl Strategy<Value = Timestamp> {
    (2 * DAY..4_102_444_800_000_000_000).prop_map(Timestamp::from_nanos)
}

/// Something that happens. Numbers are raw: the limit gives them their size.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Ask {
        shape: u8,
        raw: u32,
    },
    Forward {
        shape: u8,
        raw: u64,
    },
    /// To the moment at which the latest denial said to retry, or to just before.
    Retry {
        early: bool,
    },
    /// Gives back one of the grants that are still held.
    Refund(usize),
    Backward {
        shape: u8,
        raw: u64,
    },
}

/// Histories in which time only moves forward and nothing is given back.
pub(crate) fn forward_events() -> impl Strategy<Value = Vec<Event>> {
    events(10, 0..48)
}

/// Histories in which anything happens.
pub(crate) fn any_events() -> impl Strategy<Value = Vec<Event>> {
    events(13, 0..24)
}

/// Events of the first few kinds. Two raw numbers for each, as a strategy of strategies takes ten times as long.
fn events(kinds: u8, length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Event>> {
    let event = move |(kind, raw): (u8, u64)| {
        let [shape, low, ..] = raw.to_le_bytes();
        match kind % kinds {
            0..5 => Event::Ask { shape, raw: (raw >> 32) as u32 },
            5..8 => Event::Forward { shape, raw },
            8 | 9 => Event::Retry { early: shape % 2 == 0 },
            10 | 11 => Event::Refund(low.into()),
            _ => Event::Backward { shape, raw },
        }
    };
    prop::collection::vec((any::<u8>(), any::<u64>()).prop_map(event), length)
}

/// A cost of about the size that a limit holds.
pub(crate) fn cost(limit: &Limit, shape: u8, raw: u32) -> u32 {
    let capacity = u32::try_from(limit.capacity()).unwrap_or(u32::MAX);
    match shape % 8 {
        0 => 0,
        1..=3 => 1,
        4 => capacity,
        5 => capacity / 2 + 1,
        6 => capacity.saturating_add(1),
        _ => raw % capacity.max(1),
    }
}

/// A length of time of about the size that matters to a limit.
pub(crate) fn length(limit: &Limit, shape: u8, raw: u64) -> Nanos {
    let period = period(limit);
    Nanos::new(match shape % 8 {
        0 => 0,
        1 => 1,
        2 => period,
        3 => raw % period,
        4 => raw % period.saturating_mul(3).min(2 * 365 * DAY),
        5 => raw % longest_denial(limit).clamp(1, 2 * 365 * DAY),
        6 => period - 1,
        _ => (period / limit.quota().unwrap().count()).max(1),
    })
}

/// One key of one limit.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) limit: Limit,
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    pub(crate) grants: Vec<Grant>,
    retry_after: Nanos,
}

/// What an event came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happened {
    Admitted(u32),
    Refunded(u32),
    Nothing,
}

impl Key {
    pub(crate) fn new(limit: Limit, start: Timestamp) -> Self {
        Self { limit, state: limit.fresh(start), now: start, grants: Vec::new(), retry_after: Nanos::ZERO }
    }

    /// A key to which all this has happened.
    pub(crate) fn after(limit: Limit, start: Timestamp, events: &[Event]) -> Self {
        let mut key = Self::new(limit, start);
        for event in events {
            key.play(*event);
        }
        key
    }

    pub(crate) fn play(&mut self, event: Event) -> Happened {
        match event {
            Event::Ask { shape, raw } => {
                let step = self.ask(cost(&self.limit, shape, raw));
                if let Retry::After(wait) = step.decision.retry_after {
                    self.retry_after = wait;
                }
                if let Some(grant) = step.grant {
                    self.grants.push(grant);
                    return Happened::Admitted(grant.cost);
                }
            }
            Event::Forward { shape, raw } => {
                self.now = self.now.saturating_add(length(&self.limit, shape, raw));
                self.retry_after = Nanos::ZERO;
            }
            Event::Retry { early } => {
                let wait = self.retry_after.as_nanos().saturating_sub(u64::from(early));
                self.now = self.now.saturating_add(Nanos::new(wait));
                self.retry_after = Nanos::ZERO;
            }
            Event::Refund(raw) if !self.grants.is_empty() => {
                let grant = self.grants.swap_remove(raw % self.grants.len());
                self.limit.give_back(&mut self.state, self.now, grant);
                return Happened::Refunded(grant.cost);
            }
            Event::Refund(_) => {}
            Event::Backward { shape, raw } => {
                self.now = self.now.saturating_sub(length(&self.limit, shape, raw).min(Nanos::new(DAY)));
                self.retry_after = Nanos::ZERO;
            }
        }
        Happened::Nothing
    }

    pub(crate) fn ask(&mut self, cost: u32) -> Step {
        self.limit.acquire(&mut self.state, self.now, cost)
    }

    /// What is left, without taking anything.
    pub(crate) fn remaining(&self) -> u64 {
        self.limit.decide(&self.state, self.now, 0).remaining
    }

    /// Whether a cost would be admitted at another time.
    pub(crate) fn admits_at(&self, now: Timestamp, cost: u32) -> bool {
        let looked = self.limit.decide(&self.state, now, cost).allowed;
        let asked = self.limit.acquire(&mut self.state.clone(), now, cost).decision.allowed;
        assert_eq!(looked, asked, "a look and a request disagree");
        asked
    }
}
