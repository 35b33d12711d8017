//! The store on a real Redis.
#![cfg(feature = "redis")]
// Tests may panic.
#![allow(clippy::unwrap_used)]

mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use servers::{Cluster, Pack, Redis, Watched};
use stores::{PATIENCE, ask, connected, patient, until};
use tokio::task::JoinSet;
use tollgate_core::algorithm::calendar::{Calendar, Starts};
use tollgate_core::algorithm::{FixedWindow, Gcra, Refill, TokenBucket};
use tollgate_core::{
    Answer, Clock, Consistency, Group, Hit, KeyHash, Limit, LimitId, Nanos, OnFailure, Quota, Share, Sharing,
    Source, Timestamp,
};
use tollgate_store::conformance::Subject;
use tollgate_store::guard::{GuardOptions, Guarded, Phase};
use tollgate_store::lease::{LeaseOptions, Leased};
use tollgate_store::redis::{RedisOptions, RedisStore};
use tollgate_store::{LocalStore, MemoryStore, Refund, Store, StoreError, SystemClock};

/// One a day: nothing comes back while a test runs.
fn slow(burst: u64) -> Limit {
    Limit::gcra_with_burst(Quota::per_day(1), burst).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_tasks_get_exactly_what_there_is() {
    let redis = Redis::start(&[]);
    let store = Arc::new(connected(patient(redis.url())).await);
    for key in 0..100 {
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut admitted = 0;
                    for _ in 0..10 {
                        admitted += u32::from(ask(&*store, &slow(100), key).await.unwrap().allowed);
                    }
                    admitted
                })
            })
            .collect();
        let mut admitted = 0;
        for task in tasks {
            admitted += task.await.unwrap();
        }
        assert_eq!(admitted, 100);
    }
}

#[tokio::test]
async fn two_nodes_share_a_limit_and_names_say_nothing() {
    let redis = Redis::start(&[]);
    let (one, other) = (connected(patient(redis.url())).await, connected(patient(redis.url())).await);
    let limit = slow(3);
    assert!(ask(&one, &limit, 7).await.unwrap().allowed);
    let answer = ask(&other, &limit, 7).await.unwrap();
    assert_eq!(answer.outcomes[0].decision.remaining, 1);
    assert_eq!(answer.outcomes[0].source, Source::Redis);
    assert_eq!(redis.ask(&["keys", "*"]), format!("tollgate:{{0000}}{:028x}", 7));
    Store::reset(&one, &[KeyHash(7)]).await.unwrap();
    assert_eq!(redis.ask(&["dbsize"]), "0");
}

