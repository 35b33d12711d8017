//! Stores on servers of tests, and how they are asked.

// No test file uses all of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, LimitId};
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
