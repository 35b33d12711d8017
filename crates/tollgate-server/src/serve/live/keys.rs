//! The keys that ask the most, in fixed memory.
//!
//! The space-saving algorithm (A. Metwally, D. Agrawal and A. El Abbadi, *Efficient computation of frequent and top-k elements in
//! data streams*, 2005): a key that is not among those that are counted takes the place of the one with the least, and its
//! count. So no count is too low, and any key that makes up more than one in so many requests as there are places is there.

use std::collections::HashMap;

use tollgate::KeyHash;

/// How many keys are counted.
const PLACES: usize = 128;
/// The longest name that is kept, in characters.
const NAME_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct TopKeys {
    places: HashMap<KeyHash, usize>,
    counted: Vec<Counted>,
}

/// A key and how often it has asked.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) key: KeyHash,
    pub(super) policy: String,
    /// For people: secrets are veiled.
    pub(super) name: String,
    pub(super) count: u64,
    /// How much of the count may be another's.
    pub(super) excess: u64,
}

impl TopKeys {
    /// Counts a request by this key.
    pub(super) fn add(&mut self, key: KeyHash, policy: &str, describe: impl FnOnce() -> String) {
        if let Some(place) = self.places.get(&key) {
            self.counted[*place].count += 1;
            return;
        }
        let new = |count: u64| Counted {
            key,
            policy: policy.to_owned(),
            name: describe().chars().take(NAME_MAX).collect(),
            count: count + 1,
            excess: count,
        };
        if self.counted.len() < PLACES {
            self.places.insert(key, self.counted.len());
            self.counted.push(new(0));
            return;
        }
        let least = self.counted.iter().enumerate().min_by_key(|(_, counted)| counted.count);
        if let Some((place, least)) = least.map(|(place, least)| (place, (least.key, least.count))) {
            self.places.remove(&least.0);
            self.places.insert(key, place);
            self.counted[place] = new(least.1);
        }
    }

    /// Lets all that was count half.
    pub(super) fn halve(&mut self) {
        self.counted.retain_mut(|counted| {
            counted.count /= 2;
            counted.excess /= 2;
            counted.count > 0
        });
        self.places = self.counted.iter().enumerate().map(|(place, counted)| (counted.key, place)).collect();
    }

    /// The first of them.
    pub(super) fn top(&self, many: usize) -> Vec<Counted> {
        // One whose count may all be another's is none that asks much.
        let sure = self.counted.iter().filter(|counted| counted.excess * 2 < counted.count);
        let mut top: Vec<Counted> = sure.cloned().collect();
        top.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        top.truncate(many);
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(top: &mut TopKeys, key: u128) {
        top.add(KeyHash(key), "p", || format!("k{key}"));
    }

    #[test]
    fn who_asks_the_most_is_found_among_many() {
        let mut top = TopKeys::default();
        for round in 0..20_000_u128 {
            // Every tenth request is one key's, every twentieth another's; the others ask once each.
            match round % 20 {
                0 | 10 => add(&mut top, 1),
                5 => add(&mut top, 2),
                _ => add(&mut top, 1_000 + round),
            }
        }
        let names: Vec<String> = top.top(2).into_iter().map(|counted| counted.name).collect();
        assert_eq!(names, ["k1", "k2"]);
        assert!(top.top(1)[0].count >= 2_000);
        assert_eq!((top.counted.len(), top.places.len()), (PLACES, PLACES));
    }

    #[test]
    fn what_is_long_ago_fades() {
        let mut top = TopKeys::default();
        for _ in 0..8 {
            add(&mut top, 1);
        }
        top.halve();
        for _ in 0..5 {
            add(&mut top, 2);
        }
        let counts: Vec<(String, u64)> = top.top(9).into_iter().map(|one| (one.name, one.count)).collect();
        assert_eq!(counts, [("k2".to_owned(), 5), ("k1".to_owned(), 4)]);
        for _ in 0..4 {
            top.halve();
        }
        assert!(top.top(9).is_empty() && top.places.is_empty());
    }

    #[test]
    fn names_are_cut() {
        let mut top = TopKeys::default();
        top.add(KeyHash(1), "p", || "ä".repeat(1_000));
        assert_eq!(top.top(1)[0].name.chars().count(), NAME_MAX);
    }
}
