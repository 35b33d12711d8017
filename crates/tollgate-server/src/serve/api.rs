//! The routes.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tollgate::http::HeaderOptions;
use tollgate::permit_store::MemoryPermits;
use tollgate::usage::UseRecord;
use tollgate::{Attributes, Clock, DescriptorRules, Gate, KeySeed, StoreError, SystemClock, Verdict};
use tracing::Instrument;

use super::audit::Audit;
use super::body::{Body, Unread};
use super::book::Book;
use super::grpc::json;
use super::limitador::{self, Limitador};
use super::live::{self, Live};
use super::metrics::{Metrics, exposition};
use super::net::Peer;
use super::openapi;
use super::otlp::spans;
use super::permits;
use super::ready::Readiness;
use super::services::{self, Watched};
use super::store::{ServerStore, log_failure};
use super::usage::UsageView;
use super::wire::{Answer, Batch, Question, ResetQuestion, Status, StoreStatus, policies};
use crate::cli::HeaderNames;

/// The largest question, and the largest batch of them.
pub(super) const QUESTION_BYTES_MAX: usize = 64 << 10;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The most questions in a batch.
const BATCH_MAX: usize = 1_000;
/// How many batches may wait at once for a store that is not in this process.
const BATCHES_AWAY_MAX: usize = 32;

/// What the routes share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) gate: Gate<ServerStore>,
    /// The rules for descriptors, if the server decides by those.
    pub(super) rules: ArcSwapOption<DescriptorRules>,
    /// Where all that is from, and how it changes.
    pub(super) book: Book,
    /// Limitador's limits, if the server decides by those.
    pub(super) limitador: ArcSwapOption<Limitador>,
    /// What the gate's keys are hashed under.
    pub(super) seed: KeySeed,
    pub(super) clock: SystemClock,
    pub(super) metrics: Metrics,
    pub(super) live: Live,
    /// The services that limits adapt to.
    pub(super) watched: Watched,
    pub(super) audit: Audit,
    pub(super) started: Instant,
    pub(super) capacity: usize,
    /// Those that no nodes share.
    pub(super) permits: MemoryPermits,
    /// Whose turn it is among batches.
    pub(super) batches: Semaphore,
    /// Whether the server is about to stop.
    pub(super) draining: watch::Sender<bool>,
}

impl App {
    /// Notes a decision, in the metrics and for the dashboard. A request may not have `passed` though this verdict allows it,
    /// if it was decided together with others.
    pub(super) fn decided(&self, verdict: &Verdict, passed: bool, request: &impl Attributes, took: Duration) {
        self.metrics.counted(passed, took);
        self.live.decided(verdict, request, took);
        self.audit.decided(verdict, request);
    }

    /// Whether decisions are there at once: the store is in this process, and none waits until what it took is on the disk.
    pub(super) fn decides_at_once(&self) -> bool {
        decides_at_once(&self.gate)
    }

    /// Notes a decision that no policy had a part in.
    pub(super) fn counted(&self, passed: bool, took: Duration) {
        self.metrics.counted(passed, took);
        self.live.counted(took);
    }
}

type Shared = State<Arc<App>>;

fn decides_at_once(gate: &Gate<ServerStore>) -> bool {
    gate.store().is_local() && !gate.use_record().is_some_and(UseRecord::writes_through)
}

pub(super) fn routes(app: Arc<App>, grpc_headers: Option<HeaderNames>) -> Router {
    let routes = Router::new()
        .route("/v1/check", post(check))
        .route("/v1/peek", post(peek))
        .route("/v1/reset", post(reset))
        .route("/v1/usage", post(usage))
        .route("/v1/status", get(status))
        .route("/v1/policies", get(list_policies))
        .merge(permits::routes())
        .merge(services::routes::routes())
        .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
        .route("/v1/check/batch", post(check_batch).layer(DefaultBodyLimit::max(BATCH_BYTES_MAX)))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(openapi::at("/v1/openapi.json", openapi::HTTP_API))
        .merge(live::routes())
        .merge(json::routes(&app, grpc_headers))
        .merge(limitador::routes(&app));
    // What nobody wants costs nothing.
    let routes = if spans::are_on() { routes.route_layer(from_fn(spans::http)) } else { routes };
    routes
        .fallback(|| async {
            refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing here; the API starts at /v1")
        })
        .method_not_allowed_fallback(|| async {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this address takes another method")
        })
        .with_state(app)
}

