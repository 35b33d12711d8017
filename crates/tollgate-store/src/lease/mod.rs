//! Deciding in this process what nodes count together.
//!
//! A [`Leased`] store stands before the one that nodes share, and holds for each key a pocket of units.
//!
//! * **Lease**: units are taken from the store ahead of time, and requests are decided by those at hand. When they run
//!   low, more are fetched in the background, as many as are handed out in a while; what is not used goes back. A key that
//!   is asked for the first time waits for one round trip.
//! * **Local-first**: requests are decided at once, and what was handed out is taken from the store afterwards: once in each
//!   sync interval, and sooner when half of what a node may owe is owed. Nobody ever waits.
//!
//! # How much is admitted
//! Let `B` be a limit's burst, `R` its rate, `N` the number of nodes, and `k = max(1, ⌊percent · B / N⌋)` the most that a node
//! holds or owes for a key.
//!
//! With leases the store counts a bucket of `B − N·k` units that fills at `R`. Units only move from there to pockets and
//! back, so in any interval `T` all nodes together admit at most `(B − N·k) + N·k + R·T = B + R·T`: what the limit says.
//! A node that dies takes at most `k` units with it, and they are not handed out again: the bucket fills at its rate
//! whatever became of them. A window's count needs no such part, as what is held of a window lapses when it ends, by the
//! earlier of the two clocks that can be meant. For instance `1000/minute` on four nodes: each holds at most
//! 12 units and the store counts by a burst of 952, so a burst at one of them reaches 952 to 964 while the others hold what
//! they may.
//!
//! Local-first, the store counts by the limit itself, and each node owes at most `k`: `A(T) ≤ B + R·T + N·k`.
//!
//! A key that is asked for again and again although its limit is used up waits for nobody: it is denied, and what comes back is
//! fetched for those who ask later.
//!
//! A node that could hold fewer than four units asks the store for each request instead, as does a sliding log, which
//! remembers when each unit was used. So does a request that costs more than a node may hold.

mod pocket;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tollgate_core::{
    Answer, Clock, Consistency, Grant, Group, Hit, KeyHash, Limit, LimitId, Nanos, Outcome, Outcomes, Source,
    State, Timestamp, combined,
};

use self::pocket::{Fetching, Look, Pocket};
use self::terms::Terms;
use crate::clock::SystemClock;
use crate::regroup::{grouped, shape};
use crate::store::{Refund, Store, StoreError};
use crate::together::{asked, hits};

/// How a node counts ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseOptions {
    /// How limits count that do not say so themselves.
    pub consistency: Consistency,
    /// How many nodes share the store. Where there are more, what they hold beyond adds to the limit.
    pub nodes: u32,
    /// How much of a limit's burst, or of a window's count, all nodes together may hold ahead: 1 to 50 in a hundred.
    pub percent: u32,
    /// How long a request waits for units, where it has to; then the store counts as unavailable for it.
    pub wait: Duration,
    /// After how long units that nobody asks for go back.
    pub idle: Duration,
    /// How often what was handed out is settled, where that comes first.
    pub sync: Duration,
    /// For how many keys units are held, at about 200 bytes each. Further keys are decided by the store.
    pub capacity: usize,
}

impl Default for LeaseOptions {
    /// Strict where limits say nothing; one node, 5 %, 20 ms, 30 s, 1 s and a million keys.
    fn default() -> Self {
        Self {
            consistency: Consistency::Strict,
            nodes: 1,
            percent: 5,
            wait: Duration::from_millis(20),
            idle: Duration::from_secs(30),
            sync: Duration::from_secs(1),
            capacity: 1_000_000,
        }
    }
}

