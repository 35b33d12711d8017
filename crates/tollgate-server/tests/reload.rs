//! Policies that are loaded again while the real program runs.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Server, until};

const QUESTION: &str = r#"{"ip":"203.0.113.7","cost":0}"#;

fn limit(count: u32) -> String {
    format!("policies: [{{ name: api, key: ip, limit: {count}/hour }}]\n")
}

/// What is left for the client, or 0 if nobody says.
fn remaining(server: &Server) -> u64 {
    server.post("/v1/peek", QUESTION).json()["remaining"].as_u64().unwrap_or(0)
}

fn hang_up(server: &Server) {
    let status = Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").body;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}:\n{text}"));
    line.trim().parse().unwrap()
}

#[test]
fn a_changed_file_is_loaded_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policies.yaml");
    std::fs::write(&file, limit(100)).unwrap();
    let server = Server::start(&["--policy", file.to_str().unwrap(), "--watch", "100ms"]);
    assert_eq!(server.post("/v1/check", r#"{"ip":"203.0.113.7","cost":95}"#).status, 200);
    // What was left of the greater limit is left of the smaller one.
    std::fs::write(&file, limit(10)).unwrap();
    until("the limit is 10", || server.post("/v1/peek", QUESTION).json()["limit"] == 10);
    assert_eq!(remaining(&server), 5);
    // A file that is wrong changes nothing, and is counted.
    let failed = |server: &Server| metric(server, "rate_limiter_reloads_total{result=\"failed\"}");
    for (number, wrong) in (1..).zip(["policies: [{ nam: api }]", "", "policies: [", "\u{0}\u{1}"]) {
        std::fs::write(&file, wrong).unwrap();
        until("the wrong file is noticed", || failed(&server) == number);
        assert_eq!(remaining(&server), 5);
    }
    assert_eq!(metric(&server, "rate_limiter_last_reload_successful"), 0);
    std::fs::remove_file(&file).unwrap();
    until("the missing file is noticed", || failed(&server) == 5);
    assert_eq!(remaining(&server), 5);
    // The next that is right is taken.
    std::fs::write(&file, limit(7)).unwrap();
    until("the limit is 7", || server.post("/v1/peek", QUESTION).json()["limit"] == 7);
    assert_eq!(remaining(&server), 5);
    assert_eq!(metric(&server, "rate_limiter_last_reload_successful"), 1);
    // The store cannot be another one.
    std::fs::write(&file, format!("store: {{ url: \"redis://127.0.0.1:1\" }}\n{}", limit(50))).unwrap();
    until("the other store is noticed", || failed(&server) == 6);
    assert_eq!(server.post("/v1/peek", QUESTION).json()["limit"], 7);
}

#[test]
fn a_hangup_loads_the_file_also_if_nobody_watches() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policies.toml");
    let text = |count: u32| format!("[[policies]]\nname = \"api\"\nkey = \"ip\"\nlimit = \"{count}/hour\"\n");
    std::fs::write(&file, text(100)).unwrap();
    let server = Server::start(&["--policy", file.to_str().unwrap(), "--watch", "off"]);
    std::fs::write(&file, text(30)).unwrap();
    assert_eq!(remaining(&server), 100);
    hang_up(&server);
    until("the limit is 30", || remaining(&server) == 30);
}

/// Kubernetes puts the files of a ConfigMap into a directory that a link leads to, and swaps the link.
#[test]
fn a_swapped_config_map_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let release = |name: &str, count: u32| {
        let release = dir.path().join(name);
        std::fs::create_dir(&release).unwrap();
        std::fs::write(release.join("policies.yaml"), limit(count)).unwrap();
        let link = dir.path().join("..data_new");
        std::os::unix::fs::symlink(name, &link).unwrap();
        std::fs::rename(&link, dir.path().join("..data")).unwrap();
    };
    release("..one", 100);
    let file = dir.path().join("policies.yaml");
    std::os::unix::fs::symlink("..data/policies.yaml", &file).unwrap();
    let server = Server::start(&["--policy", file.to_str().unwrap(), "--watch", "100ms"]);
    assert_eq!(remaining(&server), 100);
    release("..two", 200);
    until("the limit is 200", || remaining(&server) == 200);
}

