//! What is given back counts once, and never makes a limit hold more than it holds.

use proptest::prelude::*;
use tollgate_core::{Grant, Limit, Quota, State, Timestamp};

use crate::history::{Event, Happened, Key, RULES, Rule, any_events, cost, limits, starts};

const METERS: [Rule; 3] = [Rule::Gcra, Rule::Greedy, Rule::Leaky];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn a_refund_gives_at_most_what_was_taken_and_never_beyond_the_limit(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
    ) {
        let mut key = Key::new(limit, start);
        for event in events.into_iter().chain((0..8).map(Event::Refund)) {
            let before = key.remaining();
            let happened = key.play(event);
            prop_assert!(key.remaining() <= limit.capacity());
            if let Happened::Refunded(cost) = happened {
                let most = before.saturating_add(cost.into());
                prop_assert!(key.remaining() <= most, "{} left after {cost} on {before}", key.remaining());
                prop_assert!(key.remaining() >= before, "a refund took something");
            }
        }
    }

    #[test]
    fn even_a_forged_grant_gives_at_most_its_cost_and_never_beyond_the_limit(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        stamp in prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)],
        near in any::<bool>(),
        cost in prop_oneof![any::<u32>(), 0..100_u32],
    ) {
        let mut key = Key::after(limit, start, &events);
        let stamp = match key.grants.first() {
            Some(grant) if near => grant.stamp,
            _ => Timestamp::from_nanos(stamp),
        };
        let before = key.remaining();
        limit.give_back(&mut key.state, key.now, Grant { stamp, cost });
        prop_assert!(key.remaining() <= limit.capacity().min(before.saturating_add(cost.into())));
    }

    #[test]
    fn what_is_given_back_at_once_was_never_taken(
        limit in limits(&RULES),
        start in starts(),
        events in any_events(),
        shape in any::<u8>(),
        raw in any::<u32>(),
    ) {
        let mut key = Key::after(limit, start, &events);
        let before = key.remaining();
        if let Some(grant) = key.ask(cost(&limit, shape, raw)).grant {
            limit.give_back(&mut key.state, key.now, grant);
            prop_assert_eq!(key.remaining(), before);
        }
    }

    #[test]
    fn refunds_buy_back_no_more_than_they_return(
        limit in limits(&METERS),
        start in starts(),
        events in any_events(),
    ) {
        let quota = limit.quota().unwrap();
        let mut key = Key::new(limit, start);
        let (mut admitted, mut returned) = (0, 0);
        for event in events {
            // Only time that moves forward earns anything.
            if matches!(event, Event::Backward { .. }) {
                continue;
            }
            match key.play(event) {
                Happened::Admitted(cost) => admitted += u128::from(cost),
                Happened::Refunded(cost) => returned += u128::from(cost),
                Happened::Nothing => {}
            }
            let elapsed = u128::from(key.now.since(start).as_nanos());
            let earned = elapsed * u128::from(quota.count()) / u128::from(quota.period().as_nanos());
            prop_assert!(admitted <= u128::from(limit.capacity()) + earned + returned);
        }
    }
}

#[test]
fn a_log_gives_back_in_full_what_was_taken_at_a_moment_that_came_twice() {
    let limit = Limit::sliding_log(Quota::per_minute(10)).unwrap();
    let (first, later) = (Timestamp::from_secs(100), Timestamp::from_secs(101));
    let mut state = limit.fresh(first);
    for now in [first, later] {
        assert!(limit.acquire(&mut state, now, 1).decision.allowed);
    }
    // The clock steps back to the very nanosecond of the first request.
    let grant = limit.acquire(&mut state, first, 5).grant.unwrap();
    assert_eq!(limit.decide(&state, first, 0).remaining, 3);
    assert!(matches!(&state, State::Log(log) if log.len() == 1), "each moment stands once: {state:?}");
    limit.give_back(&mut state, first, grant);
    assert_eq!(limit.decide(&state, first, 0).remaining, 8);
}
