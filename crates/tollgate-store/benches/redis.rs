//! Decisions a second on a real Redis, beside what Redis itself does with a bare script of the same work.
//!
//! Both run against the same server, one after the other, in each of several rounds. As everything shares the machine's
//! processors, the ratios are what to look at.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "../tests/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use servers::Redis;
use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, Quota};
use tollgate_store::Store;
use tollgate_store::redis::{RedisOptions, RedisStore};

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

/// What as many callers reach through the store, in thousands a second.
async fn ours(store: &Arc<RedisStore>, callers: usize) -> f64 {
    let limit = Limit::gcra_with_burst(Quota::per_hour(1), 1_000).unwrap();
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
                    let key = KeyHash(u128::from((random >> 33) % KEYS));
                    let hits = [Hit::new(LimitId(1), key, &limit)];
                    let _ = store.acquire(&[Group::all(&hits)]).await.unwrap();
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

/// How long decisions take, in microseconds, when so many thousands a second are asked for at times that do not depend on
/// the answers: half of them, and all but one in a hundred, at most so long.
async fn paced(store: &Arc<RedisStore>, thousands_s: f64) -> (f64, f64) {
    const CALLERS: u32 = 50;
    let limit = Limit::gcra_with_burst(Quota::per_hour(1), 1_000).unwrap();
    let every = Duration::from_secs_f64(f64::from(CALLERS) / (thousands_s * 1_000.0));
    let began = tokio::time::Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut due = began + every * caller / CALLERS;
                while began.elapsed() < LAP {
                    // The timer counts in milliseconds: who is due within one is due now.
                    tokio::time::sleep_until(due).await;
                    let asked = Instant::now();
                    let key =
                        KeyHash(u128::from(took.len() as u64 * 50 + u64::from(caller)) % u128::from(KEYS));
                    let hits = [Hit::new(LimitId(1), key, &limit)];
                    let _ = store.acquire(&[Group::all(&hits)]).await.unwrap();
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

async fn connected(redis: &Redis) -> Arc<RedisStore> {
    let mut options = RedisOptions::new(redis.url());
    options.deadline = Duration::from_secs(5);
    let store = Arc::new(RedisStore::new(&options).unwrap());
    while !store.status().is_connected {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store
}

async fn at_half_speed(redis: &Redis) {
    let store = connected(redis).await;
    let (mut half, mut most) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let full = ours(&store, 500).await;
        let (p50, p99) = paced(&store, full / 2.0).await;
        half.push(p50);
        most.push(p99);
    }
    println!(
        "at half of what 500 callers reach, in microseconds: p50 {}, p99 {}",
        spread(half),
        spread(most)
    );
}

async fn compare(redis: &Redis, on: &str, sizes: &[(usize, usize, usize)]) {
    let store = connected(redis).await;
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
