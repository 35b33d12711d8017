//! An axum service whose routes are limited by policies, each answer telling how much is left.
//!
//! ```text
//! cargo run --example axum_app --features axum
//! curl -i http://127.0.0.1:3000/hello
//! curl -i -X POST http://127.0.0.1:3000/login      # six times
//! ```
//!
//! The first argument, if there is one, is the address to listen on.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::routing::{get, post};
use tollgate::http::RateLimitLayer;
use tollgate::{Config, Format, Gate, Verdict};

const POLICIES: &str = "
policies:
  - name: login
    match: { method: POST, path: /login }
    key: ip
    algorithm: fixed_window
    limit: 5/minute
  - name: everyone
    key: ip
    limit: 100/minute
";

/// A handler can see what was decided.
async fn hello(Extension(verdict): Extension<Arc<Verdict>>) -> String {
    match verdict.deciding() {
        Some(tightest) => format!("hello; {} more of these\n", tightest.remaining()),
        None => "hello; as often as you like\n".to_owned(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gate = Arc::new(Gate::new(Config::parse("policies", POLICIES, Format::Yaml, &[])?));
    let app = Router::new()
        .route("/hello", get(hello))
        .route("/login", post(|| async { "welcome\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(RateLimitLayer::new(gate).skip_paths(["/healthz"]).share_verdict());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
