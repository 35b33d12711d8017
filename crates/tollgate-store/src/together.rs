//! What stores need to decide several limits of one request together.

use tollgate_core::algorithm::Algorithm;
use tollgate_core::{Decision, Group, Hit, State, Timestamp};

/// All hits of a request, in order.
pub(crate) fn hits<'a>(groups: &'a [Group<'a>]) -> impl Iterator<Item = &'a Hit<'a>> {
    groups.iter().flat_map(|group| group.hits)
}

/// What a hit's key must afford: a key that is hit twice in one request must afford both.
pub(crate) fn asked(groups: &[Group<'_>], index: usize) -> u32 {
    let mut up_to = hits(groups).take(index + 1);
    let Some(hit) = hits(groups).nth(index) else { return 0 };
    up_to.by_ref().filter(|other| other.key == hit.key).fold(0, |sum, other| sum.saturating_add(other.cost))
}

/// Whether a state admits a hit, with the numbers as they are before it.
pub(crate) fn looked(hit: &Hit<'_>, state: &State, now: Timestamp) -> Decision {
    looked_by(hit.limit, state, now, hit.cost)
}

/// The same by any rule.
pub(crate) fn looked_by<A: Algorithm>(rule: &A, state: &A::State, now: Timestamp, cost: u32) -> Decision {
    let Decision { allowed, retry_after, .. } = rule.look(state, now, cost);
    Decision { allowed, retry_after, ..rule.look(state, now, 0) }
}
