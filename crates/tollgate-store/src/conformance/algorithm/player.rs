//! Plays a history on a rule, as a store would, and holds the rule to its laws at each step.

use std::cell::Cell;
use std::fmt;

use tollgate_core::algorithm::Algorithm;
use tollgate_core::{Grant, Nanos, Retry, Timestamp};

use super::history::{History, Step};
use super::laws::{Broken, Laws, sound};
use crate::conformance::Summary;

/// Time stands still in the year 2200, far enough from its end for all that is still to come back.
const LAST: Timestamp = Timestamp::from_secs(230 * 365 * 86_400);

/// Time begins a day after the epoch, so that a step back does not meet it.
const FIRST: Timestamp = Timestamp::from_secs(86_400);

/// One key of a rule.
struct Player<'a, A: Algorithm> {
    laws: Laws<'a, A>,
    rule: &'a A,
    state: A::State,
    now: Timestamp,
    held: Vec<Grant>,
    retry_after: Nanos,
}

/// Plays a history; `at` is the index of the step under way.
pub(super) fn play<A>(
    rule: &A,
    history: &History,
    summary: &mut Summary,
    at: &Cell<usize>,
) -> Result<(), Broken>
where
    A: Algorithm,
    A::State: Clone + PartialEq + fmt::Debug,
{
    let now = history.start;
    let (laws, state) = (Laws::new(rule), rule.fresh(now));
    let mut player = Player { laws, rule, state, now, held: Vec::new(), retry_after: Nanos::ZERO };
    for (index, step) in history.steps.iter().enumerate() {
        at.set(index);
        let played = if history.is_wild { player.wild(*step) } else { player.tame(*step, summary) };
        played?;
    }
    Ok(())
}

impl<A> Player<'_, A>
where
    A: Algorithm,
    A::State: Clone + PartialEq + fmt::Debug,
{
    fn tame(&mut self, step: Step, summary: &mut Summary) -> Result<(), Broken> {
        match step {
            Step::Ask(cost) => {
                let allowed = self.ask(cost)?;
                summary.decisions += 1;
                summary.denied += u64::from(!allowed);
            }
            Step::Forward(by) => self.forward(by),
            Step::Retry { early } => {
                let wait = self.retry_after.as_nanos().saturating_sub(u64::from(early));
                self.forward(Nanos::new(wait));
            }
            Step::Back(by) => {
                let back = self.now.saturating_sub(by).max(FIRST);
                self.laws.step_back(&self.state, self.now, back)?;
                self.now = back;
            }
            Step::Refund(index) if index < self.held.len() => {
                let grant = self.held.swap_remove(index);
                self.laws.given_back(&self.state, self.now, grant)?;
                self.rule.refund(&mut self.state, self.now, grant);
            }
            Step::Leave(available) => {
                self.state = self.rule.with_available(available, self.now);
                self.laws.available(&self.state, self.now, available)?;
                // They are of another life.
                self.held.clear();
            }
            Step::Refund(_) | Step::Book(_) | Step::Jump(_) => {}
        }
        Ok(())
    }

    fn ask(&mut self, cost: u32) -> Result<bool, Broken> {
        let now = self.now;
        let before = self.settled();
        self.laws.looks(&self.state, &before, now, cost)?;
        self.laws.forgotten(&self.state, now)?;
        self.laws.remaining(&before, now, cost)?;
        self.laws.retry(&before, now, cost)?;
        let step = self.rule.acquire(&mut self.state, now, cost);
        self.laws.booked(&before, &self.state, now, cost, step)?;
        self.laws.whole(&self.state, now, step.decision)?;
        if let Retry::After(wait) = step.decision.retry_after {
            self.retry_after = wait;
        }
        self.held.extend(step.grant);
        Ok(step.decision.allowed)
    }

    /// The state as a store brings it before a decision.
    fn settled(&self) -> A::State {
        let mut state = self.state.clone();
        if self.rule.vacant_at(&state) <= self.now {
            return self.rule.fresh(self.now);
        }
        self.rule.settle(&mut state, self.now);
        state
    }

    fn forward(&mut self, by: Nanos) {
        self.now = self.now.saturating_add(by).min(LAST).max(self.now);
        self.retry_after = Nanos::ZERO;
    }

    fn wild(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Ask(cost) => {
                sound(self.rule.look(&self.state, self.now, cost))?;
                let step = self.rule.acquire(&mut self.state, self.now, cost);
                sound(step.decision)?;
                self.held.extend(step.grant);
            }
            Step::Book(cost) => self.held.push(self.rule.take(&mut self.state, self.now, cost)),
            Step::Refund(index) if index < self.held.len() => {
                let grant = self.held.swap_remove(index);
                let mut unsettled = self.state.clone();
                self.rule.give_back(&mut unsettled, self.now, grant);
                sound(self.rule.decide(&unsettled, self.now, 1))?;
                self.rule.refund(&mut self.state, self.now, grant);
            }
            Step::Leave(available) => self.state = self.rule.with_available(available, self.now),
            Step::Jump(moment) => {
                self.now = moment;
                self.rule.settle(&mut self.state, moment);
            }
            Step::Refund(_) | Step::Forward(_) | Step::Back(_) | Step::Retry { .. } => {}
        }
        Ok(())
    }
}