async fn check(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let question: Question = match read(&app, body) {
        Ok(question) => question,
        Err(refusal) => return refusal,
    };
    let verdict = match decide(&app, question).await {
        Ok(verdict) => verdict,
        Err(error) => return undecided(&error),
    };
    spans::result(verdict.is_allowed());
    let status = if verdict.is_allowed() { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    let mut response = json(status, &Answer::new(&verdict));
    let unix_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    HeaderOptions::default().write(&verdict, unix_s, response.headers_mut());
    response
}

async fn check_batch(State(app): Shared, body: Result<Body, Unread>) -> Response {
    #[derive(Serialize)]
    struct Results<'v> {
        results: Vec<Answer<'v>>,
    }

    // Read, a batch is many times as large as on the wire. (Turns are never called off.)
    let _turn = app.batches.acquire().await;
    let batch: Batch = match read(&app, body) {
        Ok(batch) => batch,
        Err(refusal) => return refusal,
    };
    if batch.requests.len() > BATCH_MAX {
        app.metrics.undecided();
        let message = format!("a batch holds at most {BATCH_MAX} requests, not {}", batch.requests.len());
        return refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    }
    let mut verdicts = Vec::with_capacity(batch.requests.len());
    if app.decides_at_once() {
        for question in batch.requests {
            verdicts.push(decide(&app, question).await);
        }
    } else {
        // All at once, so that they travel together.
        let ask = |question| {
            let app = Arc::clone(&app);
            tokio::spawn(async move { decide(&app, question).await }.in_current_span())
        };
        let asked: Vec<_> = batch.requests.into_iter().map(ask).collect();
        for task in asked {
            let ended = |error| Err(StoreError::Unavailable(format!("the request was not decided: {error}")));
            verdicts.push(task.await.unwrap_or_else(ended));
        }
    }
    let verdicts: Vec<Verdict> = match verdicts.into_iter().collect() {
        Ok(verdicts) => verdicts,
        Err(error) => return undecided(&error),
    };
    json(StatusCode::OK, &Results { results: verdicts.iter().map(Answer::new).collect() })
}

pub(super) async fn decide(app: &App, question: Question) -> Result<Verdict, StoreError> {
    let cost = question.cost;
    let request = question.into_request();
    let started = Instant::now();
    let verdict = app.gate.check_async(app.clock.now(), &request, cost).await;
    match &verdict {
        Ok(verdict) => app.decided(verdict, verdict.is_allowed(), &request, started.elapsed()),
        Err(_) => app.metrics.undecided(),
    }
    verdict
}

/// How many batches may be under way. Where deciding is all that they wait for, one processor is left to others.
pub(super) fn batches(gate: &Gate<ServerStore>) -> Semaphore {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = if decides_at_once(gate) { (processors - 1).max(1) } else { BATCHES_AWAY_MAX };
    Semaphore::new(most)
}