/// A store that nodes share, and that something may stand in for while it is away.
pub trait Common: Store + 'static {
    /// As [`acquire`](Store::acquire), but by the store itself and by nothing that stands in for it.
    ///
    /// # Errors
    /// If the store cannot answer.
    fn acquire_shared(
        &self,
        groups: &[Group<'_>],
    ) -> impl Future<Output = Result<Answer, StoreError>> + Send {
        self.acquire(groups)
    }

    /// What is answered to a request that the store could not decide, for this reason.
    ///
    /// # Errors
    /// The reason, where nothing stands in.
    fn acquire_alone(&self, groups: &[Group<'_>], error: StoreError) -> Result<Answer, StoreError> {
        let _ = groups;
        Err(error)
    }
}

/// A store before another, which decides in this process as far as it can.
///
/// Made within a Tokio runtime, where it keeps a task that lives as long as the store.
#[derive(Debug)]
pub struct Leased<S, C = SystemClock>(Arc<Inner<S, C>>);

#[derive(Debug)]
struct Inner<S, C> {
    store: S,
    clock: C,
    options: LeaseOptions,
    terms: RwLock<HashMap<(LimitId, Consistency), Known>>,
    pockets: Box<[Mutex<Shard>]>,
    /// Whether there is a limit for which anything is owed.
    owes: AtomicBool,
}

/// A part of the pockets, under one lock.
type Shard = HashMap<KeyHash, Held, BuildHasherDefault<Hashed>>;

/// Keys are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    // The lower half is what maps go by; the shard was chosen by the upper.
    #[allow(clippy::cast_possible_truncation)]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

/// A limit, and the terms that were found for it, if there are any.
type Known = (Limit, Option<Arc<Terms>>);

#[derive(Debug)]
struct Held {
    id: LimitId,
    pocket: Pocket,
}

/// In how many parts the pockets are locked.
const SHARDS: usize = 256;

/// How often a request looks again after something was fetched for it, or was taken by another meanwhile.
const TURNS: usize = 4;

/// How often a fetch asks for what is there after it was refused more.
const TRIES: usize = 3;

/// How many units of how many keys go back at once.
const RETURNED_AT_ONCE: usize = 64;

/// How a group's limits are counted.
struct Plan<'g> {
    group: Group<'g>,
    /// For each hit its terms, or none if it needs no memory; `None` if the store decides the group.
    local: Option<SmallVec<[Option<Arc<Terms>>; 4]>>,
}

