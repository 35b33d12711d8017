//! The middleware in front of apps of Actix.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tollgate-http/tests/support/mod.rs"]
mod support;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use actix_web::dev::Service;
use actix_web::http::header::HeaderName;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_service, init_service, read_body, try_call_service};
use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, web};
use support::Gate;
use tollgate_actix::RateLimit;
use tollgate_adaptive::{Aimd, Bounds, ConcurrencyLimit, Outcomes};
use tollgate_http::{
    ActualCost, Checking, DenialForm, Gatekeeper, HeaderOptions, Networks, TrustedProxies, Undecided,
};
use tollgate_policy::{Attributes, KeyPart, Settlement, Verdict};

const ONE: &str = "policies: [{ name: one, key: ip, algorithm: fixed_window, limit: 1/minute }]";
const TEN: &str = "policies: [{ name: ten, key: ip, algorithm: fixed_window, limit: 10/minute }]";

fn from(peer: &str, path: &str) -> TestRequest {
    let peer: std::net::IpAddr = peer.parse().unwrap();
    TestRequest::with_uri(path).peer_addr((peer, 4711).into())
}

/// A gate, near or distant, and limits by it.
fn limits(policies: &str) -> [(Arc<Gate>, RateLimit<Arc<Gate>>); 2] {
    [false, true].map(|is_distant| {
        let gate = Arc::new(Gate::new(policies));
        gate.is_distant.store(is_distant, Ordering::Relaxed);
        (Arc::clone(&gate), RateLimit::new(gate))
    })
}

/// An app that says hello everywhere.
macro_rules! app {
    ($limits:expr) => {
        init_service(App::new().wrap($limits).default_service(web::to(async || "hello"))).await
    };
}

/// The status of the answer to a request.
macro_rules! status {
    ($app:expr, $request:expr) => {
        call_service(&$app, $request.to_request()).await.status().as_u16()
    };
}

#[actix_web::test]
async fn what_passes_and_what_is_denied_both_have_headers() {
    for (_, limits) in limits(ONE) {
        let app = app!(limits);
        let passed = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        assert_eq!(passed.status(), 200);
        assert_eq!(passed.headers().get("ratelimit").unwrap(), "\"one\";r=0;t=60");
        assert_eq!(passed.headers().get("ratelimit-policy").unwrap(), "\"one\";q=1;w=60");
        assert_eq!(passed.headers().get("x-ratelimit-remaining").unwrap(), "0");
        assert_eq!(read_body(passed).await, "hello");
        let denied = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        assert_eq!(denied.status(), 429);
        assert_eq!(denied.headers().get("retry-after").unwrap(), "60");
        assert_eq!(denied.headers().get("content-type").unwrap(), "application/json");
        let body: serde_json::Value = serde_json::from_slice(&read_body(denied).await).unwrap();
        assert_eq!(body["error"]["code"], "RATE_LIMIT_EXCEEDED");
        assert_eq!(status!(app, from("203.0.113.8", "/")), 200);
    }
}

#[actix_web::test]
async fn workers_share_their_state() {
    let [(_, limits), _] = limits(ONE);
    let (first, second) = (app!(limits.clone()), app!(limits));
    assert_eq!(status!(first, from("203.0.113.7", "/")), 200);
    assert_eq!(status!(second, from("203.0.113.7", "/")), 429);
}

#[actix_web::test]
async fn a_scope_and_a_resource_can_have_limits_of_their_own() {
    let [(_, limits), _] = limits(ONE);
    let own = || limits.clone().headers(HeaderOptions::none());
    let app = init_service(
        App::new()
            .service(web::resource("/dear").wrap(own()).to(async || "dear"))
            .service(web::scope("/api").wrap(own()).route("/{id}", web::get().to(async || "api")))
            .route("/free", web::get().to(async || "free")),
    )
    .await;
    for (path, expected) in [("/free", 200), ("/free", 200), ("/dear", 200), ("/api/1", 429), ("/dear", 429)]
    {
        assert_eq!(status!(app, from("203.0.113.7", path)), expected, "{path}");
    }
}

