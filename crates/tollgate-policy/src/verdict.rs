//! What all policies together say of a request.

use smallvec::SmallVec;
use tollgate_core::{Answer, Decision, Grant, Hit, KeyHash, Limit, Nanos, Outcome, Outcomes, Retry, Source};

use crate::plan::{Asked, Part, admissions, admitted};
use crate::policy::{Policy, PolicyLimit};

/// The answer to a request: whether it passes, and what each policy that applied said.
///
/// It keeps the policies alive that it speaks of, so it can be carried along with a response.
#[derive(Clone, Debug)]
#[must_use = "a verdict that nobody looks at limits nothing"]
pub struct Verdict {
    asked: Asked,
    allowed: bool,
    outcomes: Outcomes,
}

/// What one policy said of a request.
#[derive(Clone, Copy, Debug)]
pub struct PolicyVerdict<'v> {
    /// The policy.
    pub policy: &'v Policy,
    /// Its index in [`PolicySet::policies`](crate::PolicySet::policies).
    pub index: usize,
    /// The tier whose limits were used, if the policy has tiers.
    pub tier: Option<&'v str>,
    /// The index of those limits in [`Policy::variants`].
    pub variant: usize,
    /// Whether the policy admits the request. A shadow that does not admit it does not deny it either.
    pub admitted: bool,
    /// Whether the policy only watches.
    pub shadow: bool,
    /// When the policy would admit the request.
    pub retry_after: Retry,
    limits: &'v [PolicyLimit],
    outcomes: &'v [Outcome],
    tightest: Option<(&'v PolicyLimit, &'v Outcome)>,
}

/// What a request took from a limit of a policy that keeps a record.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Use<'v> {
    /// The policy.
    pub policy: &'v Policy,
    /// The tier whose limit it is.
    pub tier: Option<&'v str>,
    /// The limit, which counts in windows.
    pub limit: &'v PolicyLimit,
    /// Who used it: secrets are shown as hashes.
    pub name: &'v str,
    /// The limit's key.
    pub key: KeyHash,
    /// What was taken, and in which window.
    pub grant: Grant,
    /// How much the window holds, with what was carried over into it.
    pub whole: u64,
}

impl Verdict {
    pub(crate) fn new(asked: Asked, answer: Answer) -> Self {
        Self { asked, allowed: answer.allowed, outcomes: answer.outcomes }
    }

    pub(crate) fn single(asked: Asked, allowed: bool, outcome: Outcome) -> Self {
        let mut outcomes = Outcomes::new();
        outcomes.push(outcome);
        Self { asked, allowed, outcomes }
    }

    /// That a request passes, by no policy: for code around a gate that decides without it. Nothing was taken.
    pub fn passed() -> Self {
        Self::new(Asked::nothing(), Answer { allowed: true, outcomes: Outcomes::new() })
    }

    /// That a request is denied, by no policy, and when it would pass. Nothing was taken.
    ///
    /// ```
    /// use tollgate_core::Retry;
    /// use tollgate_policy::Verdict;
    ///
    /// let verdict = Verdict::refused(Retry::Never);
    /// assert!(!verdict.is_allowed() && verdict.deciding().is_none());
    /// assert_eq!(verdict.retry_after(), Retry::Never);
    /// ```
    pub fn refused(retry_after: Retry) -> Self {
        let decision = Decision { retry_after, ..Decision::deny_all() };
        Self::single(Asked::nothing(), false, Outcome { decision, grant: None, source: Source::Custom })
    }

