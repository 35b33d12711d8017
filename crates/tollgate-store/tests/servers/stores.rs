//! Stores on servers of tests, and how they are asked.

// No test file uses all of it.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, LimitId, Quota};
#[cfg(feature = "postgres")]
use tollgate_store::postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "redis")]
use tollgate_store::redis::{RedisOptions, RedisStore};
use tollgate_store::{Store, StoreError};

/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Options that do not mind a busy machine.
#[cfg(feature = "redis")]
pub(crate) fn patient(url: String) -> RedisOptions {
    let mut options = RedisOptions::new(url);
    options.deadline = PATIENCE;
    options
}

/// Waits until something has happened.
pub(crate) async fn until(happened: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !happened().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The same for PostgreSQL.
#[cfg(feature = "postgres")]
pub(crate) fn patient_on_postgres(url: String) -> PostgresOptions {
    let mut options = PostgresOptions::new(url);
    (options.deadline, options.connect_timeout) = (PATIENCE, PATIENCE);
    options
}

/// A store on PostgreSQL that has reached its server.
#[cfg(feature = "postgres")]
pub(crate) async fn connected_to_postgres(options: PostgresOptions) -> PostgresStore {
    let store = PostgresStore::new(&options).unwrap();
    until(async || store.status().is_connected).await;
    store
}

/// A store that has reached its server.
#[cfg(feature = "redis")]
pub(crate) async fn connected(options: RedisOptions) -> RedisStore {
    let store = RedisStore::new(&options).unwrap();
    until(async || store.status().is_connected).await;
    store
}

/// Asks for one unit of a key.
pub(crate) async fn ask(store: &impl Store, limit: &Limit, key: u128) -> Result<Answer, StoreError> {
    store.acquire(&[Group::all(&[Hit::new(LimitId(1), KeyHash(key), limit)])]).await
}

/// More than any test takes.
pub(crate) const PLENTY: u64 = 500_000;

/// One an hour: nothing comes back while a test runs.
pub(crate) fn slow(burst: u64) -> Limit {
    Limit::gcra_with_burst(Quota::per_hour(1), burst).unwrap()
}

/// What is left for a key.
pub(crate) async fn remaining(store: &impl Store, limit: &Limit, key: u128) -> u64 {
    let hits = [Hit::new(LimitId(1), KeyHash(key), limit).with_cost(0)];
    store.peek(&[Group::all(&hits)]).await.unwrap().outcomes[0].decision.remaining
}

/// Makes calls and drops each wherever it is; asks another store on the same server what was counted.
pub(crate) async fn calls_that_are_given_up<S: Store + 'static>(store: Arc<S>, fresh: &S, calls: u64) {
    let limit = slow(PLENTY);
    let done = Arc::new(AtomicBool::new(false));
    // Meanwhile others must be told what is theirs.
    let witness = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                asked += 1;
                let answer = ask(&*store, &limit, 2).await.unwrap();
                assert_eq!(answer.outcomes[0].decision.remaining, PLENTY - asked);
            }
            asked
        })
    };
    let mut answered = 0;
    for round in 0..calls {
        let call = ask(&*store, &limit, 1);
        // Polled once, twice …, and then dropped wherever it is.
        let polls = async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            answer = call => answered += u64::from(answer.unwrap().allowed),
            () = polls => {}
        }
    }
    done.store(true, Ordering::Relaxed);
    assert!(witness.await.unwrap() > 0);
    let counted = PLENTY - remaining(fresh, &limit, 1).await;
    assert!((answered..=calls).contains(&counted), "{answered} answered, {counted} counted");
    // Nothing is held by those who went.
    for count in 1..200 {
        assert_eq!(ask(&*store, &limit, 3).await.unwrap().outcomes[0].decision.remaining, PLENTY - count);
    }
}
