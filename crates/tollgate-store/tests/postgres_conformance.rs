//! PostgreSQL against the model. In a file of its own, as it keeps all processors busy for a while.
#![cfg(feature = "postgres")]
// Tests may panic.
#![allow(clippy::unwrap_used)]

#[path = "servers/postgres.rs"]
mod postgres;
mod servers;
#[path = "servers/stores.rs"]
mod stores;

use std::thread;

use postgres::Postgres;
use stores::{connected_to_postgres, patient_on_postgres};
use tollgate_core::Nanos;
use tollgate_store::conformance::{Kind, Options, run};
use tollgate_store::postgres::PostgresStore;

/// Runs the kit on a server, and returns how many histories were equal.
fn conformance(url: String, seed: u64, cases: u64, kinds: Vec<Kind>) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = Options::new(seed, cases);
        options.resolution = Nanos::new(1_000);
        options.fits = |limit| PostgresStore::supports(limit).is_ok();
        options.kinds = kinds;
        let mut reached = patient_on_postgres(url);
        reached.connections = 1;
        let summary = run(&connected_to_postgres(reached).await, options).await;
        summary.map(|summary| summary.cases).map_err(|mismatch| mismatch.to_string())
    })
}

/// How many histories are compared in each run: of each kind of limit by itself, and several times of all kinds mixed.
const CASES: u64 = 1_000;
const MIXED: usize = 4;

#[test]
fn it_equals_the_model() {
    let server = Postgres::start(&["synchronous_commit=off"]);
    let mixed = std::iter::repeat_n(Kind::ALL.to_vec(), MIXED);
    let each = Kind::ALL.into_iter().map(|kind| vec![kind]).chain(mixed);
    thread::scope(|scope| {
        let run = |(seed, kinds): (u64, Vec<Kind>)| {
            let (name, url) = (format!("{kinds:?}"), server.url_of_socket());
            (name, scope.spawn(move || conformance(url, seed, CASES, kinds)))
        };
        let runs: Vec<_> = (0..).zip(each).map(run).collect();
        for (kinds, run) in runs {
            assert_eq!(run.join().unwrap(), Ok(CASES), "{kinds}");
        }
    });
}
