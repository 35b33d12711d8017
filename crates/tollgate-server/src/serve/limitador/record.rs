//! Which counters there are.
//!
//! A store keeps hashes of keys, from which nobody can tell what was counted. For `GET /counters` this keeps the values that
//! were seen last, in bounded memory; how much is left of each is asked of the store.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};

use smallvec::SmallVec;
use tollgate::{
    Group, Hit, KeyHash, LimitadorCounter, LimitadorLimit, LimitadorLimits, Nanos, Store, StoreError,
};

/// The most counters that are remembered.
const COUNTERS_MAX: usize = 10_000;
/// The most bytes of their values, all together.
const BYTES_MAX: usize = 4 << 20;
/// How many are asked about in one call.
const AT_ONCE: usize = 64;

/// The counters that were charged last.
#[derive(Debug, Default)]
pub(super) struct Record(RwLock<Seen>);

#[derive(Debug, Default)]
struct Seen {
    counters: HashMap<KeyHash, Counter>,
    /// Their keys, the one that was seen first at the front.
    order: VecDeque<KeyHash>,
    bytes: usize,
}

/// A counter that was seen.
#[derive(Clone, Debug)]
struct Counter {
    /// The place of its limit in the file.
    place: usize,
    /// The values of the limit's variables.
    values: Vec<String>,
}

/// A counter whose window is under way.
#[derive(Debug)]
pub(super) struct Live<'l> {
    pub(super) limit: &'l LimitadorLimit,
    pub(super) values: Vec<String>,
    pub(super) remaining: u64,
    pub(super) reset_after: Nanos,
}

impl Counter {
    fn bytes(&self) -> usize {
        self.values.iter().map(String::len).sum()
    }
}

impl Seen {
    fn add(&mut self, key: KeyHash, counter: Counter) {
        let bytes = counter.bytes();
        if bytes > BYTES_MAX || self.counters.contains_key(&key) {
            return;
        }
        while self.counters.len() >= COUNTERS_MAX || self.bytes + bytes > BYTES_MAX {
            let Some(first) = self.order.pop_front() else { break };
            self.forget(first);
        }
        self.bytes += bytes;
        self.counters.insert(key, counter);
        self.order.push_back(key);
    }

    fn forget(&mut self, key: KeyHash) {
        if let Some(counter) = self.counters.remove(&key) {
            self.bytes -= counter.bytes();
        }
    }
}

/// What a counter's limit is known by, whatever its number and its name are.
fn identity(limit: &LimitadorLimit) -> (&str, u64, Vec<&str>, Vec<&str>) {
    (limit.namespace(), limit.seconds(), limit.conditions().collect(), limit.variables().collect())
}

impl Record {
    /// What is remembered of limits that others have followed.
    pub(super) fn following(&self, former: &LimitadorLimits, now: &LimitadorLimits) -> Self {
        let places: HashMap<_, usize> =
            (0..).zip(now.limits()).map(|(place, limit)| (identity(limit), place)).collect();
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Seen::default();
        for key in &seen.order {
            let Some(counter) = seen.counters.get(key) else { continue };
            let limit = former.limits().get(counter.place);
            if let Some(place) = limit.and_then(|limit| places.get(&identity(limit))) {
                kept.add(*key, Counter { place: *place, values: counter.values.clone() });
            }
        }
        Self(RwLock::new(kept))
    }

