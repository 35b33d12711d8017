//! Services that limits adapt to, at the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Server, until};
use serde_json::{Value, json};

const QUESTION: &str = r#"{"ip":"203.0.113.7","cost":0}"#;

const POLICIES: &str = "
health:
  orders: { errors: { degraded: 5%, bad: 50% }, dwell: 1s }
  search: { latency: { percentile: 90, degraded: 100ms, bad: 1s }, dwell: 1s }
concurrency:
  orders: { limit: 1 }
  search: { limit: aimd, initial: 100 }
  short: { limit: 1, ttl: 20ms }
policies:
  - { name: orders, match: { path: /orders }, key: ip, limit: 100/hour, adaptive: orders }
  - { name: search, match: { path: /search }, key: ip, limit: 100/hour, adaptive: { to: search, degraded: 40% } }
";

fn start(file: &Path) -> Server {
    std::fs::write(file, POLICIES).unwrap();
    Server::start(&["--policy", file.to_str().unwrap(), "--watch", "100ms"])
}

/// Waits until something is so; a busy machine may take its time.
/// The limit that a request to this path has.
fn limit(server: &Server, path: &str) -> Value {
    let mut question: Value = serde_json::from_str(QUESTION).unwrap();
    question["path"] = json!(path);
    server.post("/v1/peek", &question.to_string()).json()["limit"].clone()
}

fn tell(server: &Server, report: &Value) -> Value {
    let reply = server.post("/v1/health", &report.to_string());
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

#[test]
fn limits_follow_what_services_report_and_recover() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("policies.yaml"));
    assert_eq!([limit(&server, "/orders"), limit(&server, "/search")], [json!(100), json!(100)]);
    // By its own word, which holds for a second and a half.
    tell(&server, &json!({ "service": "orders", "level": "bad", "holds_seconds": 1.5 }));
    until("orders are bad", || limit(&server, "/orders") == 30);
    assert_eq!(limit(&server, "/search"), 100, "of another service");
    until("orders are degraded", || limit(&server, "/orders") == 70);
    until("orders are good", || limit(&server, "/orders") == 100);
    // By what requests to it take.
    let slow = json!({ "service": "search", "requests": [{ "seconds": 0.5, "count": 30 }] });
    tell(&server, &slow);
    until("search is degraded", || limit(&server, "/search") == 40);
    let services = server.get("/v1/services").json();
    let expected = json!([
        { "service": "orders", "level": "good", "blamed": null },
        { "service": "search", "level": "degraded", "blamed": "latency" },
    ]);
    assert_eq!(services["health"], expected);
    assert!(server.get("/metrics").body.contains("rate_limiter_service_level{service=\"search\"} 1"));
    // By which of them fail; and without any word for a while, all is well again.
    let failed =
        json!({ "service": "orders", "requests": [{ "seconds": 0.01, "failed": true, "count": 30 }] });
    tell(&server, &failed);
    until("orders are bad", || limit(&server, "/orders") == 30);
    until("all is well", || {
        [limit(&server, "/orders"), limit(&server, "/search")] == [json!(100), json!(100)]
    });
}

#[test]
fn places_are_taken_given_back_and_end_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("policies.yaml"));
    let acquire = |service: &str| server.post("/v1/acquire", &json!({ "service": service }).to_string());
    let release = |body: Value| server.post("/v1/release", &body.to_string());
    let place = acquire("orders").json();
    assert_eq!(
        (&place["allowed"], &place["limit"], &place["ttl_seconds"]),
        (&json!(true), &json!(1), &json!(30.0))
    );
    let full = acquire("orders");
    assert_eq!((full.status, full.header("retry-after"), &full.json()["limit"]), (429, Some("1"), &json!(1)));
    let renew = || server.post("/v1/renew", &json!({ "id": place["id"] }).to_string());
    assert_eq!(renew().json(), json!({ "ttl_seconds": 30.0 }));
    assert_eq!(release(json!({ "id": place["id"] })).status, 200);
    assert_eq!((renew().status, &renew().json()["error"]["code"]), (404, &json!("UNKNOWN_PLACE")));
    assert_eq!(release(json!({ "id": place["id"] })).json()["error"]["code"], "UNKNOWN_PLACE");
    assert_eq!(acquire("orders").status, 200);
    // One whose holder is gone.
    let lost = acquire("short").json();
    assert_eq!(lost["allowed"], true);
    until("the lost place is free again", || acquire("short").status == 200);
    assert_eq!(release(json!({ "id": lost["id"] })).status, 404);
    // A limit that learns.
    let place = acquire("search").json();
    assert_eq!(place["limit"], 100);
    assert_eq!(release(json!({ "id": place["id"], "outcome": "overloaded", "seconds": 0.2 })).status, 200);
    let metrics = server.get("/metrics").body;
    for line in [
        "rate_limiter_concurrency_limit{service=\"search\"} 90",
        "rate_limiter_concurrency_in_flight{service=\"orders\"} 1",
        "rate_limiter_concurrency_refused_total{service=\"orders\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(server.get("/v1/services").json()["concurrency"][1]["limit"], 90);
}

#[test]
fn what_is_wrong_with_a_report_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.yaml");
    let server = start(&file);
    for (path, body, status, word) in [
        ("/v1/health", json!({ "service": "others" }), 404, "health:"),
        ("/v1/acquire", json!({ "service": "others" }), 404, "concurrency:"),
        ("/v1/health", json!({ "service": "orders", "level": "fine" }), 400, "`degraded`"),
        ("/v1/health", json!({ "service": "orders", "requests": [{ "seconds": -1 }] }), 400, "86400"),
        ("/v1/release", json!({ "id": "x", "outcome": "well" }), 400, "`overloaded`"),
        ("/v1/release", json!({ "id": "x", "seconds": 1e9 }), 400, "86400"),
    ] {
        let reply = server.post(path, &body.to_string());
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.body);
        assert!(reply.body.contains(word), "{path} {body}: {}", reply.body);
    }
    // Services are loaded again like policies.
    std::fs::write(&file, POLICIES.replace("limit: 1 }", "limit: 7 }")).unwrap();
    until("the limit is 7", || server.get("/v1/services").json()["concurrency"][0]["limit"] == 7);
}
