//! What a layer can be told: whom to count, what to charge, what to answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/strict.rs"]
mod strict;
mod support;

use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use strict::Strict;
use support::{Gate, from_peer, lines};
use tollgate_adaptive::{Aimd, Bounds, ConcurrencyLimit, Outcome, Outcomes};
use tollgate_http::{
    ActualCost, Checking, DenialForm, Gatekeeper, HeaderOptions, Networks, RateLimitBody, RateLimitLayer,
    Undecided,
};
use tollgate_policy::{Attributes, KeyPart, Settlement, Verdict};
use tower::{Layer, ServiceExt, service_fn};

const ONE: &str = "policies: [{ name: one, key: ip, algorithm: fixed_window, limit: 1/minute }]";
const TEN: &str = "policies: [{ name: ten, key: ip, algorithm: fixed_window, limit: 10/minute }]";

type Answer = Response<RateLimitBody<Full<Bytes>>>;

async fn hello(_: Request<String>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

async fn send(layer: &RateLimitLayer<Arc<Gate>>, request: Request<String>) -> Answer {
    layer.layer(service_fn(hello)).oneshot(request).await.unwrap()
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A gate, near or distant, and a layer on it.
fn layers(policies: &str) -> [(Arc<Gate>, RateLimitLayer<Arc<Gate>>); 2] {
    [false, true].map(|is_distant| {
        let gate = Arc::new(Gate::new(policies));
        gate.is_distant.store(is_distant, Ordering::Relaxed);
        (Arc::clone(&gate), RateLimitLayer::new(gate))
    })
}

#[tokio::test]
async fn a_store_that_has_to_be_waited_for_decides_alike() {
    for (_, layer) in layers(ONE) {
        let layer = layer.share_verdict();
        let service = layer.layer(service_fn(async |request: Request<String>| {
            let verdict = request.extensions().get::<Arc<Verdict>>().unwrap();
            let left = verdict.deciding().unwrap().remaining();
            Ok::<_, Infallible>(Response::new(format!("{} {left}", request.body())))
        }));
        let request = || from_peer("203.0.113.7", "/").map(|_| "body".to_owned());
        let passed = service.clone().oneshot(request()).await.unwrap();
        assert_eq!(passed.headers()["x-ratelimit-remaining"], "0");
        assert_eq!(passed.into_body().collect().await.unwrap().to_bytes(), "body 0");
        let denied = service.oneshot(request()).await.unwrap();
        assert_eq!(
            (denied.status().as_u16(), &denied.headers()["retry-after"]),
            (429, &"60".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn what_has_to_be_ready_is_ready_also_after_a_wait() {
    for (_, layer) in layers(TEN) {
        let strict = Strict::default();
        let calls = Arc::clone(&strict.calls);
        let mut service = layer.layer(strict);
        // Two at once: the second is asked for before the first is decided.
        let first = service.ready().await.unwrap();
        let first = tower::Service::call(first, from_peer("203.0.113.7", "/"));
        let second = service.ready().await.unwrap();
        let second = tower::Service::call(second, from_peer("203.0.113.7", "/"));
        second.await.unwrap();
        first.await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn attributes_are_found_or_answered_for() {
    let policies =
        "policies: [{ name: tenant, key: ['attribute:tenant', 'attribute:plan'], limit: 1/minute }]";
    for (_, layer) in layers(policies) {
        let named = |request: &http::HeaderMap, name: &str| {
            request.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let layer = layer
            .try_attribute("tenant", move |request| match named(request.headers(), "x-tenant") {
                Some(tenant) if tenant == "unknown" => {
                    Err(Response::builder().status(403).body(Bytes::from("no such tenant")).unwrap().into())
                }
                tenant => Ok(tenant),
            })
            .attribute_async("plan", move |head| {
                let plan = named(&head.headers, "x-plan");
                async move {
                    tokio::task::yield_now().await;
                    match plan {
                        Some(plan) if plan == "gone" => {
                            Err(Response::builder().status(402).body(Bytes::new()).unwrap().into())
                        }
                        plan => Ok(plan),
                    }
                }
            });
        let request = |tenant: Option<&str>, plan: Option<&str>| {
            let mut request = from_peer("203.0.113.7", "/");
            for (name, value) in [("x-tenant", tenant), ("x-plan", plan)] {
                if let Some(value) = value {
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
            }
            request
        };
        for (tenant, plan, status) in [
            (Some("a"), Some("free"), 200),
            (Some("a"), Some("free"), 429),
            (Some("a"), Some("gold"), 200),
            (Some("b"), Some("free"), 200),
            // What lacks a part of the key is not limited by it.
            (Some("a"), None, 200),
            (None, Some("free"), 200),
            (None, Some("free"), 200),
            (Some("unknown"), Some("free"), 403),
            (Some("c"), Some("gone"), 402),
        ] {
            let answer = send(&layer, request(tenant, plan)).await;
            assert_eq!(answer.status(), status, "{tenant:?} {plan:?}");
        }
    }
}

#[tokio::test]
async fn methods_and_networks_can_be_left_alone() {
    for (_, layer) in layers(ONE) {
        let layer = layer
            .skip_methods([Method::OPTIONS])
            .skip_networks(Networks::parse(["198.51.100.0/24", "2001:db8::/32"]).unwrap());
        for _ in 0..3 {
            for peer in ["198.51.100.9", "::ffff:198.51.100.9", "2001:db8::1"] {
                assert_eq!(send(&layer, from_peer(peer, "/")).await.status(), 200);
            }
            let mut options = from_peer("203.0.113.7", "/");
            *options.method_mut() = Method::OPTIONS;
            assert_eq!(send(&layer, options).await.status(), 200);
        }
        for expected in [200, 429] {
            assert_eq!(send(&layer, from_peer("203.0.113.7", "/")).await.status(), expected);
        }
    }
}

#[tokio::test]
async fn a_request_costs_what_a_header_says() {
    for (_, layer) in layers(TEN) {
        let layer = layer.cost_from_header(HeaderName::from_static("x-cost"), 5);
        // As many as are left after each: at least one, at most five, and one where it is no number.
        for (cost, left) in [("3", 7), ("0", 6), ("-1", 5), ("x", 4), ("", 3)] {
            let mut request = from_peer("203.0.113.7", "/");
            request.headers_mut().insert("x-cost", cost.parse().unwrap());
            let answer = send(&layer, request).await;
            assert_eq!(answer.headers()["x-ratelimit-remaining"], left.to_string(), "{cost}");
        }
        let mut huge = from_peer("203.0.113.8", "/");
        huge.headers_mut().insert("x-cost", "99999999999".parse().unwrap());
        assert_eq!(send(&layer, huge).await.headers()["x-ratelimit-remaining"], "5");
        let plain = send(&layer, from_peer("203.0.113.8", "/")).await;
        assert_eq!(plain.headers()["x-ratelimit-remaining"], "4");
    }
}

#[tokio::test]
async fn the_first_rule_that_says_something_settles() {
    for (gate, layer) in layers(TEN) {
        let layer = layer
            .refund_on_status(|status| status.is_server_error())
            .charge_on_status(|status| status == StatusCode::UNAUTHORIZED, 4)
            .settle_reported();
        let answering = |status: u16, cost: Option<u32>| {
            layer.layer(service_fn(move |_: Request<String>| async move {
                let mut answer = Response::new(Full::<Bytes>::default());
                *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                if let Some(cost) = cost {
                    answer.extensions_mut().insert(ActualCost(cost));
                }
                Ok::<_, Infallible>(answer)
            }))
        };
        for (status, cost, settlement) in [
            (200, None, None),
            (503, None, Some(Settlement::Refund)),
            (503, Some(3), Some(Settlement::Refund)),
            (401, None, Some(Settlement::Extra(4))),
            (200, Some(3), Some(Settlement::Actual(3))),
        ] {
            let service = answering(status, cost);
            service.oneshot(from_peer("203.0.113.7", "/")).await.unwrap();
            let expected: Vec<_> =
                settlement.map(|settlement| (vec![(1, 1)], settlement)).into_iter().collect();
            assert_eq!(std::mem::take(&mut *gate.settled.lock().unwrap()), expected, "{status} {cost:?}");
        }
    }
}

#[tokio::test]
async fn what_is_sent_is_charged_for_when_it_has_been() {
    for (gate, layer) in layers(TEN) {
        let layer = layer.charge_body(NonZeroU64::new(2).unwrap());
        let settled = || std::mem::take(&mut *gate.settled.lock().unwrap());
        let answer = send(&layer, from_peer("203.0.113.7", "/")).await;
        assert_eq!(settled(), []);
        // Five bytes are three times two that have begun.
        assert_eq!(text(answer).await, "hello");
        assert_eq!(settled(), [(vec![(1, 1)], Settlement::Extra(3))]);
        // Given up before anything was sent.
        drop(send(&layer, from_peer("203.0.113.7", "/")).await);
        assert_eq!(settled(), []);
    }
}

#[tokio::test]
async fn what_is_cancelled_is_given_back_if_so_asked() {
    for (gate, layer) in layers(TEN) {
        let settled = || std::mem::take(&mut *gate.settled.lock().unwrap());
        let never = || {
            service_fn(|_: Request<String>| {
                std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
            })
        };
        for (layer, expected) in [(layer.clone(), 0), (layer.refund_cancelled(), 1)] {
            let cancelled = layer.layer(never()).oneshot(from_peer("203.0.113.7", "/"));
            assert!(tokio::time::timeout(std::time::Duration::from_millis(20), cancelled).await.is_err());
            assert_eq!(settled().len(), expected);
            // One that failed was not answered either, and one that was answered is not given back.
            let failing =
                layer.layer(service_fn(async |_: Request<String>| Err::<Response<Full<Bytes>>, _>("broken")));
            assert_eq!(failing.oneshot(from_peer("203.0.113.7", "/")).await.err(), Some("broken"));
            assert_eq!(settled().len(), expected);
            drop(send(&layer, from_peer("203.0.113.7", "/")).await);
            assert_eq!(settled().len(), 0);
        }
    }
}

#[tokio::test]
async fn clients_get_the_form_they_ask_for() {
    for (_, layer) in layers(ONE) {
        let asking = |accept: &str| {
            let mut request = from_peer("203.0.113.7", "/");
            request.headers_mut().insert("accept", accept.parse().unwrap());
            request
        };
        assert_eq!(send(&layer, asking("*/*")).await.status(), 200);
        let problem = send(&layer, asking("application/problem+json")).await;
        assert_eq!(problem.headers()["content-type"], "application/problem+json");
        assert_eq!(problem.headers()["retry-after"], "60");
        let problem: serde_json::Value = serde_json::from_str(&text(problem).await).unwrap();
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(problem["violated-policies"], serde_json::json!(["one"]));
        assert_eq!(problem["status"], 429);
        let json = send(&layer, asking("*/*")).await;
        assert_eq!(json.headers()["content-type"], "application/json");
        let always =
            layer.denial_form(DenialForm::ProblemDetails).headers(HeaderOptions::default().hide_policy(true));
        let hidden = send(&always, asking("*/*")).await;
        assert_eq!(hidden.headers()["content-type"], "application/problem+json");
        let hidden = text(hidden).await;
        assert!(
            hidden.contains(r#""violated-policies":["default"]"#) && !hidden.contains("one`"),
            "{hidden}"
        );
    }
}

#[tokio::test]
async fn clients_of_grpc_get_a_status_of_theirs() {
    for (_, layer) in layers(ONE) {
        let asking = || {
            let mut request = from_peer("203.0.113.7", "/acme.Search/Find");
            request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
            request
        };
        assert_eq!(send(&layer, asking()).await.status(), 200);
        let denied = send(&layer, asking()).await;
        assert_eq!(denied.status(), 200);
        assert_eq!(denied.headers()["grpc-status"], "8");
        assert_eq!(denied.headers()["content-type"], "application/grpc");
        assert_eq!(denied.headers()["retry-after"], "60");
        assert!(denied.headers()["grpc-message"].to_str().unwrap().contains("Rate limit exceeded"));
        assert!(denied.headers().contains_key("grpc-status-details-bin"));
        assert_eq!(text(denied).await, "");
    }
}

/// A gate whose store is always away.
struct Broken;

impl Gatekeeper for Broken {
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, _: &A, _: Option<u32>) -> Checking {
        Checking::Waiting(Box::pin(async { Err(Undecided::new("redis://secret-host is away")) }))
    }

    fn settle(self: &Arc<Self>, _: &Verdict, _: Settlement) {}
}

#[tokio::test]
async fn what_is_not_decided_is_answered_or_passes() {
    let layer = RateLimitLayer::new(Broken);
    let send = async |layer: &RateLimitLayer<Broken>, kind: &str| {
        let mut request = from_peer("203.0.113.7", "/");
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        layer.layer(service_fn(hello)).oneshot(request).await.unwrap()
    };
    let answer = send(&layer, "text/plain").await;
    assert_eq!(lines(answer.headers()), ["content-type: application/json", "retry-after: 1"]);
    assert_eq!(answer.status(), 503);
    let body = text(answer).await;
    assert!(body.contains("RATE_LIMIT_UNAVAILABLE") && !body.contains("secret-host"), "{body}");
    let grpc = send(&layer, "application/grpc").await;
    assert_eq!((grpc.status().as_u16(), &grpc.headers()["grpc-status"]), (200, &"14".parse().unwrap()));

    let why = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&why);
    let open = layer.clone().on_undecided(move |_, error| {
        *told.lock().unwrap() = error.to_string();
        None
    });
    let passed = send(&open, "text/plain").await;
    assert_eq!((passed.status().as_u16(), passed.headers().len()), (200, 0));
    assert!(why.lock().unwrap().contains("secret-host is away"));
    let own = layer.on_undecided(|_, _| Some(Response::builder().status(500).body(Bytes::new()).unwrap()));
    assert_eq!(send(&own, "text/plain").await.status(), 500);
}

#[tokio::test]
async fn decisions_are_told_of() {
    for (_, layer) in layers(ONE) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let layer = layer.on_decision(move |request, verdict| {
            noted.lock().unwrap().push((request.uri().path().to_owned(), verdict.is_allowed()));
        });
        for path in ["/a", "/b"] {
            let _ = send(&layer, from_peer("203.0.113.7", path)).await;
        }
        assert_eq!(*seen.lock().unwrap(), [("/a".to_owned(), true), ("/b".to_owned(), false)]);
    }
}

#[tokio::test]
async fn a_permit_is_held_until_the_body_ends() {
    for (gate, layer) in layers(TEN) {
        let layer = layer.headers(HeaderOptions::none()).in_flight(KeyPart::Ip, NonZeroU32::new(2).unwrap());
        let ask = async |ip: &str| send(&layer, from_peer(ip, "/").map(|_| String::new())).await;
        let (first, second) = (ask("203.0.113.7").await, ask("203.0.113.7").await);
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        // Answered, but not to their ends.
        let busy = ask("203.0.113.7").await;
        assert_eq!(busy.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(text(busy).await.contains("Too many requests at once: 2 requests may be under way"));
        assert_eq!(ask("203.0.113.8").await.status(), StatusCode::OK, "others are not in the way");
        assert_eq!(text(first).await, "hello");
        let third = ask("203.0.113.7").await;
        assert_eq!(third.status(), StatusCode::OK);
        drop((second, third));
        assert_eq!(ask("203.0.113.7").await.status(), StatusCode::OK);
        // What was turned away cost nothing: of ten, four of this client and none of those.
        assert_eq!(gate.ask(0).deciding().unwrap().remaining(), 6);
    }
}

#[tokio::test]
async fn a_service_does_no_more_at_once_than_it_can_bear() {
    for (gate, layer) in layers(TEN) {
        let limit = Arc::new(ConcurrencyLimit::fixed(NonZeroU32::new(2).unwrap()));
        let layer = layer.headers(HeaderOptions::none()).concurrency(Arc::clone(&limit));
        let ask = async |accept: &'static str| {
            let mut request = from_peer("203.0.113.7", "/").map(|_| String::new());
            request.headers_mut().insert("accept", accept.parse().unwrap());
            send(&layer, request).await
        };
        let (first, second) = (ask("*/*").await, ask("*/*").await);
        assert_eq!(limit.in_flight(), 2, "answered, but not to their ends");
        let refused = ask("*/*").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert!(text(refused).await.contains("SERVICE_OVERLOADED"));
        let refused = ask("application/problem+json").await;
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let body = text(refused).await;
        assert!(body.contains("#temporary-reduced-capacity") && body.contains("503"), "{body}");
        drop(first);
        assert_eq!(ask("*/*").await.status(), StatusCode::OK);
        drop(second);
        let own = layer.clone().on_overloaded(|_, full| {
            let mut answer = Response::new(Bytes::from(full.limit.to_string()));
            *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            answer
        });
        let _held = [limit.enter().unwrap(), limit.enter().unwrap()];
        let refused = send(&own, from_peer("203.0.113.7", "/").map(|_| String::new())).await;
        assert_eq!((refused.status(), text(refused).await), (StatusCode::TOO_MANY_REQUESTS, "2".to_owned()));
        // What was refused cost nothing: of ten, those three are gone, and this one.
        assert_eq!(gate.ask(0).deciding().unwrap().remaining(), 7);
    }
}

#[tokio::test]
async fn the_limit_learns_from_answers_and_failures_and_not_from_those_who_leave() {
    for (_, layer) in layers(TEN) {
        let begin = Bounds::new(1, 100, 100).unwrap();
        let limit = Arc::new(ConcurrencyLimit::new(Aimd::new(begin)));
        let outcomes = Arc::new(Outcomes::new());
        let layer = layer.concurrency(Arc::clone(&limit)).note_outcomes(Arc::clone(&outcomes));
        let request = || from_peer("203.0.113.7", "/").map(|_| String::new());
        assert_eq!(send(&layer, request()).await.status(), StatusCode::OK);
        let noted = |all, failed| format!("Outcomes {{ all: {all}, failed: {failed} }}");
        assert_eq!((limit.limit(), format!("{outcomes:?}")), (100, noted(1, 0)));
        // Cancelled before it is answered.
        let never = layer.layer(service_fn(async |_: Request<String>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }));
        let mut cancelled = Box::pin(never.oneshot(request()));
        while limit.in_flight() == 0 {
            assert!(cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(cancelled);
        assert_eq!((limit.in_flight(), limit.limit(), format!("{outcomes:?}")), (0, 100, noted(1, 0)));
        // A failure without an answer, then an answer that says so.
        let fails = layer.layer(service_fn(async |_: Request<String>| {
            Err::<Response<Full<Bytes>>, _>(std::io::Error::other("timed out"))
        }));
        assert!(fails.oneshot(request()).await.is_err());
        assert_eq!((limit.limit(), format!("{outcomes:?}")), (90, noted(2, 1)));
        let unavailable = layer.layer(service_fn(async |_: Request<String>| {
            let mut answer = Response::new(Full::<Bytes>::from("busy"));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, Infallible>(answer)
        }));
        assert_eq!(unavailable.oneshot(request()).await.unwrap().status(), 503);
        assert_eq!((limit.limit(), format!("{outcomes:?}")), (81, noted(3, 2)));
        // Whoever knows better says so.
        let layer = layer.outcome(|answer| match answer.status {
            StatusCode::OK => Outcome::Overloaded,
            _ => Outcome::Answered,
        });
        assert_eq!(send(&layer, request()).await.status(), StatusCode::OK);
        assert_eq!(limit.limit(), 72);
    }
}

#[tokio::test]
async fn a_permit_goes_with_whatever_ends_the_request() {
    for (_, layer) in layers(ONE) {
        let layer = layer.in_flight(KeyPart::Ip, NonZeroU32::MIN);
        let request = || from_peer("203.0.113.7", "/").map(|_| String::new());
        // Cancelled before it is answered.
        let never = layer.layer(service_fn(async |_: Request<String>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }));
        let mut cancelled = Box::pin(never.oneshot(request()));
        assert!(cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(send(&layer, request()).await.status(), StatusCode::TOO_MANY_REQUESTS);
        drop(cancelled);
        // Denied by a limit: the next is denied by that too, not for being under way.
        for _ in 0..2 {
            let denied = send(&layer, request()).await;
            assert!(text(denied).await.contains("allows 1 request per minute"));
        }
        // Without an address there is nothing to count.
        assert_eq!(send(&layer, Request::new(String::new())).await.status(), StatusCode::OK);
    }
}
