//! Whatever the rate, what is admitted over a million periods is what the quota says, to the unit.

use tollgate_core::algorithm::{Refill, TokenBucket};
use tollgate_core::{Limit, Nanos, Quota, Retry, State, Timestamp};

const PERIODS: u64 = 1_000_000;
const START: Timestamp = Timestamp::from_nanos(1_234_567_891);

/// From the slowest to the fastest, and those that no nanosecond divides.
const QUOTAS: [&str; 12] = [
    "1/year",
    "1/month",
    "3/day",
    "1001/hour",
    "7/minute",
    "1/second",
    "7/second",
    "1000003/7s",
    "9999991/second",
    "10000000/second",
    "3/7us",
    "13/ms",
];

fn quotas() -> impl Iterator<Item = Quota> {
    QUOTAS.iter().map(|text| text.parse().unwrap())
}

/// A million periods, or as many as end in the year 2400: time itself ends in 2554.
fn end(quota: Quota) -> Timestamp {
    const YEAR_2400: u64 = 430 * 365 * 86_400_000_000_000;
    Timestamp::from_nanos(quota.period().as_nanos().saturating_mul(PERIODS).min(YEAR_2400) + START.as_nanos())
}

fn meters(capacity: u64, quota: Quota) -> [Limit; 3] {
    [
        Limit::gcra_with_burst(quota, capacity).unwrap(),
        Limit::token_bucket(capacity, quota).unwrap(),
        Limit::leaky_bucket(capacity, quota).unwrap(),
    ]
}

/// Takes all that is left.
fn take_all(limit: &Limit, state: &mut State, now: Timestamp) -> u64 {
    let left = limit.decide(state, now, 0).remaining;
    let cost = u32::try_from(left).unwrap();
    assert!(limit.acquire(state, now, cost).decision.allowed);
    assert!(!limit.acquire(state, now, 1).decision.allowed);
    left
}

/// Leaps of up to seven periods, none of which any rate divides.
fn leaps(quota: Quota) -> impl Iterator<Item = Timestamp> {
    let period = quota.period().as_nanos();
    let (mut now, end, mut leap) = (START, end(quota), 0_u64);
    std::iter::from_fn(move || {
        // A linear congruence: regular enough to repeat, irregular enough to meet every phase of a period.
        leap = leap.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let next = now.saturating_add(Nanos::new((leap >> 1) % (7 * period) + 1)).min(end);
        (now < end).then(|| {
            now = next;
            now
        })
    })
}

#[test]
fn a_steady_rate_gives_burst_plus_rate_times_time_over_a_million_periods() {
    for quota in quotas() {
        // Eight periods' worth, so that no leap lets anything go to waste.
        let burst = 8 * quota.count();
        for limit in meters(burst, quota) {
            let mut state = limit.fresh(START);
            let mut admitted = take_all(&limit, &mut state, START);
            for now in leaps(quota) {
                admitted += take_all(&limit, &mut state, now);
                let elapsed = u128::from(now.since(START).as_nanos());
                let earned = elapsed * u128::from(quota.count()) / u128::from(quota.period().as_nanos());
                assert_eq!(u128::from(admitted), u128::from(burst) + earned, "{limit} after {elapsed} ns");
            }
        }
    }
}

#[test]
fn a_steady_rate_admits_each_unit_in_the_nanosecond_in_which_it_is_earned() {
    for quota in quotas() {
        for limit in meters(3, quota) {
            let (mut state, mut now) = (limit.fresh(START), START);
            assert_eq!(take_all(&limit, &mut state, START), 3);
            for earned in 1..=100_000_u128 {
                let decision = limit.acquire(&mut state, now, 1).decision;
                let Retry::After(wait) = decision.retry_after else { panic!("{limit}: {decision:?}") };
                now = now.saturating_add(wait);
                let due = (earned * u128::from(quota.period().as_nanos())).div_ceil(quota.count().into());
                assert_eq!(u128::from(now.since(START).as_nanos()), due, "{limit}, unit {earned}");
                assert!(limit.acquire(&mut state, now, 1).decision.allowed, "{limit}, unit {earned}");
                if now > end(quota) {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_refill_by_the_batch_gives_a_batch_for_each_of_a_million_periods() {
    for quota in quotas() {
        let capacity = 8 * quota.count();
        let bucket = TokenBucket::new(capacity, quota).unwrap().with_refill(Refill::Interval).unwrap();
        let limit = Limit::from(bucket);
        let mut state = limit.fresh(START);
        let mut admitted = take_all(&limit, &mut state, START);
        for now in leaps(quota) {
            admitted += take_all(&limit, &mut state, now);
            let batches = now.since(START).as_nanos() / quota.period().as_nanos();
            assert_eq!(admitted, capacity + batches * quota.count(), "{limit}, batch {batches}");
        }
    }
}

#[test]
fn a_fixed_window_gives_its_limit_in_each_of_a_million_windows() {
    for quota in quotas() {
        let limit = Limit::fixed_window(quota);
        let (mut state, mut now) = (limit.fresh(START), START);
        let (mut admitted, mut windows) = (0, 0);
        while windows < PERIODS && now < end(quota) {
            admitted += take_all(&limit, &mut state, now);
            windows += 1;
            let Retry::After(wait) = limit.acquire(&mut state, now, 1).decision.retry_after else {
                panic!("{limit} is not spent")
            };
            now = now.saturating_add(wait);
            assert_eq!(now.as_nanos() % quota.period().as_nanos(), 0, "{limit}");
            assert_eq!(admitted, windows * quota.count(), "{limit}");
        }
    }
}

#[test]
fn a_log_gives_its_limit_in_each_of_a_million_windows() {
    for text in ["1/year", "3/day", "7/second", "5/3us"] {
        let quota: Quota = text.parse().unwrap();
        let (limit, length) = (Limit::sliding_log(quota).unwrap(), quota.period().as_nanos());
        let mut state = limit.fresh(START);
        // The first window's admissions stand at uneven distances, and every later window repeats them.
        let offsets: Vec<u64> = (0..quota.count()).map(|index| length / 11 * (index * index % 11)).collect();
        let mut offsets: Vec<u64> = offsets.into_iter().map(|offset| offset.min(length - 1)).collect();
        offsets.sort_unstable();
        for offset in &offsets {
            let now = START.saturating_add(Nanos::new(*offset));
            assert!(limit.acquire(&mut state, now, 1).decision.allowed, "{limit}");
        }
        let mut now = START.saturating_add(Nanos::new(length - 1));
        for window in 1..PERIODS {
            for offset in &offsets {
                if let Retry::After(wait) = limit.acquire(&mut state, now, 1).decision.retry_after {
                    now = now.saturating_add(wait);
                    assert!(limit.acquire(&mut state, now, 1).decision.allowed, "{limit}");
                }
                assert_eq!(now.since(START).as_nanos(), window * length + offset, "{limit}");
            }
            if now > end(quota) {
                break;
            }
        }
    }
}
