//! What a request asks of the store, as long as the policies are borrowed ([`Plan`]), and to be kept ([`Asked`]).

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;
use tollgate_core::{
    Answer, Combine, Decision, Group, HashedKey, Hit, KeyBuilder, KeyHash, KeySeed, Limit, LimitId, Nanos,
    Outcome, Retry, Source,
};

use crate::config::Config;
use crate::policy::{Policy, PolicyLimit};
use crate::set::PolicySet;
use crate::verdict::Verdict;

/// What a request asks of the store: the hits of every policy that applies.
#[derive(Clone, Debug)]
pub struct Plan<'s> {
    set: &'s PolicySet,
    parts: Parts,
    hits: Hits<'s>,
    /// What stands in for the limits of all policies.
    stated: Option<&'s Limit>,
    recorded: Recorded,
}

/// For each policy that keeps a record the name by which it does.
pub(crate) type Recorded = SmallVec<[(u32, Box<str>); 1]>;

/// Few policies apply to a request.
type Parts = SmallVec<[Part; 2]>;
type Hits<'s> = SmallVec<[Hit<'s>; 2]>;

/// One policy's part in a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) policy: u32,
    pub(crate) variant: u32,
    first: u32,
    end: u32,
    pub(crate) shadow: bool,
}

impl Part {
    /// That of a plan with one hit.
    pub(crate) fn single(policy: u32, variant: usize, shadow: bool) -> Self {
        Self { policy, variant: index(variant), first: 0, end: 1, shadow }
    }

    /// The indexes of its hits in the plan, and of their outcomes in the answer.
    pub(crate) const fn hits(&self) -> Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// A number of things of which there are far fewer than this can count.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<'s> Plan<'s> {
    /// No policy applies yet.
    pub(crate) fn new(set: &'s PolicySet) -> Self {
        Self { set, parts: SmallVec::new(), hits: SmallVec::new(), stated: None, recorded: SmallVec::new() }
    }

    /// Adds a policy that applies.
    pub(crate) fn add(
        &mut self,
        policy: u32,
        variant: usize,
        shadow: bool,
        hits: impl Iterator<Item = Hit<'s>>,
    ) {
        let first = index(self.hits.len());
        for hit in hits {
            self.hits.push(hit);
        }
        let (variant, end) = (index(variant), index(self.hits.len()));
        self.parts.push(Part { policy, variant, first, end, shadow });
    }

    /// Notes the name by which a policy records what a request uses.
    pub(crate) fn record(&mut self, policy: u32, name: Box<str>) {
        self.recorded.push((policy, name));
    }

