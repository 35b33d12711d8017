//! Runs nodes of `tollgate serve` on a set of Redis servers, breaks those in turn, and says how the nodes fared.
//!
//! * [`faults`]: what is done to the servers, and undone.
//! * [`nodes`]: the nodes, as processes.
//! * [`load`]: who asks them, at times that do not depend on the answers.
//! * [`report`]: what came of it.
//!
//! Which fault comes when is drawn from a seed, so that a run can be made again. `cargo xtask chaos` calls this.

// The servers are those of the tests, which end where something cannot go on; so does this.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod faults;
mod load;
mod nodes;
mod report;
#[path = "../../crates/tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use faults::{Broken, Dice, Fault};
use load::Load;
use nodes::Nodes;
use report::Report;
use servers::{Cluster, Pack, Watched};

const USAGE: &str = "\
Breaks the servers that nodes share, and watches what the nodes do.

Usage: cargo xtask chaos [OPTIONS]

Options:
  --on <SERVERS>          cluster (six servers) or sentinel (three, and three that watch) [cluster]
  --for <SECONDS>         How long [1800]
  --every <SECONDS>       How often something breaks; it is mended in a quarter of that [20]
  --seed <N>              What the order of the faults is drawn from [1]
  --consistency <WORD>    strict, lease or local_first [strict]
  --server <FILE>         The program to run as nodes [target/release/tollgate]

It fails if a node ends, if one request in ten thousand is not decided, if the store does not decide again before the next
fault, if more is admitted than these faults explain, or if a key is denied that never came near its limit.
";

/// What to do.
struct Options {
    on_cluster: bool,
    length: Duration,
    every: Duration,
    seed: u64,
    consistency: String,
    server: String,
}

/// What happened to the servers.
pub(crate) struct Event {
    pub(crate) fault: Fault,
    /// When it was done, and when it was undone.
    pub(crate) began: Duration,
    pub(crate) mended: Duration,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match parse(&words) {
        Ok(Some(options)) => run(&options),
        Ok(None) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chaos: {error}; see --help");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options {
        on_cluster: true,
        length: Duration::from_mins(30),
        every: Duration::from_secs(20),
        seed: 1,
        consistency: "strict".to_owned(),
        server: "target/release/tollgate".to_owned(),
    };
    let mut words = words.iter();
    while let Some(option) = words.next() {
        if matches!(option.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("`{option}` is an option without a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{option} {value}: not a whole number"));
        match option.as_str() {
            "--on" if value == "cluster" => options.on_cluster = true,
            "--on" if value == "sentinel" => options.on_cluster = false,
            "--for" => options.length = Duration::from_secs(number()?.max(10)),
            "--every" => options.every = Duration::from_secs(number()?.max(4)),
            "--seed" => options.seed = number()?,
            "--consistency" => options.consistency.clone_from(value),
            "--server" => options.server.clone_from(value),
            _ => return Err(format!("`{option} {value}` is no option")),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> ExitCode {
    let mut pack: Box<dyn Pack> =
        if options.on_cluster { Box::new(Cluster::start()) } else { Box::new(Watched::start()) };
    let mut nodes = Nodes::start(&options.server, &pack.url(), &options.consistency);
    println!(
        "{} nodes ({}) on {} for {} s, seed {}",
        nodes.urls().len(),
        options.consistency,
        if options.on_cluster { "a cluster of six" } else { "three servers and three sentinels" },
        options.length.as_secs(),
        options.seed,
    );
    let load = Load::start(&nodes.urls());
    let began = Instant::now();
    let mut dice = Dice::new(options.seed);
    let mut events: Vec<Event> = Vec::new();
    // Some time first in which nothing is broken.
    let mut next = options.every / 2;
    while next + options.every <= options.length {
        sleep_until(began + next);
        tell_of_troubles(&nodes, pack.as_mut());
        let fault = dice.fault(options.on_cluster, events.last().map(|event| event.fault));
        let start = began.elapsed();
        let broken = Broken::by(fault, pack.as_mut(), &mut dice);
        sleep_until(began + next + fault.lasts(options.every));
        broken.mend(pack.as_mut());
        events.push(Event { fault, began: start, mended: began.elapsed() });
        println!("{:>5.0} s  {}", start.as_secs_f64(), fault.name());
        next += options.every;
    }
    sleep_until(began + options.length);
    tell_of_troubles(&nodes, pack.as_mut());
    let records = load.stop();
    let report = Report::new(&events, &records, nodes.alive());
    print!("{report}");
    if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where a node is not well though nothing is broken: what it says, and what the servers say of themselves.
fn tell_of_troubles(nodes: &Nodes, pack: &mut dyn Pack) {
    let troubles = nodes.troubles();
    if troubles.is_empty() {
        return;
    }
    for trouble in troubles {
        println!("         {trouble}");
    }
    for member in pack.members() {
        let role = member.ask(&["role"]).replace('\n', " ");
        let state = member.ask(&["cluster", "info"]);
        println!("         server {}: {role}; {}", member.port(), state.lines().next().unwrap_or_default());
    }
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}
