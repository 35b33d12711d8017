//! The dashboard: its page, its stream, and both in a real browser.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::Server;
use serde_json::{Value, json};

/// A policy for each way in which a request can be shown: by address, by user, and by a secret.
const POLICIES: &str = "policies:
  - { name: by-ip, key: ip, limit: 3/hour }
  - { name: by-user, key: user, limit: 3/hour }
  - { name: by-key, key: api_key, limit: 3/hour }
  - { name: watched, shadow: true, key: global, limit: 1/hour }
";

fn server() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    std::fs::write(&path, POLICIES).unwrap();
    (Server::start(&["--policy", path.to_str().unwrap()]), dir)
}

/// What is sent to who looks.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(server: &Server) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /live HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event of this name.
    fn event(&mut self, name: &str) -> Value {
        while self.line().unwrap() != format!("event: {name}") {}
        let data = self.line().unwrap();
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    }
}

/// Asks four times: three pass and the fourth is denied.
fn ask_four_times(server: &Server, request: &Value) {
    let statuses: Vec<u16> = (0..4).map(|_| server.post("/v1/check", &request.to_string()).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn the_page_stands_alone_and_lets_nothing_in() {
    let (server, _dir) = server();
    let page = server.get("/");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(page.body.contains("EventSource(\"/live\")"), "the script is in it");
    assert!(page.body.contains("prefers-color-scheme: dark"), "the style is in it");
    for outside in ["src=\"http", "href=\"http", "@import", "url(http", "innerHTML"] {
        assert!(!page.body.contains(outside), "{outside}");
    }
}

#[test]
fn the_stream_tells_what_happens() {
    let (server, _dir) = server();
    ask_four_times(&server, &json!({ "ip": "203.0.113.7" }));
    ask_four_times(&server, &json!({ "api_key": "k-4711-secret-4711" }));
    assert_eq!(server.post("/v1/check", "[]").status, 400);
    let mut stream = Stream::open(&server);
    assert!(stream.event("history").is_array());
    let second = loop {
        let second = stream.event("second");
        if second["totals"]["denied"] == 2 {
            break second;
        }
    };
    assert_eq!(second["totals"], json!({ "allowed": 6, "denied": 2, "errors": 1 }));
    let policies = second["policies"].as_array().unwrap();
    let names: Vec<&str> = policies.iter().map(|policy| policy["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["by-ip", "by-user", "by-key", "watched"]);
    assert_eq!((&policies[0]["all_matched"], &policies[0]["all_denied"]), (&json!(4), &json!(1)));
    assert_eq!(policies[3]["shadow"], true);
    let mut denied: Vec<(&str, &str)> = second["denied_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["policy"].as_str().unwrap(), key["key"].as_str().unwrap()))
        .collect();
    denied.sort_unstable();
    assert_eq!(denied, [("by-ip", "203.0.113.7"), ("by-key", "k-47…")]);
    assert_eq!(second["busy_keys"][0]["count"], 4);
    let recent = second["recent"].as_array().unwrap();
    assert_eq!(recent.len(), 8);
    let last = &recent[0];
    assert_eq!(
        (&last["allowed"], &last["policy"], &last["rule"]),
        (&json!(false), &json!("by-key"), &json!("3/hour GCRA"))
    );
    assert!(last["retry_after_ms"].as_u64().unwrap() > 0);
    assert_eq!(second["store"]["backend"], "memory");
    assert!(!second.to_string().contains("secret"), "{second}");
}

#[test]
fn who_looks_does_not_hold_up_the_end() {
    let (mut server, _dir) = server();
    let mut stream = Stream::open(&server);
    stream.event("second");
    server.terminate();
    while stream.line().is_some() {}
    assert!(server.wait(Duration::from_secs(20)).unwrap().success());
}

/// The page as a browser has it once it shows this; looked at again and again, as a browser may look before the first second of
/// the stream has come.
fn seen_in_browser(server: &Server, wanted: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut dom = String::new();
    for _ in 0..60 {
        let output = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--timeout=10000")
            .arg(format!("{}/", server.url))
            .stderr(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("chromium: {error}; run `sudo apt-get install --yes chromium`"));
        dom = String::from_utf8_lossy(&output.stdout).into_owned();
        if dom.contains(wanted) {
            return dom;
        }
    }
    panic!("the page never shows {wanted}: {dom}");
}

#[test]
fn a_browser_shows_it_and_takes_nothing_for_code() {
    let (server, _dir) = server();
    ask_four_times(&server, &json!({ "ip": "203.0.113.7" }));
    ask_four_times(&server, &json!({ "user": "<img src=x onerror=document.title='broken'>" }));
    ask_four_times(&server, &json!({ "api_key": "k-4711-secret-4711" }));
    // A second that ended in between has not seen all of them.
    let dom = seen_in_browser(&server, "9 allowed, 3 denied, 0 not decided");
    assert!(dom.contains("class=\"state live\""), "{dom}");
    assert!(dom.contains("&lt;img src=x onerror=") && dom.contains("<title>Tollgate</title>"), "{dom}");
    assert!(dom.contains("k-47…</td>") && !dom.contains("secret-"), "{dom}");
    assert!(dom.contains("over 3/hour GCRA; passes in"), "{dom}");
    assert!(dom.contains("<span class=\"tag shadow\">shadow</span>"), "{dom}");
    assert!(dom.contains("203.0.113.7</td>"), "{dom}");
    assert!(dom.contains("area-denied"), "the chart is drawn: {dom}");
}
