//! Spans around what faces are asked: one for each question, which goes on with the trace of whoever asks (W3C `traceparent`).
//!
//! Their names and attributes are those of OpenTelemetry's conventions for servers of HTTP and gRPC. What was asked about (keys,
//! addresses, paths of requests) is not in them.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::Code;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The methods of gRPC that are questions.
const METHODS: [&str; 3] = [
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
    "/kuadrant.service.ratelimit.v1.RateLimitService/CheckRateLimit",
    "/kuadrant.service.ratelimit.v1.RateLimitService/Report",
];

/// How much of a domain is shown, in characters.
const DOMAIN_MAX: usize = 128;

/// Whether a collector has the spans of this process. (To ask the subscriber would disturb its filters, which expect a span to come
/// then.)
static ARE_ON: AtomicBool = AtomicBool::new(false);

/// Notes that a collector has them.
pub(super) fn turn_on() {
    ARE_ON.store(true, Ordering::Relaxed);
}

/// Whether anybody wants spans.
pub(in crate::serve) fn are_on() -> bool {
    // Relaxed: it is set once, before there is a thread that asks.
    ARE_ON.load(Ordering::Relaxed)
}

/// Answers a question over HTTP within a span. All questions are POSTs; what is only read has none.
pub(in crate::serve) async fn http(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().filter(|_| request.method() == Method::POST);
    let Some(route) = route else { return next.run(request).await };
    let span = tracing::debug_span!(
        target: "tollgate::http",
        "request",
        otel.name = format!("POST {}", route.as_str()),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.route = route.as_str(),
        http.response.status_code = Empty,
        tollgate.domain = Empty,
        tollgate.result = Empty,
    );
    go_on(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// A span for a call over gRPC; none if it is no question.
pub(in crate::serve) fn grpc(path: &str, headers: &HeaderMap) -> Span {
    if !are_on() {
        return Span::none();
    }
    let Some(method) = METHODS.iter().find(|method| **method == path) else { return Span::none() };
    let method = method.trim_start_matches('/');
    let span = tracing::debug_span!(
        target: "tollgate::grpc",
        "call",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        tollgate.domain = Empty,
        tollgate.result = Empty,
    );
    go_on(&span, headers);
    span
}

/// Notes for which domain, or namespace, the present call asks.
pub(in crate::serve) fn domain(domain: &[u8]) {
    if are_on() {
        // What is no text is refused elsewhere.
        let domain = std::str::from_utf8(domain).unwrap_or_default();
        let end = domain.char_indices().nth(DOMAIN_MAX).map_or(domain.len(), |(end, _)| end);
        Span::current().record("tollgate.domain", &domain[..end]);
    }
}

/// Notes what the present call is answered.
pub(in crate::serve) fn result(allowed: bool) {
    if are_on() {
        Span::current().record("tollgate.result", if allowed { "allowed" } else { "denied" });
    }
}

/// Notes how a call over gRPC went.
pub(in crate::serve) fn grpc_ended(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let code = headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    span.record("rpc.response.status_code", code_name(code));
    // Those that are the server's own fault.
    if matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    ) {
        span.record("otel.status_code", "ERROR");
    }
}

/// A span for a command of the Redis protocol, which has no place for the trace of whoever asks.
pub(in crate::serve) fn resp(command: &'static str) -> Span {
    tracing::debug_span!(
        target: "tollgate::resp",
        "command",
        otel.name = command,
        otel.kind = "server",
        otel.status_code = Empty,
        tollgate.result = Empty,
    )
}

/// Goes on with the trace that a request belongs to, if it says so.
fn go_on(span: &Span, headers: &HeaderMap) {
    let asker =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    if asker.has_active_span() {
        // It cannot fail: the span has not begun.
        let _ = span.set_parent(asker);
    }
}

/// A code as gRPC's documents spell it.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
