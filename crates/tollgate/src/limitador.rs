//! Deciding what clients of Limitador ask, by its limits.

use smallvec::SmallVec;
use tollgate_core::{Group, Hit, Nanos, Outcome, Sharing};
use tollgate_policy::LimitadorCounter;
use tollgate_store::{Store, StoreError};

use crate::charge::charge;
use crate::gate::spans;

/// What a store says of the counters of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer that nobody looks at limits nothing"]
pub struct CountersAnswer {
    /// Whether the request passes: whether no limit that applies to it is reached.
    pub allowed: bool,
    /// What became of each counter, in their order.
    pub statuses: Vec<CounterStatus>,
}

/// What became of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterStatus {
    /// Whether its limit by itself admits the request.
    pub is_within: bool,
    /// How much there may still be in this window.
    pub remaining: u64,
    /// How long until the window ends; zero if none has begun.
    pub reset_after: Nanos,
}

/// Asks a store for the counters that were [found](tollgate_policy::LimitadorLimits::find) for a request, at this cost: all of
/// them, or nothing is taken. A cost of 0 only looks.
///
/// # Errors
/// If the store cannot decide.
///
/// ```
/// use tollgate::{LimitadorLimits, MemoryStore, check_counters, random_seed};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let file = "[{ namespace: shop, max_value: 100, seconds: 60 }]";
/// let limits = LimitadorLimits::parse("limits.yaml", file, random_seed())?;
/// let store = MemoryStore::default();
/// let answer = check_counters(&store, &limits.find("shop", &[]), 1).await?;
/// assert_eq!(answer.statuses[0].remaining, 99);
/// # Ok(())
/// # }
/// ```
pub async fn check_counters<S: Store>(
    store: &S,
    counters: &[LimitadorCounter<'_>],
    cost: u32,
) -> Result<CountersAnswer, StoreError> {
    // Nothing is taken then, and even what allows nothing at all is not overrun by it.
    if cost == 0 {
        return peek_counters(store, counters, cost).await;
    }
    let hits = hits(counters, cost);
    if hits.is_empty() {
        return Ok(of_outcomes(true, &[]));
    }
    let span = spans::decision();
    let answer = spans::asking!(span, store.acquire(&together(&hits)))?;
    spans::result(&span, answer.allowed);
    Ok(of_outcomes(answer.allowed, &answer.outcomes))
}

/// Says what [`check_counters`] would, and takes nothing.
///
/// # Errors
/// If the store cannot say.
pub async fn peek_counters<S: Store>(
    store: &S,
    counters: &[LimitadorCounter<'_>],
    cost: u32,
) -> Result<CountersAnswer, StoreError> {
    let hits = hits(counters, cost);
    if hits.is_empty() {
        return Ok(of_outcomes(true, &[]));
    }
    let answer = store.peek(&together(&hits)).await?;
    let mut answer = of_outcomes(answer.allowed || cost == 0, &answer.outcomes);
    for status in &mut answer.statuses {
        status.is_within |= cost == 0;
    }
    Ok(answer)
}

/// Charges counters for what a request has cost already: each as far as there is anything left, whatever the others say.
///
/// # Errors
/// If the store cannot be charged.
pub async fn report_counters<S: Store>(
    store: &S,
    counters: &[LimitadorCounter<'_>],
    cost: u32,
) -> Result<CountersAnswer, StoreError> {
    if cost == 0 {
        return peek_counters(store, counters, cost).await;
    }
    let mut statuses = Vec::with_capacity(counters.len());
    for hit in hits(counters, cost) {
        statuses.push(status(&charge(store, Sharing::DEFAULT, false, &hit).await?));
    }
    Ok(CountersAnswer { allowed: statuses.iter().all(|status| status.is_within), statuses })
}

fn hits<'c>(counters: &'c [LimitadorCounter<'_>], cost: u32) -> SmallVec<[Hit<'c>; 8]> {
    let hit = |counter: &'c LimitadorCounter<'_>| {
        Hit::new(counter.limit.limit_id(), counter.key, counter.limit.limit()).with_cost(cost)
    };
    counters.iter().map(hit).collect()
}

/// Hits of which each can deny the request.
fn together<'h>(hits: &'h [Hit<'h>]) -> SmallVec<[Group<'h>; 8]> {
    hits.iter().map(|hit| Group::all(std::slice::from_ref(hit))).collect()
}

fn of_outcomes(allowed: bool, outcomes: &[Outcome]) -> CountersAnswer {
    CountersAnswer { allowed, statuses: outcomes.iter().map(status).collect() }
}

fn status(outcome: &Outcome) -> CounterStatus {
    CounterStatus {
        is_within: outcome.decision.allowed,
        remaining: outcome.decision.remaining,
        reset_after: outcome.decision.reset_after,
    }
}
