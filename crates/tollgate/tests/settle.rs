//! What requests really cost, by gates near and distant.
#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tollgate::{Config, Format, Gate, KeyPart, ManualClock, MemoryOptions, MemoryStore, Request};
use tollgate::{Settlement, Timestamp};

const LIMITS: [&str; 6] = [
    "limit: 10/minute",
    "algorithm: token_bucket, capacity: 10, refill: 10/minute",
    "algorithm: leaky_bucket, capacity: 10, leak: 10/minute",
    "algorithm: fixed_window, limit: 10/minute",
    "algorithm: sliding_window, limit: 10/minute",
    "algorithm: sliding_log, limit: 10/minute",
];

/// The start of a minute.
const NOW: Timestamp = Timestamp::from_secs(1_798_761_600);

fn gate(limit: &str) -> Gate<MemoryStore<ManualClock>> {
    let text = format!("policies: [{{ name: a, key: ip, {limit} }}]");
    let config = Config::parse("test", &text, Format::Yaml, &[]).unwrap();
    Gate::with_store(config, MemoryStore::with_clock(ManualClock::new(NOW), MemoryOptions::default()))
}

fn request() -> Request {
    Request::default().with_ip([203, 0, 113, 7].into())
}

fn left(gate: &Gate<MemoryStore<ManualClock>>) -> u64 {
    gate.peek(&request(), Some(0)).deciding().unwrap().remaining()
}

/// From a cost and a settlement to what is left of ten.
const CASES: [(u32, Settlement, u64); 8] = [
    (5, Settlement::Refund, 10),
    (5, Settlement::Actual(5), 5),
    (5, Settlement::Actual(2), 8),
    (5, Settlement::Actual(0), 10),
    (5, Settlement::Actual(8), 2),
    (5, Settlement::Extra(3), 2),
    // What is not there cannot be taken, but all that is.
    (5, Settlement::Extra(9), 0),
    (5, Settlement::Actual(u32::MAX), 0),
];

#[test]
fn every_algorithm_settles() {
    for limit in LIMITS {
        for (cost, settlement, expected) in CASES {
            let gate = gate(limit);
            let verdict = gate.check_n(&request(), cost);
            assert!(verdict.is_allowed());
            gate.settle(&verdict, settlement);
            assert_eq!(left(&gate), expected, "{limit}: {settlement:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_has_to_be_waited_for_settles_alike() {
    for limit in LIMITS {
        for (cost, settlement, expected) in CASES {
            let gate = gate(limit);
            let verdict = gate.check_async(NOW, &request(), Some(cost)).await.unwrap();
            gate.settle_async(&verdict, settlement).await.unwrap();
            assert_eq!(left(&gate), expected, "{limit}: {settlement:?}");
        }
    }
}

#[test]
fn what_was_denied_took_nothing_and_settles_nothing() {
    let gate = gate(LIMITS[0]);
    assert!(gate.check_n(&request(), 10).is_allowed());
    let denied = gate.check_n(&request(), 1);
    assert!(!denied.is_allowed());
    for settlement in [Settlement::Refund, Settlement::Actual(0), Settlement::Extra(5)] {
        gate.settle(&denied, settlement);
        assert_eq!(left(&gate), 0);
    }
}

#[test]
fn one_limit_needs_no_file() {
    let gate = Gate::per("api_key | ip".parse::<KeyPart>().unwrap(), tollgate::Quota::per_hour(1));
    let keyed = |key: &str| request().with_api_key(key);
    for (request, allowed) in [
        (request(), true),
        (request(), false),
        (keyed("a"), true),
        (keyed("a"), false),
        (keyed("b"), true),
        // A key that is spelt like an address is no address.
        (keyed("203.0.113.7"), true),
        // Neither: not limited.
        (Request::default(), true),
        (Request::default(), true),
    ] {
        assert_eq!(gate.check(&request).is_allowed(), allowed, "{request:?}");
    }
}
