//! API keys with plans, behind a proxy: each account is counted by itself, those that pay get more, a request costs what it
//! turned out to cost, and a wrong key is answered at once.
//!
//! ```text
//! cargo run --example axum_tiers --features axum
//! curl -i -H 'x-api-key: free-1' 'http://127.0.0.1:3000/complete?words=7'
//! curl -i -H 'x-api-key: pro-1' 'http://127.0.0.1:3000/complete?words=7'
//! curl -i -H 'x-api-key: made-up' 'http://127.0.0.1:3000/complete?words=7'
//! ```
//!
//! The first argument, if there is one, is the address to listen on.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Query;
use axum::http::Response;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use tollgate::http::{ActualCost, RateLimitLayer, Rejection, TrustedProxies};
use tollgate::{Config, Format, Gate};

const POLICIES: &str = "
policies:
  - name: plan
    key: attribute:account
    tiers:
      from: attribute:plan
      default: free
      limits: { free: 20/minute, pro: 2000/minute }
  # Whoever tries out keys gets few tries, whatever the keys.
  - name: address
    key: ip
    limit: 100/minute
";

/// Where accounts are looked up: a database, in a real program.
struct Accounts;

impl Accounts {
    async fn plan_of(&self, key: &str) -> Option<&'static str> {
        // Here the database would be asked.
        tokio::task::yield_now().await;
        match key.split_once('-')? {
            ("free", _) => Some("free"),
            ("pro", _) => Some("pro"),
            _ => None,
        }
    }
}

#[derive(serde::Deserialize)]
struct Task {
    words: u32,
}

/// It costs one unit a word, which nobody knows before.
async fn complete(Query(Task { words }): Query<Task>) -> impl IntoResponse {
    (Extension(ActualCost(words)), "word ".repeat(words.min(1_000) as usize) + "\n")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gate = Gate::new(Config::parse("policies", POLICIES, Format::Yaml, &[])?);
    let accounts = Arc::new(Accounts);
    let limits = RateLimitLayer::new(gate)
        // Only the load balancer may say who the client is.
        .trusted_proxies(TrustedProxies::parse(["127.0.0.0/8", "10.0.0.0/8"])?)
        .attribute("account", |request| Some(request.headers().get("x-api-key")?.to_str().ok()?.to_owned()))
        .attribute_async("plan", move |head| {
            let key = head.headers.get("x-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
            let accounts = Arc::clone(&accounts);
            async move {
                let Some(key) = key else { return Err(unauthorized()) };
                let plan = accounts.plan_of(&key).await.ok_or_else(unauthorized)?;
                Ok(Some(plan.to_owned()))
            }
        })
        .settle_reported();
    let app = Router::new().route("/complete", get(complete)).layer(limits);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

fn unauthorized() -> Rejection {
    let mut answer = Response::new(Bytes::from_static(b"this needs a key in the header x-api-key\n"));
    *answer.status_mut() = axum::http::StatusCode::UNAUTHORIZED;
    answer.into()
}
