//! The limiters and the gate, as a program uses them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use tollgate::algorithm::{Refill, TokenBucket};
use tollgate::{
    Config, Format, Gate, KeyedLimiter, Limit, Limiter, ManualClock, MemoryOptions, MemoryStore, Quota,
    Request, Retry, Timestamp,
};

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_secs(1_800_000_000))
}

fn keyed(limit: Limit) -> (KeyedLimiter<str, MemoryStore<ManualClock>>, ManualClock) {
    let clock = clock();
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    (KeyedLimiter::with_store(limit, store), clock)
}

#[test]
fn a_limiter_checks_peeks_refunds_and_resets() {
    let clock = clock();
    let limiter = Limiter::with_clock(Quota::per_minute(10), clock.clone());
    assert_eq!(limiter.check().remaining, 9);
    assert_eq!(limiter.check_n(4).remaining, 5);
    assert!(!limiter.peek(6).is_allowed());
    assert_eq!(limiter.status().remaining, 5);
    let reservation = limiter.reserve(5).unwrap();
    let denied = limiter.reserve(1).unwrap_err();
    assert_eq!(denied.retry_after.duration(), Some(Duration::from_secs(6)));
    assert_eq!(limiter.check_n(11).retry_after, Retry::Never);
    limiter.refund(reservation);
    assert_eq!(limiter.status().remaining, 5);
    clock.advance(Duration::from_secs(6));
    assert_eq!(limiter.status().remaining, 6);
    limiter.reset();
    assert_eq!(limiter.status().remaining, 10);
}

#[test]
fn every_kind_of_limit_starts_whole_and_runs_dry() {
    let rate = Quota::per_hour(3);
    let by_batch = TokenBucket::new(3, rate).unwrap().with_refill(Refill::Interval).unwrap();
    for limit in [
        Limit::gcra(rate),
        Limit::token_bucket(3, rate).unwrap(),
        Limit::from(by_batch),
        Limit::leaky_bucket(3, rate).unwrap(),
        Limit::fixed_window(rate),
        Limit::sliding_window(rate),
        Limit::sliding_log(rate).unwrap(),
    ] {
        let (limiter, clock) = keyed(limit);
        let admitted = (0..10).filter(|_| limiter.check("a").is_allowed()).count();
        assert_eq!(admitted, 3, "{limit}");
        assert!(limiter.check("b").is_allowed(), "{limit}");
        let wait = limiter.peek("a", 1).retry_after.duration().unwrap();
        clock.advance(wait.checked_sub(Duration::from_nanos(1)).unwrap());
        assert!(!limiter.check("a").is_allowed(), "{limit}");
        clock.advance(Duration::from_nanos(1));
        assert!(limiter.check("a").is_allowed(), "{limit}");
    }
}

#[test]
fn a_keyed_limiter_gives_back_once_and_forgets_on_demand() {
    let (limiter, _) = keyed(Limit::fixed_window(Quota::per_hour(10)));
    let reservation = limiter.reserve("a", 8).unwrap();
    assert_eq!((reservation.cost(), limiter.status("a").remaining), (8, 2));
    limiter.refund(reservation);
    assert_eq!(limiter.status("a").remaining, 10);
    assert!(limiter.reserve("a", 11).is_err());
    let _ = limiter.check_n("a", 10);
    limiter.reset("a");
    assert!(limiter.check_n("a", 10).is_allowed());
}

#[tokio::test]
async fn the_same_can_be_awaited() {
    let (limiter, _) = keyed(Limit::gcra(Quota::per_hour(10)));
    assert!(limiter.check_async("a").await.unwrap().is_allowed());
    assert_eq!(limiter.check_n_async("a", 4).await.unwrap().remaining, 5);
    assert!(!limiter.peek_async("a", 6).await.unwrap().is_allowed());
    let reservation = limiter.reserve_async("a", 5).await.unwrap().unwrap();
    assert!(limiter.reserve_async("a", 1).await.unwrap().is_err());
    limiter.refund_async(reservation).await.unwrap();
    assert_eq!(limiter.status_async("a").await.unwrap().remaining, 5);
    limiter.reset_async("a").await.unwrap();
    assert_eq!(limiter.status_async("a").await.unwrap().remaining, 10);
}

