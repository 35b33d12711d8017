//! The layer over plain Tower services.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/strict.rs"]
mod strict;
mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use strict::Strict;
use support::{Gate, NOW_S, from_peer, lines};
use tollgate_http::{
    ForwardingHeader, HeaderOptions, HeaderStyle, RateLimitLayer, RequestContext, TrustedProxies,
};
use tollgate_policy::Verdict;
use tower::{Layer, Service, ServiceExt, service_fn};

const ONE: &str = "policies: [{ name: one, key: identity, algorithm: fixed_window, limit: 1/minute }]";

async fn hello(_: Request<String>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

/// Sends a request through a layer, and returns the status and the body.
async fn send(layer: &RateLimitLayer<Gate>, request: Request<String>) -> (StatusCode, String) {
    let response = layer.layer(service_fn(hello)).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn status(layer: &RateLimitLayer<Gate>, request: Request<String>) -> u16 {
    send(layer, request).await.0.as_u16()
}

#[tokio::test]
async fn what_passes_and_what_is_denied_both_have_headers() {
    let gate = Gate::new(ONE);
    let layer = RateLimitLayer::new(Gate::new(ONE)).clock(gate.clock());
    let service = layer.layer(service_fn(hello));
    let passed = service.clone().oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    assert_eq!(passed.status(), 200);
    assert_eq!(
        lines(passed.headers()),
        [
            "ratelimit-policy: \"one\";q=1;w=60",
            "ratelimit: \"one\";r=0;t=60",
            "x-ratelimit-limit: 1",
            "x-ratelimit-policy: one",
            "x-ratelimit-remaining: 0",
            &format!("x-ratelimit-reset: {}", NOW_S + 60),
        ]
    );
    let denied = service.oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    assert_eq!(denied.status(), 429);
    assert_eq!(denied.headers()["retry-after"], "60");
    assert_eq!(denied.headers()["content-type"], "application/json");
    let body = denied.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "RATE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn clones_share_their_state() {
    let layer = RateLimitLayer::new(Gate::new(ONE));
    let clone = layer.clone().headers(HeaderOptions::none());
    assert_eq!(status(&layer, from_peer("203.0.113.7", "/")).await, 200);
    assert_eq!(status(&clone, from_peer("203.0.113.7", "/")).await, 429);
    assert_eq!(status(&clone, from_peer("203.0.113.8", "/")).await, 200);
    assert_eq!(status(&layer, from_peer("203.0.113.8", "/")).await, 429);

    let gate = Arc::new(Gate::new(ONE));
    for expected in [200, 429] {
        let layer = RateLimitLayer::new(Arc::clone(&gate));
        let response = layer.layer(service_fn(hello)).oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
        assert_eq!(response.status(), expected);
    }
}

#[tokio::test]
async fn a_denied_request_passes_when_its_time_has_come() {
    let gate = Gate::new(ONE);
    let clock = gate.clock();
    let layer = RateLimitLayer::new(gate);
    for expected in [200, 429] {
        assert_eq!(status(&layer, from_peer("203.0.113.7", "/")).await, expected);
    }
    clock.advance(Duration::from_mins(1));
    assert_eq!(status(&layer, from_peer("203.0.113.7", "/")).await, 200);
}

#[tokio::test]
async fn what_is_skipped_counts_nowhere() {
    let layer = RateLimitLayer::new(Gate::new(ONE))
        .skip_paths(["/healthz", "/readyz"])
        .skip(|request| request.headers().contains_key("x-internal"));
    for path in ["/healthz", "/readyz?verbose", "/healthz"] {
        let service = layer.layer(service_fn(hello));
        let response = service.oneshot(from_peer("203.0.113.7", path)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().len()), (200, 0), "{path}");
    }
    let mut internal = from_peer("203.0.113.7", "/");
    internal.headers_mut().insert("x-internal", HeaderValue::from_static("1"));
    assert_eq!(status(&layer, internal).await, 200);
    // Only the very same path is skipped.
    assert_eq!(status(&layer, from_peer("203.0.113.7", "/healthz/")).await, 200);
    for path in ["/healthz/", "//healthz", "/HEALTHZ", "/x/../healthz"] {
        assert_eq!(status(&layer, from_peer("203.0.113.7", path)).await, 429, "{path}");
    }
}

#[tokio::test]
async fn a_denial_can_have_any_answer() {
    let layer = RateLimitLayer::new(Gate::new(ONE)).on_denied(|_, verdict| {
        let name = verdict.deciding().map_or("?", |policy| policy.policy.name());
        Response::builder()
            .status(503)
            .header("retry-after", "7")
            .body(Bytes::from(format!("{name} says no")))
            .unwrap()
    });
    assert_eq!(status(&layer, from_peer("203.0.113.7", "/")).await, 200);
    let service = layer.layer(service_fn(hello));
    let denied = service.oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    assert_eq!(
        (denied.status().as_u16(), &denied.headers()["retry-after"]),
        (503, &HeaderValue::from_static("7"))
    );
    assert_eq!(denied.headers()["x-ratelimit-remaining"], "0");
    assert_eq!(denied.into_body().collect().await.unwrap().to_bytes(), "one says no");
}

#[tokio::test]
async fn a_hidden_policy_is_hidden_everywhere() {
    let layer = RateLimitLayer::new(Gate::new(&ONE.replace("one", "secret")))
        .headers(HeaderOptions::default().hide_policy(true));
    for _ in 0..2 {
        let service = layer.layer(service_fn(hello));
        let response = service.oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
        assert!(!format!("{:?}", response.headers()).contains("secret"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}

#[tokio::test]
async fn a_handler_sees_the_verdict() {
    let layer = RateLimitLayer::new(Gate::new(ONE)).share_verdict();
    let service = layer.layer(service_fn(async |request: Request<String>| {
        let verdict = request.extensions().get::<Arc<Verdict>>().unwrap();
        let left = verdict.deciding().unwrap().remaining();
        Ok::<_, Infallible>(Response::new(left.to_string()))
    }));
    let response = service.oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "0");
}

/// Something that is no body.
struct Opaque;

#[tokio::test]
async fn any_body_will_do_and_errors_come_through() {
    let layer = RateLimitLayer::new(Gate::new("policies: []"));
    let empty = layer
        .layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))));
    let response = empty.oneshot(Request::new(())).await.unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());

    // Not even a body: what the inner service answers with is carried along.
    let opaque =
        layer.layer(service_fn(async |_: Request<Opaque>| Ok::<_, Infallible>(Response::new(Opaque))));
    let response = opaque.oneshot(Request::new(Opaque)).await.unwrap();
    assert!(matches!(response.into_body().into_inner(), Some(Opaque)));

    let failing = layer.layer(service_fn(async |_: Request<()>| Err::<Response<()>, _>("broken")));
    assert_eq!(failing.oneshot(Request::new(())).await.err(), Some("broken"));
}

