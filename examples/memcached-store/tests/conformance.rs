//! The store against the model, on a real Memcached.

// Tests may panic.
#![allow(clippy::unwrap_used)]

mod server;

use std::time::Duration;

use server::{Memcached, PATIENCE};
use tollgate::conformance::{Options, Subject, run};
use tollgate::{Answer, Group, KeyHash, ManualClock, Refund, Store, StoreError, Timestamp};
use tollgate_memcached::{MemcachedOptions, MemcachedStore};

/// The store, told the time.
struct Told(MemcachedStore<ManualClock>);

impl Subject for Told {
    async fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.0.clock().set(now);
        self.0.acquire(groups).await
    }

    async fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.0.clock().set(now);
        self.0.peek(groups).await
    }

    async fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.0.clock().set(now);
        self.0.refund(refunds).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        self.0.reset(keys).await
    }
}

/// How many histories are compared on each of two threads.
const CASES: u64 = 5_000;

#[test]
fn memcached_equals_the_model() {
    let memcached = Memcached::start();
    let run = |seed| {
        let mut options = MemcachedOptions::new(memcached.address());
        options.prefix = format!("{seed}:");
        options.deadline = PATIENCE;
        // The clock is the test's, and steps back as it likes; Memcached's own says nothing then.
        options.skew = Duration::ZERO;
        options.linger = Duration::from_mins(10);
        let store = Told(MemcachedStore::with_clock(options, ManualClock::default()).unwrap());
        let mut options = Options::new(seed, CASES);
        options.fits = MemcachedStore::<ManualClock>::supports;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&store, options))
    };
    std::thread::scope(|scope| {
        let runs = [1, 2].map(|seed| scope.spawn(move || run(seed)));
        for run in runs {
            let summary = run.join().unwrap().unwrap_or_else(|mismatch| panic!("{mismatch}"));
            assert_eq!(summary.cases, CASES);
        }
    });
    // Every key expires: `exp=-1` is what never does.
    let keys = memcached.ask("lru_crawler metadump all", "END");
    assert!(keys.len() > 1_000, "{}", keys.len());
    assert!(keys.iter().all(|key| key.starts_with("key=") && !key.contains("exp=-1 ")), "{:?}", &keys[..3]);
}
