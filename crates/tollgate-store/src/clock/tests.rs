//! The clock on counters that no machine should have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::Cell;

use super::discipline::{Discipline, Sample};
use super::timeline::{Hardware, Timeline};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A true time, and a counter that does what a test says. Each reading takes some of that time.
#[derive(Debug)]
struct World {
    nanos: Cell<u64>,
    /// Ticks in units of 2^-32.
    ticks: Cell<u128>,
    /// Ticks per nanosecond in units of 2^-32.
    pace: Cell<u64>,
    /// How long a reading of the true time takes.
    slowness: Cell<u64>,
    /// How often it was read.
    asked: Cell<u64>,
}

/// Three ticks a nanosecond, and so many millionths more.
fn three(ppm: i64) -> u64 {
    let exact: i64 = 3 << 32;
    u64::try_from(exact + exact / 1_000_000 * ppm).unwrap()
}

impl World {
    fn new(counter: u64) -> Self {
        Self {
            nanos: Cell::new(0),
            ticks: Cell::new(u128::from(counter) << 32),
            pace: Cell::new(three(0)),
            slowness: Cell::new(20),
            asked: Cell::new(0),
        }
    }

    fn pass(&self, nanos: u64) {
        self.nanos.set(self.nanos.get() + nanos);
        self.ticks.set(self.ticks.get().wrapping_add(u128::from(nanos) * u128::from(self.pace.get())));
    }

    /// Moves the counter alone, by what it counts in so much time.
    fn skip(&self, nanos: u64) {
        self.ticks.set(self.ticks.get().wrapping_add(u128::from(nanos) * (3 << 32)));
    }

    /// Moves the counter alone, backwards.
    fn unwind(&self, nanos: u64) {
        self.ticks.set(self.ticks.get().wrapping_sub(u128::from(nanos) * (3 << 32)));
    }
}

impl Hardware for &World {
    #[expect(clippy::cast_possible_truncation, reason = "a counter wraps")]
    fn counter(&self) -> u64 {
        self.pass(6);
        (self.ticks.get() >> 32) as u64
    }

    fn nanos(&self) -> u64 {
        self.asked.set(self.asked.get() + 1);
        self.pass(self.slowness.get());
        self.nanos.get()
    }
}

/// A clock in such a world, and the reader that watches it.
struct Watch<'a> {
    world: &'a World,
    timeline: Timeline<&'a World>,
    last: u64,
}

impl<'a> Watch<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, timeline: Timeline::new(world), last: 0 }
    }

    /// Reads the clock, which must not have gone backwards. Says how far it is from the true time.
    fn read(&mut self) -> i64 {
        let nanos = self.timeline.nanos();
        assert!(nanos >= self.last, "{} ns backwards", self.last - nanos);
        self.last = nanos;
        nanos.wrapping_sub(self.world.nanos.get()).cast_signed()
    }

    /// Reads it every `step` for so long. Says how far it was from the true time at most.
    fn run(&mut self, time: u64, step: u64) -> u64 {
        let end = self.world.nanos.get() + time;
        let mut worst = 0;
        while self.world.nanos.get() < end {
            self.world.pass(step);
            worst = worst.max(self.read().unsigned_abs());
        }
        worst
    }

    /// As `run`, after a counter ran backwards: what the reader saw before is forgotten.
    fn run_after_unwinding(&mut self, time: u64, step: u64) -> u64 {
        self.last = 0;
        self.run(time, step)
    }
}

#[test]
fn a_steady_counter_is_followed_to_the_microsecond() {
    for ppm in [-1_000, -83, 0, 83, 1_000] {
        let world = World::new(12_345);
        world.pace.set(three(ppm));
        let mut watch = Watch::new(&world);
        assert!(watch.run(10 * SECOND, 997) < 100, "{ppm} ppm");
        // The counter alone carries the time for a tenth of a second, and three readings make a sample.
        world.asked.set(0);
        watch.run(10 * SECOND, 997);
        assert!((291..=303).contains(&world.asked.get()), "{}", world.asked.get());
    }
}

