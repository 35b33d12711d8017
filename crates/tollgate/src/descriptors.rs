//! Deciding what proxies ask, by the rules of descriptors.

use smallvec::SmallVec;
use tollgate_core::{Combine, Grant, Group, Hit, Nanos, Outcome, Sharing, Source};
use tollgate_policy::{Applied, Applies};
use tollgate_store::{Refund, Store, StoreError};

use crate::charge::charge;
use crate::gate::spans;

/// What a store says of the descriptors of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer that nobody looks at limits nothing"]
pub struct DescriptorAnswer {
    /// Whether the request passes: whether no rule is over its limit, but for those that only watch; and of those in quota
    /// mode, whether any is not.
    pub allowed: bool,
    /// What became of each descriptor, in their order.
    pub statuses: Vec<DescriptorStatus>,
}

/// What became of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorStatus {
    /// Whether its rule is over the limit, and does not only watch.
    pub is_over: bool,
    /// The same of rules that only watch too.
    pub is_exceeded: bool,
    /// How many requests there may still be; the most that there is room for if nothing limits it, and zero where no rule
    /// applies.
    pub remaining: u32,
    /// How long until its window ends; zero if nothing limits it.
    pub reset_after: Nanos,
    /// The receipt for what was taken, if the request passed.
    taken: Option<(Grant, Source)>,
}

