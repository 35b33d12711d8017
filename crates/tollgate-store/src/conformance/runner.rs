//! Runs histories on a store and on the model, and compares.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tollgate_core::packed::LAST_MOMENT;
use tollgate_core::{
    Answer, Decision, Former, Grant, Group, Hit, KeyHash, Limit, LimitId, Nanos, Retry, Source, Timestamp,
    combined,
};

use super::Subject;
use super::history::{History, Kind, Step};
use super::model::{Booking, Model};
use super::random::Random;
use crate::store::{LocalStore, Refund, StoreError};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the histories: the same seed gives the same ones.
    pub seed: u64,
    /// How many histories to run.
    pub cases: u64,
    /// The kinds of limits to use; all by default.
    pub kinds: Vec<Kind>,
    /// The finest step of the store's clock: all times are multiples of it. One nanosecond by default.
    pub resolution: Nanos,
    /// Which limits the store can keep; all by default.
    pub fits: fn(&Limit) -> bool,
}

impl Options {
    /// `cases` histories of all kinds of limits.
    pub fn new(seed: u64, cases: u64) -> Self {
        Self { seed, cases, kinds: Kind::ALL.to_vec(), resolution: Nanos::new(1), fits: |_| true }
    }
}

/// What was run without a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Histories.
    pub cases: u64,
    /// Requests decided, peeks included.
    pub decisions: u64,
    /// How many of them were denied.
    pub denied: u64,
}

/// A history on which a store and the model differ, cut down to the steps that matter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mismatch {
    /// The seed of the run.
    pub seed: u64,
    /// Which history of the run it was, from 0.
    pub case: u64,
    /// The steps, each in a line, the last of which differs.
    pub steps: Vec<String>,
    /// What the model says.
    pub expected: String,
    /// What the store says.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the store differs from the model in case {} of seed {}:", self.case, self.seed)?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        writeln!(f, "expected {}", self.expected)?;
        write!(f, "found    {}", self.found)
    }
}

impl std::error::Error for Mismatch {}

