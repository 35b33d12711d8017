//! Replacing a gate's policies while it decides.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate_core::{Level, Timestamp};
use tollgate_policy::{Config, Policy, PolicySet};
use tollgate_store::LocalStore;

use super::Gate;
use crate::statistics::{PolicyStatistics, Statistics};

/// Policies, and what is counted of each.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) policies: Arc<PolicySet>,
    /// In their order. Whoever decides by former policies goes on counting here.
    counts: Box<[Arc<Counts>]>,
}

/// What one policy has said. All orderings are relaxed: each counter stands for itself.
#[derive(Debug, Default)]
struct Counts {
    matched: AtomicU64,
    denied: AtomicU64,
}

impl Current {
    pub(super) fn new(policies: PolicySet) -> Self {
        let counts = policies.policies().map(|_| Arc::default()).collect();
        Self { policies: Arc::new(policies), counts }
    }

    /// What follows it. A policy of the same name goes on counting where it was.
    fn succeeded_by(&self, policies: PolicySet) -> Self {
        let counts = |policy: &Policy| self.counts.get(self.policies.index_of(policy.name())?).cloned();
        let counts = policies.policies().map(|policy| counts(policy).unwrap_or_default()).collect();
        Self { policies: Arc::new(policies), counts }
    }

    /// Notes what policies say of a request: for each its index, and whether it admits.
    #[inline]
    pub(super) fn record(&self, admissions: impl Iterator<Item = (usize, bool)>) {
        for (policy, admitted) in admissions {
            if let Some(counts) = self.counts.get(policy) {
                counts.matched.fetch_add(1, Ordering::Relaxed);
                if !admitted {
                    counts.denied.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The same by policies that may have been replaced meanwhile.
    pub(super) fn record_by(&self, set: &Arc<PolicySet>, admissions: impl Iterator<Item = (usize, bool)>) {
        if Arc::ptr_eq(set, &self.policies) {
            return self.record(admissions);
        }
        let now = |(index, admitted)| Some((self.policies.index_of(set.policy(index)?.name())?, admitted));
        self.record(admissions.filter_map(now));
    }

    /// Adds what is known of the policies.
    pub(super) fn describe(&self, status: &mut Statistics) {
        status.active_policies = self.policies.policies().filter(|policy| policy.is_enabled()).count() as u64;
        let policies = self.policies.policies().zip(&self.counts);
        let statistics = |(policy, counts): (&Policy, &Arc<Counts>)| PolicyStatistics {
            name: policy.name().to_owned(),
            is_enabled: policy.is_enabled(),
            is_shadow: policy.is_shadow() || self.policies.is_shadow(),
            matched: counts.matched.load(Ordering::Relaxed),
            denied: counts.denied.load(Ordering::Relaxed),
        };
        status.policies = policies.map(statistics).collect();
    }
}

/// One reload at a time, and the policies before the last. Those are kept so that no request which was decided by them has to
/// take them apart, which takes milliseconds for thousands.
#[derive(Debug, Default)]
pub(super) struct Reloads(Mutex<Option<Arc<Current>>>);

/// What a new configuration changed: names of policies, in the order of their files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those of which anything is different.
    pub changed: Vec<String>,
    /// Those that are no longer there.
    pub removed: Vec<String>,
    /// How many are as they were.
    pub unchanged: usize,
}

impl Changes {
    /// What is different between two configurations.
    fn between(former: &PolicySet, latter: &PolicySet) -> Self {
        let mut changes = Self::default();
        for policy in latter.policies() {
            match former.index_of(policy.name()).and_then(|index| former.policy(index)) {
                None => changes.added.push(policy.name().to_owned()),
                // One that was taken over is the very same.
                Some(same) if ptr::eq(same, policy) || same == policy => changes.unchanged += 1,
                Some(_) => changes.changed.push(policy.name().to_owned()),
            }
        }
        let is_gone = |policy: &&Policy| latter.index_of(policy.name()).is_none();
        changes.removed = former.policies().filter(is_gone).map(|policy| policy.name().to_owned()).collect();
        changes
    }

    /// Whether everything is as it was.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl<S: LocalStore> Gate<S> {
    /// Replaces the policies from now on, while others go on asking: each request is decided by the old ones or by the new.
    ///
    /// What keys have spent stays spent. A policy is known by its name, a limit by its own name or else by its place in the
    /// policy, and a tier by its name: of a limit whose numbers were changed, what was left is carried over, at most what the
    /// new one holds. Bans and counts go on as well. Where nodes share a store, each has to be told; until all of them are, a
    /// key may be admitted once by the old limit and once by the new.
    ///
    /// ```
    /// use tollgate::{Config, Format, Gate, Request};
    ///
    /// let file = |limit: u32| {
    ///     let text = format!("policies: [{{ name: api, key: ip, limit: {limit}/hour }}]");
    ///     Config::parse("inline", &text, Format::Yaml, &[])
    /// };
    /// let gate = Gate::new(file(100)?);
    /// let request = Request::default().with_ip("203.0.113.7".parse().unwrap());
    /// let _ = gate.check_n(&request, 95);
    ///
    /// assert_eq!(gate.reload(file(10)?).changed, ["api"]);
    /// assert_eq!(gate.peek(&request, None).deciding().map(|policy| policy.remaining()), Some(5));
    /// # Ok::<(), tollgate::Problems>(())
    /// ```
    pub fn reload(&self, config: Config) -> Changes {
        self.reload_at(self.store.now(), config)
    }

    /// Says how a service fares: policies that adapt to it have so much less from now on, or again all that they were written with.
    /// Returns whether that is anything new; if not, nothing is done.
    ///
    /// What keys have spent stays spent, as by [`reload`](Self::reload). A reload keeps the levels.
    ///
    /// ```
    /// use tollgate::{Config, Format, Gate, Level, Request};
    ///
    /// let gate = Gate::new(Config::parse("inline", "
    ///     health: { orders: { errors: { degraded: 5%, bad: 25% } } }
    ///     policies: [{ name: api, key: ip, limit: 100/minute, adaptive: orders }]
    /// ", Format::Yaml, &[])?);
    /// let request = Request::default().with_ip("203.0.113.7".parse()?);
    /// assert!(gate.set_level("orders", Level::Bad));
    /// assert_eq!(gate.check(&request).deciding().map(|policy| policy.limit()), Some(30));
    /// assert!(gate.set_level("orders", Level::Good));
    /// assert_eq!(gate.check(&request).deciding().map(|policy| policy.limit()), Some(100));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_level(&self, service: &str, level: Level) -> bool {
        self.set_level_at(self.store.now(), service, level)
    }
}

impl<S> Gate<S> {
    /// [`reload`](Self::reload) at a given time, on any store.
    pub fn reload_at(&self, now: Timestamp, config: Config) -> Changes {
        let mut last = self.reloads.begin();
        let former = self.current.load_full();
        let policies = former.policies.succeed(config, now);
        let changes = Changes::between(&former.policies, &policies);
        self.replace(&mut last, former, policies);
        changes
    }

    /// [`set_level`](Self::set_level) at a given time, on any store.
    pub fn set_level_at(&self, now: Timestamp, service: &str, level: Level) -> bool {
        let mut last = self.reloads.begin();
        let former = self.current.load_full();
        if former.policies.level_of(service) == level {
            return false;
        }
        let policies = former.policies.at_level(service, level, now);
        self.replace(&mut last, former, policies);
        true
    }

    fn replace(&self, last: &mut Option<Arc<Current>>, former: Arc<Current>, policies: PolicySet) {
        self.bans.prepare(&policies);
        self.current.store(Arc::new(former.succeeded_by(policies)));
        *last = Some(former);
    }
}

impl Reloads {
    fn begin(&self) -> MutexGuard<'_, Option<Arc<Current>>> {
        // Also after a panic: what is kept there is only to be dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
