//! Requests that travel together in one call of a server, and what comes back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smallvec::SmallVec;
use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, LimitId, Source, Timestamp};

use super::rule::{Rule, Unfit, Value};
use crate::plain::{self, States};
use crate::regroup::{Shape, grouped, shape};
use crate::store::StoreError;
use crate::together::hits;

/// The most hits that travel together: what one call takes of the server's time is what all others wait.
const HITS_MAX: usize = 64;

/// A request that has left its caller.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    groups: SmallVec<[Shape; 2]>,
    /// For each hit its limit and key, and what it costs.
    pub(crate) hits: SmallVec<[(LimitId, KeyHash, Limit, u32); 4]>,
}

impl Order {
    /// A request's own copy. Where its keys were before their limits were changed is not part of it.
    ///
    /// # Errors
    /// A limit that cannot be kept.
    pub(crate) fn new(groups: &[Group<'_>]) -> Result<Self, Unfit> {
        let hits = hits(groups)
            .map(|hit| Rule::of(hit.limit).map(|_| (hit.id, hit.key, *hit.limit, hit.cost)))
            .collect::<Result<_, _>>()?;
        let groups = groups.iter().map(shape).collect();
        Ok(Self { groups, hits })
    }

    /// Whether it is one hit, which has a state and decides.
    pub(crate) fn is_alone(&self) -> bool {
        let ([(group, 1)], [(_, _, limit, _)]) = (&self.groups[..], &self.hits[..]) else { return false };
        !group.shadow && group.combine.needed(1) == 1 && limit.is_stateful()
    }

    /// What the request is told: the server's own step, taken again here with all that people want to know.
    ///
    /// # Errors
    /// If the server did not come to the same: a mistake in what runs there or here, or another version of it.
    pub(crate) fn answer(
        &self,
        now: Timestamp,
        states: &mut States,
        passed: bool,
        source: Source,
    ) -> Result<Answer, StoreError> {
        let answer = self.with_groups(|groups| plain::acquire(now, groups, states, source));
        if answer.allowed == passed { Ok(answer) } else { Err(differs()) }
    }

    /// Runs something with the request as it was asked.
    pub(crate) fn with_groups<R>(&self, run: impl FnOnce(&[Group<'_>]) -> R) -> R {
        let hits: SmallVec<[Hit<'_>; 4]> = self
            .hits
            .iter()
            .map(|(id, key, limit, cost)| Hit::new(*id, *key, limit).with_cost(*cost))
            .collect();
        run(&grouped(self.groups.iter().copied(), &hits))
    }
}

/// Requests in the order in which they are decided.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    orders: Vec<Order>,
    /// The keys of states, in the order in which the server gets them, and where each is.
    keys: Vec<(KeyHash, Limit)>,
    places: HashMap<KeyHash, usize>,
    hits: usize,
}

impl Batch {
    /// A batch that only asks for the states of these keys, each under a limit.
    pub(crate) fn of_keys(keys: impl IntoIterator<Item = (KeyHash, Limit)>) -> Self {
        let mut batch = Self::default();
        for (key, limit) in keys {
            batch.place(key, limit);
        }
        batch
    }

    /// A batch of one request.
    pub(crate) fn of_one(order: Order) -> Self {
        let mut batch = Self::default();
        // The first one always fits.
        let _ = batch.push(order, true);
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Takes a request along, if it has room, and none of its keys is here already under another limit, or of another tag
    /// where that matters.
    // An order goes back to the courier, which holds it anyway.
    #[allow(clippy::result_large_err)]
    pub(crate) fn push(&mut self, order: Order, one_tag: bool) -> Result<(), Order> {
        let fits = self.is_empty() || self.hits + order.hits.len() <= HITS_MAX;
        let clashes = |(_, key, limit, _): &(LimitId, KeyHash, Limit, u32)| {
            self.places.get(key).is_some_and(|place| self.keys[*place].1 != *limit)
        };
        // Of those that have states: only these have keys on the server.
        let tag = |order: &Order| {
            order.hits.iter().find(|(_, _, limit, _)| limit.is_stateful()).map(|(_, key, ..)| key.tag())
        };
        let strays = one_tag && self.orders.first().is_some_and(|first| tag(first) != tag(&order));
        if !fits || strays || order.hits.iter().any(clashes) {
            return Err(order);
        }
        self.hits += order.hits.len();
        for (_, key, limit, _) in &order.hits {
            if limit.is_stateful() {
                self.place(*key, *limit);
            }
        }
        self.orders.push(order);
        Ok(())
    }

    fn place(&mut self, key: KeyHash, limit: Limit) {
        if let Entry::Vacant(entry) = self.places.entry(key) {
            entry.insert(self.keys.len());
            self.keys.push((key, limit));
        }
    }

    /// The limit and the cost of all requests, if each is one hit of a key of its own, and they have these in common.
    #[cfg(feature = "postgres")]
    pub(crate) fn in_common(&self) -> Option<(&Limit, u32)> {
        let (_, _, limit, cost) = self.orders.first()?.hits.first()?;
        let alike = |order: &Order| order.is_alone() && order.hits[0].2 == *limit && order.hits[0].3 == *cost;
        (self.keys.len() == self.orders.len() && self.orders.iter().all(alike)).then_some((limit, *cost))
    }

    /// The requests, in the order in which they are decided.
    pub(crate) fn orders(&self) -> &[Order] {
        &self.orders
    }

    /// The keys, in the order of their states in a reply, and the limit of each.
    pub(crate) fn keys(&self) -> &[(KeyHash, Limit)] {
        &self.keys
    }

    /// Which of the keys this is, counted from 1; 0 if it has no state.
    pub(crate) fn number_of(&self, key: KeyHash) -> usize {
        self.places.get(&key).map_or(0, |place| place + 1)
    }

    /// The states that a reply holds.
    pub(crate) fn states(&self, reply: &Reply) -> States {
        let read = |((key, limit), value): (&(KeyHash, Limit), &Option<Value>)| {
            Some((*key, Rule::of(limit).ok()?.read_state(value.as_ref()?)?))
        };
        self.keys.iter().zip(&reply.values).filter_map(read).collect()
    }

    /// What the requests are told.
    ///
    /// # Errors
    /// As for one of them.
    pub(crate) fn answers(&self, reply: &Reply, source: Source) -> Result<Vec<Answer>, StoreError> {
        let mut states = self.states(reply);
        let decide =
            |(order, passed): (&Order, &u8)| order.answer(reply.now, &mut states, *passed == b'1', source);
        if reply.passed.len() != self.orders.len() || reply.values.len() != self.keys.len() {
            return Err(differs());
        }
        self.orders.iter().zip(&reply.passed).map(decide).collect()
    }
}

/// What a server answers to a batch.
#[derive(Debug)]
pub(crate) enum Answered {
    /// What it decided.
    Decided(Reply),
    /// That it is this time, and of a calendar it was told only other times; so it has decided nothing.
    Elsewhere(Timestamp),
}

/// What a server decided.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The time at which it decided.
    pub(crate) now: Timestamp,
    /// For each request `1` if it passes.
    pub(crate) passed: Vec<u8>,
    /// What was found under each key.
    pub(crate) values: Vec<Option<Value>>,
}

/// The rule of a limit that an order holds, which is fit.
pub(crate) fn rule_of(limit: &Limit) -> Rule {
    Rule::of(limit).unwrap_or(Rule::Stateless { admits: false })
}

fn differs() -> StoreError {
    StoreError::Defect(
        "the store did not decide as this program does: is another version of Tollgate using the same keys?"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::Quota;

    #[test]
    fn only_hits_with_a_state_say_which_server_it_is() {
        let limit = Limit::gcra(Quota::per_hour(5));
        let order = |tag: u128| {
            let free = Hit::new(LimitId(1), KeyHash(0), &Limit::Unlimited);
            Order::new(&[Group::all(&[free, Hit::new(LimitId(2), KeyHash(tag << 112), &limit)])]).unwrap()
        };
        let mut batch = Batch::default();
        assert!(batch.push(order(1), true).is_ok());
        assert!(batch.push(order(1), true).is_ok());
        assert!(batch.push(order(2), true).is_err());
        assert!(batch.push(order(2), false).is_ok());
    }
}
