//! What becomes of decisions when PostgreSQL, or the way to it, goes wrong.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/proxy.rs"]
mod proxy;
mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use postgres::Postgres;
use proxy::{Fault, Proxy, Watched};
use stores::{
    PLENTY, ask, calls_that_are_given_up, connected_to_postgres, patient_on_postgres, remaining, slow, until,
};
use tokio::task::JoinSet;
use tollgate_core::{Limit, Share, Source};
use tollgate_store::guard::{GuardOptions, Guarded, Phase};
use tollgate_store::postgres::{PostgresOptions, PostgresStore};
use tollgate_store::{MemoryStore, StoreError};

/// What is left for a key, by a way on which nothing goes wrong.
async fn left(server: &Postgres, limit: &Limit, key: u128) -> u64 {
    remaining(&connected_to_postgres(patient_on_postgres(server.url())).await, limit, key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_ended_are_laid_again_and_nothing_counts_twice() {
    let server = Postgres::start(&[]);
    let store = Arc::new(connected_to_postgres(patient_on_postgres(server.url())).await);
    let limit = slow(PLENTY);
    let (asked, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        let (asked, answered) = (Arc::clone(&asked), Arc::clone(&answered));
        tasks.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                asked.fetch_add(1, Ordering::SeqCst);
                match ask(&*store, &limit, 7).await {
                    Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                    Err(StoreError::Unavailable(_)) => 0,
                    Err(other) => panic!("{other}"),
                };
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..5 {
        let before = answered.load(Ordering::SeqCst);
        until(async || answered.load(Ordering::SeqCst) > before + 50).await;
        let ended = server.ask(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'tollgate'",
        );
        assert!(ended.parse::<u32>().unwrap() > 0);
    }
    let before = answered.load(Ordering::SeqCst);
    until(async || answered.load(Ordering::SeqCst) > before + 50).await;
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    let counted = PLENTY - left(&server, &limit, 7).await;
    let (asked, answered) = (asked.load(Ordering::SeqCst), answered.load(Ordering::SeqCst));
    assert!((answered..=asked).contains(&counted), "{answered} to {asked}, {counted} were counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_outlives_the_server() {
    let mut server = Postgres::start(&[]);
    let store = PostgresStore::new(&patient_on_postgres(server.url())).unwrap();
    let mut options = GuardOptions::default();
    options.share = Share::of(0, 2).unwrap();
    let store = Guarded::new(store, MemoryStore::default(), options);
    let limit = slow(100);
    let source = async |key| ask(&store, &limit, key).await.unwrap().outcomes[0].source;
    until(async || source(1).await == Source::Postgres).await;
    for left in (96..99).rev() {
        assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].decision.remaining, left + 1);
    }
    server.end();
    until(async || source(1).await == Source::Fallback).await;
    // Half of it is this node's.
    assert_eq!(ask(&store, &limit, 8).await.unwrap().outcomes[0].decision.limit, 50);
    server.start_again();
    until(async || source(1).await == Source::Postgres).await;
    assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].decision.remaining, 96);
    server.crash();
    server.start_again();
    until(async || source(1).await == Source::Postgres).await;
    assert_eq!(ask(&store, &limit, 7).await.unwrap().outcomes[0].decision.remaining, 95);
}

/// A deadline that passes soon where nothing is answered, and that a busy machine keeps where something is.
fn hurried(url: String) -> PostgresOptions {
    let mut options = PostgresOptions::new(url);
    options.deadline = Duration::from_millis(500);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_waited_for_a_few_times_and_asked_again_when_it_goes_on() {
    let server = Postgres::start(&[]);
    let store = PostgresStore::new(&hurried(server.url())).unwrap();
    let store = Guarded::new(store, MemoryStore::default(), GuardOptions::default());
    let limit = slow(100_000);
    let source = async || ask(&store, &limit, 7).await.unwrap().outcomes[0].source;
    until(async || source().await == Source::Postgres).await;
    for _ in 0..2 {
        server.stop();
        until(async || source().await == Source::Fallback && store.phase() != Phase::Closed).await;
        server.go_on();
        until(async || source().await == Source::Postgres).await;
    }
}

/// A key whose bytes are not to be found in anything else that is sent.
const KEY: [u8; 16] = *b"the key of tests";

/// Asks one after the other while answers are lost, and compares what the server counted with what it was asked.
async fn lose(calls: u64, one_in: u64, closes: bool) {
    let server = Postgres::start(&[]);
    let proxy = Proxy::watching(server.socket(), Watched { call: &KEY, answer: b'2' }).await;
    let mut options =
        PostgresOptions::new(format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port()));
    (options.deadline, options.connections) = (Duration::from_millis(250), 2);
    options.connect_timeout = stores::PATIENCE;
    let store = connected_to_postgres(options).await;
    let (limit, key) = (slow(PLENTY), u128::from_be_bytes(KEY));
    let mut answered = u64::from(ask(&store, &limit, key).await.is_ok());
    proxy.set(Fault::LoseAnswers { one_in, closes });
    let mut asked = 1;
    for _ in 0..calls {
        // What is asked while there is no connection does not reach the server.
        until(async || store.status().is_connected).await;
        asked += 1;
        answered += u64::from(ask(&store, &limit, key).await.is_ok());
    }
    proxy.set(Fault::None);
    let counted = PLENTY - left(&server, &limit, key).await;
    assert!(proxy.lost() >= calls / one_in / 2, "{}", proxy.lost());
    // On a busy machine some answers come, but too late.
    assert!(
        (answered..=asked).contains(&counted),
        "{answered} to {asked} calls have reached the server, {counted} were counted"
    );
    assert!(counted >= answered + proxy.lost(), "what was lost on the way back was counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_is_lost_counts_once() {
    lose(2_000, 20, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_sent_again_when_there_is_only_silence() {
    lose(100, 20, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_counts_once_or_not_at_all() {
    let server = Postgres::start(&[]);
    let store = Arc::new(connected_to_postgres(patient_on_postgres(server.url())).await);
    let fresh = connected_to_postgres(patient_on_postgres(server.url())).await;
    calls_that_are_given_up(store, &fresh, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_on_which_nothing_comes_through_is_laid_again() {
    let server = Postgres::start(&[]);
    for fault in [Fault::BlackHole, Fault::Reset] {
        let proxy = Proxy::watching(server.socket(), Watched { call: &KEY, answer: b'2' }).await;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
        let store = PostgresStore::new(&hurried(url)).unwrap();
        let store = Guarded::new(store, MemoryStore::default(), GuardOptions::default());
        let limit = slow(100_000);
        let source = async || ask(&store, &limit, 1).await.unwrap().outcomes[0].source;
        until(async || source().await == Source::Postgres).await;
        proxy.set(fault);
        until(async || source().await == Source::Fallback && store.phase() != Phase::Closed).await;
        proxy.set(Fault::None);
        until(async || source().await == Source::Postgres).await;
    }
}
