//! What becomes of decisions when the way to Redis goes wrong.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "servers/proxy.rs"]
mod proxy;
mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proxy::{Fault, Proxy};
use servers::Redis;
use stores::{PATIENCE, PLENTY, ask, calls_that_are_given_up, connected, patient, remaining, slow, until};
use tokio::task::JoinSet;
use tollgate_core::{Limit, Share, Source};
use tollgate_store::MemoryStore;
use tollgate_store::guard::{GuardOptions, Guarded, Phase};
use tollgate_store::redis::{RedisOptions, RedisStore};

/// What a busy machine, which now and then stands still, may add to a deadline of a fifth of a second. Without one it would take until
/// the fault is over, which is never.
const SLACK: Duration = Duration::from_secs(5);

const DEADLINE: Duration = Duration::from_millis(200);

/// A server, and a store that reaches it by a way that can go wrong.
async fn far(deadline: Duration) -> (Redis, Proxy, RedisStore) {
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(redis.socket()).await;
    let mut options = RedisOptions::new(proxy.url());
    options.deadline = deadline;
    let store = connected(options).await;
    (redis, proxy, store)
}

/// What is left for a key, by a way on which nothing goes wrong.
async fn left(redis: &Redis, limit: &Limit, key: u128) -> u64 {
    remaining(&connected(patient(redis.url())).await, limit, key).await
}

/// Asks one after the other while answers are lost, and compares what the server counted with what it was asked.
async fn lose(calls: u64, one_in: u64, closes: bool) {
    // Where the connection ends, nobody waits in vain; and a call that is only late must not be taken for one that is lost.
    let deadline = if closes { PATIENCE } else { Duration::from_millis(100) };
    let (redis, proxy, store) = far(deadline).await;
    let limit = slow(PLENTY);
    assert!(ask(&store, &limit, 1).await.unwrap().allowed);
    proxy.set(Fault::LoseAnswers { one_in, closes });
    let (mut answered, mut asked) = (1, 0);
    while asked < calls {
        // What is asked while there is no connection does not reach the server.
        until(async || store.status().is_connected).await;
        asked += 1;
        answered += u64::from(ask(&store, &limit, 1).await.is_ok());
    }
    proxy.set(Fault::None);
    let counted = PLENTY - left(&redis, &limit, 1).await;
    assert!(proxy.lost() >= calls / one_in / 2, "{}", proxy.lost());
    let known = answered + proxy.lost();
    // Into the silence more calls are made, until it is noticed; they may reach the server.
    let most = if closes { known } else { 1 + calls };
    assert!(
        (known..=most).contains(&counted),
        "{known} to {most} calls have reached the server, {counted} were counted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_is_lost_counts_once() {
    lose(10_000, 20, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_sent_again_when_there_is_only_silence() {
    lose(400, 20, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_counts_once_or_not_at_all() {
    let redis = Redis::start(&[]);
    let store = Arc::new(connected(patient(redis.url())).await);
    calls_that_are_given_up(store, &connected(patient(redis.url())).await, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_the_acknowledgement_of_another() {
    let (_redis, proxy, store) = far(PATIENCE).await;
    let store = Arc::new(store);
    let limit = slow(PLENTY);
    assert!(ask(&*store, &limit, 1).await.unwrap().allowed);
    // Nothing goes back that could carry an acknowledgement, so one by itself would take 40 ms.
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let mut least = PATIENCE;
    for _ in 0..10 {
        let before = proxy.scripts();
        let call = || {
            let store = Arc::clone(&store);
            tokio::spawn(async move { ask(&*store, &limit, 1).await.unwrap() })
        };
        let one = call();
        until(async || proxy.scripts() > before).await;
        let began = Instant::now();
        let other = call();
        until(async || proxy.scripts() > before + 1).await;
        least = least.min(began.elapsed());
        let _ = (one.await.unwrap(), other.await.unwrap());
    }
    assert!(least < Duration::from_millis(20), "{least:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_a_decision_comes_in_time_and_the_store_is_asked_again_soon() {
    for fault in [Fault::BlackHole, Fault::Drip, Fault::Reset, Fault::Delay(PATIENCE)] {
        let (_redis, proxy, store) = far(DEADLINE).await;
        let mut options = GuardOptions::default();
        options.share = Share::of(0, 2).unwrap();
        let store = Guarded::new(store, MemoryStore::default(), options);
        let limit = slow(100);
        let source = async || ask(&store, &limit, 1).await.unwrap().outcomes[0].source;
        until(async || source().await == Source::Redis).await;
        proxy.set(fault);
        let began = Instant::now();
        while store.phase() == Phase::Closed {
            let asked = Instant::now();
            source().await;
            assert!(asked.elapsed() < DEADLINE + SLACK, "{fault:?}: {:?}", asked.elapsed());
        }
        assert!(began.elapsed() < 5 * DEADLINE + SLACK, "{fault:?}: open after {:?}", began.elapsed());
        let asked = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(source().await, Source::Fallback);
        }
        assert!(asked.elapsed() < SLACK, "{fault:?}: {:?} for a thousand", asked.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
        proxy.set(Fault::None);
        let healed = Instant::now();
        until(async || source().await == Source::Redis).await;
        println!("{fault:?}: open after {:?}, back after {:?}", asked - began, healed.elapsed());
        assert!(
            healed.elapsed() < Duration::from_secs(2) + SLACK,
            "{fault:?}: back after {:?}",
            healed.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_come_back_with_one_attempt_each_at_a_time() {
    const CLIENTS: u64 = 100;
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(redis.socket()).await;
    let stores: Vec<_> =
        (0..CLIENTS).map(|_| Arc::new(RedisStore::new(&RedisOptions::new(proxy.url())).unwrap())).collect();
    for store in &stores {
        until(async || store.status().is_connected).await;
    }
    let (before, _) = proxy.connections();
    proxy.set(Fault::Reset);
    // All of them ask all the time, as those do who do not know.
    let mut tasks = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    for store in &stores {
        let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let _ = ask(&*store, &slow(1), 1).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.set(Fault::None);
    let healed = Instant::now();
    for store in &stores {
        until(async || store.status().is_connected).await;
    }
    let back = healed.elapsed();
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let (after, at_once) = proxy.connections();
    println!(
        "{} attempts in three seconds, at most {at_once} at once, all back after {back:?}",
        after - before
    );
    assert!(at_once <= CLIENTS, "{at_once} at once");
    // Pauses of a second at most, half a second in the middle: some six to ten attempts each.
    assert!(after - before < 15 * CLIENTS, "{}", after - before);
    assert!(back < Duration::from_secs(2), "{back:?}");
}
