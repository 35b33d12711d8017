//! One request's view of the store: the shards that it has locked, and where in them its states are.

use std::collections::HashMap;
use std::sync::MutexGuard;

use smallvec::SmallVec;
use tollgate_core::{
    Clock, Decision, Group, Hit, KeyHash, Limit, LimitId, Nanos, Retry, Source, State, Timestamp,
};

use super::shard::{Shard, SlotId};
use super::{MemoryStore, Overflow, SHARED_LIMITS_MAX, hits, lock};

/// Where a hit's state is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The limit needs no state.
    Nowhere,
    /// The key has a slot of its own in this shard.
    Slot(usize, SlotId),
    /// The store is full, and the key shares its limit's state.
    Shared,
    /// The store is full, and the key is turned away.
    Full,
}

impl Place {
    pub(super) const fn source(self) -> Source {
        match self {
            Self::Nowhere | Self::Slot(..) => Source::Memory,
            Self::Shared | Self::Full => Source::Overflow,
        }
    }
}

/// The locks of one request.
pub(super) struct Session<'s, C> {
    store: &'s MemoryStore<C>,
    now: Timestamp,
    /// The shards that the request touches, in ascending order.
    shards: SmallVec<[(usize, MutexGuard<'s, Shard>); 4]>,
    /// The states that keys share in a full store; locked when first needed, after all shards.
    shared: Option<MutexGuard<'s, HashMap<LimitId, State>>>,
    /// What limits without a state work on.
    nothing: State,
}

impl<'s, C: Clock> Session<'s, C> {
    /// Locks every shard that the hits need, in ascending order, so that no two requests wait for each other.
    pub(super) fn open(store: &'s MemoryStore<C>, now: Timestamp, groups: &[Group<'_>]) -> Self {
        let mut indexes: SmallVec<[usize; 8]> = SmallVec::new();
        // Nearly all requests touch few shards: a look through those known is the shortest way.
        let mut needs = |key| {
            let index = store.shard_of(key);
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        };
        for hit in hits(groups) {
            needs(hit.key);
            if let Some(previous) = hit.previous {
                needs(previous.key);
            }
        }
        indexes.sort_unstable();
        let mut shards = SmallVec::new();
        for index in indexes {
            shards.push((index, lock(&store.shards[index])));
        }
        Self { store, now, shards, shared: None, nothing: State::Nothing }
    }

    /// Finds or makes the place of a hit's state, and settles the state.
    pub(super) fn place(&mut self, hit: &Hit<'_>) -> Place {
        if matches!(hit.limit, Limit::Unlimited | Limit::DenyAll) {
            return Place::Nowhere;
        }
        let now = self.now;
        let index = self.position(hit.key);
        let shard = &mut self.shards[index].1;
        if let Some(slot) = shard.find(hit.key) {
            let vacant = shard.open(slot, now);
            if let Some(state) = shard.state(slot) {
                if vacant {
                    *state = hit.limit.fresh(now);
                } else {
                    hit.limit.settle(state, now);
                }
            }
            return Place::Slot(index, slot);
        }
        let former = hit.previous.and_then(|previous| {
            let position = self.position(previous.key);
            let shard = &mut self.shards[position].1;
            let slot = shard.find(previous.key)?;
            let state = hit.limit.carried_over(previous.limit, shard.state(slot)?, now);
            Some((position, slot, state))
        });
        let state = match former {
            Some((position, slot, state)) => {
                // Moved, not copied: else it would come back once the new state is vacant.
                self.shards[position].1.free(slot);
                state
            }
            None => hit.limit.fresh(now),
        };
        if let Some(slot) = self.shards[index].1.insert(hit.key, state, now) {
            return Place::Slot(index, slot);
        }
        self.without_room(hit)
    }

    fn without_room(&mut self, hit: &Hit<'_>) -> Place {
        if self.store.overflow == Overflow::Deny {
            return Place::Full;
        }
        let shared = self.shared.get_or_insert_with(|| lock(&self.store.shared));
        if shared.len() >= SHARED_LIMITS_MAX && !shared.contains_key(&hit.id) {
            return Place::Full;
        }
        let state = shared.entry(hit.id).or_insert_with(|| hit.limit.fresh(self.now));
        hit.limit.settle(state, self.now);
        Place::Shared
    }

    /// The state at a place, if there is one.
    pub(super) fn state(&mut self, place: Place, hit: &Hit<'_>) -> Option<&mut State> {
        match place {
            Place::Nowhere => Some(&mut self.nothing),
            Place::Slot(index, slot) => self.shards[index].1.state(slot),
            Place::Shared => self.shared.as_mut().and_then(|shared| shared.get_mut(&hit.id)),
            Place::Full => None,
        }
    }

    /// What a key is told for which there is no room.
    pub(super) fn turned_away(&self, hit: &Hit<'_>) -> Decision {
        let free_at = self.shards[self.position(hit.key)].1.free_at();
        let wait = free_at.map_or(Nanos::new(1), |at| at.since(self.now).max(Nanos::new(1)));
        Decision {
            allowed: false,
            limit: hit.limit.capacity(),
            remaining: 0,
            retry_after: Retry::After(wait),
            reset_after: wait,
        }
    }

    /// Notes when the state at a place will be vacant, and frees it if it is already.
    pub(super) fn close(&mut self, place: Place, hit: &Hit<'_>) {
        if let Place::Slot(index, slot) = place {
            let shard = &mut self.shards[index].1;
            if let Some(state) = shard.state(slot) {
                let vacant_at = hit.limit.vacant_at(state);
                shard.retime(slot, vacant_at, self.now);
            }
        }
    }

    /// What a hit would be told, leaving everything as it is.
    pub(super) fn look(&mut self, hit: &Hit<'_>) -> (Decision, Source) {
        let now = self.now;
        let index = self.position(hit.key);
        if matches!(hit.limit, Limit::Unlimited | Limit::DenyAll) {
            return (looked(hit, &self.nothing, now), Source::Memory);
        }
        let own = self.shards[index].1.find(hit.key);
        if let Some(state) = own.and_then(|slot| self.shards[index].1.state(slot)) {
            return (looked(hit, state, now), Source::Memory);
        }
        if !self.shards[index].1.make_room(now) {
            if self.store.overflow == Overflow::Deny {
                return (self.turned_away(hit), Source::Overflow);
            }
            let shared = self.shared.get_or_insert_with(|| lock(&self.store.shared));
            let fresh = hit.limit.fresh(now);
            return (looked(hit, shared.get(&hit.id).unwrap_or(&fresh), now), Source::Overflow);
        }
        let carried = hit.previous.and_then(|previous| {
            let position = self.position(previous.key);
            let shard = &mut self.shards[position].1;
            let slot = shard.find(previous.key)?;
            Some(hit.limit.carried_over(previous.limit, shard.state(slot)?, now))
        });
        (looked(hit, &carried.unwrap_or_else(|| hit.limit.fresh(now)), now), Source::Memory)
    }

    /// Where among the locked shards a key's is.
    fn position(&self, key: KeyHash) -> usize {
        let index = self.store.shard_of(key);
        // Every key of the request had its shard locked in `open`.
        self.shards.iter().position(|(locked, _)| *locked == index).unwrap_or_default()
    }
}

/// Whether a state admits the hit, with the numbers as they are before it.
pub(super) fn looked(hit: &Hit<'_>, state: &State, now: Timestamp) -> Decision {
    let Decision { allowed, retry_after, .. } = hit.limit.decide(state, now, hit.cost);
    Decision { allowed, retry_after, ..hit.limit.decide(state, now, 0) }
}
