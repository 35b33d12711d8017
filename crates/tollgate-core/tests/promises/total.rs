//! No number, however large, small or misplaced, makes anything panic.

use std::time::Duration;

use proptest::prelude::*;
use tollgate_core::algorithm::fixed_window::WindowCount;
use tollgate_core::algorithm::meter::ArrivalTime;
use tollgate_core::algorithm::sliding_log::MAX_LOG_LIMIT;
use tollgate_core::algorithm::sliding_window::WindowPair;
use tollgate_core::algorithm::token_bucket::{Bucket, Deficit};
use tollgate_core::algorithm::{
    Algorithm, Calendar, FixedWindow, Gcra, LeakyBucket, Refill, SlidingLog, SlidingWindow, TokenBucket,
    Windows,
};
use tollgate_core::quota::{MAX_COUNT, MAX_PERIOD};
use tollgate_core::{
    Clock, Combine, Decision, Grant, Group, Hit, KeyBuilder, KeyHash, KeySeed, Limit, LimitId, ManualClock,
    Nanos, Quota, Retry, State, Timestamp, combined,
};

/// The ends of every range, and what lies next to them.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    3,
    1_000_000_000,
    MAX_LOG_LIMIT,
    MAX_LOG_LIMIT + 1,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    MAX_COUNT - 1,
    MAX_COUNT,
    MAX_COUNT + 1,
    MAX_PERIOD.as_nanos() - 1,
    MAX_PERIOD.as_nanos(),
    u64::MAX - 1,
    u64::MAX,
];

const COSTS: [u32; 4] = [0, 1, u32::MAX - 1, u32::MAX];

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![4 => prop::sample::select(EDGES.to_vec()), 1 => any::<u64>(), 1 => 0..1_000_u64]
}

fn moments() -> impl Strategy<Value = Timestamp> {
    numbers().prop_map(Timestamp::from_nanos)
}

fn costs() -> impl Strategy<Value = u32> {
    prop_oneof![2 => prop::sample::select(COSTS.to_vec()), 1 => any::<u32>(), 1 => 0..100_u32]
}

/// Every limit that these numbers make; those that cannot be are refused, not panicked at.
fn every_limit(count: u64, period: u64, capacity: u64, initial: u64) -> Vec<Limit> {
    let mut limits = vec![Limit::Unlimited, Limit::DenyAll];
    let Ok(quota) = Quota::new(count, Nanos::new(period)) else { return limits };
    limits.extend([Limit::gcra(quota), Limit::fixed_window(quota), Limit::sliding_window(quota)]);
    limits.extend(Limit::gcra_with_burst(quota, capacity));
    limits.extend(Limit::token_bucket(capacity, quota));
    limits.extend(Limit::leaky_bucket(capacity, quota));
    limits.extend(Limit::sliding_log(quota));
    limits.extend(Gcra::new(quota, capacity).map(Limit::from));
    limits.extend(LeakyBucket::new(capacity, quota).map(Limit::from));
    limits.extend(FixedWindow::new(quota).map(Limit::from));
    limits
        .extend(FixedWindow::new(quota).and_then(|window| window.with_carry_over(capacity)).map(Limit::from));
    let days = Calendar::named("total", Nanos::new(999_983), Vec::new);
    let by_days = FixedWindow::by_calendar(count, days);
    limits.extend(by_days.map(Limit::from));
    limits.extend(by_days.and_then(|window| window.with_carry_over(initial)).map(Limit::from));
    limits.extend(SlidingWindow::new(quota).map(Limit::from));
    limits.extend(SlidingLog::new(quota).map(Limit::from));
    if let Ok(bucket) = TokenBucket::new(capacity, quota) {
        limits.extend(bucket.with_initial(initial).map(Limit::from));
        let batches = bucket.with_refill(Refill::Interval);
        limits.extend(batches.map(Limit::from));
        limits.extend(batches.and_then(|bucket| bucket.with_initial(initial)).map(Limit::from));
    }
    limits
}

/// States of every kind that hold these numbers, whether any limit would write them or not.
fn every_state(a: u64, b: u64, c: u64) -> Vec<State> {
    let at = Timestamp::from_nanos(a);
    vec![
        State::Nothing,
        State::Arrival(ArrivalTime { nanos: a, fraction: b }),
        State::Bucket(Bucket::Greedy(ArrivalTime { nanos: a, fraction: b })),
        State::Bucket(Bucket::Interval(Deficit { missing: b, since: at })),
        State::Window(WindowCount { start: at, before: c, used: b }),
        State::Pair(WindowPair { start: at, previous: b, current: c }),
    ]
}

/// Asks a decision for everything that it can tell.
fn sound(limit: &Limit, decision: Decision, cost: u32) {
    assert_eq!(decision.allowed, decision.retry_after == Retry::Now, "{limit}: {decision:?}");
    assert!(decision.remaining <= decision.limit, "{limit}: {decision:?}");
    assert!(decision.limit <= limit.capacity());
    if u64::from(cost) > limit.capacity() {
        assert_eq!(decision.retry_after, Retry::Never, "{limit}");
    }
    assert!(!decision.allowed || *limit != Limit::DenyAll);
    let _ = (decision.is_allowed(), decision.retry_after.duration(), decision.reset_after.as_secs_ceil());
}

