//! Limitador's limits files, served as they are, to its clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/grpc.rs"]
mod grpc;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Reply, Server, run, stderr, stdout};
use grpc::{Client, ENVOY, KUADRANT};
use serde_json::{Value, json};
use servers::Redis;
use tonic::Code;

/// As the guides have it, and more.
const LIMITS: &str = r#"---
- namespace: shop
  max_value: 3
  seconds: 3600
  name: 'per "user"'
  conditions:
    - "descriptors[0]['req.method'] == 'GET'"
    - descriptors[0]["req.path"] != "/json"
  variables:
    - descriptors[0]['user']
- namespace: shop
  id: all-of-them
  max_value: 10
  seconds: 60
  conditions: []
  variables: []
- namespace: shop
  max_value: 4
  seconds: 7200
  name: tenant
  conditions: ["descriptors[1].tenant == 'acme'"]
  variables: []
- namespace: closed
  max_value: 0
  seconds: 1
  conditions: []
  variables: []
"#;

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(dir: &Path, limits: &str, more: &[&str]) -> Server {
    let file = written(dir, "limits.yaml", limits);
    Server::start(&[&["--policy", file.as_str()], more].concat())
}

/// A request of somebody's.
fn get(user: &str, delta: u64) -> Value {
    json!({
        "namespace": "shop",
        "values": { "req.method": "GET", "req.path": "/", "user": user },
        "delta": delta,
        "response_headers": "DraftVersion03",
    })
}

fn post(server: &Server, path: &str, request: &Value) -> (u16, Vec<String>) {
    let reply = server.post(path, &request.to_string());
    assert_eq!(reply.body.trim(), "null", "{path} {request}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let headers = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    (reply.status, headers.iter().filter_map(|name| reply.header(name).map(str::to_owned)).collect())
}

#[test]
fn the_api_over_http_decides_as_limitador_does() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), LIMITS, &["--grpc", "off"]);
    assert!(server.announcement.contains("(4 limits of Limitador's)"), "{}", server.announcement);
    // Looking takes nothing.
    let all = "3, 3;w=3600;name=\"per 'user'\", 10;w=60";
    assert_eq!(post(&server, "/check", &get("anna", 3)), (200, vec![all.into(), "3".into(), "0".into()]));
    let (status, headers) = post(&server, "/check_and_report", &get("anna", 2));
    assert_eq!((status, &headers[..2]), (200, &[all.to_owned(), "1".to_owned()][..]));
    assert!((3_590..=3_600).contains(&headers[2].parse::<u64>().unwrap()), "{headers:?}");
    // Denied by one limit, and the other has lost nothing by it.
    let (status, headers) = post(&server, "/check_and_report", &get("anna", 2));
    assert_eq!((status, headers[0].as_str(), headers[1].as_str()), (429, all, "1"));
    assert_eq!(post(&server, "/check", &get("anna", 2)).0, 429);
    assert_eq!(post(&server, "/check", &get("anna", 1)).0, 200);
    let (_, headers) = post(&server, "/check", &get("bob", 0));
    assert_eq!((headers[1].as_str(), headers.len()), ("3", 3));
    // What has been spent is charged, whatever is left.
    assert_eq!(post(&server, "/report", &get("anna", 50)).0, 200);
    assert_eq!(post(&server, "/check", &get("bob", 1)).0, 429, "nothing is left for anybody");
    // Without headers being asked for, and with some that nobody knows.
    let mut plain = get("bob", 1);
    plain["response_headers"] = json!("DraftVersion99");
    assert_eq!(post(&server, "/check", &plain), (429, vec![]));
    plain.as_object_mut().unwrap().remove("response_headers");
    assert_eq!(post(&server, "/check", &plain), (429, vec![]));
    let request =
        |namespace: &str, delta: u64| json!({ "namespace": namespace, "values": {}, "delta": delta });
    assert_eq!(post(&server, "/check_and_report", &request("nobody's", 4_294_967_295)), (200, vec![]));
    assert_eq!(post(&server, "/check_and_report", &request("closed", 1)).0, 429);
    assert_eq!(post(&server, "/check_and_report", &request("closed", 0)).0, 200);
    assert_eq!(post(&server, "/report", &request("closed", 5)).0, 200);
    assert!(server.get("/metrics").body.contains("result=\"denied\"} 2"), "ours stays");
}

