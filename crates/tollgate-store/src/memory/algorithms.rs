//! A store for one rule, whatever it remembers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::algorithm::Algorithm;
use tollgate_core::limit::Step;
use tollgate_core::{Clock, Decision, Grant, KeyHash, Outcome, Source, Timestamp};

use super::census::Census;
use super::room::{Room, lock};
use super::{Full, MemoryOptions, Overflow, turned_away};
use crate::clock::SystemClock;
use crate::store::is_over;
use crate::together::looked_by;

/// The states of many keys of one rule, which may be one's own, in bounded memory.
///
/// Keys are spread over shards by their hash, and a decision holds the lock of one shard. A key whose state is
/// [vacant](Algorithm::vacant_at) is forgotten when its room is needed; one that still remembers something never is: when the
/// store is full of such keys, a new one meets the [`Overflow`] rule.
///
/// ```
/// use tollgate_core::algorithm::SlidingLog;
/// use tollgate_core::{KeyHash, Quota};
/// use tollgate_store::{AlgorithmStore, MemoryOptions};
///
/// let store = AlgorithmStore::new(SlidingLog::new(Quota::per_hour(1))?, MemoryOptions::default());
/// assert!(store.acquire(KeyHash(7), 1).decision.allowed);
/// assert!(!store.acquire(KeyHash(7), 1).decision.allowed);
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Debug)]
pub struct AlgorithmStore<A: Algorithm, C = SystemClock> {
    algorithm: A,
    clock: C,
    census: Census,
    room: Room<A::State>,
    /// What keys share that have no room of their own.
    shared: Mutex<Option<A::State>>,
    overflow: Overflow,
    overflowed: AtomicU64,
}

impl<A: Algorithm> AlgorithmStore<A> {
    /// A store on this machine's clock. What the options say of memory holds for limits of this project; here an entry is
    /// a state and some 60 bytes.
    pub fn new(algorithm: A, options: MemoryOptions) -> Self {
        Self::with_clock(algorithm, SystemClock::new(), options)
    }
}

impl<A: Algorithm, C> AlgorithmStore<A, C> {
    /// The rule.
    pub const fn algorithm(&self) -> &A {
        &self.algorithm
    }
}

impl<A: Algorithm, C: Clock> AlgorithmStore<A, C> {
    /// A store on this clock.
    pub fn with_clock(algorithm: A, clock: C, options: MemoryOptions) -> Self {
        let capacity = options.capacity.max(1);
        Self {
            algorithm,
            clock,
            census: Census::new(capacity),
            room: Room::new(capacity),
            shared: Mutex::new(None),
            overflow: options.overflow,
            overflowed: AtomicU64::new(0),
        }
    }

    /// How many keys are remembered, including those not yet noticed to be idle.
    pub fn len(&self) -> usize {
        self.census.present()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys can be remembered at once.
    pub const fn capacity(&self) -> usize {
        self.census.capacity()
    }

    /// How many requests met the overflow rule since the store was made.
    pub fn overflowed(&self) -> u64 {
        // Relaxed: a statistic.
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Decides a request of a key, and takes its cost if it passes.
    pub fn acquire(&self, key: KeyHash, cost: u32) -> Outcome {
        let now = self.clock.now();
        let outcome = self.acquire_at(now, key, cost);
        if !outcome.decision.allowed && is_over(&outcome.decision, now, || self.clock.now()) {
            return self.acquire_at(self.clock.now(), key, cost);
        }
        outcome
    }

    /// Says whether [`acquire`](Self::acquire) would admit a request, and takes nothing: the numbers are those before it.
    pub fn peek(&self, key: KeyHash, cost: u32) -> Outcome {
        let now = self.clock.now();
        let look = |state: &A::State| looked_by(&self.algorithm, state, now, cost);
        let look_new = || look(&self.algorithm.fresh(now));
        let own = |decision| Outcome { decision, grant: None, source: Source::Memory };
        if let Some(decision) = self.room.look(key, look) {
            return own(decision);
        }
        if !self.census.is_full() {
            return own(look_new());
        }
        match self.room.sweep(&self.census, now) {
            (true, _) => own(look_new()),
            (false, soonest) => {
                let shared = || lock(&self.shared).as_ref().map(look);
                let decision = match self.overflow {
                    Overflow::Shared => shared().unwrap_or_else(look_new),
                    Overflow::Deny => self.turned_away(now, soonest),
                };
                Outcome { decision, grant: None, source: Source::Overflow }
            }
        }
    }

    /// Gives back what was taken from a key. `source` is what decided then: it goes back to there. A key that was
    /// forgotten has recovered it already.
    pub fn refund(&self, key: KeyHash, grant: Grant, source: Source) {
        let now = self.clock.now();
        let refund = |state: &mut A::State| self.algorithm.refund(state, now, grant);
        if source == Source::Overflow {
            if let Some(state) = lock(&self.shared).as_mut() {
                refund(state);
            }
        } else {
            self.room.change(&self.census, key, &self.algorithm, now, refund);
        }
    }

    /// Forgets a key: it is as new.
    pub fn reset(&self, key: KeyHash) {
        self.room.forget(&self.census, key);
    }

    fn acquire_at(&self, now: Timestamp, key: KeyHash, cost: u32) -> Outcome {
        let acquire = |state: &mut A::State| self.algorithm.acquire(state, now, cost);
        let own = || self.room.update(&self.census, key, &self.algorithm, now, acquire);
        let outcome = |Step { decision, grant }, source| Outcome { decision, grant, source };
        let full = match own() {
            Ok(step) => return outcome(step, Source::Memory),
            Err(full) => full,
        };
        let (found, soonest) = self.room.sweep(&self.census, now);
        if found && let Ok(step) = own() {
            return outcome(step, Source::Memory);
        }
        // Relaxed: a statistic.
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        match self.overflow {
            Overflow::Shared => {
                let mut shared = lock(&self.shared);
                let state = shared.get_or_insert_with(|| self.algorithm.fresh(now));
                outcome(acquire(state), Source::Overflow)
            }
            Overflow::Deny => {
                let decision = self.turned_away(now, full.soonest.min(soonest));
                Outcome { decision, grant: None, source: Source::Overflow }
            }
        }
    }

    fn turned_away(&self, now: Timestamp, soonest: u64) -> Decision {
        let limit = self.algorithm.decide(&self.algorithm.fresh(now), now, 0).limit;
        turned_away(limit, Full { soonest }, now)
    }
}