/// Runs the kit on a store in this process.
///
/// # Errors
/// The first history on which the store and the model differ.
pub fn run_local<S: LocalStore>(store: &S, options: Options) -> Result<Summary, Mismatch> {
    let mut running = pin!(run(store, options));
    loop {
        // The futures of a local store are ready at once.
        if let Poll::Ready(result) = running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

/// Runs the kit on any store.
///
/// # Errors
/// The first history on which the store and the model differ. A store that cannot answer differs.
pub async fn run<S: Subject>(subject: &S, options: Options) -> Result<Summary, Mismatch> {
    let mut summary = Summary::default();
    let mut attempts = 0;
    let mut random = Random::new(options.seed);
    for case in 0..options.cases {
        let history = History::generate(&mut random, &options.kinds, options.fits);
        let resolution = options.resolution;
        attempts += 1;
        let Err(difference) =
            replay(subject, &history, resolution, Keys::new(options.seed, attempts), &mut summary).await
        else {
            summary.cases += 1;
            continue;
        };
        let (history, difference) =
            shrink(subject, history, resolution, difference, options.seed, &mut attempts).await;
        let mut steps = vec![format!("start at {:?} with {:?}", history.start, history.limits)];
        steps.extend(history.steps.iter().take(difference.step + 1).map(|step| format!("{step:?}")));
        let Difference { expected, found, .. } = difference;
        return Err(Mismatch { seed: options.seed, case, steps, expected, found });
    }
    Ok(summary)
}

/// Leaves out steps, last first, as long as the two still differ.
async fn shrink<S: Subject>(
    subject: &S,
    mut history: History,
    resolution: Nanos,
    mut difference: Difference,
    seed: u64,
    attempts: &mut u64,
) -> (History, Difference) {
    history.steps.truncate(difference.step + 1);
    let mut index = history.steps.len();
    while index > 0 {
        index -= 1;
        let mut shorter = history.clone();
        shorter.steps.remove(index);
        *attempts += 1;
        let keys = Keys::new(seed, *attempts);
        if let Err(found) = replay(subject, &shorter, resolution, keys, &mut Summary::default()).await {
            shorter.steps.truncate(found.step + 1);
            index = index.min(shorter.steps.len());
            (history, difference) = (shorter, found);
        }
    }
    (history, difference)
}

/// Keys that no other history uses, so that one store serves them all.
struct Keys(Random);

impl Keys {
    fn new(seed: u64, attempt: u64) -> Self {
        Self(Random::new(seed ^ attempt.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }

    fn next(&mut self) -> KeyHash {
        KeyHash(u128::from(self.0.next()) << 64 | u128::from(self.0.next()))
    }
}

/// Where a store and the model differ.
struct Difference {
    step: usize,
    expected: String,
    found: String,
}

/// A limit under test, the key that it counts by, and what it was before.
struct Slot {
    identity: KeyHash,
    limit: Limit,
    /// The latest first.
    formers: Vec<Former>,
}

impl Slot {
    /// The number of the limit's keys.
    fn number(&self) -> u64 {
        self.formers.len() as u64
    }

    fn key(&self) -> KeyHash {
        self.identity.nth(self.number())
    }

    fn hit(&self, cost: u32) -> Hit<'_> {
        Hit::new(LimitId(0), self.key(), &self.limit).with_cost(cost).with_formers(&self.formers)
    }

    fn change(&mut self, limit: Limit) {
        let now = self.number() + 1;
        let mut limits: Vec<Limit> = self.formers.iter().map(|former| *former.limit()).collect();
        limits.insert(0, self.limit);
        let former = |(number, limit)| Former::new(limit, number, now);
        self.formers = (0..now).rev().zip(limits).map(former).collect();
        self.limit = limit;
    }
}

/// What the model remembers of a key.
#[derive(Clone)]
struct Remembered {
    model: Model,
    limit: Limit,
    /// Whether there was a moment at which the state was vacant: a store may have forgotten it then, also if the clock
    /// was set back afterwards.
    forgettable: bool,
}

type World = BTreeMap<KeyHash, Remembered>;

/// What was taken, as the store and as the model note it.
struct Held {
    key: KeyHash,
    limit: Limit,
    grant: Grant,
    booking: Booking,
}

/// What the model says of a request.
struct Expected {
    allowed: bool,
    decisions: Vec<Decision>,
    bookings: Vec<Option<Booking>>,
    world: World,
}

async fn replay<S: Subject>(
    subject: &S,
    history: &History,
    resolution: Nanos,
    mut keys: Keys,
    summary: &mut Summary,
) -> Result<(), Difference> {
    let mut slots: Vec<Slot> = history
        .limits
        .iter()
        .map(|limit| Slot { identity: keys.next(), limit: *limit, formers: Vec::new() })
        .collect();
    let mut world = World::new();
    let mut held: Vec<Held> = Vec::new();
    let tick = resolution.as_nanos().max(1);
    let rounded = |length: Nanos| Nanos::new(length.as_nanos().next_multiple_of(tick));
    let start = Timestamp::from_nanos(history.start.as_nanos() / tick * tick);
    let (mut now, mut retry_after) = (start, None);

    for (index, step) in history.steps.iter().enumerate() {
        let failed = |error: StoreError| Difference {
            step: index,
            expected: "an answer".to_owned(),
            found: error.to_string(),
        };
        for remembered in world.values_mut() {
            let vacant_at = remembered.model.vacant_at(&remembered.limit);
            remembered.forgettable |= vacant_at <= i128::from(now.as_nanos());
        }
        match step {
            Step::Forward(by) => now = later(now, rounded(*by)),
            Step::Backward(by) => now = now.saturating_sub(rounded(*by)).max(Timestamp::from_secs(86_400)),
            Step::Retry { early } => {
                let wait = rounded(retry_after.take().unwrap_or(Nanos::ZERO)).as_nanos();
                now = later(now, Nanos::new(wait.saturating_sub(u64::from(*early) * tick)));
            }
            Step::Reset(slot) => {
                let slot = &slots[*slot];
                let of_formers = slot.formers.iter().map(|former| former.key(slot.key()));
                let keys: Vec<KeyHash> = std::iter::once(slot.key()).chain(of_formers).collect();
                subject.reset(&keys).await.map_err(failed)?;
                for key in keys {
                    world.remove(&key);
                }
            }
            Step::Change(slot, limit) => {
                slots[*slot].change(*limit);
            }
            Step::Refund(index) => {
                if *index < held.len() {
                    let Held { key, limit, grant, booking } = held.swap_remove(*index);
                    subject
                        .refund_at(now, &[Refund { key, limit: &limit, grant, source: Source::Memory }])
                        .await
                        .map_err(failed)?;
                    if let Some(remembered) = world.get_mut(&key) {
                        remembered.model.give_back(&limit, now, booking);
                    }
                }
            }
            Step::Acquire { hits, .. } | Step::Peek { hits } => {
                let asked: Vec<Hit<'_>> = hits.iter().map(|(slot, cost)| slots[*slot].hit(*cost)).collect();
                let mut groups = vec![Group::all(&asked)];
                let answer = if let Step::Acquire { combine, shadow, .. } = step {
                    groups[0].combine = *combine;
                    groups[0].shadow = *shadow;
                    subject.acquire_at(now, &groups).await
                } else {
                    subject.peek_at(now, &groups).await
                };
                let answer = answer.map_err(failed)?;
                let takes = matches!(step, Step::Acquire { .. });
                let expected = agreeing(&world, now, &groups, takes, &answer)
                    .map_err(|expected| Difference { step: index, expected, found: format!("{answer:?}") })?;
                summary.decisions += 1;
                summary.denied += u64::from(!answer.allowed);
                for (index, hit) in asked.iter().enumerate() {
                    let (grant, booking) = (answer.outcomes[index].grant, expected.bookings[index]);
                    if let (Some(grant), Some(booking)) = (grant, booking) {
                        held.push(Held { key: hit.key, limit: *hit.limit, grant, booking });
                    }
                    if let Retry::After(wait) = answer.outcomes[index].decision.retry_after {
                        retry_after = Some(wait);
                    }
                }
                world = expected.world;
            }
        }
    }
    Ok(())
}

/// A later moment, unless it lies beyond those that stores can count by: then time stands still.
fn later(now: Timestamp, by: Nanos) -> Timestamp {
    let later = now.saturating_add(by);
    if later > LAST_MOMENT { now } else { later }
}

/// The model's own answer that equals the store's: one for each choice of states that the store may have forgotten.
fn agreeing(
    world: &World,
    now: Timestamp,
    groups: &[Group<'_>],
    takes: bool,
    answer: &Answer,
) -> Result<Expected, String> {
    let touched = groups
        .iter()
        .flat_map(|group| group.hits)
        .flat_map(|hit| std::iter::once(hit.key).chain(hit.formers.iter().map(|former| former.key(hit.key))));
    let doubtful: Vec<KeyHash> =
        touched.filter(|key| world.get(key).is_some_and(|remembered| remembered.forgettable)).collect();
    let mut first = None;
    for choice in 0..1_u32 << doubtful.len() {
        let mut world = world.clone();
        for (bit, key) in doubtful.iter().enumerate() {
            if choice >> bit & 1 == 1 {
                world.remove(key);
            }
        }
        let expected = decide(world, now, groups, takes);
        let agrees = expected.allowed == answer.allowed
            && expected.decisions.len() == answer.outcomes.len()
            && expected.decisions.iter().zip(&answer.outcomes).all(|(own, other)| *own == other.decision)
            && expected
                .bookings
                .iter()
                .zip(&answer.outcomes)
                .all(|(own, other)| own.is_some() == other.grant.is_some());
        if agrees {
            return Ok(expected);
        }
        first.get_or_insert_with(|| format!("{:?} {:?}", expected.allowed, expected.decisions));
    }
    Err(first.unwrap_or_default())
}

fn decide(mut world: World, now: Timestamp, groups: &[Group<'_>], takes: bool) -> Expected {
    let instant = i128::from(now.as_nanos());
    let hits: Vec<&Hit<'_>> = groups.iter().flat_map(|group| group.hits).collect();
    let mut states: Vec<Option<Model>> = Vec::new();
    for hit in &hits {
        let own = world.get(&hit.key).map(|own| &own.model).filter(|own| own.vacant_at(hit.limit) > instant);
        let mut state = own.cloned().or_else(|| Model::with_available(hit.limit, None, now));
        let left = |model: &Model, limit: &Limit| i128::from(model.decide(limit, now, 0, false).remaining);
        let alive = |former: &&Former| {
            let remembered = world.get(&former.key(hit.key));
            remembered.is_some_and(|remembered| remembered.model.vacant_at(former.limit()) > instant)
        };
        let formers: Vec<&Former> = hit.formers.iter().filter(alive).collect();
        if !formers.is_empty() && !matches!(hit.limit, Limit::Unlimited | Limit::DenyAll) {
            let carried = formers
                .iter()
                .filter_map(|former| {
                    world[&former.key(hit.key)].model.carried(hit.limit, former.limit(), now)
                })
                .min_by_key(|carried| left(carried, hit.limit));
            let is_less =
                |carried: &Model| own.is_none_or(|own| left(carried, hit.limit) < left(own, hit.limit));
            if carried.as_ref().is_some_and(is_less) {
                state = carried;
            }
            if takes {
                for former in hit.formers {
                    world.remove(&former.key(hit.key));
                }
            }
        }
        states.push(state);
    }
    let decision = |index: usize, taken: bool| match &states[index] {
        Some(state) => state.decide(hits[index].limit, now, hits[index].cost, taken),
        None if matches!(hits[index].limit, Limit::Unlimited) => Decision::unlimited(),
        None => Decision::deny_all(),
    };
    let admits: Vec<bool> = (0..hits.len()).map(|index| decision(index, false).allowed).collect();
    let (passes, mut taken) = combined(groups, &admits);
    if !takes {
        taken.fill(false);
    }
    let decisions = (0..hits.len()).map(|index| decision(index, taken[index])).collect();
    let mut bookings = Vec::new();
    for (index, (hit, state)) in hits.iter().zip(states).enumerate() {
        let Some(mut model) = state else {
            bookings.push(taken[index].then(Booking::nothing));
            continue;
        };
        if takes {
            model.settle(hit.limit, now);
            bookings.push(taken[index].then(|| model.take(hit.limit, now, hit.cost)));
            world.insert(hit.key, Remembered { model, limit: *hit.limit, forgettable: false });
        } else {
            bookings.push(None);
        }
    }
    Expected { allowed: passes, decisions, bookings, world }
}
