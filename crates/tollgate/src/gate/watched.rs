//! Checks of a gate that somebody observes.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_policy::{Asked, Plan, Policy, PolicySet, Verdict};
use tollgate_store::StoreError;

use super::Gate;
use crate::plugin::{Check, Observers, Said, Watch};

impl<S> Gate<S> {
    /// The same gate, whose checks these [observers](crate::plugin) see, in the place of those that it had.
    ///
    /// ```
    /// use tollgate::plugin::{Check, Decided, Observer, Observers};
    /// use tollgate::{Config, Gate, Request};
    ///
    /// struct Log;
    ///
    /// impl Observer for Log {
    ///     fn after(&self, check: &Check<'_>, decided: &Decided<'_>) {
    ///         let names: Vec<&str> = check.policies().iter().map(|policy| policy.name()).collect();
    ///         println!("{names:?}: {}", if decided.allowed { "allowed" } else { "denied" });
    ///     }
    /// }
    ///
    /// let gate = Gate::new(Config::example()).with_observers(Observers::new(Log));
    /// assert!(gate.check(&Request::new("GET", "/api/v2/orders").with_api_key("k-123")).is_allowed());
    /// ```
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// Tells that what is planned is being decided, if anybody observes it. `set` is the set that made the plan.
    #[inline]
    pub(super) fn watch(&self, set: &Arc<PolicySet>, plan: &Plan<'_>) -> Option<Watched<'_>> {
        if self.observers.are_none() { None } else { Watched::begin(&self.observers, set, plan) }
    }

    /// The same of what has to be waited for. In a box, as it would be a large part of a future.
    #[inline]
    pub(super) fn watch_long(&self, set: &Arc<PolicySet>, plan: &Plan<'_>) -> Option<Box<Watched<'_>>> {
        if self.observers.are_none() {
            None
        } else {
            Watched::begin(&self.observers, set, plan).map(Box::new)
        }
    }
}

/// A check under way that somebody observes.
pub(super) struct Watched<'g> {
    watch: Watch<'g>,
    asked: Asked,
}

impl<'g> Watched<'g> {
    #[cold]
    #[inline(never)]
    fn begin(observers: &'g Observers, set: &Arc<PolicySet>, plan: &Plan<'_>) -> Option<Self> {
        let asked = plan.clone().detach(set);
        let watch = shown(&asked, |check| observers.begin(check))?;
        Some(Self { watch, asked })
    }

    /// Tells the verdict, and whether the request passes, which others may have prevented.
    pub(super) fn decided(&self, verdict: &Verdict, allowed: bool) {
        let said = Said::Verdict(verdict);
        shown(&self.asked, |check| self.watch.decided_with(check, said, allowed, Duration::ZERO));
    }

    pub(super) fn failed(&self, error: &StoreError) {
        shown(&self.asked, |check| self.watch.failed(check, error));
    }
}

/// Shows what is asked as observers see it.
fn shown<R>(asked: &Asked, show: impl FnOnce(&Check<'_>) -> R) -> R {
    let plan = asked.plan();
    let policies: SmallVec<[&Policy; 4]> = plan.policies().collect();
    show(&Check::of(&plan.groups()).by(&policies))
}
