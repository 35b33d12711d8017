//! Keys that are denied everything for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

impl Ban {
    /// A ban of a key under the policy of this name, up to a moment.
    pub fn new(policy: impl Into<String>, key: KeyHash, until: Timestamp) -> Self {
        Self { policy: policy.into(), key, until }
    }
}

/// The bans of a gate. They are this process's own: who is banned costs the store nothing.
#[derive(Debug)]
pub(crate) struct Bans {
    /// How many there are, so that where there are none nobody asks for the lock.
    count: AtomicUsize,
    /// Under which policy each is banned, and until when.
    running: RwLock<HashMap<KeyHash, (Box<str>, Timestamp)>>,
    /// The denials of keys, as soon as any policy bans for them.
    denials: OnceLock<MemoryStore>,
}

/// The most keys that are banned at once, and whose denials are counted. Further ones are limited, but not banned.
const KEYS_MAX: usize = 100_000;

impl Bans {
    pub(crate) fn new(policies: &PolicySet) -> Self {
        let bans = Self { count: AtomicUsize::new(0), running: RwLock::default(), denials: OnceLock::new() };
        bans.prepare(policies);
        bans
    }

    /// Makes ready for what these policies want.
    pub(crate) fn prepare(&self, policies: &PolicySet) {
        if policies.policies().any(|policy| policy.ban().is_some()) {
            let options = MemoryOptions { capacity: KEYS_MAX, ..MemoryOptions::default() };
            self.denials.get_or_init(|| MemoryStore::new(options));
        }
    }

    /// Whether nobody is banned, and nobody can be but by hand.
    #[inline]
    pub(crate) fn are_idle(&self) -> bool {
        self.denials.get().is_none() && self.are_none()
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
        let running = plan.ban_keys().filter_map(until).filter(|(_, until)| *until > now);
        let longest = running.max_by_key(|(_, until)| *until);
        longest.map(|(policy, until)| (policy, until.since(now)))
    }

    /// Counts denials, and bans for the one that is too much.
    pub(crate) fn note(&self, now: Timestamp, policies: &PolicySet, verdict: &Verdict) {
        let Some(denials) = self.denials.get() else { return };
        for (index, key) in verdict.denials() {
            let Some(policy) = policies.policy(index) else { continue };
            let Some(rule) = policy.ban() else { continue };
            let hit = Hit::new(LimitId::default(), key, rule.after());
            if !denials.acquire_one_at(now, &hit).decision.allowed {
                self.add(now, policy.name(), key, rule.length());
            }
        }
    }

    /// Bans a key. One that is banned for longer stays so.
    pub(crate) fn add(&self, now: Timestamp, policy: &str, key: KeyHash, length: Nanos) {
        self.add_until(now, policy, key, now.saturating_add(length));
    }

    /// The same up to a moment.
    pub(crate) fn add_until(&self, now: Timestamp, policy: &str, key: KeyHash, until: Timestamp) {
        let mut bans = self.write();
        if bans.len() >= KEYS_MAX && !bans.contains_key(&key) {
            bans.retain(|_, (_, until)| *until > now);
            if bans.len() >= KEYS_MAX {
                return;
            }
        }
        let ban = bans.entry(key).or_insert_with(|| (policy.into(), until));
        ban.1 = ban.1.max(until);
        self.count.store(bans.len(), Ordering::Relaxed);
    }

    /// Ends the bans of keys, and forgets their denials. Returns how many were banned.
    pub(crate) fn lift(&self, keys: &[KeyHash]) -> usize {
        if let Some(denials) = self.denials.get() {
            LocalStore::reset(denials, keys);
        }
        if self.are_none() {
            return 0;
        }
        let mut bans = self.write();
        let lifted = keys.iter().filter(|key| bans.remove(*key).is_some()).count();
        self.count.store(bans.len(), Ordering::Relaxed);
        lifted
    }

    /// Those that have not ended, the longest first.
    pub(crate) fn list(&self, now: Timestamp) -> Vec<Ban> {
        let mut bans = self.write();
        bans.retain(|_, (_, until)| *until > now);
        self.count.store(bans.len(), Ordering::Relaxed);
        let ban = |(key, (policy, until)): (&KeyHash, &(Box<str>, Timestamp))| Ban {
            policy: policy.to_string(),
            key: *key,
            until: *until,
        };
        let mut list: Vec<Ban> = bans.iter().map(ban).collect();
        list.sort_by_key(|ban| (std::cmp::Reverse(ban.until), ban.key));
        list
    }

    // Also after a panic elsewhere: no change leaves the table half-changed.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<KeyHash, (Box<str>, Timestamp)>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<KeyHash, (Box<str>, Timestamp)>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }
}