    /// The policies that apply, in the order of the configuration.
    pub fn policies(&self) -> impl Iterator<Item = &'s Policy> {
        let set = self.set;
        self.parts.iter().map(|part| &*set.compiled(part.policy).policy)
    }

    /// For each policy that applies its index in [`PolicySet::policies`], that of the limits in [`Policy::variants`], and
    /// what it asks of the store.
    pub fn parts(&self) -> impl Iterator<Item = (usize, usize, &[Hit<'s>])> {
        self.parts.iter().map(|part| (part.policy as usize, part.variant as usize, &self.hits[part.hits()]))
    }

    /// All hits, in the order of the policies.
    pub fn hits(&self) -> &[Hit<'s>] {
        &self.hits
    }

    /// For each policy that applies its index in [`PolicySet::policies`], and whether it admits the request if these are the
    /// outcomes of the hits.
    pub fn admissions(&self, outcomes: &[Outcome]) -> impl Iterator<Item = (usize, bool)> {
        admissions(self.set, &self.parts, outcomes)
    }

    /// The hits as the store wants them: a group for each policy.
    pub fn groups(&self) -> SmallVec<[Group<'_>; 2]> {
        let mut groups = SmallVec::new();
        for part in &self.parts {
            let policy = self.set.compiled(part.policy);
            groups.push(Group {
                hits: &self.hits[part.hits()],
                combine: policy.combine,
                shadow: part.shadow,
                sharing: policy.sharing,
            });
        }
        groups
    }

    /// For each policy that is enforced its index in [`PolicySet::policies`], and what a ban of the request is noted under.
    /// That is a key of its own: it stays the same when the policy's limits are changed.
    pub fn ban_keys(&self) -> impl Iterator<Item = (usize, KeyHash)> {
        let enforced = self.parts.iter().filter(|part| !part.shadow);
        enforced.filter_map(|part| {
            let first = self.hits.get(part.first as usize)?.key;
            Some((part.policy as usize, self.set.compiled(part.policy).ban_key(part.variant, first)?))
        })
    }

    /// The verdict on a request that a ban denies for so long, whatever limits say. The policy of this index speaks alone.
    pub fn banned(mut self, set: &Arc<PolicySet>, policy: usize, left: Nanos) -> Verdict {
        self.retain(policy);
        let outcome = |hit: &Hit<'_>| Outcome {
            decision: Decision {
                allowed: false,
                limit: hit.limit.capacity(),
                remaining: 0,
                retry_after: Retry::After(left),
                reset_after: left,
            },
            grant: None,
            source: Source::Ban,
        };
        let outcomes = self.hits.iter().map(outcome).collect();
        self.verdict(set, Answer { allowed: false, outcomes })
    }

    /// The same with a limit that the request itself states in place of those of each policy that applies: for the same
    /// identities, and also where policies only watch. Every limit counts by itself: one that states another begins anew.
    ///
    /// ```
    /// use tollgate_core::{KeySeed, Limit, Quota, Timestamp};
    /// use tollgate_policy::{Config, PolicySet, Request};
    ///
    /// let policies = PolicySet::new(Config::example(), KeySeed::new([7; 16]));
    /// let request = Request::new("GET", "/api/v2/orders").with_api_key("k-123");
    /// let stated = Limit::fixed_window(Quota::per_minute(7));
    /// let plan = policies.plan(&request, Timestamp::EPOCH, None).with_limit(&stated);
    /// assert!(plan.hits().iter().all(|hit| *hit.limit == stated));
    /// ```
    #[must_use]
    pub fn with_limit(mut self, limit: &'s Limit) -> Self {
        let (parts, hits) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.hits));
        let number = number(limit);
        for part in parts {
            if let Some(first) = hits.get(part.first as usize) {
                let hit = Hit::new(stated_id(first.id, number), first.key.nth(number), limit);
                let hit = std::iter::once(hit.with_cost(first.cost));
                self.add(part.policy, part.variant as usize, false, hit);
            }
        }
        self.stated = Some(limit);
        self
    }

    /// Whether the request passes if these are the outcomes of its hits.
    pub fn admits(&self, outcomes: &[Outcome]) -> bool {
        self.parts.iter().zip(self.admissions(outcomes)).all(|(part, (_, admitted))| part.shadow || admitted)
    }

    /// Keeps the policy of this index only. Returns whether it applies.
    pub fn retain(&mut self, policy: usize) -> bool {
        self.keep(|part| part.policy as usize == policy);
        !self.parts.is_empty()
    }

    /// Keeps no policy.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.hits.clear();
    }

    pub(crate) fn drop_replaced(&mut self) {
        let set = self.set;
        let (mut replaced, mut are_all_replaced) = (SmallVec::<[u32; 8]>::new(), false);
        for part in &self.parts {
            let policy = set.compiled(part.policy);
            // What only watches must not change what is enforced. Where everything only watches, nothing is: then the
            // policies replace each other as they will when they are enforced.
            if !policy.shadow {
                replaced.extend_from_slice(&policy.replaces);
                are_all_replaced |= policy.replaces_all;
            }
        }
        if are_all_replaced || !replaced.is_empty() {
            self.keep(|part| {
                let stays = !are_all_replaced || set.compiled(part.policy).replaces_all;
                stays && !replaced.contains(&part.policy)
            });
        }
    }

    fn keep(&mut self, wanted: impl Fn(&Part) -> bool) {
        let (parts, hits) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.hits));
        for part in parts.into_iter().filter(wanted) {
            let own = hits[part.hits()].iter().copied();
            self.add(part.policy, part.variant as usize, part.shadow, own);
        }
    }

    /// The same without borrowing the policies. `set` is the set that made the plan.
    pub fn detach(self, set: &Arc<PolicySet>) -> Asked {
        debug_assert!(std::ptr::eq(self.set, Arc::as_ptr(set)), "the plan is of these policies");
        let mut hits = SmallVec::new();
        for hit in &self.hits {
            hits.push((hit.key, hit.cost));
        }
        let stated = self
            .stated
            .map(|limit| Box::new(PolicyLimit { id: LimitId(number(limit)), name: None, limit: *limit }));
        Asked { set: Arc::clone(set), parts: self.parts, hits, stated, recorded: self.recorded }
    }

    /// What a store's answer to this plan's groups means. `set` is the set that made the plan.
    pub fn verdict(self, set: &Arc<PolicySet>, answer: Answer) -> Verdict {
        self.detach(set).verdict(answer)
    }
}

