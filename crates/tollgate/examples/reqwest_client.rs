//! A reqwest client that many tasks share, kept under the limit of the service it asks.
//!
//! ```text
//! cargo run --example reqwest_client --features reqwest
//! ```
//!
//! The service runs in the same program: it admits five requests a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use reqwest_middleware::{ClientBuilder, Error};
use tollgate::outgoing::{Outgoing, OutgoingLayer, Refused};
use tollgate::{Limit, Limiter, Quota};

/// Starts the service, and says where it is.
async fn serve() -> Result<String, Box<dyn std::error::Error>> {
    let limiter = Arc::new(Limiter::new(Limit::gcra_with_burst(Quota::per_second(5), 2)?));
    let hello =
        move || async move { if limiter.check().is_allowed() { Ok("hello") } else { Err(too_many()) } };
    let app = Router::new().route("/", get(hello));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

/// A fifth of a second would do, but the header counts in whole ones.
fn too_many() -> (StatusCode, [(header::HeaderName, &'static str); 1]) {
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = serve().await?;
    // The service is on this machine, so no proxy is asked for it.
    let client = reqwest::Client::builder().no_proxy().build()?;

    // A little slower than the service allows, and nobody waits for more than ten seconds.
    let outgoing = Outgoing::with_store(
        Quota::per_second(4),
        1,
        Duration::from_secs(10),
        tollgate::MemoryStore::default(),
    )?;
    let careful = ClientBuilder::new(client.clone()).with(OutgoingLayer::new(outgoing)).build();
    let began = Instant::now();
    let tasks: Vec<_> = (0..12).map(|_| tokio::spawn(careful.get(&url).send())).collect();
    let mut denied = 0;
    for task in tasks {
        denied += u32::from(task.await??.status() == 429);
    }
    println!("careful: 12 requests at once took {:.1} s, {denied} denied", began.elapsed().as_secs_f64());

    // Without a limit of its own, and without waiting: it asks until it is denied, then fails for as long as the service said.
    let outgoing = Outgoing::unlimited(Duration::ZERO);
    let learning = ClientBuilder::new(client).with(OutgoingLayer::new(outgoing)).build();
    let (mut answered, mut denied, mut not_sent) = (0, 0, 0);
    for _ in 0..12 {
        match learning.get(&url).send().await {
            Ok(answer) if answer.status() == 429 => denied += 1,
            Ok(_) => answered += 1,
            Err(Error::Middleware(why)) if why.is::<Refused>() => {
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
