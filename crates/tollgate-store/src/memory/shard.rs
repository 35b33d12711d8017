//! One shard: a bounded slab of states, an index by key, and a queue of the moments at which states become vacant.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashTable;
use tollgate_core::{KeyHash, State, Timestamp};

/// A slot, as long as it holds the same key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId {
    index: u32,
    /// How often the slot was freed before: a slot that was given to another key is not the same slot.
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    key: KeyHash,
    state: State,
    /// When the state may be forgotten; [`IN_USE`] while a request works on it.
    vacant_at: Timestamp,
    /// The moment of the slot's one entry in the queue of vacancies; [`IN_USE`] if it has none.
    queued_at: Timestamp,
    generation: u32,
}

/// A moment that never comes.
const IN_USE: Timestamp = Timestamp::MAX;

/// A part of the store under one lock.
#[derive(Debug)]
pub(super) struct Shard {
    capacity: usize,
    slots: Vec<Slot>,
    /// Slots that hold nothing.
    free: Vec<u32>,
    index: HashTable<u32>,
    /// For each slot that holds a state one entry, whose moment is not after its `vacant_at`. A state that was used again
    /// has moved on: its entry is put back at the later moment when it comes up, so that using a key costs nothing
    /// here. Entries that are not the slot's own (see `queued_at`) are left over from before, and dropped.
    vacancies: BinaryHeap<Reverse<(Timestamp, SlotId)>>,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            // Slots are numbered by u32.
            capacity: capacity.min(u32::MAX as usize),
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            vacancies: BinaryHeap::new(),
        }
    }

    /// How many slots are in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn find(&self, key: KeyHash) -> Option<SlotId> {
        let slots = &self.slots;
        let index = *self.index.find(table_hash(key), |index| slots[*index as usize].key == key)?;
        Some(SlotId { index, generation: slots[index as usize].generation })
    }

    /// The state in a slot, unless the slot has been freed.
    pub(super) fn state(&mut self, slot: SlotId) -> Option<&mut State> {
        self.slot(slot).map(|slot| &mut slot.state)
    }

    /// Sets a slot aside for a request. Returns whether its state was vacant.
    pub(super) fn open(&mut self, slot: SlotId, now: Timestamp) -> bool {
        let Some(slot) = self.slot(slot) else { return false };
        std::mem::replace(&mut slot.vacant_at, IN_USE) <= now
    }

    fn slot(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
    }

    /// Gives a key that has none a slot; `None` if every slot holds a state that is not vacant.
    ///
    /// The slot is set aside until [`retime`](Self::retime) says for how long it is needed.
    pub(super) fn insert(&mut self, key: KeyHash, state: State, now: Timestamp) -> Option<SlotId> {
        // Before the slab grows, what is idle is used again: it grows to the number of active keys, not beyond.
        if self.free.is_empty() {
            self.reclaim(now);
        }
        let fresh = |generation| Slot { key, state, vacant_at: IN_USE, queued_at: IN_USE, generation };
        let index = if self.free.is_empty() && self.slots.len() < self.capacity {
            // Below the capacity, which fits a u32.
            #[allow(clippy::cast_possible_truncation)]
            let index = self.slots.len() as u32;
            self.slots.push(fresh(0));
            index
        } else {
            if !self.make_room(now) {
                return None;
            }
            let index = self.free.pop()?;
            let slot = &mut self.slots[index as usize];
            *slot = fresh(slot.generation);
            index
        };
        let slots = &self.slots;
        self.index.insert_unique(table_hash(key), index, |index| table_hash(slots[*index as usize].key));
        Some(SlotId { index, generation: self.slots[index as usize].generation })
    }

    /// Whether there is a slot for a new key, if need be that of a state which has become vacant.
    pub(super) fn make_room(&mut self, now: Timestamp) -> bool {
        while self.free.is_empty() && self.slots.len() >= self.capacity && self.reclaim(now) {}
        !self.free.is_empty() || self.slots.len() < self.capacity
    }

    /// Notes when a slot's state becomes vacant; frees the slot if that is already so.
    pub(super) fn retime(&mut self, id: SlotId, vacant_at: Timestamp, now: Timestamp) {
        if vacant_at <= now {
            return self.free(id);
        }
        let Some(slot) = self.slot(id) else { return };
        slot.vacant_at = vacant_at;
        if vacant_at < slot.queued_at {
            slot.queued_at = vacant_at;
            self.vacancies.push(Reverse((vacant_at, id)));
            self.tidy();
        }
    }

    /// Forgets what is in a slot.
    pub(super) fn free(&mut self, id: SlotId) {
        let Some(slot) = self.slot(id) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Nothing;
        let key = slot.key;
        if let Ok(entry) = self.index.find_entry(table_hash(key), |index| *index == id.index) {
            entry.remove();
        }
        self.free.push(id.index);
    }

    /// The earliest moment at which a slot may become free.
    pub(super) fn free_at(&self) -> Option<Timestamp> {
        self.vacancies.peek().map(|Reverse((at, _))| *at)
    }

    /// Looks at the vacancy that is due first. Returns whether one was due.
    fn reclaim(&mut self, now: Timestamp) -> bool {
        let due = self.free_at().is_some_and(|at| at <= now);
        if due
            && let Some(Reverse((at, id))) = self.vacancies.pop()
            && let Some(slot) = self.slot(id).filter(|slot| slot.queued_at == at)
        {
            slot.queued_at = slot.vacant_at;
            match slot.vacant_at {
                // Whoever works on it will queue it again.
                IN_USE => {}
                later if later > now => self.vacancies.push(Reverse((later, id))),
                _ => self.free(id),
            }
        }
        due
    }

    /// Drops what is left over from slots that were freed before their time, when it is the majority.
    fn tidy(&mut self) {
        if self.vacancies.len() > 2 * self.len() + 64 {
            let slots = &self.slots;
            self.vacancies.retain(|Reverse((at, id))| {
                slots
                    .get(id.index as usize)
                    .is_some_and(|slot| slot.generation == id.generation && slot.queued_at == *at)
            });
        }
    }
}

/// The table's own hash: keys are hashes already, so their low half serves.
#[allow(clippy::cast_possible_truncation)]
const fn table_hash(key: KeyHash) -> u64 {
    key.0 as u64
}
