//! Requests that travel together in one call of the script, and what comes back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smallvec::SmallVec;
use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, LimitId, Source, Timestamp};

use super::wire::{MICRO, Rule, Unfit, doubles};
use crate::plain::{self, States};
use crate::regroup::{Shape, grouped, shape};
use crate::store::StoreError;
use crate::together::{asked, hits};

/// The most hits that travel together: what one call takes of the server's time is what all others wait.
const HITS_MAX: usize = 64;

/// A request that has left its caller.
#[derive(Clone, Debug)]
pub(super) struct Order {
    groups: SmallVec<[Shape; 2]>,
    hits: SmallVec<[(LimitId, KeyHash, Limit, u32); 4]>,
}

impl Order {
    /// A request's own copy. Where its keys were before their limits were changed is not part of it.
    ///
    /// # Errors
    /// A limit that cannot be kept.
    pub(super) fn new(groups: &[Group<'_>]) -> Result<Self, Unfit> {
        let hits = hits(groups)
            .map(|hit| Rule::of(hit.limit).map(|_| (hit.id, hit.key, *hit.limit, hit.cost)))
            .collect::<Result<_, _>>()?;
        let groups = groups.iter().map(shape).collect();
        Ok(Self { groups, hits })
    }

    /// Whether it is one hit, which has a state and decides.
    fn is_alone(&self) -> bool {
        let ([(group, 1)], [(_, _, limit, _)]) = (&self.groups[..], &self.hits[..]) else { return false };
        !group.shadow && group.combine.needed(1) == 1 && limit.is_stateful()
    }

    /// Runs something with the request as it was asked.
    fn with_groups<R>(&self, run: impl FnOnce(&[Group<'_>]) -> R) -> R {
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
pub(super) struct Batch {
    orders: Vec<Order>,
    /// The keys of states, in the order in which the script gets them, and where each is.
    keys: Vec<(KeyHash, Limit)>,
    places: HashMap<KeyHash, usize>,
    hits: usize,
}

impl Batch {
    /// A batch that only asks for the states of these keys, each under a limit.
    pub(super) fn of_keys(keys: impl IntoIterator<Item = (KeyHash, Limit)>) -> Self {
        let mut batch = Self::default();
        for (key, limit) in keys {
            batch.place(key, limit);
        }
        batch
    }

    /// A batch of one request.
    pub(super) fn of_one(order: Order) -> Self {
        let mut batch = Self::default();
        // The first one always fits.
        let _ = batch.push(order, true);
        batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Takes a request along, if it has room, and none of its keys is here already under another limit, or of another tag
    /// where that matters.
    // An order goes back to the courier, which holds it anyway.
    #[allow(clippy::result_large_err)]
    pub(super) fn push(&mut self, order: Order, one_tag: bool) -> Result<(), Order> {
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

    pub(super) fn keys(&self) -> impl Iterator<Item = KeyHash> {
        self.keys.iter().map(|(key, _)| *key)
    }

    /// The rules and the requests as the script reads them.
    pub(super) fn pack(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut rules, mut requests): (Vec<Limit>, _) = (Vec::new(), Vec::new());
        short(&mut requests, self.orders.len());
        for some in self.orders.chunk_by(|one, other| one.is_alone() && other.is_alone()) {
            if some[0].is_alone() {
                short(&mut requests, some.len());
                for (_, key, limit, cost) in some.iter().flat_map(|order| &order.hits) {
                    self.pack_state(*key, limit, &mut rules, &mut requests);
                    doubles(&mut requests, &rule_of(limit).cost(*cost));
                }
            } else {
                for order in some {
                    short(&mut requests, 0);
                    order.with_groups(|groups| self.pack_request(groups, &mut rules, &mut requests));
                }
            }
        }
        let mut packed = Vec::new();
        short(&mut packed, rules.len());
        for limit in &rules {
            if let Ok(rule) = Rule::of(limit) {
                rule.write(&mut packed);
            }
        }
        (packed, requests)
    }

    fn pack_request(&self, groups: &[Group<'_>], rules: &mut Vec<Limit>, to: &mut Vec<u8>) {
        short(to, groups.len());
        let mut index = 0;
        for group in groups {
            short(to, group.combine.needed(group.hits.len()));
            to.push(u8::from(group.shadow));
            short(to, group.hits.len());
            for hit in group.hits {
                let rule = rule_of(hit.limit);
                if let Rule::Stateless { admits } = rule {
                    short(to, 0);
                    to.push(u8::from(admits));
                } else {
                    self.pack_state(hit.key, hit.limit, rules, to);
                    doubles(to, &rule.cost(asked(groups, index)));
                    doubles(to, &rule.cost(hit.cost));
                }
                index += 1;
            }
        }
    }

    /// Which rule and which key.
    fn pack_state(&self, key: KeyHash, limit: &Limit, rules: &mut Vec<Limit>, to: &mut Vec<u8>) {
        let number = rules.iter().position(|other| other == limit).unwrap_or_else(|| {
            rules.push(*limit);
            rules.len() - 1
        });
        short(to, number + 1);
        short(to, self.places.get(&key).map_or(0, |place| place + 1));
    }

    /// The states that an answer holds.
    pub(super) fn states(&self, reply: &Reply) -> States {
        let read = |((key, limit), value): (&(KeyHash, Limit), &Option<Vec<u8>>)| {
            let state = Rule::of(limit).ok()?.read_state(value.as_deref()?)?;
            Some((*key, state))
        };
        self.keys.iter().zip(&reply.values).filter_map(read).collect()
    }

    /// What the requests are told: the script's own steps, taken again here with all that people want to know.
    ///
    /// # Errors
    /// If the script did not come to the same: a mistake in it or here, or another version of it.
    pub(super) fn answers(&self, reply: &Reply) -> Result<Vec<Answer>, StoreError> {
        let mut states = self.states(reply);
        let decide = |(order, passed): (&Order, &u8)| {
            let decide = |groups: &[Group<'_>]| plain::acquire(reply.now, groups, &mut states, Source::Redis);
            let answer = order.with_groups(decide);
            if answer.allowed == (*passed == b'1') { Ok(answer) } else { Err(differs()) }
        };
        if reply.passed.len() != self.orders.len() || reply.values.len() != self.keys.len() {
            return Err(differs());
        }
        self.orders.iter().zip(&reply.passed).map(decide).collect()
    }
}

/// The rule of a limit that an order holds, which is fit.
fn rule_of(limit: &Limit) -> Rule {
    Rule::of(limit).unwrap_or(Rule::Stateless { admits: false })
}

fn differs() -> StoreError {
    StoreError::Defect(
        "the script in Redis did not decide as this program does: is another version of Tollgate using the same keys?"
            .to_owned(),
    )
}

/// Appends a number of two bytes.
fn short(to: &mut Vec<u8>, number: usize) {
    to.extend(u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
}

/// What the script answers.
#[derive(Debug)]
pub(super) struct Reply {
    /// The time at which it decided.
    pub(super) now: Timestamp,
    /// For each request `1` if it passes.
    passed: Vec<u8>,
    /// What was found under each key.
    pub(super) values: Vec<Option<Vec<u8>>>,
}

impl Reply {
    pub(super) fn read(value: redis::Value) -> Result<Self, StoreError> {
        use redis::Value::{Array, BulkString, Nil};

        let strange =
            || StoreError::Defect("the script in Redis answered something that it never answers".to_owned());
        let Array(parts) = value else { return Err(strange()) };
        let mut parts = parts.into_iter().map(|part| match part {
            BulkString(bytes) => Ok(Some(bytes)),
            Nil => Ok(None),
            _ => Err(strange()),
        });
        let mut next = || parts.next().and_then(Result::ok).flatten().ok_or_else(strange);
        let micros =
            String::from_utf8(next()?).ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(strange)?;
        let passed = next()?;
        let now = Timestamp::from_nanos(micros.saturating_mul(MICRO));
        Ok(Self { now, passed, values: parts.collect::<Result<_, _>>()? })
    }
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