#[test]
fn limits_and_counters_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), LIMITS, &["--grpc", "off"]);
    assert_eq!(server.get("/status").body.trim(), "null");
    let limits = server.get("/limits/shop").json();
    assert_eq!(limits.as_array().unwrap().len(), 3);
    assert_eq!(
        limits[0],
        json!({
            "id": null, "namespace": "shop", "max_value": 3, "seconds": 3600, "name": "per \"user\"",
            "conditions": ["descriptors[0][\"req.path\"] != \"/json\"", "descriptors[0]['req.method'] == 'GET'"],
            "variables": ["descriptors[0]['user']"],
        })
    );
    assert_eq!(limits[1]["id"], "all-of-them");
    assert_eq!(server.get("/limits/nobody").json(), json!([]));
    assert_eq!(server.get("/counters/shop").json(), json!([]));
    for user in ["anna", "größe", "anna"] {
        assert_eq!(post(&server, "/check_and_report", &get(user, 1)).0, 200);
    }
    // Only looked at, and denied.
    assert_eq!(post(&server, "/check", &get("carl", 1)).0, 200);
    assert_eq!(post(&server, "/check_and_report", &get("dora", 4)).0, 429);
    let counters = server.get("/counters/shop").json();
    let seen: Vec<_> = counters
        .as_array()
        .unwrap()
        .iter()
        .map(|counter| (&counter["set_variables"], counter["remaining"].as_u64().unwrap()))
        .collect();
    let user = |name: &str| json!({ "descriptors[0]['user']": name });
    assert_eq!(seen, [(&user("anna"), 1), (&json!({}), 7), (&user("größe"), 2)]);
    assert_eq!(counters[0]["limit"], limits[0]);
    let expires = counters[0]["expires_in_seconds"].as_u64().unwrap();
    assert!((3_590..=3_600).contains(&expires), "{expires}");
    assert_eq!(server.get("/counters/closed").json(), json!([]));
    // The API tells of itself, and of all its routes.
    let spec = server.get("/api/spec").json();
    assert_eq!(spec["openapi"], "3.0.3");
    for (path, item) in spec["paths"].as_object().unwrap() {
        let path = path.replace("{namespace}", "shop");
        let reply = if item.get("get").is_some() { server.get(&path) } else { server.post(&path, "{}") };
        let described = item.get("get").or(item.get("post")).unwrap();
        let responses = described["responses"].as_object().unwrap();
        assert!(responses.contains_key(&reply.status.to_string()), "{path}: {}", reply.status);
    }
}

