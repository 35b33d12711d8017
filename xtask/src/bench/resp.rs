//! `cargo xtask bench resp`: the Redis protocol, measured by Redis's own tool.
//!
//! Each round asks everything once, one after the other, so that whatever else the machine does meets all, and a ratio is
//! taken within a round.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Running, Server, paced, shown};
use crate::chores::{ChoreError, Done};

const ROUNDS: usize = 5;
/// How long is asked at a fixed pace.
const PACED: Duration = Duration::from_secs(3);

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
    Server::build()?;
    let (_redis, redis_port) = redis()?;
    let tollgate = Server::start(&["--resp"], &[], None)?;
    let tollgate_port = port_of(&tollgate.address("RESP")?)?;
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
            println!("  {name:<28} {} thousand a second", shown(of_it.iter().map(|rate| rate / 1e3), 0));
        }
        let ratios = rates[1].iter().zip(&rates[0]).map(|(ours, theirs)| ours / theirs);
        println!("  {:<28} {} (min / median / max)", "CL.THROTTLE to INCR", shown(ratios, 2));
        if depth == "1" {
            paced_rounds([redis_port, tollgate_port], super::spread(rates[1].iter().copied())[1] / 2.0)?;
        }
    }
    Ok(())
}

/// How long answers take at this rate.
fn paced_rounds(ports: [u16; 2], rate: f64) -> Done {
    println!("at {rate:.0} a second, half of that: 99 % of answers within, from when they were due, in ms");
    for (name, is_redis, command) in RUNS {
        let address = format!("127.0.0.1:{}", ports[usize::from(!is_redis)]);
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            // As good as random, and each of the million once in a while.
            let line = |number: u32| {
                let key = (number.wrapping_mul(2_654_435_761) % 1_000_000).to_string();
                format!("{}\r\n", command.join(" ").replace("__rand_int__", &key))
            };
            let answers = paced::ask(&address, rate, &line, paced::resp, &|| began.elapsed() < PACED)?;
            if answers.failed > 0 {
                return Err(ChoreError::Failed(format!("{name}, {} times,", answers.failed)));
            }
            times.push(answers.within(0.99));
        }
        println!("  {name:<28} {}", shown(times, 2));
    }
    Ok(())
}

/// Commands a second, as redis-benchmark counts them.
fn rate(port: u16, depth: &str, count: &str, command: &[&str]) -> Result<f64, ChoreError> {
    let run = format!("redis-benchmark -p {port} -c 50 -P {depth} {}", command.join(" "));
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
        .map_err(|error| ChoreError::Io(run.clone(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().last().and_then(|line| line.split("\",\"").nth(1)?.parse().ok());
    rate.ok_or(ChoreError::Failed(run))
}

fn redis() -> Result<(Running, u16), ChoreError> {
    let failed = |error| ChoreError::Io("redis-server".to_owned(), error);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(failed)?;
    let port = free.port().to_string();
    let child = Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let server = Running(child);
    let began = Instant::now();
    while TcpStream::connect(free).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(ChoreError::Failed("redis-server".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((server, free.port()))
}

fn port_of(address: &str) -> Result<u16, ChoreError> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.ok_or_else(|| ChoreError::Failed(format!("tollgate serve at {address}")))
}
