//! Many at once, clocks that differ, and a server that hangs.

// Tests may panic.
#![allow(clippy::unwrap_used)]

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use server::{Memcached, PATIENCE};
use tollgate::guard::{GuardOptions, Guarded, Phase};
use tollgate::{
    Group, Hit, KeyHash, KeyedLimiter, Limit, LimitId, ManualClock, MemoryStore, Quota, Source, Store,
    StoreError, Timestamp, random_seed,
};
use tollgate_memcached::{MemcachedOptions, MemcachedStore};

fn patient(memcached: &Memcached) -> MemcachedOptions {
    let mut options = MemcachedOptions::new(memcached.address());
    options.deadline = PATIENCE;
    options
}

fn store(memcached: &Memcached) -> MemcachedStore {
    MemcachedStore::new(patient(memcached)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_on_two_nodes_get_exactly_what_there_is() {
    const HELD: u64 = 500;
    const OTHER: u64 = 1_500;

    let memcached = Memcached::start();
    // So slow that nothing comes back meanwhile.
    let slow = |capacity| Limit::token_bucket(capacity, Quota::per_day(1)).unwrap();
    let limits = Arc::new([slow(HELD), slow(OTHER)]);
    let nodes = [Arc::new(store(&memcached)), Arc::new(store(&memcached))];
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (node, limits) = (Arc::clone(&nodes[task % 2]), Arc::clone(&limits));
            tokio::spawn(async move {
                let mut admitted = 0_u64;
                loop {
                    // The wider limit comes first: what it gave is given back where the other refuses.
                    let hits = [
                        Hit::new(LimitId(0), KeyHash(1), &limits[1]),
                        Hit::new(LimitId(1), KeyHash(2), &limits[0]),
                    ];
                    match node.acquire(&[Group::all(&hits)]).await {
                        Ok(answer) if answer.allowed => admitted += 1,
                        Ok(_) => return admitted,
                        // Others came between too often: nothing was taken.
                        Err(error) => assert!(error.to_string().contains("meanwhile"), "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    assert_eq!(admitted, HELD);
    let hits = [Hit::new(LimitId(0), KeyHash(1), &limits[1]).with_cost(0)];
    let left = nodes[0].peek(&[Group::all(&hits)]).await.unwrap().outcomes[0].decision.remaining;
    assert_eq!(left, OTHER - HELD, "what was taken of one limit only was given back");
}

#[tokio::test]
async fn a_limiter_takes_gives_back_and_forgets() {
    let memcached = Memcached::start();
    let limiter = KeyedLimiter::<str, _>::with_store(Quota::per_day(3), store(&memcached));
    let reservation = limiter.reserve_async("ann", 3).await.unwrap().unwrap();
    assert!(!limiter.check_async("ann").await.unwrap().is_allowed());
    assert!(limiter.check_async("bob").await.unwrap().is_allowed());
    limiter.refund_async(reservation).await.unwrap();
    assert_eq!(limiter.status_async("ann").await.unwrap().remaining, 3);
    assert!(limiter.check_n_async("ann", 3).await.unwrap().is_allowed());
    limiter.reset_async("ann").await.unwrap();
    assert!(limiter.check_async("ann").await.unwrap().is_allowed());
}

#[tokio::test]
async fn a_node_whose_clock_is_behind_opens_no_way_past_the_limit() {
    let memcached = Memcached::start();
    let (clock, limit, seed) =
        (ManualClock::new(Timestamp::from_secs(1_000_000)), Quota::per_minute(10), random_seed());
    let behind = ManualClock::new(Timestamp::from_nanos(1_000_000_000_000_000 - 900_000_000));
    let node = |clock: &ManualClock| {
        let store = MemcachedStore::with_clock(patient(&memcached), clock.clone()).unwrap();
        KeyedLimiter::<str, _>::with_seed(limit, store, &seed)
    };
    let (node, other) = (node(&clock), node(&behind));
    let mut admitted = 0;
    for _ in 0..50 {
        for limiter in [&node, &other] {
            admitted += u32::from(limiter.check_async("ann").await.unwrap().is_allowed());
        }
    }
    assert_eq!(admitted, 10);
    // Ten come back in a minute, whoever's.
    for clock in [&clock, &behind] {
        clock.advance(Duration::from_mins(1));
    }
    for _ in 0..50 {
        for limiter in [&other, &node] {
            admitted += u32::from(limiter.check_async("ann").await.unwrap().is_allowed());
        }
    }
    assert_eq!(admitted, 20);
}

#[tokio::test]
async fn what_hangs_is_unavailable_by_the_deadline_and_the_guard_goes_on() {
    let memcached = Memcached::start();
    let store = MemcachedStore::new(MemcachedOptions::new(memcached.address())).unwrap();
    let guarded = Guarded::new(store, MemoryStore::default(), GuardOptions::default());
    let limit = Limit::gcra(Quota::per_minute(1_000));
    let source = async || {
        let hits = [Hit::new(LimitId(0), KeyHash(1), &limit)];
        guarded.acquire(&[Group::all(&hits)]).await.unwrap().outcomes[0].source
    };
    let until = async |wanted: Source| {
        let began = Instant::now();
        while source().await != wanted {
            assert!(began.elapsed() < PATIENCE, "{wanted:?} does not decide");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until(Source::Custom).await;
    memcached.stop();
    let hits = [Hit::new(LimitId(0), KeyHash(1), &limit)];
    // It does not stop at once.
    let began = Instant::now();
    let error = loop {
        match guarded.remote().acquire(&[Group::all(&hits)]).await {
            Err(error) => break error,
            Ok(_) => assert!(began.elapsed() < PATIENCE, "it does not stop"),
        }
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    until(Source::Fallback).await;
    // After a few failures it is not even asked.
    while guarded.phase() == Phase::Closed {
        source().await;
    }
    memcached.go_on();
    until(Source::Custom).await;
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let mut options = MemcachedOptions::new("127.0.0.1:1");
    options.prefix = "two words".to_owned();
    assert!(
        matches!(MemcachedStore::new(options), Err(StoreError::Defect(why)) if why.contains("two words"))
    );

    let memcached = Memcached::start();
    let store = store(&memcached);
    let ask = async |limit: &Limit| {
        let hits = [Hit::new(LimitId(0), KeyHash(1), limit)];
        store.acquire(&[Group::all(&hits)]).await.unwrap_err().to_string()
    };
    let large = Limit::sliding_log(Quota::per_hour(1_000_000)).unwrap();
    assert!(ask(&large).await.contains("does not fit memcached"));
    assert_eq!(
        memcached.ask("set tollgate:00000000000000000000000000000001 0 0 3\r\nwho", "STORED"),
        Vec::<String>::new()
    );
    assert!(ask(&Limit::gcra(Quota::per_minute(1))).await.contains("remove it"));

    let nowhere = MemcachedStore::new(MemcachedOptions::new("127.0.0.1:1")).unwrap();
    let hits = [Hit::new(LimitId(0), KeyHash(1), &Limit::Unlimited)];
    assert!(nowhere.acquire(&[Group::all(&hits)]).await.unwrap().allowed, "needs no state");
}
