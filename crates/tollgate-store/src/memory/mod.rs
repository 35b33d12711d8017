//! State in this process, in bounded memory.
//!
//! Nearly all states are a few words in a concurrent [table](table), decided by compare-and-swap: a decision about a key
//! waits for no other key's. Logs, whose size varies, have a [room](room) of their own.
//!
//! A key whose state has become equal to a new one's is forgotten when its room is needed. A key that still remembers
//! something is never dropped: when the store is full of such keys, a new key meets the [`Overflow`] rule.
//!
//! Several limits of one request are decided together in two steps: all states are looked at, and if the request
//! passes, the costs are taken one after the other. A state that has changed in between so that it now refuses makes
//! the request give back what it took and begin again. So a request that is denied has taken nothing; but for an
//! instant another may have seen what it held.

mod algorithms;
mod census;
#[cfg(feature = "durable")]
pub(crate) mod keep;
mod request;
mod room;
mod shard;
mod states;
mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_core::algorithm::meter::Meter;
use tollgate_core::packed::{LAST_MOMENT, OneWord};
use tollgate_core::{
    Answer, Clock, Decision, Grant, Group, HashedKey, Hit, KeyHash, Limit, LimitId, Nanos, Outcome, Outcomes,
    Retry, Source, State, Timestamp,
};

pub use self::algorithms::AlgorithmStore;

use self::states::States;
use self::table::{Home, Place};
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
    /// The most keys that are remembered at once; at least 1, at most about three billion.
    ///
    /// Memory is taken as keys come, 18 to 37 bytes for each key (twice that for limits whose interval is not a whole
    /// number of nanoseconds, such as 7 a second), and kept. From about fifteen thousand keys on, where Linux has huge
    /// pages for who asks, it comes in pages of 2 MiB, one more than are needed, which a thread of this process
    /// (`tollgate-pages`) makes ready. The directory takes about a hundred bytes for every thousand
    /// keys of the capacity, whether they come or not.
    pub capacity: usize,
    /// What a full store does with a new key.
    pub overflow: Overflow,
}

impl Default for MemoryOptions {
    /// A million keys, and a shared state for what goes beyond.
    fn default() -> Self {
        Self { capacity: 1_000_000, overflow: Overflow::Shared }
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
    own: States,
    /// The states that keys share when there is no room for one of their own: one for each limit.
    shared: States,
    overflow: Overflow,
    overflowed: AtomicU64,
}

/// How many keys' states are brought near at once: about as many memory accesses as a core has under way.
const BATCH: usize = 16;

/// The most limits whose overflow shares a state; keys of further ones are denied.
const SHARED_LIMITS_MAX: usize = 4_096;

/// There is no room for a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full {
    /// The first moment at which there may be room, as far as is known; `u64::MAX` if nothing is.
    soonest: u64,
}

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
        Self {
            clock,
            own: States::new(options.capacity.max(1)),
            shared: States::new(SHARED_LIMITS_MAX),
            overflow: options.overflow,
            overflowed: AtomicU64::new(0),
        }
    }

    /// How many keys are remembered, including those not yet noticed to be idle.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys can be remembered at once.
    pub const fn capacity(&self) -> usize {
        self.own.capacity()
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

    /// Decides by a meter whose states are one word, unless there is no room.
    #[inline(always)]
    fn acquire_metered(
        &self,
        now: Timestamp,
        home: Home<'_, 1>,
        meter: &Meter,
        cost: u32,
    ) -> Option<Outcome> {
        // A key that has no entry is at its fullest.
        let step = move |word: Option<u64>| meter.acquire_word(word.unwrap_or(0), now, cost);
        let answer = self.own.update_word(home, now, step).ok()?;
        let grant = answer.is_allowed().then_some(Grant { stamp: now, cost });
        Some(Outcome { decision: meter.decision(answer, cost), grant, source: Source::Memory })
    }

    /// Decides by a window whose states are one word, unless there is no room.
    fn acquire_window(
        &self,
        now: Timestamp,
        home: Home<'_, 1>,
        window: &impl OneWord,
        cost: u32,
    ) -> Option<Outcome> {
        if !window.fits() {
            return None;
        }
        let now = now.min(LAST_MOMENT);
        let present = window.window(now);
        let step = move |word| (word, window.next_word(present, word, now, cost));
        let before = self.own.update_word(home, now, step).ok()?;
        let step = window.step_from(present, before, now, cost);
        Some(Outcome { decision: step.decision, grant: step.grant, source: Source::Memory })
    }

    /// Decides a hit that is alone, whatever its limit and however full the store.
    #[inline(never)]
    fn acquire_any<K: HashedKey>(&self, now: Timestamp, home: Home<'_, 1>, hit: Hit<'_, K>) -> Outcome {
        let outcome = match hit.limit {
            _ if !hit.formers.is_empty() => None,
            Limit::FixedWindow(window) => self.acquire_window(now, home, window, hit.cost),
            Limit::SlidingWindow(window) => self.acquire_window(now, home, window, hit.cost),
            _ => None,
        };
        outcome.unwrap_or_else(|| self.acquire_full(now, &hit.with_key(hit.key.hash())))
    }

    fn acquire_full(&self, now: Timestamp, hit: &Hit<'_>) -> Outcome {
        self.carry_over(now, hit);
        let step = |states: &States, key| {
            states.update(key, hit.limit, now, |state| hit.limit.acquire(state, now, hit.cost))
        };
        let outcome = |step: tollgate_core::limit::Step, source| Outcome {
            decision: step.decision,
            grant: step.grant,
            source,
        };
        let full = match step(&self.own, hit.key) {
            Ok(step) => return outcome(step, Source::Memory),
            Err(full) => full,
        };
        let (found, soonest) = self.own.sweep(now);
        if found && let Ok(step) = step(&self.own, hit.key) {
            return outcome(step, Source::Memory);
        }
        // Relaxed: a statistic.
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        if self.overflow == Overflow::Shared
            && let Ok(step) = step(&self.shared, shared_key(hit.id))
        {
            return outcome(step, Source::Overflow);
        }
        let decision = turned_away(hit.limit.capacity(), Full { soonest: full.soonest.min(soonest) }, now);
        Outcome { decision, grant: None, source: Source::Overflow }
    }

    /// Moves what is left of a key whose limit was changed to the key of the new limit.
    fn carry_over(&self, now: Timestamp, hit: &Hit<'_>) {
        if hit.formers.is_empty() {
            return;
        }
        let Some(carried) = self.carried_over(hit, now) else { return };
        let left = |state: &State| hit.limit.decide(state, now, 0).remaining;
        let fresh = hit.limit.fresh(now);
        let moved = self.own.update(hit.key, hit.limit, now, |state| {
            // Another thread may have been here first; what it has begun goes on.
            if *state == fresh || left(state) > left(&carried) {
                state.clone_from(&carried);
            }
        });
        if moved.is_ok() {
            for former in hit.formers {
                // Moved, not copied: else it would come back once the new state is vacant.
                self.own.forget(former.key(hit.key));
            }
        }
    }
}

