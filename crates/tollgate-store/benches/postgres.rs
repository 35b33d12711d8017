//! Decisions a second on a real PostgreSQL, beside what `pgbench` reaches with a bare upsert of the same work.
//!
//! Both run against the same server, one after the other, in each of several rounds. As everything shares the machine's
//! processors, the ratios are what to look at. The client's library alone, doing the bare upsert with as many connections, is the
//! floor: what is lost to `pgbench` there is not the store's.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "../tests/servers/postgres.rs"]
mod postgres;
#[path = "../tests/servers/mod.rs"]
mod servers;
#[path = "../tests/servers/stores.rs"]
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres::{Postgres, own, program};
use stores::{ask, connected_to_postgres, patient_on_postgres};
use tollgate_core::{Limit, Quota};
use tollgate_store::postgres::PostgresStore;

const ROUNDS: usize = 5;
const KEYS: u64 = 100_000;
const LAP: Duration = Duration::from_secs(2);

/// GCRA as one would write it by hand: one conditional upsert, the server's clock.
const BARE: &str = "\\set key random(1, 100000)
insert into bare as b values (:key, (extract(epoch from clock_timestamp()) * 1000000)::bigint + 3600000000)
on conflict (key) do update
set at = greatest(b.at, (extract(epoch from clock_timestamp()) * 1000000)::bigint) + 3600000000
where b.at + 3600000000 <= (extract(epoch from clock_timestamp()) * 1000000)::bigint + 3600000000000
returning at;
";

/// What `pgbench` reaches with the bare upsert, in thousands a second.
fn bare(server: &Postgres, script: &str, clients: usize) -> f64 {
    let [clients, port, lap] = [clients.to_string(), server.port().to_string(), LAP.as_secs().to_string()];
    let output = program("pgbench")
        .args([
            "--no-vacuum",
            "--protocol",
            "prepared",
            "--file",
            script,
            "--client",
            &clients,
            "--time",
            &lap,
        ])
        .args(["--host", &server.socket().parent().unwrap().display().to_string(), "--port", &port])
        .args(["--username", "postgres", "postgres"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap_or_else(|| {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    });
    line.split(' ').next().unwrap().parse::<f64>().unwrap() / 1_000.0
}

/// What as many callers reach together, of whom each asks for one key after the other, in thousands a second.
async fn rate<Asked>(callers: impl Iterator<Item = impl Fn(u64) -> Asked + Send + 'static>) -> f64
where
    Asked: Future<Output = ()> + Send,
{
    let decided = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..)
        .zip(callers)
        .map(|(caller, ask)| {
            let decided = Arc::clone(&decided);
            tokio::spawn(async move {
                let mut random: u64 = caller;
                while began.elapsed() < LAP {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    ask((random >> 33) % KEYS).await;
                    // Relaxed: a count.
                    decided.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let decided = decided.load(Ordering::Relaxed) as f64;
    decided / began.elapsed().as_secs_f64() / 1_000.0
}

/// What as many callers reach through the store.
async fn ours(store: &Arc<PostgresStore>, callers: usize) -> f64 {
    let limit = Limit::gcra_with_burst(Quota::per_hour(1), 1_000).unwrap();
    let caller = |store: Arc<PostgresStore>| {
        move |key: u64| {
            let store = Arc::clone(&store);
            async move {
                let _ = ask(&*store, &limit, key.into()).await.unwrap();
            }
        }
    };
    rate((0..callers).map(|_| caller(Arc::clone(store)))).await
}

/// What as many connections of the client's library reach with the bare upsert.
async fn floor(server: &Postgres, clients: usize) -> f64 {
    let text = BARE.lines().skip(1).collect::<Vec<_>>().join("\n").replace(":key", "$1");
    let mut callers = Vec::new();
    for _ in 0..clients {
        let (client, connection) =
            tokio_postgres::connect(&server.url_of_socket(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let session = Arc::new((client.prepare(&text).await.unwrap(), client));
        callers.push(move |key: u64| {
            let session = Arc::clone(&session);
            async move {
                let (statement, client) = &*session;
                let _ = client.query(statement, &[&i64::try_from(key).unwrap()]).await.unwrap();
            }
        });
    }
    rate(callers.into_iter()).await
}

fn spread(mut numbers: Vec<f64>) -> String {
    numbers.sort_by(f64::total_cmp);
    format!("{:.2} … {:.2} … {:.2}", numbers[0], numbers[numbers.len() / 2], numbers[numbers.len() - 1])
}

/// One caller alone is measured on a runtime of one thread: what a thread costs to be woken is not what is asked for.
fn main() {
    let server = Postgres::start(&[]);
    server.ask("create table bare (key bigint primary key, at bigint not null) with (fillfactor = 60)");
    let script = server.data().join("bare.sql");
    std::fs::write(&script, BARE).unwrap();
    own(&script);
    let script = script.display().to_string();
    println!(
        "thousands of decisions a second, and the ratio to the bare upsert: min … median … max of {ROUNDS}"
    );
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    one.block_on(compare(&server, &script, &[1]));
    many.block_on(compare(&server, &script, &[4, 16, 64]));
}

async fn compare(server: &Postgres, script: &str, sizes: &[usize]) {
    let store = Arc::new(connected_to_postgres(patient_on_postgres(server.url_of_socket())).await);
    for &callers in sizes {
        let mut laps: [Vec<f64>; 3] = Default::default();
        for _ in 0..=ROUNDS {
            let lap =
                [bare(server, script, callers), floor(server, callers).await, ours(&store, callers).await];
            for (laps, lap) in laps.iter_mut().zip(lap) {
                laps.push(lap);
            }
        }
        // The first lap fills the tables.
        let [bare, floor, ours] = laps.map(|laps| laps[1..].to_vec());
        let ratio = |laps: &[f64]| spread(laps.iter().zip(&bare).map(|(lap, bare)| lap / bare).collect());
        let (floors, ratios) = (ratio(&floor), ratio(&ours));
        println!("{callers} callers: {}; ratio: {ratios}", spread(ours));
        println!("  the client's library alone: {}; ratio: {floors}", spread(floor));
        println!("  pgbench with {callers} clients: {}", spread(bare));
    }
}
