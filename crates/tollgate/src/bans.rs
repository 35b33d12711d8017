//! Keys that are denied everything for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tollgate_core::{Hit, KeyHash, LimitId, Nanos, Timestamp};
use tollgate_policy::{Plan, PolicySet, Verdict};
use tollgate_store::{LocalStore, MemoryOptions, MemoryStore};

/// A key that is denied everything for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// The policy under which it is banned.
    pub policy: String,
    /// The key, as stores know it.
    pub key: KeyHash,
    /// When the ban ends.
    pub until: Timestamp,
}

/// The bans of a gate. They are this process's own: who is banned costs the store nothing.
#[derive(Debug)]
pub(crate) struct Bans {
    /// How many there are, so that where there are none nobody asks for the lock.
    count: AtomicUsize,
    /// Under which policy each is banned, and until when.
    running: RwLock<HashMap<KeyHash, (usize, Timestamp)>>,
    /// The denials of keys, if any policy bans for them.
    denials: Option<MemoryStore>,
}

/// The most keys that are banned at once, and whose denials are counted. Further ones are limited, but not banned.
const KEYS_MAX: usize = 100_000;

impl Bans {
    pub(crate) fn new(policies: &PolicySet) -> Self {
        let is_used = policies.policies().any(|policy| policy.ban().is_some());
        let options = MemoryOptions { capacity: KEYS_MAX, ..MemoryOptions::default() };
        Self {
            count: AtomicUsize::new(0),
            running: RwLock::default(),
            denials: is_used.then(|| MemoryStore::new(options)),
        }
    }

    /// Whether nobody is banned, and nobody can be but by hand.
    #[inline]
    pub(crate) fn are_idle(&self) -> bool {
        self.denials.is_none() && self.are_none()
    }

    #[inline]
    fn are_none(&self) -> bool {
        self.len() == 0
    }

    /// How many there are, with those that have ended and were not noticed yet.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // Relaxed: a ban holds from when it is seen.
        self.count.load(Ordering::Relaxed)
    }

    /// The policy whose ban denies a request for the longest, and for how much longer.
    pub(crate) fn find(&self, now: Timestamp, plan: &Plan<'_>) -> Option<(usize, Nanos)> {
        if self.are_none() {
            return None;
        }
        let bans = self.read();
        let until = |(policy, key)| Some((policy, bans.get(&key)?.1));
        let running = plan.enforced().filter_map(until).filter(|(_, until)| *until > now);
        let longest = running.max_by_key(|(_, until)| *until);
        longest.map(|(policy, until)| (policy, until.since(now)))
    }

    /// Counts denials, and bans for the one that is too much.
    pub(crate) fn note(&self, now: Timestamp, policies: &PolicySet, verdict: &Verdict) {
        let Some(denials) = &self.denials else { return };
        for (index, key) in verdict.denials() {
            let Some(rule) = policies.policy(index).and_then(|policy| policy.ban()) else { continue };
            let hit = Hit::new(LimitId::default(), key, rule.after());
            if !denials.acquire_one_at(now, &hit).decision.allowed {
                self.add(now, index, key, rule.length());
            }
        }
    }

    /// Bans a key. One that is banned for longer stays so.
    pub(crate) fn add(&self, now: Timestamp, policy: usize, key: KeyHash, length: Nanos) {
        let until = now.saturating_add(length);
        let mut bans = self.write();
        if bans.len() >= KEYS_MAX && !bans.contains_key(&key) {
            bans.retain(|_, (_, until)| *until > now);
            if bans.len() >= KEYS_MAX {
                return;
            }
        }
        let ban = bans.entry(key).or_insert((policy, until));
        ban.1 = ban.1.max(until);
        self.count.store(bans.len(), Ordering::Relaxed);
    }

    /// Ends the bans of keys, and forgets their denials.
    pub(crate) fn lift(&self, keys: &[KeyHash]) {
        if let Some(denials) = &self.denials {
            LocalStore::reset(denials, keys);
        }
        if !self.are_none() {
            let mut bans = self.write();
            bans.retain(|key, _| !keys.contains(key));
            self.count.store(bans.len(), Ordering::Relaxed);
        }
    }

    /// Those that have not ended, the longest first.
    pub(crate) fn list(&self, now: Timestamp, policies: &PolicySet) -> Vec<Ban> {
        let mut bans = self.write();
        bans.retain(|_, (_, until)| *until > now);
        self.count.store(bans.len(), Ordering::Relaxed);
        let name = |index| policies.policy(index).map(|policy| policy.name().to_owned()).unwrap_or_default();
        let ban = |(key, (policy, until)): (&KeyHash, &(usize, Timestamp))| Ban {
            policy: name(*policy),
            key: *key,
            until: *until,
        };
        let mut list: Vec<Ban> = bans.iter().map(ban).collect();
        list.sort_by_key(|ban| (std::cmp::Reverse(ban.until), ban.key));
        list
    }

    // Also after a panic elsewhere: no change leaves the table half-changed.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<KeyHash, (usize, Timestamp)>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<KeyHash, (usize, Timestamp)>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }
}