/// Does with a limit and a state all that can be done with them.
fn exercise(limit: &Limit, state: &State, moments: [Timestamp; 3], cost: u32, grant: Grant) {
    let [now, later, other] = moments;
    let _ = (limit.to_string(), limit.capacity(), limit.quota(), limit.vacant_at(state));
    sound(limit, limit.decide(state, now, cost), cost);
    let mut state = state.clone();
    // Booked, given back and booked again without anyone having settled or decided.
    let mut unsettled = state.clone();
    let taken = limit.take(&mut unsettled, later, cost);
    limit.take(&mut unsettled, other, u32::MAX);
    limit.give_back(&mut unsettled, now, taken);
    sound(limit, limit.decide(&unsettled, now, cost), cost);
    raw(limit, &unsettled, now, cost, grant);

    for at in [now, later, other, now] {
        sound(limit, limit.acquire(&mut state, at, cost).decision, cost);
        limit.settle(&mut state, at);
        sound(limit, limit.decide(&state, other, 1), 1);
    }
    limit.give_back(&mut state, now, grant);
    limit.give_back(&mut state, other, grant);
    sound(limit, limit.decide(&state, now, cost), cost);
}

/// The rules by themselves, without the care that [`Limit`] takes of the states it passes on.
fn raw(limit: &Limit, state: &State, now: Timestamp, cost: u32, grant: Grant) {
    fn all<A: Algorithm<State: Clone>>(rule: &A, state: &A::State, now: Timestamp, cost: u32, grant: Grant) {
        let _ = (rule.fresh(now), rule.vacant_at(state), rule.decide(state, now, cost));
        let mut state = state.clone();
        rule.take(&mut state, now, cost);
        rule.give_back(&mut state, now, grant);
        rule.settle(&mut state, now);
        let _ = rule.decide(&state, now, cost);
        let _ = rule.decide(&rule.with_available(grant.stamp.as_nanos(), now), now, cost);
    }
    match (limit, state) {
        (Limit::Gcra(rule), State::Arrival(state)) => all(rule, state, now, cost, grant),
        (Limit::LeakyBucket(rule), State::Arrival(state)) => all(rule, state, now, cost, grant),
        (Limit::TokenBucket(rule), State::Bucket(state)) => all(rule, state, now, cost, grant),
        (Limit::FixedWindow(rule), State::Window(state)) => all(rule, state, now, cost, grant),
        (Limit::SlidingWindow(rule), State::Pair(state)) => all(rule, state, now, cost, grant),
        (Limit::SlidingLog(rule), State::Log(state)) => all(rule, state, now, cost, grant),
        _ => {}
    }
}

