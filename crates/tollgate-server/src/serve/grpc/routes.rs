//! From a path to a method.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTORS;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;
use tower::Service;
use tower::util::BoxCloneSyncService;
use tracing::Instrument;

use super::descriptors::{ENVOY_SERVICE, KUADRANT_SERVICE, descriptors};
use super::service::RateLimits;
use super::status::Answers;
use super::unary::{MESSAGE_BYTES_MAX, unary};
use crate::cli::HeaderNames;
use crate::serve::api::App;
use crate::serve::net::Weighed;
use crate::serve::net::http::within;
use crate::serve::otlp::spans;

/// The services whose health is told; the empty name is the server as a whole.
const SERVICES: [&str; 3] = ["", ENVOY_SERVICE, KUADRANT_SERVICE];

/// How long a request may take to arrive and to be answered.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// A service that is rarely asked.
type Boxed = BoxCloneSyncService<Request<Weighed>, Response<Body>, Infallible>;

/// All services of the server.
#[derive(Debug)]
pub(super) struct Routes {
    limits: RateLimits,
    reporter: HealthReporter,
    health: HealthServer<HealthService>,
    /// Server reflection by its present name and by its former one, which many tools ask for still.
    reflection: Boxed,
    former_reflection: Boxed,
}

impl Routes {
    /// # Errors
    /// If the descriptors of the services do not fit together.
    pub(super) async fn new(app: Arc<App>, headers: Option<HeaderNames>) -> Result<Self, String> {
        let wrong = |error: tonic_reflection::server::Error| format!("gRPC reflection: {error}");
        let builder = || {
            Builder::configure()
                .register_file_descriptor_set(descriptors())
                .register_encoded_file_descriptor_set(HEALTH_DESCRIPTORS)
        };
        let reflection = builder().build_v1().map_err(wrong)?;
        let former_reflection = builder().build_v1alpha().map_err(wrong)?;
        let reporter = HealthReporter::new();
        let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let routes = Self {
            limits: RateLimits { answers: Answers::new(headers), app },
            reporter,
            health: health.max_decoding_message_size(MESSAGE_BYTES_MAX),
            reflection: Boxed::new(reflection.max_decoding_message_size(MESSAGE_BYTES_MAX)),
            former_reflection: Boxed::new(former_reflection.max_decoding_message_size(MESSAGE_BYTES_MAX)),
        };
        routes.tell(true).await;
        Ok(routes)
    }

    /// Says to who asks, and to who watches, whether requests should be sent here.
    pub(super) async fn tell(&self, is_ready: bool) {
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Says that the server is about to stop; and ends the watching, so that it does not keep connections open.
    pub(super) async fn stop_serving(&self) {
        let mut reporter = self.reporter.clone();
        self.tell(false).await;
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
        self.tell(false).await;
    }

    /// Answers a request, within bounded time.
    pub(super) async fn answer(&self, request: Request<Weighed>) -> Response<Body> {
        let late = || Status::deadline_exceeded(format!("not done within {} s", REQUEST_MAX.as_secs()));
        let span = spans::grpc(request.uri().path(), request.headers());
        let answered = within(REQUEST_MAX, self.route(request)).instrument(span.clone()).await;
        let response = answered.unwrap_or_else(|| late().into_http());
        spans::grpc_ended(&span, response.headers());
        response
    }

    /// What is rarely asked is boxed, so that what is asked all the time is small to carry.
    async fn route(&self, request: Request<Weighed>) -> Response<Body> {
        match request.uri().path() {
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" => {
                unary(request, |message| self.limits.should_rate_limit(message)).await
            }
            "/kuadrant.service.ratelimit.v1.RateLimitService/CheckRateLimit" => {
                Box::pin(unary(request, |message| self.limits.check(message))).await
            }
            "/kuadrant.service.ratelimit.v1.RateLimitService/Report" => {
                Box::pin(unary(request, |message| self.limits.report(message))).await
            }
            path if path.starts_with("/grpc.health.v1.Health/") => {
                Box::pin(call(self.health.clone(), request)).await
            }
            path if path.starts_with("/grpc.reflection.v1.ServerReflection/") => {
                Box::pin(call(self.reflection.clone(), request)).await
            }
            path if path.starts_with("/grpc.reflection.v1alpha.ServerReflection/") => {
                Box::pin(call(self.former_reflection.clone(), request)).await
            }
            _ => Status::unimplemented("there is no such method here; server reflection lists them")
                .into_http(),
        }
    }
}

async fn call<S>(mut service: S, request: Request<Weighed>) -> Response<Body>
where
    S: Service<Request<Weighed>, Response = Response<Body>, Error = Infallible>,
{
    let Ok(response) = service.call(request).await;
    response
}
