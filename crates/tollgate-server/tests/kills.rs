//! The real program, killed by SIGKILL at random moments while it decides and writes, and what it knows when it comes back.
//!
//! Here it is killed a hundred times. `cargo xtask kills` does it three thousand times on the optimised program, and tells how
//! much was lost at most.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Server, run, stderr, until};
use serde_json::json;

/// What recovers so slowly that what was taken is still taken when it is looked at; a state of each form.
const POLICIES: &str = "
policies:
  - { name: gcra, match: { path: /gcra }, key: user, limit: 100000/100 years }
  - { name: fraction, match: { path: /fraction }, key: user, limit: 99991/90 years }
  - { name: batch, match: { path: /batch }, key: user, algorithm: token_bucket, capacity: 100000, refill: 100000/5 years, refill_style: interval }
  - { name: fixed, match: { path: /fixed }, key: user, algorithm: fixed_window, limit: 100000/100 years }
  - { name: sliding, match: { path: /sliding }, key: user, algorithm: sliding_window, limit: 100000/4 years }
  - { name: log, match: { path: /log }, key: user, algorithm: sliding_log, limit: 100000/year }
";
const PATHS: [&str; 6] = ["/gcra", "/fraction", "/batch", "/fixed", "/sliding", "/log"];
const USERS: usize = 12;
const PIPELINE: usize = 24;
const FLUSH: Duration = Duration::from_millis(20);

/// What a question is answered with: whether the request passes, by which policy, its limit, and how much is left.
type Answer = (i64, String, i64, i64, i64, i64);

/// What a client knows of each key: how often it was asked for, and how often that was answered.
#[derive(Clone, Debug, Default)]
struct Known {
    sent: HashMap<(usize, usize), i64>,
    acknowledged: HashMap<(usize, usize), i64>,
}

/// What was acknowledged when the server had flushed so many times.
struct Mark {
    flushes: u64,
    at: Instant,
    acknowledged: HashMap<(usize, usize), i64>,
}

/// A random number, from a seed that is told, so that a run can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn pick(&mut self, of: usize) -> usize {
        usize::try_from(self.below(of as u64)).unwrap()
    }
}

#[test]
fn a_hundred_kills() {
    let lost = kill(100, 0x5EED_0001);
    println!("at most {lost:?} were lost");
}

#[test]
#[ignore = "it takes a quarter of an hour: `cargo xtask kills`"]
fn at_length() {
    let (kills, seed) = (3_000, std::process::id().into());
    println!("{kills} kills, seed {seed}");
    let lost = kill(kills, seed);
    println!("0 failed to open, 0 states that were none, at most {lost:?} lost, flushed every {FLUSH:?}");
}

/// Kills a server so many times. Returns for how long before a kill, at most, what was acknowledged was lost.
fn kill(kills: u64, seed: u64) -> Duration {
    let directory = tempfile::tempdir().unwrap();
    let policies = directory.path().join("policies.yaml");
    std::fs::write(&policies, POLICIES).unwrap();
    let data = directory.path().join("data");
    let arguments = [
        "--policy",
        policies.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--flush-interval",
        &format!("{}ms", FLUSH.as_millis()),
        "--log",
        "warn",
    ];
    let (mut random, mut lost_max) = (Random(seed | 1), Duration::ZERO);
    let mut used: HashMap<(usize, usize), i64> = HashMap::new();
    for round in 0..kills {
        let mut server = Server::start(&arguments);
        let mut connection = connect(&server);
        let known = Arc::new(Mutex::new(Known { sent: used.clone(), acknowledged: used.clone() }));
        let flushes = Arc::new(AtomicU64::new(0));
        let asking = {
            let (known, mut random) = (Arc::clone(&known), Random(random.below(u64::MAX) | 1));
            std::thread::spawn(move || while ask(&mut connection, &known, &mut random) {})
        };
        // Before it has flushed, after one flush, or somewhere in between.
        let wanted = random.below(4);
        let (mut marks, extra) = (Vec::new(), Duration::from_micros(random.below(40_000)));
        loop {
            let acknowledged = known.lock().unwrap().acknowledged.clone();
            let at = Instant::now();
            let Some(count) = flushes_of(&server) else { panic!("round {round}, seed {seed}: no metrics") };
            marks.push(Mark { flushes: count, at, acknowledged });
            flushes.store(count, Ordering::Relaxed);
            if count >= wanted {
                break;
            }
        }
        std::thread::sleep(extra);
        let killed = Instant::now();
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        asking.join().unwrap();
        let known = known.lock().unwrap().clone();
        let server = Server::start(&arguments);
        used = look(&server);
        let last = flushes.load(Ordering::Relaxed);
        // What was acknowledged before a flush began that had ended is there.
        let safe = marks.iter().rev().find(|mark| mark.flushes + 2 <= last);
        for (key, found) in &used {
            let sent = known.sent.get(key).copied().unwrap_or_default();
            let least = safe.and_then(|mark| mark.acknowledged.get(key)).copied();
            // What had come out of an earlier kill was written before anybody could ask.
            let least = least.unwrap_or_default();
            assert!(
                (least..=sent).contains(found),
                "round {round}, seed {seed}, {} of user {}: {least} ≤ {found} ≤ {sent}",
                PATHS[key.0],
                key.1
            );
        }
        let whole = |mark: &&Mark| mark.acknowledged.iter().all(|(key, count)| used.get(key) >= Some(count));
        let lost = marks.iter().rev().find(whole).map_or(killed, |mark| mark.at);
        lost_max = lost_max.max(killed.duration_since(lost));
        drop(server);
    }
    lost_max
}

