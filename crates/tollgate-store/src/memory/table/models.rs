//! The table under the model checker, which runs every interleaving of a few threads (up to a number of preemptions).
//!
//! A segment has one line here, so that the fifth key makes it grow.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;
use tollgate_core::{Limit, Quota, State, Timestamp};

use super::*;

/// A present at which nothing that was taken has come back.
const NOW: u64 = 1_000_000_000_000_000_000;

struct World<const W: usize> {
    table: Table<W>,
    census: Census,
    limit: Limit,
}

impl<const W: usize> World<W> {
    fn new(capacity: usize, burst: u64) -> Arc<Self> {
        // A state of three words takes the same limit at a rate that is no whole number of nanoseconds.
        let rate = Quota::per_minute(if W == 1 { 1 } else { 7 });
        let limit = Limit::gcra_with_burst(rate, burst).unwrap();
        Arc::new(Self { table: Table::new(16), census: Census::new(capacity), limit })
    }

    fn take_at(&self, key: u64, now: u64) -> Result<bool, Full> {
        self.table.update(&self.census, place(key), now, |words| {
            let present = Timestamp::from_nanos(now);
            let mut state = words.map_or_else(|| self.limit.fresh(present), |words| self.unpack(words));
            let step = self.limit.acquire(&mut state, present, 1);
            let mut next = [0; W];
            next.copy_from_slice(&self.limit.pack(&state)[..W]);
            (step.decision.allowed, step.decision.allowed.then_some(next))
        })
    }

    fn take(&self, key: u64) -> bool {
        self.take_at(key, NOW).unwrap()
    }

    fn unpack(&self, words: [u64; W]) -> State {
        let mut three = [0; 3];
        three[..W].copy_from_slice(&words);
        self.limit.unpack(three)
    }

    /// How often a key can still be taken from, one after the other.
    fn left(&self, key: u64) -> usize {
        (0..10).take_while(|_| self.take(key)).count()
    }
}

/// Keys 0 to 7 differ in the first three bits of the hash, the lowest in the first.
fn place(key: u64) -> Place {
    Place { hash: key.reverse_bits() | 1 << TAG_LOW_BITS, home: 0 }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(3, model);
}

/// Growth has so many steps that fewer preemptions must do.
fn check_growth(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(2, model);
}

/// Where all threads make the table grow, or there are three of them, as many interleavings as twenty seconds allow.
fn check_some(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = builder(1);
    builder.max_duration = Some(Duration::from_secs(20));
    builder.check(model);
}

fn check_up_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    builder(preemptions).check(model);
}

fn builder(preemptions: usize) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder
}

/// Runs what each thread does, and returns what each found.
fn together<const W: usize, const N: usize>(
    world: &Arc<World<W>>,
    threads: [fn(&World<W>) -> bool; N],
) -> [bool; N] {
    let [first, others @ ..] = &threads[..] else { unreachable!() };
    let others: Vec<_> = others
        .iter()
        .map(|run| {
            let (world, run) = (Arc::clone(world), *run);
            thread::spawn(move || run(&world))
        })
        .collect();
    let mut found = vec![first(world)];
    found.extend(others.into_iter().map(|thread| thread.join().unwrap()));
    found.try_into().unwrap()
}

fn two_bring_the_same_key<const W: usize>() {
    check(|| {
        let world = World::<W>::new(16, 1);
        let taken = together(&world, [|world| world.take(5), |world| world.take(5)]);
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
        assert_eq!((world.left(5), world.census.present()), (0, 1));
    });
}

#[test]
fn two_bring_the_same_key_of_one_word() {
    two_bring_the_same_key::<1>();
}

#[test]
fn two_bring_the_same_key_of_three_words() {
    two_bring_the_same_key::<3>();
}

#[test]
fn three_bring_the_same_key() {
    check_some(|| {
        let world = World::<1>::new(16, 2);
        let taken = together(&world, [|world| world.take(5), |world| world.take(5), |world| world.take(5)]);
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 2);
        assert_eq!((world.left(5), world.census.present()), (0, 1));
    });
}