#[test]
fn the_api_is_not_there_for_others() {
    let server = Server::start(&["--grpc", "off"]);
    for path in ["/status", "/limits/shop", "/counters/shop", "/api/spec"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    assert_eq!(server.post("/check", &get("anna", 1).to_string()).status, 404);
}

#[test]
fn a_window_starts_with_its_first_hit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "- { namespace: shop, max_value: 2, seconds: 2, conditions: [], variables: [] }";
    let server = start(dir.path(), limits, &["--grpc", "off"]);
    let started = Instant::now();
    while post(&server, "/check_and_report", &get("anna", 1)).0 == 200 {}
    // Nothing comes back before the window ends, then all of it.
    while post(&server, "/check_and_report", &get("anna", 2)).0 == 429 {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(started.elapsed() >= Duration::from_millis(1_990), "{:?}", started.elapsed());
    assert_eq!(post(&server, "/check", &get("anna", 1)).0, 429);
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), LIMITS, &["--grpc", "off"]);
    let with = |name: &str, value: Value| {
        let mut request = get("anna", 1);
        request[name] = value;
        request.to_string()
    };
    let asked = |body: &str| -> Reply { server.post("/check_and_report", body) };
    for (body, message) in [
        (String::new(), "the body is not what was expected"),
        ("null".to_owned(), "the body must be a JSON object"),
        ("[1]".to_owned(), "the body must be a JSON object"),
        ("{}".to_owned(), "missing field `namespace`"),
        (with("delta", json!(-1)), "invalid value: integer `-1`"),
        (with("delta", json!(1.5)), "floating point"),
        (with("delta", json!("1")), "invalid type: string"),
        (with("delta", json!(u64::MAX)), "delta: 18446744073709551615 is not between 0 and 4294967295"),
        (with("delta", json!(null)), "invalid type: null"),
        (with("values", json!([])), "expected a map"),
        (with("values", json!({ "user": 5 })), "expected a string"),
        (with("values", json!(null)), "invalid type: null"),
        (with("namespace", json!(5)), "expected a string"),
        (with("response_headers", json!(5)), "expected a string"),
        (format!("{}{}", "[".repeat(9_000), "]".repeat(9_000)), "the body must be a JSON object"),
        (with("x", json!(null)).replace("null", &"[".repeat(20_000)), "the body is not what was expected"),
    ] {
        let reply = asked(&body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains(message), "{body}: {}", reply.body);
    }
    assert_eq!(asked(&with("namespace", json!("x".repeat(1 << 16)))).status, 413);
    assert_eq!(server.get("/check").status, 405);
    // What is large, empty or strange passes through, and counts.
    for user in ["", "☃ \u{0} \"quoted\"", &"x".repeat(50_000)] {
        assert_eq!(post(&server, "/check_and_report", &get(user, 1)).0, 200);
    }
    assert_eq!(asked(&with("more", json!({ "of": "it" }))).status, 200, "what Limitador does not look at");
    let counters = server.get("/counters/shop").json();
    assert_eq!(counters.as_array().unwrap().len(), 5);
}

#[test]
fn a_wrong_file_is_refused_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    for (from, to, place, message) in [
        ("seconds: 60", "seconds: 0", "limits.yaml:14:12", "a window lasts at least a second"),
        ("max_value: 10", "max_value: -10", "limits.yaml:13:14", "-10 is not between"),
        ("name: tenant", "nam: tenant", "limits.yaml:20:3", "did you mean `name`?"),
        ("['user']", "['user'", "limits.yaml:10:7", "at character"),
        ("descriptors[0]['user']", "user_id", "limits.yaml:10:7", "write `descriptors[0][\"user_id\"]`"),
        ("namespace: closed", "namespace: [closed]", "limits.yaml:23:14", "expected a text"),
    ] {
        let file = written(dir.path(), "limits.yaml", &LIMITS.replacen(from, to, 1));
        for arguments in [&["validate", file.as_str()][..], &["serve", "--policy", file.as_str()]] {
            let output = run(arguments);
            assert!(!output.status.success(), "{to}");
            assert!(stderr(&output).contains(place), "{to}: {}", stderr(&output));
            assert!(stderr(&output).contains(message), "{to}: {}", stderr(&output));
            assert!(stderr(&output).contains("1 problem"), "{to}: {}", stderr(&output));
        }
    }
    let file = written(dir.path(), "limits.yaml", LIMITS);
    assert!(stdout(&run(&["validate", &file])).contains("fine (Limitador, 4 limits)"));
}

fn message(domain: &str, descriptors: &[&[(&str, &str)]], hits: u32) -> Value {
    let descriptor = |entries: &&[(&str, &str)]| {
        let entries: Vec<Value> =
            entries.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        json!({ "entries": entries })
    };
    let descriptors: Vec<Value> = descriptors.iter().map(descriptor).collect();
    json!({ "domain": domain, "descriptors": descriptors, "hitsAddend": hits })
}