impl<S: Common, C: Clock + 'static> Leased<S, C> {
    /// Stands before a store. The clock need not agree with the store's: it only measures lengths.
    pub fn new(store: S, clock: C, options: LeaseOptions) -> Self {
        let inner = Arc::new(Inner {
            store,
            clock,
            terms: RwLock::default(),
            pockets: (0..SHARDS).map(|_| Mutex::default()).collect(),
            owes: AtomicBool::new(false),
            options,
        });
        tokio::spawn(tend(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// The store behind.
    pub fn store(&self) -> &S {
        &self.0.store
    }

    /// For how many keys units are held or owed.
    pub fn pockets(&self) -> usize {
        self.0.pockets.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Gives back all units that are held, and settles what is owed: for a node that is about to end.
    pub async fn hand_back(&self) {
        self.0.settle().await;
        self.0.hand_back(Nanos::ZERO).await;
    }

    /// What the task does now and then: settles what is owed, and gives back what is idle.
    #[cfg(test)]
    pub(crate) async fn tend(&self) {
        self.0.settle().await;
        self.0.hand_back(Nanos::from(self.0.options.idle)).await;
    }
}

/// Settles what is owed in each sync interval, and gives back what nobody asks for, as long as the store lives.
async fn tend<S: Common, C: Clock + 'static>(inner: Weak<Inner<S, C>>) {
    /// How often in the time after which units are idle it is looked for them.
    const LOOKS: u32 = 4;

    let Some((sync, idle)) = inner.upgrade().map(|inner| (inner.options.sync, inner.options.idle)) else {
        return;
    };
    let least = Duration::from_millis(1);
    let (mut syncs, mut looks) =
        (tokio::time::interval(sync.max(least)), tokio::time::interval((idle / LOOKS).max(least)));
    loop {
        let is_sync = tokio::select! { _ = syncs.tick() => true, _ = looks.tick() => false };
        let Some(inner) = inner.upgrade() else { return };
        if is_sync {
            inner.settle().await;
        } else {
            inner.hand_back(Nanos::from(idle)).await;
        }
    }
}

impl<S: Common, C: Clock + 'static> Inner<S, C> {
    fn shard(&self, key: KeyHash) -> MutexGuard<'_, Shard> {
        // Of the upper half the lower bits: all keys of one identity have the upper ones in common.
        #[allow(clippy::cast_possible_truncation)]
        let index = (key.0 >> 64) as usize % SHARDS;
        lock(&self.pockets[index])
    }

    /// The terms of a limit.
    fn terms(&self, hit: &Hit<'_>, consistency: Consistency) -> Option<Arc<Terms>> {
        let at = (hit.id, consistency);
        if let Some((limit, terms)) = self.terms.read().unwrap_or_else(PoisonError::into_inner).get(&at)
            && limit == hit.limit
        {
            return terms.clone();
        }
        let terms = Terms::of(hit.limit, consistency, &self.options).map(Arc::new);
        if terms.as_ref().is_some_and(|terms| terms.owes) {
            // Relaxed: whoever settles comes again.
            self.owes.store(true, Ordering::Relaxed);
        }
        let mut all = self.terms.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(at, (*hit.limit, terms.clone()));
        terms
    }

    fn consistency(&self, group: &Group<'_>) -> Consistency {
        group.sharing.consistency.unwrap_or(self.options.consistency)
    }

    /// Who decides a request's groups.
    fn plan<'g>(&self, groups: &[Group<'g>]) -> SmallVec<[Plan<'g>; 2]> {
        let plan = |group: &Group<'g>| {
            let consistency = self.consistency(group);
            let own = [*group];
            let terms = |(index, hit): (usize, &Hit<'_>)| {
                if !hit.limit.is_stateful() {
                    return Some(None);
                }
                // What is carried over from a changed limit is the store's to say.
                let terms = self.terms(hit, consistency).filter(|_| hit.formers.is_empty())?;
                (asked(&own, index) <= terms.chunk).then_some(Some(terms))
            };
            let local = match consistency {
                Consistency::Strict => None,
                _ => group.hits.iter().enumerate().map(terms).collect(),
            };
            Plan { group: *group, local }
        };
        groups.iter().map(plan).collect()
    }

    async fn decide(self: &Arc<Self>, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        if groups.iter().all(|group| self.consistency(group) == Consistency::Strict) {
            return self.store.acquire(groups).await;
        }
        if let Some(answer) = self.decide_one(groups) {
            return Ok(answer);
        }
        let mut plan = self.plan(groups);
        let mut until = None;
        for turn in 0..TURNS {
            if plan.iter().all(|part| part.local.is_none()) {
                break;
            }
            let now = self.clock.now();
            let (looks, fetches) = self.look(&mut plan, now, turn + 1 < TURNS);
            for fetch in &fetches {
                let until = *until.get_or_insert_with(|| Instant::now() + self.options.wait);
                let late =
                    |_| Err(StoreError::Unavailable(format!("no units within {:?}", self.options.wait)));
                if let Err(error) = timeout_at(until, ended(fetch.clone())).await.unwrap_or_else(late) {
                    return self.store.acquire_alone(groups, error);
                }
            }
            if fetches.is_empty()
                && let Some(answer) = self.decide_by(&plan, &looks, now).await
            {
                return answer;
            }
        }
        // Nothing of it is decided here, or others have come between again and again.
        self.strictly(plan.iter(), true).await
    }

    /// The short way for what most requests are: one hit, whose pocket says what becomes of it.
    fn decide_one(self: &Arc<Self>, groups: &[Group<'_>]) -> Option<Answer> {
        let [group] = groups else { return None };
        let [hit] = group.hits else { return None };
        let now = self.clock.now();
        let mut shard = self.shard(hit.key);
        let held = shard.get_mut(&hit.key)?;
        let terms = &held.pocket.terms;
        let fits = terms.limit == *hit.limit
            && terms.owes == (self.consistency(group) == Consistency::LocalFirst)
            && hit.formers.is_empty()
            && hit.cost <= terms.chunk
            && group.combine.admits(1, 1)
            && !group.combine.admits(0, 1);
        if !fits {
            return None;
        }
        let look = held.pocket.look(now, hit.cost);
        if look == Look::Lacking {
            return None;
        }
        let outcome = self.outcome(hit, held, now, look == Look::Enough, look == Look::Enough);
        Some(Answer {
            allowed: group.shadow || outcome.decision.allowed,
            outcomes: std::iter::once(outcome).collect(),
        })
    }

    /// What the pockets of the groups that are decided here say, and the fetches that may make them say more. A group for
    /// which there is no room becomes the store's to decide.
    fn look(
        self: &Arc<Self>,
        plan: &mut [Plan<'_>],
        now: Timestamp,
        may_fetch: bool,
    ) -> (SmallVec<[Look; 4]>, Vec<Fetching>) {
        let (mut looks, mut fetches) = (SmallVec::new(), Vec::new());
        for part in plan {
            let Some(local) = &part.local else { continue };
            let (own, before) = ([part.group], looks.len());
            for (index, (hit, terms)) in part.group.hits.iter().zip(local).enumerate() {
                let Some(terms) = terms else {
                    let admits = hit.limit.decide(&State::Nothing, now, hit.cost).allowed;
                    looks.push(if admits { Look::Enough } else { Look::Refused });
                    continue;
                };
                let mut shard = self.shard(hit.key);
                let Some(held) = self.held(&mut shard, hit, terms, now) else {
                    part.local = None;
                    looks.truncate(before);
                    break;
                };
                let cost = asked(&own, index);
                let look = held.pocket.look(now, cost);
                if look == Look::Lacking && may_fetch {
                    fetches.push(self.fetch(hit.key, held, cost));
                }
                looks.push(look);
            }
        }
        (looks, fetches)
    }

    /// A key's pocket, which is made if it is not there and there is room.
    fn held<'m>(
        &self,
        shard: &'m mut Shard,
        hit: &Hit<'_>,
        terms: &Arc<Terms>,
        now: Timestamp,
    ) -> Option<&'m mut Held> {
        let is_full = shard.len() >= self.options.capacity.div_ceil(SHARDS);
        match shard.entry(hit.key) {
            Entry::Occupied(entry) => {
                let held = entry.into_mut();
                // A limit that was changed in place: what is held was counted by the former one.
                if !Arc::ptr_eq(&held.pocket.terms, terms) && *held.pocket.terms != **terms {
                    held.pocket = Pocket::new(Arc::clone(terms), now);
                }
                Some(held)
            }
            Entry::Vacant(entry) if !is_full => {
                Some(entry.insert(Held { id: hit.id, pocket: Pocket::new(Arc::clone(terms), now) }))
            }
            Entry::Vacant(_) => None,
        }
    }

    /// Decides by what the pockets have said, unless that has changed.
    async fn decide_by(
        self: &Arc<Self>,
        plan: &[Plan<'_>],
        looks: &[Look],
        now: Timestamp,
    ) -> Option<Result<Answer, StoreError>> {
        let local: SmallVec<[Group<'_>; 2]> =
            plan.iter().filter(|part| part.local.is_some()).map(|part| part.group).collect();
        let admits: SmallVec<[bool; 8]> = looks.iter().map(|look| *look == Look::Enough).collect();
        let (allowed, takes) = combined(&local, &admits);
        let mut own = Outcomes::new();
        for (index, hit) in hits(&local).enumerate() {
            let Some(outcome) = self.take(hit, now, takes[index], admits[index]) else {
                self.put_back(hits(&local), &own, now);
                return None;
            };
            own.push(outcome);
        }
        if local.len() == plan.len() {
            return Some(Ok(Answer { allowed, outcomes: own }));
        }
        // The others are the store's to decide; it is only asked to take if these pass.
        let strict = plan.iter().filter(|part| part.local.is_none());
        let answer = match self.strictly(strict, allowed).await {
            Ok(answer) => answer,
            Err(error) => {
                self.put_back(hits(&local), &own, now);
                return Some(Err(error));
            }
        };
        if !answer.allowed {
            self.put_back(hits(&local), &own, now);
            for (hit, outcome) in hits(&local).zip(&mut own) {
                if outcome.grant.take().is_some() {
                    outcome.decision.remaining = outcome.decision.remaining.saturating_add(hit.cost.into());
                }
            }
        }
        let (mut own, mut others) = (own.into_iter(), answer.outcomes.into_iter());
        let outcomes = plan
            .iter()
            .flat_map(|part| part.group.hits.iter().map(|_| part.local.is_some()))
            .filter_map(|is_local| if is_local { own.next() } else { others.next() })
            .collect();
        Some(Ok(Answer { allowed: allowed && answer.allowed, outcomes }))
    }

    /// Hands out a hit's cost, or says what is there. `None` if it is not there any more.
    fn take(self: &Arc<Self>, hit: &Hit<'_>, now: Timestamp, takes: bool, admits: bool) -> Option<Outcome> {
        if !hit.limit.is_stateful() {
            let step = hit.limit.acquire(&mut State::Nothing, now, hit.cost);
            return Some(Outcome {
                decision: step.decision,
                grant: step.grant.filter(|_| takes),
                source: Source::Lease,
            });
        }
        let mut shard = self.shard(hit.key);
        let held = shard.get_mut(&hit.key)?;
        if takes && held.pocket.look(now, hit.cost) != Look::Enough {
            return None;
        }
        Some(self.outcome(hit, held, now, takes, admits))
    }

    /// Hands out a hit's cost, which is there, or says what is there; and sees to it that there is more soon.
    fn outcome(
        self: &Arc<Self>,
        hit: &Hit<'_>,
        held: &mut Held,
        now: Timestamp,
        takes: bool,
        admits: bool,
    ) -> Outcome {
        held.pocket.touch(now);
        let grant = takes.then(|| held.pocket.take(hit.cost));
        if held.pocket.is_low(now) {
            self.fetch(hit.key, held, 0);
        }
        let source = if held.pocket.terms.owes { Source::LocalFirst } else { Source::Lease };
        Outcome { decision: held.pocket.decision(now, hit.cost, admits), grant, source }
    }

    /// Asks the store for units, at least as many as a cost lacks, unless that is being done. It goes on when nobody waits
    /// for it any more: so nothing that was taken is lost because a request was given up.
    fn fetch(self: &Arc<Self>, key: KeyHash, held: &mut Held, cost: u32) -> Fetching {
        if let Some(fetching) = held.pocket.fetching.clone().filter(|_| held.pocket.is_fetching()) {
            return fetching;
        }
        let missing = held.pocket.missing(cost);
        let units = held.pocket.want(missing);
        let (sender, receiver) = watch::channel(None);
        held.pocket.fetching = Some(receiver.clone());
        let (inner, id, terms) = (Arc::clone(self), held.id, Arc::clone(&held.pocket.terms));
        tokio::spawn(async move {
            let result = inner.fetched(key, id, &terms, units, missing.max(1)).await;
            if let Some(held) = inner.shard(key).get_mut(&key) {
                held.pocket.fetched();
            }
            // Nobody may be waiting.
            let _ = sender.send(Some(result));
        });
        receiver
    }

    /// Asks the store for units, and if it has less, for that, as long as it is what is needed at least.
    async fn fetched(
        &self,
        key: KeyHash,
        id: LimitId,
        terms: &Arc<Terms>,
        mut units: u32,
        least: u32,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let sent = self.clock.now();
            let hits = [Hit::new(id, key, &terms.shared).with_cost(units)];
            let answer = self.store.acquire_shared(&[Group::all(&hits)]).await?;
            let Some(outcome) = answer.outcomes.first() else { break };
            let mut shard = self.shard(key);
            match shard.get_mut(&key) {
                Some(held) if Arc::ptr_eq(&held.pocket.terms, terms) => {
                    held.pocket.told(units, outcome, sent, self.clock.now());
                }
                // It was reset, or its limit has changed: what came is not handed out.
                _ => break,
            }
            let there = u32::try_from(outcome.decision.remaining).unwrap_or(u32::MAX);
            if outcome.grant.is_some() || there < least || there >= units {
                break;
            }
            units = there;
        }
        Ok(())
    }

    /// Has the store decide groups, or, where nothing is to be taken, look at them.
    async fn strictly<'p>(
        &self,
        parts: impl Iterator<Item = &'p Plan<'p>>,
        takes: bool,
    ) -> Result<Answer, StoreError> {
        let groups: SmallVec<[Group<'_>; 2]> = parts.map(|part| part.group).collect();
        // Where units are held beside it, the store counts by what is left.
        let shared = |group: &Group<'_>| {
            let consistency = self.consistency(group);
            let shared =
                |hit: &Hit<'_>| self.terms(hit, consistency).map_or(*hit.limit, |terms| terms.shared);
            group.hits.iter().map(shared).collect::<SmallVec<[Limit; 4]>>()
        };
        let limits: SmallVec<[Limit; 4]> = groups.iter().flat_map(shared).collect();
        let own: SmallVec<[Hit<'_>; 4]> =
            hits(&groups).zip(&limits).map(|(hit, limit)| Hit { limit, ..*hit }).collect();
        let own = grouped(groups.iter().map(shape), &own);
        let mut answer = if takes { self.store.acquire(&own).await? } else { self.store.peek(&own).await? };
        for (hit, outcome) in hits(&groups).zip(&mut answer.outcomes) {
            if outcome.source != Source::Fallback {
                outcome.decision.limit = hit.limit.capacity();
            }
        }
        Ok(answer)
    }

    fn put_back<'h>(&self, hits: impl Iterator<Item = &'h Hit<'h>>, outcomes: &Outcomes, now: Timestamp) {
        for (hit, outcome) in hits.zip(outcomes) {
            if let Some(grant) = outcome.grant
                && let Some(held) = self.shard(hit.key).get_mut(&hit.key)
            {
                held.pocket.give_back(now, grant);
            }
        }
    }

    /// Settles what is owed.
    async fn settle(self: &Arc<Self>) {
        if !self.owes.load(Ordering::Relaxed) {
            return;
        }
        for shard in &self.pockets {
            let owing: Vec<Fetching> = lock(shard)
                .iter_mut()
                .filter(|(_, held)| held.pocket.owed() > 0)
                .map(|(key, held)| self.fetch(*key, held, 0))
                .collect();
            for fetch in owing {
                if let Err(error) = ended(fetch).await {
                    tracing::debug!(target: "tollgate::store", %error, "what is owed is not settled yet");
                }
            }
        }
    }

    /// Gives back what nobody has asked for, for so long.
    async fn hand_back(&self, idle: Nanos) {
        for shard in &self.pockets {
            let now = self.clock.now();
            let mut idle_ones: Vec<(KeyHash, Arc<Terms>, Grant)> = Vec::new();
            lock(shard).retain(|key, held| {
                let is_idle = held.pocket.is_idle(now, idle) && held.pocket.owed() == 0;
                if is_idle && let Some(grant) = held.pocket.empty(now) {
                    idle_ones.push((*key, Arc::clone(&held.pocket.terms), grant));
                }
                !is_idle
            });
            for some in idle_ones.chunks(RETURNED_AT_ONCE) {
                let refunds: SmallVec<[Refund<'_>; RETURNED_AT_ONCE]> = some
                    .iter()
                    .map(|(key, terms, grant)| Refund {
                        key: *key,
                        limit: &terms.shared,
                        grant: *grant,
                        source: Source::Lease,
                    })
                    .collect();
                if let Err(error) = self.store.refund(&refunds).await {
                    // As if this node had died with them: the limits recover by themselves.
                    tracing::debug!(target: "tollgate::store", %error, "units that nobody asked for could not go back");
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a fetch.
async fn ended(mut fetch: Fetching) -> Result<(), StoreError> {
    // If its sender has gone without a word, the runtime ends.
    let ended = fetch.wait_for(Option::is_some).await;
    match ended.as_deref() {
        Ok(Some(result)) => result.clone(),
        _ => Err(StoreError::Unavailable("the fetch did not end".to_owned())),
    }
}

impl<S: Common, C: Clock + 'static> Store for Leased<S, C> {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.0.decide(groups).await
    }

    /// What the store says, and with it what this node holds or owes.
    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let plan = self.0.plan(groups);
        let mut answer = self.0.strictly(plan.iter(), false).await?;
        let now = self.0.clock.now();
        for (hit, outcome) in hits(groups).zip(&mut answer.outcomes) {
            if let Some(held) = self.0.shard(hit.key).get_mut(&hit.key) {
                held.pocket.add_to(&mut outcome.decision, now, hit.cost);
            }
        }
        let admits: SmallVec<[bool; 8]> =
            answer.outcomes.iter().map(|outcome| outcome.decision.allowed).collect();
        answer.allowed = combined(groups, &admits).0;
        Ok(answer)
    }

    /// What this node handed out of what it holds goes back there, as far as that has room.
    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let is_kept = |refund: &&Refund<'_>| {
            if !matches!(refund.source, Source::Lease | Source::LocalFirst) {
                return false;
            }
            let mut shard = self.0.shard(refund.key);
            let held = shard.get_mut(&refund.key).filter(|held| held.pocket.terms.limit == *refund.limit);
            held.is_some_and(|held| held.pocket.give_back(now, refund.grant))
        };
        let others: SmallVec<[Refund<'_>; 4]> =
            refunds.iter().filter(|refund| !is_kept(refund)).copied().collect();
        if others.is_empty() { Ok(()) } else { self.0.store.refund(&others).await }
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        for key in keys {
            self.0.shard(*key).remove(key);
        }
        self.0.store.reset(keys).await
    }
}
