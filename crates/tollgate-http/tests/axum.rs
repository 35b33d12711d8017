//! The layer in axum.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use axum::{Extension, Router};
use http::Request;
use support::Gate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tollgate_http::{ForwardingHeader, RateLimitLayer, RequestContext, TrustedProxies};
use tollgate_policy::Verdict;
use tower::ServiceExt;

const ONE: &str = "policies: [{ name: one, key: identity, algorithm: fixed_window, limit: 1/minute }]";

async fn status(app: &Router, path: &str) -> u16 {
    let request = Request::get(path).body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap().status().as_u16()
}

fn peer() -> MockConnectInfo<SocketAddr> {
    MockConnectInfo("203.0.113.7:4711".parse().unwrap())
}

/// Sends a request over TCP and returns the whole answer.
async fn over_tcp(address: SocketAddr) -> String {
    with_headers(address, "").await
}

/// The same with further headers, each with its end.
async fn with_headers(address: SocketAddr, headers: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_real_server_limits_by_address() {
    let app = Router::new()
        .route(
            "/",
            get(|Extension(verdict): Extension<Arc<Verdict>>| async move {
                verdict.deciding().map_or("nobody".to_owned(), |policy| policy.policy.name().to_owned())
            }),
        )
        .layer(RateLimitLayer::new(Gate::new(ONE)).share_verdict());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    });
    let passed = over_tcp(address).await;
    assert!(passed.starts_with("HTTP/1.1 200") && passed.ends_with("one"), "{passed}");
    assert!(passed.contains("\r\nratelimit: \"one\";r=0;t="), "{passed}");
    let denied = over_tcp(address).await;
    assert!(denied.starts_with("HTTP/1.1 429") && denied.contains("RATE_LIMIT_EXCEEDED"), "{denied}");
    assert!(denied.contains("\r\nretry-after: 60\r\n"), "{denied}");
    server.abort();
}

#[tokio::test]
async fn a_route_can_have_limits_of_its_own() {
    let app = Router::new()
        .route("/dear", get(|| async { "dear" }).layer(RateLimitLayer::new(Gate::new(ONE))))
        .route("/cheap", get(|| async { "cheap" }))
        .layer(peer());
    for (path, expected) in [("/dear", 200), ("/dear", 429), ("/cheap", 200), ("/cheap", 200)] {
        assert_eq!(status(&app, path).await, expected, "{path}");
    }
    let routes = Router::new()
        .route("/dear", get(|| async { "dear" }))
        .route_layer(RateLimitLayer::new(Gate::new(ONE)))
        .layer(peer());
    for (path, expected) in [("/none", 404), ("/dear", 200), ("/none", 404), ("/dear", 429)] {
        assert_eq!(status(&routes, path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn policies_match_the_whole_path_in_nested_routers() {
    let policies = "policies: [{ name: one, match: { path: /api/users }, key: ip, limit: 1/minute }]";
    let inner = Router::new()
        .route("/users", get(|| async { "users" }))
        .layer(RateLimitLayer::new(Gate::new(policies)));
    let app = Router::new().nest("/api", inner).layer(peer());
    for expected in [200, 429] {
        assert_eq!(status(&app, "/api/users").await, expected);
    }
}

#[tokio::test]
async fn authentication_outside_names_the_user() {
    let authenticate = from_fn(async |mut request: axum::extract::Request, next: Next| {
        let user = request.uri().query().unwrap_or_default().to_owned();
        request.extensions_mut().insert(RequestContext::new().user(user));
        next.run(request).await
    });
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(RateLimitLayer::new(Gate::new(ONE)))
        .layer(authenticate)
        .layer(peer());
    for (path, expected) in [("/?ann", 200), ("/?ann", 429), ("/?bob", 200), ("/?bob", 429)] {
        assert_eq!(status(&app, path).await, expected, "{path}");
    }
}

/// Serves an app that says hello, behind limits.
async fn serve(layer: RateLimitLayer<Gate>) -> SocketAddr {
    let app = Router::new().route("/", get(async || "hello")).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    });
    address
}

/// Headers by which a client pretends to be another one with each request.
fn forged(number: u32) -> String {
    let ip = std::net::Ipv4Addr::from(number.wrapping_mul(2_654_435_761));
    format!(
        "X-Forwarded-For: {ip}\r\nX-Forwarded-For: unknown, \"{ip}, {ip}\r\nForwarded: for={ip};by=\"{ip}, for=_x\r\n\
         X-Real-IP: {ip}\r\nTrue-Client-IP: {ip}\r\nCF-Connecting-IP: {ip}\r\nX-Client-IP: {ip}\r\n"
    )
}

/// How many requests of ten floods at once pass, flood by flood; `headers` says what a request of a flood sends.
async fn ten_floods(address: SocketAddr, headers: fn(u32, u32) -> String) -> Vec<usize> {
    let flood = |flood: u32| async move {
        let mut passed = 0;
        for number in 0..100 {
            let answer = with_headers(address, &headers(flood, number)).await;
            assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 429"), "{answer}");
            passed += usize::from(answer.starts_with("HTTP/1.1 200"));
        }
        passed
    };
    let floods: Vec<_> = (0..10).map(|number| tokio::spawn(flood(number))).collect();
    let mut passed = Vec::new();
    for flood in floods {
        passed.push(flood.await.unwrap());
    }
    passed
}

const SEVEN: &str = "policies: [{ name: seven, key: ip, limit: 7/minute }]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_forged_headers_get_nothing_extra() {
    // Nobody is believed, or others are.
    for proxies in [TrustedProxies::none(), TrustedProxies::parse(["10.0.0.0/8"]).unwrap()] {
        let address = serve(RateLimitLayer::new(Gate::new(SEVEN)).trusted_proxies(proxies)).await;
        let passed = ten_floods(address, |flood, number| forged(flood * 1_000 + number)).await;
        assert_eq!(passed.iter().sum::<usize>(), 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_what_a_client_forges_is_not_looked_at() {
    // The proxy adds, at the end, whom it heard from: ten clients.
    let proxies = || TrustedProxies::parse(["127.0.0.0/8"]).unwrap();
    let address = serve(RateLimitLayer::new(Gate::new(SEVEN)).trusted_proxies(proxies())).await;
    let by_list = |flood: u32, number: u32| {
        format!("{}X-Forwarded-For: 203.0.113.{flood}\r\n", forged(flood * 1_000 + number))
    };
    assert_eq!(ten_floods(address, by_list).await, [7; 10]);
    let proxies = proxies().with_header(ForwardingHeader::Forwarded);
    let address = serve(RateLimitLayer::new(Gate::new(SEVEN)).trusted_proxies(proxies)).await;
    let by_forwarded = |flood: u32, number: u32| {
        format!("{}Forwarded: for=203.0.113.{flood};proto=http\r\n", forged(flood * 1_000 + number))
    };
    assert_eq!(ten_floods(address, by_forwarded).await, [7; 10]);
}
