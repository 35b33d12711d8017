//! Limitador's limiter behind Envoy's rate-limit gRPC.
//!
//! Limitador's own server is in no registry of crates, so it cannot be built by a command. This is its library, of which the
//! server is made, asked as the server asks it (the memory store, one call for each message, all descriptors in one context)
//! behind the library for gRPC that the server uses too. What the server does beside that, such as metrics and traces, is left
//! out: it can only be slower than this.
//!
//! It takes a limit of its own, one for each `remote_address` under a `generic_key`, prints its address, and serves until it
//! is killed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use limitador::RateLimiter;
use limitador::limit::{Context as Values, Limit, Namespace};
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// How many counters the store holds, more than are asked for.
const COUNTERS: u64 = 1_000_000;

/// What nobody reaches within the second that it is for.
const MOST: u64 = 1_000_000_000;

#[derive(Clone, PartialEq, Message)]
struct RateLimitRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The part of the answer that is always there: 1 is OK, 2 is over the limit.
#[derive(Clone, PartialEq, Message)]
struct RateLimitResponse {
    #[prost(int32, tag = "1")]
    overall_code: i32,
}

/// The service, which is all that there is.
#[derive(Clone)]
struct RateLimits(Arc<RateLimiter>);

impl RateLimits {
    fn decide(&self, request: RateLimitRequest) -> Result<i32, Status> {
        if request.domain.is_empty() {
            return Ok(0);
        }
        let mut values = Values::default();
        let descriptors: Vec<HashMap<String, String>> = request
            .descriptors
            .into_iter()
            .map(|descriptor| descriptor.entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
            .collect();
        values.list_binding("descriptors".to_owned(), descriptors);
        let namespace = Namespace::from(request.domain);
        let hits = u64::from(request.hits_addend.max(1));
        let result = self.0.check_rate_limited_and_update(&namespace, &values, hits);
        let result = result.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(if result.limited { 2 } else { 1 })
    }
}

impl UnaryService<RateLimitRequest> for RateLimits {
    type Response = RateLimitResponse;
    type Future = Ready<Result<Response<RateLimitResponse>, Status>>;

    fn call(&mut self, request: Request<RateLimitRequest>) -> Self::Future {
        let decided = self.decide(request.into_inner());
        ready(decided.map(|overall_code| Response::new(RateLimitResponse { overall_code })))
    }
}

impl Service<http::Request<Body>> for RateLimits {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<RateLimitResponse, RateLimitRequest> = ProstCodec::default();
            Ok(Grpc::new(codec).unary(service, request).await)
        })
    }
}

impl NamedService for RateLimits {
    const NAME: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limiter = RateLimiter::new(COUNTERS);
    let condition = "descriptors[0].generic_key == 'bench'".try_into()?;
    let variable = "descriptors[0].remote_address".try_into()?;
    limiter.add_limit(Limit::new("edge", MOST, 1, [condition], [variable]));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let connections = TcpListenerStream::new(listener);
    Server::builder()
        .tcp_nodelay(true)
        .add_service(RateLimits(Arc::new(limiter)))
        .serve_with_incoming(connections)
        .await?;
    Ok(())
}
