//! A clock that steps back never grants, and never denies for long.

use proptest::prelude::*;
use tollgate_core::{Nanos, Retry, Timestamp};

use crate::history::{DAY, Key, RULES, Rule, any_events, cost, limits, longest_denial, period, starts};

/// One millisecond, one second, one hour, one day, to the epoch, and anything between.
fn steps_back() -> impl Strategy<Value = Nanos> {
    prop_oneof![
        Just(1),
        Just(1_000_000),
        Just(1_000_000_000),
        Just(3_600_000_000_000),
        Just(DAY),
        Just(u64::MAX),
        1..DAY,
    ]
    .prop_map(Nanos::new)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn a_step_back_grants_nothing(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        step in steps_back(),
        shape in any::<u8>(),
        raw in any::<u32>(),
    ) {
        let mut key = Key::after(limit, start, &events);
        let cost = cost(&limit, shape, raw);
        limit.settle(&mut key.state, key.now);
        let (before, admitted) = (key.remaining(), key.admits_at(key.now, cost));
        key.now = key.now.saturating_sub(step);
        prop_assert!(key.remaining() <= before, "{} left, {before} before", key.remaining());
        prop_assert!(admitted || !key.admits_at(key.now, cost));
        // Nor does it if the step is seen by a request first, or if it is followed by another.
        let taken = key.ask(0);
        prop_assert!(taken.decision.remaining <= before);
        key.now = key.now.saturating_sub(step);
        prop_assert!(key.remaining() <= before);
    }

    #[test]
    fn a_step_back_denies_at_most_one_refill_too_long(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        step in steps_back(),
        shape in any::<u8>(),
        raw in any::<u32>(),
    ) {
        let mut key = Key::after(limit, start, &events);
        let cost = cost(&limit, shape, raw).min(u32::try_from(limit.capacity()).unwrap());
        limit.settle(&mut key.state, key.now);
        let wait = |key: &Key| match limit.decide(&key.state, key.now, cost).retry_after {
            Retry::Now => 0,
            Retry::After(wait) => wait.as_nanos(),
            Retry::Never => panic!("{cost} fits {limit}"),
        };
        let due = key.now.saturating_add(Nanos::new(wait(&key)));
        key.now = key.now.saturating_sub(step);
        let refill = match Rule::of(&limit) {
            Rule::Fixed | Rule::Sliding => period(&limit),
            Rule::Periods => longest_denial(&limit) / 2,
            // A step back is forgotten as soon as it is seen.
            _ => 0,
        };
        let wait = wait(&key);
        prop_assert!(wait <= longest_denial(&limit) + refill, "denied for {wait} ns");
        // And never beyond the moment at which it would have been admitted without the step.
        prop_assert!(key.now.saturating_add(Nanos::new(wait)) <= due.max(key.now));
    }

    #[test]
    fn a_step_back_and_forth_grants_at_most_what_the_limit_holds(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        step in steps_back(),
    ) {
        let mut key = Key::after(limit, start, &events);
        let now = key.now;
        key.now = now.saturating_sub(step);
        let early = key.remaining();
        prop_assert!(key.ask(u32::try_from(early).unwrap()).decision.allowed);
        key.now = now;
        prop_assert!(key.remaining() <= limit.capacity());
        key.now = Timestamp::from_nanos(now.as_nanos() + 200 * 365 * DAY);
        prop_assert!(key.remaining() <= limit.capacity());
    }
}
