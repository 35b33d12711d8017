//! What a store is asked: hits, in groups.

use crate::combine::Combine;
use crate::key::KeyHash;
use crate::limit::Limit;
use crate::sharing::Sharing;

/// Which limit of a configuration a hit belongs to, whatever its key. Stable as long as the limit's name is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u64);

/// One limit, one key, one cost.
///
/// Where a hit is alone its key may still be on the way to its hash; see [`HashedKey`](crate::HashedKey).
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a, K = KeyHash> {
    /// Which limit this is. A store that is full may count new keys of one limit together.
    pub id: LimitId,
    /// Whose state is meant. It names the limit as well: no two limits share a key.
    pub key: K,
    /// The rule.
    pub limit: &'a Limit,
    /// How much is asked for. 0 only looks.
    pub cost: u32,
    /// Where the key's state was before the limit was changed, if it was.
    pub previous: Option<Previous<'a>>,
}

/// The former place and rule of a limit that was changed.
///
/// A store that has no state under the hit's own key looks here, settles what it finds by the former rule up to the
/// present, and carries over what was left, at most what the new rule holds.
#[derive(Clone, Copy, Debug)]
pub struct Previous<'a> {
    /// The key that the state was kept under.
    pub key: KeyHash,
    /// The rule that it was kept by.
    pub limit: &'a Limit,
}

impl<'a, K: Copy> Hit<'a, K> {
    /// A hit of cost 1 on a limit that was never changed.
    pub const fn new(id: LimitId, key: K, limit: &'a Limit) -> Self {
        Self { id, key, limit, cost: 1, previous: None }
    }

    /// The same hit with another cost.
    #[must_use]
    pub const fn with_cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// The same hit with another key.
    #[inline(always)]
    pub const fn with_key<L>(&self, key: L) -> Hit<'a, L> {
        Hit { id: self.id, key, limit: self.limit, cost: self.cost, previous: self.previous }
    }

    /// The same hit on a limit that was changed.
    #[must_use]
    pub const fn with_previous(mut self, previous: Previous<'a>) -> Self {
        self.previous = Some(previous);
        self
    }
}

/// The hits that decide together by one rule: a policy's limits, usually.
///
/// A request is a list of groups. It passes if every group that is not a shadow admits it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The limits, each with its key and cost.
    pub hits: &'a [Hit<'a>],
    /// How they decide together.
    pub combine: Combine,
    /// Whether the group only watches: it counts what it would admit of the requests that pass, and never denies.
    pub shadow: bool,
    /// How nodes that share a store count the limits.
    pub sharing: Sharing,
}

impl<'a> Group<'a> {
    /// A group that admits if every hit does.
    pub const fn all(hits: &'a [Hit<'a>]) -> Self {
        Self { hits, combine: Combine::All, shadow: false, sharing: Sharing::DEFAULT }
    }
}
