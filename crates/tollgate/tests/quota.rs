//! Quotas by the calendar, from a policy file to a decision.
#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tollgate::{
    Config, Format, Gate, ManualClock, MemoryOptions, MemoryStore, Request, Settlement, Timestamp,
};

const BERLIN: &str = "{ name: plan, key: api_key, algorithm: quota, limit: 5/month, calendar: { zone: Europe/Berlin, start_day: 15 } }";

/// Seconds of the 14th of December 2026, 12:00 in Berlin.
const NOON: u64 = 1_797_246_000;
/// The 15th of December, midnight in Berlin, and the 15th of January.
const DECEMBER: u64 = 1_797_289_200;
const JANUARY: u64 = 1_799_967_600;

fn config(policies: &str) -> Config {
    Config::parse("test", &format!("policies: [{policies}]"), Format::Yaml, &[]).unwrap()
}

fn gate(policies: &str, now: u64) -> (Gate<MemoryStore<ManualClock>>, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_secs(now));
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    (Gate::with_store(config(policies), store), clock)
}

fn request() -> Request {
    Request::default().with_api_key("k-1")
}

fn left(gate: &Gate<MemoryStore<ManualClock>>) -> u64 {
    gate.peek(&request(), Some(0)).deciding().unwrap().remaining()
}

#[test]
fn a_month_from_the_15th_ends_at_midnight_in_its_zone() {
    let (gate, clock) = gate(BERLIN, NOON);
    for _ in 0..5 {
        assert!(gate.check(&request()).is_allowed());
    }
    let denied = gate.check(&request());
    assert_eq!(denied.retry_after().duration(), Some(Duration::from_secs(DECEMBER - NOON)));
    clock.set(Timestamp::from_nanos(DECEMBER * 1_000_000_000 - 1));
    assert!(!gate.check(&request()).is_allowed());
    clock.set(Timestamp::from_secs(DECEMBER));
    assert!(gate.check_n(&request(), 5).is_allowed());
    let denied = gate.check(&request());
    assert_eq!(denied.retry_after().duration(), Some(Duration::from_secs(JANUARY - DECEMBER)));
}

#[test]
fn what_is_given_back_goes_to_the_period_that_it_was_taken_from() {
    let (gate, clock) = gate(BERLIN, NOON);
    let (early, late) = (gate.check_n(&request(), 2), gate.check_n(&request(), 3));
    gate.settle(&early, Settlement::Actual(0));
    assert_eq!(left(&gate), 2);
    clock.set(Timestamp::from_secs(DECEMBER));
    assert!(gate.check_n(&request(), 4).is_allowed());
    gate.settle(&late, Settlement::Actual(0));
    assert_eq!(left(&gate), 1);
}

#[test]
fn what_is_left_is_carried_over_as_far_as_it_may() {
    let text = format!("{}, carry_over: 40% }}", &BERLIN[..BERLIN.len() - 2]);
    let (gate, clock) = gate(&text, NOON);
    // Whoever is new has all that can be carried over.
    assert_eq!(left(&gate), 7);
    assert!(gate.check_n(&request(), 6).is_allowed());
    clock.set(Timestamp::from_secs(DECEMBER));
    assert_eq!(left(&gate), 6);
    let verdict = gate.check_n(&request(), 6);
    assert_eq!(verdict.deciding().map(|policy| (policy.limit(), policy.remaining())), Some((6, 0)));
    // Seven at once there are only after a month in which nothing but the carry-over was taken.
    let wait = gate.check_n(&request(), 7).retry_after().duration().unwrap();
    clock.advance(wait);
    assert!(gate.check_n(&request(), 7).is_allowed());
}

#[test]
fn a_quota_that_is_changed_keeps_what_was_used() {
    let (gate, clock) = gate(BERLIN, NOON);
    assert!(gate.check_n(&request(), 3).is_allowed());
    gate.reload(config(&BERLIN.replace("5/month", "20/month")));
    assert_eq!(left(&gate), 17);
    assert!(gate.check(&request()).is_allowed());
    gate.reload(config(&BERLIN.replace("5/month", "2/month")));
    assert_eq!(left(&gate), 0);
    clock.set(Timestamp::from_secs(DECEMBER));
    assert_eq!(left(&gate), 2);
}