fn connect(server: &Server) -> redis::Connection {
    redis::Client::open(format!("redis://{}", server.resp())).unwrap().get_connection().unwrap()
}

fn question(command: &str, path: usize, user: usize) -> redis::Cmd {
    let mut question = redis::cmd(command);
    question.arg("method").arg("GET").arg("path").arg(PATHS[path]).arg("user").arg(user);
    question
}

/// Asks some questions at once. Returns whether they were answered.
fn ask(connection: &mut redis::Connection, known: &Mutex<Known>, random: &mut Random) -> bool {
    let keys: Vec<(usize, usize)> =
        (0..PIPELINE).map(|_| (random.pick(PATHS.len()), random.pick(USERS))).collect();
    let mut pipeline = redis::pipe();
    for (path, user) in &keys {
        pipeline.add_command(question("TG.CHECK", *path, *user));
    }
    {
        let mut known = known.lock().unwrap();
        for key in &keys {
            *known.sent.entry(*key).or_default() += 1;
        }
    }
    let Ok(answers) = pipeline.query::<Vec<Answer>>(connection) else { return false };
    let mut known = known.lock().unwrap();
    for (key, answer) in keys.iter().zip(answers) {
        assert_eq!(answer.0, 1, "there is enough: {answer:?}");
        *known.acknowledged.entry(*key).or_default() += 1;
    }
    true
}

/// How much of each key is used.
fn look(server: &Server) -> HashMap<(usize, usize), i64> {
    let mut connection = connect(server);
    let keys: Vec<(usize, usize)> =
        (0..PATHS.len()).flat_map(|path| (0..USERS).map(move |user| (path, user))).collect();
    let mut pipeline = redis::pipe();
    for (path, user) in &keys {
        let mut question = question("TG.PEEK", *path, *user);
        question.arg("cost").arg(0);
        pipeline.add_command(question);
    }
    let answers = pipeline.query::<Vec<Answer>>(&mut connection).unwrap();
    keys.into_iter().zip(answers).map(|(key, answer)| (key, answer.2 - answer.3)).collect()
}

fn flushes_of(server: &Server) -> Option<u64> {
    metric(server, "rate_limiter_disk_flushes_total")
}

fn metric(server: &Server, name: &str) -> Option<u64> {
    let metrics = server.try_get("/metrics")?.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn allowed(server: &Server, user: &str) -> bool {
    let body = json!({ "method": "GET", "path": "/", "user": user }).to_string();
    server.post("/v1/check", &body).json()["allowed"].as_bool().unwrap()
}

const TWO: &str = "policies: [{ name: two, key: user, limit: 2/day }]";

/// A policy file and a directory for state, both below a temporary directory.
fn two() -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policies.yaml");
    std::fs::write(&policy, TWO).unwrap();
    let data = directory.path().join("below/data").to_str().unwrap().to_owned();
    let policy = policy.to_str().unwrap().to_owned();
    (directory, policy, data)
}

