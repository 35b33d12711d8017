//! A denial says when to come back, to the nanosecond.

use proptest::prelude::*;
use tollgate_core::algorithm::FixedWindow;
use tollgate_core::{Limit, Nanos, Quota, Retry, Timestamp};

use crate::history::{Key, RULES, Rule, any_events, cost, limits, starts};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn denied_a_nanosecond_before_retry_after_and_admitted_at_it(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        shape in any::<u8>(),
        raw in any::<u32>(),
        between in 0.0..1.0_f64,
    ) {
        let mut key = Key::after(limit, start, &events);
        let cost = cost(&limit, shape, raw);
        let looked = limit.decide(&key.state, key.now, cost);
        let step = key.ask(cost);
        prop_assert_eq!(looked, step.decision);
        prop_assert_eq!(step.decision.allowed, step.grant.is_some());
        match step.decision.retry_after {
            Retry::Now => prop_assert!(step.decision.allowed),
            Retry::Never => {
                prop_assert!(u64::from(cost) > limit.capacity());
                prop_assert!(!key.admits_at(key.now.saturating_add(Nanos::from_secs(86_400 * 365 * 200)), cost));
            }
            Retry::After(wait) => {
                prop_assert!(!step.decision.allowed && !wait.is_zero());
                let at = |wait: u64| key.now.saturating_add(Nanos::new(wait));
                #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let some_time = ((wait.as_nanos() - 1) as f64 * between) as u64;
                prop_assert!(!key.admits_at(at(some_time.min(wait.as_nanos() - 1)), cost));
                prop_assert!(!key.admits_at(at(wait.as_nanos() - 1), cost), "admitted before {wait}");
                prop_assert!(key.admits_at(at(wait.as_nanos()), cost), "denied at {wait}");
            }
        }
    }

    #[test]
    fn whole_again_at_reset_after_and_not_before(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        shape in any::<u8>(),
        raw in any::<u32>(),
    ) {
        let mut key = Key::after(limit, start, &events);
        let cost = cost(&limit, shape, raw);
        let reset_after = key.ask(cost).decision.reset_after;
        let now = key.now;
        key.now = now.saturating_add(reset_after);
        prop_assert_eq!(key.remaining(), limit.capacity());
        // What a sliding counter still weighs may be less than one unit long before its window has ended.
        if !reset_after.is_zero() && Rule::of(&limit) != Rule::Sliding {
            key.now = now.saturating_add(Nanos::new(reset_after.as_nanos() - 1));
            prop_assert!(key.remaining() < limit.capacity());
        }
    }

    #[test]
    fn what_remains_is_what_can_still_be_taken_at_once(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
    ) {
        let key = Key::after(limit, start, &events);
        let remaining = u32::try_from(key.remaining()).unwrap();
        prop_assert!(key.admits_at(key.now, remaining));
        prop_assert!(!key.admits_at(key.now, remaining + 1));
        // What is left after a grant is told with the grant.
        let decision = limit.decide(&key.state, key.now, remaining / 2);
        prop_assert_eq!(decision.remaining, u64::from(remaining - remaining / 2));
    }

    #[test]
    fn a_denied_request_changes_nothing(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
    ) {
        let mut key = Key::after(limit, start, &events);
        limit.settle(&mut key.state, key.now);
        let before = key.state.clone();
        prop_assert!(!key.ask(u32::MAX).decision.allowed);
        prop_assert_eq!(&key.state, &before);
    }

    #[test]
    fn a_state_that_is_vacant_decides_as_a_fresh_one(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        shape in any::<u8>(),
        raw in any::<u32>(),
    ) {
        let mut key = Key::after(limit, start, &events);
        key.now = key.now.max(limit.vacant_at(&key.state));
        let cost = cost(&limit, shape, raw);
        let fresh = limit.decide(&limit.fresh(key.now), key.now, cost);
        prop_assert_eq!(limit.decide(&key.state, key.now, cost), fresh);
        prop_assert_eq!(key.ask(cost).decision, fresh);
    }
}

#[test]
fn the_end_of_a_window_is_known_though_it_is_whole_only_after_the_next() {
    let window = FixedWindow::new(Quota::per_hour(10)).unwrap().with_carry_over(5).unwrap();
    let limit = Limit::from(window);
    let now = Timestamp::from_secs(7_200 + 600);
    for (cost, whole_after) in [(1, 3_000), (10, 3_000), (11, 6_600), (15, 6_600)] {
        let step = limit.acquire(&mut limit.fresh(now), now, cost);
        assert_eq!(step.decision.reset_after, Nanos::from_secs(whole_after), "{cost}");
        let until_end = window.until_end(step.grant.unwrap().stamp, &step.decision);
        assert_eq!(until_end, Nanos::from_secs(3_000), "{cost}");
    }
}
