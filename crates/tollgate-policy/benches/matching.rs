//! How long it takes to find the policies of a request, with ten rules and with ten thousand.
//!
//! `cargo bench -p tollgate-policy --bench matching`. The sets take turns, round by round, so that whatever else the
//! machine does meets all of them. What a rule costs that does not match should not be seen: the ratio is to stay
//! below 2.

#![allow(missing_docs)]

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use tollgate_core::{KeySeed, Timestamp};
use tollgate_policy::{Config, Format, PolicySet, Request};

const ROUNDS: usize = 40;
const PLANS: u32 = 20_000;
/// Different ones; with ten thousand rules one for each.
const REQUESTS: u32 = 10_000;
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A set of rules and requests that each meet one of them.
struct Case {
    set: PolicySet,
    requests: Vec<Request>,
    /// Nanoseconds a plan, by round.
    times: Vec<f64>,
}

impl Case {
    fn new(rules: u32, rule: impl Fn(u32) -> String, request: impl Fn(u32) -> Request) -> Self {
        let mut text = String::from("policies:\n");
        for index in 0..rules {
            let _ = writeln!(
                text,
                "  - {{ name: p{index}, key: ip, limit: 100/minute, match: {} }}",
                rule(index)
            );
        }
        let config = match Config::parse("bench", &text, Format::Yaml, &[]) {
            Ok(config) => config,
            Err(problems) => panic!("{problems}"),
        };
        // As many requests for either set, in an order that no cache foresees: the sets differ in their rules, not in
        // how often the same request comes again.
        let requests: Vec<Request> =
            (0..REQUESTS).map(|index| request(index * 7_919 % REQUESTS % rules)).collect();
        let set = PolicySet::new(config, KeySeed::new([7; 16]));
        for request in &requests {
            assert_eq!(set.plan(request, NOW, None).policies().count(), 1);
        }
        Self { set, requests, times: Vec::with_capacity(ROUNDS) }
    }

    fn round(&mut self) {
        let start = Instant::now();
        for index in 0..PLANS as usize {
            let request = &self.requests[index % self.requests.len()];
            black_box(self.set.plan(black_box(request), NOW, None));
        }
        self.times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(PLANS));
    }

    /// The least, the median and the greatest.
    fn spread(&self) -> (f64, f64, f64) {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        (times[0], times[times.len() / 2], times[times.len() - 1])
    }
}

fn from_ip(path: String) -> Request {
    Request::new("GET", path).with_ip([203, 0, 113, 7].into())
}

fn main() {
    // `cargo test` runs benchmarks too, to see that they still do: once is enough for that.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let path = |index: u32| format!("{{ path: /api/v1/resource-{index}/items }}");
    let value = |index: u32| format!("{{ path: /api/**, where: {{ 'header:x-tenant': tenant-{index} }} }}");
    let on_path = |index: u32| from_ip(format!("/api/v1/resource-{index}/items"));
    let of_tenant =
        |index: u32| from_ip("/api/v1/items".to_owned()).with_header("x-tenant", format!("tenant-{index}"));

    println!("{:<28} {:>10} {:>10} {:>10}   (ns a plan)", "", "least", "median", "greatest");
    for (what, few, many) in [
        ("distinct paths", Case::new(10, path, on_path), Case::new(10_000, path, on_path)),
        ("one path, distinct values", Case::new(10, value, of_tenant), Case::new(10_000, value, of_tenant)),
    ] {
        let mut cases = [few, many];
        for _ in 0..rounds {
            for case in &mut cases {
                case.round();
            }
        }
        println!("{what}");
        for case in &cases {
            let (least, median, greatest) = case.spread();
            println!(
                "  {:>6} rules {:>24.0} {median:>10.0} {greatest:>10.0}",
                case.set.policies().len(),
                least
            );
        }
        let [few, many] = &cases;
        println!("  ratio of the medians {:>28.2}", many.spread().1 / few.spread().1);
    }
}
