//! Redis against the model. In a file of its own, as it keeps all processors busy for a while.
#![cfg(feature = "redis")]
// Tests may panic.
#![allow(clippy::unwrap_used)]

mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::thread;

use servers::{Cluster, Pack, Redis, Watched};
use stores::{connected, patient};
use tollgate_core::Nanos;
use tollgate_store::conformance::{Kind, Options, run};
use tollgate_store::redis::RedisStore;

/// Runs the kit on a server, or servers, and returns how many histories were equal.
fn conformance(url: String, seed: u64, cases: u64, kinds: Vec<Kind>) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = Options::new(seed, cases);
        options.resolution = Nanos::new(1_000);
        options.fits = |limit| RedisStore::supports(limit).is_ok();
        options.kinds = kinds;
        let summary = run(&connected(patient(url)).await, options).await;
        summary.map(|summary| summary.cases).map_err(|mismatch| mismatch.to_string())
    })
}

/// How many histories of each kind of limit are compared; and where only the way to the server is another.
const CASES: u64 = 10_000;
const FEWER_CASES: u64 = 2_000;

/// Runs the kit for each kind of limit by itself, and for all kinds mixed, at the same time.
fn each_kind(url: &str, cases: u64) {
    let each = Kind::ALL.into_iter().map(|kind| vec![kind]).chain([Kind::ALL.to_vec()]);
    thread::scope(|scope| {
        let run = |(seed, kinds): (u64, Vec<Kind>)| {
            let name = format!("{kinds:?}");
            (name, scope.spawn(move || conformance(url.to_owned(), seed, cases, kinds)))
        };
        let runs: Vec<_> = (0..).zip(each).map(run).collect();
        for (kinds, run) in runs {
            assert_eq!(run.join().unwrap(), Ok(cases), "{kinds}");
        }
    });
}

#[test]
fn one_server_equals_the_model() {
    let redis = Redis::start(&[]);
    each_kind(&redis.url(), CASES);
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
fn servers_that_sentinels_watch_equal_the_model() {
    each_kind(&Watched::start().url(), FEWER_CASES);
}

/// The limits of one request lie on different servers, nearly always.
#[test]
fn a_cluster_equals_the_model() {
    let cluster = Cluster::start();
    each_kind(&cluster.url(), FEWER_CASES);
    let (keys, lasting_forever) = cluster.audit();
    assert!(keys > 0 && lasting_forever == 0, "{keys} {lasting_forever}");
}
