//! Rate limits for HTTP programs: who a request is from, and how an answer speaks of limits.
//!
//! | to do this | use |
//! |---|---|
//! | put limits in front of a Tower, axum, hyper or tonic service | [`RateLimitLayer`] |
//! | find the client behind proxies | [`TrustedProxies`], [`client_address`] |
//! | tell policies who the user is, or what plan they have | [`RequestContext`] |
//! | choose the headers of answers | [`HeaderOptions`] |
//! | write the body of a 429 | [`RateLimitLayer::on_denied`], [`Denial`] |
//! | leave health checks alone | [`RateLimitLayer::skip_paths`], [`RateLimitLayer::skip`] |
//! | know in a handler what is left | [`RateLimitLayer::share_verdict`] |
//! | count by something of one's own | [`RateLimitLayer::attribute`] |
//! | charge by the answer | [`RateLimitLayer::settle`] |
//! | keep a service from doing more at once than does it good | [`RateLimitLayer::concurrency`] |
//!
//! # axum
//! The gate below is what the `tollgate` crate brings ready-made: policies, and a store that counts.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//!
//! use axum::routing::{get, post};
//! use axum::{Extension, Router};
//! use tollgate_core::KeySeed;
//! use tollgate_http::{Checking, Gatekeeper, HeaderOptions, RateLimitLayer, TrustedProxies};
//! use tollgate_policy::{Attributes, Config, Format, PolicySet, Settlement, Verdict};
//! use tollgate_store::{LocalStore, MemoryStore};
//!
//! struct Gate {
//!     policies: Arc<PolicySet>,
//!     store: MemoryStore,
//! }
//!
//! impl Gatekeeper for Gate {
//!     fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
//!         let now = self.store.now();
//!         let plan = self.policies.plan(request, now, cost);
//!         let answer = self.store.acquire_at(now, &plan.groups());
//!         Checking::Done(plan.verdict(&self.policies, answer))
//!     }
//!
//!     fn settle(self: &Arc<Self>, _: &Verdict, _: Settlement) {
//!         // Nothing is given back in this example.
//!     }
//! }
//!
//! const POLICIES: &str = "
//! policies:
//!   - { name: login, match: { method: POST, path: /login }, key: ip, limit: 5/minute }
//!   - { name: everyone, key: identity, limit: 1000/hour }
//! ";
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config::parse("policies", POLICIES, Format::Yaml, &[])?;
//!     let policies = Arc::new(PolicySet::new(config, KeySeed::new(*b"16 random bytes!")));
//!     let limits = RateLimitLayer::new(Gate { policies, store: MemoryStore::default() })
//!         // Only the load balancer may say who the client is.
//!         .trusted_proxies(TrustedProxies::parse(["10.0.0.0/8"])?)
//!         .headers(HeaderOptions::default().hide_policy(true))
//!         .skip_paths(["/healthz"])
//!         .share_verdict();
//!
//!     let app = Router::new()
//!         .route("/", get(|Extension(verdict): Extension<Arc<Verdict>>| async move {
//!             format!("{} left", verdict.deciding().map_or(0, |policy| policy.remaining()))
//!         }))
//!         .route("/login", post(|| async { "welcome" }))
//!         .route("/healthz", get(|| async { "fine" }))
//!         .layer(limits);
//!
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     // Without this, requests have no address, and policies that count by it do not apply.
//!     axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
//!     Ok(())
//! }
//! ```
//!
//! This needs the feature `axum`, with which the peer's address is read from axum's `ConnectInfo<SocketAddr>` and
//! policies match the whole path also in routers that are nested. Other servers insert a [`Peer`] into requests.
//!
//! # Who a request is from
//! Policies count by what [`HttpAttributes`] finds: the API key in a header, the user, claims and attributes that the
//! application's authentication has put into a [`RequestContext`], the client's address. So the layer belongs *inside*
//! the layer that authenticates: in axum, add it before.
//!
//! The address is the peer's. Headers such as `X-Forwarded-For` are believed only of proxies that are named, for
//! anybody can write them: see [`client_address`].
//!
//! # What answers say
//! By default `RateLimit-Policy`, `RateLimit`, `X-RateLimit-*`, on denials `Retry-After`, and the policies' own headers;
//! [`HeaderOptions`] says what each number means. A denied request gets status 429 and this body:
//!
//! ```json
//! {
//!   "error": {
//!     "code": "RATE_LIMIT_EXCEEDED",
//!     "message": "Rate limit exceeded: the policy `login` allows 5 requests per minute. Try again in 30 seconds.",
//!     "details": { "limit": 5, "window_seconds": 60, "retry_after_seconds": 30 },
//!     "recovery_suggestions": ["Wait 30 seconds before sending this request again; …", "…"]
//!   }
//! }
//! ```
//!
//! Clients whose `Accept` asks for `application/problem+json` get [`ProblemDetails`] instead, and clients of gRPC the status
//! `RESOURCE_EXHAUSTED` with a `google.rpc.RetryInfo`.
//!
//! # Limits of this version
//! A layer takes one decision for each request. Two layers on one route are two decisions: the answer's lists then hold the
//! items of both, and the other headers those of the inner one.

mod attributes;
mod body;
mod client;
mod fields;
mod gatekeeper;
mod grpc;
mod headers;
mod in_flight;
mod layer;
mod meter;
mod numbers;
mod problem;
mod under_way;

pub use attributes::{API_KEY_HEADER, HttpAttributes, Peer, RequestContext, Route};
pub use body::{
    Denial, DenialDetails, DenialError, ERROR_CODE, OVERLOADED_CODE, UNAVAILABLE_CODE, response_body,
    response_body_without_policy,
};
pub use client::{ForwardingHeader, ProxyError, TrustedProxies, client_address, client_address_by};
pub use fields::{AnswerHeaders, FieldName, Fields};
pub use gatekeeper::{Checking, Gatekeeper, Undecided, Waiting};
pub use headers::{HeaderOptions, HeaderStyle, ResetStyle};
pub use in_flight::{InFlight, Permit, Permits, TooMany};
pub use layer::{ActualCost, RateLimitBody, RateLimitLayer, RateLimitService, Rejection, ResponseFuture};
pub use meter::BodyMeter;
pub use numbers::stated_cost;
pub use problem::{DenialForm, ProblemDetails};
pub use tollgate_policy::{NetworkError, Networks};
pub use under_way::{Busy, Entrance, UnderWay, usual_outcome};
