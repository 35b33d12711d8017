//! The table alone: growth, reuse and races, on real threads. The interpreter for undefined behaviour runs these too,
//! with smaller numbers.

// Counts are far below 2^32.
#![allow(clippy::cast_possible_truncation)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tollgate_core::KeyHash;

use super::*;

const NOW: u64 = 1_000_000_000_000_000_000;
/// Live for all of a test.
const LATER: u64 = NOW + 1_000_000_000_000;

fn scaled(count: u64) -> u64 {
    if cfg!(miri) { count / 500 } else { count }
}

fn place(key: u64) -> Place {
    // As hashed keys are: both halves look random.
    Place::of(&KeyHash(u128::from(key.wrapping_mul(0xF39C_C060_5CED_C835))))
}

/// Adds to a key's state, which counts from [`LATER`]; returns what it was.
fn add<const W: usize>(table: &Table<W>, census: &Census, key: u64, count: u64) -> Result<u64, Full> {
    table.update(census, place(key), NOW, |words| {
        let before = words.map_or(0, |words| words[0] - LATER);
        // The other words say the same, so that a torn state is seen.
        if let Some(words) = words {
            assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
        }
        (before, (count > 0).then_some([LATER + before + count; W]))
    })
}

fn grows<const W: usize>() {
    let count = scaled(200_000);
    let (table, census) = (Table::<W>::new(count as usize), Census::new(count as usize));
    for key in 0..count {
        assert_eq!(add(&table, &census, key, key + 1), Ok(0), "{key}");
    }
    for key in 0..count {
        assert_eq!(add(&table, &census, key, 0), Ok(key + 1), "{key}");
    }
    assert_eq!(census.present() as u64, count);
    if cfg!(miri) {
        return;
    }
    // Not more segments than twice what the entries need.
    let entries = table.made() * LINES * Line::<W>::ENTRIES;
    assert!(entries as u64 <= (count * 2).max((LINES * Line::<W>::ENTRIES) as u64 * 2), "{entries}");
}

#[test]
fn words_stay_as_it_grows() {
    grows::<1>();
}

#[test]
fn triples_stay_as_it_grows() {
    grows::<3>();
}

/// Threads that use some keys while others bring new ones: nothing that was counted may get lost, nor a key be there
/// twice.
fn counts_while_growing<const W: usize>() {
    let (rounds, keys, strangers) = (scaled(2_000), 50, scaled(40_000));
    let (table, census) = (Table::<W>::new(20 * strangers as usize), Census::new(20 * strangers as usize));
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (table, census) = (&table, &census);
            scope.spawn(move || {
                for round in 0..rounds {
                    for key in 0..keys {
                        assert!(add(table, census, key, 1).is_ok());
                        if key % 10 == thread {
                            let stranger = 1_000 + (round * keys + key) % strangers;
                            assert!(add(table, census, stranger, 1).is_ok());
                        }
                    }
                }
            });
        }
    });
    for key in 0..keys {
        assert_eq!(add(&table, &census, key, 0), Ok(4 * rounds), "{key}");
    }
    let known = (0..1_000 + strangers).filter(|key| add(&table, &census, *key, 0) != Ok(0)).count();
    assert_eq!(census.present(), known);
}

#[test]
fn words_count_while_it_grows() {
    counts_while_growing::<1>();
}

#[test]
fn triples_count_while_it_grows() {
    counts_while_growing::<3>();
}

#[test]
fn vacant_entries_are_used_again_by_many_threads() {
    // Room for few: every key takes the place of one whose time has come.
    let (table, census) = (Table::<1>::new(64), Census::new(64));
    let clock = AtomicU64::new(NOW);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (table, census, clock) = (&table, &census, &clock);
            scope.spawn(move || {
                for round in 0..scaled(20_000) {
                    let now = clock.fetch_add(1, Ordering::Relaxed);
                    let key = thread << 32 | round;
                    let take = |words: Option<[u64; 1]>| match words {
                        Some([free_at]) if free_at > now => (false, None),
                        _ => (true, Some([now + 10])),
                    };
                    // The key is new, so if there is room it is taken, and known until its time has come.
                    match table.update(census, place(key), now, take) {
                        Ok(taken) => {
                            assert!(taken);
                            let again = table.update(census, place(key), now, take);
                            // Unless its time has come meanwhile, by the others' clock.
                            let passed = clock.load(Ordering::Relaxed) >= now + 10;
                            assert!(again == Ok(false) || passed, "{again:?}");
                        }
                        Err(Full { .. }) => {
                            table.sweep(census, now);
                        }
                    }
                }
            });
        }
    });
    assert!(census.present() <= 64);
    let now = clock.into_inner() + 1_000;
    while table.sweep(&census, now).0 {}
    assert_eq!(census.present(), 0);
}

#[test]
fn small_numbers_for_hashes_are_different_keys() {
    let places: std::collections::HashSet<_> = (0..u128::from(scaled(20_000)))
        .map(|key| Place::of(&KeyHash(key)))
        .map(|place| (place.hash, place.home))
        .collect();
    assert_eq!(places.len() as u64, scaled(20_000));
}

#[test]
fn a_forgotten_key_is_new() {
    let (table, census) = (Table::<3>::new(100), Census::new(100));
    add(&table, &census, 7, 5).unwrap();
    table.give_up(&census, place(7), NOW, NOW);
    assert_eq!(add(&table, &census, 7, 0), Ok(5));
    table.give_up(&census, place(7), NOW, u64::MAX);
    assert_eq!((add(&table, &census, 7, 0), census.present()), (Ok(0), 0));
}

#[test]
fn the_census_bounds_it() {
    let (table, census) = (Table::<1>::new(10_000), Census::new(100));
    let admitted = (0..scaled(100_000).max(200)).filter(|key| add(&table, &census, *key, 1).is_ok()).count();
    assert_eq!((admitted, census.present()), (100, 100));
    assert_eq!(add(&table, &census, 3, 1), Ok(1));
    // Nobody is in the way of one who asks for nothing.
    assert_eq!(add(&table, &census, 5_000, 0), Ok(0));
    let (found, soonest) = table.sweep(&census, NOW);
    assert_eq!((found, soonest), (false, LATER + 1));
}
