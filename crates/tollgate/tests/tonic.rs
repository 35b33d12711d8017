//! Denials as a client of tonic reads them.
#![cfg(feature = "tower")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tollgate::http::RateLimitLayer;
use tollgate::{AsyncGate, Config, Format, Gate};
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// Asks a service whose only limit is this one three times, and says what the last answer was.
async fn third(limit: &str, is_distant: bool) -> Status {
    let text = format!("policies: [{{ name: 'a', key: ip, {limit} }}]");
    let gate = Gate::new(Config::parse("test", &text, Format::Yaml, &[]).unwrap());
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let (_, health) = tonic_health::server::health_reporter();
    let peer = |extensions: &http::Extensions| extensions.get::<TcpConnectInfo>()?.remote_addr();
    if is_distant {
        let mut server = Server::builder().layer(RateLimitLayer::new(AsyncGate::new(gate)).peer(peer));
        tokio::spawn(server.add_service(health).serve_with_incoming(incoming));
    } else {
        let mut server = Server::builder().layer(RateLimitLayer::new(gate).peer(peer));
        tokio::spawn(server.add_service(health).serve_with_incoming(incoming));
    }
    let mut client = HealthClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap());
    let mut ask = async || client.check(Request::new(HealthCheckRequest::default())).await;
    assert!(ask().await.is_ok() && ask().await.is_ok());
    ask().await.unwrap_err()
}

#[tokio::test]
async fn a_denial_says_how_long_to_wait() {
    for is_distant in [false, true] {
        let status = third("limit: 2/hour", is_distant).await;
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("the policy `a` allows 2 requests per hour"), "{status}");
        let details = status.get_details_retry_info().unwrap();
        let wait = details.retry_delay.unwrap();
        // Half an hour, less the time that this takes.
        assert!(wait <= Duration::from_mins(30) && wait > Duration::from_mins(29), "{wait:?}");
        assert!(status.metadata().contains_key("retry-after"));
    }
}
