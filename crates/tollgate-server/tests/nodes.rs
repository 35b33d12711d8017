//! Several `tollgate serve` on one Redis.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use common::{PATIENCE, Server, until};
use serde_json::{Value, json};
use servers::Redis;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// A hundred an hour and key, so that nothing comes back while a test runs that would be noticed.
const ORDERS: &str = r#"{"path":"/api/v2/orders","api_key":"k-1"}"#;

fn node(redis: &str, more: &[&str]) -> Server {
    Server::start(&[&["--store", redis, "--store-deadline", "1s"], more].concat())
}

fn store(node: &Server) -> Value {
    node.get("/v1/status").json()["store"].clone()
}

#[test]
fn two_nodes_count_together_and_go_on_alone() {
    let place = Redis::nowhere();
    let redis = Redis::start_at(&place, &[]);
    let share = |number| node(&place.url(), &["--nodes", "2", "--node", number]);
    let (one, other) = (share("0"), share("1"));
    assert!(one.announcement.contains("redis+unix://"), "{}", one.announcement);
    // They agree on the secret that keys are hashed under, so they count by the same keys.
    for left in (90..100).rev() {
        let node = if left % 2 == 0 { &one } else { &other };
        assert_eq!(node.post("/v1/check", ORDERS).json()["remaining"], left);
    }
    assert_eq!(store(&one)["backend"], "redis");
    assert_eq!(store(&one)["available"], true);

    drop(redis);
    // Half of what there is.
    until("half of the limit is this node's", || one.post("/v1/check", ORDERS).json()["limit"] == 50);
    assert_eq!(store(&one)["available"], false);
    assert!(store(&one)["trouble"].is_string());
    let metrics = one.get("/metrics").body;
    assert!(metrics.contains(r#"rate_limiter_redis_available{instance="redis"} 0"#), "{metrics}");
    assert!(
        metrics.contains(r#"rate_limiter_requests_total{backend="redis",result="allowed"}"#),
        "{metrics}"
    );

    // A server without memory of what was.
    let _redis = Redis::start_at(&place, &[]);
    until("the limit is shared again", || one.post("/v1/check", ORDERS).json()["limit"] == 100);
    until("the store is there again", || store(&one)["available"] == true);
}

#[test]
fn a_batch_travels_together() {
    let redis = Redis::start(&[]);
    let node = node(&redis.url(), &[]);
    let requests: Vec<Value> = (0..150).map(|_| serde_json::from_str(ORDERS).unwrap()).collect();
    let reply = node.post("/v1/check/batch", &json!({ "requests": requests }).to_string());
    let allowed =
        reply.json()["results"].as_array().unwrap().iter().filter(|one| one["allowed"] == true).count();
    assert_eq!((reply.status, allowed), (200, 100));
}

#[test]
fn no_decision_is_no_denial() {
    let place = Redis::nowhere();
    let seed = "00112233445566778899aabbccddeeff";
    let node = node(&place.url(), &["--key-seed", seed, "--on-store-failure", "deny"]);
    let reply = node.post("/v1/check", ORDERS);
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("STORE_UNAVAILABLE")));
}

#[test]
fn what_is_wrong_with_the_options_is_said() {
    for (options, said) in [
        (&["--store", "http://x"][..], "--store: http://x"),
        (&["--store", "redis://x", "--key-seed", "12"], "openssl rand -hex 16"),
        (&["--store", "redis://x", "--nodes", "2", "--node", "2"], "the last is number 1"),
    ] {
        let output = common::run(&[&["serve", "--listen", "127.0.0.1:0"], options].concat());
        assert!(!output.status.success());
        assert!(common::stderr(&output).contains(said), "{}", common::stderr(&output));
    }
}

#[test]
fn nodes_that_lease_give_back_what_they_hold_when_they_end() {
    let redis = Redis::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    let file = format!(
        "store: {{ url: \"{}\", deadline: 1s, nodes: 2, consistency: lease }}\n\
         policies:\n\
         - {{ name: api, key: api_key, limit: 1000/hour }}\n\
         - {{ name: login, match: {{ path: /login }}, key: ip, limit: 5/hour, consistency: strict }}\n",
        redis.url()
    );
    std::fs::write(&policy, file).unwrap();
    let start = |number| Server::start(&["--policy", policy.to_str().unwrap(), "--node", number]);
    let (mut one, other) = (start("0"), start("1"));
    let ask = |node: &Server, path: &str| {
        let question = json!({ "path": path, "api_key": "k-1", "ip": "203.0.113.7" });
        node.post("/v1/check", &question.to_string()).json()
    };
    let left = |node: &Server| {
        let question = json!({ "path": "/", "api_key": "k-1", "ip": "203.0.113.7" });
        node.post("/v1/peek", &question.to_string()).json()["remaining"].as_u64().unwrap()
    };
    // 950 are shared, and each node may hold 25.
    assert_eq!((ask(&one, "/")["limit"].clone(), left(&one)), (json!(1_000), 949));
    assert_eq!(store(&one)["held"], 1);
    let seen_by_other = left(&other);
    assert!((949 - 25..949).contains(&seen_by_other), "{seen_by_other}");
    // A policy may be counted in another way than the rest.
    for count in 0..8 {
        let node = if count % 2 == 0 { &one } else { &other };
        assert_eq!(ask(node, "/login")["allowed"], count < 5);
    }
    // Six of the hour's thousand are taken, and all that nobody holds any more is there again.
    one.terminate();
    assert!(one.wait(PATIENCE).unwrap().success());
    let held = store(&other)["held"].as_u64().unwrap();
    assert_eq!((held, left(&other)), (1, 950 - 6));
}

/// What a node says of its readiness.
fn readiness(node: &Server) -> (u16, String) {
    let reply = node.get("/readyz");
    (reply.status, reply.body.split([':', '\n']).next().unwrap().to_owned())
}

fn is(node: &Server, status: u16, word: &str) -> bool {
    readiness(node) == (status, word.to_owned())
}

/// What it says over gRPC.
fn health(node: &Server) -> ServingStatus {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let channel = Endpoint::from_shared(node.grpc()).unwrap().connect().await.unwrap();
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap()
    });
    answer.into_inner().status()
}

