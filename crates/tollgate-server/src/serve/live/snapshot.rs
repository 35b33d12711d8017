//! A second as JSON.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tollgate::{PolicyStatistics, PolicyVerdict, Verdict};

use super::keys::{Counted, TopKeys};
use super::latency::{Counts, Latency, percentile};
use super::unix_ms;
use crate::serve::api::App;

/// How many policies and keys are shown.
const POLICIES_MAX: usize = 50;
const KEYS_MAX: usize = 10;

/// What has happened in a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Second {
    /// The numbers that a chart needs.
    pub(super) point: Point,
    /// All of it, as JSON; written once for all who look.
    pub(super) json: Arc<str>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Point {
    unix_ms: u64,
    allowed: u64,
    denied: u64,
    errors: u64,
    /// Absent if nothing was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ns: Option<u64>,
}

#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    point: Point,
    version: &'static str,
    uptime_s: u64,
    /// Since the server was started.
    totals: Totals,
    policies: Vec<PolicyNow>,
    more_policies: usize,
    bans: usize,
    /// What is wrong with the policy files, if they could not be loaded again.
    #[serde(skip_serializing_if = "Option::is_none")]
    reload_failure: Option<String>,
    store: StoreNow,
    busy_keys: Vec<KeyNow>,
    denied_keys: Vec<KeyNow>,
    recent: &'a VecDeque<Recent>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Totals {
    allowed: u64,
    denied: u64,
    errors: u64,
}

#[derive(Serialize)]
struct PolicyNow {
    name: String,
    shadow: bool,
    /// In this second.
    matched: u64,
    denied: u64,
    /// Since the server was started.
    all_matched: u64,
    all_denied: u64,
}

#[derive(Serialize)]
struct StoreNow {
    backend: &'static str,
    available: bool,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    keys: usize,
    capacity: usize,
    overflowed: u64,
}

/// The keys that ask the most, and those that are denied the most.
#[derive(Serialize)]
pub(in crate::serve) struct HotKeys {
    busy: Vec<KeyNow>,
    denied: Vec<KeyNow>,
}

impl HotKeys {
    pub(super) fn new(busy: &TopKeys, denied: &TopKeys, most: usize) -> Self {
        let top = |keys: &TopKeys| keys.top(most).into_iter().map(KeyNow::from).collect();
        Self { busy: top(busy), denied: top(denied) }
    }
}

#[derive(Serialize)]
struct KeyNow {
    policy: String,
    key: String,
    /// The hash of it.
    key_hash: String,
    count: u64,
}

/// One decision.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Recent {
    unix_ms: u64,
    allowed: bool,
    policy: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    /// Absent if waiting does not help, or if there is nothing to wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The limit that decided, as people write it.
    rule: String,
    source: &'static str,
}

impl Recent {
    pub(super) fn new(verdict: &Verdict, policy: &PolicyVerdict<'_>, key: String, unix_ms: u64) -> Self {
        let finite = |count: u64| (count != u64::MAX).then_some(count);
        let tightest = policy.tightest();
        let wait = policy.retry_after.nanos().map(|wait| wait.as_nanos().div_ceil(1_000_000));
        Self {
            unix_ms,
            allowed: verdict.is_allowed(),
            policy: policy.policy.name().to_owned(),
            key,
            limit: finite(policy.limit()),
            remaining: finite(policy.remaining()),
            retry_after_ms: wait.filter(|_| !verdict.is_allowed()),
            rule: tightest.map(|(limit, _)| limit.limit().to_string()).unwrap_or_default(),
            source: tightest.map_or("", |(_, outcome)| outcome.source.name()),
        }
    }
}

/// Tells seconds apart.
#[derive(Debug)]
pub(super) struct Sampler {
    started: Instant,
    totals: Totals,
    latency: Option<Counts>,
    /// Matched and denied of each policy.
    policies: HashMap<String, (u64, u64)>,
}

impl Sampler {
    pub(super) fn new(app: &App) -> Self {
        Self { started: app.started, totals: totals(app), latency: None, policies: HashMap::new() }
    }

    /// What has happened since it was asked last.
    pub(super) fn sample(
        &mut self,
        app: &App,
        busy: &TopKeys,
        denied: &TopKeys,
        recent: &VecDeque<Recent>,
        latency: &Latency,
    ) -> Second {
        let (totals, counts, policies) = (totals(app), latency.counts(), app.gate.status().policies);
        let times = |of_thousand| percentile(self.latency.as_ref()?, &counts, of_thousand);
        let point = Point {
            unix_ms: unix_ms(),
            allowed: totals.allowed.saturating_sub(self.totals.allowed),
            denied: totals.denied.saturating_sub(self.totals.denied),
            errors: totals.errors.saturating_sub(self.totals.errors),
            p50_ns: times(500),
            p99_ns: times(990),
        };
        let mut shown = self.policies_now(&policies);
        let more_policies = shown.len().saturating_sub(POLICIES_MAX);
        shown.truncate(POLICIES_MAX);
        let keys = HotKeys::new(busy, denied, KEYS_MAX);
        let full = Full {
            point,
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            totals,
            policies: shown,
            more_policies,
            bans: app.gate.ban_count(),
            reload_failure: app.book.last().failure.map(|(_, why)| why),
            store: store(app),
            busy_keys: keys.busy,
            denied_keys: keys.denied,
            recent,
        };
        // Texts and numbers can always be written.
        let json = serde_json::to_string(&full).unwrap_or_default().into();
        (self.totals, self.latency) = (totals, Some(counts));
        let counts = |policy: PolicyStatistics| (policy.name, (policy.matched, policy.denied));
        self.policies = policies.into_iter().map(counts).collect();
        Second { point, json }
    }

    /// The policies, those that deny the most first.
    fn policies_now(&self, counted: &[PolicyStatistics]) -> Vec<PolicyNow> {
        let mut now: Vec<PolicyNow> = counted
            .iter()
            .filter(|policy| policy.is_enabled)
            .map(|policy| {
                let before = self.policies.get(&policy.name).copied().unwrap_or_default();
                PolicyNow {
                    name: policy.name.clone(),
                    shadow: policy.is_shadow,
                    matched: policy.matched.saturating_sub(before.0),
                    denied: policy.denied.saturating_sub(before.1),
                    all_matched: policy.matched,
                    all_denied: policy.denied,
                }
            })
            .collect();
        if now.len() > POLICIES_MAX {
            now.sort_by_key(|policy| std::cmp::Reverse((policy.all_denied, policy.all_matched)));
        }
        now
    }
}

fn totals(app: &App) -> Totals {
    let (allowed, denied, errors) = app.metrics.totals();
    Totals { allowed, denied, errors }
}

fn store(app: &App) -> StoreNow {
    let store = app.gate.store();
    StoreNow {
        backend: store.backend(),
        available: store.is_available().unwrap_or(true),
        failures: store.consecutive_failures(),
        trouble: store.trouble(),
        keys: store.local().len(),
        capacity: app.capacity,
        overflowed: store.local().overflowed(),
    }
}

impl From<Counted> for KeyNow {
    fn from(counted: Counted) -> Self {
        Self {
            key_hash: format!("{:032x}", counted.key.0),
            policy: counted.policy,
            key: counted.name,
            count: counted.count,
        }
    }
}