    /// Whether the request passes.
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// What each policy that applied said, in the order of the configuration.
    pub fn policies(&self) -> impl Iterator<Item = PolicyVerdict<'_>> {
        self.asked.parts.iter().map(|part| self.policy(part))
    }

    /// For each policy that applied its index in [`PolicySet::policies`](crate::PolicySet::policies), and whether it admitted the request: what
    /// statistics need, at less cost than [`policies`](Self::policies).
    pub fn admissions(&self) -> impl Iterator<Item = (usize, bool)> {
        admissions(&self.asked.set, &self.asked.parts, &self.outcomes)
    }

    /// The policy that decided: if the request is denied, the one that denies it for the longest; else the one with the
    /// least left of what it holds. Among equals, the one of the highest priority. Shadows do not decide. `None` if
    /// no policy applied.
    pub fn deciding(&self) -> Option<PolicyVerdict<'_>> {
        let enforced = self.policies().filter(|policy| !policy.shadow && policy.admitted == self.allowed);
        enforced.reduce(|first, second| if second.is_tighter_than(&first) { second } else { first })
    }

    /// What a ban of the request under the policy of this index is noted under: its key, whatever the limits are. `None` if the
    /// policy did not apply.
    pub fn key_of(&self, policy: usize) -> Option<KeyHash> {
        let part = self.asked.parts.iter().find(|part| part.policy as usize == policy)?;
        self.asked.ban_key(part)
    }

    /// When the request would pass.
    pub fn retry_after(&self) -> Retry {
        // By no policy, what there is to say is one outcome, of nobody's hit.
        if self.asked.parts.is_empty() {
            return self.outcomes.first().map_or(Retry::Now, |outcome| outcome.decision.retry_after);
        }
        let enforced = self.policies().filter(|policy| !policy.shadow);
        enforced.map(|policy| policy.retry_after).max().unwrap_or(Retry::Now)
    }

    /// For each enforced policy that did not admit the request its index in
    /// [`PolicySet::policies`](crate::PolicySet::policies), and what a ban is noted under.
    pub fn denials(&self) -> impl Iterator<Item = (usize, KeyHash)> {
        let denying = self.asked.parts.iter().zip(self.admissions());
        let denying = denying.filter(|(part, (_, admitted))| !part.shadow && !admitted);
        denying.filter_map(|(part, (index, _))| Some((index, self.asked.ban_key(part)?)))
    }

    /// Whether a ban denied the request.
    pub fn is_banned(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.source == Source::Ban)
    }

    /// What was asked.
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// What was taken, so that it can be given back: each hit of which something was, and the receipt for it.
    pub fn taken(&self) -> impl Iterator<Item = (Hit<'_>, Grant, Source)> {
        let hits = self.asked.hits().zip(&self.outcomes);
        hits.filter_map(|(hit, outcome)| Some((hit, outcome.grant?, outcome.source)))
    }

    /// What was taken from limits of policies that keep a record, and count it in windows.
    pub fn uses(&self) -> impl Iterator<Item = Use<'_>> {
        // Most requests are recorded by nobody, and a limit that the request stated itself is no policy's.
        let is_recorded = !self.asked.recorded.is_empty() && self.asked.stated.is_none();
        let parts = self.asked.parts.iter().filter(move |_| is_recorded);
        parts.flat_map(|part| {
            let recorded = self.asked.recorded.iter().find(|(policy, _)| *policy == part.policy);
            recorded.into_iter().flat_map(|(_, name)| {
                let said = self.policy(part);
                let keys = self.asked.hits().skip(part.hits().start).map(|hit| hit.key);
                said.limits().zip(keys).filter_map(move |((limit, outcome), key)| {
                    let grant = outcome.grant.filter(|_| matches!(limit.limit, Limit::FixedWindow(_)))?;
                    let whole = outcome.decision.limit;
                    Some(Use { policy: said.policy, tier: said.tier, limit, name, key, grant, whole })
                })
            })
        })
    }

    /// What decided each hit. Of a request that is [refused](Self::refused) by no policy it is one that stands for itself.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    fn policy(&self, part: &Part) -> PolicyVerdict<'_> {
        // The set made the part, so both indexes are in range; were they not, there would be nothing to say.
        let compiled = self.asked.set.compiled(part.policy);
        let policy = &compiled.policy;
        let variant = policy.variants.get(part.variant as usize);
        let outcomes = self.outcomes.get(part.hits()).unwrap_or_default();
        let retry_after = match outcomes {
            [only] => policy.combine.retry_after(&[only.decision.retry_after]),
            outcomes => {
                let each = outcomes.iter().map(|outcome| outcome.decision.retry_after);
                policy.combine.retry_after(&each.collect::<SmallVec<[Retry; 8]>>())
            }
        };
        let admitted = admitted(policy.combine, outcomes);
        let limits = match self.asked.stated.as_deref() {
            Some(stated) => std::slice::from_ref(stated),
            None => variant.map_or(&[][..], |variant| variant.limits_at(compiled.level)),
        };
        PolicyVerdict {
            policy,
            index: part.policy as usize,
            tier: variant.and_then(|variant| variant.tier.as_deref()),
            variant: part.variant as usize,
            admitted,
            shadow: part.shadow,
            retry_after,
            limits,
            outcomes,
            tightest: tightest(limits, outcomes, admitted),
        }
    }
}

