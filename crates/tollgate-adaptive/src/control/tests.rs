use super::*;

fn sample(took_ms: u64, in_flight: u32) -> Sample {
    Sample { took: Duration::from_millis(took_ms), in_flight, overloaded: false }
}

/// A service that works on so many at once, each 10 ms: who comes later waits. All that may be under way are.
fn saturate(control: &mut impl Control, at_once: u32, requests: u32) {
    for _ in 0..requests {
        let limit = control.limit();
        let took = Duration::from_micros(10_000 * u64::from(limit.max(at_once)) / u64::from(at_once));
        control.observe(&Sample { took, in_flight: limit, overloaded: false });
    }
}

#[test]
fn aimd_adds_one_a_round_and_takes_a_tenth() {
    let mut control = Aimd::default();
    for _ in 0..21 {
        control.observe(&sample(10, 20));
    }
    assert_eq!(control.limit(), 21);
    control.observe(&Sample { overloaded: true, ..sample(10, 21) });
    assert_eq!(control.limit(), 18);
}

#[test]
fn aimd_takes_one_overload_for_one() {
    let mut control = Aimd::default().slow_above(Duration::from_millis(100));
    for _ in 0..20 {
        control.observe(&sample(101, 20));
    }
    assert_eq!(control.limit(), 18, "those that were under way together");
    control.observe(&sample(101, 18));
    assert_eq!(control.limit(), 16, "and the next one");
}

#[test]
fn a_limit_that_is_not_used_does_not_rise() {
    let (mut aimd, mut vegas, mut gradient) = (Aimd::default(), Vegas::default(), Gradient::default());
    for _ in 0..1_000 {
        let idle = sample(10, 3);
        aimd.observe(&idle);
        vegas.observe(&idle);
        gradient.observe(&idle);
    }
    assert_eq!((aimd.limit(), vegas.limit(), gradient.limit()), (20, 20, 20));
}

#[test]
fn delays_find_what_a_service_does_at_once() {
    for at_once in [5, 40, 200] {
        let (mut vegas, mut gradient) = (Vegas::default(), Gradient::default());
        saturate(&mut vegas, at_once, 200_000);
        saturate(&mut gradient, at_once, 200_000);
        for (name, limit) in [("Vegas", vegas.limit()), ("gradient", gradient.limit())] {
            // Between half, while it is measured, and what waits by intent.
            assert!(at_once / 2 <= limit && limit <= at_once * 2 + 4, "{name}: {limit} for {at_once}");
        }
    }
}

#[test]
fn delays_follow_a_service_that_becomes_smaller_and_larger_again() {
    let (mut vegas, mut gradient) = (Vegas::default(), Gradient::default());
    for at_once in [64, 8, 64] {
        saturate(&mut vegas, at_once, 100_000);
        saturate(&mut gradient, at_once, 100_000);
        for limit in [vegas.limit(), gradient.limit()] {
            assert!(at_once / 2 <= limit && limit <= at_once * 2 + 4, "{limit} for {at_once}");
        }
    }
}

#[test]
fn a_service_that_takes_longer_for_all_is_not_starved() {
    // Ten times as slow, whatever the number: a queue that nobody can shorten.
    let mut vegas = Vegas::default();
    saturate(&mut vegas, 40, 50_000);
    for _ in 0..50_000 {
        let limit = vegas.limit();
        let took = Duration::from_micros(100_000 * u64::from(limit.max(40)) / 40);
        vegas.observe(&Sample { took, in_flight: limit, overloaded: false });
    }
    assert!(vegas.limit() >= 20, "{}", vegas.limit());
}

#[test]
fn bounds_hold_whatever_is_observed() {
    let bounds = Bounds::new(3, 7, 30).unwrap();
    let controls: [Box<dyn Control>; 3] = [
        Box::new(Aimd::new(bounds).slow_above(Duration::from_millis(5))),
        Box::new(Vegas::new(bounds)),
        Box::new(Gradient::new(bounds).tolerance(f64::NAN)),
    ];
    let mut state = 1_u64;
    for mut control in controls {
        for _ in 0..100_000 {
            // Knuth's constants.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let took = match state >> 61 {
                0 => Duration::ZERO,
                1 => Duration::MAX,
                _ => Duration::from_micros(state >> 50),
            };
            let in_flight = u32::try_from(state >> 40 & 0xFF).unwrap();
            control.observe(&Sample { took, in_flight, overloaded: (state >> 32).is_multiple_of(8) });
            assert!((3..=30).contains(&control.limit()), "{control:?}");
        }
    }
}

#[test]
fn bounds_that_cannot_be_are_refused() {
    for (least, initial, most) in [(0, 1, 1), (2, 1, 3), (1, 4, 3), (1, 1, LIMIT_MAX + 1)] {
        assert!(Bounds::new(least, initial, most).is_err());
    }
    let error = Bounds::new(5, 2, 9).unwrap_err().to_string();
    assert!(error.starts_with("a limit cannot begin at 2 and stay between 5 and 9"), "{error}");
}
