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
    /// What the limit was before it was changed, the latest first; what the key spent then may not have come back yet.
    pub formers: &'a [Former],
}

/// The rule of a limit before it was changed, and where the states of that time are.
///
/// A store that has no state under the hit's own key looks there, settles what it finds by the former rule up to the
/// present, and carries over what was left, at most what the new rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    limit: Limit,
    /// The number of the limit's keys now, and then.
    numbers: (u64, u64),
}

impl Former {
    /// A rule by which the limit was counted under each identity's key number `then`, as it is under key number `now` today:
    /// see [`KeyHash::nth`].
    pub const fn new(limit: Limit, then: u64, now: u64) -> Self {
        Self { limit, numbers: (now, then) }
    }

    /// The rule.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Where the state was that is now under this key.
    pub const fn key(&self, now: KeyHash) -> KeyHash {
        now.renumbered(self.numbers.0, self.numbers.1)
    }
}

impl<'a, K: Copy> Hit<'a, K> {
    /// A hit of cost 1 on a limit that was never changed.
    pub const fn new(id: LimitId, key: K, limit: &'a Limit) -> Self {
        Self { id, key, limit, cost: 1, formers: &[] }
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
        Hit { id: self.id, key, limit: self.limit, cost: self.cost, formers: self.formers }
    }

    /// The same hit on a limit that was changed.
    #[must_use]
    pub const fn with_formers(mut self, formers: &'a [Former]) -> Self {
        self.formers = formers;
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
