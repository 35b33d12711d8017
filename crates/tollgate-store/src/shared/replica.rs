//! A server's own steps, taken again here on the states that it found.

use std::collections::HashMap;

use smallvec::SmallVec;
use tollgate_core::{
    Answer, Decision, Group, Hit, KeyHash, Outcome, Outcomes, Source, State, Timestamp, combined,
};

use crate::together::{asked, hits, looked};

/// The states of some keys; those that are missing are new.
pub(crate) type States = HashMap<KeyHash, State>;

/// Decides a request, and takes its costs if it passes.
pub(crate) fn acquire(now: Timestamp, groups: &[Group<'_>], states: &mut States, source: Source) -> Answer {
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

/// Says what [`acquire`] would, and takes nothing.
pub(crate) fn peek(now: Timestamp, groups: &[Group<'_>], states: &mut States, source: Source) -> Answer {
    let decisions: SmallVec<[Decision; 8]> =
        hits(groups).map(|hit| looked(hit, state(states, hit, now), now)).collect();
    let admits: SmallVec<[bool; 8]> = decisions.iter().map(|decision| decision.allowed).collect();
    let outcomes = decisions.into_iter().map(|decision| Outcome { decision, grant: None, source }).collect();
    Answer { allowed: combined(groups, &admits).0, outcomes }
}

fn state<'s>(states: &'s mut States, hit: &Hit<'_>, now: Timestamp) -> &'s mut State {
    states.entry(hit.key).or_insert_with(|| hit.limit.fresh(now))
}