#[actix_web::test]
async fn a_request_has_its_attributes() {
    let policies = "
policies:
  - { name: all, key: [user, 'attribute:tenant', bearer, route, method, host, 'query:q', 'cookie:sid', 'header:x-a'], limit: 1/minute }
";
    for (_, limits) in limits(policies) {
        let limits = limits
            .try_attribute("tenant", |request| match request.headers().get("x-tenant") {
                Some(tenant) if tenant == "unknown" => {
                    Err(actix_web::error::ErrorForbidden("no such tenant"))
                }
                tenant => Ok(tenant.map(|tenant| tenant.to_str().unwrap().to_owned())),
            })
            .attribute_async("unused", |_| async { Ok(None) });
        let app = init_service(
            App::new()
                .route("/users/{id}", web::get().to(async || "user"))
                .wrap(limits)
                // Registered after the limits, and so around them.
                .wrap_fn(|request, inner| {
                    request.extensions_mut().insert(tollgate_http::RequestContext::new().user("u1"));
                    inner.call(request)
                }),
        )
        .await;
        let request = |path: &str, tenant: &str, token: &str| {
            from("203.0.113.7", path)
                .insert_header(("x-tenant", tenant))
                .insert_header(("authorization", format!("Bearer {token}")))
                .insert_header(("host", "Example.com:80"))
                .insert_header(("cookie", "a=b; sid=1"))
                .insert_header(("x-a", "a"))
        };
        for (path, tenant, token, expected) in [
            ("/users/1?q=1", "a", "t", 200),
            // The route is the same, and so is everything else.
            ("/users/2?q=1", "a", "t", 429),
            ("/users/2?q=2", "a", "t", 200),
            ("/users/2?q=1", "b", "t", 200),
            ("/users/2?q=1", "a", "u", 200),
            ("/users/2?q=1", "unknown", "u", 403),
            // What lacks a part of the key is not limited by it.
            ("/users/2", "a", "t", 200),
            ("/users/2", "a", "t", 200),
        ] {
            assert_eq!(status!(app, request(path, tenant, token)), expected, "{path} {tenant} {token}");
        }
    }
}

#[actix_web::test]
async fn a_client_cannot_choose_its_address() {
    let [(_, limits), _] = limits(ONE);
    let limits = limits.trusted_proxies(TrustedProxies::parse(["10.0.0.0/8"]).unwrap());
    let app = app!(limits);
    let forged = |peer: &str, client: &str| from(peer, "/").insert_header(("x-forwarded-for", client));
    for (peer, client, expected) in [
        ("10.0.0.1", "1.1.1.1", 200),
        ("10.0.0.1", "2.2.2.2", 200),
        ("10.0.0.2", "1.1.1.1", 429),
        ("203.0.113.7", "3.3.3.3", 200),
        ("203.0.113.7", "4.4.4.4", 429),
    ] {
        assert_eq!(status!(app, forged(peer, client)), expected, "{peer} {client}");
    }
}

#[actix_web::test]
async fn requests_can_be_left_alone() {
    for (_, limits) in limits(ONE) {
        let app = app!(
            limits
                .skip_paths(["/healthz"])
                .skip_methods([Method::OPTIONS])
                .skip_networks(Networks::parse(["198.51.100.0/24"]).unwrap())
                .skip(|request| request.headers().contains_key("x-internal"))
        );
        for _ in 0..3 {
            assert_eq!(status!(app, from("203.0.113.7", "/healthz?v")), 200);
            assert_eq!(status!(app, from("198.51.100.9", "/")), 200);
            assert_eq!(status!(app, from("203.0.113.7", "/").method(Method::OPTIONS)), 200);
            assert_eq!(status!(app, from("203.0.113.7", "/").insert_header(("x-internal", "1"))), 200);
        }
        for expected in [200, 429] {
            assert_eq!(status!(app, from("203.0.113.7", "/")), expected);
        }
    }
}