    /// Remembers counters. Nearly always they are known, and nobody waits.
    pub(super) fn note(&self, counters: &[LimitadorCounter<'_>]) {
        let unknown: SmallVec<[&LimitadorCounter<'_>; 4]> = {
            let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
            counters.iter().filter(|counter| !seen.counters.contains_key(&counter.key)).collect()
        };
        if unknown.is_empty() {
            return;
        }
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for counter in unknown {
            let values = counter.values().map(|(_, value)| value.to_owned()).collect();
            seen.add(counter.key, Counter { place: counter.place, values });
        }
    }

    /// The counters of a namespace whose windows are under way, those that were seen first at the front. The others are
    /// forgotten.
    ///
    /// # Errors
    /// If the store cannot say.
    pub(super) async fn live<'l>(
        &self,
        store: &impl Store,
        limits: &'l LimitadorLimits,
        namespace: &str,
    ) -> Result<Vec<Live<'l>>, StoreError> {
        let found: Vec<(KeyHash, &LimitadorLimit, Vec<String>)> = {
            let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let counters = seen.order.iter().filter_map(|key| {
                let counter = seen.counters.get(key)?;
                let limit = limits.limits().get(counter.place)?;
                (limit.namespace() == namespace).then(|| (*key, limit, counter.values.clone()))
            });
            counters.collect()
        };
        let (mut live, mut over) = (Vec::new(), Vec::new());
        for some in found.chunks(AT_ONCE) {
            let hits: Vec<Hit<'_>> = some
                .iter()
                .map(|(key, limit, _)| Hit::new(limit.limit_id(), *key, limit.limit()).with_cost(0))
                .collect();
            let groups: Vec<Group<'_>> =
                hits.iter().map(|hit| Group::all(std::slice::from_ref(hit))).collect();
            let answer = store.peek(&groups).await?;
            for ((key, limit, values), outcome) in some.iter().zip(&answer.outcomes) {
                let decision = &outcome.decision;
                if decision.reset_after == Nanos::ZERO {
                    over.push(*key);
                    continue;
                }
                live.push(Live {
                    limit,
                    values: values.clone(),
                    remaining: decision.remaining,
                    reset_after: decision.reset_after,
                });
            }
        }
        if !over.is_empty() {
            let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for key in over {
                seen.forget(key);
            }
            let Seen { counters, order, .. } = &mut *seen;
            order.retain(|key| counters.contains_key(key));
        }
        Ok(live)
    }
}

#[cfg(test)]
mod tests {
    use tollgate::{KeySeed, MemoryStore, check_counters};

    use super::*;

    const FILE: &str = "- { namespace: ns, max_value: 5, seconds: 3600, variables: ['descriptors[0].u'] }";

    fn limits() -> LimitadorLimits {
        LimitadorLimits::parse("limits.yaml", FILE, KeySeed::new([7; 16])).unwrap()
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_last_are_kept() {
        let (limits, record) = (limits(), Record::default());
        let note = |value: &str| record.note(&limits.find("ns", &[&[("u", value)]]));
        for number in 0..COUNTERS_MAX + 10 {
            note(&number.to_string());
            note(&number.to_string());
        }
        {
            let seen = record.0.read().unwrap();
            assert_eq!((seen.counters.len(), seen.order.len()), (COUNTERS_MAX, COUNTERS_MAX));
            assert_eq!(seen.counters[&seen.order[0]].values, ["10"]);
        }
        // A few of them are large.
        let large = "x".repeat(BYTES_MAX / 4);
        for number in 0..9 {
            note(&format!("{number}{large}"));
        }
        note(&"x".repeat(BYTES_MAX + 1));
        let seen = record.0.read().unwrap();
        assert!(seen.bytes <= BYTES_MAX && seen.order.len() == 3, "{} {}", seen.bytes, seen.order.len());
        assert_eq!(seen.bytes, seen.counters.values().map(Counter::bytes).sum::<usize>());
    }

    #[tokio::test]
    async fn counters_whose_window_is_over_are_forgotten() {
        let (limits, record, store) = (limits(), Record::default(), MemoryStore::default());
        let (anna, bob) = (limits.find("ns", &[&[("u", "anna")]]), limits.find("ns", &[&[("u", "bob")]]));
        let _ = check_counters(&store, &anna, 2).await.unwrap();
        record.note(&anna);
        // Nothing of this one's was ever taken.
        record.note(&bob);
        let live = record.live(&store, &limits, "ns").await.unwrap();
        assert_eq!((live.len(), live[0].remaining, live[0].values[0].as_str()), (1, 3, "anna"));
        assert_eq!(record.0.read().unwrap().order.len(), 1);
        assert!(record.live(&store, &limits, "other").await.unwrap().is_empty());
    }
}
