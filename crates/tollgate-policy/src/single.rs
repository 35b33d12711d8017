//! What a request asks of the store where a single limit is all that can apply ([`Single`]).

use std::sync::Arc;

use tollgate_core::{Hit, NthKey, Outcome};

use crate::plan::{Asked, Part};
use crate::set::PolicySet;
use crate::verdict::Verdict;

/// What a request asks of the store where a single limit is all that can apply: a [plan](crate::Plan) without lists.
///
/// Most gates have one policy with one limit, and most of what a plan costs is to keep a list of one.
#[derive(Clone, Copy, Debug)]
pub struct Single<'s> {
    policy: u32,
    variant: usize,
    shadow: bool,
    hit: Hit<'s, NthKey>,
}

impl<'s> Single<'s> {
    #[inline]
    pub(crate) const fn new(policy: u32, variant: usize, shadow: bool, hit: Hit<'s, NthKey>) -> Self {
        Self { policy, variant, shadow, hit }
    }

    /// What it asks.
    pub const fn hit(&self) -> &Hit<'s, NthKey> {
        &self.hit
    }

    /// The index of its policy in [`PolicySet::policies`].
    pub const fn policy(&self) -> usize {
        self.policy as usize
    }

    /// Whether the request passes if this is the outcome.
    pub const fn is_allowed(&self, outcome: &Outcome) -> bool {
        self.shadow || outcome.decision.allowed
    }

    /// What a store's outcome means. `set` is the set that made this.
    pub fn verdict(self, set: &Arc<PolicySet>, outcome: Outcome) -> Verdict {
        let asked = Asked::single(set, Part::single(self.policy, self.variant, self.shadow), &self.hit);
        Verdict::single(asked, self.is_allowed(&outcome), outcome)
    }
}