#[tokio::test]
async fn the_service_that_is_called_is_the_one_that_is_ready() {
    let strict = Strict::default();
    let calls = Arc::clone(&strict.calls);
    let mut service = RateLimitLayer::new(Gate::new(ONE)).layer(strict);
    for (address, so_far) in [("203.0.113.7", 1), ("203.0.113.7", 1), ("203.0.113.8", 2)] {
        service.ready().await.unwrap().call(from_peer(address, "/")).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), so_far);
    }
    let mut clone = service.clone();
    clone.ready().await.unwrap().call(from_peer("203.0.113.9", "/")).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_client_cannot_choose_its_address() {
    let forged = |peer: &str, client: &str| {
        let mut request = from_peer(peer, "/");
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        request.headers_mut().insert("forwarded", format!("for={client}").parse().unwrap());
        request
    };
    let closed = RateLimitLayer::new(Gate::new(ONE));
    assert_eq!(status(&closed, forged("203.0.113.7", "1.1.1.1")).await, 200);
    assert_eq!(status(&closed, forged("203.0.113.7", "2.2.2.2")).await, 429);

    for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
        let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap().with_header(header);
        let layer = RateLimitLayer::new(Gate::new(ONE)).trusted_proxies(proxies);
        for (peer, client, expected) in [
            ("10.0.0.1", "1.1.1.1", 200),
            ("10.0.0.1", "2.2.2.2", 200),
            ("10.0.0.2", "1.1.1.1", 429),
            ("203.0.113.7", "3.3.3.3", 200),
            ("203.0.113.7", "4.4.4.4", 429),
        ] {
            assert_eq!(status(&layer, forged(peer, client)).await, expected, "{header:?} {peer} {client}");
        }
    }
}

