//! One shard of the room: a slab of states, an index by key, and a queue of the moments at which states become vacant.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
#[cfg(feature = "durable")]
use std::collections::HashSet;

use hashbrown::HashTable;
use tollgate_core::{KeyHash, Timestamp};

use super::census::Census;

/// A slot, as long as it holds the same key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId {
    index: u32,
    /// How often the slot was freed before: a slot that was given to another key is not the same slot.
    generation: u32,
}

#[derive(Debug)]
struct Slot<S> {
    key: KeyHash,
    /// `None` while the slot is free.
    state: Option<S>,
    /// When the state may be forgotten.
    vacant_at: Timestamp,
    /// The moment of the slot's one entry in the queue of vacancies.
    queued_at: Timestamp,
    generation: u32,
}

/// A part of the room under one lock.
#[derive(Debug)]
pub(super) struct Shard<S> {
    slots: Vec<Slot<S>>,
    /// Slots that hold nothing.
    free: Vec<u32>,
    index: HashTable<u32>,
    /// For each slot that holds a state one entry, whose moment is not after its `vacant_at`. A state that was used again
    /// has moved on: its entry is put back at the later moment when it comes up, so that using a key costs nothing
    /// here. Entries that are not the slot's own (see `queued_at`) are left over from before, and dropped.
    vacancies: BinaryHeap<Reverse<(Timestamp, SlotId)>>,
    /// The keys whose states were changed or forgotten since they were last asked for, where somebody does.
    #[cfg(feature = "durable")]
    changed: Option<HashSet<KeyHash>>,
}

impl<S> Default for Shard<S> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            vacancies: BinaryHeap::new(),
            #[cfg(feature = "durable")]
            changed: None,
        }
    }
}

impl<S> Shard<S> {
    pub(super) fn find(&self, key: KeyHash) -> Option<SlotId> {
        let slots = &self.slots;
        let index = *self.index.find(table_hash(key), |index| slots[*index as usize].key == key)?;
        Some(SlotId { index, generation: slots[index as usize].generation })
    }

    /// The state in a slot, unless the slot has been freed.
    pub(super) fn state(&mut self, slot: SlotId) -> Option<&mut S> {
        self.slot(slot)?.state.as_mut()
    }

    fn slot(&mut self, id: SlotId) -> Option<&mut Slot<S>> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
    }

    /// Gives a key that has none a slot. Returns whether there was one, if need be that of an idle key.
    pub(super) fn insert(
        &mut self,
        census: &Census,
        key: KeyHash,
        state: S,
        vacant_at: Timestamp,
        now: Timestamp,
    ) -> bool {
        // Before the slab grows, what is idle is used again: it grows to the number of active keys, not beyond.
        if self.free.is_empty() {
            self.reclaim(census, now);
        }
        // Slots are numbered by u32.
        let Ok(last) = u32::try_from(self.slots.len()) else { return false };
        let has_room = census.enter() || (self.reclaim(census, now) && census.enter());
        if !has_room {
            return false;
        }
        let slot = |generation| Slot { key, state: Some(state), vacant_at, queued_at: vacant_at, generation };
        let free = self.free.pop();
        let index = free.unwrap_or(last);
        match self.slots.get_mut(index as usize) {
            Some(free) => *free = slot(free.generation),
            None => self.slots.push(slot(0)),
        }
        let slots = &self.slots;
        self.index.insert_unique(table_hash(key), index, |index| table_hash(slots[*index as usize].key));
        let generation = slots[index as usize].generation;
        self.note(key);
        self.vacancies.push(Reverse((vacant_at, SlotId { index, generation })));
        self.tidy();
        true
    }

    /// Notes when a slot's state becomes vacant; frees the slot if that is already so.
    pub(super) fn retime(&mut self, census: &Census, id: SlotId, vacant_at: Timestamp, now: Timestamp) {
        if vacant_at <= now {
            return self.free(census, id);
        }
        let Some(slot) = self.slot(id) else { return };
        let key = slot.key;
        slot.vacant_at = vacant_at;
        if vacant_at < slot.queued_at {
            slot.queued_at = vacant_at;
            self.vacancies.push(Reverse((vacant_at, id)));
            self.tidy();
        }
        self.note(key);
    }

    /// Notes that a key's state was changed.
    #[inline]
    #[cfg_attr(not(feature = "durable"), allow(clippy::unused_self, reason = "nobody wants to know"))]
    fn note(&mut self, key: KeyHash) {
        #[cfg(feature = "durable")]
        if let Some(changed) = &mut self.changed {
            changed.insert(key);
        }
        #[cfg(not(feature = "durable"))]
        let _ = key;
    }

    /// Forgets what is in a slot.
    pub(super) fn free(&mut self, census: &Census, id: SlotId) {
        let Some(slot) = self.slot(id) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = None;
        let key = slot.key;
        if let Ok(entry) = self.index.find_entry(table_hash(key), |index| *index == id.index) {
            entry.remove();
        }
        self.free.push(id.index);
        self.note(key);
        census.leave();
    }

    /// The earliest moment at which a slot may become free.
    pub(super) fn free_at(&self) -> Option<Timestamp> {
        self.vacancies.peek().map(|Reverse((at, _))| *at)
    }

    /// Frees the slot that is due first, if one is due. Returns whether one was.
    pub(super) fn reclaim(&mut self, census: &Census, now: Timestamp) -> bool {
        while self.free_at().is_some_and(|at| at <= now) {
            let Some(Reverse((at, id))) = self.vacancies.pop() else { break };
            let Some(slot) = self.slot(id).filter(|slot| slot.queued_at == at) else { continue };
            slot.queued_at = slot.vacant_at;
            if slot.vacant_at <= now {
                self.free(census, id);
                return true;
            }
            let later = slot.vacant_at;
            self.vacancies.push(Reverse((later, id)));
        }
        false
    }

    /// Begins to note which keys' states are changed from now on.
    #[cfg(feature = "durable")]
    pub(super) fn note_changes(&mut self) {
        self.changed = Some(HashSet::new());
    }

    /// The keys whose states were changed since the last call.
    #[cfg(feature = "durable")]
    pub(super) fn take_changes(&mut self) -> HashSet<KeyHash> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All keys that have a state.
    #[cfg(feature = "durable")]
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        self.index.iter().map(|index| self.slots[*index as usize].key).collect()
    }

    /// A key's state, and from when on it is vacant.
    #[cfg(feature = "durable")]
    pub(super) fn look(&self, key: KeyHash) -> Option<(S, Timestamp)>
    where
        S: Clone,
    {
        let slot = &self.slots[self.find(key)?.index as usize];
        Some((slot.state.clone()?, slot.vacant_at))
    }

    /// Drops what is left over from slots that were freed before their time, when it is the majority.
    fn tidy(&mut self) {
        if self.vacancies.len() > 2 * (self.slots.len() - self.free.len()) + 64 {
            let slots = &self.slots;
            self.vacancies.retain(|Reverse((at, id))| {
                slots
                    .get(id.index as usize)
                    .is_some_and(|slot| slot.generation == id.generation && slot.queued_at == *at)
            });
        }
    }
}

/// The index's own hash: keys are hashes already, so their low half serves.
#[allow(clippy::cast_possible_truncation)]
const fn table_hash(key: KeyHash) -> u64 {
    key.0 as u64
}
