use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;

/// A signal that is set by hand.
fn switch() -> (Arc<AtomicU8>, impl Health) {
    let level = Arc::new(AtomicU8::new(0));
    let reader = Arc::clone(&level);
    (level, move || Level::ALL[usize::from(reader.load(Ordering::Relaxed))])
}

fn run(monitor: &mut Monitor, from_s: u64, to_s: u64) -> Vec<Level> {
    (from_s..to_s).map(|second| monitor.sample(Duration::from_secs(second))).collect()
}

#[test]
fn the_worst_signal_decides_and_is_named() {
    let ((one, first), (two, second)) = (switch(), switch());
    let mut monitor = Monitor::default().signal("errors", first).signal("latency", second);
    assert_eq!(run(&mut monitor, 0, 3), [Level::Good; 3]);
    assert_eq!(monitor.blamed(), None);
    one.store(1, Ordering::Relaxed);
    two.store(2, Ordering::Relaxed);
    assert_eq!(run(&mut monitor, 3, 5), [Level::Bad; 2]);
    assert_eq!(monitor.blamed(), Some("latency"));
}

#[test]
fn it_gets_better_by_steps_and_only_after_a_while() {
    let (level, signal) = switch();
    let mut monitor = Monitor::default().signal("check", signal).dwell(Duration::from_secs(3));
    level.store(2, Ordering::Relaxed);
    assert_eq!(run(&mut monitor, 0, 2), [Level::Bad; 2]);
    level.store(0, Ordering::Relaxed);
    assert_eq!(run(&mut monitor, 2, 5), [Level::Bad; 3]);
    // Once worse in between: the time begins anew.
    level.store(2, Ordering::Relaxed);
    assert_eq!(run(&mut monitor, 5, 6), [Level::Bad]);
    level.store(0, Ordering::Relaxed);
    assert_eq!(run(&mut monitor, 6, 9), [Level::Bad; 3]);
    assert_eq!(run(&mut monitor, 9, 12), [Level::Degraded; 3]);
    assert_eq!(run(&mut monitor, 12, 13), [Level::Good]);
}

#[test]
fn what_cannot_bear_more_is_not_tried_again_and_again() {
    let (level, signal) = switch();
    let mut monitor = Monitor::default().signal("check", signal).dwell(Duration::from_secs(2));
    let mut tries = 0;
    // Bad whenever more than the least is let through.
    for second in 0..120 {
        let before = monitor.level();
        level.store(if before < Level::Bad { 2 } else { 0 }, Ordering::Relaxed);
        let after = monitor.sample(Duration::from_secs(second));
        tries += u32::from(before == Level::Bad && after == Level::Degraded);
    }
    assert!((6..=10).contains(&tries), "{tries}");
    // And when it can again, all of it comes back.
    level.store(0, Ordering::Relaxed);
    assert_eq!(run(&mut monitor, 120, 160).last(), Some(&Level::Good));
}

#[test]
fn a_number_near_a_threshold_does_not_change_the_level_back_and_forth() {
    use Level::{Bad, Degraded, Good};

    let thresholds = Thresholds::new(10.0, 20.0).unwrap();
    let mut level = Level::Good;
    let mut said = Vec::new();
    for value in [9.9, 10.0, 9.5, 8.1, 7.9, 20.0, 16.1, 15.9, 8.1, 7.9, 25.0, 1.0] {
        level = thresholds.level(value, level);
        said.push(level);
    }
    let expected = [Good, Degraded, Degraded, Degraded, Good, Bad, Bad, Degraded, Degraded, Good, Bad, Good];
    assert_eq!(said, expected);
    assert_eq!(thresholds.level(f64::NAN, Level::Bad), Level::Good);
    for (degraded, bad) in [(0.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (1.0, f64::NAN)] {
        assert!(Thresholds::new(degraded, bad).is_err());
    }
}

#[test]
fn errors_and_latency_make_levels_and_recover_by_themselves() {
    let outcomes = Arc::new(Outcomes::new());
    let errors = ErrorRate::new(Arc::clone(&outcomes), Thresholds::new(0.05, 0.5).unwrap());
    let latency = Latency::new(Arc::clone(&outcomes), 95.0, Thresholds::new(0.2, 1.0).unwrap());
    let mut monitor = Monitor::default().signal("errors", errors).signal("latency", latency);
    let mut second = 0;
    let mut fare = |took_ms: u64, failed_of_ten: u32, seconds: u64| {
        for _ in 0..seconds {
            for number in 0..10_u32 {
                outcomes.note(Duration::from_millis(took_ms), number < failed_of_ten);
            }
            second += 1;
            monitor.sample(Duration::from_secs(second));
        }
        (monitor.level(), monitor.blamed().map(str::to_owned))
    };
    let says = |level, name: &str| (level, Some(name.to_owned()));
    assert_eq!(fare(50, 0, 12), (Level::Good, None));
    assert_eq!(fare(300, 0, 10), says(Level::Degraded, "latency"));
    assert_eq!(fare(300, 10, 10), says(Level::Bad, "errors"));
    assert_eq!(fare(50, 0, 50), (Level::Good, None));
}
