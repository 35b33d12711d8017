//! `tollgate serve`, over gRPC.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/grpc.rs"]
mod client;
mod common;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::time::Duration;

use client::{Client, ENVOY, KUADRANT, services};
use common::{Server, run, stderr};
use serde_json::{Value, json};
use servers::Redis;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// By the year, so that hardly any window ends while a test runs, and nothing comes back meanwhile.
const POLICIES: &str = "
policies:
  - name: login
    match: { where: { 'attribute:domain': edge, 'attribute:generic_key': login } }
    key: ip
    limit: 3/year
    algorithm: fixed_window
  - name: users
    match: { where: { 'attribute:domain': edge } }
    key: attribute:user_id
    limit: 10/year
    algorithm: fixed_window
  - name: search
    match: { method: GET, path: /search/** }
    key: host
    limit: 100/year
    algorithm: fixed_window
  - { name: watched, match: { where: { 'attribute:generic_key': watched } }, key: global, limit: 1/year, shadow: true }
  - { name: closed, match: { where: { 'attribute:generic_key': closed } }, key: global, limit: 0/year }
  - { name: open, match: { where: { 'attribute:generic_key': open } }, key: global, limit: unlimited }
  - { name: dear, match: { where: { 'attribute:generic_key': dear } }, key: global, limit: 10/year, cost: 4 }
  - { name: steady, match: { where: { 'attribute:generic_key': steady } }, key: global, limit: 100/10s }
";

/// A server with these policies, and a client of it.
async fn start(policies: &str, more: &[&str]) -> (Server, Client) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, policies).unwrap();
    let server = Server::start(&[&["--policy", file.to_str().unwrap()], more].concat());
    let client = Client::connect(&server.grpc()).await;
    (server, client)
}

fn entries(entries: &[(&str, &str)]) -> Value {
    let entry = |(key, value): &(&str, &str)| json!({ "key": key, "value": value });
    json!({ "entries": entries.iter().map(entry).collect::<Vec<_>>() })
}

fn request(descriptors: &[Value]) -> Value {
    json!({ "domain": "edge", "descriptors": descriptors })
}

fn login(address: &str) -> Value {
    entries(&[("generic_key", "login"), ("remote_address", address)])
}

fn user(name: &str) -> Value {
    entries(&[("user_id", name)])
}

/// A descriptor with more said.
fn with(mut descriptor: Value, field: &str, value: Value) -> Value {
    descriptor[field] = value;
    descriptor
}

/// What is left, of each descriptor.
fn left(answer: &Value) -> Vec<u64> {
    let statuses = answer["statuses"].as_array().unwrap();
    statuses.iter().map(|status| status["limitRemaining"].as_u64().unwrap_or(0)).collect()
}

fn codes(answer: &Value) -> Vec<&str> {
    let statuses = answer["statuses"].as_array().unwrap();
    let codes = statuses.iter().map(|status| status["code"].as_str().unwrap());
    std::iter::once(answer["overallCode"].as_str().unwrap()).chain(codes).collect()
}

#[tokio::test]
async fn a_descriptor_is_a_request_to_the_policies() {
    let (_server, client) = start(POLICIES, &[]).await;
    for left in (0..3).rev() {
        let answer = client.ask(&request(&[login("203.0.113.7")])).await.unwrap();
        assert_eq!(codes(&answer), ["OK", "OK"]);
        let status = &answer["statuses"][0];
        assert_eq!(status["currentLimit"], json!({ "requestsPerUnit": 3, "unit": "YEAR", "name": "login" }));
        assert_eq!(status["limitRemaining"].as_u64().unwrap_or(0), left);
        let reset = status["durationUntilReset"].as_str().unwrap();
        let seconds: u64 = reset.strip_suffix('s').unwrap().parse().unwrap();
        assert!((1..=365 * 86_400).contains(&seconds), "{reset}");
    }
    let denied = client.ask(&request(&[login("203.0.113.7")])).await.unwrap();
    assert_eq!(codes(&denied), ["OVER_LIMIT", "OVER_LIMIT"]);
    assert_eq!(denied["statuses"][0]["currentLimit"]["name"], "login");
    // Another address, and another domain.
    assert_eq!(left(&client.ask(&request(&[login("203.0.113.8")])).await.unwrap()), [2]);
    let elsewhere = json!({ "domain": "inner", "descriptors": [login("203.0.113.7")] });
    assert_eq!(client.ask(&elsewhere).await.unwrap()["overallCode"], "OK");
    // An entry cannot say that it comes from another domain.
    let forged = entries(&[("domain", "edge"), ("generic_key", "login"), ("remote_address", "203.0.113.7")]);
    let forged = json!({ "domain": "inner", "descriptors": [forged] });
    assert_eq!(client.ask(&forged).await.unwrap()["overallCode"], "OK");
}

#[tokio::test]
async fn entries_are_attributes_in_all_their_spellings() {
    let (_server, client) = start(POLICIES, &[]).await;
    let ask = async |descriptor: Value| left(&client.ask(&request(&[descriptor])).await.unwrap());
    let mut expected = 100;
    for pairs in [
        [("method", "get"), ("path", "/search/shoes?q=1"), ("host", "Shop.example:443")],
        [(":method", "GET"), (":path", "/Search//lamps"), (":authority", "shop.example.")],
    ] {
        expected -= 1;
        assert_eq!(ask(entries(&pairs)).await, [expected], "{pairs:?}");
    }
    // An IPv4 network by its address; what is no address is none.
    let masked = entries(&[("generic_key", "login"), ("masked_remote_address", "198.51.100.0/24")]);
    assert_eq!(ask(masked).await, [2]);
    assert_eq!(ask(login("198.51.100.0")).await, [1]);
    assert_eq!(ask(login("nobody")).await, [0]);
    // Of two entries with the same key the first counts.
    assert_eq!(ask(entries(&[("user_id", "a"), ("user_id", "b")])).await, [9]);
    assert_eq!(ask(user("a")).await, [8]);
}

#[tokio::test]
async fn a_status_for_each_descriptor_in_order() {
    let (_server, client) = start(POLICIES, &[]).await;
    let generic = |value: &str| entries(&[("generic_key", value)]);
    let asked = [
        user("u"),
        generic("nothing"),
        generic("open"),
        generic("watched"),
        generic("watched"),
        login("::1"),
    ];
    let answer = client.ask(&request(&asked)).await.unwrap();
    assert_eq!(codes(&answer), ["OK"; 7]);
    // No policy, and one that only watches: nothing is left of nothing. Unlimited: as much as there can be.
    assert_eq!(left(&answer), [9, 0, 4_294_967_295, 0, 0, 2]);
    let has_limit: Vec<bool> =
        (0..6).map(|index| answer["statuses"][index].get("currentLimit").is_some()).collect();
    assert_eq!(has_limit, [true, false, false, false, false, true]);
    // Nothing passes, not even what only looks.
    let closed = client.ask(&request(&[with(generic("closed"), "hitsAddend", json!("0"))])).await.unwrap();
    assert_eq!(codes(&closed), ["OVER_LIMIT", "OVER_LIMIT"]);
    assert_eq!(closed["statuses"][0]["currentLimit"], json!({ "unit": "SECOND", "name": "closed" }));
    // 100 in ten seconds are told by the minute.
    let steady = client.ask(&request(&[generic("steady")])).await.unwrap();
    assert_eq!(
        steady["statuses"][0]["currentLimit"],
        json!({ "requestsPerUnit": 600, "unit": "MINUTE", "name": "steady" })
    );
    // A policy that names a cost is charged by it where the request says nothing.
    assert_eq!(left(&client.ask(&request(&[generic("dear")])).await.unwrap()), [6]);
    let one = with(request(&[generic("dear")]), "hitsAddend", json!(1));
    assert_eq!(left(&client.ask(&one).await.unwrap()), [5]);
}

#[tokio::test]
async fn all_descriptors_pass_or_none_is_charged() {
    let (server, client) = start(POLICIES, &[]).await;
    let both = request(&[user("u"), login("203.0.113.7")]);
    for _ in 0..3 {
        assert_eq!(codes(&client.ask(&both).await.unwrap()), ["OK"; 3]);
    }
    for _ in 0..5 {
        let denied = client.ask(&both).await.unwrap();
        assert_eq!(codes(&denied), ["OVER_LIMIT", "OK", "OVER_LIMIT"]);
        assert_eq!(left(&denied), [7, 0]);
    }
    // Two that count by the same are counted one after the other.
    let pair = request(&[user("v"), user("v")]);
    for spent in 1..=5 {
        assert_eq!(left(&client.ask(&pair).await.unwrap())[1], 10 - 2 * spent);
    }
    assert_eq!(codes(&client.ask(&pair).await.unwrap())[0], "OVER_LIMIT");
    // Three times two passed and five times two did not; then five times two did, and one pair did not.
    let metrics = server.get("/metrics").body;
    for line in [
        r#"rate_limiter_requests_total{backend="memory",result="allowed"} 16"#,
        r#"rate_limiter_requests_total{backend="memory",result="denied"} 12"#,
        r#"rate_limiter_policy_hits_total{policy="login"} 8"#,
        r#"rate_limiter_policy_denied_total{policy="login"} 5"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(server.get("/v1/status").json()["allowed"], 16);
}

#[tokio::test]
async fn hits_are_what_the_descriptor_says_or_else_the_request() {
    let (_server, client) = start(POLICIES, &[]).await;
    let ask = async |request: Value| left(&client.ask(&request).await.unwrap())[0];
    assert_eq!(ask(with(request(&[user("u")]), "hitsAddend", json!(3))).await, 7);
    let own = |hits: &str| with(user("u"), "hitsAddend", json!(hits));
    assert_eq!(ask(with(request(&[own("2")]), "hitsAddend", json!(3))).await, 5);
    // Nothing is one; a descriptor's 0 only looks.
    assert_eq!(ask(request(&[user("u")])).await, 4);
    assert_eq!(ask(request(&[own("0")])).await, 4);
    assert_eq!(ask(with(request(&[own("0")]), "hitsAddend", json!(3))).await, 4);
    // More than there is takes nothing.
    let denied = client.ask(&request(&[own("5")])).await.unwrap();
    assert_eq!((codes(&denied)[0], left(&denied)), ("OVER_LIMIT", vec![4]));
    let denied = client.ask(&request(&[own("18446744073709551615")])).await.unwrap();
    assert_eq!(codes(&denied)[0], "OVER_LIMIT");
    assert_eq!(ask(request(&[own("4")])).await, 0);
    // At the limit, a look is still within it.
    assert_eq!(codes(&client.ask(&request(&[own("0")])).await.unwrap())[0], "OK");
    // Negative hits give back, and no more than is spent.
    let back = |descriptor: Value| with(descriptor, "isNegativeHits", json!(true));
    assert_eq!(ask(request(&[back(own("3"))])).await, 3);
    assert_eq!(ask(request(&[back(user("u"))])).await, 4);
    assert_eq!(ask(request(&[back(own("4000000000"))])).await, 10);
    assert_eq!(ask(request(&[user("u")])).await, 9);
    // Beside one that is denied, nothing is given back either.
    let closed = entries(&[("generic_key", "closed")]);
    assert_eq!(left(&client.ask(&request(&[back(own("1")), closed])).await.unwrap())[0], 9);
    assert_eq!(ask(request(&[own("0")])).await, 9);
}

#[tokio::test]
async fn a_descriptor_may_state_its_own_limit() {
    let (_server, client) = start(POLICIES, &[]).await;
    let stated = |mut descriptor: Value, count: u32, unit: &str| {
        descriptor["limit"] = json!({ "requestsPerUnit": count, "unit": unit });
        request(&[descriptor])
    };
    let ask = async |request: Value| client.ask(&request).await.unwrap();
    let two = |name: &str| stated(user(name), 2, "YEAR");
    let answer = ask(two("u")).await;
    assert_eq!(
        answer["statuses"][0]["currentLimit"],
        json!({ "requestsPerUnit": 2, "unit": "YEAR", "name": "users" })
    );
    assert_eq!(left(&answer), [1]);
    assert_eq!(codes(&ask(two("u")).await)[0], "OK");
    assert_eq!(codes(&ask(two("u")).await)[0], "OVER_LIMIT");
    // For the same identities as the policy: another user has their own; and the policy's own limit was not touched.
    assert_eq!(left(&ask(two("v")).await), [1]);
    assert_eq!(left(&ask(request(&[user("u")])).await), [9]);
    // Months and weeks are units too; another limit counts by itself.
    assert_eq!(ask(stated(user("u"), 7, "MONTH")).await["statuses"][0]["currentLimit"]["unit"], "MONTH");
    assert_eq!(left(&ask(stated(user("u"), 7, "WEEK")).await), [6]);
    assert_eq!(codes(&ask(stated(user("u"), 0, "DAY")).await)[0], "OVER_LIMIT");
    // Also where the policy only watches, but not where there is none.
    let watched = || stated(entries(&[("generic_key", "watched")]), 1, "YEAR");
    assert_eq!(codes(&ask(watched()).await)[0], "OK");
    assert_eq!(codes(&ask(watched()).await)[0], "OVER_LIMIT");
    let nobody = ask(stated(entries(&[("generic_key", "nothing")]), 0, "YEAR")).await;
    assert_eq!((codes(&nobody)[0], left(&nobody)), ("OK", vec![0]));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let (server, client) = start(POLICIES, &[]).await;
    let many = vec![user("u"); 129];
    let long = entries(&[("a", "b"); 65]);
    let no_unit = with(user("u"), "limit", json!({ "requestsPerUnit": 1 }));
    let no_such_unit = with(user("u"), "limit", json!({ "requestsPerUnit": 1, "unit": 9 }));
    for (request, code, said) in [
        (json!({ "descriptors": [user("u")] }), Code::Unknown, "rate limit domain must not be empty"),
        (json!({ "domain": "edge" }), Code::Unknown, "rate limit descriptor list must not be empty"),
        (request(&many), Code::InvalidArgument, "at most 128 descriptors, not 129"),
        (
            request(&[user("u"), long]),
            Code::InvalidArgument,
            "descriptors[1]: a descriptor has at most 64 entries, not 65",
        ),
        (request(&[no_unit]), Code::InvalidArgument, "descriptors[0].limit: 0 is no unit of time"),
        (request(&[no_such_unit]), Code::InvalidArgument, "descriptors[0].limit: 9 is no unit of time"),
        (request(&[user(&"x".repeat(70_000))]), Code::OutOfRange, "65536"),
    ] {
        let error = client.ask(&request).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(said), "{error}");
    }
    // A descriptor without entries asks nothing.
    assert_eq!(codes(&client.ask(&request(&[json!({})])).await.unwrap()), ["OK", "OK"]);
    let metrics = server.get("/metrics").body;
    let line = r#"rate_limiter_requests_total{backend="memory",result="error"} 6"#;
    assert!(metrics.contains(line), "{metrics}");
    let missing = client.channel.clone();
    let mut health = HealthClient::with_origin(missing, "http://x/nothing".parse().unwrap());
    let error = health.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn headers_for_envoy_to_add() {
    let headers = |answer: &Value| -> Vec<String> {
        let headers = answer["responseHeadersToAdd"].as_array().cloned().unwrap_or_default();
        let text = |header: &Value| {
            format!("{}: {}", header["key"].as_str().unwrap(), header["value"].as_str().unwrap())
        };
        headers.iter().map(text).collect()
    };
    let asked = request(&[user("u"), login("203.0.113.7"), entries(&[("generic_key", "nothing")])]);
    let (_server, client) = start(POLICIES, &[]).await;
    assert!(headers(&client.ask(&asked).await.unwrap()).is_empty());

    let (_server, client) = start(POLICIES, &["--grpc-headers"]).await;
    let told = headers(&client.ask(&asked).await.unwrap());
    assert_eq!(told[..2], ["RateLimit-Limit: 3", "RateLimit-Remaining: 2"]);
    assert!(told[2].strip_prefix("RateLimit-Reset: ").unwrap().parse::<u64>().unwrap() > 0, "{told:?}");
    let nothing = request(&[entries(&[("generic_key", "nothing")])]);
    assert!(headers(&client.ask(&nothing).await.unwrap()).is_empty());

    let (_server, client) = start(POLICIES, &["--grpc-headers=X-L, X-Left,X-Until"]).await;
    let told = headers(&client.ask(&asked).await.unwrap());
    assert_eq!(told[..2], ["X-L: 3", "X-Left: 2"]);
    let refused = run(&["serve", "--grpc-headers=X-L,X-Left"]);
    assert!(stderr(&refused).contains("three names of headers"), "{}", stderr(&refused));
}

#[tokio::test]
async fn kuadrant_looks_first_and_reports_the_cost_afterwards() {
    let (_server, client) = start(POLICIES, &[]).await;
    let call = async |method: &str, hits: u64| {
        let asked = with(request(&[user("u")]), "hitsAddend", json!(hits));
        client.call(KUADRANT, method, &asked).await.unwrap()
    };
    for _ in 0..20 {
        let looked = call("CheckRateLimit", 0).await;
        assert_eq!((codes(&looked)[0], left(&looked)), ("OK", vec![10]));
    }
    let reported = call("Report", 7).await;
    assert_eq!((codes(&reported)[0], left(&reported)), ("OK", vec![3]));
    assert_eq!(codes(&call("CheckRateLimit", 3).await)[0], "OK");
    assert_eq!(codes(&call("CheckRateLimit", 4).await)[0], "OVER_LIMIT");
    // It was let in before it was known what it costs: all that is left is taken.
    let reported = call("Report", 500).await;
    assert_eq!((codes(&reported), left(&reported)), (vec!["OK", "OVER_LIMIT"], vec![0]));
    assert_eq!(codes(&call("CheckRateLimit", 0).await)[0], "OVER_LIMIT");
    // Each is charged, whatever is left of the others; and by the same key as often as it is named.
    let both = with(request(&[user("u"), user("v"), user("w"), user("w")]), "hitsAddend", json!(6));
    let reported = client.call(KUADRANT, "Report", &both).await.unwrap();
    assert_eq!(left(&reported)[..2], [0, 4]);
    let looked = with(request(&[with(user("w"), "hitsAddend", json!("0"))]), "hitsAddend", json!(0));
    assert_eq!(left(&client.call(KUADRANT, "CheckRateLimit", &looked).await.unwrap()), [0]);
    let empty = client.call(KUADRANT, "Report", &json!({ "domain": "edge" })).await.unwrap_err();
    assert_eq!(empty.message(), "rate limit descriptor list must not be empty");
}

#[tokio::test]
async fn the_server_says_what_it_is_and_how_it_is() {
    let (_server, client) = start(POLICIES, &[]).await;
    let names = services(&client.channel).await;
    for name in [ENVOY, KUADRANT, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
    let mut health = HealthClient::new(client.channel.clone());
    for service in ["", ENVOY, KUADRANT] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(Request::new(asked)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let asked = HealthCheckRequest { service: "nothing".to_owned() };
    assert_eq!(health.check(Request::new(asked)).await.unwrap_err().code(), Code::NotFound);
}

#[cfg(unix)]
#[tokio::test]
async fn told_to_stop_it_says_so_and_answers_what_is_under_way() {
    let (mut server, client) = start(POLICIES, &[]).await;
    let mut health = HealthClient::new(client.channel.clone());
    let asked = HealthCheckRequest { service: ENVOY.to_owned() };
    let mut watched = health.watch(Request::new(asked)).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    // A request whose body is still to come.
    let method = client.method(ENVOY, "ShouldRateLimit");
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let body = async move { receiver.await.unwrap() };
    let mut grpc = tonic::client::Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    let path = format!("/{ENVOY}/ShouldRateLimit").parse().unwrap();
    let codec = client::Dynamic(method.output());
    let answer = tokio::spawn(async move {
        grpc.client_streaming(Request::new(client::Later::new(body)), path, codec).await
    });
    // A later request of the same connection shows that the other has arrived.
    client.ask(&request(&[user("u")])).await.unwrap();
    server.terminate();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watched.message().await.unwrap().is_none());
    let message = prost_reflect::DynamicMessage::deserialize(method.input(), request(&[user("u")])).unwrap();
    sender.send(message).unwrap();
    let answer = serde_json::to_value(answer.await.unwrap().unwrap().into_inner()).unwrap();
    assert_eq!(left(&answer), [8]);
    let ended = tokio::task::spawn_blocking(move || server.wait(Duration::from_secs(12)));
    assert!(ended.await.unwrap().expect("the server ends").success());
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_and_no_denial() {
    let seed = "00112233445566778899aabbccddeeff";
    let options = ["--store", "redis://127.0.0.1:1", "--key-seed", seed, "--on-store-failure", "deny"];
    let (server, client) = start(POLICIES, &options).await;
    let error = client.ask(&request(&[user("u")])).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let metrics = server.get("/metrics").body;
    assert!(
        metrics.contains(r#"rate_limiter_requests_total{backend="redis",result="error"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn nodes_that_share_a_store_decide_all_descriptors_there() {
    let redis = Redis::start(&[]);
    for consistency in ["strict", "lease"] {
        let (url, prefix) = (redis.url(), format!("{consistency}:"));
        let options = ["--store", &url, "--store-deadline", "1s", "--store-prefix", &prefix, "--nodes", "2"];
        let node = |number| {
            let options = [&options[..], &["--consistency", consistency, "--node", number]].concat();
            async move { start(POLICIES, &options).await }
        };
        let ((_one, one), (_other, other)) = (node("0").await, node("1").await);
        let both = request(&[user("u"), login("203.0.113.7")]);
        for client in [&one, &other, &one] {
            assert_eq!(codes(&client.ask(&both).await.unwrap()), ["OK"; 3], "{consistency}");
        }
        for client in [&one, &other] {
            assert_eq!(codes(&client.ask(&both).await.unwrap()), ["OVER_LIMIT", "OK", "OVER_LIMIT"]);
        }
        // Nothing was charged for those that were denied.
        let hits = |hits: &str| request(&[with(user("u"), "hitsAddend", json!(hits))]);
        assert_eq!(codes(&other.ask(&hits("8")).await.unwrap())[0], "OVER_LIMIT");
        assert_eq!(codes(&other.ask(&hits("7")).await.unwrap())[0], "OK", "{consistency}");
        // What is given back is there for all, and no more than was spent.
        let back = with(with(user("u"), "hitsAddend", json!("5")), "isNegativeHits", json!(true));
        other.ask(&request(&[back])).await.unwrap();
        assert_eq!(codes(&one.ask(&hits("6")).await.unwrap())[0], "OVER_LIMIT");
        assert_eq!(codes(&one.ask(&hits("5")).await.unwrap())[0], "OK", "{consistency}");
        let reported = one.call(KUADRANT, "Report", &request(&[login("203.0.113.8")])).await.unwrap();
        assert_eq!(codes(&reported), ["OK", "OK"]);
    }
}

#[tokio::test]
async fn it_can_be_elsewhere_or_nowhere() {
    let off = Server::start(&["--grpc", "off"]);
    assert_eq!(off.grpc(), "off");
    let (server, _client) = start(POLICIES, &["--grpc", "[::1]:0"]).await;
    assert!(server.grpc().starts_with("http://[::1]:"), "{}", server.grpc());
    let address = server.grpc();
    let taken =
        run(&["serve", "--listen", "127.0.0.1:0", "--grpc", address.strip_prefix("http://").unwrap()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).contains("Address already in use"), "{}", stderr(&taken));
    assert!(stderr(&taken).contains("--grpc off"), "{}", stderr(&taken));
    let wrong = run(&["serve", "--grpc", "localhost"]);
    assert!(stderr(&wrong).contains("127.0.0.1:8081, or `off`"), "{}", stderr(&wrong));
}

#[tokio::test]
async fn what_is_no_http2_is_cut_off_and_breaks_nothing() {
    use std::io::{Read, Write};
    let (server, client) = start(POLICIES, &[]).await;
    let address = server.grpc();
    let address = address.strip_prefix("http://").unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        // Whatever is answered, it ends.
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    assert_eq!(codes(&client.ask(&request(&[user("u")])).await.unwrap())[0], "OK");
}
