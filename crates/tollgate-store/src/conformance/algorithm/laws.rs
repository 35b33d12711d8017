//! What every rule promises, law by law.

use std::fmt;

use tollgate_core::algorithm::Algorithm;
use tollgate_core::limit::Step;
use tollgate_core::{Decision, Grant, Nanos, Retry, Timestamp};

/// A law that was broken, and how.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) law: &'static str,
    pub(super) detail: String,
}

fn demand(holds: bool, law: &'static str, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { law, detail: detail() }) }
}

/// Whether a decision is one at all.
pub(super) fn sound(decision: Decision) -> Result<(), Broken> {
    demand(decision.allowed == (decision.retry_after == Retry::Now), "retry", || {
        format!("`retry_after` is `Now` exactly if a request is allowed: {decision:?}")
    })?;
    demand(decision.remaining <= decision.limit, "remaining", || {
        format!("more remains than the limit holds: {decision:?}")
    })
}

/// The laws, as they apply to a rule.
pub(super) struct Laws<'a, A> {
    rule: &'a A,
}

impl<'a, A> Laws<'a, A>
where
    A: Algorithm,
    A::State: Clone + PartialEq + fmt::Debug,
{
    pub(super) const fn new(rule: &'a A) -> Self {
        Self { rule }
    }

    /// Deciding changes nothing, and a look says what a request then meets.
    pub(super) fn looks(
        &self,
        found: &A::State,
        settled: &A::State,
        now: Timestamp,
        cost: u32,
    ) -> Result<(), Broken> {
        let before = settled.clone();
        let decision = self.rule.decide(settled, now, cost);
        sound(decision)?;
        let again = self.rule.decide(settled, now, cost);
        demand(decision == again && *settled == before, "looks", || {
            format!(
                "to decide changed something: {decision:?}, then {again:?}, of {before:?}, then {settled:?}"
            )
        })?;
        let looked = self.rule.look(found, now, cost);
        demand(looked == decision, "looks", || {
            format!("a look says {looked:?} of {found:?}; a request meets {decision:?} of {settled:?}")
        })
    }

    /// What remains can be taken at once, and not one unit more.
    pub(super) fn remaining(&self, state: &A::State, now: Timestamp, cost: u32) -> Result<(), Broken> {
        let remaining = self.left(state, now);
        let most = u32::try_from(remaining).unwrap_or(u32::MAX);
        for asked in [most, most.saturating_add(1), most / 2, cost] {
            let decision = self.rule.decide(state, now, asked);
            demand(asked == 0 || decision.allowed == (u64::from(asked) <= remaining), "remaining", || {
                format!("{remaining} remain of {state:?}; asked for {asked}: {decision:?}")
            })?;
        }
        Ok(())
    }

    /// A denial says when to come back, to the nanosecond; or that it is no use.
    pub(super) fn retry(&self, state: &A::State, now: Timestamp, cost: u32) -> Result<(), Broken> {
        let retry = self.rule.decide(state, now, cost).retry_after;
        let admits_after = |wait: u64| {
            let at = now.saturating_add(Nanos::new(wait));
            self.rule.look(state, at, cost).allowed
        };
        let early: &[u64] = match retry {
            Retry::Now => &[],
            Retry::After(wait) => {
                let wait = wait.as_nanos();
                demand(wait > 0 && admits_after(wait), "retry", || {
                    format!("{cost} is denied after the {wait} ns that it was to wait, of {state:?}")
                })?;
                &[0, wait / 2, wait - 1]
            }
            Retry::Never => {
                let recovery = self.recovered(now).since(now).as_nanos();
                &[0, 1, recovery, recovery.saturating_mul(2), recovery.saturating_mul(10)]
            }
        };
        for wait in early {
            demand(!admits_after(*wait), "retry", || {
                format!("{cost} passes after {wait} ns, though it was to wait for {retry:?}, of {state:?}")
            })?;
        }
        Ok(())
    }

    /// What is decided is what is taken; and what is given back at once leaves no trace.
    pub(super) fn booked(
        &self,
        before: &A::State,
        after: &A::State,
        now: Timestamp,
        cost: u32,
        step: Step,
    ) -> Result<(), Broken> {
        let decided = self.rule.decide(before, now, cost);
        demand(decided == step.decision && decided.allowed == step.grant.is_some(), "books", || {
            format!("decided {decided:?}, and came to {step:?}")
        })?;
        let Some(grant) = step.grant else {
            return demand(before == after, "books", || format!("denied, and {before:?} became {after:?}"));
        };
        demand(grant.cost == cost, "books", || format!("{cost} was asked for, and {grant:?} taken"))?;
        let (had, left) = (self.left(before, now), self.rule.decide(after, now, 0));
        let is_said = left.remaining == decided.remaining && left.reset_after == decided.reset_after;
        demand(is_said, "books", || format!("decided {decided:?}, and left {left:?}"))?;
        // A cost taken in parts must come to no more than taken at once.
        demand(left.remaining.saturating_add(cost.into()) <= had, "books", || {
            format!("{cost} was taken of {had}, and {} remain", left.remaining)
        })?;
        self.returned(before, after, now, grant)
    }

    /// Right after it was taken, and any time later, what is given back makes the state at most what it would be if it
    /// had never been taken; right after, exactly that.
    fn returned(
        &self,
        before: &A::State,
        after: &A::State,
        now: Timestamp,
        grant: Grant,
    ) -> Result<(), Broken> {
        let wait = self.rule.vacant_at(after).since(now).as_nanos();
        for wait in [0, wait / 3, wait - wait.min(1)] {
            let at = now.saturating_add(Nanos::new(wait));
            let mut given = after.clone();
            self.rule.refund(&mut given, at, grant);
            let (without, with) = (self.left(before, at), self.left(&given, at));
            // What is vacant by then was at its fullest before, and may begin anew with less.
            let is_vacant = self.rule.vacant_at(before) <= at;
            let holds = if wait == 0 { with == without } else { with <= without || is_vacant };
            demand(holds, "refund", || {
                format!("{grant:?} given back after {wait} ns leaves {with}; never taken it were {without}")
            })?;
        }
        Ok(())
    }

    /// What is given back is at most what was taken, and takes nothing.
    pub(super) fn given_back(&self, state: &A::State, now: Timestamp, grant: Grant) -> Result<(), Broken> {
        let (mut settled, mut given) = (state.clone(), state.clone());
        if self.rule.vacant_at(state) > now {
            self.rule.settle(&mut settled, now);
        }
        self.rule.refund(&mut given, now, grant);
        let (had, decision) = (self.left(&settled, now), self.rule.decide(&given, now, 0));
        let has = decision.remaining;
        let most = had.saturating_add(grant.cost.into()).min(decision.limit);
        demand((had..=most).contains(&has), "refund", || {
            format!("{grant:?} made {has} of {had}, where the limit holds {}", decision.limit)
        })
    }

    /// After the time that it says the limit is at its fullest.
    pub(super) fn whole(&self, state: &A::State, now: Timestamp, decision: Decision) -> Result<(), Broken> {
        let at = now.saturating_add(decision.reset_after);
        let then = self.rule.decide(state, at, 0);
        demand(then.remaining == then.limit, "whole", || {
            format!(
                "{:?} after {decision:?}, only {} remain of {state:?}",
                decision.reset_after, then.remaining
            )
        })
    }

    /// A state that is vacant may be forgotten: a fresh one grants no more.
    pub(super) fn forgotten(&self, state: &A::State, now: Timestamp) -> Result<(), Broken> {
        let at = self.rule.vacant_at(state).max(now);
        let fresh = self.rule.fresh(at);
        let (had, has) = (self.left(state, at), self.left(&fresh, at));
        demand(has <= had, "vacancy", || {
            format!("vacant at {at:?}, {had} remain of {state:?}, and {has} of {fresh:?}")
        })
    }

    /// A step back of the clock grants nothing, denies for at most one refill, and is settled once.
    pub(super) fn step_back(&self, state: &A::State, now: Timestamp, back: Timestamp) -> Result<(), Broken> {
        let mut settled = state.clone();
        let changed = self.rule.settle(&mut settled, back);
        demand(changed == (settled != *state), "clock", || {
            format!("to settle {state:?} made {settled:?}, and says that it changed: {changed}")
        })?;
        let mut again = settled.clone();
        demand(!self.rule.settle(&mut again, back) && again == settled, "clock", || {
            format!("settled twice {settled:?} becomes {again:?}")
        })?;
        let (had, has) = (self.left(state, now), self.left(&settled, back));
        // What was vacant was at its fullest, and might have begun anew with less.
        let was_vacant = self.rule.vacant_at(state) <= now;
        demand(has <= had || was_vacant, "clock", || {
            format!("{had} remained at {now:?}, and {has} at {back:?}, of {settled:?}")
        })?;
        // The longest that a state may lie ahead: spent at the end of a recovery that begins now. Windows end at their own times.
        let latest = self.recovered(self.recovered(back));
        let vacant_at = self.rule.vacant_at(&settled);
        demand(vacant_at <= latest, "clock", || {
            format!("set back to {back:?}, {settled:?} is vacant at {vacant_at:?}, later than {latest:?}")
        })
    }

    /// A state is as full as it was made.
    pub(super) fn available(&self, state: &A::State, now: Timestamp, available: u64) -> Result<(), Broken> {
        let decision = self.rule.decide(state, now, 0);
        demand(decision.remaining == available.min(decision.limit), "available", || {
            format!("made with {available} left, {state:?} has {decision:?}")
        })
    }

    /// When a limit that is spent now is as new.
    fn recovered(&self, now: Timestamp) -> Timestamp {
        self.rule.vacant_at(&self.rule.with_available(0, now)).max(now)
    }

    fn left(&self, state: &A::State, now: Timestamp) -> u64 {
        self.rule.decide(state, now, 0).remaining
    }
}