#[test]
fn one_brings_a_key_while_another_uses_its_own() {
    check(|| {
        let world = World::<1>::new(16, 3);
        assert!(world.take(1));
        let taken = together(&world, [|world| world.take(1), |world| world.take(2)]);
        assert_eq!(taken, [true; 2]);
        assert_eq!((world.left(1), world.left(2), world.census.present()), (1, 2, 2));
    });
}

fn two_use_the_same_key<const W: usize>() {
    check(|| {
        let world = World::<W>::new(16, 2);
        assert!(world.take(1));
        let taken = together(&world, [|world| world.take(1), |world| world.take(1)]);
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
        assert_eq!(world.left(1), 0);
    });
}

#[test]
fn two_use_the_same_key_of_one_word() {
    two_use_the_same_key::<1>();
}

#[test]
fn two_use_the_same_key_of_three_words() {
    two_use_the_same_key::<3>();
}

/// A long time ago, so that what was taken then has come back.
const LONG_AGO: u64 = NOW - 1_000_000_000_000_000;

fn a_vacant_entry_is_used_by_its_owner_and_wanted_by_another<const W: usize>() {
    check(|| {
        // Room for one key: the other must take its entry.
        let world = World::<W>::new(1, 1);
        assert!(world.take_at(1, LONG_AGO).unwrap());
        let taken = together(
            &world,
            [
                |world| world.take_at(1, NOW).unwrap_or_default(),
                |world| world.take_at(2, NOW).unwrap_or_default(),
            ],
        );
        // At least one finds room, and who has taken stays limited.
        assert!(taken.contains(&true));
        for (key, taken) in [1, 2].into_iter().zip(taken) {
            if taken {
                assert_eq!(world.take_at(key, NOW), Ok(false), "{key} of {taken}");
            }
        }
        assert!(world.census.present() <= 1);
    });
}

#[test]
fn a_vacant_entry_of_one_word_is_used_by_its_owner_and_wanted_by_another() {
    a_vacant_entry_is_used_by_its_owner_and_wanted_by_another::<1>();
}

#[test]
fn a_vacant_entry_of_three_words_is_used_by_its_owner_and_wanted_by_another() {
    a_vacant_entry_is_used_by_its_owner_and_wanted_by_another::<3>();
}

#[test]
fn two_want_the_same_vacant_entry() {
    check(|| {
        let world = World::<1>::new(1, 1);
        assert!(world.take_at(1, LONG_AGO).unwrap());
        let taken = together(
            &world,
            [
                |world| world.take_at(2, NOW).unwrap_or_default(),
                |world| world.take_at(3, NOW).unwrap_or_default(),
            ],
        );
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
        assert_eq!(world.census.present(), 1);
    });
}

/// A segment whose line is full: the next key makes it split.
fn full<const W: usize>(burst: u64) -> Arc<World<W>> {
    let world = World::new(16, burst);
    for key in 0..Line::<W>::ENTRIES as u64 {
        assert!(world.take(key));
    }
    world
}

fn one_makes_it_grow_while_another_uses_a_key_that_moves<const W: usize>() {
    check_growth(|| {
        let world = full::<W>(3);
        let taken = together(&world, [|world| world.take(4), |world| world.take(1)]);
        assert_eq!(taken, [true; 2]);
        assert_eq!((world.left(0), world.left(1), world.left(4)), (2, 1, 2));
        assert_eq!(world.census.present(), Line::<W>::ENTRIES + 1);
    });
}

#[test]
fn one_makes_it_grow_while_another_uses_a_key_of_one_word_that_moves() {
    one_makes_it_grow_while_another_uses_a_key_that_moves::<1>();
}

#[test]
fn one_makes_it_grow_while_another_uses_a_key_of_three_words_that_moves() {
    one_makes_it_grow_while_another_uses_a_key_that_moves::<3>();
}

