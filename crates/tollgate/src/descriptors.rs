//! Deciding what proxies ask, by the rules of descriptors.

use smallvec::SmallVec;
use tollgate_core::{Combine, Group, Hit, Nanos, Outcome, Sharing};
use tollgate_policy::{Applied, Applies};
use tollgate_store::{Store, StoreError};

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
    /// How many requests there may still be; the most that there is room for if nothing limits it, and zero where no rule
    /// applies.
    pub remaining: u32,
    /// How long until its window ends; zero if nothing limits it.
    pub reset_after: Nanos,
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
            let cost = costs.get(*index).copied().unwrap_or(1);
            Hit::new(applied.id, applied.key, &applied.limit).with_cost(cost)
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
    let nothing = |applies: &Applies<'_>| DescriptorStatus {
        is_over: false,
        remaining: if matches!(applies, Applies::Unlimited(_)) { u32::MAX } else { 0 },
        reset_after: Nanos::ZERO,
    };
    let mut statuses: Vec<DescriptorStatus> = found.iter().map(nothing).collect();
    if groups.is_empty() {
        return Ok(DescriptorAnswer { allowed: true, statuses });
    }
    let answer = store.acquire(&groups).await?;
    for ((index, applied), outcome) in ordered.iter().zip(&answer.outcomes) {
        statuses[*index] = status(applied, outcome);
    }
    Ok(DescriptorAnswer { allowed: answer.allowed, statuses })
}

fn status(applied: &Applied<'_>, outcome: &Outcome) -> DescriptorStatus {
    DescriptorStatus {
        is_over: !outcome.decision.allowed && !applied.is_shadow(),
        remaining: u32::try_from(outcome.decision.remaining).unwrap_or(u32::MAX),
        reset_after: outcome.decision.reset_after,
    }
}
