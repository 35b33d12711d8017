//! Where services are told of, and places in them asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tollgate::adaptive::Outcome;
use tollgate::{Level, ServiceHealth};

use super::places::{PlacesSeen, Refused};
use crate::serve::api::{App, json, parsed, refusal};
use crate::serve::body::{Body, Unread};
use crate::serve::decode::{objects_or_null, whole_or_null};

/// The longest that a request, or what a service says of itself, may be said to last: a day.
const SECONDS_MAX: f64 = 86_400.0;

pub(in crate::serve) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/health", post(report))
        .route("/v1/acquire", post(acquire))
        .route("/v1/renew", post(renew))
        .route("/v1/release", post(release))
}

type Shared = State<Arc<App>>;

/// What is told of a service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    service: String,
    #[serde(default)]
    level: Option<String>,
    #[serde(default)]
    holds_seconds: Option<f64>,
    #[serde(default, deserialize_with = "objects_or_null")]
    requests: Vec<Ended>,
}

/// Requests to a service that have ended alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    seconds: f64,
    #[serde(default)]
    failed: bool,
    #[serde(default, deserialize_with = "whole_or_null")]
    count: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    service: String,
}

#[derive(Debug, Serialize)]
struct Place {
    allowed: bool,
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewal {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    id: String,
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    seconds: Option<f64>,
}

async fn services(State(app): Shared) -> Response {
    #[derive(Serialize)]
    struct Views {
        health: Vec<HealthView>,
        concurrency: Vec<PlacesSeen>,
    }

    let health = app.watched.health().into_iter().map(HealthView::of).collect();
    json(StatusCode::OK, &Views { health, concurrency: app.watched.places() })
}

#[derive(Serialize)]
struct HealthView {
    service: String,
    level: &'static str,
    blamed: Option<String>,
}

impl HealthView {
    fn of(health: ServiceHealth) -> Self {
        Self { service: health.name, level: health.level.as_str(), blamed: health.blamed }
    }
}

async fn report(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let report: Report = match parsed(body) {
        Ok(report) => report,
        Err(refusal) => return refusal,
    };
    match take(&app, &report) {
        Ok(Some(health)) => json(StatusCode::OK, &HealthView::of(health)),
        Ok(None) => unknown_service("health"),
        Err(wrong) => refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", wrong),
    }
}

/// Takes a report: how the service fares, as far as was seen until now. `None` if there is no such service.
fn take(app: &App, report: &Report) -> Result<Option<ServiceHealth>, &'static str> {
    let requests = report.requests.iter().map(|ended| Ok((ended, length(ended.seconds)?)));
    let requests: Vec<(&Ended, Duration)> = requests.collect::<Result<_, &'static str>>()?;
    let known = |said: &String| Level::ALL.into_iter().find(|level| level.as_str() == said);
    let level = match report.level.as_ref().map(known) {
        Some(None) => return Err("a level is `good`, `degraded` or `bad`"),
        said => said.flatten(),
    };
    let holds = length(report.holds_seconds.unwrap_or(30.0))?;
    let services = app.watched.services.load();
    let Some(seen) = services.seen().into_iter().find(|seen| seen.name == report.service) else {
        return Ok(None);
    };
    // It was found above, and the services that were loaded do not change.
    for (ended, took) in requests {
        let _ = services.note(&seen.name, took, ended.failed, ended.count.unwrap_or(1));
    }
    if let Some(level) = level {
        let _ = services.tell(&seen.name, level, holds);
    }
    Ok(Some(seen))
}

async fn acquire(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let wish: Wish = match parsed(body) {
        Ok(wish) => wish,
        Err(refusal) => return refusal,
    };
    match app.watched.places.acquire(&wish.service) {
        Ok(lease) => {
            let ttl_seconds = Some(lease.ttl.as_secs_f64());
            let place = Place { allowed: true, limit: lease.limit, id: Some(lease.id), ttl_seconds };
            json(StatusCode::OK, &place)
        }
        Err(Refused::Full(full)) => {
            let place = Place { allowed: false, limit: full.limit, id: None, ttl_seconds: None };
            let mut answer = json(StatusCode::TOO_MANY_REQUESTS, &place);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
        Err(Refused::Unknown) => unknown_service("concurrency"),
    }
}

async fn renew(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let renewal: Renewal = match parsed(body) {
        Ok(renewal) => renewal,
        Err(refusal) => return refusal,
    };
    match app.watched.places.renew(&renewal.id) {
        Some(ttl) => json(StatusCode::OK, &serde_json::json!({ "ttl_seconds": ttl.as_secs_f64() })),
        None => unknown_place(),
    }
}

async fn release(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let end: End = match parsed(body) {
        Ok(end) => end,
        Err(refusal) => return refusal,
    };
    let outcome = match end.outcome.as_deref() {
        None | Some("answered") => Ok(Outcome::Answered),
        Some("overloaded") => Ok(Outcome::Overloaded),
        Some("ignored") => Ok(Outcome::Ignored),
        Some(_) => Err("an outcome is `answered`, `overloaded` or `ignored`"),
    };
    let took = end.seconds.map(length).transpose();
    let (outcome, took) = match outcome.and_then(|outcome| Ok((outcome, took?))) {
        Ok(said) => said,
        Err(wrong) => return refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", wrong),
    };
    if app.watched.places.release(&end.id, outcome, took) {
        return json(StatusCode::OK, &serde_json::json!({ "released": true }));
    }
    unknown_place()
}

fn unknown_place() -> Response {
    let message = "no place is held under this id: it was given back, or its time was over";
    refusal(StatusCode::NOT_FOUND, "UNKNOWN_PLACE", message)
}

fn length(seconds: f64) -> Result<Duration, &'static str> {
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("a length of time is from 0 to 86400 seconds")
    }
}

fn unknown_service(section: &str) -> Response {
    let message = format!("there is no service of this name under `{section}:`; GET /v1/services lists them");
    refusal(StatusCode::NOT_FOUND, "UNKNOWN_SERVICE", message)
}
