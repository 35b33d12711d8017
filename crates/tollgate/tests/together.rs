//! Several requests that pass together or not at all.

#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use tollgate::{
    Ask, Config, Format, Gate, Limit, LocalStore, ManualClock, MemoryOptions, MemoryStore, Quota, Request,
    Timestamp, Verdict,
};

const POLICIES: &str = "
policies:
  - { name: user, key: user, limit: 10/hour, algorithm: fixed_window }
  - { name: ip, key: ip, limit: 3/hour, algorithm: fixed_window }
  - { name: watched, key: attribute:tenant, limit: 1/hour, shadow: true }
  - name: log
    match: { where: { 'attribute:kind': log } }
    key: attribute:kind
    limit: 5/hour
    algorithm: sliding_log
";

type ManualGate = Gate<MemoryStore<ManualClock>>;

fn gate() -> ManualGate {
    let config = Config::parse("inline", POLICIES, Format::Yaml, &[]).unwrap();
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    Gate::with_store(config, MemoryStore::with_clock(clock, MemoryOptions::default()))
}

fn user(name: &str) -> Request {
    Request::default().with_user(name)
}

fn from(ip: &str) -> Request {
    Request::default().with_ip(ip.parse().unwrap())
}

async fn check(gate: &ManualGate, asks: &[Ask<&Request>]) -> Vec<Verdict> {
    gate.check_together_async(gate.store().now(), asks).await.unwrap()
}

/// What is left of a user's ten, or of an address's three.
fn left(gate: &ManualGate, request: &Request) -> u64 {
    gate.peek(request, Some(0)).deciding().unwrap().remaining()
}

fn allowed(verdicts: &[Verdict]) -> Vec<bool> {
    verdicts.iter().map(Verdict::is_allowed).collect()
}

#[tokio::test]
async fn all_are_charged_or_none() {
    let gate = gate();
    let (ann, here) = (user("ann"), from("203.0.113.7"));
    for _ in 0..3 {
        assert_eq!(
            allowed(&check(&gate, &[Ask::new(&ann).with_cost(2), Ask::new(&here)]).await),
            [true, true]
        );
    }
    for _ in 0..5 {
        let verdicts = check(&gate, &[Ask::new(&ann), Ask::new(&here)]).await;
        assert_eq!(allowed(&verdicts), [true, false]);
        // The one that would pass by itself took nothing, and says what is there.
        assert_eq!(verdicts[0].taken().count(), 0);
        assert_eq!(verdicts[0].deciding().unwrap().remaining(), 4);
    }
    assert_eq!((left(&gate, &ann), left(&gate, &here)), (4, 0));
    // Six passed; none of the ten that were asked afterwards did.
    let status = gate.status();
    assert_eq!((status.allowed, status.denied), (6, 10));
    let matched: Vec<(u64, u64)> =
        status.policies.iter().map(|policy| (policy.matched, policy.denied)).collect();
    assert_eq!(matched, [(8, 0), (8, 5), (0, 0), (0, 0)]);
    assert!(check(&gate, &[]).await.is_empty());
}

#[tokio::test]
async fn those_that_count_by_the_same_follow_one_another() {
    let gate = gate();
    let here = from("203.0.113.7");
    let ask = Ask::new(&here);
    assert_eq!(allowed(&check(&gate, &[ask; 4]).await), [true, true, true, false]);
    assert_eq!(left(&gate, &here), 3);
    let verdicts = check(&gate, &[ask; 3]).await;
    let remaining: Vec<u64> =
        verdicts.iter().map(|verdict| verdict.deciding().unwrap().remaining()).collect();
    assert_eq!(remaining, [2, 1, 0]);
}

#[tokio::test]
async fn a_ban_denies_all_and_the_store_is_not_asked() {
    let gate = gate();
    let (ann, here, nobody) = (user("ann"), from("203.0.113.7"), Request::default());
    gate.ban(&here, None, Duration::from_mins(5));
    let verdicts = check(&gate, &[Ask::new(&ann), Ask::new(&here), Ask::new(&nobody)]).await;
    assert_eq!(allowed(&verdicts), [true, false, true]);
    assert!(verdicts[1].is_banned());
    assert_eq!(verdicts[0].policies().count(), 0);
    assert_eq!(left(&gate, &ann), 10);
    assert_eq!(gate.status().denied, 3);
    let now = gate.store().now();
    let looked = gate.peek_together_async(now, &[Ask::new(&ann), Ask::new(&here)]).await.unwrap();
    assert_eq!(allowed(&looked), [true, false]);
}

