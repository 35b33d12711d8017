//! Keys that are denied everything for a while.

#![cfg(feature = "tower")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use tollgate::http::{ProblemDetails, response_body};
use tollgate::{Config, Format, Gate, ManualClock, MemoryOptions, MemoryStore, Request, Timestamp};

type Manual = Gate<MemoryStore<ManualClock>>;

fn gate(policies: &str) -> (Manual, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    let config = Config::parse("test", policies, Format::Yaml, &[]).unwrap();
    (Gate::with_store(config, store), clock)
}

fn from(ip: &str) -> Request {
    Request::new("POST", "/login").with_ip(ip.parse().unwrap())
}

const LOGIN: &str = "policies: [{ name: login, key: ip, limit: 2/minute, ban: { after: 3/hour, for: 15m } }]";

#[test]
fn who_does_not_stop_is_banned() {
    let (gate, clock) = gate(LOGIN);
    let (eve, bob) = (from("203.0.113.7"), from("203.0.113.8"));
    let ask = |request| gate.check(request).is_allowed();
    assert_eq!([ask(&eve), ask(&eve), ask(&eve), ask(&eve), ask(&eve)], [true, true, false, false, false]);
    // Three denials are put up with.
    assert!(!gate.check(&eve).is_banned());
    let banned = gate.check(&eve);
    assert!(banned.is_banned() && !banned.is_allowed());
    assert_eq!(banned.retry_after().duration(), Some(Duration::from_mins(15)));
    assert!(gate.peek(&eve, None).is_banned() && gate.refusal(&eve, None).unwrap().is_banned());
    let (verdict, reservation) = gate.reserve(&eve, None);
    assert!(verdict.is_banned() && reservation.is_none());
    let body = response_body(&banned);
    assert_eq!(
        body.error.message,
        "Rate limit exceeded too often: the policy `login` lets no request through for 900 seconds."
    );
    assert!(ProblemDetails::of(&banned, true).kind.ends_with("#abnormal-usage-detected"));
    assert!(ask(&bob), "others are not");
    // The limit has recovered, the ban stands; and it is not longer for having been tried.
    clock.advance(Duration::from_mins(14));
    assert!(gate.check(&eve).is_banned());
    assert_eq!(gate.bans().len(), 1);
    clock.advance(Duration::from_mins(1));
    assert!(ask(&eve) && gate.bans().is_empty());
}

#[test]
fn a_reset_lifts_a_ban_and_forgets_the_denials() {
    let (gate, _) = gate(LOGIN);
    let eve = from("203.0.113.7");
    for _ in 0..7 {
        let _ = gate.check(&eve);
    }
    assert!(gate.check(&eve).is_banned());
    assert_eq!(gate.reset(&eve, None), ["login"]);
    assert!(gate.check(&eve).is_allowed() && gate.check(&eve).is_allowed());
    for _ in 0..3 {
        assert!(!gate.check(&eve).is_banned());
    }
}

#[test]
fn bans_by_hand_hold_for_the_policies_that_apply() {
    let (gate, clock) = gate(
        "policies:
  - { name: login, match: { path: /login }, key: ip, limit: 5/minute }
  - { name: all, key: ip, limit: 100/minute }
  - { name: watched, shadow: true, key: ip, limit: 100/minute }
",
    );
    let eve = from("203.0.113.7");
    assert_eq!(gate.ban(&eve, Some("login"), Duration::from_mins(1)), ["login"]);
    assert!(gate.check(&eve).is_banned());
    let elsewhere = Request::new("GET", "/").with_ip("203.0.113.7".parse().unwrap());
    assert!(gate.check(&elsewhere).is_allowed());
    // A shorter ban does not end a longer one; of several the longest speaks.
    assert_eq!(gate.ban(&eve, None, Duration::from_secs(30)), ["login", "all"]);
    let verdict = gate.check(&eve);
    assert_eq!(verdict.deciding().unwrap().policy.name(), "login");
    assert_eq!(verdict.retry_after().duration(), Some(Duration::from_mins(1)));
    let bans = gate.bans();
    assert_eq!(bans.iter().map(|ban| ban.policy.as_str()).collect::<Vec<_>>(), ["login", "all"]);
    clock.advance(Duration::from_secs(30));
    assert!(gate.check(&elsewhere).is_allowed() && gate.check(&eve).is_banned());
    // Years are a length too.
    assert_eq!(gate.ban(&eve, None, Duration::MAX).len(), 2);
    assert!(gate.check(&eve).is_banned());
}

#[test]
fn shadows_ban_nobody() {
    let (gate, _) = gate(&LOGIN.replace("key:", "shadow: true, key:"));
    let eve = from("203.0.113.7");
    assert!((0..20).all(|_| gate.check(&eve).is_allowed()));
    assert!(gate.ban(&eve, None, Duration::from_mins(1)).is_empty());
}

#[test]
fn a_limit_of_none_bans_at_once_if_none_is_put_up_with() {
    let trap = "policies: [{ name: trap, key: ip, limit: 0/minute, ban: { after: 0/minute, for: 1h } }]";
    let (gate, _) = gate(trap);
    let eve = from("203.0.113.7");
    assert!(!gate.check(&eve).is_banned());
    assert!(gate.check(&eve).is_banned());
}

#[tokio::test]
async fn gates_on_distant_stores_ban_too() {
    let (gate, clock) = gate(LOGIN);
    let (gate, eve) = (Arc::new(gate), from("203.0.113.7"));
    let now = || tollgate::Clock::now(&clock);
    for _ in 0..6 {
        let asked = gate.policies().plan(&eve, now(), None).detach(&gate.policies());
        assert!(!gate.decide_async(now(), asked).await.unwrap().is_banned());
    }
    let asked = gate.policies().plan(&eve, now(), None).detach(&gate.policies());
    assert!(gate.decide_async(now(), asked).await.unwrap().is_banned());
    assert!(gate.check_async(now(), &eve, None).await.unwrap().is_banned());
    assert!(gate.peek_async(now(), &eve, None).await.unwrap().is_banned());
    assert_eq!(gate.reset_async(now(), &eve, None).await.unwrap(), ["login"]);
    assert!(gate.check_async(now(), &eve, None).await.unwrap().is_allowed());
}

#[test]
fn many_threads_ban_one_key() {
    let (gate, _) =
        gate("policies: [{ name: a, key: ip, limit: 10/hour, ban: { after: 20/hour, for: 1h } }]");
    let allowed = std::thread::scope(|scope| {
        let ask = || (0..1_000).filter(|_| gate.check(&from("203.0.113.7")).is_allowed()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(allowed, 10);
    assert_eq!(gate.bans().len(), 1);
}
