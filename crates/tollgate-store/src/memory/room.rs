//! The room for states that have no fixed size: logs, limits whose times pass what a table counts, and whatever rules of
//! users' own remember.
//!
//! Keys are spread over shards by their hash; each shard has a lock of its own, held for one step.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_core::algorithm::Algorithm;
use tollgate_core::{KeyHash, Timestamp};

use super::Full;
use super::census::Census;
use super::shard::Shard;

#[derive(Debug)]
pub(super) struct Room<S> {
    shards: Box<[Mutex<Shard<S>>]>,
    /// The shard at which the next sweep looks.
    hand: AtomicUsize,
}

impl<S> Room<S> {
    pub(super) fn new(capacity: usize) -> Self {
        // Few keys need no shards.
        let shards = (capacity / 4_096).clamp(1, 64).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::default())).collect(),
            hand: AtomicUsize::new(0),
        }
    }

    /// See [`States::update`](super::states::States::update).
    pub(super) fn update<R>(
        &self,
        census: &Census,
        key: KeyHash,
        rule: &impl Algorithm<State = S>,
        now: Timestamp,
        step: impl Fn(&mut S) -> R,
    ) -> Result<R, Full> {
        let mut shard = self.shard(key);
        if let Some(result) = stepped(&mut shard, census, key, rule, now, &step) {
            return Ok(result);
        }
        let mut state = rule.fresh(now);
        let result = step(&mut state);
        let vacant_at = rule.vacant_at(&state);
        if vacant_at > now && !shard.insert(census, key, state, vacant_at, now) {
            return Err(Full { soonest: shard.free_at().map_or(u64::MAX, Timestamp::as_nanos) });
        }
        Ok(result)
    }

    /// Changes a key's state, if it has one.
    pub(super) fn change(
        &self,
        census: &Census,
        key: KeyHash,
        rule: &impl Algorithm<State = S>,
        now: Timestamp,
        change: impl Fn(&mut S),
    ) {
        stepped(&mut self.shard(key), census, key, rule, now, &change);
    }

    /// What this says of a key's state, if it has one.
    pub(super) fn look<R>(&self, key: KeyHash, look: impl FnOnce(&S) -> R) -> Option<R> {
        let mut shard = self.shard(key);
        let slot = shard.find(key)?;
        shard.state(slot).map(|state| look(state))
    }

    pub(super) fn forget(&self, census: &Census, key: KeyHash) {
        let mut shard = self.shard(key);
        if let Some(slot) = shard.find(key) {
            shard.free(census, slot);
        }
    }

    /// Makes room in one shard if something is idle there. Returns whether it did, and the first moment at which something
    /// will be.
    pub(super) fn sweep(&self, census: &Census, now: Timestamp) -> (bool, u64) {
        // Relaxed: where a sweep looks is of no consequence.
        let index = self.hand.fetch_add(1, Ordering::Relaxed) & (self.shards.len() - 1);
        let mut shard = lock(&self.shards[index]);
        (shard.reclaim(census, now), shard.free_at().map_or(u64::MAX, Timestamp::as_nanos))
    }

    fn shard(&self, key: KeyHash) -> MutexGuard<'_, Shard<S>> {
        // The number of shards is a power of two of at most 64. The shard's own index uses the low bits.
        #[allow(clippy::cast_possible_truncation)]
        let high = (key.0 >> 64) as usize;
        lock(&self.shards[high & (self.shards.len() - 1)])
    }
}

/// For whoever keeps the states elsewhere too.
#[cfg(feature = "durable")]
impl<S: Clone> Room<S> {
    /// Begins to note which keys' states are changed from now on.
    pub(super) fn note_changes(&self) {
        for shard in &self.shards {
            lock(shard).note_changes();
        }
    }

    /// Tells `each` the state of each key that was changed since the last call, or that there is none; each is one that the key
    /// had during the call. The lock is held for one key at a time, and not while it is told.
    pub(super) fn changes(&self, mut each: impl FnMut(KeyHash, Option<(S, Timestamp)>)) {
        for shard in &self.shards {
            let changed = lock(shard).take_changes();
            for key in changed {
                let state = lock(shard).look(key);
                each(key, state);
            }
        }
    }

    /// The same of all keys in one of `parts` parts of the room.
    pub(super) fn part(
        &self,
        part: usize,
        parts: usize,
        mut each: impl FnMut(KeyHash, Option<(S, Timestamp)>),
    ) {
        for shard in self.shards.iter().skip(part).step_by(parts.max(1)) {
            let keys = lock(shard).keys();
            for key in keys {
                let state = lock(shard).look(key);
                each(key, state);
            }
        }
    }

    /// Brings a key's state, in place of any that it has.
    ///
    /// # Errors
    /// If there is no room.
    pub(super) fn put(
        &self,
        census: &Census,
        key: KeyHash,
        state: S,
        vacant_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Full> {
        let mut shard = self.shard(key);
        if let Some(slot) = shard.find(key) {
            shard.free(census, slot);
        }
        if vacant_at <= now || shard.insert(census, key, state, vacant_at, now) {
            return Ok(());
        }
        Err(Full { soonest: shard.free_at().map_or(u64::MAX, Timestamp::as_nanos) })
    }
}

/// Runs a step on a key's state, if it has one.
fn stepped<S, R>(
    shard: &mut Shard<S>,
    census: &Census,
    key: KeyHash,
    rule: &impl Algorithm<State = S>,
    now: Timestamp,
    step: &impl Fn(&mut S) -> R,
) -> Option<R> {
    let slot = shard.find(key)?;
    let state = shard.state(slot)?;
    let result = step(state);
    let vacant_at = rule.vacant_at(state);
    shard.retime(census, slot, vacant_at, now);
    Some(result)
}

/// Locks, also after a panic elsewhere: no code here leaves a shard half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