#[tokio::test]
async fn limits_that_come_with_calls_are_decided_as_in_memory() {
    let redis = Redis::start(&[]);
    let store = connected(patient(redis.url())).await;
    let memory = MemoryStore::default();
    // Any numbers will do, the same each time.
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut now = Timestamp::from_secs(1_800_000_000);
    for step in 0..3_000 {
        now = Timestamp::from_nanos(now.as_nanos() + next(3_000_000) * 1_000);
        let interval = Nanos::new([142_857_143, 1, 999, 2_000_000_000, 3_600_000_000_000][index(next(5))]);
        let limit = Limit::from(Gcra::of_call(interval, 1 + next(12)).unwrap());
        let hits =
            [Hit::new(LimitId(1), KeyHash(next(3).into()), &limit)
                .with_cost(u32::try_from(next(14)).unwrap())];
        let groups = [Group::all(&hits)];
        let near = LocalStore::acquire_at(&memory, now, &groups).outcomes[0].decision;
        let far = Subject::acquire_at(&store, now, &groups).await.unwrap().outcomes[0].decision;
        assert_eq!(far, near, "{step}: {limit}");
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

#[tokio::test]
async fn a_server_that_forgot_the_script_is_sent_it_again() {
    let redis = Redis::start(&[]);
    let store = connected(patient(redis.url())).await;
    let limit = slow(3);
    for left in [2, 1, 0] {
        redis.ask(&["script", "flush"]);
        assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].decision.remaining, left);
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_told_apart() {
    let redis = Redis::start(&[]);
    let store = connected(patient(redis.url())).await;
    let unavailable = async |what: &str| match ask(&store, &slow(3), 7).await {
        Err(StoreError::Unavailable(why)) => assert!(why.contains(what), "{why}"),
        other => panic!("{what}: {other:?}"),
    };
    redis.ask(&["config", "set", "maxmemory", "1"]);
    unavailable("OOM").await;
    redis.ask(&["config", "set", "maxmemory", "0"]);
    // A primary that has become a replica: its connection is given up, so the next call may find another.
    redis.ask(&["replicaof", "127.0.0.1", "1"]);
    unavailable("read only").await;
    redis.ask(&["replicaof", "no", "one"]);
    until(async || ask(&store, &slow(3), 7).await.is_ok()).await;
    // What another program keeps there is a mistake that does not pass by itself.
    redis.ask(&["lpush", &format!("tollgate:{{0000}}{:028x}", 8), "x"]);
    assert!(matches!(
        ask(&store, &slow(3), 8).await,
        Ok(Answer { allowed: true, .. }) | Err(StoreError::Defect(_))
    ));
    let odd = Limit::gcra(Quota::new(9_007_199_254_740_881, Nanos::from_secs(60)).unwrap());
    assert!(matches!(ask(&store, &odd, 9).await, Err(StoreError::Defect(why)) if why.contains("exact")));
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let redis = Redis::start(&["--requirepass", "secret"]);
    let url = redis.url().replace("redis+unix://", "redis+unix://:wrong@");
    let store = RedisStore::new(&RedisOptions::new(redis.url())).unwrap();
    until(async || store.status().trouble.is_some()).await;
    let trouble = store.status().trouble.unwrap();
    assert!(trouble.to_lowercase().contains("auth"), "{trouble}");
    assert!(
        !RedisStore::new(&RedisOptions::new(url))
            .map_or_else(|e| e.to_string(), |s| s.address().to_owned())
            .contains("wrong")
    );
    let store = connected(patient(format!("{}?pass=secret", redis.url()))).await;
    assert!(ask(&store, &slow(1), 1).await.unwrap().allowed);
}

fn guarded_by(url: String, set: impl FnOnce(&mut GuardOptions)) -> Guarded<RedisStore> {
    let mut options = GuardOptions::default();
    set(&mut options);
    Guarded::new(RedisStore::new(&RedisOptions::new(url)).unwrap(), MemoryStore::default(), options)
}

fn guarded(url: String, on_failure: OnFailure) -> Guarded<RedisStore> {
    guarded_by(url, |options| options.on_failure = on_failure)
}

/// What a busy machine, which now and then stands still, may add to the twenty milliseconds that a call may take. A server that hangs does
/// so until it is told to go on.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_a_deadline_a_few_times_and_then_nothing() {
    let redis = Redis::start(&[]);
    let store = guarded_by(redis.url(), |options| options.share = Share::of(0, 2).unwrap());
    let limit = slow(10);
    until(async || {
        ask(&store, &limit, 7).await.is_ok_and(|answer| answer.outcomes[0].source == Source::Redis)
    })
    .await;
    redis.stop();
    let mut slowest = Duration::ZERO;
    let stopped = Instant::now();
    while store.phase() == Phase::Closed {
        let began = Instant::now();
        assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].source, Source::Fallback);
        slowest = slowest.max(began.elapsed());
        assert!(stopped.elapsed() < SLACK, "the breaker does not open");
    }
    assert!(slowest < SLACK, "{slowest:?}");
    let admitted = {
        let mut admitted = 0;
        for _ in 0..100 {
            admitted += u32::from(ask(&store, &limit, 9).await.unwrap().allowed);
        }
        admitted
    };
    assert_eq!(admitted, 5, "half of ten is this node's");
    redis.go_on();
    let went_on = Instant::now();
    until(async || ask(&store, &limit, 7).await.unwrap().outcomes[0].source == Source::Redis).await;
    assert!(went_on.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", went_on.elapsed());
}

#[tokio::test]
async fn three_nodes_without_a_store_admit_one_limit_between_them() {
    let place = Redis::nowhere();
    let nodes: Vec<_> = (0..3)
        .map(|node| guarded_by(place.url(), |options| options.share = Share::of(node, 3).unwrap()))
        .collect();
    let admitted = async |limit: &Limit, key: u128| {
        let mut admitted = 0;
        for node in &nodes {
            for _ in 0..20 {
                admitted += u64::from(ask(node, limit, key).await.unwrap().allowed);
            }
        }
        admitted
    };
    for (key, burst) in (0..).zip([10, 9, 2, 1]) {
        assert_eq!(admitted(&slow(burst), key).await, burst, "of {burst}");
    }
    // What was spent in the store before it died comes on top, once.
    let redis = Redis::start_at(&place, &[]);
    for node in &nodes {
        until(async || ask(node, &slow(10), 7).await.unwrap().outcomes[0].source == Source::Redis).await;
    }
    let with_store = admitted(&slow(10), 8).await;
    drop(redis);
    for node in &nodes {
        until(async || ask(node, &slow(10), 7).await.unwrap().outcomes[0].source == Source::Fallback).await;
    }
    assert_eq!((with_store, admitted(&slow(10), 8).await), (10, 10));
}

