//! Rate limits for [Actix Web](actix_web): the same as those of `tollgate-http`'s Tower layer, in front of an
//! [`App`](actix_web::App), a scope or a resource.
//!
//! The gate below is what the `tollgate` crate brings ready-made: policies, and a store that counts.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use actix_web::{App, HttpServer, web};
//! use tollgate_actix::RateLimit;
//! # use tollgate_http::{Checking, Gatekeeper, TrustedProxies};
//! # use tollgate_policy::{Attributes, Settlement, Verdict};
//! # struct Gate;
//! # impl Gate { fn new() -> Self { Gate } }
//! # impl Gatekeeper for Gate {
//! #     fn check<A: Attributes + ?Sized>(self: &Arc<Self>, _: &A, _: Option<u32>) -> Checking { Checking::Passed }
//! #     fn settle(self: &Arc<Self>, _: &Verdict, _: Settlement) {}
//! # }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Made once: each worker gets a clone, and all clones share their state.
//!     let limits = RateLimit::new(Gate::new())
//!         // Only the load balancer may say who the client is.
//!         .trusted_proxies(TrustedProxies::parse(["10.0.0.0/8"])?)
//!         .skip_paths(["/healthz"]);
//!     let app = move || App::new().wrap(limits.clone()).route("/", web::get().to(async || "hello"));
//!     HttpServer::new(app).bind("127.0.0.1:3000")?.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! What the application's authentication knows of a request it puts into the request's extensions as a
//! [`RequestContext`](tollgate_http::RequestContext); so it has to wrap *around* the limits, that is, to be registered after them.

mod attributes;
mod body;
mod course;
mod future;
mod middleware;
mod options;
mod wire;

pub use attributes::ActixAttributes;
pub use body::RateLimitBody;
pub use future::ResponseFuture;
pub use middleware::{RateLimit, RateLimitMiddleware};
