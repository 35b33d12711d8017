//! Permits in memory, on a real Redis and on a real PostgreSQL: both do what the rules say, at any time, and many at once.

#![cfg(all(feature = "redis", feature = "postgres"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "servers/postgres.rs"]
mod postgres;
mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postgres::Postgres;
use servers::Redis;
use stores::{PATIENCE, connected, connected_to_postgres, patient, patient_on_postgres, until};
use tollgate_core::concurrency::{Admission, Concurrency, Holders, PermitId, PermitRequest};
use tollgate_core::{KeyHash, ManualClock, Nanos, Timestamp};
use tollgate_store::StoreError;
use tollgate_store::conformance::Subject;
use tollgate_store::permits::{MemoryPermits, PermitStore, PermitUsage, acquire_in_turn, permit_id};
use tollgate_store::postgres::PostgresStore;
use tollgate_store::redis::RedisStore;

async fn redis(server: &Redis) -> RedisStore {
    connected(patient(server.url())).await
}

async fn postgres(server: &Postgres) -> PostgresStore {
    connected_to_postgres(patient_on_postgres(server.url())).await
}

/// Numbers that are the same each time (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Runs histories on a store, and on the rules themselves.
async fn is_as_the_rules_are(store: &impl PermitStore, histories: u64, tell: impl AsyncFn(Timestamp)) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for history in 0..histories {
        let key = KeyHash(u128::from(history) << 64 | u128::from(history) << 112);
        let (mut holders, mut now) = (Holders::default(), Timestamp::from_secs(4_000_000_000));
        let limit = |random: &mut Random| {
            let (most, ttl) = (random.below(6), 1 + random.below(5));
            Concurrency::new(u32::try_from(most).unwrap(), Nanos::from_secs(ttl)).unwrap()
        };
        let mut own = limit(&mut random);
        for step in 0..30 {
            let id = PermitId(u128::from(random.below(8)));
            tell(now).await;
            let context = format!("history {history}, step {step}, {own:?}, {id:?}, {holders:?}");
            match random.below(12) {
                0..6 => {
                    let units = NonZeroU32::new(1 + u32::try_from(random.below(3)).unwrap()).unwrap();
                    let patience = Nanos::from_secs(random.below(6));
                    let request = PermitRequest { id, units, patience };
                    let expected = own.acquire(&mut holders, now, &request);
                    assert_eq!(
                        PermitStore::acquire(store, key, &own, &request).await,
                        Ok(expected),
                        "{context}"
                    );
                }
                6..8 => {
                    let expected = own.renew(&mut holders, now, id);
                    assert_eq!(store.renew(key, &own, id).await, Ok(expected), "{context}");
                }
                8..10 => {
                    let expected = holders.release(now, id);
                    assert_eq!(store.release(key, id).await, Ok(expected), "{context}");
                }
                10 => now = now.saturating_add(Nanos::from_millis(random.below(4_000))),
                // The limit is changed while permits are held.
                _ => own = limit(&mut random),
            }
            let usage = PermitUsage { in_use: holders.in_use(now), awaited: holders.awaited(now) };
            tell(now).await;
            assert_eq!(store.usage(key).await, Ok(usage), "{context}");
        }
    }
}

#[tokio::test]
async fn in_memory_the_rules_hold() {
    let clock = ManualClock::default();
    let store = MemoryPermits::with_clock(clock.clone(), 100_000);
    is_as_the_rules_are(&store, 5_000, async |now| clock.set(now)).await;
}

#[tokio::test]
async fn on_redis_the_rules_hold() {
    let server = Redis::start(&[]);
    let store = redis(&server).await;
    is_as_the_rules_are(&store, 100, async |now| drop(store.acquire_at(now, &[]).await)).await;
}

#[tokio::test]
async fn on_postgres_the_rules_hold() {
    let server = Postgres::start(&["synchronous_commit=off"]);
    let store = postgres(&server).await;
    is_as_the_rules_are(&store, 100, async |now| drop(store.acquire_at(now, &[]).await)).await;
}