#[test]
fn a_counter_of_any_pace_will_do_and_an_absurd_one_is_not_used() {
    // Ticks per nanosecond: 1 GHz is one.
    for pace in [(1 << 32) / 10, 1 << 32, 5 << 32, 60 << 32] {
        let world = World::new(7);
        world.pace.set(pace);
        let mut watch = Watch::new(&world);
        assert!(watch.run(2 * SECOND, 1_009) < 200, "{pace}");
    }
    for pace in [0, 1, (1 << 32) / 1_000, 100 << 32, 1 << 50] {
        let world = World::new(7);
        world.pace.set(pace);
        let mut watch = Watch::new(&world);
        assert!(watch.run(SECOND, 10_007) < 50, "{pace}");
    }
}

#[test]
fn a_pace_that_changes_a_little_is_worn_off_without_a_jump() {
    for (ppm, most) in [
        (500, 60 * MICROSECOND),
        (-500, 60 * MICROSECOND),
        (83, 10 * MICROSECOND),
        (-83, 10 * MICROSECOND),
        (1_000, 125 * MICROSECOND),
        (-1_000, 125 * MICROSECOND),
    ] {
        let world = World::new(1);
        let mut watch = Watch::new(&world);
        watch.run(SECOND, 997);
        world.pace.set(three(ppm));
        let end = world.nanos.get() + 2 * SECOND;
        let mut worst = 0;
        let mut before = (watch.last, world.nanos.get());
        while world.nanos.get() < end {
            world.pass(997);
            worst = worst.max(watch.read().unsigned_abs());
            let (given, passed) = (watch.last - before.0, world.nanos.get() - before.1);
            assert!(given.abs_diff(passed) < 25, "{given} ns given where {passed} ns passed");
            before = (watch.last, world.nanos.get());
        }
        assert!(worst < most, "{ppm} ppm: {worst} ns");
        assert!(watch.run(SECOND, 997) < 100, "{ppm} ppm");
    }
}

#[test]
fn a_wandering_pace_is_followed() {
    let world = World::new(1);
    let mut watch = Watch::new(&world);
    watch.run(SECOND, 997);
    let mut wander: u64 = 1;
    for _ in 0..200 {
        wander = wander.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        world.pace.set(three(i64::try_from(wander >> 33).unwrap() % 201 - 100));
        assert!(watch.run(50 * MILLISECOND, 2_003) < 50 * MICROSECOND);
    }
}

#[test]
fn a_new_pace_is_measured_anew() {
    for pace in [3 << 31, 6 << 32, 1 << 32, three(20_000), three(-20_000)] {
        let world = World::new(1);
        let mut watch = Watch::new(&world);
        watch.run(SECOND, 997);
        world.pace.set(pace);
        // One line at most follows the old pace; if it was ahead then, it waits for the true time.
        watch.run(500 * MILLISECOND, 997);
        assert!(watch.run(SECOND, 997) < 100, "{pace}");
        assert!(!watch.timeline.is_retired());
    }
}

#[test]
fn a_counter_that_leaps_is_not_believed() {
    for leap in [MILLISECOND, SECOND, DAY, 36_525 * DAY] {
        let world = World::new(1);
        let mut watch = Watch::new(&world);
        watch.run(SECOND, 997);
        world.skip(leap);
        // What is left of a line may be walked through, but no more.
        assert!(watch.run(150 * MILLISECOND, 997) < 100 * MILLISECOND, "{leap}");
        assert!(watch.run(SECOND, 997) < 100, "{leap}");
    }
}

#[test]
fn a_counter_that_ran_backwards_is_not_believed() {
    for (before, unwound) in [
        // Far into a line, hardly into one, and out of it.
        (1_050 * MILLISECOND, MILLISECOND),
        (1_001 * MILLISECOND, 60 * MILLISECOND),
        (SECOND, SECOND),
        (SECOND, DAY),
    ] {
        let world = World::new(u64::MAX / 2);
        let mut watch = Watch::new(&world);
        watch.run(before, 997);
        world.unwind(unwound);
        assert!(watch.run_after_unwinding(250 * MILLISECOND, 997) <= 100 * MILLISECOND, "{unwound}");
        assert!(watch.run(SECOND, 997) < 100, "{unwound}");
        assert!(!watch.timeline.is_retired());
    }
}

