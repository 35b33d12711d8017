//! Stores on servers of tests, and how they are asked.

// No test file uses all of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, LimitId};
use tollgate_store::redis::{RedisOptions, RedisStore};
use tollgate_store::{Store, StoreError};

/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Options that do not mind a busy machine.
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

/// A store that has reached its server.
pub(crate) async fn connected(options: RedisOptions) -> RedisStore {
    let store = RedisStore::new(&options).unwrap();
    until(async || store.status().is_connected).await;
    store
}

/// Asks for one unit of a key.
pub(crate) async fn ask(store: &impl Store, limit: &Limit, key: u128) -> Result<Answer, StoreError> {
    store.acquire(&[Group::all(&[Hit::new(LimitId(1), KeyHash(key), limit)])]).await
}