#[tokio::test]
async fn a_server_may_come_later_and_come_back() {
    let directory = Redis::nowhere();
    let store = guarded(directory.url(), OnFailure::default());
    let limit = slow(10);
    assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].source, Source::Fallback);
    for _ in 0..2 {
        let redis = Redis::start_at(&directory, &[]);
        until(async || ask(&store, &limit, 7).await.unwrap().outcomes[0].source == Source::Redis).await;
        drop(redis);
        until(async || ask(&store, &limit, 7).await.unwrap().outcomes[0].source == Source::Fallback).await;
    }
}

#[tokio::test]
async fn who_decides_in_an_outage_is_chosen() {
    let nowhere = Redis::nowhere();
    let limit = slow(1);
    let denying = guarded(nowhere.url(), OnFailure::Deny);
    for _ in 0..20 {
        assert!(matches!(ask(&denying, &limit, 7).await, Err(StoreError::Unavailable(_))));
    }
    let gracious = guarded(nowhere.url(), OnFailure::Allow { grace: Nanos::from_secs(3_600) });
    for _ in 0..20 {
        assert!(ask(&gracious, &limit, 7).await.unwrap().allowed);
    }
    let graceless = guarded(nowhere.url(), OnFailure::Allow { grace: Nanos::ZERO });
    assert!(ask(&graceless, &limit, 7).await.is_err());
}

#[tokio::test]
async fn each_group_of_a_request_has_its_own_choice() {
    let store = guarded(Redis::nowhere().url(), OnFailure::Deny);
    let limit = slow(3);
    let [one, other] = [1, 2].map(|key| [Hit::new(LimitId(key), KeyHash(key.into()), &limit)]);
    let group = |hits, on_failure| {
        let sharing = Sharing { consistency: None, on_failure: Some(on_failure) };
        Group { sharing, ..Group::all(hits) }
    };
    let allow = OnFailure::Allow { grace: Nanos::from_secs(3_600) };
    let mut admitted = 0;
    for _ in 0..10 {
        let answer = store.acquire(&[group(&one, allow), group(&other, OnFailure::Local)]).await.unwrap();
        assert_eq!(answer.outcomes.len(), 2);
        admitted += u32::from(answer.allowed);
    }
    assert_eq!(admitted, 3);
    // What says nothing denies here; but not if it only watches.
    assert!(store.acquire(&[group(&one, allow), Group::all(&other)]).await.is_err());
    let watching = Group { shadow: true, ..Group::all(&other) };
    assert!(store.acquire(&[group(&one, allow), watching]).await.unwrap().allowed);
}