impl<C: Clock> LocalStore for MemoryStore<C> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        if let [group] = groups
            && let [hit] = group.hits
            && group.combine.admits(1, 1)
            && !group.combine.admits(0, 1)
        {
            let outcome = self.acquire_one_at(now, hit);
            let mut outcomes = Outcomes::new();
            outcomes.push(outcome);
            return Answer { allowed: group.shadow || outcome.decision.allowed, outcomes };
        }
        self.acquire_together(now, groups)
    }

    #[inline(always)]
    fn acquire_one_at<K: HashedKey>(&self, now: Timestamp, hit: &Hit<'_, K>) -> Outcome {
        let home = self.own.home(Place::of(&hit.key));
        if let Some(meter) = word_meter(hit)
            && let Some(outcome) = self.acquire_metered(now, home, meter, hit.cost)
        {
            return outcome;
        }
        // A copy, so that a caller which hardly ever comes here can keep its own in registers.
        self.acquire_any(now, home, *hit)
    }

    #[inline(always)]
    fn acquire_each_at<K: HashedKey>(
        &self,
        now: Timestamp,
        hit: &Hit<'_, ()>,
        keys: impl Iterator<Item = K>,
        mut each: impl FnMut(Outcome),
    ) {
        let meter = word_meter(hit);
        let approach = |key: K| {
            let home = self.own.home(Place::of(&key));
            home.prefetch();
            (home, key)
        };
        let mut keys = keys.fuse();
        while let Some(first) = keys.next() {
            let mut near = [approach(first); BATCH];
            let mut count = 1;
            for (near, key) in near[1..].iter_mut().zip(&mut keys) {
                *near = approach(key);
                count += 1;
            }
            for (home, key) in &near[..count] {
                // Told in two places, so that the outcome need not be where the other way puts its own.
                match meter.and_then(|meter| self.acquire_metered(now, *home, meter, hit.cost)) {
                    Some(outcome) => each(outcome),
                    None => each(self.acquire_any(now, *home, hit.with_key(*key))),
                }
            }
        }
    }

    #[inline]
    fn prefetch(&self, key: KeyHash) {
        self.own.home(Place::of(&key)).prefetch();
    }

    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        self.peek_together(now, groups)
    }

    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) {
        for refund in refunds {
            self.own.give_back(refund.key, refund.limit, now, refund.grant);
        }
    }

    fn reset(&self, keys: &[KeyHash]) {
        for key in keys {
            self.own.forget(*key);
        }
    }
}

/// The meter by which a hit's state is one word, unless its limit was changed.
#[inline(always)]
fn word_meter<'a, K>(hit: &Hit<'a, K>) -> Option<&'a Meter> {
    if hit.formers.is_empty() { hit.limit.word_meter() } else { None }
}

/// The key under which keys of a limit share a state.
const fn shared_key(id: LimitId) -> KeyHash {
    KeyHash(0).nth(id.0)
}

/// What a key is told for which there is no room, by a limit that holds so much.
fn turned_away(limit: u64, full: Full, now: Timestamp) -> Decision {
    // If nothing is known, it is worth to ask again soon.
    let wait = match full.soonest {
        u64::MAX => Nanos::new(1),
        at => Timestamp::from_nanos(at).since(now).max(Nanos::new(1)),
    };
    Decision { allowed: false, limit, remaining: 0, retry_after: Retry::After(wait), reset_after: wait }
}
