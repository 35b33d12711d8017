//! A gRPC service behind limits: a client that is denied gets the status `RESOURCE_EXHAUSTED`, and how long to wait.
//!
//! ```text
//! cargo run --example tonic_app --features tower
//! ```
//!
//! Service and client run in the same program. The service is that of health checks, which comes with tonic.

use std::time::Duration;

use tollgate::http::RateLimitLayer;
use tollgate::{Gate, KeyPart, Limit, Quota};
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Three at once, and one every minute after that.
    let limit = Limit::gcra_with_burst(Quota::per_minute(1), 3)?;
    let limits = RateLimitLayer::new(Gate::per(KeyPart::Ip, limit))
        // Where tonic has put the address.
        .peer(|extensions| extensions.get::<TcpConnectInfo>()?.remote_addr());

    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", incoming.local_addr()?);
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().layer(limits).add_service(health);
    tokio::spawn(async move { server.serve_with_incoming(incoming).await });

    let mut client = HealthClient::new(Endpoint::from_shared(url)?.connect().await?);
    for _ in 0..4 {
        match client.check(Request::new(HealthCheckRequest::default())).await {
            Ok(answer) => {
                let left = answer.metadata().get("x-ratelimit-remaining").and_then(|left| left.to_str().ok());
                println!("answered, {} left", left.unwrap_or("?"));
            }
            Err(status) => {
                let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
                println!("{:?}: {}", status.code(), status.message());
                println!("to wait: {:?}", wait.map(|wait| Duration::from_secs(wait.as_secs())));
                assert_eq!(status.code(), Code::ResourceExhausted);
            }
        }
    }
    Ok(())
}