#[tokio::test]
async fn a_request_may_state_its_limit() {
    let gate = gate();
    let (ann, tenant) = (user("ann"), Request::default().with("attribute:tenant".parse().unwrap(), "acme"));
    let two = Limit::fixed_window(Quota::per_hour(2));
    let ask = Ask::new(&ann).with_limit(two);
    for left in [1, 0] {
        let verdicts = check(&gate, &[ask]).await;
        let policy = verdicts[0].deciding().unwrap();
        assert_eq!((policy.policy.name(), policy.limit(), policy.remaining()), ("user", 2, left));
        assert_eq!(policy.rule(), Some(&two));
    }
    assert_eq!(allowed(&check(&gate, &[ask]).await), [false]);
    // Another limit counts by itself, and so does the policy's own.
    assert_eq!(
        allowed(&check(&gate, &[Ask::new(&ann).with_limit(Limit::fixed_window(Quota::per_hour(3)))]).await),
        [true]
    );
    assert_eq!(left(&gate, &ann), 10);
    // It is enforced where the policy only watches, and gives back what it took.
    let watched = Ask::new(&tenant).with_limit(Limit::fixed_window(Quota::per_hour(1)));
    let passed = check(&gate, &[watched]).await;
    assert_eq!(allowed(&check(&gate, &[watched]).await), [false]);
    gate.settle(&passed[0], tollgate::Settlement::Refund);
    assert_eq!(allowed(&check(&gate, &[watched]).await), [true]);
    assert_eq!(allowed(&check(&gate, &[Ask::new(&tenant), Ask::new(&tenant)]).await), [true, true]);
}

#[tokio::test]
async fn what_is_charged_afterwards_takes_what_there_is() {
    let gate = gate();
    let (ann, bob) = (user("ann"), user("bob"));
    let now = gate.store().now();
    let charge = async |asks: &[Ask<&Request>]| gate.charge_async(now, asks).await.unwrap();
    let six = Ask::new(&ann).with_cost(6);
    assert_eq!(allowed(&charge(&[six, Ask::new(&bob)]).await), [true, true]);
    let verdicts = charge(&[six, Ask::new(&bob)]).await;
    assert_eq!(allowed(&verdicts), [false, true]);
    assert_eq!(verdicts[0].taken().map(|(_, grant, _)| grant.cost).collect::<Vec<_>>(), [4]);
    assert_eq!((left(&gate, &ann), left(&gate, &bob)), (0, 8));
    // Twice by the same key: the second finds what the first leaves.
    let _ = charge(&[Ask::new(&bob).with_cost(5), Ask::new(&bob).with_cost(5)]).await;
    assert_eq!(left(&gate, &bob), 0);
    assert_eq!(gate.status().allowed + gate.status().denied, 0);
}

#[tokio::test]
async fn what_is_given_back_is_no_more_than_was_spent_in_that_window() {
    let gate = gate();
    let ann = user("ann");
    assert!(gate.check_n(&ann, 7).is_allowed());
    let looked = check(&gate, &[Ask::new(&ann).with_cost(0)]).await.remove(0);
    gate.give_back_async(&looked, 2).await.unwrap();
    assert_eq!(left(&gate, &ann), 5);
    gate.give_back_async(&looked, u32::MAX).await.unwrap();
    assert_eq!(left(&gate, &ann), 10);
    // The next window has nothing to do with it.
    gate.store().clock().advance(Duration::from_hours(1));
    assert!(gate.check_n(&ann, 7).is_allowed());
    gate.give_back_async(&looked, 5).await.unwrap();
    assert_eq!(left(&gate, &ann), 3);
    // A log takes back an admission, not a number.
    let log = Request::default().with("attribute:kind".parse().unwrap(), "log");
    assert!(gate.check_n(&log, 4).is_allowed());
    gate.store().clock().advance(Duration::from_secs(1));
    let looked = check(&gate, &[Ask::new(&log).with_cost(0)]).await.remove(0);
    gate.give_back_async(&looked, 4).await.unwrap();
    assert_eq!(left(&gate, &log), 1);
}
