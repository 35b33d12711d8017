//! `cargo xtask bench reload`: ten thousand policies, loaded again and again while requests come.
//!
//! Every reload changes all of the policies, and every fifth file is wrong. How long each takes is what the server logs. What
//! clients notice is asked twice: under all the load that `h2load` can make, and at half of that, each without reloads and with.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::paced::{self, Answers};
use super::{Server, shown};
use crate::chores::{ChoreError, Done};

const POLICIES: u32 = 10_000;
/// How long each kind of load goes on, in seconds.
const LENGTH: u32 = 15;
/// Between two reloads.
const PAUSE: Duration = Duration::from_millis(50);
/// Questions a second beside the full load, from which it is known how long answers take.
const PROBES: f64 = 400.0;
/// The least number of reloads that says something.
const RELOADS_MIN: usize = 20;

/// The server, and what reloads are made of.
struct Bench {
    server: Server,
    address: String,
    file: PathBuf,
    log: PathBuf,
    body: PathBuf,
}

pub(crate) fn bench() -> Done {
    super::needs("h2load", "nghttp2-client")?;
    Server::build()?;
    let directory = super::directory("bench-reload")?;
    let (file, log) = (directory.join("policies.yaml"), directory.join("log"));
    let body = directory.join("body.json");
    super::write(&file, policies(0))?;
    super::write(&body, question(POLICIES / 2))?;
    let path = file.display().to_string();
    let options = ["--policy", &path, "--watch", "off", "--log", "info", "--log-format", "json"];
    let server = Server::start(&[], &options, Some(&log))?;
    let bench = Bench { address: server.address("HTTP")?, server, file, log, body };

    let (quiet, rate) = bench.under_full_load(false)?;
    let (while_reloading, slower) = bench.under_full_load(true)?;
    let half = rate / 2.0;
    let (half_quiet, half_reloading) = (bench.at(half, false)?, bench.at(half, true)?);

    let reloads = bench.reloads()?;
    if reloads.iter().filter(|(succeeded, _)| *succeeded).count() < RELOADS_MIN {
        return Err(ChoreError::Failed(format!("reloading {RELOADS_MIN} times in {} s", 2 * LENGTH)));
    }
    println!(
        "\n{POLICIES} policies, all changed by each reload, every fifth file wrong (min / median / max)"
    );
    for (word, of_these) in [("put in force", true), ("refused", false)] {
        let took = || reloads.iter().filter(|(ok, _)| *ok == of_these).map(|(_, ms)| *ms);
        println!("{word:<14} {:>4} times, each in {} ms", took().count(), shown(took(), 0));
    }
    println!("requests a second under full load: {rate:.0}; while reloading {slower:.0}; none failed");
    println!("99 % of answers within, in ms, without reloads and while reloading");
    for (load, quiet, loud) in [("full", quiet, while_reloading), ("half", half_quiet, half_reloading)] {
        println!(
            "{load} load   {:.2} and {:.2}   ({} and {} asked; longest {:.1} and {:.1})",
            quiet.within(0.99),
            loud.within(0.99),
            quiet.len(),
            loud.len(),
            quiet.within(1.0),
            loud.within(1.0),
        );
    }
    Ok(())
}

impl Bench {
    /// Questions beside all that `h2load` can ask, and how many a second that was.
    fn under_full_load(&self, reloads: bool) -> Result<(Answers, f64), ChoreError> {
        let failed = |error| ChoreError::Io("h2load".to_owned(), error);
        let url = format!("http://{}/v1/check", self.address);
        let mut load = Command::new("h2load")
            .args(["--h1", "-c", "32", "-t", "1", "-D", &LENGTH.to_string()])
            .args(["-H", "content-type: application/json", "-d"])
            .args([&self.body, Path::new(&url)])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let answers = self.asked(PROBES, reloads);
        if answers.is_err() {
            let _ = load.kill();
        }
        let output = load.wait_with_output().map_err(failed)?;
        let answers = answers?;
        let text = String::from_utf8_lossy(&output.stdout);
        let is_whole =
            text.contains(" 0 failed, 0 errored, 0 timeout") && text.contains("2xx, 0 3xx, 0 4xx, 0 5xx");
        let rate = text.split_once(" req/s").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
        let rate =
            rate.filter(|_| is_whole).ok_or_else(|| ChoreError::Failed(format!("h2load {url}\n{text}")))?;
        Ok((answers, rate))
    }

    /// Questions at this rate, and nothing beside.
    fn at(&self, rate: f64, reloads: bool) -> Result<Answers, ChoreError> {
        self.asked(rate, reloads)
    }

    fn asked(&self, rate: f64, reloads: bool) -> Result<Answers, ChoreError> {
        let (began, is_over) = (Instant::now(), AtomicBool::new(false));
        let goes_on =
            || began.elapsed() < Duration::from_secs(LENGTH.into()) && !is_over.load(Ordering::Relaxed);
        let question = |number: u32| paced::post("/v1/check", &question(number % POLICIES));
        let answers = std::thread::scope(|scope| {
            let reloading = scope.spawn(|| {
                let result = if reloads { self.reload_while(&goes_on) } else { Ok(()) };
                is_over.store(result.is_err(), Ordering::Relaxed);
                result
            });
            let answers = paced::ask(&self.address, rate, &question, paced::http, &goes_on);
            reloading.join().map_err(|_| ChoreError::Failed("reloading".to_owned()))??;
            answers
        })?;
        if answers.failed > 0 {
            return Err(ChoreError::Failed(format!("asking over HTTP, {} times,", answers.failed)));
        }
        Ok(answers)
    }

    fn reload_while(&self, goes_on: &dyn Fn() -> bool) -> Done {
        let hang_up = || {
            let status = Command::new("kill").args(["-HUP", &self.server.id().to_string()]).status();
            status.map_err(|error| ChoreError::Io("kill -HUP".to_owned(), error))
        };
        let mut round = 0;
        while goes_on() {
            round += 1;
            let done = self.reloads()?.len();
            super::write(&self.file, policies(round))?;
            hang_up()?;
            let began = Instant::now();
            while self.reloads()?.len() == done {
                if began.elapsed() > Duration::from_secs(30) {
                    return Err(ChoreError::Failed("kill -HUP, which the server does not log,".to_owned()));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// From the log: whether each reload succeeded, and its milliseconds.
    fn reloads(&self) -> Result<Vec<(bool, f64)>, ChoreError> {
        let text = std::fs::read_to_string(&self.log)
            .map_err(|error| ChoreError::Io(self.log.display().to_string(), error))?;
        let reload = |line: &str| {
            let (_, took) = line.split_once("\"took_ms\":")?;
            let took = took.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
            Some((line.contains("\"INFO\""), took))
        };
        // A line is whole once the next one begins.
        Ok(text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(reload).collect())
    }
}

/// A file of policies, all different from those of the round before. Every fifth is wrong, in its last line.
fn policies(round: u32) -> String {
    let limit = if round.is_multiple_of(2) { 1_000_000_000 } else { 900_000_000 };
    let mut text = "policies:\n".to_owned();
    for policy in 0..POLICIES {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "  - name: policy-{policy}\n    match: {{ path: /api/things-{policy} }}\n    key: ip\n    limit: {limit}/second\n"
        );
    }
    if round % 5 == 4 {
        text.push_str("    limits: none\n");
    }
    text
}

fn question(policy: u32) -> String {
    format!(r#"{{"method":"GET","path":"/api/things-{policy}","ip":"203.0.113.7"}}"#)
}
