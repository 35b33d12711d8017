//! What a rate limit adds to an empty service: Tollgate's middleware, tower_governor's and actix-governor's.
//!
//! Each is put around the same handler that does nothing, and called in a loop on one thread, without a network: by client
//! addresses, for requests that all pass. What the bare service takes in the same round is subtracted.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

mod actix;
mod allocations;
mod tower;

use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const REQUESTS: u32 = 300_000;
/// How many requests a contender is given in one go, before the next one gets as many. A machine's neighbours come and go in
/// longer than this takes, so that they hit all contenders alike.
const SLICE: u16 = 2_000;

/// How a service is called: so many times, with requests of addresses from so many.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;

    /// Calls it, once for each of these numbers of a client.
    fn call(&mut self, clients: &[u32]);
}

/// A rate at which nobody is ever denied, and a burst in which nobody's state lapses while it is measured.
pub(crate) const BURST: u32 = 100_000_000;

/// Clients in an order that no cache foresees.
fn clients(count: u32) -> Vec<u32> {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let pick = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((random >> 32) % u64::from(count)).unwrap_or(0)
    };
    (0..REQUESTS).map(pick).collect()
}

/// For each contender the nanoseconds that a request takes: the middle of all slices, each of which goes through all
/// contenders, beginning with another one.
fn round(contenders: &mut [Box<dyn Contender>], clients: &[u32]) -> Vec<f64> {
    let mut times = vec![Vec::new(); contenders.len()];
    for (turn, slice) in clients.chunks_exact(SLICE.into()).enumerate() {
        for place in 0..contenders.len() {
            let index = (place + turn) % contenders.len();
            let began = Instant::now();
            contenders[index].call(slice);
            times[index].push(began.elapsed());
        }
    }
    let middle = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(SLICE)
    };
    times.into_iter().map(middle).collect()
}

fn spread(mut numbers: Vec<f64>, digits: usize) -> String {
    numbers.sort_by(f64::total_cmp);
    let (least, middle, most) = (numbers[0], numbers[numbers.len() / 2], numbers[numbers.len() - 1]);
    format!("{least:.digits$} … {middle:.digits$} … {most:.digits$}")
}

/// Measures some services, of which the first is bare and the second the one to compare with.
fn compare(title: &str, count: u32, contenders: &mut [Box<dyn Contender>]) {
    let clients = clients(count);
    for contender in &mut *contenders {
        // Every client is known before anything is measured.
        let all: Vec<u32> = (0..count).collect();
        contender.call(&all);
        contender.call(&clients);
    }
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (times, time) in times.iter_mut().zip(round(contenders, &clients)) {
            times.push(time);
        }
    }
    let allocations: Vec<f64> =
        contenders.iter_mut().map(|contender| allocations::of(&mut **contender, &clients)).collect();
    let added = |index: usize| -> Vec<f64> {
        times[index].iter().zip(&times[0]).map(|(time, bare)| time - bare).collect()
    };
    println!("\n{title}, {count} addresses");
    println!("  {:<28} {:>26}   {:>23}   {:>11}", "", "ns added", "of the peer's", "allocations");
    println!("  {:<28} {:>26}", contenders[0].name(), spread(times[0].clone(), 0));
    for index in 1..contenders.len() {
        let ratios = added(index).iter().zip(added(1)).map(|(own, peer)| own / peer).collect();
        println!(
            "  {:<28} {:>26}   {:>23}   {:>11.2}",
            contenders[index].name(),
            spread(added(index), 0),
            spread(ratios, 2),
            allocations[index] - allocations[0],
        );
    }
}

/// A table's name, and the services that it compares.
type Comparison = (&'static str, fn() -> Vec<Box<dyn Contender>>);

const COMPARISONS: [Comparison; 4] = [
    ("axum, no headers", tower::without_headers),
    ("axum, three headers", tower::with_headers),
    ("Actix, no headers", actix::without_headers),
    ("Actix, three headers", actix::with_headers),
];

fn main() {
    // For a profiler: the title of a comparison, the name of one of its services, and how many addresses.
    if let [title, name, count] = &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        let (_, contenders) = COMPARISONS.iter().find(|(known, _)| known == title).unwrap();
        let mut contenders = contenders();
        let contender = contenders.iter_mut().find(|contender| contender.name() == name).unwrap();
        contender.call(&clients(count.parse().unwrap()));
        return;
    }
    println!("min … median … max of {ROUNDS} rounds of {REQUESTS} requests, in turns of {SLICE}");
    for count in [1_000, 300_000] {
        for (title, contenders) in COMPARISONS {
            compare(title, count, &mut contenders());
        }
    }
}
