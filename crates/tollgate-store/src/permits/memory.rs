//! Permits of this process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Future, ready};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tollgate_core::concurrency::{Admission, Concurrency, Holders, PermitId, PermitRequest};
use tollgate_core::{Clock, KeyHash, Nanos, Timestamp};

use super::{PermitStore, PermitUsage};
use crate::clock::SystemClock;
use crate::store::StoreError;

const SHARDS: usize = 64;

/// How long after all that has lapsed was looked for it is not looked for again.
const BETWEEN_SWEEPS: Nanos = Nanos::from_millis(100);

/// Permits of this process, of at most so many holders and places in line together.
///
/// ```
/// use tollgate_core::concurrency::{Concurrency, PermitRequest};
/// use tollgate_core::{KeyHash, Nanos};
/// use tollgate_store::permits::{MemoryPermits, PermitStore, permit_id};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (store, key) = (MemoryPermits::new(1_000), KeyHash(7));
/// let limit = Concurrency::new(1, Nanos::from_secs(30)).unwrap();
/// let first = PermitRequest::new(permit_id());
/// assert!(store.acquire(key, &limit, &first).await?.is_granted());
/// assert!(!store.acquire(key, &limit, &PermitRequest::new(permit_id())).await?.is_granted());
/// assert!(store.release(key, first.id).await?);
/// # Ok::<(), tollgate_store::StoreError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MemoryPermits<C = SystemClock> {
    clock: C,
    capacity: usize,
    /// How many holders and places in line there are, of all keys.
    taken: AtomicUsize,
    /// When there was no room and all that had lapsed was forgotten, in nanoseconds.
    swept: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<KeyHash, Slot>,
    /// With how many keys those that nobody holds are looked for next.
    crowded_at: usize,
}

#[derive(Debug)]
struct Slot {
    holders: Holders,
    /// The limit by which was asked last: it says whose turn it is when a permit comes back.
    limit: Concurrency,
    /// What those in line wait for.
    bells: Vec<(PermitId, Arc<Notify>)>,
}

impl MemoryPermits {
    /// Permits by this machine's clock.
    pub fn new(capacity: usize) -> Self {
        Self::with_clock(SystemClock::new(), capacity)
    }
}

impl<C: Clock> MemoryPermits<C> {
    /// Permits by this clock.
    pub fn with_clock(clock: C, capacity: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { clock, capacity, taken: AtomicUsize::new(0), swept: AtomicU64::new(0), shards }
    }

    /// How many permits are held and places in line kept, of all keys; with such as have lapsed and were not looked at since.
    pub fn len(&self) -> usize {
        // Relaxed, here and below: a count that orders nothing else.
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes what a key holds, tells those whose turn it is, and forgets a key that nobody holds.
    fn step<R>(
        &self,
        key: KeyHash,
        limit: Option<&Concurrency>,
        change: impl FnOnce(&mut Slot) -> R,
    ) -> Option<R> {
        let mut shard = self.shard(key);
        let mut place = match (shard.keys.entry(key), limit) {
            (Entry::Occupied(place), _) => place,
            (Entry::Vacant(_), None) => return None,
            (Entry::Vacant(place), Some(limit)) => {
                place.insert_entry(Slot { holders: Holders::default(), limit: *limit, bells: Vec::new() })
            }
        };
        let slot = place.get_mut();
        let before = slot.holders.len();
        slot.limit = *limit.unwrap_or(&slot.limit);
        let result = change(slot);
        slot.ring();
        slot.forget_bells();
        let after = slot.holders.len();
        self.taken.fetch_add(after, Ordering::Relaxed);
        self.taken.fetch_sub(before, Ordering::Relaxed);
        if after == 0 {
            place.remove();
        }
        Some(result)
    }

    fn shard(&self, key: KeyHash) -> MutexGuard<'_, Shard> {
        // A key is as good as random, so any of its bits will do.
        #[allow(clippy::cast_possible_truncation)]
        let index = key.0 as usize % SHARDS;
        lock(&self.shards[index])
    }

