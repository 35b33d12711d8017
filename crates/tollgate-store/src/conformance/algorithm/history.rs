//! What happens to one key in one case.

use tollgate_core::algorithm::Algorithm;
use tollgate_core::{Nanos, Timestamp};

use super::super::random::Random;

/// The sizes that matter to a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// How much it holds.
    capacity: u64,
    /// How long it takes to recover, in nanoseconds.
    recovery: u64,
}

impl Scale {
    pub(super) fn of<A: Algorithm>(rule: &A) -> Self {
        let now = Timestamp::from_secs(1_700_000_000);
        let capacity = rule.decide(&rule.fresh(now), now, 0).limit;
        let recovery = rule.vacant_at(&rule.with_available(0, now)).since(now).as_nanos();
        Self { capacity, recovery: recovery.clamp(1, 20 * YEAR) }
    }

    fn cost(self, random: &mut Random) -> u32 {
        let capacity = u32::try_from(self.capacity).unwrap_or(u32::MAX);
        let part = u32::try_from(random.below(u64::from(capacity) + 1)).unwrap_or(u32::MAX);
        let huge = if random.one_in(8) { u32::MAX } else { 1 };
        random.pick(&[0, 1, 1, 1, 2, part, part, capacity / 2, capacity, capacity.saturating_add(1), huge])
    }

    fn length(self, random: &mut Random) -> Nanos {
        let recovery = self.recovery;
        let each = (recovery / self.capacity.max(1)).max(1);
        let (part, longer) = (random.below(recovery), random.below(3 * recovery));
        Nanos::new(random.pick(&[1, each, each, part, part, longer, recovery - 1, recovery, SECOND, DAY]))
    }
}

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const YEAR: u64 = 365 * DAY;

/// The moments at which arithmetic ends.
const EDGES: [u64; 8] = [0, 1, SECOND, 1 << 53, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX];

/// One case.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) start: Timestamp,
    /// Whether times and costs are such as never occur: then nothing is demanded but that an answer comes.
    pub(super) is_wild: bool,
    pub(super) steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Ask(u32),
    Forward(Nanos),
    Back(Nanos),
    /// Goes to the moment at which the latest denial said to retry; or to a nanosecond before.
    Retry {
        early: bool,
    },
    /// Gives back the n-th of the grants that are still held.
    Refund(usize),
    /// Makes a state with so much left, and goes on from it.
    Leave(u64),
    /// Takes without having asked.
    Book(u32),
    /// Goes to any moment at all.
    Jump(Timestamp),
}

impl History {
    pub(super) fn generate(random: &mut Random, scale: Scale) -> Self {
        let is_wild = random.one_in(4);
        // Else between two days after the epoch and the year 2060, so that neither end of time is met.
        let start = if is_wild { random.pick(&EDGES) } else { random.below(90 * YEAR).max(2 * DAY) };
        let step = if is_wild { wild } else { tame };
        let steps = (0..4 + random.below(20)).map(|_| step(random, scale)).collect();
        Self { start: Timestamp::from_nanos(start), is_wild, steps }
    }
}

fn tame(random: &mut Random, scale: Scale) -> Step {
    let index = usize::try_from(random.below(4)).unwrap_or(0);
    match random.below(20) {
        0..=8 => Step::Ask(scale.cost(random)),
        9..=12 => Step::Forward(scale.length(random)),
        13..=14 => Step::Retry { early: random.one_in(2) },
        15..=16 => Step::Refund(index),
        17 => Step::Leave(random.below(scale.capacity.saturating_add(2))),
        _ => Step::Back(scale.length(random)),
    }
}

fn wild(random: &mut Random, scale: Scale) -> Step {
    let (cost, any) = (scale.cost(random), random.next());
    let moment = random.pick(&EDGES).wrapping_add(random.pick(&[0, 0, 1, scale.recovery, any]));
    match random.below(8) {
        0..=2 => Step::Ask(random.pick(&[0, 1, cost, u32::MAX - 1, u32::MAX])),
        3..=4 => Step::Jump(Timestamp::from_nanos(moment)),
        5 => Step::Refund(usize::try_from(random.below(4)).unwrap_or(0)),
        6 => Step::Leave(random.pick(&EDGES)),
        _ => Step::Book(random.pick(&[0, 1, cost, u32::MAX])),
    }
}