const ANNA: &[(&str, &str)] = &[("req.method", "GET"), ("req.path", "/"), ("user", "anna")];
const ACME: &[(&str, &str)] = &[("tenant", "acme")];

#[tokio::test]
async fn envoy_is_answered_with_a_status_for_each_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let headers = "--grpc-headers=X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset";
    let server = start(dir.path(), LIMITS, &[headers]);
    let client = Client::connect(&server.grpc()).await;
    let answer = client.ask(&message("shop", &[ANNA, ACME], 0)).await.unwrap();
    assert_eq!(answer["overallCode"], "OK");
    let limit = |index: usize| answer["statuses"][index]["currentLimit"].clone();
    assert_eq!(limit(0), json!({ "requestsPerUnit": 3, "unit": "HOUR", "name": "per \"user\"" }));
    assert_eq!(limit(1), json!({ "requestsPerUnit": 48, "unit": "DAY", "name": "tenant" }));
    assert_eq!(answer["statuses"][0]["limitRemaining"], 2);
    assert_eq!(answer["statuses"][1]["limitRemaining"], 3);
    assert_eq!(answer["statuses"][0]["durationUntilReset"], "3600s");
    let header = |index: usize| answer["responseHeadersToAdd"][index].clone();
    let all = "3, 3;w=3600;name=\"per 'user'\", 4;w=7200;name=\"tenant\", 10;w=60";
    assert_eq!(header(0), json!({ "key": "X-RateLimit-Limit", "value": all }));
    assert_eq!(header(1), json!({ "key": "X-RateLimit-Remaining", "value": "2" }));
    // In one step, or nothing.
    let answer = client.ask(&message("shop", &[ANNA, ACME], 3)).await.unwrap();
    assert_eq!(answer["overallCode"], "OVER_LIMIT");
    let codes: Vec<_> = answer["statuses"].as_array().unwrap().iter().map(|status| &status["code"]).collect();
    assert_eq!(codes, ["OVER_LIMIT", "OK"]);
    assert_eq!(answer["statuses"][1]["limitRemaining"], 3);
    // The same counters over HTTP, and the limit that looks at no descriptor.
    assert_eq!(post(&server, "/check", &get("anna", 3)).0, 429);
    let other = client.ask(&message("shop", &[&[("a", "b")], &[]], 1)).await.unwrap();
    assert_eq!(other["statuses"][0]["currentLimit"]["name"], "all-of-them");
    assert_eq!(other["statuses"][0], other["statuses"][1]);
    // No limit, no descriptors, and no domain, which Envoy lets pass.
    let none = client.ask(&message("nobody's", &[ANNA], 1)).await.unwrap();
    assert_eq!(none, json!({ "overallCode": "OK", "statuses": [{ "code": "OK" }] }));
    assert_eq!(client.ask(&message("shop", &[], 1)).await.unwrap()["overallCode"], "OK");
    assert_eq!(client.ask(&message("closed", &[], 1)).await.unwrap()["overallCode"], "OVER_LIMIT");
    let unknown = client.ask(&message("", &[ANNA], 1)).await.unwrap();
    assert!(unknown.get("overallCode").is_none_or(|code| code == "UNKNOWN"), "{unknown}");
}

