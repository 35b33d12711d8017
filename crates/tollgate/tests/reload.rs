//! Policies that are replaced while a gate decides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tollgate::{Config, Format, Gate, ManualClock, MemoryOptions, MemoryStore, Request, Timestamp};

fn config(policies: &str) -> Config {
    Config::parse("test", &format!("policies: [{policies}]"), Format::Yaml, &[]).unwrap()
}

/// A gate on a clock that stands still.
fn gate(policies: &str) -> (Gate<MemoryStore<ManualClock>>, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    (Gate::with_store(config(policies), store), clock)
}

fn client() -> Request {
    Request::default().with_ip("203.0.113.7".parse().unwrap())
}

fn remaining(gate: &Gate<MemoryStore<ManualClock>>) -> u64 {
    gate.peek(&client(), Some(0)).deciding().unwrap().remaining()
}

fn spend(gate: &Gate<MemoryStore<ManualClock>>, cost: u32) {
    assert!(gate.check_n(&client(), cost).is_allowed());
}

#[test]
fn what_is_spent_stays_spent() {
    let (gate, _) = gate("{ name: api, key: ip, limit: 100/hour }");
    spend(&gate, 60);
    // As it was, with another beside it.
    let changes =
        gate.reload(config("{ name: api, key: ip, limit: 100/hour }, { name: b, key: ip, limit: 500/hour }"));
    assert_eq!((changes.added, changes.unchanged), (vec!["b".to_owned()], 1));
    assert_eq!(remaining(&gate), 40);
    // More in an hour: what was left is left.
    assert_eq!(gate.reload(config("{ name: api, key: ip, limit: 1000/hour }")).removed, ["b"]);
    assert_eq!(remaining(&gate), 40);
    // Less than what was left.
    assert_eq!(gate.reload(config("{ name: api, key: ip, limit: 10/hour }")).changed, ["api"]);
    assert_eq!(remaining(&gate), 10);
    // Of another kind.
    spend(&gate, 4);
    gate.reload(config("{ name: api, key: ip, algorithm: sliding_window, limit: 50/hour }"));
    assert_eq!(remaining(&gate), 6);
    // Nothing is carried to another name.
    gate.reload(config("{ name: other, key: ip, limit: 10/hour }"));
    assert_eq!(remaining(&gate), 10);
}

#[test]
fn a_limit_that_nobody_asked_for_in_between_is_remembered() {
    let (gate, clock) = gate("{ name: api, key: ip, limit: 100/hour }");
    spend(&gate, 100);
    for limit in ["200/hour", "0/hour", "unlimited", "300/hour", "100/hour", "400/hour"] {
        gate.reload(config(&format!("{{ name: api, key: ip, limit: {limit} }}")));
    }
    assert_eq!(remaining(&gate), 0);
    // It came back by the rule under which it was spent, up to now.
    clock.advance(Duration::from_mins(6));
    gate.reload(config("{ name: api, key: ip, limit: 100/hour }"));
    assert_eq!(remaining(&gate), 10);
}

#[test]
fn a_limit_that_was_set_back_goes_on_as_if_nothing_had_been() {
    let (gate, clock) = gate("{ name: api, key: ip, limit: 100/hour }");
    spend(&gate, 70);
    gate.reload(config("{ name: api, key: ip, limit: 5/hour }"));
    gate.reload(config("{ name: api, key: ip, limit: 100/hour }"));
    assert_eq!(remaining(&gate), 30);
    clock.advance(Duration::from_secs(36));
    assert_eq!(remaining(&gate), 31);
}

#[test]
fn after_its_recovery_nothing_is_asked_of_the_former_limit() {
    let (gate, clock) = gate("{ name: api, key: ip, limit: 100/minute }");
    gate.reload(config("{ name: api, key: ip, limit: 50/minute }"));
    let formers = |gate: &Gate<MemoryStore<ManualClock>>| {
        gate.policies().plan(&client(), tollgate::Clock::now(&clock), None).hits()[0].formers.len()
    };
    assert_eq!(formers(&gate), 1);
    clock.advance(Duration::from_mins(1));
    assert_eq!(formers(&gate), 0);
}

