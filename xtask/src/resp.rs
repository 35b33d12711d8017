//! `cargo xtask bench resp`: the Redis protocol, measured by Redis's own tool.
//!
//! Each round asks everything once, one after the other, so that whatever else the machine does meets all, and a ratio is
//! taken within a round.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::chores::{ChoreError, Done, cargo, root};

const ROUNDS: usize = 5;

/// How many commands each client has under way, and how many are sent in a run.
const LOADS: [(&str, &str); 2] = [("1", "200000"), ("64", "3000000")];

/// What is asked: a name, whether Redis is asked, and the command.
const RUNS: [(&str, bool, &[&str]); 4] = [
    ("Redis, INCR", true, &["INCR", "key:__rand_int__"]),
    ("Tollgate, CL.THROTTLE", false, &["CL.THROTTLE", "key:__rand_int__", "100", "1000000", "60"]),
    ("Redis, PING: the floor", true, &["PING"]),
    ("Tollgate, PING: the floor", false, &["PING"]),
];

pub(crate) fn bench() -> Done {
    crate::servers::ready()?;
    cargo(&["build", "--release", "--package", "tollgate-server"], &[])?;
    let (_redis, redis_port) = redis()?;
    let (_tollgate, tollgate_port) = tollgate()?;
    for (depth, count) in LOADS {
        let mut rates: [Vec<f64>; RUNS.len()] = Default::default();
        for _ in 0..ROUNDS {
            for ((_, is_redis, command), rates) in RUNS.iter().zip(&mut rates) {
                let port = if *is_redis { redis_port } else { tollgate_port };
                rates.push(rate(port, depth, count, command)?);
            }
        }
        println!(
            "\n50 clients, {depth} commands under way each, keys at random among a million, {ROUNDS} rounds:"
        );
        for ((name, ..), of_it) in RUNS.iter().zip(&rates) {
            println!("  {name:<28} {} thousand a second", spread(of_it.iter().map(|rate| rate / 1e3), 0));
        }
        let ratios = rates[1].iter().zip(&rates[0]).map(|(ours, theirs)| ours / theirs);
        println!("  {:<28} {} (min / median / max)", "CL.THROTTLE to INCR", spread(ratios, 2));
    }
    Ok(())
}

/// Least, median and most.
fn spread(numbers: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let shown = |at: usize| numbers.get(at).map_or_else(String::new, |number| format!("{number:.digits$}"));
    format!("{} / {} / {}", shown(0), shown(numbers.len() / 2), shown(numbers.len().saturating_sub(1)))
}

/// Commands a second, as redis-benchmark counts them.
fn rate(port: u16, depth: &str, count: &str, command: &[&str]) -> Result<f64, ChoreError> {
    let shown = format!("redis-benchmark -p {port} -c 50 -P {depth} {}", command.join(" "));
    let port = port.to_string();
    let output = Command::new("redis-benchmark")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-c",
            "50",
            "-n",
            count,
            "-P",
            depth,
            "-r",
            "1000000",
            "--csv",
        ])
        .args(command)
        .output()
        .map_err(|error| ChoreError::Io(shown.clone(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().last().and_then(|line| line.split("\",\"").nth(1)?.parse().ok());
    rate.ok_or(ChoreError::Failed(shown))
}

/// A server that is gone when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis() -> Result<(Server, u16), ChoreError> {
    let failed = |error| ChoreError::Io("redis-server".to_owned(), error);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(failed)?;
    let port = free.port().to_string();
    let child = Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let server = Server(child);
    let began = Instant::now();
    while TcpStream::connect(free).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(ChoreError::Failed("redis-server".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((server, free.port()))
}

fn tollgate() -> Result<(Server, u16), ChoreError> {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let program = root().join(target).join("release/tollgate");
    let shown = program.display().to_string();
    let mut child = Command::new(program)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--grpc",
            "off",
            "--admin",
            "off",
            "--resp",
            "127.0.0.1:0",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| ChoreError::Io(shown.clone(), error))?;
    let out = child.stdout.take();
    let server = Server(child);
    let mut lines = out.into_iter().flat_map(|out| BufReader::new(out).lines().map_while(Result::ok));
    let port = lines.find_map(|line| line.split_once("redis://")?.1.rsplit_once(':')?.1.trim().parse().ok());
    Ok((server, port.ok_or(ChoreError::Failed(shown))?))
}