#[tokio::test]
async fn keys_users_and_addresses_are_counted_apart() {
    let layer = RateLimitLayer::new(Gate::new(ONE)).api_key_header(HeaderName::from_static("x-token"));
    let with = |token: Option<&[u8]>, user: Option<&str>| {
        let mut request = from_peer("203.0.113.7", "/");
        if let Some(token) = token {
            request.headers_mut().insert("x-token", HeaderValue::from_bytes(token).unwrap());
        }
        if let Some(user) = user {
            request.extensions_mut().insert(RequestContext::new().user(user));
        }
        request
    };
    let long = vec![b'x'; 1 << 20];
    let longer = vec![b'x'; (1 << 20) + 1];
    for (token, user) in [
        (None, None),
        (Some(&b"k1"[..]), None),
        (Some(b"k2"), Some("u1")),
        (None, Some("u1")),
        (None, Some("u2")),
        // What is not UTF-8 is a key, and so is what is very long.
        (Some(b"\xff\xfe"), None),
        (Some(b"\xff\xfd"), None),
        (Some(&long), None),
        (Some(&longer), None),
    ] {
        let start: Option<&[u8]> = token.map(|token| &token[..token.len().min(8)]);
        assert_eq!(status(&layer, with(token, user)).await, 200, "{start:?} {user:?}");
        assert_eq!(status(&layer, with(token, user)).await, 429, "{start:?} {user:?}");
    }
}

#[tokio::test]
async fn huge_headers_do_no_harm() {
    let policies = "
policies:
  - { name: a, key: [ip, 'header:x-tenant', 'cookie:sid', 'query:q', host], limit: 5/minute }
  - { name: b, key: ip, limit: 5/minute }
";
    let proxies = TrustedProxies::parse(["203.0.113.0/24"]).unwrap();
    let layer = RateLimitLayer::new(Gate::new(policies)).trusted_proxies(proxies);
    for filler in [&b"a"[..], b",", b"\"", b"\\", b";", b"\xff", b"sid=", b"1.1.1.1,"] {
        let mut request = from_peer("203.0.113.7", "/?q=1");
        let value = HeaderValue::from_bytes(&filler.repeat((1 << 20) / filler.len())).unwrap();
        for name in ["x-tenant", "cookie", "host", "x-forwarded-for", "forwarded", "x-api-key"] {
            request.headers_mut().insert(name, value.clone());
        }
        assert!(matches!(status(&layer, request).await, 200 | 429));
    }
}

#[tokio::test]
async fn two_layers_give_the_lists_of_both_and_the_numbers_of_the_inner() {
    let inner = RateLimitLayer::new(Gate::new("policies: [{ name: route, key: ip, limit: 1/minute }]"));
    let outer = RateLimitLayer::new(Gate::new("policies: [{ name: app, key: ip, limit: 9/minute }]"));
    let service = outer.layer(inner.layer(service_fn(hello)));
    for expected in [200, 429] {
        let response = service.clone().oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
        assert_eq!(response.status(), expected);
        let items: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
        assert_eq!(items.len(), 2, "{items:?}");
        assert_eq!(response.headers()["x-ratelimit-policy"], "route");
        assert_eq!(response.headers().get_all("x-ratelimit-remaining").iter().count(), 1);
    }
}

#[tokio::test]
async fn no_headers_if_none_are_wanted() {
    let quiet = HeaderOptions::none().with(HeaderStyle::RetryAfter);
    let layer = RateLimitLayer::new(Gate::new(ONE)).headers(quiet);
    let service = layer.layer(service_fn(hello));
    let passed = service.clone().oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    assert!(passed.headers().is_empty());
    let denied = service.oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    assert_eq!(lines(denied.headers()), ["content-type: application/json", "retry-after: 60"]);
}

#[tokio::test]
async fn the_reset_is_told_by_the_clock_on_the_wall() {
    let layer = RateLimitLayer::new(Gate::new(ONE));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let response = layer.layer(service_fn(hello)).oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
    let reset: u64 = response.headers()["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert!((now + 60..now + 120).contains(&reset), "{reset}");
}

#[tokio::test]
async fn without_an_address_only_other_policies_apply() {
    let policies = "
policies:
  - { name: by-ip, key: ip, limit: 1/minute }
  - { name: by-anything, key: identity, limit: 1/minute }
  - { name: together, key: global, limit: 2/minute }
";
    let layer = RateLimitLayer::new(Gate::new(policies));
    for expected in [200, 200, 429] {
        assert_eq!(status(&layer, Request::new(String::new())).await, expected);
    }
}