#[tokio::test]
async fn what_was_taken_alone_is_given_back_alone() {
    let place = Redis::nowhere();
    let store = guarded(place.url(), OnFailure::Local);
    let limit = slow(3);
    let taken = ask(&store, &limit, 7).await.unwrap().outcomes[0];
    assert_eq!((taken.source, taken.decision.remaining), (Source::Fallback, 2));
    let grant = taken.grant.unwrap();
    let refund = Refund { key: KeyHash(7), limit: &limit, grant, source: taken.source };
    store.refund(&[refund]).await.unwrap();
    assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].decision.remaining, 2);
    // Nor is it given to the store once that is there.
    let redis = Redis::start_at(&place, &[]);
    until(async || ask(&store, &limit, 7).await.unwrap().outcomes[0].source == Source::Redis).await;
    let before = redis.ask(&["keys", "*"]);
    store.refund(&[refund]).await.unwrap();
    let left = store.peek(&[Group::all(&[Hit::new(LimitId(1), KeyHash(7), &limit)])]).await.unwrap();
    assert_eq!((left.outcomes[0].decision.remaining, redis.ask(&["keys", "*"])), (2, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lease_admit_the_limit_and_hardly_ever_wait() {
    const NODES: u32 = 2;
    let redis = Redis::start(&[]);
    let limit = slow(10_000);
    let mut options = LeaseOptions::default();
    (options.nodes, options.consistency) = (NODES, Consistency::Lease);
    let nodes: Vec<_> = (0..NODES)
        .map(|_| Leased::new(guarded(redis.url(), OnFailure::Deny), SystemClock::new(), options.clone()))
        .map(Arc::new)
        .collect();
    for node in &nodes {
        until(async || node.store().remote().status().is_connected).await;
    }
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let node = Arc::clone(&nodes[task % 2]);
        tasks.spawn(async move {
            let (mut admitted, mut refused) = (0_u64, 0);
            while refused < 100 {
                match ask(&*node, &limit, 7).await {
                    Ok(answer) if answer.allowed => (admitted, refused) = (admitted + 1, 0),
                    Ok(_) => refused += 1,
                    // Of hundreds of calls on a busy machine one may miss its deadline.
                    Err(_) => {}
                }
                tokio::task::yield_now().await;
            }
            admitted
        });
    }
    let admitted: u64 = tasks.join_all().await.into_iter().sum();
    // All but what two nodes may hold ahead; and what came back meanwhile, at one in an hour for each ten thousandth.
    assert!((9_500..=10_001).contains(&admitted), "{admitted}");
    for node in &nodes {
        node.hand_back().await;
        assert_eq!(node.pockets(), 0);
    }
}

/// What nodes hold of a quota is never more than the quota, lapses with its period, and is there again in the next: periods of three and
/// four seconds by turns, as no clock's windows are.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lease_from_a_calendar_admit_each_period_once() {
    const NODES: u32 = 2;
    const QUOTA: u64 = 1_000;
    const CARRIED: u64 = 300;
    let redis = Redis::start(&[]);
    let second = Nanos::from_secs(1).as_nanos();
    let begin = (SystemClock::new().now().as_nanos() / second - 7) * second;
    let calendar = Calendar::named("leased", Nanos::from_secs(4), || {
        let mut starts = Vec::new();
        for pair in 0..100 {
            for at in [0, 3] {
                let first = Timestamp::from_nanos(begin + (pair * 7 + at) * second);
                starts.push(Starts { first, step: Nanos::from_secs(4), count: 1 });
            }
        }
        starts
    });
    let plain = FixedWindow::by_calendar(QUOTA, calendar).unwrap();
    let carrying = plain.with_carry_over(CARRIED).unwrap();
    let windows = plain.windows();
    let mut options = LeaseOptions::default();
    (options.nodes, options.consistency) = (NODES, Consistency::Lease);
    let nodes: Vec<_> = (0..NODES)
        .map(|_| Leased::new(guarded(redis.url(), OnFailure::Deny), SystemClock::new(), options.clone()))
        .map(Arc::new)
        .collect();
    for node in &nodes {
        until(async || node.store().remote().status().is_connected).await;
    }
    let clock = SystemClock::new();
    let first = windows.start(clock.now());
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (node, clock) = (Arc::clone(&nodes[task % 2]), clock);
        let (limit, key) = [(Limit::FixedWindow(plain), 7), (Limit::FixedWindow(carrying), 8)][task / 2 % 2];
        tasks.spawn(async move {
            let (mut admitted, mut start, mut seen) = (0_u64, first, 0);
            // Three periods that were seen from their beginning.
            while seen < 3 {
                let now = clock.now();
                if windows.start(now) != start {
                    (start, seen) = (windows.start(now), seen + 1);
                }
                match ask(&*node, &limit, key).await {
                    Ok(answer) if answer.allowed => admitted += 1,
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
            (key, admitted)
        });
    }
    let admitted = tasks.join_all().await;
    let (mut periods, mut start, last) = (1, first, windows.start(clock.now()));
    while start != last {
        (periods, start) = (periods + 1, windows.next(start));
    }
    for (key, carried) in [(7, 0), (8, CARRIED)] {
        let sum: u64 = admitted.iter().filter(|(of, _)| *of == key).map(|(_, admitted)| admitted).sum();
        // What two nodes hold may lapse with a period, and a machine that stands still may miss one.
        assert!(sum > QUOTA, "{key}: {sum} in {periods} periods");
        assert!(sum <= QUOTA * periods + carried, "{key}: {sum} in {periods} periods");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_primary_dies_the_next_one_decides() {
    let mut watched = Watched::start();
    let mut options = RedisOptions::new(watched.url());
    options.deadline = Duration::from_millis(500);
    let store = RedisStore::new(&options).unwrap();
    let store = Guarded::new(store, MemoryStore::default(), GuardOptions::default());
    let limit = slow(1_000);
    let source = async || ask(&store, &limit, 7).await.unwrap().outcomes[0].source;
    until(async || source().await == Source::Redis).await;
    watched.kill_primary();
    let died = Instant::now();
    until(async || source().await == Source::Fallback).await;
    // The sentinels take half a second to notice and some more to agree.
    until(async || source().await == Source::Redis).await;
    println!("a new primary decided after {:?}", died.elapsed());
    // It is a primary: what is taken there stays taken.
    let left = async || ask(&store, &limit, 7).await.unwrap().outcomes[0].decision.remaining;
    let before = left().await;
    assert_eq!(left().await, before - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_moves_its_slots_and_loses_a_primary_decides_on() {
    const KEYS: u128 = 40;
    const ALL: u64 = 50 * 40;
    let mut cluster = Cluster::start();
    let store = Arc::new(connected(patient(cluster.url())).await);
    // All over the slots, and two limits of each identity.
    let key = |number: u128| number << 122 | number;
    let moved = AtomicBool::new(false);
    let mut admitted = [0; KEYS as usize];
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(cluster.move_slots());
            moved.store(true, Ordering::Release);
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while !moved.load(Ordering::Acquire) || admitted.iter().sum::<u64>() < ALL {
                    for number in 0..KEYS {
                        // What is on its way is refused for a moment.
                        let answer = ask(&*store, &slow(50), key(number)).await;
                        admitted[usize::try_from(number).unwrap()] +=
                            u64::from(answer.is_ok_and(|answer| answer.allowed));
                    }
                }
            });
        });
    });
    assert_eq!(admitted, [50; KEYS as usize]);

    cluster.kill_primary();
    let killed = Instant::now();
    for number in 0..KEYS {
        until(async || ask(&*store, &slow(50), key(number)).await.is_ok()).await;
    }
    println!("all keys were decided again after {:?}", killed.elapsed());
}