#[test]
fn named_limits_and_tiers_are_known_by_their_names() {
    let (gate, _) = gate(
        "{ name: api, key: ip, limits: [{ name: short, limit: 10/minute }, { name: long, limit: 100/hour }] }",
    );
    spend(&gate, 7);
    let swapped =
        "{ name: api, key: ip, limits: [{ name: long, limit: 90/hour }, { name: short, limit: 10/minute }] }";
    gate.reload(config(swapped));
    let verdict = gate.peek(&client(), Some(0));
    let left: Vec<u64> = verdict.outcomes().iter().map(|outcome| outcome.decision.remaining).collect();
    assert_eq!(left, [90, 3]);
}

#[test]
fn bans_and_counts_go_on() {
    let (gate, _) = gate("{ name: api, key: ip, limit: 100/hour }");
    assert_eq!(gate.ban(&client(), Some("api"), Duration::from_mins(5)), ["api"]);
    assert_eq!(gate.ban(&client(), Some("none"), Duration::from_mins(5)), [""; 0]);
    assert!(!gate.check(&client()).is_allowed());
    gate.reload(config("{ name: new, key: global, limit: 5/hour }, { name: api, key: ip, limit: 50/hour }"));
    assert!(gate.check(&client()).is_banned());
    let status = gate.status();
    let counts: Vec<_> = status.policies.iter().map(|one| (one.name.as_str(), one.matched)).collect();
    assert_eq!(counts, [("new", 0), ("api", 2)]);
    assert_eq!(gate.bans()[0].policy, "api");
    gate.reset(&client(), Some("api"));
    assert!(gate.check(&client()).is_allowed());
    // A rule for bans that comes later works too.
    gate.reload(config("{ name: api, key: ip, limit: 1/hour, ban: { after: 1/minute, for: 10m } }"));
    gate.reset(&client(), None);
    let denied = (0..4).map(|_| gate.check(&client())).filter(tollgate::Verdict::is_banned).count();
    assert_eq!(denied, 1);
}

#[test]
fn a_reset_reaches_what_was_spent_before_a_change() {
    let (gate, _) = gate("{ name: api, key: ip, limit: 100/hour }");
    spend(&gate, 100);
    gate.reload(config("{ name: api, key: ip, limit: 200/hour }"));
    assert_eq!(gate.reset(&client(), None), ["api"]);
    assert_eq!(remaining(&gate), 200);
}

/// While two threads ask, the limit goes up and down: each asks by the old policies once more at most.
#[test]
fn no_reload_lets_more_through() {
    const BURST: u32 = 200;
    const RELOADS: u32 = 50;
    let (gate, _) = gate("{ name: api, key: ip, limit: 200/hour }");
    let (admitted, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let passed = u32::from(gate.check(&client()).is_allowed());
                    admitted.fetch_add(passed, Ordering::Relaxed);
                }
            });
        }
        for round in 0..RELOADS {
            let limit = [150, 200, 180, 199][round as usize % 4];
            gate.reload(config(&format!("{{ name: api, key: ip, limit: {limit}/hour }}")));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let admitted = admitted.into_inner();
    // Whoever still decides by the old policies when the key has moved to the new ones may find nothing where it was.
    assert!((150..=BURST + 2 * RELOADS).contains(&admitted), "{admitted} were admitted");
}

/// A request that was planned by the old policies and is decided after the key has moved is all that is let through: what it
/// leaves where the key was does not count as the key's state, whatever the limit is changed to.
#[test]
fn a_straggler_takes_itself_along_only() {
    let (gate, _) = gate("{ name: api, key: ip, limit: 100/hour }");
    spend(&gate, 100);
    let policies = gate.policies();
    let late = policies.plan(&client(), Timestamp::from_secs(1_800_000_000), None).detach(&policies);
    gate.reload(config("{ name: api, key: ip, limit: 200/hour }"));
    assert!(!gate.check(&client()).is_allowed());
    let decided = gate.decide_async(Timestamp::from_secs(1_800_000_000), late);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _ = runtime.block_on(decided).unwrap();
    for limit in ["100/hour", "200/hour", "300/hour"] {
        gate.reload(config(&format!("{{ name: api, key: ip, limit: {limit} }}")));
        assert!(!gate.check(&client()).is_allowed(), "{limit}");
    }
    assert_eq!(gate.status().policies[0].matched, 6);
}
