//! What became of single keys lately, in fixed memory: for who asks why a customer is denied.

use std::sync::{Mutex, PoisonError, TryLockError};

use serde::Serialize;
use tollgate::KeyHash;

/// How many keys are remembered: so many in each of so many sets. A key has its set by its hash.
const SETS: usize = 512;
const WAYS: usize = 4;
/// How many minutes are told apart.
const MINUTES: usize = 10;

/// Keys, each in the set of its hash.
#[derive(Debug)]
pub(super) struct History {
    sets: Box<[Mutex<[Option<Entry>; WAYS]>]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: KeyHash,
    since_ms: u64,
    last_ms: u64,
    last_denied_ms: Option<u64>,
    allowed: u64,
    denied: u64,
    /// Allowed and denied in each minute: the present one first.
    minutes: [(u32, u32); MINUTES],
}

/// What became of a key's requests, as far as it is remembered. Where several threads are at keys of one set, some requests go
/// unnoticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::serve) struct KeyHistory {
    /// Since when it is remembered, and when it asked last.
    since_unix_ms: u64,
    last_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_denied_unix_ms: Option<u64>,
    allowed: u64,
    denied: u64,
    /// The last minutes, the present one first.
    minutes: Vec<Minute>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Minute {
    allowed: u32,
    denied: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::new([None; WAYS])).collect() }
    }
}

impl History {
    /// Notes what became of a request. Nobody waits for it.
    pub(super) fn add(&self, key: KeyHash, allowed: bool, now_ms: u64) {
        let mut set = match self.set(key).try_lock() {
            Ok(set) => set,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let place = set.iter().position(|entry| entry.is_some_and(|entry| entry.key == key));
        // Else the place of the one that was silent for the longest; those who were denied lately stay longer.
        let worth = |entry: &Option<Entry>| {
            entry.map_or(0, |entry| entry.last_ms + 60_000 * u64::from(entry.denied > 0))
        };
        let place = place.or_else(|| (0..WAYS).min_by_key(|place| worth(&set[*place])));
        let Some(entry) = place.and_then(|place| set.get_mut(place)) else { return };
        match entry {
            Some(entry) if entry.key == key => entry.add(allowed, now_ms),
            other => {
                let mut new = Entry {
                    key,
                    since_ms: now_ms,
                    last_ms: now_ms,
                    last_denied_ms: None,
                    allowed: 0,
                    denied: 0,
                    minutes: [(0, 0); MINUTES],
                };
                new.add(allowed, now_ms);
                *other = Some(new);
            }
        }
    }

    /// What is remembered of a key.
    pub(super) fn of(&self, key: KeyHash, now_ms: u64) -> Option<KeyHistory> {
        let set = self.set(key).lock().unwrap_or_else(PoisonError::into_inner);
        let mut entry = set.iter().flatten().find(|entry| entry.key == key).copied()?;
        drop(set);
        entry.turn(now_ms);
        Some(KeyHistory {
            since_unix_ms: entry.since_ms,
            last_unix_ms: entry.last_ms,
            last_denied_unix_ms: entry.last_denied_ms,
            allowed: entry.allowed,
            denied: entry.denied,
            minutes: entry
                .minutes
                .iter()
                .map(|(allowed, denied)| Minute { allowed: *allowed, denied: *denied })
                .collect(),
        })
    }

    fn set(&self, key: KeyHash) -> &Mutex<[Option<Entry>; WAYS]> {
        // The bits of hashes are as good as random.
        #[allow(clippy::cast_possible_truncation)]
        let index = (key.0 >> 64) as usize % SETS;
        &self.sets[index]
    }
}

impl Entry {
    fn add(&mut self, allowed: bool, now_ms: u64) {
        self.turn(now_ms);
        self.last_ms = self.last_ms.max(now_ms);
        let (of_all, of_minute) = if allowed {
            (&mut self.allowed, &mut self.minutes[0].0)
        } else {
            self.last_denied_ms = Some(now_ms);
            (&mut self.denied, &mut self.minutes[0].1)
        };
        *of_all += 1;
        *of_minute = of_minute.saturating_add(1);
    }

    /// Makes the present minute the first.
    fn turn(&mut self, now_ms: u64) {
        let passed = (now_ms / 60_000).saturating_sub(self.last_ms / 60_000);
        let passed = usize::try_from(passed).unwrap_or(usize::MAX).min(MINUTES);
        self.minutes.rotate_right(passed);
        self.minutes[..passed].fill((0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_pass() {
        let (history, key) = (History::default(), KeyHash(7));
        history.add(key, true, 60_000);
        history.add(key, true, 61_000);
        history.add(key, false, 125_000);
        let told = history.of(key, 130_000).unwrap();
        assert_eq!((told.allowed, told.denied, told.last_denied_unix_ms), (2, 1, Some(125_000)));
        assert_eq!(
            told.minutes[..3],
            [(0, 1), (2, 0), (0, 0)].map(|(allowed, denied)| Minute { allowed, denied })
        );
        let later = history.of(key, 125_000 + 60_000 * 20).unwrap();
        assert!(later.minutes.iter().all(|minute| *minute == Minute { allowed: 0, denied: 0 }));
        assert_eq!(history.of(KeyHash(8), 0), None);
    }

    #[test]
    fn who_was_denied_stays_longer_and_memory_is_fixed() {
        let history = History::default();
        history.add(KeyHash(1), false, 1_000);
        for other in 2..1_000_u128 {
            // All of one set.
            history.add(KeyHash(other), true, 1_000 + u64::try_from(other).unwrap());
        }
        assert!(history.of(KeyHash(1), 3_000).is_some());
        for other in 2..1_000_u128 {
            history.add(KeyHash(other), true, 90_000 + u64::try_from(other).unwrap());
        }
        assert_eq!(history.of(KeyHash(1), 95_000), None);
        assert!(history.of(KeyHash(999), 95_000).is_some());
    }
}
