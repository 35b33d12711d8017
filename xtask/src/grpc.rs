//! `cargo xtask bench grpc`: how many questions of Envoy's a second the server answers, beside the least that it could do.
//!
//! The floor is a health check of the same server: it takes the same way through HTTP/2, and decides nothing. Both are
//! asked in turn, so that whatever else the machine does meets both, and a ratio is taken within a round.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::chores::{ChoreError, Done, root};

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
    if !crate::servers::is_there("h2load") {
        let hint = "h2load is missing: run `sudo apt-get install --yes nghttp2-client`, then this again";
        return Err(ChoreError::Missing(hint.to_owned()));
    }
    crate::chores::cargo(&["build", "--release", "--package", "tollgate-server"], &[])?;
    let directory = root().join("target/bench-grpc");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).map_err(|error| ChoreError::Io(path.display().to_string(), error))?;
        Ok(path)
    };
    std::fs::create_dir_all(&directory)
        .map_err(|error| ChoreError::Io(directory.display().to_string(), error))?;
    let server = Server::start(&write("policy.yaml", POLICY.as_bytes())?)?;
    let mut rates = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        for ((name, path, message), rates) in questions().iter().zip(&mut rates) {
            let body = write("body", message)?;
            let rate = load(&format!("{}/{path}", server.url), &body)?;
            println!("round {round}/{ROUNDS}  {name}: {rate:.0} a second");
            rates.push(rate);
        }
    }
    let [asked, floor] = &rates;
    let ratios: Vec<f64> = asked.iter().zip(floor).map(|(asked, floor)| asked / floor).collect();
    println!("\nrequests a second, 8 connections of 32 requests each, {ROUNDS} rounds (min / median / max)");
    for ((name, ..), rates) in questions().iter().zip(&rates) {
        let [min, median, max] = spread(rates);
        println!("{name:<28} {min:>9.0} / {median:>9.0} / {max:>9.0}");
    }
    let [min, median, max] = spread(&ratios);
    println!("{:<28} {min:>9.2} / {median:>9.2} / {max:>9.2}", "of the floor");
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

fn spread(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
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

/// The server, which is gone when this is.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(policy: &Path) -> Result<Self, ChoreError> {
        let failed = |error| ChoreError::Io("target/release/tollgate".to_owned(), error);
        let mut child = Command::new(root().join("target/release/tollgate"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--grpc",
                "127.0.0.1:0",
                "--resp",
                "off",
                "--admin",
                "off",
                "--log",
                "error",
                "--policy",
            ])
            .arg(policy)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let lines = child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines());
        let mut url = String::new();
        for line in lines {
            let line = line.map_err(failed)?;
            if let Some(address) = line.trim().strip_prefix("gRPC") {
                address.trim().clone_into(&mut url);
            }
            if line.contains("curl") {
                return Ok(Self { child, url });
            }
        }
        let _ = child.wait();
        Err(ChoreError::Failed("target/release/tollgate serve".to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
