//! Several `tollgate serve` on one PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../tollgate-store/tests/servers/postgres.rs"]
mod postgres;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use common::{Server, until};
use postgres::Postgres;
use serde_json::{Value, json};

/// A hundred an hour and key, so that nothing comes back while a test runs that would be noticed.
const ORDERS: &str = r#"{"path":"/api/v2/orders","api_key":"k-1"}"#;

fn store(node: &Server) -> Value {
    node.get("/v1/status").json()["store"].clone()
}

#[test]
fn two_nodes_count_together_go_on_alone_and_come_back() {
    let mut server = Postgres::start(&[]);
    let url = server.url();
    let share = |number| {
        let options = ["--store", &url, "--store-deadline", "5s", "--nodes", "2", "--node", number];
        Server::start(&options)
    };
    let (one, other) = (share("0"), share("1"));
    assert!(one.announcement.contains("postgres://"), "{}", one.announcement);
    // They agree on the secret that keys are hashed under, so they count by the same keys.
    for left in (90..100).rev() {
        let node = if left % 2 == 0 { &one } else { &other };
        assert_eq!(node.post("/v1/check", ORDERS).json()["remaining"], left);
    }
    assert_eq!(
        (store(&one)["backend"].clone(), store(&one)["available"].clone()),
        (json!("postgres"), json!(true))
    );

    server.end();
    // Half of what there is.
    until("half of the limit is this node's", || one.post("/v1/check", ORDERS).json()["limit"] == 50);
    until("degraded", || one.get("/readyz").body.starts_with("degraded"));
    assert!(store(&one)["trouble"].is_string());
    let metrics = one.get("/metrics").body;
    assert!(metrics.contains(r#"rate_limiter_store_available{instance="postgres"} 0"#), "{metrics}");
    assert!(!metrics.contains("rate_limiter_redis_available{"), "{metrics}");

    // It remembers what was.
    server.start_again();
    until("decisions are the store's again", || {
        let answer = one.post("/v1/check", ORDERS).json();
        answer["limit"] == 100 && answer["remaining"].as_u64().unwrap() < 90
    });
    until("the store is there again", || {
        store(&one)["available"] == true && one.get("/readyz").body.starts_with("ready")
    });
}

#[test]
fn a_policy_file_names_it_and_a_changed_limit_keeps_what_was_spent() {
    let server = Postgres::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    let write = |limit: &str| {
        let url = server.url();
        let file = format!(
            "store: {{ url: \"{url}\", prefix: shop, deadline: 5s }}\n\
             policies:\n- {{ name: api, key: api_key, limit: {limit} }}\n"
        );
        std::fs::write(&policy, file).unwrap();
    };
    write("10/hour");
    let start = || Server::start(&["--policy", policy.to_str().unwrap()]);
    let node = start();
    for left in (6..10).rev() {
        assert_eq!(node.post("/v1/check", ORDERS).json()["remaining"], left);
    }
    assert_eq!(server.ask("select count(*) from shop.state where kind > 0"), "1");
    // A node that starts later has the same keys, and what is changed at run time takes over what is left.
    let other = start();
    assert_eq!(other.post("/v1/check", ORDERS).json()["remaining"], 5);
    write("8/hour");
    assert_eq!(other.administer("POST", "/v1/reload", "").status, 200);
    assert_eq!(other.post("/v1/check", ORDERS).json()["remaining"], 4);
}

#[test]
fn what_is_wrong_is_said() {
    for (options, said) in [
        (
            &["--store", "postgres://limits@127.0.0.1/limits", "--store-prefix", "tollgate:"][..],
            "a-z, 0-9 and _",
        ),
        (&["--store", "postgres://limits:secret@127.0.0.1/limits?sslmode=allow"], "sslmode=verify-full"),
        (&["--store", "http://x"], "postgres://"),
    ] {
        let output = common::run(&[&["serve", "--listen", "127.0.0.1:0"], options].concat());
        assert!(!output.status.success());
        let text = common::stderr(&output);
        assert!(text.contains(said) && !text.contains("secret"), "{text}");
    }
    // Nor does it start without the rights to make its tables.
    let server = Postgres::start(&[]);
    server.ask("create role limited login");
    let output = common::run(&["serve", "--listen", "127.0.0.1:0", "--store", &server.url_of("limited")]);
    let text = common::stderr(&output);
    assert!(!output.status.success() && text.contains("grant usage, create on schema"), "{text}");
}