/// Whether two limits count in the same windows of a calendar.
fn by_one_calendar(one: &Limit, other: &Limit) -> bool {
    let (Limit::FixedWindow(one), Limit::FixedWindow(other)) = (one, other) else { return false };
    one.windows() == other.windows() && matches!(one.windows(), Windows::Calendar(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_limit_takes_any_state_at_any_time(
        (count, period, capacity, initial) in (numbers(), numbers(), numbers(), numbers()),
        state in (numbers(), numbers(), numbers()),
        moments in [moments(), moments(), moments()],
        cost in costs(),
        (stamp, back) in (moments(), costs()),
    ) {
        let grant = Grant { stamp, cost: back };
        let states = every_state(state.0, state.1, state.2);
        for limit in every_limit(count, period, capacity, initial) {
            for state in states.iter().chain([&limit.fresh(moments[2])]) {
                exercise(&limit, state, moments, cost, grant);
            }
        }
    }

    #[test]
    fn any_limit_takes_over_from_any_other(
        former in (numbers(), numbers(), numbers(), numbers()),
        latter in (numbers(), numbers(), numbers(), numbers()),
        moments in [moments(), moments(), moments()],
        cost in costs(),
    ) {
        let latter = every_limit(latter.0, latter.1, latter.2, latter.3);
        for former in every_limit(former.0, former.1, former.2, former.3) {
            let mut state = former.fresh(moments[0]);
            let grant = former.take(&mut state, moments[0], cost);
            let left = former.decide(&state, moments[1], 0).remaining;
            for limit in &latter {
                exercise(limit, &state, moments, cost, grant);
                let carried = limit.carried_over(&former, &state, moments[1]);
                // Where time ends before a limit would be whole again, it counts as whole.
                let in_time = moments[1] < Timestamp::MAX.saturating_sub(Nanos::from_secs(200 * 365 * 86_400));
                if in_time && former.vacant_at(&state) > moments[1] && *limit != Limit::Unlimited {
                    let remaining = limit.decide(&carried, moments[1], 0).remaining;
                    if by_one_calendar(limit, &former) {
                        // What was used stays used, so a larger limit has more left.
                        prop_assert!(remaining <= limit.capacity());
                        let carries = |limit: &Limit| limit.quota().unwrap().count() < limit.capacity();
                        // More than all that there is was taken where nothing is left.
                        if left > 0 && !carries(limit) && !carries(&former) {
                            let used = former.capacity() - left;
                            prop_assert_eq!(remaining, limit.capacity().saturating_sub(used));
                        }
                    } else {
                        prop_assert!(remaining <= left.min(limit.capacity()));
                    }
                }
                exercise(limit, &carried, moments, cost, grant);
            }
        }
    }

    #[test]
    fn any_retries_combine(each in prop::collection::vec(
        prop_oneof![Just(Retry::Now), Just(Retry::Never), numbers().prop_map(|n| Retry::After(Nanos::new(n)))],
        0..9,
    )) {
        for rule in [Combine::All, Combine::Any, Combine::Majority] {
            let moment = rule.retry_after(&each);
            let by_then = each.iter().filter(|retry| **retry <= moment).count();
            prop_assert!(rule.admits(by_then, each.len()));
        }
    }

    #[test]
    fn any_groups_are_combined_with_any_admissions(
        sizes in prop::collection::vec((0..5_usize, any::<bool>(), 0..3_usize), 0..5),
        admits in prop::collection::vec(any::<bool>(), 0..24),
    ) {
        let hits = [Hit::new(LimitId(0), KeyHash(0), &Limit::DenyAll).with_cost(u32::MAX); 5];
        let rules = [Combine::All, Combine::Any, Combine::Majority];
        let groups: Vec<Group<'_>> = sizes
            .iter()
            .map(|(size, shadow, rule)| Group { combine: rules[*rule], shadow: *shadow, ..Group::all(&hits[..*size]) })
            .collect();
        let (allowed, takes) = combined(&groups, &admits);
        prop_assert!(takes.len() <= admits.len());
        prop_assert!(allowed || !takes.contains(&true));
        prop_assert!(takes.iter().zip(&admits).all(|(takes, admits)| *admits || !takes));
    }

    #[test]
    fn any_parts_make_a_key(seed in any::<[u8; 16]>(), tag in any::<u8>(), bytes in any::<Vec<u8>>(), word in numbers()) {
        let mut key = KeyBuilder::new(&KeySeed::new(seed));
        key.bytes(tag, &bytes);
        key.word(tag, word);
        key.push(&(bytes, Some(word), true, None::<String>));
        prop_assert_eq!(key.finish(), key.clone().finish());
    }
}

#[test]
fn every_edge_meets_every_other() {
    let grant = Grant { stamp: Timestamp::MAX, cost: u32::MAX };
    for count in EDGES {
        for period in EDGES {
            for size in [0, 1, 3, MAX_COUNT, u64::MAX] {
                for limit in every_limit(count, period, size, size) {
                    for now in [0, 1, MAX_COUNT, u64::MAX - 1, u64::MAX] {
                        let now = Timestamp::from_nanos(now);
                        for number in [0, 1, u64::MAX] {
                            for state in every_state(number, !number, u64::MAX) {
                                exercise(
                                    &limit,
                                    &state,
                                    [now, Timestamp::MAX, Timestamp::EPOCH],
                                    u32::MAX,
                                    grant,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn time_saturates_at_both_ends() {
    for a in EDGES {
        for b in EDGES {
            let (moment, length) = (Timestamp::from_nanos(a), Nanos::new(b));
            assert!(moment.saturating_add(length) >= moment && moment.saturating_sub(length) <= moment);
            assert_eq!(moment.since(moment.saturating_add(length)), Nanos::ZERO);
            let _ = (Nanos::from_secs(a), Nanos::from_millis(a), Timestamp::from_secs(a), moment.as_secs());
            let _ = (Duration::from(length), length.to_string(), length.as_secs_ceil());
            let clock = ManualClock::new(moment);
            clock.advance(length.into());
            clock.advance(Duration::MAX);
            assert_eq!(clock.now(), Timestamp::MAX);
            let windows = Windows::Epoch { length };
            assert!(windows.start(moment) <= moment && windows.next(moment) >= moment);
        }
    }
}

#[test]
fn zero_denies_and_says_that_waiting_does_not_help() {
    let nothing = Quota::per_second(0);
    let limits = [
        Limit::gcra(nothing),
        Limit::gcra_with_burst(nothing, 10).unwrap(),
        Limit::fixed_window(nothing),
        Limit::sliding_window(nothing),
        Limit::sliding_log(nothing).unwrap(),
    ];
    for limit in limits {
        let mut state = limit.fresh(Timestamp::MAX);
        for cost in COSTS {
            let step = limit.acquire(&mut state, Timestamp::MAX, cost);
            assert_eq!((step.decision, step.grant), (Decision::deny_all(), None), "{limit}");
        }
    }
    assert!(Limit::token_bucket(10, nothing).is_err() && Limit::leaky_bucket(10, nothing).is_err());
}
