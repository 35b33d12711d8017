//! Files of envoyproxy/ratelimit's, served as they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Server, run, stderr, stdout};
use serde_json::{Value, json};

const RULES: &str = "domain: edge
descriptors:
  - key: generic_key
    value: login
    rate_limit: { name: logins, unit: day, requests_per_unit: 2 }
  - key: user
    rate_limit: { unit: year, requests_per_unit: 5 }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: day, requests_per_unit: 1 }
  - key: open
    rate_limit: { unlimited: true }
";

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn ask(server: &Server, request: &Value) -> (u16, Value) {
    let reply = server.post("/json", &request.to_string());
    (reply.status, reply.json())
}

fn descriptors(entries: &[(&str, &str)]) -> Value {
    let descriptors: Vec<Value> =
        entries.iter().map(|(key, value)| json!({ "entries": [{ "key": key, "value": value }] })).collect();
    json!({ "domain": "edge", "descriptors": descriptors })
}

#[test]
fn a_file_of_rules_is_served_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&["--policy", &written(dir.path(), "rules.yaml", RULES), "--grpc", "off"]);
    assert!(server.announcement.contains("(4 rules for descriptors)"), "{}", server.announcement);
    let login = descriptors(&[("generic_key", "login"), ("user", "anna")]);
    let (status, answer) = ask(&server, &login);
    assert_eq!((status, &answer["overallCode"]), (200, &json!("OK")));
    let limit = json!({ "requestsPerUnit": 2, "unit": "DAY", "name": "logins" });
    assert_eq!(answer["statuses"][0]["currentLimit"], limit);
    assert_eq!(
        (&answer["statuses"][0]["limitRemaining"], &answer["statuses"][1]["limitRemaining"]),
        (&json!(1), &json!(4))
    );
    assert!(answer["statuses"][0]["durationUntilReset"].as_str().unwrap().ends_with('s'));
    assert_eq!(ask(&server, &login).0, 200);
    // Denied, and the user has lost nothing by it.
    let (status, answer) = ask(&server, &login);
    assert_eq!((status, &answer["overallCode"]), (429, &json!("OVER_LIMIT")));
    assert_eq!(answer["statuses"][0]["code"], "OVER_LIMIT");
    assert_eq!(
        (&answer["statuses"][1]["code"], &answer["statuses"][1]["limitRemaining"]),
        (&json!("OK"), &json!(3))
    );
    // Shadows, what is unlimited, and what no rule knows.
    for _ in 0..2 {
        let (status, answer) = ask(&server, &descriptors(&[("watched", "x"), ("open", "x"), ("other", "x")]));
        assert_eq!(status, 200);
        assert_eq!(answer["statuses"][1], json!({ "code": "OK", "limitRemaining": u32::MAX }));
        assert_eq!(answer["statuses"][2], json!({ "code": "OK" }));
    }
    // The dashboard and the metrics count them.
    assert!(server.get("/metrics").body.contains("result=\"denied\"} 1"));
}

#[test]
fn hits_and_limits_may_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&["--policy", &written(dir.path(), "rules.yaml", RULES), "--grpc", "off"]);
    let with = |extra: Value| {
        let mut descriptor = json!({ "entries": [{ "key": "user", "value": "bob" }] });
        for (name, value) in extra.as_object().unwrap() {
            descriptor[name] = value.clone();
        }
        ask(&server, &json!({ "domain": "edge", "descriptors": [descriptor] })).1["statuses"][0].clone()
    };
    assert_eq!(with(json!({ "hitsAddend": "3" }))["limitRemaining"], 2);
    assert_eq!(with(json!({ "hits_addend": 0 }))["limitRemaining"], 2);
    assert_eq!(with(json!({ "hitsAddend": 3 }))["code"], "OVER_LIMIT");
    assert_eq!(with(json!({ "hitsAddend": 2, "isNegativeHits": true }))["limitRemaining"], 4);
    assert_eq!(
        with(json!({ "hitsAddend": 99, "isNegativeHits": true }))["limitRemaining"],
        5,
        "no more than all"
    );
    let own = with(json!({ "limit": { "requestsPerUnit": 9, "unit": "HOUR" } }));
    assert_eq!((&own["currentLimit"]["unit"], &own["limitRemaining"]), (&json!("HOUR"), &json!(8)));
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&["--policy", &written(dir.path(), "rules.yaml", RULES), "--grpc", "off"]);
    for (body, message) in [
        ("", "the body is not what was expected"),
        ("[", "the body is not what was expected"),
        ("{\"domian\": \"edge\"}", "unknown field `domian`"),
        ("{\"domain\": \"\", \"descriptors\": [{}]}", "rate limit domain must not be empty"),
        ("{\"domain\": \"edge\"}", "rate limit descriptor list must not be empty"),
    ] {
        let reply = server.post("/json", body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains(message), "{body}: {}", reply.body);
    }
    let large = json!({ "domain": "x".repeat(1 << 16) }).to_string();
    assert_eq!(server.post("/json", &large).status, 413);
    assert_eq!(server.get("/healthcheck").body, "OK");
    assert_eq!(
        server.get("/rlconfig").body,
        "edge.generic_key_login: unit=DAY requests_per_unit=2, shadow_mode: false\n\
         edge.user: unit=YEAR requests_per_unit=5, shadow_mode: false\n\
         edge.watched: unit=DAY requests_per_unit=1, shadow_mode: true\n\
         edge.open: unlimited\n"
    );
}

#[test]
fn a_directory_holds_a_domain_in_each_file() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "a.yaml", RULES);
    written(dir.path(), "b.yml", &RULES.replace("domain: edge", "domain: other"));
    written(dir.path(), "notes.txt", "nothing");
    let server = Server::start(&["--policy", dir.path().to_str().unwrap(), "--grpc", "off"]);
    assert!(server.announcement.contains("(8 rules for descriptors)"), "{}", server.announcement);
    drop(server);
    // The same domain twice is refused, with the place, unless it is asked for; and the same rule even then.
    written(
        dir.path(),
        "b.yml",
        "domain: edge\ndescriptors: [{ key: more, rate_limit: { unit: day, requests_per_unit: 1 } }]",
    );
    let path = dir.path().to_str().unwrap();
    let refused = run(&["serve", "--policy", path]);
    assert!(stderr(&refused).contains("b.yml:1:9"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("the domain `edge` is in another file already"));
    let merged = Server::start(&["--policy", path, "--merge-domains", "--grpc", "off"]);
    assert!(merged.announcement.contains("(5 rules for descriptors)"), "{}", merged.announcement);
    written(dir.path(), "c.yaml", "policies: []");
    assert!(stderr(&run(&["serve", "--policy", path])).contains("c.yaml has no `domain:`"));
}

#[test]
fn files_of_rules_are_validated() {
    let dir = tempfile::tempdir().unwrap();
    let fine = written(dir.path(), "fine.yaml", RULES);
    assert!(stdout(&run(&["validate", &fine])).contains("fine (descriptors, 4 rules)"));
    let wrong = written(dir.path(), "wrong.yaml", &RULES.replace("unit: year", "unit: fortnight"));
    let output = run(&["validate", &wrong]);
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("wrong.yaml:7:25") && stderr(&output).contains("1 problem in 1 file"),
        "{}",
        stderr(&output)
    );
    let output = run(&["serve", "--policy", &wrong]);
    assert!(!output.status.success() && stderr(&output).contains("unknown unit `fortnight`"));
}
