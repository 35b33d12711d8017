//! The commands that ask a running server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Server, run, stderr, stdout, until};
use serde_json::Value;

const POLICIES: &str = r"policies:
  - { name: login, match: { method: POST, path: /login }, key: ip, limit: 2/hour }
  - { name: tenants, match: { path: /t/** }, key: header:x-tenant, limit: 1/hour, shadow: true }
";

fn server(dir: &std::path::Path) -> Server {
    let file = dir.join("policies.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    Server::start(&["--policy", file.to_str().unwrap()])
}

#[test]
fn check_says_whether_a_request_would_pass() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let check = |words: &[&str]| run(&[&["check", "--server", &server.url], words].concat());
    let login = ["POST", "/login", "203.0.113.7"];
    let asked = check(&login);
    assert_eq!(asked.status.code(), Some(0), "{}", stderr(&asked));
    assert!(stdout(&asked).starts_with("passes by login\n"), "{}", stdout(&asked));
    // Nothing was taken, until it is to be.
    for code in [0, 0, 3] {
        assert_eq!(check(&[&login[..], &["--take"]].concat()).status.code(), Some(code));
    }
    let denied = check(&login);
    assert_eq!(denied.status.code(), Some(3));
    assert!(
        stdout(&denied).starts_with("denied by login\n") && stdout(&denied).contains("denies"),
        "{}",
        stdout(&denied)
    );
    // Another cost, JSON, an attribute of any name, and nothing that applies.
    assert_eq!(check(&["POST", "/login", "203.0.113.8", "--cost", "3"]).status.code(), Some(3));
    let json = check(&["/t/x", "header:x-tenant=acme", "--json"]);
    let answer: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(answer["policies"][0]["policy"], "tenants");
    assert!(stdout(&check(&["k-123"])).starts_with("passes: no policy applies"));
    // What cannot be asked is said.
    for (words, url, said) in [
        (&["ip=nowhere"][..], &*server.url, "no address"),
        (&["10.0.0.1", "10.0.0.2"], &server.url, "already"),
        (&["POST"], "http://127.0.0.1:1", "does not answer"),
        (&["POST"], "nonsense", "nonsense"),
        (&["POST"], "https://127.0.0.1:1", "--ca"),
        (&["POST"], &server.admin(), "refuses"),
    ] {
        let refused = run(&[&["check", "--server", url], words].concat());
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(stderr(&refused).contains(said), "{words:?}: {}", stderr(&refused));
    }
}

#[test]
fn explain_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let admin = server.admin();
    let explain = |words: &[&str]| run(&[&["explain", "--server", &admin], words].concat());
    for _ in 0..4 {
        server.post("/v1/check", r#"{"method":"POST","path":"/login","ip":"203.0.113.7"}"#);
    }
    let denied = explain(&["POST", "/login", "203.0.113.7"]);
    assert_eq!(denied.status.code(), Some(3), "{}", stderr(&denied));
    let text = stdout(&denied);
    for said in [
        "denied: `login` (2/hour GCRA) has 0 of 2 left; it passes in",
        "login counts by 203.0.113.7",
        "2 passed, 2 denied since",
        "tenants  is for /t/**",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let unknown = explain(&["/t/1"]);
    assert!(
        stdout(&unknown).contains("counts by header:x-tenant, which the request lacks"),
        "{}",
        stdout(&unknown)
    );
    // The server itself does not explain: its administration does.
    let elsewhere = run(&["explain", "--server", &server.url, "/t/1"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(stderr(&elsewhere).contains("refuses"), "{}", stderr(&elsewhere));
}

#[test]
fn top_shows_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    for _ in 0..4 {
        server.post("/v1/check", r#"{"method":"POST","path":"/login","ip":"203.0.113.7"}"#);
    }
    // The second in which they were asked may not have been told yet.
    let mut text = String::new();
    until("they are told", || {
        let shown = run(&["top", "--once", "--server", &server.url]);
        assert!(shown.status.success(), "{}", stderr(&shown));
        text = stdout(&shown);
        text.contains("203.0.113.7")
    });
    assert!(text.contains("login") && text.contains("store memory available"), "{text}");
    let json = run(&["top", "--once", "--json", "--server", &server.url]);
    let second: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(
        (second["totals"]["allowed"].as_u64(), second["totals"]["denied"].as_u64()),
        (Some(2), Some(2))
    );
    // Where the server ends, so does this.
    let mut watching = common::tollgate();
    let mut watching = watching
        .args(["top", "--json", "--server", &server.url])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(watching.stdout.take().unwrap()), &mut line)
        .unwrap();
    drop(server);
    let ended = watching.wait_with_output().unwrap();
    assert!(
        !ended.status.success() && stderr(&ended).contains("does not answer any more"),
        "{}",
        stderr(&ended)
    );
}
