//! What a rate limit adds to an empty service: Tollgate's middleware, tower_governor's and actix-governor's.
//!
//! Each is put around the same handler that does nothing, and called in a loop on one thread, without a network: by client
//! addresses, for requests that all pass. What the bare service takes in the same round is subtracted. Rounds go through all of
//! them, each beginning with another one.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

mod actix;
mod allocations;
mod tower;

use std::time::Instant;

const ROUNDS: usize = 7;
const REQUESTS: u32 = 300_000;

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

/// Nanoseconds a request.
fn time(contender: &mut dyn Contender, clients: &[u32]) -> f64 {
    let began = Instant::now();
    contender.call(clients);
    began.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
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
    for round in 0..ROUNDS {
        for place in 0..contenders.len() {
            let index = (place + round) % contenders.len();
            times[index].push(time(&mut *contenders[index], &clients));
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

fn main() {
    println!("min … median … max of {ROUNDS} rounds of {REQUESTS} requests");
    for count in [1_000, 300_000] {
        compare("axum, no headers", count, &mut tower::without_headers());
        compare("axum, three headers", count, &mut tower::with_headers());
        compare("Actix, no headers", count, &mut actix::without_headers());
        compare("Actix, three headers", count, &mut actix::with_headers());
    }
}
