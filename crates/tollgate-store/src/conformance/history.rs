//! What happens to a store in one case.

use tollgate_core::algorithm::{FixedWindow, Gcra, LeakyBucket, Refill, TokenBucket};
use tollgate_core::quota::MAX_COUNT;
use tollgate_core::{Combine, Limit, Nanos, Quota, Timestamp};

use super::calendars::CALENDARS;
use super::random::Random;

/// A kind of limit that histories can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A steady rate with a burst.
    Gcra,
    /// A token bucket that refills steadily.
    TokenBucket,
    /// A token bucket that refills by the batch.
    IntervalBucket,
    /// A leaky bucket as a meter.
    LeakyBucket,
    /// A fixed window.
    FixedWindow,
    /// A fixed window of a calendar.
    Calendar,
    /// A sliding window counter.
    SlidingWindow,
    /// A sliding log.
    SlidingLog,
    /// The limits that need no state: unlimited, and deny all.
    Stateless,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Gcra,
        Self::TokenBucket,
        Self::IntervalBucket,
        Self::LeakyBucket,
        Self::FixedWindow,
        Self::Calendar,
        Self::SlidingWindow,
        Self::SlidingLog,
        Self::Stateless,
    ];
}

/// One case: some limits, and what happens to them.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) start: Timestamp,
    pub(super) limits: Vec<Limit>,
    pub(super) steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Acquire {
        hits: Vec<(usize, u32)>,
        combine: Combine,
        shadow: bool,
    },
    Peek {
        hits: Vec<(usize, u32)>,
    },
    /// Gives back the n-th of the grants that are still held.
    Refund(usize),
    Reset(usize),
    Change(usize, Limit),
    Forward(Nanos),
    Backward(Nanos),
    /// Goes to the moment at which the latest denial said to retry; or to a nanosecond before.
    Retry {
        early: bool,
    },
}

/// The longest step back, and the room that times keep to the end of their range.
const DAY: u64 = 86_400_000_000_000;

impl History {
    pub(super) fn generate(random: &mut Random, kinds: &[Kind], fits: fn(&Limit) -> bool) -> Self {
        // Between two days after the epoch and the year 2060, so that neither end of the range is met.
        let start = Timestamp::from_nanos(random.below(2_840_140_800_000_000_000).max(2 * DAY));
        let limits: Vec<Limit> = (0..=random.below(3)).map(|_| limit(random, kinds, fits)).collect();
        let steps = (0..8 + random.below(24)).map(|_| step(random, kinds, fits, &limits)).collect();
        Self { start, limits, steps }
    }
}

fn step(random: &mut Random, kinds: &[Kind], fits: fn(&Limit) -> bool, limits: &[Limit]) -> Step {
    let slot = |random: &mut Random| usize::try_from(random.below(limits.len() as u64)).unwrap_or(0);
    match random.below(32) {
        0..=13 => Step::Acquire {
            hits: hits(random, limits),
            combine: random.pick(&[Combine::All, Combine::All, Combine::Any, Combine::Majority]),
            shadow: random.one_in(8),
        },
        14..=16 => Step::Peek { hits: hits(random, limits) },
        17..=18 => Step::Refund(usize::try_from(random.below(4)).unwrap_or(0)),
        19 => Step::Reset(slot(random)),
        20 => Step::Change(slot(random), limit(random, kinds, fits)),
        21..=22 => Step::Backward(Nanos::new(random.pick(&[1, 1_000_000, 1_000_000_000, DAY]))),
        23..=26 => Step::Retry { early: random.one_in(2) },
        _ => {
            let index = slot(random);
            let period = limits[index].quota().map_or(1, |quota| quota.period().as_nanos());
            let most = random.pick(&[1, 1_000_000, period, period.saturating_mul(3), 400 * DAY]);
            Step::Forward(Nanos::new(random.below(most.clamp(1, 400 * DAY)) + 1))
        }
    }
}

/// Some of the slots, each at most once, with costs around what their limits hold.
fn hits(random: &mut Random, limits: &[Limit]) -> Vec<(usize, u32)> {
    let first = random.below(limits.len() as u64);
    (0..=random.below(limits.len() as u64))
        .map(|offset| {
            let slot = usize::try_from((first + offset) % limits.len() as u64).unwrap_or(0);
            let capacity = u32::try_from(limits[slot].capacity()).unwrap_or(u32::MAX);
            let part = random.below(u64::from(capacity) + 1);
            let huge = if random.one_in(8) { u32::MAX } else { 1 };
            let cost = random.pick(&[
                0,
                1,
                1,
                1,
                2,
                capacity / 2,
                capacity,
                capacity.saturating_add(1),
                u32::try_from(part).unwrap_or(u32::MAX),
                huge,
            ]);
            (slot, cost)
        })
        .collect()
}

fn limit(random: &mut Random, kinds: &[Kind], fits: fn(&Limit) -> bool) -> Limit {
    // Numbers that cannot be together are drawn again; the first draw nearly always fits.
    loop {
        if let Some(limit) = draw(random, kinds).filter(fits) {
            return limit;
        }
    }
}

fn draw(random: &mut Random, kinds: &[Kind]) -> Option<Limit> {
    let period = random.pick(&[
        1,
        7,
        1_000,
        1_000_000,
        999_999_937,
        1_000_000_000,
        1_000_000_000,
        10_000_000_000,
        60_000_000_000,
        3_600_000_000_000,
        DAY,
        365 * DAY,
    ]);
    let count = random.pick(&[1, 1, 2, 3, 5, 7, 10, 60, 100, 1_000, 9_999_991, 10_000_000, MAX_COUNT]);
    let capacity = random.pick(&[1, 2, 3, 10, 100, 1_000, count]);
    let quota = Quota::new(count, Nanos::new(period)).ok()?;
    Some(match random.pick(kinds) {
        Kind::Gcra => Limit::from(Gcra::new(quota, capacity).ok()?),
        kind @ (Kind::TokenBucket | Kind::IntervalBucket) => {
            let refill = if kind == Kind::TokenBucket { Refill::Greedy } else { Refill::Interval };
            let bucket = TokenBucket::new(capacity, quota).ok()?.with_refill(refill).ok()?;
            let initial = if random.one_in(3) { random.below(capacity + 1) } else { capacity };
            Limit::from(bucket.with_initial(initial).ok()?)
        }
        Kind::LeakyBucket => Limit::from(LeakyBucket::new(capacity, quota).ok()?),
        Kind::FixedWindow => Limit::from(carrying(random, FixedWindow::new(quota).ok()?)?),
        Kind::Calendar => {
            let calendar = CALENDARS[usize::try_from(random.below(3)).ok()?].calendar;
            Limit::from(carrying(random, FixedWindow::by_calendar(count, calendar).ok()?)?)
        }
        Kind::SlidingWindow => Limit::sliding_window(quota),
        Kind::SlidingLog => {
            let count = random.pick(&[1, 2, 3, 10, 30]);
            Limit::sliding_log(quota.with_count(count).ok()?).ok()?
        }
        Kind::Stateless => random.pick(&[Limit::Unlimited, Limit::DenyAll]),
    })
}

/// A window of which something is carried over, or not.
fn carrying(random: &mut Random, window: FixedWindow) -> Option<FixedWindow> {
    let carry = random.pick(&[0, 0, 1, 2, window.limit() / 2, window.limit()]);
    window.with_carry_over(carry).ok()
}
