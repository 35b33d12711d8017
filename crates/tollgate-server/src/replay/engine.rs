//! Decides requests as a server with these policies would have.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;
use tollgate::{
    Answer, Group, Hit, KeyHash, LocalStore, ManualClock, MemoryOptions, MemoryStore, Overflow, Policy,
    PolicySet, Timestamp,
};

use super::order::{Event, OrderTally};
use super::plan::{Part, Planned, Planner};
use super::report::{BadLine, KeyReport, Lines, PolicyReport, Report, Span, Suggestion, Timeline, Totals};
use super::suggest::{Offered, suggestion};
use super::tally::KeyTallies;
use super::timeline::TimelineCounter;

/// More keys than are under way at once in any log: a replay must not turn keys away that a server would not.
const CAPACITY: usize = 1 << 23;

/// Policies, a store, and what was seen.
pub(super) struct Engine {
    planner: Planner,
    store: MemoryStore<ManualClock>,
    keeps_arrivals: bool,
    totals: Totals,
    span: Option<Span>,
    timeline: TimelineCounter,
    /// For each policy what each of its variants saw.
    tallies: Vec<Vec<KeyTallies>>,
}

impl Engine {
    /// `suggests`: whether to remember enough to say which limits would have fitted.
    pub(super) fn new(planner: Planner, suggests: bool) -> Self {
        let variants = |policy: &Policy| policy.variants().iter().map(|_| KeyTallies::default()).collect();
        Self {
            tallies: planner.policies.policies().map(variants).collect(),
            planner,
            store: new_store(),
            keeps_arrivals: suggests,
            totals: Totals::default(),
            span: None,
            timeline: TimelineCounter::new(),
        }
    }

    /// Decides one request.
    pub(super) fn take(&mut self, event: &Event<'_>) {
        let Event { request, now, restarted } = event;
        if *restarted {
            self.store = new_store();
        }
        let (allowed, admitted) = self.decide(request, *now);
        self.count(*now, allowed, request.parts.is_empty());
        let mut first = 0;
        for (part, (admitted, _)) in request.parts.iter().zip(&admitted) {
            // A policy without limits counts nobody.
            if let Some(key) = request.keys[first..first + part.limits].first() {
                self.tally(*now, *part, *key, request, *admitted);
            }
            first += part.limits;
        }
        self.totals.shadow_denied += u64::from(admitted.contains(&(false, true)));
    }

    /// Whether the request passes, and for each policy whether it admits it and whether it only watches.
    fn decide(&self, request: &Planned<'_>, now: Timestamp) -> (bool, SmallVec<[(bool, bool); 4]>) {
        let policies = &self.planner.policies;
        let hits = hits(policies, request);
        let groups = groups(policies, request, &hits);
        let answer = self.store.acquire_at(now, &groups);
        (answer.allowed, admitted(&groups, &answer))
    }

    fn count(&mut self, now: Timestamp, allowed: bool, unmatched: bool) {
        self.totals.requests += 1;
        *(if allowed { &mut self.totals.admitted } else { &mut self.totals.denied }) += 1;
        self.totals.unmatched += u64::from(unmatched);
        let second = now.as_secs();
        self.timeline.count(second, allowed);
        let span = self.span.get_or_insert(Span { first_unix_seconds: second, last_unix_seconds: second });
        span.first_unix_seconds = span.first_unix_seconds.min(second);
        span.last_unix_seconds = span.last_unix_seconds.max(second);
    }

    fn tally(&mut self, now: Timestamp, part: Part, key: KeyHash, request: &Planned<'_>, admitted: bool) {
        let tally = self.tallies[part.policy][part.variant].0.entry(key).or_default();
        tally.matched += 1;
        if self.keeps_arrivals {
            tally.arrivals.push(now);
        }
        if !admitted {
            if tally.name.is_none() {
                tally.first_denied = now;
                let described = request.entry().and_then(|entry| {
                    self.planner.policies.describe_key(part.policy, &self.planner.request(&entry))
                });
                tally.name = Some(described.unwrap_or_default().into_boxed_str());
            }
            tally.denied += 1;
            tally.last_denied = now;
        }
    }

