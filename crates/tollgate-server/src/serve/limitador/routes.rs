//! Limitador's API over HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tollgate::{LimitadorLimit, StoreError};

use super::record::Live;
use super::{Asked, Limitador};
use crate::serve::api::{App, json, read, refusal};
use crate::serve::body::{Body, Unread};
use crate::serve::store::log_failure;

/// The largest request: as large as one over gRPC.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What the API says of itself.
const OPENAPI: &str = include_str!("openapi.json");

/// The headers of the draft that clients name `DraftVersion03`.
const DRAFT: &str = "DraftVersion03";
const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

/// The routes, if the server decides by limits of Limitador's.
pub(in crate::serve) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    if app.limitador.load().is_none() {
        return Router::new();
    }
    Router::new()
        .route("/check", post(|app, body| answer(app, body, Course::Check)))
        .route("/report", post(|app, body| answer(app, body, Course::Report)))
        .route("/check_and_report", post(|app, body| answer(app, body, Course::CheckAndReport)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route("/status", get(status))
        .route("/limits/{namespace}", get(limits))
        .route("/counters/{namespace}", get(counters))
        .route("/api/spec", get(spec))
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Would it pass?
    Check,
    /// It is charged.
    Report,
    /// It is charged if it passes.
    CheckAndReport,
}

/// What clients say. What they say beyond that is not looked at, as Limitador has it.
#[derive(Debug, Deserialize)]
struct CheckAndReportInfo {
    namespace: String,
    /// The one descriptor of the request.
    values: HashMap<String, String>,
    delta: u64,
    #[serde(default)]
    response_headers: Option<String>,
}

async fn answer(State(app): State<Arc<App>>, body: Result<Body, Unread>, course: Course) -> Response {
    let info: CheckAndReportInfo = match read(&app, body) {
        Ok(info) => info,
        Err(refusal) => return refusal,
    };
    let Ok(delta) = u32::try_from(info.delta) else {
        app.metrics.undecided();
        let message = format!("delta: {} is not between 0 and {}", info.delta, u32::MAX);
        return refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    };
    let Some(limitador) = app.limitador.load_full() else { return null(StatusCode::INTERNAL_SERVER_ERROR) };
    let entries: Vec<(&str, &str)> =
        info.values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let descriptors = [entries.as_slice()];
    let started = Instant::now();
    let asked = match course {
        Course::Check => limitador.peek(&app, &info.namespace, &descriptors, delta).await,
        Course::Report => limitador.report(&app, &info.namespace, &descriptors, delta).await,
        Course::CheckAndReport => limitador.check(&app, &info.namespace, &descriptors, delta).await,
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return undecided(&app, &error),
    };
    if course == Course::CheckAndReport {
        app.counted(asked.allowed(), started.elapsed());
    }
    let passes = asked.allowed() || course == Course::Report;
    let mut response = null(if passes { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS });
    if info.response_headers.as_deref() == Some(DRAFT) {
        add_headers(&asked, &mut response);
    }
    response
}

fn add_headers(asked: &Asked<'_>, response: &mut Response) {
    for (name, value) in HEADERS.into_iter().zip(asked.header_values().into_iter().flatten()) {
        // Every character of it was seen to.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The answer to what the store did not decide: no denial.
fn undecided(app: &App, error: &StoreError) -> Response {
    log_failure(error);
    app.metrics.undecided();
    null(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer without more to say, which in JSON is this.
fn null(status: StatusCode) -> Response {
    json(status, &())
}

async fn status(State(app): State<Arc<App>>) -> Response {
    null(if *app.draining.borrow() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK })
}

async fn limits(State(app): State<Arc<App>>, Path(namespace): Path<String>) -> Response {
    let limitador = app.limitador.load_full();
    let limits = limitador.iter().flat_map(|limitador| limitador.limits().of_namespace(&namespace));
    json(StatusCode::OK, &limits.map(LimitJson::new).collect::<Vec<_>>())
}

async fn counters(State(app): State<Arc<App>>, Path(namespace): Path<String>) -> Response {
    let Some(limitador) = app.limitador.load_full() else { return null(StatusCode::INTERNAL_SERVER_ERROR) };
    let Limitador { limits, record } = &*limitador;
    match record.live(app.gate.store(), limits, &namespace).await {
        Ok(live) => json(StatusCode::OK, &live.iter().map(CounterJson::new).collect::<Vec<_>>()),
        Err(error) => undecided(&app, &error),
    }
}

async fn spec() -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// A limit as Limitador shows it.
#[derive(Debug, Serialize)]
struct LimitJson<'l> {
    id: Option<&'l str>,
    namespace: &'l str,
    max_value: u64,
    seconds: u64,
    name: Option<&'l str>,
    conditions: Vec<&'l str>,
    variables: Vec<&'l str>,
}

impl<'l> LimitJson<'l> {
    fn new(limit: &'l LimitadorLimit) -> Self {
        Self {
            id: limit.id(),
            namespace: limit.namespace(),
            max_value: limit.max_value(),
            seconds: limit.seconds(),
            name: limit.name(),
            conditions: limit.conditions().collect(),
            variables: limit.variables().collect(),
        }
    }
}

/// A counter as Limitador shows it.
#[derive(Debug, Serialize)]
struct CounterJson<'l> {
    limit: LimitJson<'l>,
    set_variables: BTreeMap<&'l str, &'l str>,
    remaining: u64,
    expires_in_seconds: u64,
}

impl<'l> CounterJson<'l> {
    fn new(live: &'l Live<'_>) -> Self {
        Self {
            limit: LimitJson::new(live.limit),
            set_variables: live.limit.variables().zip(live.values.iter().map(String::as_str)).collect(),
            remaining: live.remaining,
            expires_in_seconds: live.reset_after.as_secs_ceil(),
        }
    }
}
