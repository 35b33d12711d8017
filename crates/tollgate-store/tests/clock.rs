//! The clock of the machine that runs the tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tollgate_core::{Clock, Nanos, Timestamp};
use tollgate_store::{ClockError, ClockSource, LocalStore, MemoryOptions, MemoryStore, SystemClock};

/// How long a test looks at the real clock: several times as long as the counter goes without being compared.
const WATCHED: Duration = if cfg!(miri) { Duration::from_micros(200) } else { Duration::from_millis(400) };

/// Clocks from each source that this machine has.
fn clocks() -> Vec<SystemClock> {
    [ClockSource::Monotonic, ClockSource::Auto, ClockSource::Counter]
        .into_iter()
        .filter_map(|source| SystemClock::with_source(source).ok())
        .collect()
}

#[test]
fn what_is_chosen_is_what_is_used() {
    let monotonic = SystemClock::with_source(ClockSource::Monotonic).unwrap();
    assert_eq!(monotonic.source(), ClockSource::Monotonic);
    assert!(format!("{monotonic:?}").starts_with("SystemClock { source: Monotonic"), "{monotonic:?}");
    let chosen = SystemClock::with_source(ClockSource::Auto).unwrap().source();
    assert_eq!(chosen, SystemClock::new().source());
    assert_eq!(chosen, SystemClock::default().source());
    match SystemClock::with_source(ClockSource::Counter) {
        Ok(clock) => assert_eq!((clock.source(), chosen), (ClockSource::Counter, ClockSource::Counter)),
        Err(error) => {
            assert_eq!(chosen, ClockSource::Monotonic);
            assert!(error.to_string().contains("choose `auto` or `monotonic`"), "{error}");
            let readable = cfg!(all(target_arch = "x86_64", target_os = "linux", not(miri)));
            assert_eq!(error == ClockError::NoCounter, !readable);
        }
    }
}

#[test]
fn sources_have_the_names_that_settings_use() {
    let names = [ClockSource::Auto, ClockSource::Counter, ClockSource::Monotonic].map(|it| it.to_string());
    assert_eq!(names, ["auto", "counter", "monotonic"]);
    assert_eq!(ClockSource::default(), ClockSource::Auto);
}

#[test]
fn it_begins_at_the_time_of_day() {
    let of_day = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::EPOCH.saturating_add(Nanos::from(since))
    };
    for _ in 0..3 {
        for source in [ClockSource::Auto, ClockSource::Monotonic] {
            let earlier = of_day();
            let now = SystemClock::with_source(source).unwrap().now();
            let later = of_day();
            // Somebody may set the time of day during the test, but not by seconds.
            let second = Nanos::from_secs(1);
            assert!(now >= earlier.saturating_sub(second) && now <= later.saturating_add(second), "{source}");
        }
    }
}

#[test]
fn it_keeps_the_pace_of_the_monotonic_clock() {
    for clock in clocks() {
        let bound = Nanos::from_millis(1);
        let (earliest, start, latest) = (Instant::now(), clock.now(), Instant::now());
        while earliest.elapsed() < WATCHED {
            // Between the two readings of the system's clock, however long this thread is interrupted.
            let least = Nanos::from(latest.elapsed());
            let passed = clock.now().since(start);
            let most = Nanos::from(earliest.elapsed());
            assert!(
                passed.as_nanos() + bound.as_nanos() >= least.as_nanos()
                    && passed.as_nanos() <= most.as_nanos() + bound.as_nanos(),
                "{clock:?}: {passed}, and not between {least} and {most}"
            );
        }
    }
}

#[test]
fn no_thread_sees_it_go_backwards() {
    for clock in clocks() {
        // Processors whose counters differ may differ by this much.
        let tolerated = Nanos::new(1_000);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = clock.now();
                    while !stop.load(Ordering::Relaxed) {
                        let now = clock.now();
                        assert!(last.since(now) < tolerated, "{} backwards", last.since(now));
                        last = now;
                    }
                });
            }
            thread::sleep(WATCHED);
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn copies_and_clocks_of_one_start_agree() {
    for clock in clocks() {
        let copy = clock;
        let (first, second, third) = (clock.now(), copy.now(), clock.now());
        assert!(first <= second && second <= third);
        let store =
            MemoryStore::with_clock(clock, MemoryOptions { capacity: 16, ..MemoryOptions::default() });
        assert!(store.now() >= third);
    }
}