    /// What would have fitted, for each policy; worked out on all cores.
    fn suggestions(&self) -> Vec<Vec<Suggestion>> {
        if !self.keeps_arrivals {
            return Vec::new();
        }
        // Each limit is a job of its own, so that a policy with several does not hold up the rest. Only when requests came
        // is known of a key, not what each cost, so that there is nothing to suggest where that differs.
        let policies = self.planner.policies.policies().zip(&self.tallies).enumerate();
        let policies = policies.filter(|(_, (policy, _))| policy.cost_expression().is_none());
        let jobs: Vec<(usize, Offered<'_>)> = policies
            .flat_map(|(index, (policy, variants))| {
                policy.variants().iter().zip(variants).flat_map(move |(variant, keys)| {
                    variant.limits().iter().map(move |limit| {
                        (index, Offered { tier: variant.tier(), limit, cost: policy.cost(), keys })
                    })
                })
            })
            .collect();
        let next = AtomicUsize::new(0);
        let work = || {
            // Relaxed: each number is drawn once, and nothing else is published with it.
            let drawn = std::iter::from_fn(|| {
                let job = next.fetch_add(1, Ordering::Relaxed);
                jobs.get(job).map(|(_, offered)| (job, offered))
            });
            drawn.filter_map(|(job, offered)| Some((job, suggestion(offered)?))).collect::<Vec<_>>()
        };
        let cores =
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(jobs.len().max(1));
        let mut found = std::thread::scope(|scope| {
            let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
            let mut found = work();
            for other in others {
                // A thread that panicked has said so already; its share is missing from the report.
                found.extend(other.join().unwrap_or_default());
            }
            found
        });
        // In the order of the configuration, whoever finished first.
        found.sort_unstable_by_key(|(job, _)| *job);
        let mut each = vec![Vec::new(); self.tallies.len()];
        for (job, suggestion) in found {
            each[jobs[job].0].push(suggestion);
        }
        each
    }

    /// The report on all that was decided.
    pub(super) fn finish(
        self,
        policy_file: String,
        logs: Vec<String>,
        tally: &OrderTally,
        top: usize,
    ) -> Report {
        let set = &self.planner.policies;
        let mut suggestions = self.suggestions();
        let mut hardest = Vec::new();
        let mut policies = Vec::new();
        for (index, (policy, variants)) in set.policies().zip(&self.tallies).enumerate() {
            let suggested = suggestions.get_mut(index).map(std::mem::take).unwrap_or_default();
            policies.push(policy_report(policy, variants, set.is_shadow(), suggested));
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
            order(one)
                .cmp(&order(other))
                .then_with(|| (&one.policy, &one.key).cmp(&(&other.policy, &other.key)))
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

/// What the planned policies ask of the store.
fn hits<'p>(policies: &'p PolicySet, request: &Planned<'_>) -> SmallVec<[Hit<'p>; 8]> {
    let mut keys = request.keys.iter();
    let mut hits = SmallVec::new();
    for part in request.parts {
        let Some(policy) = policies.policy(part.policy) else { continue };
        let limits = policy.variants().get(part.variant).map_or(&[][..], |variant| variant.limits());
        for (limit, key) in limits.iter().zip(keys.by_ref().take(part.limits)) {
            hits.push(Hit::new(limit.id(), *key, limit.limit()).with_cost(part.cost));
        }
    }
    hits
}

fn groups<'h>(policies: &PolicySet, request: &Planned<'_>, hits: &'h [Hit<'h>]) -> SmallVec<[Group<'h>; 4]> {
    let mut rest = hits;
    let mut groups = SmallVec::new();
    for part in request.parts {
        let Some(policy) = policies.policy(part.policy) else { continue };
        let (own, others) = rest.split_at(part.limits.min(rest.len()));
        rest = others;
        let shadow = policy.is_shadow() || policies.is_shadow();
        groups.push(Group { combine: policy.combine(), shadow, ..Group::all(own) });
    }
    groups
}

/// For each group whether it admits the request, and whether it only watches.
fn admitted(groups: &[Group<'_>], answer: &Answer) -> SmallVec<[(bool, bool); 4]> {
    let mut rest = answer.outcomes.as_slice();
    let mut admitted = SmallVec::new();
    for group in groups {
        let (own, others) = rest.split_at(group.hits.len().min(rest.len()));
        rest = others;
        let admitting = own.iter().filter(|outcome| outcome.decision.allowed).count();
        admitted.push((group.combine.admits(admitting, own.len()), group.shadow));
    }
    admitted
}

fn new_store() -> MemoryStore<ManualClock> {
    let options = MemoryOptions { capacity: CAPACITY, overflow: Overflow::Shared };
    MemoryStore::with_clock(ManualClock::default(), options)
}

fn policy_report(
    policy: &Policy,
    variants: &[KeyTallies],
    all_shadow: bool,
    suggestions: Vec<Suggestion>,
) -> PolicyReport {
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
        suggestions,
    }
}
