//! Quotas by the calendar, what is used of them, and the record of it, by the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::path::Path;

use common::{Server, run, stderr, stdout};
use serde_json::{Value, json};

const POLICIES: &str = "policies:
  - name: plan
    key: api_key
    algorithm: quota
    limit: 1000/year
    calendar: { zone: Pacific/Apia, start_month: april, start_day: 6 }
    record: claim:customer
  - { name: rate, key: ip, limit: 1000/minute }
";

fn server(dir: &Path, arguments: &[&str]) -> Server {
    let (file, usage) = (dir.join("policies.yaml"), dir.join("usage"));
    std::fs::write(&file, POLICIES).unwrap();
    let (file, usage) = (file.to_str().unwrap(), usage.to_str().unwrap());
    Server::start(&[&["--policy", file, "--watch", "off", "--usage-dir", usage], arguments].concat())
}

fn question(customer: &str, cost: u32) -> String {
    json!({ "api_key": "canary-4711", "ip": "203.0.113.7", "claims": { "customer": customer }, "cost": cost })
        .to_string()
}

fn rows(server: &Server, query: &str) -> Vec<Value> {
    let reply = server.administer("GET", &format!("/v1/usage{query}"), "");
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["trouble"], Value::Null);
    reply.json()["rows"].as_array().unwrap().clone()
}

#[test]
fn a_quota_and_its_record_are_exact_across_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = 0;
    for round in 0..4 {
        let mut server = server(dir.path(), &[]);
        // What was answered is there, whatever happened afterwards.
        let periods = server.post("/v1/usage", &question("acme", 1)).json();
        assert_eq!(periods["periods"][0]["used"], told, "round {round}");
        assert_eq!(periods["periods"][0]["remaining"], 1_000 - told);
        if round > 0 {
            assert_eq!(rows(&server, "")[0]["used"], told);
        }
        for cost in [1, 20, 3] {
            assert_eq!(server.post("/v1/check", &question("acme", cost)).status, 200);
            told += cost;
        }
        assert_eq!(server.post("/v1/check", &question("acme", 5_000)).status, 429);
        // In every way that it can be asked.
        let batch = format!(r#"{{"requests":[{0},{0}]}}"#, question("acme", 2));
        assert_eq!(server.post("/v1/check/batch", &batch).status, 200);
        told += 4;
        let mut redis = std::net::TcpStream::connect(server.resp()).unwrap();
        redis.write_all(b"TG.CHECK api_key canary-4711 claim:customer acme\r\n").unwrap();
        let mut first = [0];
        redis.read_exact(&mut first).unwrap();
        assert_ne!(&first, b"-");
        told += 1;
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
}

#[test]
fn the_record_is_told_in_every_form_and_knows_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), &["--usage-flush", "1h"]);
    for customer in ["acme", "=evil()", ""] {
        assert_eq!(server.post("/v1/check", &question(customer, 7)).status, 200);
    }
    let found = rows(&server, "");
    assert_eq!(found.len(), 3, "{found:?}");
    let [acme, hashed, evil] = [2, 0, 1].map(|index| &found[index]);
    assert_eq!((acme["policy"].as_str(), acme["identity"].as_str()), (Some("plan"), Some("acme")));
    assert_eq!((acme["limit"].as_u64(), acme["used"].as_u64()), (Some(1_000), Some(7)));
    let (start, end) = (acme["period_start"].as_str().unwrap(), acme["period_end"].as_str().unwrap());
    for edge in [start, end] {
        assert!(edge.ends_with("-04-06T00:00:00+13:00"), "{edge}");
    }
    assert!(hashed["identity"].as_str().unwrap().starts_with('#'), "{hashed}");
    assert_eq!(evil["identity"], "=evil()");
    assert_eq!(rows(&server, "?periods=ended"), Vec::<Value>::new());
    assert_eq!(rows(&server, "?periods=current&policy=plan").len(), 3);
    assert_eq!(rows(&server, "?policy=rate").len(), 0);

    let csv = server.administer("GET", "/v1/usage?format=csv", "");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert!(csv.body.starts_with("policy,tier,limit_name,identity,period_start,period_end,limit,used\r\n"));
    assert!(csv.body.contains(&format!("plan,,,acme,{start},{end},1000,7\r\n")), "{}", csv.body);
    assert!(csv.body.contains("plan,,,'=evil(),"), "{}", csv.body);
    for query in ["?format=xml", "?periods=some"] {
        let reply = server.administer("GET", &format!("/v1/usage{query}"), "");
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("BAD_REQUEST")));
    }

    // The command prints the same.
    let admin = server.admin();
    let printed = run(&["usage", "--server", &admin]);
    assert_eq!((stdout(&printed), printed.status.code()), (csv.body.clone(), Some(0)));
    let printed =
        run(&["usage", "--server", &admin, "--format", "json", "--periods", "current", "--policy", "plan"]);
    let printed: Value = serde_json::from_str(&stdout(&printed)).unwrap();
    assert_eq!(printed["rows"].as_array().unwrap().len(), 3);
    let wrong = run(&["usage", "--server", &server.url]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("refuses"), "{}", stderr(&wrong));

    let mut server = server;
    server.terminate();
    assert!(server.wait(std::time::Duration::from_mins(1)).is_some());
    // An end in good order writes what is left, whatever the interval.
    let file = std::fs::read_to_string(dir.path().join("usage/use.log")).unwrap();
    assert_eq!(file.lines().count(), 3, "{file}");
    assert!(!file.contains("canary"), "{file}");
}

#[test]
fn a_record_that_cannot_be_read_or_is_in_use_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let first = server(dir.path(), &[]);
    let (file, usage) = (dir.path().join("policies.yaml"), dir.path().join("usage"));
    let second = ["serve", "--listen", "127.0.0.1:0", "--policy", file.to_str().unwrap()];
    let second = [&second[..], &["--usage-dir", usage.to_str().unwrap()]].concat();
    let refused = run(&second);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("another process keeps its record here"), "{}", stderr(&refused));
    drop(first);
    std::fs::write(usage.join("use.log"), "nonsense\nmore of it\n").unwrap();
    let refused = run(&second);
    assert!(stderr(&refused).contains("use.log:1: this is no line of a record"), "{}", stderr(&refused));
}

#[test]
fn a_replay_counts_by_the_calendar() {
    let dir = tempfile::tempdir().unwrap();
    let (file, log) = (dir.path().join("policies.yaml"), dir.path().join("access.log"));
    let policy = "policies: [{ name: daily, key: ip, algorithm: quota, limit: 2/day, calendar: { zone: Asia/Kolkata } }]";
    std::fs::write(&file, policy).unwrap();
    // Midnight in Kolkata is 18:30 UTC.
    let line = |time: &str| format!("203.0.113.7 - - [22/Nov/2026:{time} +0000] \"GET / HTTP/1.1\" 200 5\n");
    let times = ["17:00:00", "18:00:00", "18:29:59", "18:30:00", "18:31:00", "23:00:00"];
    std::fs::write(&log, times.map(line).concat()).unwrap();
    let report = run(&["replay", "--policy", file.to_str().unwrap(), "--json", log.to_str().unwrap()]);
    let report: Value =
        serde_json::from_str(&stdout(&report)).unwrap_or_else(|_| panic!("{}", stderr(&report)));
    assert_eq!(report["policies"][0]["limits"][0], "2/calendar day (Asia/Kolkata)");
    assert_eq!(report["policies"][0]["denied"], 2, "{report:#}");
}
