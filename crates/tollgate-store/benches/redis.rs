//! Decisions a second on a real Redis, beside what Redis itself does with a bare script of the same work.
//!
//! Both run against the same server, one after the other, in each of several rounds. As everything shares the machine's
//! processors, the ratios are what to look at.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "../tests/servers/mod.rs"]
mod servers;
#[path = "../tests/servers/stores.rs"]
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use servers::Redis;
use stores::{ask, connected, patient};
use tollgate_core::{Limit, Quota};
use tollgate_store::redis::RedisStore;

const ROUNDS: usize = 5;
const KEYS: u64 = 100_000;
const LAP: Duration = Duration::from_secs(2);

/// GCRA as one would write it by hand: one read, one write, the server's clock.
const BARE: &str = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2] \
    local at = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now) \
    local after = at + ARGV[1] if after - now > tonumber(ARGV[2]) then return {0, at - now} end \
    redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000)) \
    return {1, after - now}";

/// What `redis-benchmark` reaches with the bare script, in thousands a second.
fn bare(redis: &Redis, clients: usize, pipeline: usize) -> f64 {
    let sha = redis.ask(&["script", "load", BARE]);
    let socket = redis.url().replace("redis+unix://", "");
    let (clients, pipeline, keys) = (clients.to_string(), pipeline.to_string(), KEYS.to_string());
    let number = if clients == "1" { "10000" } else { "100000" };
    let output = std::process::Command::new("redis-benchmark")
        .args(["-s", &socket, "-c", &clients, "-P", &pipeline, "-n", number, "-r", &keys, "--csv"])
        .args(["evalsha", &sha, "1", "bare:__rand_int__", "3600000000", "3600000000000"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // The second line, behind the name of the test.
    let line = text.lines().last().unwrap();
    line.split("\",\"").nth(1).unwrap().trim_matches('"').parse::<f64>().unwrap() / 1_000.0
}

/// Asks the store to decide about a key.
async fn decide(store: &RedisStore, key: u64) {
    let limit = Limit::gcra_with_burst(Quota::per_hour(1), 1_000).unwrap();
    let _ = ask(store, &limit, u128::from(key)).await.unwrap();
}

/// What as many callers reach through the store, in thousands a second.
async fn ours(store: &Arc<RedisStore>, callers: usize) -> f64 {
    let decided = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, decided) = (Arc::clone(store), Arc::clone(&decided));
            tokio::spawn(async move {
                let mut random = caller as u64;
                while began.elapsed() < LAP {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    decide(&store, (random >> 33) % KEYS).await;
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

/// How long answers take, in microseconds, when so many thousands a second are asked for at times that do not depend on
/// them: half of them, and all but one in a hundred, at most so long.
async fn paced<F: Future<Output = ()> + Send>(
    thousands_s: f64,
    ask: impl Fn(u64) -> F + Clone + Send + 'static,
) -> (f64, f64) {
    const CALLERS: u32 = 50;
    let every = Duration::from_secs_f64(f64::from(CALLERS) / (thousands_s * 1_000.0));
    let began = tokio::time::Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let ask = ask.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut due = began + every * caller / CALLERS;
                while began.elapsed() < LAP {
                    // The timer counts in milliseconds: who is due within one is due now.
                    tokio::time::sleep_until(due).await;
                    let asked = Instant::now();
                    ask((took.len() as u64 * u64::from(CALLERS) + u64::from(caller)) % KEYS).await;
                    took.push(asked.elapsed());
                    due += every;
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    took.sort_unstable();
    let quantile = |hundredth: usize| took[took.len() * hundredth / 100].as_secs_f64() * 1e6;
    (quantile(50), quantile(99))
}

fn spread(mut numbers: Vec<f64>) -> String {
    numbers.sort_by(f64::total_cmp);
    format!("{:.2} … {:.2} … {:.2}", numbers[0], numbers[numbers.len() / 2], numbers[numbers.len() - 1])
}

/// One caller alone is measured on a runtime of one thread too: what a thread costs to be woken is what they differ by.
fn main() {
    let redis = Redis::start(&[]);
    println!(
        "thousands of decisions a second, and the ratio to the bare script: min … median … max of {ROUNDS}"
    );
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    one.block_on(compare(&redis, "one thread, ", &[(1, 1, 1), (500, 50, 10)]));
    many.block_on(compare(&redis, "", &[(1, 1, 1), (50, 50, 1), (500, 50, 10)]));
    many.block_on(at_half_speed(&redis));
}

/// A store that does not mind a busy machine.
async fn store_on(redis: &Redis) -> Arc<RedisStore> {
    Arc::new(connected(patient(redis.url())).await)
}

/// How long decisions take at half of the greatest speed; and how long the bare script does that the client's library is asked
/// to run at the same times, as the floor.
async fn at_half_speed(redis: &Redis) {
    let store = store_on(redis).await;
    let sha = redis.ask(&["script", "load", BARE]);
    let client = redis::Client::open(redis.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let bare = move |key: u64| {
        let (mut connection, mut command) = (connection.clone(), redis::cmd("EVALSHA"));
        command.arg(&sha).arg(1).arg(format!("bare:{key}")).arg(3_600_000_000_u64).arg(3_600_000_000_000_u64);
        async move { command.exec_async(&mut connection).await.unwrap() }
    };
    let deciding = Arc::clone(&store);
    let decided = move |key: u64| {
        let store = Arc::clone(&deciding);
        async move { decide(&store, key).await }
    };
    for share in [0.5, 0.25] {
        let (mut own, mut floor) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for _ in 0..ROUNDS {
            let speed = ours(&store, 500).await * share;
            for (spent, (p50, p99)) in [
                (&mut own, paced(speed, decided.clone()).await),
                (&mut floor, paced(speed, bare.clone()).await),
            ] {
                spent.0.push(p50);
                spent.1.push(p99);
            }
        }
        println!("at {share} of what 500 callers reach, in microseconds:");
        println!("  decisions: p50 {}, p99 {}", spread(own.0), spread(own.1));
        println!("  the bare script, by the client alone: p50 {}, p99 {}", spread(floor.0), spread(floor.1));
    }
}

async fn compare(redis: &Redis, on: &str, sizes: &[(usize, usize, usize)]) {
    let store = store_on(redis).await;
    for &(callers, clients, pipeline) in sizes {
        let (mut own, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (bare, ours) = (bare(redis, clients, pipeline), ours(&store, callers).await);
            other.push(bare);
            own.push(ours);
            ratios.push(ours / bare);
        }
        println!("{on}{callers} callers on one connection: {}", spread(own));
        println!("  redis-benchmark -c {clients} -P {pipeline} evalsha: {}", spread(other));
        println!("  ratio: {}", spread(ratios));
    }
}
