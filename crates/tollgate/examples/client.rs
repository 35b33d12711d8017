//! A client that stays under the limit of the service it asks, and one that learns it from denials.
//!
//! ```text
//! cargo run --example client --features axum,outgoing
//! ```
//!
//! The service runs in the same program: it admits five requests a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tollgate::http::RateLimitLayer;
use tollgate::outgoing::{Outgoing, OutgoingError, OutgoingLayer};
use tollgate::{Gate, KeyPart, Limit, Quota};
use tower::{Layer, ServiceExt};

/// Starts the service, and says where it is.
async fn serve() -> Result<String, Box<dyn std::error::Error>> {
    let limit = Limit::gcra_with_burst(Quota::per_second(5), 2)?;
    let limits = RateLimitLayer::new(Gate::per(KeyPart::Ip, limit));
    let app = Router::new().route("/", get(|| async { "hello" })).layer(limits);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = serve().await?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();

    // A little slower than the service allows, and nobody waits for more than ten seconds.
    let outgoing = Outgoing::with_store(
        Quota::new(4, Duration::from_secs(1))?,
        1,
        Duration::from_secs(10),
        tollgate::MemoryStore::default(),
    )?;
    let careful = OutgoingLayer::new(outgoing).layer(client.clone());
    let began = Instant::now();
    let mut denied = 0;
    for _ in 0..12 {
        let answer = careful.clone().oneshot(Request::get(&url).body(Body::empty())?).await?;
        denied += u32::from(answer.status() == 429);
    }
    println!("careful: 12 requests in {:.1} s, {denied} denied", began.elapsed().as_secs_f64());

    // Without a limit of its own: it asks until it is denied, then leaves the service alone for as long as that says.
    let learning = OutgoingLayer::new(Outgoing::unlimited(Duration::ZERO)).layer(client);
    let (mut answered, mut denied, mut not_sent) = (0, 0, 0);
    for _ in 0..12 {
        match learning.clone().oneshot(Request::get(&url).body(Body::empty())?).await {
            Ok(answer) if answer.status() == 429 => denied += 1,
            Ok(_) => answered += 1,
            Err(OutgoingError::Refused(why)) => {
                not_sent += 1;
                if not_sent == 1 {
                    println!("learning: {why}");
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("learning: {answered} answered, {denied} denied, {not_sent} not sent");
    Ok(())
}
