//! Several limits of one request, decided together.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use tollgate_core::{
    Answer, Clock, Combine, Decision, Former, Grant, Group, Hit, KeyHash, Limit, Outcome, Outcomes, Source,
    State, Timestamp, combined,
};

use super::states::States;
use super::table::Place;
use super::{Full, MemoryStore, Overflow, shared_key, turned_away};
use crate::store::LocalStore;
use crate::together::{asked, hits, looked};

/// Where a hit's state is.
#[derive(Clone, Copy)]
enum Whereabouts<'s> {
    /// Under its own key, or under the one that it shares.
    In(&'s States, KeyHash, Source),
    /// Nowhere, and there is no room.
    Out(Full),
}

impl Whereabouts<'_> {
    const fn source(self) -> Source {
        match self {
            Self::In(_, _, source) => source,
            Self::Out(_) => Source::Overflow,
        }
    }
}

/// Why a round decided nothing.
enum Undecided {
    /// The hit with this index was refused while others had already taken; what they took was given back.
    Refused,
    /// The hit with this index found no room.
    NoRoom(usize),
}

impl<C: Clock> MemoryStore<C> {
    pub(super) fn acquire_together(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        for hit in hits(groups) {
            self.own.home(Place::of(&hit.key)).prefetch();
        }
        if let Some(answer) = self.acquire_all(now, groups) {
            return answer;
        }
        for hit in hits(groups) {
            self.carry_over(now, hit);
        }
        let mut whereabouts: SmallVec<[Whereabouts<'_>; 8]> =
            hits(groups).map(|hit| self.whereabouts(hit, now)).collect();
        // Each round but the last was ended by another request's success, or found a key without room.
        let answer = loop {
            match round(now, groups, &whereabouts) {
                Ok(answer) => break answer,
                Err(Undecided::Refused) => {}
                Err(Undecided::NoRoom(index)) => {
                    if let Some(hit) = hits(groups).nth(index) {
                        whereabouts[index] = match whereabouts[index] {
                            Whereabouts::In(_, _, Source::Memory) => {
                                self.elsewhere(hit, Full { soonest: u64::MAX })
                            }
                            _ => Whereabouts::Out(Full { soonest: u64::MAX }),
                        };
                    }
                }
            }
        };
        let overflowed = whereabouts.iter().filter(|place| place.source() == Source::Overflow).count();
        if overflowed > 0 {
            // Relaxed: a statistic.
            self.overflowed.fetch_add(overflowed as u64, Ordering::Relaxed);
        }
        answer
    }

    /// The short way for what most requests are: limits that must all admit, and do.
    fn acquire_all(&self, now: Timestamp, groups: &[Group<'_>]) -> Option<Answer> {
        let all = |group: &Group<'_>| group.combine == Combine::All && !group.shadow;
        let admits = |hit: &Hit<'_>| {
            hit.formers.is_empty()
                && hits(groups).filter(|other| other.key == hit.key).count() == 1
                && self.own.admits(hit, now)
        };
        if self.own.is_full() || !groups.iter().all(all) || !hits(groups).all(admits) {
            return None;
        }
        let mut outcomes = Outcomes::new();
        for hit in hits(groups) {
            let outcome = self.acquire_one_at(now, hit);
            if outcome.source != Source::Memory || outcome.grant.is_none() {
                // Another request came between.
                if outcome.source == Source::Overflow
                    && let Some(grant) = outcome.grant
                {
                    self.shared.give_back(shared_key(hit.id), hit.limit, now, grant);
                }
                for (hit, outcome) in hits(groups).zip(&outcomes) {
                    if let Some(grant) = outcome.grant {
                        self.own.give_back(hit.key, hit.limit, now, grant);
                    }
                }
                return None;
            }
            outcomes.push(outcome);
        }
        Some(Answer { allowed: true, outcomes })
    }

    pub(super) fn peek_together(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        let outcomes: Outcomes = hits(groups)
            .map(|hit| {
                let place = self.whereabouts(hit, now);
                let decision = match self.carried_over(hit, now) {
                    Some(state) if place.source() == Source::Memory => looked(hit, &state, now),
                    _ => look(place, hit, now),
                };
                Outcome { decision, grant: None, source: place.source() }
            })
            .collect();
        let admits: SmallVec<[bool; 8]> = outcomes.iter().map(|outcome| outcome.decision.allowed).collect();
        Answer { allowed: combined(groups, &admits).0, outcomes }
    }

    /// The state that a key goes on from whose limit was changed, if there is anything left of the time before.
    pub(super) fn carried_over(&self, hit: &Hit<'_>, now: Timestamp) -> Option<State> {
        let look = |former: &Former| {
            Some((*former.limit(), self.own.look(former.key(hit.key), former.limit(), now)?))
        };
        let formers: SmallVec<[(Limit, State); 1]> = hit.formers.iter().filter_map(look).collect();
        if formers.is_empty() {
            return None;
        }
        let own = self.own.look(hit.key, hit.limit, now);
        hit.limit.reconciled(own.as_ref(), formers.iter().map(|(limit, state)| (limit, state)), now)
    }

    /// Where a hit's state is, or would be.
    fn whereabouts(&self, hit: &Hit<'_>, now: Timestamp) -> Whereabouts<'_> {
        if !self.own.is_full() || self.own.look(hit.key, hit.limit, now).is_some() {
            return Whereabouts::In(&self.own, hit.key, Source::Memory);
        }
        match self.own.room_for(hit.key, hit.limit, now) {
            Ok(()) => Whereabouts::In(&self.own, hit.key, Source::Memory),
            Err(full) => self.elsewhere(hit, full),
        }
    }

    /// Where a hit's state is that has no room of its own.
    fn elsewhere(&self, hit: &Hit<'_>, full: Full) -> Whereabouts<'_> {
        match self.overflow {
            Overflow::Deny => Whereabouts::Out(full),
            Overflow::Shared => Whereabouts::In(&self.shared, shared_key(hit.id), Source::Overflow),
        }
    }
}

/// Looks at all states, and takes if the request passes.
fn round(now: Timestamp, groups: &[Group<'_>], whereabouts: &[Whereabouts<'_>]) -> Result<Answer, Undecided> {
    let mut outcomes = Outcomes::new();
    let mut admits: SmallVec<[bool; 8]> = SmallVec::new();
    for (index, hit) in hits(groups).enumerate() {
        let cost = asked(groups, index);
        let decision = match whereabouts[index] {
            Whereabouts::Out(full) => turned_away(hit.limit.capacity(), full, now),
            Whereabouts::In(states, key, _) => match states.look(key, hit.limit, now) {
                Some(mut state) => {
                    hit.limit.settle(&mut state, now);
                    hit.limit.decide_settled(&state, now, cost)
                }
                None => hit.limit.decide_settled(&hit.limit.fresh(now), now, cost),
            },
        };
        admits.push(decision.allowed);
        outcomes.push(Outcome { decision, grant: None, source: whereabouts[index].source() });
    }
    let (allowed, takes) = combined(groups, &admits);
    for (index, hit) in hits(groups).enumerate().filter(|(index, _)| takes[*index]) {
        let Whereabouts::In(states, key, _) = whereabouts[index] else { continue };
        let taken = states.update(key, hit.limit, now, |state| hit.limit.acquire(state, now, hit.cost));
        match taken {
            Ok(step) if step.grant.is_some() => {
                outcomes[index].decision = step.decision;
                outcomes[index].grant = step.grant;
            }
            refused => {
                give_back(now, groups, whereabouts, &outcomes);
                return Err(if refused.is_ok() { Undecided::Refused } else { Undecided::NoRoom(index) });
            }
        }
    }
    // What was not taken is settled all the same, so that a step back of the clock does not deny for longer than a refill.
    for (index, hit) in hits(groups).enumerate().filter(|(index, _)| !takes[*index]) {
        let Whereabouts::In(states, key, _) = whereabouts[index] else { continue };
        let settled = states.update(key, hit.limit, now, |state| {
            hit.limit.settle(state, now);
            looked(hit, state, now)
        });
        if let (Ok(decision), true) = (settled, admits[index]) {
            // Nothing was taken after all: say what is there.
            outcomes[index].decision = decision;
        }
    }
    Ok(Answer { allowed, outcomes })
}

/// Gives back what was taken in a round.
fn give_back(now: Timestamp, groups: &[Group<'_>], whereabouts: &[Whereabouts<'_>], outcomes: &Outcomes) {
    let taken = |outcome: &Outcome| -> Option<Grant> { outcome.grant };
    for ((hit, place), grant) in hits(groups).zip(whereabouts).zip(outcomes.iter().map(taken)) {
        if let (Whereabouts::In(states, key, _), Some(grant)) = (*place, grant) {
            states.give_back(key, hit.limit, now, grant);
        }
    }
}

fn look(place: Whereabouts<'_>, hit: &Hit<'_>, now: Timestamp) -> Decision {
    match place {
        Whereabouts::Out(full) => turned_away(hit.limit.capacity(), full, now),
        Whereabouts::In(states, key, _) => match states.look(key, hit.limit, now) {
            Some(state) => looked(hit, &state, now),
            None => looked(hit, &hit.limit.fresh(now), now),
        },
    }
}
