//! Redis against the model. In a file of its own, as it keeps all processors busy for a while.
#![cfg(feature = "redis")]
// Tests may panic.
#![allow(clippy::unwrap_used)]

mod servers;

use std::thread;
use std::time::{Duration, Instant};

use servers::{Cluster, Pack, Redis};
use tollgate_core::Nanos;
use tollgate_store::conformance::{Kind, Options, run};
use tollgate_store::redis::{RedisOptions, RedisStore};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_mins(1);

async fn connected(url: String) -> RedisStore {
    let mut options = RedisOptions::new(url);
    options.deadline = PATIENCE;
    let (store, began) = (RedisStore::new(&options).unwrap(), Instant::now());
    while !store.status().is_connected {
        assert!(began.elapsed() < PATIENCE, "no connection");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store
}

/// Runs the kit on a server, or servers, and returns how many histories were equal.
fn conformance(url: String, seed: u64, cases: u64, kinds: Vec<Kind>) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = Options::new(seed, cases);
        options.resolution = Nanos::new(1_000);
        options.fits = |limit| RedisStore::supports(limit).is_ok();
        options.kinds = kinds;
        let summary = run(&connected(url).await, options).await;
        summary.map(|summary| summary.cases).map_err(|mismatch| mismatch.to_string())
    })
}

#[test]
fn each_kind_of_limit_equals_the_model() {
    const CASES: u64 = 10_000;
    let redis = Redis::start(&[]);
    let each = Kind::ALL.into_iter().map(|kind| vec![kind]).chain([Kind::ALL.to_vec()]);
    thread::scope(|scope| {
        let runs: Vec<_> = (0..)
            .zip(each)
            .map(|(seed, kinds)| {
                let url = redis.url();
                (format!("{kinds:?}"), scope.spawn(move || conformance(url, seed, CASES, kinds)))
            })
            .collect();
        for (kinds, run) in runs {
            assert_eq!(run.join().unwrap(), Ok(CASES), "{kinds}");
        }
    });
    // Every key has a time to live, and what is not a log is small.
    let audit = "local without, large = 0, 0
        for _, key in ipairs(redis.call('KEYS', '*')) do
            if redis.call('PTTL', key) < 0 then without = without + 1 end
            local value = redis.call('GET', key)
            if #value > 32 and string.sub(value, 1, 1) ~= 'l' then large = large + 1 end
        end
        return without .. ' ' .. large";
    assert_eq!(redis.ask(&["eval", audit, "0"]), "0 0");
}

#[test]
fn a_cluster_equals_the_model() {
    const CASES: u64 = 2_000;
    let cluster = Cluster::start();
    // The limits of one request lie on different servers, nearly always.
    assert_eq!(conformance(cluster.url(), 7, CASES, Kind::ALL.to_vec()), Ok(CASES));
    let (keys, lasting_forever) = cluster.audit();
    assert!(keys > 0 && lasting_forever == 0, "{keys} {lasting_forever}");
}