const POLICIES: &str = "
policies:
  - { name: narrow, key: user, algorithm: fixed_window, limit: 5/hour }
  - { name: wide, key: global, algorithm: fixed_window, limit: 100/hour }
  - { name: watching, key: global, algorithm: fixed_window, limit: 1/hour, shadow: true }
";

fn gate() -> (Gate<MemoryStore<ManualClock>>, ManualClock) {
    let clock = clock();
    let config = Config::parse("test", POLICIES, Format::Yaml, &[]).unwrap();
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    (Gate::with_store(config, store), clock)
}

#[test]
fn a_gate_decides_counts_and_gives_back() {
    let (gate, clock) = gate();
    let ann = Request::new("GET", "/").with_user("ann");
    assert_eq!(gate.check(&ann).deciding().unwrap().policy.name(), "narrow");
    assert!(!gate.check_n(&ann, 5).is_allowed());
    let (verdict, reservation) = gate.reserve(&ann, Some(4));
    assert!(verdict.is_allowed());
    let denied = gate.check(&ann);
    assert_eq!(denied.deciding().unwrap().policy.name(), "narrow");
    assert_eq!(denied.retry_after(), Retry::After(denied.deciding().unwrap().reset_after()));
    gate.refund(reservation.unwrap());
    assert_eq!(gate.peek(&ann, None).deciding().unwrap().remaining(), 4);

    let status = gate.status();
    assert_eq!((status.allowed, status.denied, status.active_policies), (2, 2, 3));
    assert!(status.store_available && status.consecutive_failures == 0);
    let counts: Vec<_> =
        status.policies.iter().map(|policy| (policy.name.as_str(), policy.matched, policy.denied)).collect();
    assert_eq!(counts, [("narrow", 4, 2), ("wide", 4, 0), ("watching", 4, 3)]);

    assert_eq!(gate.reset(&ann, Some("narrow")), ["narrow"]);
    let left: Vec<u64> = gate.peek(&ann, None).policies().map(|policy| policy.remaining()).collect();
    assert_eq!(left, [5, 99, 0]);
    clock.advance(Duration::from_hours(1));
    assert!(gate.check_n(&ann, 5).is_allowed());
}

#[tokio::test]
async fn a_gate_can_be_awaited() {
    let (gate, _) = gate();
    let (bob, now) = (Request::new("GET", "/").with_user("bob"), Timestamp::from_secs(1_800_000_000));
    assert!(gate.check_async(now, &bob, Some(5)).await.unwrap().is_allowed());
    assert!(!gate.peek_async(now, &bob, None).await.unwrap().is_allowed());
    assert_eq!(gate.reset_async(now, &bob, None).await.unwrap(), ["narrow", "wide", "watching"]);
    assert!(gate.check_async(now, &bob, Some(5)).await.unwrap().is_allowed());
}

#[cfg(feature = "durable")]
#[test]
fn limiters_on_a_durable_store_go_on_after_a_restart() {
    use tollgate::durable::{DurableOptions, DurableStore};

    let directory = tempfile::tempdir().unwrap();
    let limiter = || {
        let store = DurableStore::open(directory.path(), &DurableOptions::default()).unwrap();
        let seed = store.seed();
        KeyedLimiter::<str, _>::with_seed(Quota::per_hour(2), store, &seed)
    };
    let first = limiter();
    assert!(first.check("anna").is_allowed() && first.check("anna").is_allowed());
    drop(first);
    let second = limiter();
    assert!(!second.check("anna").is_allowed());
    assert!(second.check("bert").is_allowed());
}
