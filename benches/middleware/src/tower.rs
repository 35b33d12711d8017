//! Layers around an empty service of axum.

use std::convert::Infallible;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ::tower::{Layer, Service, ServiceExt};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use tokio::runtime::Runtime;
use tollgate::http::{Checking, Gatekeeper, HeaderOptions, HeaderStyle, RateLimitLayer, ResetStyle};
use tollgate::{Attributes, Gate, KeyPart, Limit, Quota, Settlement, Verdict};
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;

use crate::{BURST, Contender};

struct Axum<S> {
    name: &'static str,
    service: S,
    runtime: Runtime,
}

impl<S, B> Contender for Axum<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self, clients: &[u32]) {
        let service = &self.service;
        self.runtime.block_on(async {
            for client in clients {
                let mut request = Request::get("/").body(Body::empty()).unwrap();
                let address = SocketAddr::from((Ipv4Addr::from(0x0A00_0000 + client), 4711));
                request.extensions_mut().insert(ConnectInfo(address));
                let response = service.clone().oneshot(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
            }
        });
    }
}

fn app() -> Router {
    Router::new().route("/", get(|| async {}))
}

/// A contender of a service: layers are put around the whole router, not through its own way of adding them, which puts a box
/// around each.
fn contender<S, B>(name: &'static str, service: S) -> Box<dyn Contender>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + 'static,
    B: 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Box::new(Axum { name, service, runtime })
}

fn gate() -> Arc<Gate> {
    let limit = Limit::gcra_with_burst(Quota::per_second(1), BURST.into()).unwrap();
    Arc::new(Gate::per(KeyPart::Ip, limit))
}

/// Passes everything: what is left is the layer itself.
struct Open;

impl Gatekeeper for Open {
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, _cost: Option<u32>) -> Checking {
        black_box(request.ip());
        Checking::Passed
    }

    fn settle(self: &Arc<Self>, _verdict: &Verdict, _settlement: Settlement) {}
}

pub(crate) fn without_headers() -> Vec<Box<dyn Contender>> {
    let config = GovernorConfigBuilder::default().per_second(1).burst_size(BURST).finish().unwrap();
    let own = RateLimitLayer::new(gate()).headers(HeaderOptions::none());
    vec![
        contender("bare", app()),
        contender("tower_governor", GovernorLayer::new(config).layer(app())),
        contender("tollgate", own.layer(app())),
        contender(
            "tollgate, no decision",
            RateLimitLayer::new(Open).headers(HeaderOptions::none()).layer(app()),
        ),
    ]
}

/// The three that the other writes where it is told to: limit, remaining, and which limit it is.
pub(crate) fn with_headers() -> Vec<Box<dyn Contender>> {
    let mut builder = GovernorConfigBuilder::default();
    let config = builder.per_second(1).burst_size(BURST).use_headers().finish().unwrap();
    let three = |style| {
        let headers = HeaderOptions::none().with(style).with_x_reset(ResetStyle::Delta).hide_policy(true);
        RateLimitLayer::new(gate()).headers(headers)
    };
    vec![
        contender("bare", app()),
        contender("tower_governor", GovernorLayer::new(config).layer(app())),
        contender("tollgate, x-ratelimit-*", three(HeaderStyle::XRateLimit).layer(app())),
        contender("tollgate, ratelimit-*", three(HeaderStyle::OlderDraft).layer(app())),
    ]
}
