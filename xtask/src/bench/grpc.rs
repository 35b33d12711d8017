//! `cargo xtask bench grpc`: how many questions of Envoy's a second the server answers, beside the least that it could do, and
//! beside Limitador's limiter (`benches/limitador`).
//!
//! The floor is a health check of the same server: it takes the same way through HTTP/2, and decides nothing. All are
//! asked in turn, so that whatever else the machine does meets all, and a ratio is taken within a round.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Running, Server};
use crate::chores::{ChoreError, Done, cargo, root};

const ROUNDS: usize = 7;
const CONNECTIONS: u32 = 8;
const REQUESTS: &str = "200000";
/// Where what it is compared with is built, from the root.
const BUILT: &str = "benches/limitador/target";

const POLICY: &str = "policies:
  - name: bench
    match: { where: { 'attribute:domain': edge, 'attribute:generic_key': bench } }
    key: ip
    limit: 1000000000/second
";

const QUESTION: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const FLOOR: &str = "grpc.health.v1.Health/Check";

/// The message that asks for a decision.
fn question() -> Vec<u8> {
    let text = |number: u8, text: &str| field(number, text.as_bytes());
    let entry = |key: &str, value: &str| field(1, &[text(1, key), text(2, value)].concat());
    let descriptor = [entry("generic_key", "bench"), entry("remote_address", "203.0.113.7")].concat();
    frame(&[text(1, "edge"), field(2, &descriptor)].concat())
}

/// What is asked in turn, and how many answers a second there were.
struct Asked {
    name: &'static str,
    url: String,
    message: Vec<u8>,
    rates: Vec<f64>,
}

pub(crate) fn bench() -> Done {
    super::needs("h2load", "nghttp2-client")?;
    Server::build()?;
    let directory = super::directory("bench-grpc")?;
    let (policy, body) = (directory.join("policy.yaml"), directory.join("body"));
    super::write(&policy, POLICY)?;
    let policy = policy.display().to_string();
    let server = Server::start(&["--grpc"], &["--log", "error", "--policy", &policy], None)?;
    let (_limitador, theirs) = limitador()?;
    let ours = server.address("gRPC")?;
    let asked = |name, address: &str, path, message| Asked {
        name,
        url: format!("http://{address}/{path}"),
        message,
        rates: Vec::new(),
    };
    let mut all = [
        asked("ShouldRateLimit", &ours, QUESTION, question()),
        asked("a health check: the floor", &ours, FLOOR, frame(&[])),
        asked("Limitador's limiter", &theirs, QUESTION, question()),
    ];
    for round in 1..=ROUNDS {
        for asked in &mut all {
            super::write(&body, &asked.message)?;
            let rate = load(&asked.url, &body)?;
            println!("round {round}/{ROUNDS}  {}: {rate:.0} a second", asked.name);
            asked.rates.push(rate);
        }
    }
    println!("\nrequests a second, 8 connections of 32 requests each, {ROUNDS} rounds (min / median / max)");
    super::compared(all.iter().map(|asked| (asked.name, asked.rates.as_slice())));

    let [_, rate, _] = super::spread(all[0].rates.iter().copied());
    let (half, log) = (rate / 2.0, directory.join("times"));
    println!("\nat {half:.0} a second, half of that: 99 % of answers within, in ms");
    for asked in &all[..2] {
        super::write(&body, &asked.message)?;
        let within =
            (0..ROUNDS).map(|_| within(&asked.url, &body, half, &log)).collect::<Result<Vec<_>, _>>()?;
        println!("{:<34} {}", asked.name, super::shown(within, 2));
    }
    Ok(())
}

/// Limitador's limiter behind gRPC, and its address.
fn limitador() -> Result<(Running, String), ChoreError> {
    let manifest = "benches/limitador/Cargo.toml";
    cargo(&["build", "--release", "--quiet", "--manifest-path", manifest], &[("CARGO_TARGET_DIR", BUILT)])?;
    let program = root().join(BUILT).join("release/limitador");
    let failed = |error| ChoreError::Io(program.display().to_string(), error);
    let mut running = Running(Command::new(&program).stdout(Stdio::piped()).spawn().map_err(failed)?);
    let mut address = String::new();
    if let Some(said) = running.0.stdout.take() {
        BufReader::new(said).read_line(&mut address).map_err(failed)?;
    }
    Ok((running, address.trim().to_owned()))
}

/// A field of bytes that are shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(0);
    [&[number << 3 | 2, length], bytes].concat()
}

/// A message as gRPC sends it: not compressed, and with its length before it.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(0);
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// Requests a second, as many as it can ask.
fn load(url: &str, body: &Path) -> Result<f64, ChoreError> {
    asked(url, body, &[])
}

/// The milliseconds in which 99 % of the answers came when it asks so often a second.
fn within(url: &str, body: &Path, rate: f64, log: &Path) -> Result<f64, ChoreError> {
    let _ = std::fs::remove_file(log);
    let each = format!("--rps={:.0}", rate / f64::from(CONNECTIONS));
    let _ = asked(url, body, &[&each, &format!("--log-file={}", log.display())])?;
    let text =
        std::fs::read_to_string(log).map_err(|error| ChoreError::Io(log.display().to_string(), error))?;
    let micros = |line: &str| line.rsplit('\t').next()?.trim().parse::<u32>().ok();
    let mut times: Vec<u32> = text.lines().filter_map(micros).collect();
    times.sort_unstable();
    let time = times.get(times.len() / 100 * 99).map(|micros| f64::from(*micros) / 1e3);
    time.ok_or_else(|| ChoreError::Failed("h2load, which noted no times,".to_owned()))
}

fn asked(url: &str, body: &Path, more: &[&str]) -> Result<f64, ChoreError> {
    let output = Command::new("h2load")
        .args(["-n", REQUESTS, "-c", &CONNECTIONS.to_string(), "-m", "32", "-t", "1", "-H", "te: trailers"])
        .args(more)
        .args(["-H", "content-type: application/grpc", "-d"])
        .args([body, Path::new(url)])
        .output()
        .map_err(|error| ChoreError::Io("h2load".to_owned(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_whole = text.contains(&format!("{REQUESTS} succeeded, 0 failed, 0 errored"));
    let rate = text.split_once(" req/s").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    rate.filter(|_| is_whole).ok_or_else(|| ChoreError::Failed(format!("h2load {url}\n{text}")))
}