/// A server that only speaks TLS, and only to those who show a certificate.
#[cfg(feature = "redis-tls")]
#[tokio::test]
async fn both_sides_show_who_they_are() {
    use servers::{Authority, Member, free_ports, until_it_listens};

    let authority = Authority::new();
    let ports = free_ports(2);
    let (port, watching) = (ports[0].to_string(), ports[1].to_string());
    let [ca, certificate, key] = authority.paths();
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let _redis = Redis::start(&[&["--tls-port", &port, "--tls-auth-clients", "yes"], &files[..]].concat());
    until_it_listens(ports[0]);
    let read = |path: &str| std::fs::read(path).unwrap();
    let mut options = patient(format!("rediss://localhost:{port}"));
    options.connect_timeout = PATIENCE;
    options.tls.authorities = Some(read(&ca));
    options.tls.client = Some((read(&certificate), read(&key)));
    let store = connected(options.clone()).await;
    assert!(ask(&store, &slow(1), 1).await.unwrap().allowed);

    let place = Redis::nowhere();
    let settings = place.directory().join("sentinel.conf");
    let text = format!(
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel monitor limits localhost {port} 1\n"
    );
    std::fs::write(&settings, text).unwrap();
    let listens = ["--sentinel", "--port", "0", "--tls-port", &watching, "--tls-replication", "yes"];
    let arguments = [&[settings.to_str().unwrap()], &listens[..], &files].concat();
    let _sentinel = Member::start(ports[1], place.directory(), &arguments);
    let mut watched = options.clone();
    watched.url = format!("rediss+sentinel://localhost:{watching}/limits");
    let store = connected(watched).await;
    assert!(!ask(&store, &slow(1), 1).await.unwrap().allowed, "it is the same server");

    for (what, change) in [
        (
            "no certificate of ours",
            (|tls: &mut tollgate_store::redis::TlsOptions| tls.client = None) as fn(&mut _),
        ),
        ("nobody who vouches for the server", |tls| tls.authorities = None),
    ] {
        let mut options = options.clone();
        change(&mut options.tls);
        let store = RedisStore::new(&options).unwrap();
        until(async || store.status().trouble.is_some()).await;
        assert!(!store.status().is_connected, "{what}");
    }
}

#[test]
fn what_cannot_be_kept_is_said() {
    let count = |count, nanos| Quota::new(count, Nanos::new(nanos)).unwrap();
    for (limit, why) in [
        (Limit::fixed_window(count(1, 1_500)), "microseconds"),
        (Limit::sliding_log(count(20_000, 1_000_000_000)).unwrap(), "10000"),
        (Limit::gcra(count(9_007_199_254_740_881, 60_000_000_000)), "exact"),
        (
            Limit::from(TokenBucket::new(5, count(1, 7)).unwrap().with_refill(Refill::Interval).unwrap()),
            "microseconds",
        ),
    ] {
        assert!(RedisStore::supports(&limit).unwrap_err().to_string().contains(why), "{limit}");
    }
    let errors: HashSet<String> = ["", "ftp://x", "redis://:secret@[", "redis+sentinel://:secret@host:1"]
        .into_iter()
        .filter_map(|url| RedisStore::new(&RedisOptions::new(url)).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors.len(), 4);
    assert!(!errors.iter().any(|error| error.contains("secret")), "{errors:?}");
}