/// Many want one of three, on stores that share them. Never more than three have one, and all get theirs.
async fn shared_by_many(stores: Vec<Arc<impl PermitStore + 'static>>) {
    let limit = Concurrency::new(3, Nanos::from_secs(60)).unwrap();
    let held = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|number: usize| {
            let (store, held) = (Arc::clone(&stores[number % stores.len()]), Arc::clone(&held));
            tokio::spawn(async move {
                for _ in 0..5 {
                    let request = PermitRequest::new(permit_id());
                    let admission = acquire_in_turn(&*store, KeyHash(1), &limit, &request, PATIENCE).await;
                    assert!(admission.unwrap().is_granted());
                    assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    held.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(store.release(KeyHash(1), request.id).await, Ok(true));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(stores[0].usage(KeyHash(1)).await, Ok(PermitUsage::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_have_their_turns() {
    let store = Arc::new(MemoryPermits::new(1_000));
    shared_by_many(vec![Arc::clone(&store)]).await;
    assert!(store.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_of_two_nodes_have_their_turns() {
    let server = Redis::start(&[]);
    shared_by_many(vec![Arc::new(redis(&server).await), Arc::new(redis(&server).await)]).await;
    // Nothing is left.
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_of_two_nodes_on_postgres_have_their_turns() {
    let server = Postgres::start(&["synchronous_commit=off"]);
    shared_by_many(vec![Arc::new(postgres(&server).await), Arc::new(postgres(&server).await)]).await;
    assert_eq!(server.ask("select count(*) from tollgate.permit").trim(), "0");
}

#[tokio::test]
async fn what_has_lapsed_is_removed_from_postgres() {
    let server = Postgres::start(&["synchronous_commit=off"]);
    let mut options = patient_on_postgres(server.url());
    options.sweep_interval = Duration::from_millis(20);
    let store = connected_to_postgres(options).await;
    let limit = Concurrency::new(1, Nanos::from_millis(1)).unwrap();
    for key in 0..100 {
        let request = PermitRequest::new(permit_id());
        assert!(PermitStore::acquire(&store, KeyHash(key), &limit, &request).await.unwrap().is_granted());
    }
    until(async || server.ask("select count(*) from tollgate.permit").trim() == "0").await;
}

#[tokio::test]
async fn every_key_of_redis_has_an_end() {
    let server = Redis::start(&[]);
    let store = redis(&server).await;
    let limit = Concurrency::new(1, Nanos::from_secs(600)).unwrap();
    for (id, patience) in [(1, 0), (2, 900)] {
        let patience = Nanos::from_secs(patience);
        let request = PermitRequest { patience, ..PermitRequest::new(PermitId(id)) };
        PermitStore::acquire(&store, KeyHash(1), &limit, &request).await.unwrap();
    }
    let keys = server.ask(&["KEYS", "*"]);
    assert_eq!(keys.lines().count(), 3, "{keys:?}");
    for key in keys.lines() {
        let seconds: i64 = server.ask(&["TTL", key]).parse().unwrap();
        assert!((890..=902).contains(&seconds), "{key}: {seconds}");
    }
}

#[tokio::test]
async fn in_memory_there_are_only_so_many() {
    let clock = ManualClock::default();
    let store = MemoryPermits::with_clock(clock.clone(), 100);
    let limit = Concurrency::new(1, Nanos::from_secs(10)).unwrap();
    for key in 0..100 {
        let admission = store.acquire(KeyHash(key), &limit, &PermitRequest::new(permit_id())).await.unwrap();
        assert_eq!(admission, Admission::Granted { lasts: Nanos::from_secs(10) });
    }
    let one_more = store.acquire(KeyHash(100), &limit, &PermitRequest::new(permit_id())).await;
    assert!(matches!(one_more, Err(StoreError::Unavailable(_))), "{one_more:?}");
    // What has lapsed makes room, whichever keys are asked for.
    clock.advance(Duration::from_secs(10));
    for key in 200..10_000 {
        let request = PermitRequest::new(permit_id());
        assert!(store.acquire(KeyHash(key), &limit, &request).await.unwrap().is_granted(), "{key}");
        assert!(store.release(KeyHash(key), request.id).await.unwrap());
    }
}

#[tokio::test]
async fn in_memory_a_full_store_goes_on_for_those_who_are_in_it() {
    let store = MemoryPermits::with_clock(ManualClock::default(), 2);
    let limit = Concurrency::new(1, Nanos::from_secs(10)).unwrap();
    let (held, waiting) = (PermitRequest::new(PermitId(1)), PermitRequest::new(PermitId(2)));
    let waiting = PermitRequest { patience: Nanos::from_secs(10), ..waiting };
    assert!(store.acquire(KeyHash(1), &limit, &held).await.unwrap().is_granted());
    assert!(!store.acquire(KeyHash(1), &limit, &waiting).await.unwrap().is_granted());
    // Both ask again, as after an answer that was lost, and while they wait.
    assert!(store.acquire(KeyHash(1), &limit, &held).await.unwrap().is_granted());
    assert!(!store.acquire(KeyHash(1), &limit, &waiting).await.unwrap().is_granted());
    let other = store.acquire(KeyHash(2), &limit, &PermitRequest::new(PermitId(3))).await;
    assert!(matches!(other, Err(StoreError::Unavailable(_))), "{other:?}");
    assert_eq!(store.len(), 2);
}

#[tokio::test]
async fn in_memory_nothing_is_kept_for_those_who_have_no_place_in_line() {
    let clock = ManualClock::default();
    let store = MemoryPermits::with_clock(clock.clone(), 100);
    let limit = Concurrency::new(1, Nanos::from_secs(10)).unwrap();
    assert!(store.acquire(KeyHash(1), &limit, &PermitRequest::new(PermitId(0))).await.unwrap().is_granted());
    let patience = Nanos::from_secs(1);
    for id in 1..1_000 {
        // Two units there will never be; one there may, but who asked has gone before the next asks.
        let units = NonZeroU32::new(1 + u32::try_from(id % 2).unwrap()).unwrap();
        let request = PermitRequest { id: PermitId(id), units, patience };
        assert!(!store.acquire(KeyHash(1), &limit, &request).await.unwrap().is_granted());
        clock.advance(Duration::from_millis(600));
        PermitStore::renew(&store, KeyHash(1), &limit, PermitId(0)).await.unwrap();
    }
    let told = format!("{store:?}");
    assert!(told.matches("Notify").count() <= 2, "{told}");
}
