//! A store that ends in every way, and what is found then.

use std::path::Path;
use std::time::Duration;

use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, ManualClock, Quota, Timestamp};

use super::*;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);

fn clock() -> ManualClock {
    ManualClock::new(START)
}

fn open(directory: &Path, clock: &ManualClock) -> DurableStore<ManualClock> {
    DurableStore::open_with_clock(directory, &slow(), clock.clone()).unwrap()
}

/// Flushes only when told to.
fn slow() -> DurableOptions {
    DurableOptions { flush_interval: FLUSH_INTERVAL_MAX, ..DurableOptions::default() }
}

fn take<C: Clock + Send + Sync>(store: &DurableStore<C>, limit: &Limit, key: u128) -> bool {
    store.acquire(&[Group::all(&[Hit::new(LimitId(1), KeyHash(key), limit)])]).allowed
}

#[test]
fn a_limit_holds_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, limit) = (clock(), Limit::gcra(Quota::per_minute(3)));
    let store = open(directory.path(), &clock);
    assert!(take(&store, &limit, 7) && take(&store, &limit, 7));
    store.close().unwrap();

    clock.advance(Duration::from_secs(20));
    let store = open(directory.path(), &clock);
    assert_eq!(store.recovery().keys, 1);
    // Two were taken, and one has come back meanwhile.
    assert!(take(&store, &limit, 7) && take(&store, &limit, 7));
    assert!(!take(&store, &limit, 7));
}