#[actix_web::test]
async fn costs_come_before_the_answer_and_after_it() {
    for (gate, limits) in limits(TEN) {
        let limits = limits
            .cost_from_header(HeaderName::from_static("x-cost"), 5)
            .refund_on_status(|status| status.is_server_error())
            .charge_on_status(|status| status == StatusCode::UNAUTHORIZED, 4)
            .settle_reported()
            .charge_body(NonZeroU64::new(2).unwrap());
        let answer = async |request: HttpRequest| {
            let number = |name: &str| request.headers().get(name)?.to_str().ok()?.parse::<u16>().ok();
            let status = StatusCode::from_u16(number("x-status").unwrap_or(200)).unwrap();
            let mut answer = HttpResponse::new(status);
            if let Some(cost) = number("x-actual") {
                answer.extensions_mut().insert(ActualCost(cost.into()));
            }
            answer.set_body(if number("x-body").is_some() { "hello" } else { "" })
        };
        let app = init_service(App::new().wrap(limits).default_service(web::to(answer))).await;
        for (headers, settlements) in [
            (vec![("x-cost", "3")], vec![]),
            (vec![("x-status", "503"), ("x-actual", "9")], vec![Settlement::Refund]),
            (vec![("x-status", "401")], vec![Settlement::Extra(4)]),
            (vec![("x-actual", "9")], vec![Settlement::Actual(9)]),
            (vec![("x-body", "1")], vec![Settlement::Extra(3)]),
        ] {
            let mut request = from("203.0.113.7", "/");
            for header in &headers {
                request = request.insert_header(*header);
            }
            let _ = read_body(call_service(&app, request.to_request()).await).await;
            let settled: Vec<Settlement> =
                std::mem::take(&mut *gate.settled.lock().unwrap()).into_iter().map(|(_, how)| how).collect();
            assert_eq!(settled, settlements, "{headers:?}");
        }
        // 3 of the first, and 1 of each of the others: the gate of the tests only notes what it is to settle.
        let last = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        assert_eq!(last.headers().get("x-ratelimit-remaining").unwrap(), "2");
    }
}

#[actix_web::test]
async fn what_fails_is_given_back_if_so_asked() {
    for (gate, limits) in limits(TEN) {
        let failing = async || Err::<HttpResponse, _>(actix_web::error::ErrorBadGateway("broken"));
        for (limits, expected) in [(limits.clone(), 0), (limits.refund_cancelled(), 1)] {
            // An error of a handler is an answer to Actix; one of an inner middleware is not.
            let app = init_service(
                App::new()
                    .wrap_fn(|_, _| async {
                        Err::<actix_web::dev::ServiceResponse, _>(actix_web::error::ErrorBadGateway("broken"))
                    })
                    .wrap(limits)
                    .default_service(web::to(failing)),
            )
            .await;
            assert!(try_call_service(&app, from("203.0.113.7", "/").to_request()).await.is_err());
            assert_eq!(std::mem::take(&mut *gate.settled.lock().unwrap()).len(), expected);
        }
    }
}

#[actix_web::test]
async fn a_denial_can_have_any_answer_and_is_told_of() {
    for (_, limits) in limits(ONE) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&told);
        let limits = limits.share_verdict().on_decision(move |request, verdict| {
            noted.lock().unwrap().push((request.path().to_owned(), verdict.is_allowed()));
        });
        let handler = async |request: HttpRequest| {
            let verdict = request.extensions().get::<Arc<Verdict>>().unwrap().deciding().unwrap().remaining();
            verdict.to_string()
        };
        let app = init_service(App::new().wrap(limits.clone()).default_service(web::to(handler))).await;
        let passed = call_service(&app, from("203.0.113.7", "/a").to_request()).await;
        assert_eq!(read_body(passed).await, "0");
        let problem = app!(limits.clone().denial_form(DenialForm::ProblemDetails));
        let denied = call_service(&problem, from("203.0.113.7", "/b").to_request()).await;
        assert_eq!(denied.headers().get("content-type").unwrap(), "application/problem+json");
        let own =
            app!(limits.on_denied(|request, _| HttpResponse::NotFound().body(request.path().to_owned())));
        let denied = call_service(&own, from("203.0.113.7", "/c").to_request()).await;
        assert_eq!((denied.status().as_u16(), denied.headers().get("retry-after").unwrap().len()), (404, 2));
        assert_eq!(read_body(denied).await, "/c");
        let all = [("/a", true), ("/b", false), ("/c", false)];
        assert_eq!(*told.lock().unwrap(), all.map(|(path, allowed)| (path.to_owned(), allowed)));
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

