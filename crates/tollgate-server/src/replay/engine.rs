//! Decides requests as a server with these policies would have.

use std::cmp::Reverse;
use std::sync::Arc;

use smallvec::SmallVec;
use tollgate::{
    Attribute, Config, KeyHash, LocalStore, ManualClock, MemoryOptions, MemoryStore, Overflow, Policy, PolicySet,
    random_seed,
};

use super::order::{Event, OrderTally};
use super::report::{BadLine, KeyReport, Lines, PolicyReport, Report, Span, Timeline, Totals};
use super::request::{LogRequest, attribute};
use super::suggest::{Offered, suggestions};
use super::tally::KeyTallies;
use super::timeline::TimelineCounter;

/// As many keys as a log can hold: a replay must not turn keys away that a server would not.
const CAPACITY: usize = 1 << 28;

/// Policies, a store, and what was seen.
pub(super) struct Engine {
    policies: Arc<PolicySet>,
    store: MemoryStore<ManualClock>,
    attributes: Vec<Attribute>,
    keeps_arrivals: bool,
    totals: Totals,
    span: Option<Span>,
    timeline: TimelineCounter,
    /// For each policy what each of its variants saw.
    tallies: Vec<Vec<KeyTallies>>,
}

impl Engine {
    /// `attributes` are the names that fields of the log were mapped to. `suggests`: whether to remember enough to say
    /// which limits would have fitted.
    pub(super) fn new(config: Config, attributes: &[String], suggests: bool) -> Self {
        let policies = Arc::new(PolicySet::new(config, random_seed()));
        let variants = |policy: &Policy| policy.variants().iter().map(|_| KeyTallies::default()).collect();
        Self {
            tallies: policies.policies().map(variants).collect(),
            policies,
            store: new_store(),
            attributes: attributes.iter().map(|name| attribute(name)).collect(),
            keeps_arrivals: suggests,
            totals: Totals::default(),
            span: None,
            timeline: TimelineCounter::new(),
        }
    }

    /// Decides one request.
    pub(super) fn take(&mut self, event: &Event<'_>) {
        let now = event.now;
        if event.restarted {
            self.store = new_store();
        }
        let request = LogRequest::new(&event.entry, &self.attributes);
        let plan = self.policies.plan(&request, now, None);
        let keys: SmallVec<[Option<KeyHash>; 4]> = plan.keys().collect();
        let answer = self.store.acquire_at(now, &plan.groups());
        let verdict = plan.verdict(&self.policies, answer);

        let allowed = verdict.is_allowed();
        self.totals.requests += 1;
        *(if allowed { &mut self.totals.admitted } else { &mut self.totals.denied }) += 1;
        self.totals.unmatched += u64::from(keys.is_empty());
        self.timeline.count(now.as_secs(), allowed);
        let span = self.span.get_or_insert(Span {
            first_unix_seconds: now.as_secs(),
            last_unix_seconds: now.as_secs(),
        });
        span.first_unix_seconds = span.first_unix_seconds.min(now.as_secs());
        span.last_unix_seconds = span.last_unix_seconds.max(now.as_secs());

        let mut shadow_denied = false;
        for (policy, key) in verdict.policies().zip(keys) {
            let Some(key) = key else { continue };
            let tally = self.tallies[policy.index][policy.variant].0.entry(key).or_default();
            tally.matched += 1;
            if self.keeps_arrivals {
                tally.arrivals.push(now);
            }
            if !policy.admitted {
                shadow_denied |= policy.shadow;
                if tally.name.is_none() {
                    tally.first_denied = now;
                    let name = self.policies.describe_key(policy.index, &request).unwrap_or_default();
                    tally.name = Some(name.into_boxed_str());
                }
                tally.denied += 1;
                tally.last_denied = now;
            }
        }
        self.totals.shadow_denied += u64::from(shadow_denied);
    }

    /// The report on all that was decided.
    pub(super) fn finish(self, policy_file: String, logs: Vec<String>, tally: &OrderTally, top: usize) -> Report {
        let mut hardest = Vec::new();
        let mut policies = Vec::new();
        for (policy, variants) in self.policies.policies().zip(&self.tallies) {
            policies.push(policy_report(policy, variants, self.policies.is_shadow(), self.keeps_arrivals));
            let keys = variants.iter().flat_map(|variant| variant.0.values()).filter(|key| key.denied > 0);
            hardest.extend(keys.map(|key| KeyReport {
                policy: policy.name().to_owned(),
                key: key.name.as_deref().unwrap_or_default().to_owned(),
                matched: key.matched,
                denied: key.denied,
                first_denied_unix_seconds: key.first_denied.as_secs(),
                last_denied_unix_seconds: key.last_denied.as_secs(),
            }));
        }
        hardest.sort_by(|one, other| {
            let order = |key: &KeyReport| (Reverse(key.denied), Reverse(key.matched));
            order(one).cmp(&order(other)).then_with(|| (&one.policy, &one.key).cmp(&(&other.policy, &other.key)))
        });
        hardest.truncate(top);
        let (start_unix_seconds, bucket_seconds, admitted, denied) = self.timeline.finish();
        let bad_example = |bad: &super::log::BadLine| BadLine {
            file: bad.input.to_string(),
            line: bad.line,
            reason: bad.reason.clone(),
            excerpt: bad.excerpt.clone(),
        };
        Report {
            policy_file,
            logs,
            lines: Lines {
                read: tally.lines.lines,
                requests: tally.lines.entries,
                blank: tally.lines.blank,
                bad: tally.lines.bad,
                out_of_order: tally.out_of_order,
                late: tally.late,
                restarts: tally.restarts,
            },
            bad_examples: tally.lines.examples().iter().map(bad_example).collect(),
            span: self.span,
            totals: self.totals,
            policies,
            hardest_keys: hardest,
            timeline: Timeline { start_unix_seconds, bucket_seconds, admitted, denied },
        }
    }
}

fn new_store() -> MemoryStore<ManualClock> {
    let options = MemoryOptions { capacity: CAPACITY, overflow: Overflow::Shared };
    MemoryStore::with_clock(ManualClock::default(), options)
}

fn policy_report(policy: &Policy, variants: &[KeyTallies], all_shadow: bool, suggests: bool) -> PolicyReport {
    let sum = |count: fn(&super::tally::KeyTally) -> u64| -> u64 {
        variants.iter().flat_map(|variant| variant.0.values()).map(count).sum()
    };
    let (matched, denied) = (sum(|key| key.matched), sum(|key| key.denied));
    let described = policy.variants().iter().flat_map(|variant| {
        variant.limits().iter().map(move |limit| match variant.tier() {
            Some(tier) => format!("{tier}: {}", limit.limit()),
            None => limit.limit().to_string(),
        })
    });
    let offered = policy.variants().iter().zip(variants).map(|(variant, keys)| Offered {
        variant,
        cost: policy.cost(),
        keys,
    });
    PolicyReport {
        name: policy.name().to_owned(),
        priority: policy.priority().into(),
        limits: described.collect(),
        shadow: policy.is_shadow() || all_shadow,
        enabled: policy.is_enabled(),
        keys: variants.iter().map(|variant| variant.0.len() as u64).sum(),
        matched,
        admitted: matched - denied,
        denied,
        suggestions: if suggests { offered.flat_map(|offered| suggestions(&offered)).collect() } else { Vec::new() },
    }
}
