//! State in this process, in bounded memory.
//!
//! Keys are spread over shards by their hash; each shard has a lock of its own. A request that touches several keys
//! locks their shards in ascending order, decides all, then takes all or nothing, so it is atomic and cannot
//! deadlock.
//!
//! A key whose state has become equal to a new one's is forgotten when its room is needed. A key that still remembers
//! something is never dropped: when a shard is full of such keys, a new key meets the [`Overflow`] rule.

mod session;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tollgate_core::{
    Answer, Clock, Group, Hit, KeyHash, LimitId, Outcome, Outcomes, Source, State, Timestamp, combined,
};

use self::session::{Place, Session, looked};
use self::shard::Shard;
use crate::clock::SystemClock;
use crate::store::{LocalStore, Refund};

/// What a full store does with a new key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// New keys are denied until a place is free.
    Deny,
    /// New keys of one limit share one state: together they may do what a single key may.
    #[default]
    Shared,
}

/// How a [`MemoryStore`] is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// The most keys that are remembered at once; at least 1. They are spread evenly over the shards, so the last
    /// percent may not be reached.
    pub capacity: usize,
    /// What a full store does with a new key.
    pub overflow: Overflow,
    /// How many parts with a lock of their own the keys are spread over, at most 1,024; rounded up to a power of two. 0
    /// chooses by the capacity, which suits a store that many threads use. A store that one thread uses needs 1.
    pub shards: usize,
}

impl Default for MemoryOptions {
    /// A million keys, and a shared state for what goes beyond.
    fn default() -> Self {
        Self { capacity: 1_000_000, overflow: Overflow::Shared, shards: 0 }
    }
}

/// The store that needs nothing but this process.
///
/// ```
/// use tollgate_core::ManualClock;
/// use tollgate_store::{MemoryOptions, MemoryStore};
///
/// let clock = ManualClock::default();
/// let store = MemoryStore::with_clock(clock.clone(), MemoryOptions { capacity: 10_000, ..Default::default() });
/// assert!(store.is_empty());
/// ```
#[derive(Debug)]
pub struct MemoryStore<C = SystemClock> {
    clock: C,
    shards: Box<[Mutex<Shard>]>,
    overflow: Overflow,
    /// The states that keys share when there is no room for one of their own.
    shared: Mutex<HashMap<LimitId, State>>,
    overflowed: AtomicU64,
}

/// The most limits whose overflow shares a state; keys of further ones are denied.
const SHARED_LIMITS_MAX: usize = 4_096;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(MemoryOptions::default())
    }
}

impl MemoryStore {
    /// A store on this machine's clock.
    pub fn new(options: MemoryOptions) -> Self {
        Self::with_clock(SystemClock::new(), options)
    }
}

impl<C: Clock> MemoryStore<C> {
    /// A store on this clock.
    pub fn with_clock(clock: C, options: MemoryOptions) -> Self {
        let capacity = options.capacity.max(1);
        let shards = match options.shards {
            // Few keys need no shards, and would be spread unevenly over them.
            0 => (capacity / 4_096).next_power_of_two().min(64),
            chosen => chosen.min(1_024).next_power_of_two(),
        };
        let each = capacity.div_ceil(shards);
        Self {
            clock,
            shards: (0..shards).map(|_| Mutex::new(Shard::new(each))).collect(),
            overflow: options.overflow,
            shared: Mutex::new(HashMap::new()),
            overflowed: AtomicU64::new(0),
        }
    }

    /// How many keys are remembered, including those not yet noticed to be idle.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many hits met the overflow rule since the store was made.
    pub fn overflowed(&self) -> u64 {
        // Relaxed: a statistic.
        self.overflowed.load(Ordering::Relaxed)
    }

    /// The clock that the store reads.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    fn shard_of(&self, key: KeyHash) -> usize {
        // The number of shards is a power of two of at most 1,024. The shard's own table uses the low bits.
        #[allow(clippy::cast_possible_truncation)]
        let high = (key.0 >> 64) as usize;
        high & (self.shards.len() - 1)
    }
}

impl<C: Clock> LocalStore for MemoryStore<C> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        let mut session = Session::open(self, now, groups);
        let mut places: SmallVec<[Place; 8]> = SmallVec::new();
        let mut admits: SmallVec<[bool; 8]> = SmallVec::new();
        let mut outcomes = Outcomes::new();
        for hit in hits(groups) {
            let place = session.place(hit);
            // A key that is hit twice in one request must afford both.
            let same = hits(groups).take(places.len()).filter(|earlier| earlier.key == hit.key);
            let cost = same.fold(hit.cost, |sum, earlier| sum.saturating_add(earlier.cost));
            let decision = match session.state(place, hit) {
                Some(state) => hit.limit.decide_settled(state, now, cost),
                None => session.turned_away(hit),
            };
            admits.push(decision.allowed);
            outcomes.push(Outcome { decision, grant: None, source: place.source() });
            places.push(place);
        }

        let (allowed, takes) = combined(groups, &admits);
        for (index, hit) in hits(groups).enumerate() {
            let outcome = &mut outcomes[index];
            let Some(state) = session.state(places[index], hit) else { continue };
            if takes[index] {
                outcome.grant = Some(hit.limit.take(state, now, hit.cost));
            } else if outcome.decision.allowed {
                // Nothing was taken after all: say what is there.
                outcome.decision = looked(hit, state, now);
            }
        }
        for (place, hit) in places.iter().zip(hits(groups)) {
            session.close(*place, hit);
        }
        let overflowed = outcomes.iter().filter(|outcome| outcome.source == Source::Overflow).count();
        if overflowed > 0 {
            // Relaxed: a statistic.
            self.overflowed.fetch_add(overflowed as u64, Ordering::Relaxed);
        }
        Answer { allowed, outcomes }
    }

    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        let mut session = Session::open(self, now, groups);
        let outcomes: Outcomes = hits(groups)
            .map(|hit| {
                let (decision, source) = session.look(hit);
                Outcome { decision, grant: None, source }
            })
            .collect();
        let admits: SmallVec<[bool; 8]> = outcomes.iter().map(|outcome| outcome.decision.allowed).collect();
        Answer { allowed: combined(groups, &admits).0, outcomes }
    }

    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) {
        for refund in refunds {
            let mut shard = lock(&self.shards[self.shard_of(refund.key)]);
            let Some(slot) = shard.find(refund.key) else { continue };
            if let Some(state) = shard.state(slot) {
                refund.limit.give_back(state, now, refund.grant);
                let vacant_at = refund.limit.vacant_at(state);
                shard.retime(slot, vacant_at, now);
            }
        }
    }

    fn reset(&self, keys: &[KeyHash]) {
        for key in keys {
            let mut shard = lock(&self.shards[self.shard_of(*key)]);
            if let Some(slot) = shard.find(*key) {
                shard.free(slot);
            }
        }
    }
}

/// All hits of a request, in order.
fn hits<'a>(groups: &'a [Group<'a>]) -> impl Iterator<Item = &'a Hit<'a>> {
    groups.iter().flat_map(|group| group.hits)
}

/// Locks, also after a panic elsewhere: no code here leaves a shard half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