#[test]
fn a_node_is_ready_while_requests_are_decided_as_they_should_be() {
    let place = Redis::nowhere();
    let mut redis = Some(Redis::start_at(&place, &[]));
    let with = |failure: &[&str]| node(&place.url(), &[&["--on-store-failure"], failure].concat());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    let policies = "policies:
      - { name: strictly, key: api_key, limit: 5/hour, on_store_failure: deny }
      - { name: watched, key: ip, limit: 5/hour, shadow: true, on_store_failure: deny }
      - { name: other, key: user, limit: 5/hour }
    ";
    std::fs::write(&file, policies).unwrap();
    let mixed = node(&place.url(), &["--policy", file.to_str().unwrap()]);
    let file = directory.path().join("watching.yaml");
    let policies =
        policies.replace("api_key, limit: 5/hour, on_store_failure: deny", "api_key, limit: 5/hour");
    std::fs::write(&file, policies).unwrap();
    let watching = node(&place.url(), &["--policy", file.to_str().unwrap()]);
    let (local, deny, allow) = (with(&["local"]), with(&["deny"]), with(&["allow", "--grace", "3s"]));
    let all = [&local, &deny, &allow, &mixed, &watching];
    for node in all {
        until("ready", || is(node, 200, "ready"));
        assert_eq!(node.get("/healthcheck").body, "OK");
    }
    for _ in 0..2 {
        redis.take();
        // Nobody asks for a decision, and yet they notice.
        until("degraded", || is(&local, 200, "degraded"));
        until("unready", || is(&deny, 503, "unready"));
        until("unready", || is(&mixed, 503, "unready"));
        assert!(mixed.get("/readyz").body.contains("the policy strictly"), "{}", mixed.get("/readyz").body);
        until("degraded", || is(&watching, 200, "degraded"));
        // For a while, and then no longer.
        until("degraded", || is(&allow, 200, "degraded"));
        until("unready", || is(&allow, 503, "unready"));
        assert_eq!((deny.get("/healthz").status, deny.get("/healthcheck").status), (200, 500));
        assert_eq!((local.get("/healthz").status, local.get("/healthcheck").status), (200, 200));
        until("not serving", || health(&deny) == ServingStatus::NotServing);
        assert_eq!(health(&local), ServingStatus::Serving);
        // They answer as they say.
        assert_eq!(deny.post("/v1/check", ORDERS).status, 503);
        assert_eq!(local.post("/v1/check", ORDERS).status, 200);
        let metrics = deny.get("/metrics").body;
        assert!(
            metrics.contains(r#"rate_limiter_breaker_state{instance="redis",state="closed"} 0"#),
            "{metrics}"
        );
        redis = Some(Redis::start_at(&place, &[]));
        for node in all {
            until("ready", || is(node, 200, "ready"));
        }
        until("serving", || health(&deny) == ServingStatus::Serving);
    }
    // A server that is there and says nothing is away, too.
    let redis = redis.unwrap();
    redis.stop();
    until("unready", || is(&deny, 503, "unready"));
    redis.go_on();
    until("ready", || is(&deny, 200, "ready"));
}

#[cfg(unix)]
#[test]
fn a_node_that_is_told_to_stop_is_not_ready() {
    use std::io::{Read, Write};

    let mut node = Server::start(&[]);
    assert!(is(&node, 200, "ready"));
    // A question that has begun to come is answered still.
    let mut slow = std::net::TcpStream::connect(node.address()).unwrap();
    slow.write_all(b"GET /readyz HTTP/1.1\r\n").unwrap();
    assert_eq!(node.get("/healthz").status, 200);
    node.terminate();
    until("nobody listens", || std::net::TcpStream::connect(node.address()).is_err());
    slow.write_all(b"host: x\r\n\r\n").unwrap();
    let mut reply = String::new();
    slow.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 503") && reply.ends_with("unready: stopping\n"), "{reply}");
    assert!(node.wait(PATIENCE).unwrap().success());
}
