//! How long it takes to find the policies of a request, with ten rules and with ten thousand.
//!
//! `cargo bench -p tollgate-policy --bench matching`. The sets take turns, round by round, so that whatever else the
//! machine does meets all of them.
//!
//! Two things are measured. Where the same ten requests come again and again, the rules that do not match should not
//! be seen at all: the ratio is to stay below 2. Where ten thousand different requests come in an order that no cache
//! foresees, each set meets them in the same memory; but ten thousand rules that are all in use are some megabytes
//! more than the caches near the processor hold, and the ratio tells what fetching them costs.

#![allow(missing_docs)]

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use tollgate_core::{KeySeed, Timestamp};
use tollgate_policy::{Config, Format, PolicySet, Request};

const ROUNDS: usize = 40;
const PLANS: u32 = 20_000;
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A set of rules and requests that each meet one of them.
struct Case {
    set: PolicySet,
    requests: Vec<Request>,
    /// Nanoseconds a plan, by round.
    times: Vec<f64>,
}

impl Case {
    fn new(
        rules: u32,
        requests: u32,
        rule: impl Fn(u32) -> String,
        request: impl Fn(u32) -> Request,
    ) -> Self {
        let mut text = String::from("policies:\n");
        for index in 0..rules {
            let rule = rule(index);
            let _ = writeln!(text, "  - {{ name: p{index}, key: ip, limit: 100/minute, match: {rule} }}");
        }
        let config = match Config::parse("bench", &text, Format::Yaml, &[]) {
            Ok(config) => config,
            Err(problems) => panic!("{problems}"),
        };
        // Spread over all rules by a step that meets each once.
        let requests: Vec<Request> = (0..requests).map(|index| request(index * 7_919 % rules)).collect();
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

fn from_ip(path: impl Into<String>) -> Request {
    Request::new("GET", path).with_ip([203, 0, 113, 7].into())
}

fn main() {
    // Without `--bench`, as `cargo test` runs it, once is enough to see that it still does.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let path = |index: u32| format!("{{ path: /api/v1/resource-{index}/items }}");
    let value = |index: u32| format!("{{ path: /api/**, where: {{ 'header:x-tenant': tenant-{index} }} }}");
    let on_path = |index: u32| from_ip(format!("/api/v1/resource-{index}/items"));
    let of_tenant = |index: u32| from_ip("/api/v1/items").with_header("x-tenant", format!("tenant-{index}"));
    let paths = |rules, requests| Case::new(rules, requests, path, on_path);
    let values = |rules, requests| Case::new(rules, requests, value, of_tenant);

    println!("{:<44} {:>8} {:>8} {:>8}", "nanoseconds a plan", "least", "median", "greatest");
    for (what, mut few, mut many) in [
        ("distinct paths, ten requests", paths(10, 10), paths(10_000, 10)),
        ("one path, distinct values, ten requests", values(10, 10), values(10_000, 10)),
        ("distinct paths, 10,000 requests", paths(10, 10_000), paths(10_000, 10_000)),
        ("one path, distinct values, 10,000 requests", values(10, 10_000), values(10_000, 10_000)),
    ] {
        for _ in 0..rounds {
            few.round();
            many.round();
        }
        println!("{what}");
        for case in [&few, &many] {
            let (least, median, greatest) = case.spread();
            let rules = case.set.policies().len();
            println!("  {rules:>6} rules {:>29} {least:>8.0} {median:>8.0} {greatest:>8.0}", "");
        }
        println!("  ratio of the medians {:>30.2}", many.spread().1 / few.spread().1);
    }
}