/// The number of a limit that a request states, among all that count by the same identity: any, but no other's.
// Half of the hash will do. It is no secret, and the same on all nodes.
fn number(limit: &Limit) -> u64 {
    let mut builder = KeyBuilder::new(&KeySeed::new([0; 16]));
    if let Some(quota) = limit.quota() {
        builder.push(&quota.count());
        builder.push(&quota.period().as_nanos());
    }
    builder.low()
}

/// The identity of a limit that stands in for this one.
const fn stated_id(id: LimitId, number: u64) -> LimitId {
    LimitId(id.0 ^ number)
}

/// For each part its policy, and whether that admits the request.
pub(crate) fn admissions(
    set: &PolicySet,
    parts: &[Part],
    outcomes: &[Outcome],
) -> impl Iterator<Item = (usize, bool)> {
    parts.iter().map(|part| {
        let outcomes = outcomes.get(part.hits()).unwrap_or_default();
        (part.policy as usize, admitted(set.compiled(part.policy).combine, outcomes))
    })
}

/// Whether enough limits admit a request.
pub(crate) fn admitted(combine: Combine, outcomes: &[Outcome]) -> bool {
    let admitting = outcomes.iter().filter(|outcome| outcome.decision.allowed).count();
    combine.admits(admitting, outcomes.len())
}

/// What a request asked of the store, to be asked later or again. It keeps the policies alive.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) parts: Parts,
    /// The key and the cost of each hit.
    hits: SmallVec<[(KeyHash, u32); 2]>,
    /// What stands in for the limits of all policies.
    pub(crate) stated: Option<Box<PolicyLimit>>,
    pub(crate) recorded: Recorded,
}

impl Asked {
    /// What a plan with one hit asks.
    pub(crate) fn single(set: &Arc<PolicySet>, part: Part, hit: &Hit<'_, impl HashedKey>) -> Self {
        let (mut parts, mut hits) = (SmallVec::new(), SmallVec::new());
        parts.push(part);
        hits.push((hit.key.hash(), hit.cost));
        Self { set: Arc::clone(set), parts, hits, stated: None, recorded: SmallVec::new() }
    }

    /// What no policy applies to.
    pub(crate) fn nothing() -> Self {
        static NOBODY: LazyLock<Arc<PolicySet>> =
            LazyLock::new(|| Arc::new(PolicySet::new(Config::empty(), KeySeed::new([0; 16]))));
        Plan::new(&NOBODY).detach(&NOBODY)
    }

    /// The policies that it was planned by.
    pub const fn policies(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// What a ban under a policy is noted under.
    pub(crate) fn ban_key(&self, part: &Part) -> Option<KeyHash> {
        let (first, _) = self.hits.get(part.first as usize)?;
        self.set.compiled(part.policy).ban_key(part.variant, *first)
    }

    /// It as a plan.
    pub fn plan(&self) -> Plan<'_> {
        let stated = self.stated.as_deref().map(|stated| &stated.limit);
        let (parts, recorded) = (self.parts.clone(), self.recorded.clone());
        Plan { set: &self.set, parts, hits: self.hits().collect(), stated, recorded }
    }

    /// All hits, in the order of the policies.
    pub fn hits(&self) -> impl Iterator<Item = Hit<'_>> {
        let limits = self.parts.iter().flat_map(|part| {
            let own = self.set.compiled(part.policy).limits(part.variant);
            let stated = self.stated.as_deref();
            own.iter().take(if stated.is_some() { 1 } else { own.len() }).map(move |own| (own, stated))
        });
        limits.zip(&self.hits).map(|((own, stated), (key, cost))| {
            let hit = match stated {
                Some(stated) => Hit::new(stated_id(own.id(), stated.id.0), *key, &stated.limit),
                None => Hit::new(own.id(), *key, own.limit()).with_formers(own.formers()),
            };
            hit.with_cost(*cost)
        })
    }

    /// What a store's answer means.
    pub fn verdict(self, answer: Answer) -> Verdict {
        Verdict::new(self, answer)
    }
}
