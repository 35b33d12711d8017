//! `tollgate serve` as the rate limit service of a stock Envoy, in front of a small HTTP server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/envoy.rs"]
mod envoy;

use common::{Reply, Server};
use envoy::{Envoy, upstream};

/// A year is 365 days of the clock here and there, so that no window ends while the test runs but once in a year.
const POLICIES: &str = "
policies:
  - name: login
    match: { where: { 'attribute:domain': edge, 'attribute:generic_key': login } }
    key: ip
    limit: 3/year
    algorithm: fixed_window
  - name: tenants
    match: { where: { 'attribute:domain': edge, 'attribute:generic_key': tenants } }
    key: attribute:tenant
    limit: 2/year
    algorithm: fixed_window
";

fn get(url: &str, tenant: Option<&str>) -> Reply {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let mut request = ureq::Agent::from(config).get(url);
    if let Some(tenant) = tenant {
        request = request.header("x-tenant", tenant);
    }
    Reply::of(request.call().unwrap())
}

#[test]
fn envoy_asks_and_does_what_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let tollgate = Server::start(&["--policy", file.to_str().unwrap(), "--grpc-headers"]);
    let port = tollgate.grpc().rsplit_once(':').unwrap().1.parse().unwrap();
    let envoy = Envoy::start(directory.path(), port, upstream());

    // By the client's address, which Envoy tells.
    let login = || get(&format!("{}/login", envoy.strict), None);
    for left in ["2", "1", "0"] {
        let reply = login();
        assert_eq!((reply.status, reply.body.as_str()), (200, "/login"));
        assert_eq!(reply.header("x-ratelimit-limit"), Some("3, 3;w=31536000;name=\"login\""), "{reply:?}");
        assert_eq!(reply.header("x-ratelimit-remaining"), Some(left));
        assert!(reply.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap() > 0);
        // Those that Tollgate has it add.
        assert_eq!(reply.header("ratelimit-limit"), Some("3"));
        assert_eq!(reply.header("ratelimit-remaining"), Some(left));
    }
    let denied = login();
    assert_eq!((denied.status, denied.body.as_str()), (429, ""));
    assert!(denied.header("x-envoy-ratelimited").is_some(), "{denied:?}");
    assert_eq!(denied.header("x-ratelimit-remaining"), Some("0"));

    // By a header, whose value is the key.
    let tenants = |tenant| get(&format!("{}/tenants", envoy.strict), Some(tenant)).status;
    assert_eq!([tenants("acme"), tenants("acme"), tenants("acme"), tenants("other")], [200, 200, 429, 200]);
    // What Envoy does not ask about passes.
    assert_eq!(get(&format!("{}/free", envoy.strict), None).status, 200);
    let metrics = tollgate.get("/metrics").body;
    let line = r#"rate_limiter_policy_denied_total{policy="login"} 1"#;
    assert!(metrics.contains(line), "{metrics}");

    // Without Tollgate, `failure_mode_deny` rules.
    drop(tollgate);
    let strict = login();
    assert_eq!(strict.status, 500, "{strict:?}");
    let lenient = get(&format!("{}/login", envoy.lenient), None);
    assert_eq!((lenient.status, lenient.body.as_str()), (200, "/login"));
}
