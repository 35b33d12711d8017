//! What it costs to keep memory on disk: decisions a second with and without, in turns, and how long it takes to read ten
//! million keys back.
//!
//! Each thread takes from keys at random, as fast as it can, so the table changes everywhere all the time: that is the most
//! that there can be to write. `DURABLE_KEYS=10000,1000000` measures other numbers of keys, `DURABLE_DIR` elsewhere than in
//! the directory for temporary files.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]
#![allow(clippy::cast_precision_loss, reason = "numbers for people")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tollgate_core::{Hit, KeyBuilder, KeySeed, Limit, LimitId, Quota};
use tollgate_store::durable::{DurableOptions, DurableStore};
use tollgate_store::{LocalStore, MemoryOptions, MemoryStore};

const ROUNDS: usize = 7;
/// Several flushes long.
const ROUND: Duration = Duration::from_secs(3);
const RECOVERIES: usize = 3;
const SEED: KeySeed = KeySeed::new([7; 16]);

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{threads} threads, flushed once a second, rounds of {ROUND:?} in turns");
    let keys = std::env::var("DURABLE_KEYS").unwrap_or_else(|_| "10000,1000000,10000000".to_owned());
    for keys in keys.split(',').map(|keys| keys.parse().unwrap()) {
        compare(keys, threads);
    }
    recover(10_000_000);
}

fn directory() -> tempfile::TempDir {
    let parent = std::env::var_os("DURABLE_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).unwrap()
}

fn options(keys: u64) -> DurableOptions {
    let mut options = DurableOptions::default();
    options.memory = MemoryOptions { capacity: usize::try_from(keys).unwrap() * 6 / 5, ..Default::default() };
    options
}

/// Never runs out, so that all decisions are alike; and what is taken comes back so slowly that no key is forgotten.
fn limit() -> Limit {
    Limit::gcra_with_burst(Quota::per_minute(1), 1_000_000).unwrap()
}

fn take(store: &impl LocalStore, limit: &Limit, key: u64) -> bool {
    let mut builder = KeyBuilder::new(&SEED);
    builder.push(&key);
    store.acquire_one(&Hit::new(LimitId(1), builder, limit)).decision.allowed
}

fn compare(keys: u64, threads: usize) {
    let directory = directory();
    let (plain, durable) = {
        let options = options(keys);
        (MemoryStore::new(options.memory), DurableStore::open(&directory, &options).unwrap())
    };
    let limit = limit();
    for key in 0..keys {
        take(&plain, &limit, key);
        take(&durable, &limit, key);
    }
    durable.flush().unwrap();
    let (mut without, mut with, mut ratios, mut cpu_ratios) = (vec![], vec![], vec![], vec![]);
    let before = durable.durability();
    for _ in 0..ROUNDS {
        let (plain, plain_cpu) = rate(&plain, &limit, keys, threads);
        let (durable, durable_cpu) = rate(&durable, &limit, keys, threads);
        without.push(plain);
        with.push(durable);
        ratios.push(durable / plain);
        cpu_ratios.push(durable_cpu / plain_cpu);
    }
    let after = durable.durability();
    println!("{keys} keys, million decisions a second (min / median / max)");
    println!("  plain   {}", spread(&mut without));
    println!("  durable {}", spread(&mut with));
    println!("  ratio of neighbours {}", spread(&mut ratios));
    println!("  the same of decisions for a second of processor time {}", spread(&mut cpu_ratios));
    println!(
        "  written {:.0} MB in {} flushes of {:.0?} on average; failures: {}",
        megabytes(after.bytes_written - before.bytes_written),
        after.flushes - before.flushes,
        after.flush_time.saturating_sub(before.flush_time)
            / u32::try_from(after.flushes - before.flushes).unwrap().max(1),
        after.failures,
    );
}

/// Millions of decisions a second, and for a second of this process's time on processors, whoever else wants them.
fn rate(store: &impl LocalStore, limit: &Limit, keys: u64, threads: usize) -> (f64, f64) {
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let (started, cpu) = (Instant::now(), cpu_time());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, total) = (&stop, &total);
            scope.spawn(move || {
                let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(thread as u64 + 1);
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..256 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let key = (u128::from(random) * u128::from(keys)) >> 64;
                        assert!(take(store, limit, u64::try_from(key).unwrap()));
                    }
                    count += 256;
                }
                total.fetch_add(count, Ordering::Relaxed);
            });
        }
        std::thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
    });
    let total = millions(total.into_inner());
    (total / started.elapsed().as_secs_f64(), total / (cpu_time() - cpu))
}

/// What this process has had of all processors, in seconds.
fn cpu_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn recover(keys: u64) {
    let directory = directory();
    let (options, limit) = (options(keys), limit());
    let store = DurableStore::open(&directory, &options).unwrap();
    for key in 0..keys {
        take(&store, &limit, key);
    }
    store.close().unwrap();
    let mut seconds = Vec::new();
    for _ in 0..RECOVERIES {
        let started = Instant::now();
        let store = DurableStore::open(&directory, &options).unwrap();
        seconds.push(started.elapsed().as_secs_f64());
        assert_eq!(store.recovery().keys as u64, keys);
    }
    println!(
        "recovery of {keys} keys, {:.0} MB, in seconds (min / median / max): {}",
        megabytes(size(directory.path())),
        spread(&mut seconds)
    );
}

fn size(directory: &Path) -> u64 {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn spread(numbers: &mut [f64]) -> String {
    numbers.sort_by(f64::total_cmp);
    format!("{:.3} / {:.3} / {:.3}", numbers[0], numbers[numbers.len() / 2], numbers[numbers.len() - 1])
}

fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}

fn megabytes(bytes: u64) -> f64 {
    millions(bytes)
}
