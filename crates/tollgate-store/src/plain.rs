//! Decisions on plain states: what a store needs that keeps states where nothing of this project runs.
//!
//! Such a store reads the [`keys`] of a request, has them decided here by the very code that the memory store uses, and
//! writes back what has changed, if it is still what it was. What follows from that is the store's own: how it finds
//! out that a state changed meanwhile, and what holds for several keys.
//!
//! ```
//! use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, Quota, Source, Timestamp};
//! use tollgate_store::plain::{self, States};
//!
//! let limit = Limit::fixed_window(Quota::per_minute(1));
//! let hits = [Hit::new(LimitId(0), KeyHash(7), &limit)];
//! let groups = [Group::all(&hits)];
//! let (mut states, now) = (States::new(), Timestamp::from_secs(60));
//! assert!(plain::acquire(now, &groups, &mut states, Source::Custom).allowed);
//! assert!(!plain::acquire(now, &groups, &mut states, Source::Custom).allowed);
//! assert!(states.contains_key(&KeyHash(7)));
//! ```

use std::collections::HashMap;

use smallvec::SmallVec;
use tollgate_core::{
    Answer, Decision, Former, Group, Hit, KeyHash, Outcome, Outcomes, Source, State, Timestamp, combined,
};

use crate::together::{asked, hits, looked};

/// The states of some keys; those that are missing are new.
pub type States = HashMap<KeyHash, State>;

/// The keys whose states decide a request: those of its hits, and those that they had before their limits were changed.
/// One may come more than once; limits that need no state have none.
pub fn keys<'a>(groups: &'a [Group<'a>]) -> impl Iterator<Item = KeyHash> {
    hits(groups).filter(|hit| hit.limit.is_stateful()).flat_map(|hit| {
        let formers = hit.formers.iter().map(|former| former.key(hit.key));
        std::iter::once(hit.key).chain(formers)
    })
}

/// Decides a request, and takes its costs if it passes. `source` is named in the answer.
///
/// Afterwards `states` is what is to be kept: a state that is new or has changed is to be written, and one that is gone,
/// as its limit was changed and it has moved to the limit's new key, is to be removed after that.
pub fn acquire(now: Timestamp, groups: &[Group<'_>], states: &mut States, source: Source) -> Answer {
    carry_over(now, groups, states);
    let admits: SmallVec<[bool; 8]> = hits(groups)
        .enumerate()
        .map(|(index, hit)| hit.limit.decide(state(states, hit, now), now, asked(groups, index)).allowed)
        .collect();
    let (allowed, takes) = combined(groups, &admits);
    let mut outcomes = Outcomes::new();
    for (index, hit) in hits(groups).enumerate() {
        let state = state(states, hit, now);
        let (decision, grant) = if takes[index] {
            let step = hit.limit.acquire(state, now, hit.cost);
            (step.decision, step.grant)
        } else {
            hit.limit.settle(state, now);
            let own = hit.limit.decide_settled(state, now, asked(groups, index));
            // If it would pass, nothing was taken after all: say what is there.
            (if admits[index] { looked(hit, state, now) } else { own }, None)
        };
        outcomes.push(Outcome { decision, grant, source });
    }
    Answer { allowed, outcomes }
}

/// Says what [`acquire`] would, and takes nothing. What becomes of `states` is not to be kept.
pub fn peek(now: Timestamp, groups: &[Group<'_>], states: &mut States, source: Source) -> Answer {
    carry_over(now, groups, states);
    let decisions: SmallVec<[Decision; 8]> =
        hits(groups).map(|hit| looked(hit, state(states, hit, now), now)).collect();
    let admits: SmallVec<[bool; 8]> = decisions.iter().map(|decision| decision.allowed).collect();
    let outcomes = decisions.into_iter().map(|decision| Outcome { decision, grant: None, source }).collect();
    Answer { allowed: combined(groups, &admits).0, outcomes }
}

/// The states that keys go on from whose limits were changed, where anything is left of the time before.
pub(crate) fn carried<'h>(
    groups: &'h [Group<'h>],
    states: &States,
    now: Timestamp,
) -> Vec<(&'h Hit<'h>, State)> {
    let carried = |hit: &'h Hit<'h>| {
        let former = |former: &'h Former| Some((former.limit(), states.get(&former.key(hit.key))?));
        let formers = hit.formers.iter().filter_map(former);
        Some((hit, hit.limit.reconciled(states.get(&hit.key), formers, now)?))
    };
    hits(groups).filter(|hit| !hit.formers.is_empty()).filter_map(carried).collect()
}

/// Moves what is left of keys whose limits were changed to the keys of the new ones.
fn carry_over(now: Timestamp, groups: &[Group<'_>], states: &mut States) {
    for (hit, state) in carried(groups, states, now) {
        states.insert(hit.key, state);
        for former in hit.formers {
            states.remove(&former.key(hit.key));
        }
    }
}

fn state<'s>(states: &'s mut States, hit: &Hit<'_>, now: Timestamp) -> &'s mut State {
    states.entry(hit.key).or_insert_with(|| hit.limit.fresh(now))
}