#[test]
fn a_stop_loses_nothing_neither_limits_nor_bans() {
    let (_directory, policy, data) = two();
    // Longer than the test: what is there was written by the stop.
    let arguments = ["--policy", &policy, "--data-dir", &data, "--flush-interval", "1h"];
    let mut server = Server::start(&arguments);
    assert!(server.announcement.contains(&format!("memory, kept in {data}")), "{}", server.announcement);
    assert!(allowed(&server, "a") && allowed(&server, "a") && allowed(&server, "b"));
    let ban = json!({ "request": { "method": "GET", "path": "/", "user": "c" }, "for": "1h" });
    assert_eq!(server.administer("POST", "/v1/bans", &ban.to_string()).status, 200);
    server.terminate();
    assert!(server.wait(Duration::from_mins(1)).unwrap().success());

    let server = Server::start(&arguments);
    assert_eq!(metric(&server, "rate_limiter_store_keys"), Some(2));
    assert!(!allowed(&server, "a"));
    assert!(allowed(&server, "b"));
    assert!(!allowed(&server, "b"));
    assert!(!allowed(&server, "c"), "banned, in a file beside");
    assert_eq!(server.get("/readyz").body, "ready\n");
}

#[test]
fn a_file_that_goes_away_is_told_and_written_anew() {
    let (_directory, policy, data) = two();
    let server = Server::start(&["--policy", &policy, "--data-dir", &data, "--flush-interval", "50ms"]);
    assert!(allowed(&server, "a"));
    let data_path = std::path::Path::new(&data);
    let kept = || {
        std::fs::read_dir(data_path).ok()?.find(|entry| {
            entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("state-"))
        })
    };
    std::fs::remove_dir_all(data_path).unwrap();
    // A file where the directory was: nothing can be written.
    std::fs::write(data_path, "").unwrap();
    until("it is said", || server.get("/readyz").body.starts_with("degraded: states cannot be written"));
    assert_eq!(metric(&server, "rate_limiter_disk_failing"), Some(1));
    assert!(metric(&server, "rate_limiter_disk_failures_total") >= Some(1));
    assert!(allowed(&server, "a") && !allowed(&server, "a"), "decisions go on");
    std::fs::remove_file(data_path).unwrap();
    until("all is well again", || server.get("/readyz").body == "ready\n");
    assert!(kept().is_some());
    drop(server);
    let server = Server::start(&["--policy", &policy, "--data-dir", &data]);
    assert!(!allowed(&server, "a"));
}

#[test]
fn the_settings_of_the_file_hold_and_mistakes_are_told() {
    let (directory, policy, data) = two();
    let of_file = directory.path().join("of-file");
    let with_store = format!("store: {{ data_dir: {}, flush_interval: 70ms }}\n{TWO}", of_file.display());
    std::fs::write(&policy, &with_store).unwrap();
    let server = Server::start(&["--policy", &policy]);
    assert!(server.announcement.contains(of_file.to_str().unwrap()), "{}", server.announcement);
    // Another on the same directory.
    let told = |arguments: &[&str]| {
        let all = [
            &["serve", "--listen", "127.0.0.1:0", "--grpc", "off", "--resp", "off", "--admin", "off"],
            arguments,
        ];
        let output = run(&all.concat());
        assert!(!output.status.success());
        stderr(&output)
    };
    let in_use = told(&["--policy", &policy]);
    assert!(in_use.contains("in use by another process (process "), "{in_use}");
    drop(server);

    std::fs::write(&policy, TWO).unwrap();
    let both = told(&["--policy", &policy, "--data-dir", &data, "--store", "redis://127.0.0.1:1"]);
    assert!(both.contains("leave one of them out"), "{both}");
    let alone = told(&["--policy", &policy, "--flush-interval", "2s"]);
    assert!(alone.contains("--data-dir"), "{alone}");
    let short = told(&["--policy", &policy, "--data-dir", &data, "--flush-interval", "1ms"]);
    assert!(short.contains("from 10ms to 1h"), "{short}");
    let seed = "00112233445566778899aabbccddeeff";
    let other = told(&["--policy", &policy, "--data-dir", of_file.to_str().unwrap(), "--key-seed", seed]);
    assert!(other.contains("hashed under another seed"), "{other}");
    let no_directory = told(&["--policy", &policy, "--data-dir", &format!("{policy}/below")]);
    assert!(no_directory.contains("has to be a directory"), "{no_directory}");

    std::fs::write(&policy, with_store.replace("data_dir", "url: 'redis://127.0.0.1:1', data_dir")).unwrap();
    let output = run(&["validate", &policy]);
    assert!(stderr(&output).contains("`data_dir` keeps what is in memory"), "{}", stderr(&output));
}
