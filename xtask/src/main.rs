//! The project's chores: `cargo xtask <chore>`.

mod bench;
mod chores;
mod peers;
mod sample_log;
mod servers;
mod simulate;

use std::process::ExitCode;

const USAGE: &str = "\
The project's chores.

Usage: cargo xtask <CHORE>

Chores:
  test        Everything that proves the project right: unit, property, conformance and end-to-end
              tests, documentation examples, and the example programs; installs the servers that
              they need through apt where it may
  models      The races of the memory table, in every interleaving
  miri        The memory table and the clock under Miri
  ci          What a change must pass: format, lints, documentation, dependencies, and `test`
  chaos       Nodes on servers that break, and how they fare: half an hour; see `chaos --help`
  attack [NAME]
              Clients that mean harm, ten thousand at once, and what good ones notice of it
  kills       The server killed three thousand times while it writes its state to disk, and what it knows then
  bench       The benchmarks, as tables
  bench peers Tollgate's limiter and those of other crates; see `bench peers --help`
  bench middleware
              What a rate limit adds to an empty service, beside tower_governor and actix-governor
  bench durable
              Decisions a second with state on disk and without, and reading ten million keys back
  bench grpc  Questions of Envoy's a second, beside the least that the server could do; needs h2load
  bench resp  CL.THROTTLE beside Redis's own INCR, by redis-benchmark
  bench http  /v1/check a second by wrk, beside the least that the server could do and throttlecrab-server,
              and how long answers take at half of that rate
  bench reload
              Ten thousand policies loaded again and again under load; needs h2load
  bench memory
              What the server takes of memory, idle and with ten million keys
  simulate    A service that loses most of its capacity, behind each kind of limit: writes docs/adaptive.svg, and
              the table in docs/adaptive.md
  sample-log  Write samples/access.log anew
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["test"] => chores::test(),
        ["ci"] => chores::ci(),
        ["models"] => chores::models(),
        ["miri"] => chores::interpret(),
        ["chaos", options @ ..] => chores::chaos(options),
        ["attack"] => chores::attack(""),
        ["attack", name] => chores::attack(name),
        ["kills"] => chores::kills(),
        ["bench"] => chores::bench(),
        ["bench", "peers", "--help" | "-h"] => {
            print!("{}", peers::USAGE);
            return ExitCode::SUCCESS;
        }
        ["bench", "durable"] => chores::bench_durable(),
        ["bench", "grpc"] => bench::grpc::bench(),
        ["bench", "http"] => bench::http::bench(),
        ["bench", "memory"] => bench::memory::bench(),
        ["bench", "reload"] => bench::reload::bench(),
        ["bench", "middleware"] => chores::bench_middleware(),
        ["bench", "resp"] => bench::resp::bench(),
        ["bench", "peers", options @ ..] => peers::bench(options),
        ["simulate"] => simulate::write(),
        ["sample-log"] => sample_log::write(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