/// The answer to a question that the store did not decide: no denial.
pub(super) fn undecided(error: &StoreError) -> Response {
    log_failure(error);
    match error {
        StoreError::Unavailable(_) => refusal(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", error),
        _ => refusal(StatusCode::INTERNAL_SERVER_ERROR, "STORE_DEFECT", error),
    }
}

async fn peek(State(app): Shared, body: Result<Body, Unread>) -> Response {
    match read::<Question>(&app, body) {
        Ok(question) => {
            let cost = question.cost;
            match app.gate.peek_async(app.clock.now(), &question.into_request(), cost).await {
                Ok(verdict) => json(StatusCode::OK, &Answer::new(&verdict)),
                Err(error) => undecided(&error),
            }
        }
        Err(refusal) => refusal,
    }
}

async fn usage(State(app): Shared, body: Result<Body, Unread>) -> Response {
    match read::<Question>(&app, body) {
        Ok(question) => match app.gate.usage_async(app.clock.now(), &question.into_request()).await {
            Ok(periods) => {
                let periods: Vec<UsageView> = periods.into_iter().map(UsageView::from).collect();
                json(StatusCode::OK, &serde_json::json!({ "periods": periods }))
            }
            Err(error) => undecided(&error),
        },
        Err(refusal) => refusal,
    }
}

async fn reset(State(app): Shared, client: Extension<Arc<Peer>>, body: Result<Body, Unread>) -> Response {
    #[derive(Serialize)]
    struct Done {
        reset: Vec<String>,
    }

    let question: ResetQuestion = match read(&app, body) {
        Ok(question) => question,
        Err(refusal) => return refusal,
    };
    let policy = question.policy.as_deref();
    if policy.is_some_and(|name| app.gate.policies().index_of(name).is_none()) {
        let message = "there is no policy of this name; GET /v1/policies lists them";
        return refusal(StatusCode::NOT_FOUND, "UNKNOWN_POLICY", message);
    }
    let request = question.request.into_request();
    let reset = match app.gate.reset_async(app.clock.now(), &request, policy).await {
        Ok(reset) => reset,
        Err(error) => return undecided(&error),
    };
    tracing::info!(target: "tollgate::audit", policies = ?reset, client = %client.0, "reset a key");
    json(StatusCode::OK, &Done { reset })
}

async fn status(State(app): Shared) -> Response {
    let statistics = app.gate.status();
    let store = app.gate.store();
    let store = StoreStatus {
        backend: store.backend(),
        available: store.is_available().unwrap_or(true),
        consecutive_failures: store.consecutive_failures(),
        trouble: store.trouble(),
        keys: store.local().len(),
        held: store.held(),
        capacity: app.capacity,
        overflowed: store.local().overflowed(),
    };
    let draining = *app.draining.borrow();
    json(StatusCode::OK, &Status::new(statistics, store, app.started.elapsed().as_secs(), draining))
}

async fn list_policies(State(app): Shared) -> Response {
    json(StatusCode::OK, &serde_json::json!({ "policies": policies(&app.gate.policies()) }))
}

async fn ready(State(app): Shared) -> Readiness {
    Readiness::of(&app).await
}

async fn metrics(State(app): Shared, headers: HeaderMap) -> Response {
    exposition::respond(&headers, app.metrics.render(&app))
}

/// Reads a question, or says what is wrong with it and where, and counts it as not decided.
// The answer is made here and handed out at once: boxing it would only add a step.
#[allow(clippy::result_large_err)]
pub(super) fn read<T: DeserializeOwned>(app: &App, body: Result<Body, Unread>) -> Result<T, Response> {
    parsed(body).inspect_err(|_| app.metrics.undecided())
}

/// Reads what a body holds, or says what is wrong with it and where.
#[allow(clippy::result_large_err)]
pub(super) fn parsed<T: DeserializeOwned>(body: Result<Body, Unread>) -> Result<T, Response> {
    let refused = |message: String| refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    let Body(body) = body.map_err(|unread| refusal(unread.status, unread.code, unread.message))?;
    // Without this, a list would do for an object, its items for the fields in order.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(refused("the body must be a JSON object: it starts with `{`".to_owned()));
    }
    // The parser says the line and the column.
    serde_json::from_slice(&body)
        .map_err(|error| refused(format!("the body is not what was expected: {error}")))
}

/// A line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    /// What an answer mostly takes.
    const ANSWER_BYTES: usize = 512;

    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    serde_json::to_writer(&mut bytes, value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match json_line(value) {
        Ok(bytes) => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            (status, headers, bytes).into_response()
        }
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error),
    }
}

/// An answer to a question that could not be answered.
pub(super) fn refusal(status: StatusCode, code: &str, message: impl Display) -> Response {
    let message = message.to_string();
    tracing::debug!(target: "tollgate::http", %status, code, why = message, "a question was not answered");
    let body = serde_json::json!({ "error": { "code": code, "message": message } });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