    /// Forgets what has lapsed: in a shard that has twice as many keys as after the last time, and everywhere if there is no room.
    fn make_room(&self, key: KeyHash, now: Timestamp) {
        const FEW: usize = 64;

        let mut shard = self.shard(key);
        if shard.keys.len() >= shard.crowded_at.max(FEW) {
            self.sweep(&mut shard, now);
        }
        drop(shard);
        let swept = Timestamp::from_nanos(self.swept.load(Ordering::Relaxed));
        if self.len() >= self.capacity && now.since(swept) >= BETWEEN_SWEEPS {
            self.swept.store(now.as_nanos(), Ordering::Relaxed);
            for shard in &self.shards {
                self.sweep(&mut lock(shard), now);
            }
        }
    }

    fn sweep(&self, shard: &mut Shard, now: Timestamp) {
        shard.keys.retain(|_, slot| {
            let before = slot.holders.len();
            slot.holders.settle(now);
            self.taken.fetch_sub(before - slot.holders.len(), Ordering::Relaxed);
            !slot.holders.is_empty()
        });
        shard.crowded_at = shard.keys.len() * 2;
    }

    fn acquire_now(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> Result<Admission, StoreError> {
        let now = self.clock.now();
        self.make_room(key, now);
        let admission = self.step(key, Some(limit), |slot| {
            // Whoever is there already takes no more room.
            if self.len() >= self.capacity && !slot.holders.contains(request.id) {
                return None;
            }
            let admission = limit.acquire(&mut slot.holders, now, request);
            slot.bells.retain(|(id, _)| *id != request.id);
            if slot.holders.is_waiting(request.id) {
                slot.bells.push((request.id, Arc::new(Notify::new())));
            }
            Some(admission)
        });
        admission.flatten().ok_or_else(|| {
            StoreError::Unavailable(format!(
                "{} permits and places in line are kept, as many as there may be",
                self.capacity
            ))
        })
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A list of holders is whole after every step.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Drops what nobody waits for any more: there are never more bells than places in line.
    fn forget_bells(&mut self) {
        if self.bells.len() > self.holders.waiting() {
            let holders = &self.holders;
            self.bells.retain(|(id, _)| holders.is_waiting(*id));
        }
    }

    /// Tells those in line whose turn it is.
    fn ring(&self) {
        if self.bells.is_empty() {
            return;
        }
        for id in self.limit.due(&self.holders) {
            if let Some((_, bell)) = self.bells.iter().find(|(waiting, _)| *waiting == id) {
                bell.notify_one();
            }
        }
    }
}

impl<C: Clock> PermitStore for MemoryPermits<C> {
    fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send {
        ready(self.acquire_now(key, limit, request))
    }

    fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> impl Future<Output = Result<Option<Nanos>, StoreError>> + Send {
        let now = self.clock.now();
        ready(Ok(self.step(key, None, |slot| limit.renew(&mut slot.holders, now, id)).flatten()))
    }

    fn release(&self, key: KeyHash, id: PermitId) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let now = self.clock.now();
        let released = self.step(key, None, |slot| {
            slot.bells.retain(|(waiting, _)| *waiting != id);
            slot.holders.release(now, id)
        });
        ready(Ok(released.unwrap_or(false)))
    }

    fn usage(&self, key: KeyHash) -> impl Future<Output = Result<PermitUsage, StoreError>> + Send {
        let now = self.clock.now();
        let usage = self.step(key, None, |slot| PermitUsage {
            in_use: slot.holders.in_use(now),
            awaited: slot.holders.awaited(now),
        });
        ready(Ok(usage.unwrap_or_default()))
    }

    async fn turn(&self, key: KeyHash, id: PermitId) {
        let bell = {
            let shard = self.shard(key);
            let bells = shard.keys.get(&key).map(|slot| &slot.bells);
            bells
                .and_then(|bells| bells.iter().find(|(waiting, _)| *waiting == id))
                .map(|(_, bell)| Arc::clone(bell))
        };
        match bell {
            // What rang before this is heard still.
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }
}
