//! `cargo xtask bench http`: `/v1/check` as one processor's worth of clients asks it, beside the least that the server could do.
//!
//! The floor is `/healthz` of the same server: the same way through HTTP, and nothing decided. throttlecrab-server is asked for
//! the same over its own API, if it can be had. Each round asks everything once, one after the other, so that whatever else the
//! machine does meets all, and a ratio is taken within a round.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{LIMIT, Running, Server, paced, shown, spread, target};
use crate::chores::{ChoreError, Done, cargo};

const ROUNDS: usize = 5;
/// How long a rate is measured.
const LENGTH: &str = "3s";
/// How long is asked at half of the greatest rate, in each round.
const PACED: Duration = Duration::from_secs(4);

const QUESTION: &str = r#"{"method":"GET","path":"/api/things","ip":"203.0.113.7"}"#;
const THEIR_QUESTION: &str =
    r#"{"key":"203.0.113.7","max_burst":1000000000,"count_per_period":1000000000,"period":1}"#;

/// What is asked in turn.
struct Asked {
    name: &'static str,
    url: String,
    /// What is posted; nothing for a plain GET.
    script: Option<PathBuf>,
    rates: Vec<f64>,
}

pub(crate) fn bench() -> Done {
    needs_wrk()?;
    Server::build()?;
    let directory = super::directory("bench-http")?;
    let policy = directory.join("policy.yaml");
    super::write(&policy, format!("policies: [{{ name: bench, key: ip, limit: {LIMIT} }}]\n"))?;
    let server = Server::start(&[], &["--log", "error", "--policy", &policy.display().to_string()], None)?;
    let address = server.address("HTTP")?;
    let script = |name: &str, body: &str| {
        let path = directory.join(name);
        let head = "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\n";
        super::write(&path, format!("{head}wrk.body = [[{body}]]\n")).map(|()| Some(path))
    };
    let asked = |name, address: &str, path: &str, script| Asked {
        name,
        url: format!("http://{address}{path}"),
        script,
        rates: Vec::new(),
    };
    let mut all = vec![
        asked("POST /v1/check", &address, "/v1/check", script("check.lua", QUESTION)?),
        asked("GET /healthz: the floor", &address, "/healthz", None),
    ];
    let peer = throttlecrab()?;
    if let Some((_, peer)) = &peer {
        let script = script("throttle.lua", THEIR_QUESTION)?;
        all.push(asked("throttlecrab-server", peer, "/throttle", script));
    }
    for round in 1..=ROUNDS {
        for asked in &mut all {
            let rate = rate(&asked.url, asked.script.as_deref())?;
            println!("round {round}/{ROUNDS}  {}: {rate:.0} a second", asked.name);
            asked.rates.push(rate);
        }
    }
    println!(
        "\nrequests a second, wrk with 1 thread and 32 connections, {ROUNDS} rounds (min / median / max)"
    );
    super::compared(all.iter().map(|asked| (asked.name, asked.rates.as_slice())));
    paced_rounds(&address, spread(all[0].rates.iter().copied())[1] / 2.0)
}

/// How long answers take at this rate, and those of the floor at the same.
fn paced_rounds(address: &str, rate: f64) -> Done {
    let ours = paced::post("/v1/check", QUESTION);
    let floor = "GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n".to_owned();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (question, times) in [&ours, &floor].into_iter().zip(&mut times) {
            let began = Instant::now();
            let answers =
                paced::ask(address, rate, &|_| question.clone(), paced::http, &|| began.elapsed() < PACED)?;
            if answers.failed > 0 {
                return Err(ChoreError::Failed(format!("asking over HTTP, {} times,", answers.failed)));
            }
            times.push(answers.within(0.99));
        }
    }
    let [ours, floor] = times;
    println!("\nat {rate:.0} a second, half of that: 99 % of answers within, from when they were due, in ms");
    println!("{:<34} {}", "POST /v1/check", shown(ours, 2));
    println!("{:<34} {}", "GET /healthz: the floor", shown(floor, 2));
    Ok(())
}

/// wrk tells its version with a failure.
fn needs_wrk() -> Done {
    let found = Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok() { Ok(()) } else { super::needs("wrk", "wrk") }
}

/// Requests a second; all of them have to be answered with success.
fn rate(url: &str, script: Option<&Path>) -> Result<f64, ChoreError> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c32", "-d", LENGTH]);
    if let Some(script) = script {
        wrk.arg("-s").arg(script);
    }
    let output = wrk.arg(url).output().map_err(|error| ChoreError::Io("wrk".to_owned(), error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_clean = !text.contains("Non-2xx") && !text.contains("Socket errors");
    let rate =
        text.split_once("Requests/sec:").and_then(|(_, rate)| rate.split_whitespace().next()?.parse().ok());
    rate.filter(|_| is_clean).ok_or_else(|| ChoreError::Failed(format!("wrk {url}\n{text}")))
}

/// throttlecrab-server and its address, if it is there or can be built.
fn throttlecrab() -> Result<Option<(Running, String)>, ChoreError> {
    const NAME: &str = "throttlecrab-server";
    let root = target().join("peers-bin");
    let built = root.join("bin").join(NAME);
    let is_there = || crate::servers::is_there(NAME) || crate::servers::is_there(&built);
    if !is_there() {
        println!("throttlecrab-server is not there; building it");
        // If this does not work, it is said below.
        let _ = cargo(&["install", NAME, "--locked", "--root", &root.display().to_string()], &[]);
    }
    if !is_there() {
        println!(
            "NOT COMPARED with throttlecrab-server: run `cargo install throttlecrab-server`, then this again"
        );
        return Ok(None);
    }
    let program = if crate::servers::is_there(&built) { built } else { NAME.into() };
    let failed = |error| ChoreError::Io(NAME.to_owned(), error);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(failed)?;
    let child = Command::new(program)
        .args([
            "--http",
            "--http-host",
            "127.0.0.1",
            "--http-port",
            &free.port().to_string(),
            "--log-level",
            "error",
        ])
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let running = Running(child);
    let began = Instant::now();
    while TcpStream::connect(free).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(ChoreError::Failed(NAME.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Some((running, free.to_string())))
}
