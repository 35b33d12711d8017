//! `cargo xtask bench grpc`: how many questions of Envoy's a second the server answers, beside the least that it could do.
//!
//! The floor is a health check of the same server: it takes the same way through HTTP/2, and decides nothing. Both are
//! asked in turn, so that whatever else the machine does meets both, and a ratio is taken within a round.

use std::path::Path;
use std::process::Command;

use super::{Server, shown};
use crate::chores::{ChoreError, Done};

const ROUNDS: usize = 7;
const REQUESTS: &str = "200000";

const POLICY: &str = "policies:
  - name: bench
    match: { where: { 'attribute:domain': edge, 'attribute:generic_key': bench } }
    key: ip
    limit: 1000000000/second
";

/// What is asked in turn: a name for people, the path, and the message.
fn questions() -> [(&'static str, &'static str, Vec<u8>); 2] {
    let text = |number: u8, text: &str| field(number, text.as_bytes());
    let entry = |key: &str, value: &str| field(1, &[text(1, key), text(2, value)].concat());
    let descriptor = [entry("generic_key", "bench"), entry("remote_address", "203.0.113.7")].concat();
    let request = [text(1, "edge"), field(2, &descriptor)].concat();
    [
        ("ShouldRateLimit", "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", frame(&request)),
        ("the floor: a health check", "grpc.health.v1.Health/Check", frame(&[])),
    ]
}

pub(crate) fn bench() -> Done {
    super::needs("h2load", "nghttp2-client")?;
    Server::build()?;
    let directory = super::directory("bench-grpc")?;
    let (policy, body) = (directory.join("policy.yaml"), directory.join("body"));
    super::write(&policy, POLICY)?;
    let policy = policy.display().to_string();
    let server = Server::start(&["--grpc"], &["--log", "error", "--policy", &policy], None)?;
    let url = format!("http://{}", server.address("gRPC")?);
    let mut rates = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        for ((name, path, message), rates) in questions().iter().zip(&mut rates) {
            super::write(&body, message)?;
            let rate = load(&format!("{url}/{path}"), &body)?;
            println!("round {round}/{ROUNDS}  {name}: {rate:.0} a second");
            rates.push(rate);
        }
    }
    let [asked, floor] = &rates;
    println!("\nrequests a second, 8 connections of 32 requests each, {ROUNDS} rounds (min / median / max)");
    for ((name, ..), rates) in questions().iter().zip(&rates) {
        println!("{name:<28} {}", shown(rates.iter().copied(), 0));
    }
    let ratios = asked.iter().zip(floor).map(|(asked, floor)| asked / floor);
    println!("{:<28} {}", "of the floor", shown(ratios, 2));
    Ok(())
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

/// Requests a second.
fn load(url: &str, body: &Path) -> Result<f64, ChoreError> {
    let output = Command::new("h2load")
        .args(["-n", REQUESTS, "-c", "8", "-m", "32", "-t", "1", "-H", "te: trailers"])
        .args(["-H", "content-type: application/grpc", "-d"])
        .args([body, Path::new(url)])
        .output()
        .map_err(|error| ChoreError::Io("h2load".to_owned(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_whole = text.contains(&format!("{REQUESTS} succeeded, 0 failed, 0 errored"));
    let rate = text.split_once(" req/s").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    rate.filter(|_| is_whole).ok_or_else(|| ChoreError::Failed(format!("h2load {url}\n{text}")))
}