#[actix_web::test]
async fn what_is_not_decided_is_answered_or_passes() {
    let app = app!(RateLimit::new(Broken));
    let answer = call_service(&app, from("203.0.113.7", "/").to_request()).await;
    assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after").unwrap().len()), (503, 1));
    let body = String::from_utf8(read_body(answer).await.to_vec()).unwrap();
    assert!(body.contains("RATE_LIMIT_UNAVAILABLE") && !body.contains("secret-host"), "{body}");
    let open = app!(RateLimit::new(Broken).on_undecided(|_, _| None));
    assert_eq!(status!(open, from("203.0.113.7", "/")), 200);
}

#[actix_web::test]
async fn a_permit_is_held_until_the_body_ends() {
    for (_, limits) in limits(TEN) {
        let app = app!(limits.in_flight(KeyPart::Ip, NonZeroU32::new(2).unwrap()));
        let first = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        let second = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        let busy = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        assert_eq!(
            (first.status(), second.status(), busy.status().as_u16()),
            (StatusCode::OK, StatusCode::OK, 429)
        );
        assert!(String::from_utf8_lossy(&read_body(busy).await).contains("Too many requests at once"));
        assert_eq!(status!(app, from("203.0.113.8", "/")), 200, "others are not in the way");
        assert_eq!(read_body(first).await, "hello");
        let third = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        assert_eq!(third.status(), StatusCode::OK);
        drop((second, third));
        assert_eq!(status!(app, from("203.0.113.7", "/")), 200);
    }
}

#[actix_web::test]
async fn a_service_does_no_more_at_once_than_it_can_bear() {
    for (_, limits) in limits(TEN) {
        let limit = Arc::new(ConcurrencyLimit::fixed(NonZeroU32::MIN));
        let limits = limits.concurrency(Arc::clone(&limit));
        let app = app!(limits.clone());
        let first = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        let refused = call_service(&app, from("203.0.113.7", "/").to_request()).await;
        assert_eq!((first.status().as_u16(), refused.status().as_u16()), (200, 503));
        assert_eq!(refused.headers().get("retry-after").unwrap(), "1");
        assert!(String::from_utf8_lossy(&read_body(refused).await).contains("SERVICE_OVERLOADED"));
        let own = app!(limits.on_overloaded(|_, full| HttpResponse::Conflict().body(full.limit.to_string())));
        assert_eq!(status!(own, from("203.0.113.7", "/")), 409);
        assert_eq!(read_body(first).await, "hello");
        assert_eq!(status!(app, from("203.0.113.7", "/")), 200);
    }
}

#[actix_web::test]
async fn the_limit_learns_from_answers_and_failures() {
    for (_, limits) in limits(TEN) {
        let begin = Bounds::new(1, 100, 100).unwrap();
        let limit = Arc::new(ConcurrencyLimit::new(Aimd::new(begin)));
        let outcomes = Arc::new(Outcomes::new());
        let limits = limits.concurrency(Arc::clone(&limit)).note_outcomes(Arc::clone(&outcomes));
        let app = init_service(
            App::new()
                .wrap(limits)
                .route("/busy", web::get().to(async || HttpResponse::ServiceUnavailable()))
                .route("/wrong", web::get().to(async || HttpResponse::InternalServerError()))
                .default_service(web::to(async || "hello")),
        )
        .await;
        for (path, status, most, noted) in [
            ("/", 200, 100, "Outcomes { all: 1, failed: 0 }"),
            ("/busy", 503, 90, "Outcomes { all: 2, failed: 1 }"),
            ("/wrong", 500, 90, "Outcomes { all: 3, failed: 2 }"),
        ] {
            assert_eq!(status!(app, from("203.0.113.7", path)), status);
            assert_eq!((limit.limit(), format!("{outcomes:?}").as_str()), (most, noted), "{path}");
        }
        assert_eq!(limit.in_flight(), 0);
    }
}