/// Asks a store for what was [found](tollgate_policy::DescriptorRules::find) to apply to the descriptors of a request, at these
/// costs: all of them, or nothing is taken. A cost of 0 only looks.
///
/// # Errors
/// If the store cannot decide.
///
/// ```
/// use tollgate::{Descriptor, DescriptorRules, MemoryStore, check_descriptors, random_seed};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let file = "domain: edge\ndescriptors: [{ key: user, rate_limit: { unit: hour, requests_per_unit: 100 } }]";
/// let rules = DescriptorRules::parse(&[("rules.yaml", file)], false, random_seed()).map_err(|wrong| wrong[0].to_string())?;
/// let store = MemoryStore::default();
/// let found = rules.find("edge", &[Descriptor::new(&[("user", "anna")])]);
/// let answer = check_descriptors(&store, &found, &[1]).await?;
/// assert_eq!(answer.statuses[0].remaining, 99);
/// # Ok(())
/// # }
/// ```
pub async fn check_descriptors<S: Store>(
    store: &S,
    found: &[Applies<'_>],
    costs: &[u32],
) -> Result<DescriptorAnswer, StoreError> {
    ask(store, found, costs, Course::Decide).await
}

/// Says what [`check_descriptors`] would, and takes nothing.
///
/// # Errors
/// If the store cannot say.
pub async fn peek_descriptors<S: Store>(
    store: &S,
    found: &[Applies<'_>],
    costs: &[u32],
) -> Result<DescriptorAnswer, StoreError> {
    ask(store, found, costs, Course::Look).await
}

/// Charges descriptors for what they have cost already: each as far as there is anything left, whatever the others say.
///
/// # Errors
/// If the store cannot be charged.
pub async fn charge_descriptors<S: Store>(
    store: &S,
    found: &[Applies<'_>],
    costs: &[u32],
) -> Result<DescriptorAnswer, StoreError> {
    let mut statuses = Vec::with_capacity(found.len());
    for (index, applies) in found.iter().enumerate() {
        statuses.push(match applies {
            Applies::Limited(applied) => {
                let hit = Hit::new(applied.id, applied.key, &applied.limit).with_cost(cost(costs, index));
                status(applied, &charge(store, Sharing::DEFAULT, applied.is_shadow(), &hit).await?)
            }
            _ => nothing(applies),
        });
    }
    Ok(DescriptorAnswer { allowed: statuses.iter().all(|status| !status.is_over), statuses })
}

/// Gives so many units back to what applies to a descriptor: to the window in which it was decided, or looked at, with this
/// status. More than is spent cannot be given back.
///
/// # Errors
/// If the store cannot take them.
pub async fn give_back_descriptor<S: Store>(
    store: &S,
    applies: &Applies<'_>,
    status: &DescriptorStatus,
    units: u32,
) -> Result<(), StoreError> {
    let (Applies::Limited(applied), Some((grant, source))) = (applies, status.taken) else { return Ok(()) };
    let grant = Grant { cost: units, ..grant };
    store.refund(&[Refund { key: applied.key, limit: &applied.limit, grant, source }]).await
}

/// What is done with descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Decide,
    Look,
}

fn cost(costs: &[u32], index: usize) -> u32 {
    costs.get(index).copied().unwrap_or(1)
}

async fn ask<S: Store>(
    store: &S,
    found: &[Applies<'_>],
    costs: &[u32],
    course: Course,
) -> Result<DescriptorAnswer, StoreError> {
    let limited = || {
        found.iter().enumerate().filter_map(|(index, applies)| match applies {
            Applies::Limited(applied) => Some((index, applied)),
            _ => None,
        })
    };
    let is_alone = |applied: &Applied<'_>| applied.is_shadow() || !applied.is_quota();
    // Those in quota mode come last, as one group.
    let ordered: SmallVec<[(usize, &Applied<'_>); 4]> = limited()
        .filter(|(_, applied)| is_alone(applied))
        .chain(limited().filter(|(_, applied)| !is_alone(applied)))
        .collect();
    let hits: SmallVec<[Hit<'_>; 4]> = ordered
        .iter()
        .map(|(index, applied)| {
            Hit::new(applied.id, applied.key, &applied.limit).with_cost(cost(costs, *index))
        })
        .collect();
    let alone = ordered.iter().filter(|(_, applied)| is_alone(applied)).count();
    let mut groups: SmallVec<[Group<'_>; 4]> = SmallVec::new();
    for (hit, (_, applied)) in hits.iter().zip(&ordered).take(alone) {
        groups.push(Group { shadow: applied.is_shadow(), ..Group::all(std::slice::from_ref(hit)) });
    }
    if let Some(quota) = hits.get(alone..).filter(|quota| !quota.is_empty()) {
        groups.push(Group { hits: quota, combine: Combine::Any, shadow: false, sharing: Sharing::DEFAULT });
    }
    let mut statuses: Vec<DescriptorStatus> = found.iter().map(nothing).collect();
    if groups.is_empty() {
        return Ok(DescriptorAnswer { allowed: true, statuses });
    }
    let answer = match course {
        Course::Look => store.peek(&groups).await?,
        Course::Decide => {
            let span = spans::decision();
            let answer = spans::asking!(span, store.acquire(&groups))?;
            spans::result(&span, answer.allowed);
            answer
        }
    };
    for ((index, applied), outcome) in ordered.iter().zip(&answer.outcomes) {
        statuses[*index] = status(applied, outcome);
    }
    Ok(DescriptorAnswer { allowed: answer.allowed, statuses })
}

/// The status of a descriptor that nothing limits.
fn nothing(applies: &Applies<'_>) -> DescriptorStatus {
    DescriptorStatus {
        is_over: false,
        is_exceeded: false,
        remaining: if matches!(applies, Applies::Unlimited(_)) { u32::MAX } else { 0 },
        reset_after: Nanos::ZERO,
        taken: None,
    }
}

fn status(applied: &Applied<'_>, outcome: &Outcome) -> DescriptorStatus {
    DescriptorStatus {
        is_over: !outcome.decision.allowed && !applied.is_shadow(),
        is_exceeded: !outcome.decision.allowed,
        remaining: u32::try_from(outcome.decision.remaining).unwrap_or(u32::MAX),
        reset_after: outcome.decision.reset_after,
        taken: outcome.grant.map(|grant| (grant, outcome.source)),
    }
}