#[test]
fn two_make_it_grow_with_the_same_key() {
    check_some(|| {
        let world = full::<1>(2);
        let taken = together(&world, [|world| world.take(5), |world| world.take(5)]);
        assert_eq!(taken, [true; 2]);
        assert_eq!((world.left(5), world.left(1), world.census.present()), (0, 1, 5));
    });
}

#[test]
fn two_make_it_grow_with_different_keys() {
    check_some(|| {
        let world = full::<1>(2);
        let taken = together(&world, [|world| world.take(4), |world| world.take(5)]);
        assert_eq!(taken, [true; 2]);
        let left = [0, 1, 2, 3, 4, 5].map(|key| world.left(key));
        assert_eq!((left, world.census.present()), ([1; 6], 6));
    });
}

#[test]
fn one_forgets_a_key_while_another_uses_it() {
    check(|| {
        let world = World::<1>::new(16, 2);
        assert!(world.take(1));
        let forget = |world: &World<1>| {
            world.table.give_up(&world.census, place(1), NOW, u64::MAX);
            true
        };
        let taken = together(&world, [forget, |world| world.take(1)]);
        assert_eq!(taken, [true; 2]);
        // Forgotten before or after the other took.
        assert!((1..=2).contains(&world.left(1)));
        assert_eq!(world.census.present(), 1);
    });
}

#[test]
fn a_sweep_takes_nothing_that_is_in_use() {
    check(|| {
        let world = World::<1>::new(16, 1);
        assert!(world.take_at(1, LONG_AGO).unwrap());
        let sweep = |world: &World<1>| {
            world.table.sweep(&world.census, NOW);
            true
        };
        let taken = together(&world, [sweep, |world| world.take(1)]);
        assert_eq!(taken, [true; 2]);
        assert_eq!((world.left(1), world.census.present()), (0, 1));
    });
}

/// What was told of each key last.
#[cfg(feature = "durable")]
#[derive(Default)]
struct Told<const W: usize> {
    prints: keep::Prints,
    states: std::collections::BTreeMap<u64, [u64; W]>,
}

#[cfg(feature = "durable")]
impl<const W: usize> Told<W> {
    fn read(&mut self, world: &World<W>) {
        world.table.changes(&mut self.prints, |place, words| _ = self.states.insert(place, words));
    }
}

/// Changes keys while the table is read, and reads once more: what was told of each key last is how it is.
#[cfg(feature = "durable")]
fn all_is_told_in_the_end<const W: usize>(world: Arc<World<W>>, change: fn(&World<W>)) {
    let mut told = Told::default();
    told.read(&world);
    let changing = {
        let world = Arc::clone(&world);
        thread::spawn(move || change(&world))
    };
    told.read(&world);
    changing.join().unwrap();
    told.read(&world);
    for key in 0..6 {
        let known = world.table.look(&world.census, place(key), NOW);
        assert_eq!(told.states.get(&place(key).to_word()), known.as_ref(), "{key}");
    }
}

/// A table with few places, as each is looked at in every reading.
#[cfg(feature = "durable")]
fn small<const W: usize>(keys: std::ops::Range<u64>) -> Arc<World<W>> {
    let limit = World::<W>::new(1, 3).limit;
    let world = Arc::new(World { table: Table::new(2), census: Census::new(16), limit });
    for key in keys {
        assert!(world.take(key));
    }
    world
}

#[cfg(feature = "durable")]
#[test]
fn a_change_of_one_word_is_told() {
    check(|| all_is_told_in_the_end(small::<1>(1..2), |world| _ = world.take(1)));
}

#[cfg(feature = "durable")]
#[test]
fn a_change_of_three_words_is_told() {
    check(|| all_is_told_in_the_end(small::<3>(1..2), |world| _ = world.take(1)));
}

#[cfg(feature = "durable")]
#[test]
fn a_new_key_is_told() {
    check(|| all_is_told_in_the_end(small::<1>(0..0), |world| _ = world.take(1)));
}

#[cfg(feature = "durable")]
#[test]
fn keys_that_move_are_told() {
    check_growth(|| all_is_told_in_the_end(small::<1>(0..4), |world| _ = world.take(4)));
}