impl<'v> PolicyVerdict<'v> {
    /// Each limit of the policy, and what became of it.
    pub fn limits(&self) -> impl Iterator<Item = (&'v PolicyLimit, &'v Outcome)> + use<'v> {
        self.limits.iter().zip(self.outcomes)
    }

    /// The limit that speaks for the policy: the tightest of those that agree with it.
    pub const fn tightest(&self) -> Option<(&'v PolicyLimit, &'v Outcome)> {
        self.tightest
    }

    /// How much the tightest limit holds.
    pub fn limit(&self) -> u64 {
        self.tightest().map_or(u64::MAX, |(_, outcome)| outcome.decision.limit)
    }

    /// How much of it is left.
    pub fn remaining(&self) -> u64 {
        self.tightest().map_or(u64::MAX, |(_, outcome)| outcome.decision.remaining)
    }

    /// How long until it is whole again.
    pub fn reset_after(&self) -> Nanos {
        self.tightest().map_or(Nanos::ZERO, |(_, outcome)| outcome.decision.reset_after)
    }

    /// The rule of the tightest limit.
    pub fn rule(&self) -> Option<&'v Limit> {
        self.tightest().map(|(limit, _)| &limit.limit)
    }

    fn is_tighter_than(&self, other: &Self) -> bool {
        let (Some((_, own)), Some((_, others))) = (self.tightest(), other.tightest()) else {
            return self.tightest().is_some();
        };
        match self.retry_after.cmp(&other.retry_after) {
            std::cmp::Ordering::Equal if is_tighter(own, others) => true,
            std::cmp::Ordering::Equal if is_tighter(others, own) => false,
            std::cmp::Ordering::Equal => self.policy.priority > other.policy.priority,
            order => order.is_gt(),
        }
    }
}

/// Of the limits that agree with their policy, the tightest.
fn tightest<'v>(
    limits: &'v [PolicyLimit],
    outcomes: &'v [Outcome],
    admitted: bool,
) -> Option<(&'v PolicyLimit, &'v Outcome)> {
    let agreeing = limits.iter().zip(outcomes).filter(|(_, outcome)| outcome.decision.allowed == admitted);
    agreeing.reduce(|first, second| if is_tighter(second.1, first.1) { second } else { first })
}

/// Whether one outcome denies for longer than another or, if both admit, leaves a smaller part.
fn is_tighter(one: &Outcome, other: &Outcome) -> bool {
    let (one, other) = (&one.decision, &other.decision);
    let share = |remaining: u64, of: u64| u128::from(remaining) * u128::from(of);
    match one.retry_after.cmp(&other.retry_after) {
        // remaining/limit, compared without division.
        std::cmp::Ordering::Equal => share(one.remaining, other.limit) < share(other.remaining, one.limit),
        order => order.is_gt(),
    }
}
