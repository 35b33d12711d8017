//! Limits that follow the health of a service.
#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tollgate::{
    Clock, Config, Format, Gate, Level, ManualClock, MemoryOptions, MemoryStore, Request, Retry, Services,
};

type TestGate = Gate<MemoryStore<ManualClock>>;

const HEALTH: &str = "health: { orders: { errors: { degraded: 5%, bad: 25% } } }";

/// A gate with one policy, at the start of a minute.
fn gate(policy: &str) -> (TestGate, ManualClock) {
    let clock = ManualClock::default();
    clock.advance(Duration::from_mins(100_000));
    let config =
        Config::parse("inline", &format!("{HEALTH}\npolicies: [{policy}]"), Format::Yaml, &[]).unwrap();
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    (Gate::with_store(config, store), clock)
}

fn from(last: u8) -> Request {
    Request::new("GET", "/").with_ip([203, 0, 113, last].into())
}

/// How many of so many pass.
fn passing(gate: &TestGate, request: &Request, of: u32) -> u32 {
    (0..of).map(|_| u32::from(gate.check(request).is_allowed())).sum()
}

#[test]
fn each_algorithm_holds_its_share_of_the_rate_and_recovers() {
    for settings in [
        "limit: 100/minute",
        "algorithm: fixed_window, limit: 100/minute",
        "algorithm: sliding_log, limit: 100/minute",
        "algorithm: token_bucket, capacity: 100, refill: 100/minute",
        "algorithm: leaky_bucket, capacity: 100, leak: 100/minute",
    ] {
        let (gate, clock) = gate(&format!("{{ name: api, key: ip, {settings}, adaptive: orders }}"));
        let mut key = 0;
        for (level, share) in
            [(Level::Good, 100), (Level::Degraded, 70), (Level::Bad, 30), (Level::Good, 100)]
        {
            gate.set_level("orders", level);
            assert!(!gate.set_level("orders", level), "nothing new");
            key += 1;
            // At once, and again when all that was spent has come back.
            for _ in 0..2 {
                assert_eq!(passing(&gate, &from(key), 120), share, "{settings}: {level}");
                clock.advance(Duration::from_mins(1));
            }
        }
    }
}

#[test]
fn a_steady_rate_is_scaled_exactly_over_the_hours() {
    let (gate, clock) = gate("{ name: api, key: ip, limit: 5/minute, adaptive: orders }");
    gate.set_level("orders", Level::Degraded);
    let mut passed = 0;
    for _ in 0..36_000 {
        passed += passing(&gate, &from(1), 1);
        clock.advance(Duration::from_secs(1));
    }
    // 3.5 a minute for ten hours, and what may come at once.
    assert_eq!(passed, 2_100 + 2);
}

#[test]
fn what_was_spent_stays_spent_when_the_level_changes() {
    let (gate, clock) =
        gate("{ name: api, key: ip, algorithm: fixed_window, limit: 100/minute, adaptive: orders }");
    assert_eq!(passing(&gate, &from(1), 90), 90);
    gate.set_level("orders", Level::Bad);
    assert_eq!(passing(&gate, &from(1), 90), 10, "what was left, and no more");
    gate.set_level("orders", Level::Good);
    assert_eq!(passing(&gate, &from(1), 90), 0, "to and fro makes nothing new");
    clock.advance(Duration::from_mins(1));
    assert_eq!(passing(&gate, &from(1), 120), 100);
}

#[test]
fn only_policies_that_adapt_to_the_service_do() {
    let (gate, clock) = gate(
        "{ name: api, key: ip, limit: 10/minute, adaptive: { to: orders, degraded: 50%, bad: 0% } }, \
         { name: other, key: ip, limit: 20/minute }",
    );
    let limits = |gate: &TestGate, key| {
        gate.check(&from(key)).policies().map(|policy| policy.limit()).collect::<Vec<_>>()
    };
    assert_eq!(limits(&gate, 1), [10, 20]);
    gate.set_level("orders", Level::Degraded);
    assert_eq!(limits(&gate, 1), [5, 20]);
    gate.set_level("orders", Level::Bad);
    let denied = gate.check(&from(1));
    assert!(!denied.is_allowed());
    assert_eq!(denied.retry_after(), Retry::Never);
    // A reload keeps the level; a service that nobody adapts to changes nothing.
    let config = Config::parse(
        "inline",
        &format!("{HEALTH}\npolicies: [{{ name: api, key: ip, limit: 30/minute, adaptive: orders }}]"),
        Format::Yaml,
        &[],
    );
    gate.reload_at(clock.now(), config.unwrap());
    gate.set_level("search", Level::Bad);
    assert_eq!(limits(&gate, 2), [9]);
    assert_eq!(gate.policies().level_of("orders"), Level::Bad);
}

/// What is known of a service under these rules.
fn services(rules: &str, store: &Arc<AtomicBool>) -> (Config, impl Fn() -> bool + Clone + Send + 'static) {
    let text = format!("{{ policies: [], health: {{ node: {{ {rules} }} }} }}");
    let store = Arc::clone(store);
    (Config::parse("inline", &text, Format::Yaml, &[]).unwrap(), move || store.load(Ordering::Relaxed))
}

#[test]
fn the_store_and_a_word_of_the_service_are_heeded() {
    let store = Arc::new(AtomicBool::new(true));
    let (config, is_there) = services("store: degraded", &store);
    let services_now = Services::new(&config, is_there).unwrap();
    let look = |services: &Services| {
        let seen = services.look().remove(0);
        assert_eq!(services.seen(), std::slice::from_ref(&seen));
        (seen.level, seen.blamed)
    };
    let says = |level, name: &str| (level, Some(name.to_owned()));
    assert_eq!(look(&services_now), (Level::Good, None));
    store.store(false, Ordering::Relaxed);
    assert_eq!(look(&services_now), says(Level::Degraded, "store"));
    services_now.tell("node", Level::Bad, Duration::from_hours(1)).unwrap();
    assert_eq!(look(&services_now), says(Level::Bad, "told"));
    let error = services_now.tell("nodes", Level::Bad, Duration::MAX).unwrap_err();
    assert!(error.to_string().starts_with("there is no service `nodes`"), "{error}");

    // What is the same goes on; what is changed begins anew, but for what the service has said.
    let services_now = Arc::new(services_now);
    let (config, is_there) = services("store: degraded", &store);
    assert!(Arc::ptr_eq(&services_now, &services_now.succeed(&config, is_there).unwrap()));
    let (config, is_there) = services("dwell: 1s", &store);
    let latter = services_now.succeed(&config, is_there).unwrap();
    assert_eq!(look(&latter), says(Level::Bad, "told"));
}