#[test]
fn a_counter_that_stood_still_is_left_behind() {
    let world = World::new(1);
    let mut watch = Watch::new(&world);
    watch.run(SECOND, 997);
    world.pace.set(0);
    watch.run(SECOND, 997);
    world.pace.set(three(0));
    watch.run(150 * MILLISECOND, 997);
    assert!(watch.run(SECOND, 997) < 100);
}

#[test]
fn a_clock_that_rests_is_true_when_it_is_asked_again() {
    let world = World::new(u64::MAX - 5);
    let mut watch = Watch::new(&world);
    for rest in [0, 1, MICROSECOND, MILLISECOND, 3 * MILLISECOND, SECOND, 3_600 * SECOND, DAY, 36_525 * DAY] {
        watch.run(200 * MILLISECOND, 997);
        world.pass(rest);
        assert!(watch.read().unsigned_abs() < 100, "after {rest} ns");
    }
    assert!(!watch.timeline.is_retired());
}

#[test]
fn samples_that_were_interrupted_are_not_used() {
    let world = World::new(1);
    let mut watch = Watch::new(&world);
    watch.run(500 * MILLISECOND, 997);
    world.slowness.set(300 * MICROSECOND);
    // The true time is read until a sample is better, and is no older than the reading took.
    assert!(watch.run(SECOND, 997) < 100);
    world.slowness.set(20);
    assert!(watch.run(SECOND, 997) < 100);

    // The same from the start.
    let world = World::new(1);
    world.slowness.set(300 * MICROSECOND);
    let mut watch = Watch::new(&world);
    assert!(watch.run(2 * SECOND, 997) < 100);
    world.slowness.set(20);
    assert!(watch.run(2 * SECOND, 997) < 100);
}

#[test]
fn a_counter_that_leaps_all_the_time_is_given_up() {
    let world = World::new(1);
    let mut watch = Watch::new(&world);
    for _ in 0..17 {
        assert!(!watch.timeline.is_retired());
        watch.run(200 * MILLISECOND, 997);
        world.skip(DAY);
    }
    watch.run(200 * MILLISECOND, 997);
    assert!(watch.timeline.is_retired());
    world.unwind(DAY);
    assert_eq!(watch.run(SECOND, 997), 0);

    // Once in a while is not all the time.
    let world = World::new(1);
    let mut watch = Watch::new(&world);
    for _ in 0..100 {
        watch.run(10 * SECOND, 50_021);
        world.skip(DAY);
    }
    assert!(!watch.timeline.is_retired());
}

#[test]
fn no_sample_is_too_odd() {
    let odd = [0, 1, 2, 1 << 31, 1 << 32, 1 << 42, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let samples = || {
        odd.into_iter().flat_map(move |counter| {
            odd.into_iter()
                .flat_map(move |nanos| odd.into_iter().map(move |width| Sample { counter, nanos, width }))
        })
    };
    for first in samples() {
        // From the measuring, and from a line that is there.
        let measuring = Discipline::new(first);
        let mut following = measuring;
        following.observe(Sample {
            counter: first.counter.wrapping_add(6_000_000),
            nanos: first.nanos.saturating_add(2_000_000),
            width: 60,
        });
        for second in samples() {
            for mut discipline in [measuring, following] {
                for sample in [second, first, second] {
                    let before = *discipline.line();
                    let changed = discipline.observe(sample);
                    let line = discipline.line();
                    assert!(line.end() >= line.nanos);
                    assert!(if changed { line.nanos >= before.end() } else { *line == before });
                    let _ = (line.at(second.counter), line.near(second.counter), line.near(first.counter));
                }
            }
        }
    }
}