#[tokio::test]
async fn kuadrant_looks_first_and_reports_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), LIMITS, &[]);
    let client = Client::connect(&server.grpc()).await;
    let call = async |method: &str, hits: u32| {
        client.call(KUADRANT, method, &message("shop", &[ANNA], hits)).await.unwrap()
    };
    for _ in 0..9 {
        // However much it may cost in the end.
        let answer = call("CheckRateLimit", 1_000).await;
        assert_eq!(
            (&answer["overallCode"], &answer["statuses"][0]["limitRemaining"]),
            (&json!("OK"), &json!(3))
        );
    }
    assert_eq!(call("Report", 0).await["statuses"][0]["limitRemaining"], 2);
    assert_eq!(call("Report", 5).await["overallCode"], "OK");
    let denied = call("CheckRateLimit", 1).await;
    assert_eq!(denied["overallCode"], "OVER_LIMIT");
    assert_eq!(denied["statuses"][0]["currentLimit"]["name"], "per \"user\"");
    let closed = client.call(KUADRANT, "Report", &message("closed", &[], 1)).await.unwrap();
    assert_eq!(closed["overallCode"], "OK");
    let unknown = client.call(KUADRANT, "Report", &message("", &[], 1)).await.unwrap();
    assert!(unknown.get("overallCode").is_none_or(|code| code == "UNKNOWN"), "{unknown}");
}

#[tokio::test]
async fn hits_of_descriptors_count_and_do_not_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), LIMITS, &[]);
    let client = Client::connect(&server.grpc()).await;
    let mut request = message("shop", &[ANNA, ACME], 1);
    request["descriptors"][1]["hitsAddend"] = json!("2");
    let answer = client.ask(&request).await.unwrap();
    assert_eq!(answer["statuses"][0]["limitRemaining"], 1);
    request["descriptors"][1]["isNegativeHits"] = json!(true);
    let refused = client.ask(&request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("cannot be given back"), "{}", refused.message());
    let many = vec![ANNA; 129];
    let refused = client.call(ENVOY, "ShouldRateLimit", &message("shop", &many, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn nodes_that_share_a_store_count_together() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(&[]);
    for consistency in ["strict", "lease"] {
        let (url, prefix) = (redis.url(), format!("{consistency}:"));
        let options = ["--store", &url, "--store-deadline", "1s", "--store-prefix", &prefix, "--nodes", "2"];
        let node = |number| {
            start(
                dir.path(),
                LIMITS,
                &[&options[..], &["--consistency", consistency, "--node", number]].concat(),
            )
        };
        let (one, other) = (node("0"), node("1"));
        let passed = (0..8)
            .map(|turn| if turn % 2 == 0 { &one } else { &other })
            .filter(|node| post(node, "/check_and_report", &get("anna", 1)).0 == 200)
            .count();
        assert_eq!(passed, 3, "{consistency}");
        assert_eq!(post(&one, "/report", &get("bob", 2)).0, 200);
        assert_eq!(post(&other, "/check", &get("bob", 2)).0, 429, "{consistency}");
        // Each node shows what it has seen, and how much is left wherever it was spent.
        let counters = one.get("/counters/shop").json();
        let anna = counters.as_array().unwrap().iter();
        let mut anna = anna.filter(|counter| counter["set_variables"]["descriptors[0]['user']"] == "anna");
        assert_eq!(anna.next().unwrap()["remaining"], 0, "{consistency}");
        assert!(anna.next().is_none());
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_and_no_denial() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(&[]);
    let url = redis.url();
    let options = ["--store", url.as_str(), "--store-deadline", "1s", "--on-store-failure", "deny"];
    let server = start(dir.path(), LIMITS, &options);
    let client = Client::connect(&server.grpc()).await;
    assert_eq!(post(&server, "/check_and_report", &get("anna", 1)).0, 200);
    drop(redis);
    for path in ["/check", "/report", "/check_and_report"] {
        assert_eq!(post(&server, path, &get("anna", 1)), (500, vec![]), "{path}");
    }
    assert_eq!(server.get("/counters/shop").status, 500);
    assert_eq!(server.get("/limits/shop").status, 200);
    for (service, method) in [(ENVOY, "ShouldRateLimit"), (KUADRANT, "CheckRateLimit"), (KUADRANT, "Report")]
    {
        let error = client.call(service, method, &message("shop", &[ANNA], 1)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{method}");
    }
}
