//! Decisions a second of two processes that lease from one Redis, how long they take, and how much of the limits is used.
//!
//! Two processes ask for a million keys, the n-th n times less often than the first, as fast as they can. The busiest keys
//! are far above their limit, and most are far below it.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "../tests/servers/mod.rs"]
mod servers;
#[path = "../tests/servers/stores.rs"]
mod stores;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use servers::Redis;
use stores::connected;
use tokio::task::JoinSet;
use tollgate_core::{Consistency, Group, Hit, KeyHash, Limit, LimitId, Quota};
use tollgate_store::guard::{GuardOptions, Guarded};
use tollgate_store::lease::{LeaseOptions, Leased};
use tollgate_store::redis::{RedisOptions, RedisStore};
use tollgate_store::{MemoryStore, Store, SystemClock};

const NODES: u32 = 2;
const KEYS: u32 = 1_000_000;
/// How many different questions there are; then they come again.
const STREAM: usize = 1 << 22;
const RATE_S: u32 = 5_000;
const BURST: u64 = 5_000;
const WARM_UP: Duration = Duration::from_secs(10);
const LAP: Duration = Duration::from_secs(10);
/// The busiest keys, of which it is counted what is admitted.
const WATCHED: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--node") {
        Some(at) => node(&arguments[at + 1], arguments[at + 2].parse().unwrap()),
        None => both(),
    }
}

/// Starts the server and the nodes, and sums up what they say.
fn both() {
    let redis = Redis::start(&[]);
    let start = |number: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--node", &redis.url(), &number.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let nodes: Vec<_> = (0..NODES).map(start).collect();
    let said: Vec<Vec<f64>> = nodes
        .into_iter()
        .map(|node| {
            let output = node.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().map(|number| number.parse().unwrap()).collect()
        })
        .collect();
    let sum = |index: usize| said.iter().map(|numbers| numbers[index]).sum::<f64>();
    println!("decisions a second together: {:.0}", sum(0));
    for numbers in &said {
        println!(
            "  one node: {:.0}; p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs",
            numbers[0], numbers[1], numbers[2], numbers[3]
        );
    }
    println!("decided by this node without the store: {:.0}", sum(4));
    // Both laps are the same time, but for how exactly they begin together.
    let budget = LAP.as_secs_f64() * f64::from(RATE_S);
    for key in 0..WATCHED {
        let asked = sum(5 + 2 * key);
        let admitted = sum(6 + 2 * key);
        println!(
            "key {key}: asked for {asked:.0}, admitted {admitted:.0} = {:.2} % of what its rate gives in that time",
            100.0 * admitted / budget
        );
    }
}

/// Asks, and says what came of it: decisions a second, quantiles in microseconds, and the busiest keys' numbers.
fn node(url: &str, number: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Two processes and a server on a few processors: a wait of 20 ms is nothing strange.
        let mut options = RedisOptions::new(url);
        options.deadline = Duration::from_secs(1);
        let guarded = Guarded::new(connected(options).await, MemoryStore::default(), GuardOptions::default());
        let mut options = LeaseOptions::default();
        options.wait = Duration::from_secs(1);
        // To meet all keys takes longer than units are usually held for nobody.
        options.idle = Duration::from_mins(10);
        (options.nodes, options.consistency, options.capacity) = (NODES, Consistency::Lease, 2_000_000);
        let store = Leased::new(guarded, SystemClock::new(), options);
        let store = Arc::new(store);
        meet_all_keys(&store).await;
        tokio::spawn(async move { ask(&store, &stream(number)).await }).await.unwrap();
    });
}

fn limit() -> Limit {
    Limit::gcra_with_burst(Quota::per_second(RATE_S), BURST).unwrap()
}

/// The hit of a key; spread, as real hashes are.
fn hit(key: u32, limit: &Limit) -> Hit<'_> {
    let hash = u128::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    Hit::new(LimitId(1), KeyHash(hash), limit)
}

/// Asks for each key once, many at a time: the first request for a key waits.
async fn meet_all_keys(store: &Arc<Node>) {
    const AT_A_TIME: u32 = 256;
    let mut tasks = JoinSet::new();
    for first in 0..AT_A_TIME {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let limit = limit();
            for key in (first..KEYS).step_by(AT_A_TIME as usize) {
                let _ = store.acquire(&[Group::all(&[hit(key, &limit)])]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

type Node = Leased<Guarded<RedisStore>>;

async fn ask(store: &Node, stream: &[u32]) {
    let limit = limit();
    let mut keys = stream.iter().cycle();
    let mut lap = async |length: Duration| {
        let began = Instant::now();
        let (mut decisions, mut alone) = (0_u64, 0_u64);
        let (mut asked, mut admitted) = ([0_u32; WATCHED], [0_u32; WATCHED]);
        let mut took = Vec::new();
        while began.elapsed() < length {
            for count in 0..256 {
                let key = *keys.next().unwrap();
                let hits = [hit(key, &limit)];
                let before = (count % 16 == 0).then(Instant::now);
                let answer = store.acquire(&[Group::all(&hits)]).await.unwrap();
                took.extend(before.map(|before| before.elapsed()));
                decisions += 1;
                alone += u64::from(answer.outcomes[0].source == tollgate_core::Source::Fallback);
                if let Some(asked) = asked.get_mut(key as usize) {
                    *asked += 1;
                    admitted[key as usize] += u32::from(answer.allowed);
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        took.sort_unstable();
        let quantile = |thousandth: usize| took[took.len() * thousandth / 1_000].as_secs_f64() * 1e6;
        // Far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let (decisions, alone) = (decisions as f64, alone as f64);
        let mut said = vec![decisions / seconds, quantile(500), quantile(990), quantile(999), alone];
        for key in 0..WATCHED {
            said.extend([f64::from(asked[key]), f64::from(admitted[key])]);
        }
        said
    };
    lap(WARM_UP).await;
    let said = lap(LAP).await;
    println!("{}", said.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
}

/// Which keys are asked for: the n-th n times less often than the first.
fn stream(seed: u32) -> Vec<u32> {
    let mut sum = 0.0;
    let up_to: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(u64::from(seed) + 1);
    let pick = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[allow(clippy::cast_precision_loss)]
        let at = (random >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        u32::try_from(up_to.partition_point(|up_to| *up_to < at)).unwrap().min(KEYS - 1)
    };
    (0..STREAM).map(pick).collect()
}