#[test]
fn a_directory_of_rules_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let rules = |domain: &str, count: u32| {
        let text = format!(
            "domain: {domain}\ndescriptors: [{{ key: user, rate_limit: {{ unit: hour, requests_per_unit: {count} }} }}]"
        );
        std::fs::write(dir.path().join(format!("{domain}.yaml")), text).unwrap();
    };
    let ask = |server: &Server, domain: &str| {
        let question = format!(
            r#"{{"domain":"{domain}","descriptors":[{{"entries":[{{"key":"user","value":"ann"}}]}}]}}"#
        );
        server.post("/json", &question).json()["statuses"][0]["limitRemaining"].as_u64().unwrap_or(0)
    };
    rules("edge", 10);
    let server = Server::start(&["--policy", dir.path().to_str().unwrap(), "--watch", "100ms"]);
    assert_eq!(ask(&server, "edge"), 9);
    rules("edge", 20);
    until("the limit is 20", || server.get("/rlconfig").body.contains("20"));
    // What was counted is counted, as in the original.
    assert_eq!(ask(&server, "edge"), 18);
    rules("other", 5);
    until("the other file is there", || server.get("/rlconfig").body.contains("other"));
    assert_eq!(ask(&server, "other"), 4);
    // One that is wrong changes nothing of the others.
    std::fs::write(dir.path().join("wrong.yaml"), "domain: wrong\ndescriptors: [{ kee: user }]").unwrap();
    until("the wrong file is noticed", || metric(&server, "rate_limiter_last_reload_successful") == 0);
    assert_eq!(ask(&server, "edge"), 17);
}

/// One reload in five is of a bad file; nobody who asks meanwhile is refused, and nobody gets more than there is.
#[test]
fn reloads_under_load_drop_nothing_and_reset_nothing() {
    const RELOADS: u32 = 30;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policies.yaml");
    std::fs::write(&file, many(0)).unwrap();
    let server = Server::start(&["--policy", file.to_str().unwrap(), "--watch", "off"]);
    let (is_over, asked, failed, passed) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let status = server.post("/v1/check", r#"{"path":"/p7","ip":"203.0.113.7"}"#).status;
                    asked.fetch_add(1, Ordering::Relaxed);
                    passed.fetch_add(u64::from(status == 200), Ordering::Relaxed);
                    failed.fetch_add(u64::from(status != 200 && status != 429), Ordering::Relaxed);
                }
            });
        }
        for round in 1..=RELOADS {
            let text = if round % 5 == 0 { "policies: 5".to_owned() } else { many(round) };
            std::fs::write(&file, text).unwrap();
            hang_up(&server);
            until("it was loaded", || {
                let reloads = ["ok", "failed"].map(|result| {
                    metric(&server, &format!("rate_limiter_reloads_total{{result=\"{result}\"}}"))
                });
                reloads[0] + reloads[1] >= u64::from(round)
            });
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (asked, failed, passed) = (asked.into_inner(), failed.into_inner(), passed.into_inner());
    assert!(asked > 0 && failed == 0, "{failed} of {asked} were refused");
    // A request that was on its way when its key moved may be counted by the former limit.
    assert!(passed <= 40 + u64::from(2 * RELOADS), "{passed} passed");
    assert_eq!(server.post("/v1/peek", r#"{"path":"/p7","ip":"203.0.113.7"}"#).status, 200);
}

/// A thousand policies, of which one allows forty a day or a little less.
fn many(round: u32) -> String {
    let mut text = "policies:\n".to_owned();
    for number in 0..1_000 {
        let count = if number == 7 { 40 - round % 3 } else { 1_000 + number };
        let _ = writeln!(
            text,
            "  - {{ name: p{number}, match: {{ path: /p{number} }}, key: ip, limit: {count}/day }}"
        );
    }
    text
}

#[test]
fn intervals_are_checked() {
    for wrong in ["", "0", "10ms", "soon", "-1s"] {
        let refused = common::run(&["serve", &format!("--watch={wrong}")]);
        assert!(!refused.status.success() && common::stderr(&refused).contains("--watch"), "{wrong}");
    }
}
