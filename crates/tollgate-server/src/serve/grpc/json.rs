//! The rate limit service over HTTP, as envoyproxy/ratelimit has it: `POST /json`, `GET /healthcheck` and `GET /rlconfig`.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonic::{Code as StatusKind, Status};

use super::messages::{
    Code, Descriptor, DescriptorStatus, Entry, Override, RateLimitRequest, RateLimitResponse, Unit,
};
use super::service::RateLimits;
use super::status::Answers;
use crate::cli::HeaderNames;
use crate::serve::api::App;
use crate::serve::body::{Body, Unread};
use crate::serve::decode::{self, Whole};
use crate::serve::ready::Readiness;

/// The largest request: as large as one over gRPC.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The routes, for any server.
pub(in crate::serve) fn routes(app: &Arc<App>, headers: Option<HeaderNames>) -> Router<Arc<App>> {
    let limits = RateLimits { answers: Answers::new(headers), app: Arc::clone(app) };
    let limits = Arc::new(limits);
    Router::new()
        .route("/json", post(move |body| should_rate_limit(Arc::clone(&limits), body)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route("/healthcheck", get(health))
        .route("/rlconfig", get(rules))
}

async fn should_rate_limit(limits: Arc<RateLimits>, body: Result<Body, Unread>) -> Response {
    let body = match body {
        Ok(Body(body)) => body,
        Err(unread) => {
            limits.app.metrics.undecided();
            return unread.into_response();
        }
    };
    let mut read = serde_json::Deserializer::from_slice(&body);
    let request: Result<JsonRequest, _> =
        decode::object(&mut read).and_then(|request| read.end().map(|()| request));
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            limits.app.metrics.undecided();
            return (StatusCode::BAD_REQUEST, format!("the body is not what was expected: {error}\n"))
                .into_response();
        }
    };
    match limits.should_rate_limit(request.into()).await {
        Ok(response) => {
            let response = response.into_inner();
            let denied = response.overall_code == i32::from(Code::OverLimit);
            let status = if denied { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
            (status, axum::Json(of_response(&response))).into_response()
        }
        Err(error) => (status_of(&error), format!("{}\n", error.message())).into_response(),
    }
}

fn status_of(error: &Status) -> StatusCode {
    match error.code() {
        StatusKind::InvalidArgument | StatusKind::Unknown => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn health(State(app): State<Arc<App>>) -> Response {
    match Readiness::of(&app).await {
        Readiness::Unready(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
        _ => "OK".into_response(),
    }
}

/// The rules in force, a line each.
async fn rules(State(app): State<Arc<App>>) -> String {
    let mut text = String::new();
    let rules = app.rules.load();
    for (path, rule) in rules.iter().flat_map(|rules| rules.rules()) {
        // Writing to a string cannot fail.
        let _ = match rule.rate() {
            Some((requests, unit)) => {
                let unit = unit.to_string().to_ascii_uppercase();
                writeln!(
                    text,
                    "{path}: unit={unit} requests_per_unit={requests}, shadow_mode: {}",
                    rule.is_shadow()
                )
            }
            None => writeln!(text, "{path}: unlimited"),
        };
    }
    text
}

/// A request in the JSON of protocol buffers: names in either spelling, numbers as texts or not, `null` for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JsonRequest {
    #[serde(deserialize_with = "decode::or_default")]
    domain: String,
    #[serde(deserialize_with = "decode::objects_or_null")]
    descriptors: Vec<JsonDescriptor>,
    #[serde(alias = "hitsAddend")]
    hits_addend: Option<Number<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JsonDescriptor {
    #[serde(deserialize_with = "decode::objects_or_null")]
    entries: Vec<JsonEntry>,
    #[serde(deserialize_with = "decode::object_or_null")]
    limit: Option<JsonOverride>,
    #[serde(alias = "hitsAddend")]
    hits_addend: Option<Number<u64>>,
    #[serde(alias = "isNegativeHits", deserialize_with = "decode::or_default")]
    is_negative_hits: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JsonEntry {
    #[serde(deserialize_with = "decode::or_default")]
    key: String,
    #[serde(deserialize_with = "decode::or_default")]
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JsonOverride {
    #[serde(alias = "requestsPerUnit")]
    requests_per_unit: Option<Number<u32>>,
    #[serde(deserialize_with = "decode::or_default")]
    unit: JsonUnit,
}

/// A number as it may be spelt.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Spelt {
    Digits(Whole<u64>),
    Text(String),
}

/// A number, of at most what it is kept in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Spelt")]
struct Number<T: TryFrom<u64>>(T);

impl<T: TryFrom<u64>> TryFrom<Spelt> for Number<T> {
    type Error = String;

    fn try_from(spelt: Spelt) -> Result<Self, String> {
        let (number, shown) = match spelt {
            Spelt::Digits(Whole(number)) => (Some(number), number.to_string()),
            Spelt::Text(text) => (text.parse().ok(), format!("{text:?}")),
        };
        let number = number.and_then(|number: u64| T::try_from(number).ok());
        number
            .map(Self)
            .ok_or_else(|| format!("{shown} is no whole number of at most {} bits", 8 * size_of::<T>()))
    }
}

/// By name or by number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SpeltUnit {
    Name(String),
    Number(Whole<i32>),
}

/// The number of a unit.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "SpeltUnit")]
struct JsonUnit(i32);

impl TryFrom<SpeltUnit> for JsonUnit {
    type Error = String;

    fn try_from(spelt: SpeltUnit) -> Result<Self, String> {
        match spelt {
            SpeltUnit::Number(Whole(number)) => Ok(Self(number)),
            SpeltUnit::Name(name) => {
                let found = NAMES.iter().find(|(_, known)| *known == name);
                found.map(|(unit, _)| Self(*unit as i32)).ok_or_else(|| {
                    format!("{name:?} is no unit; these are: {}", NAMES.map(|(_, name)| name).join(", "))
                })
            }
        }
    }
}

/// The names of units in JSON.
const NAMES: [(Unit, &str); 7] = [
    (Unit::Second, "SECOND"),
    (Unit::Minute, "MINUTE"),
    (Unit::Hour, "HOUR"),
    (Unit::Day, "DAY"),
    (Unit::Week, "WEEK"),
    (Unit::Month, "MONTH"),
    (Unit::Year, "YEAR"),
];

impl From<JsonRequest> for RateLimitRequest {
    fn from(request: JsonRequest) -> Self {
        Self {
            domain: request.domain.into(),
            hits_addend: request.hits_addend.map_or(0, |number| number.0),
            descriptors: request.descriptors.into_iter().map(Descriptor::from).collect(),
        }
    }
}

impl From<JsonDescriptor> for Descriptor {
    fn from(descriptor: JsonDescriptor) -> Self {
        let entry = |entry: JsonEntry| Entry { key: entry.key.into(), value: entry.value.into() };
        let limit = |limit: JsonOverride| Override {
            requests_per_unit: limit.requests_per_unit.map_or(0, |number| number.0),
            unit: limit.unit.0,
        };
        Self {
            entries: descriptor.entries.into_iter().map(entry).collect(),
            limit: descriptor.limit.map(limit),
            hits_addend: descriptor.hits_addend.map(|number| number.0),
            is_negative_hits: descriptor.is_negative_hits,
        }
    }
}

/// A header of an answer.
#[derive(Serialize)]
struct JsonHeader<'h> {
    key: &'h str,
    value: &'h str,
}

/// An answer in the JSON of protocol buffers: what is zero or empty is left out.
fn of_response(response: &RateLimitResponse) -> Value {
    let mut json = json!({ "overallCode": code_name(response.overall_code) });
    if !response.statuses.is_empty() {
        json["statuses"] = response.statuses.iter().map(of_status).collect();
    }
    if !response.response_headers_to_add.is_empty() {
        let header = |header: &'_ super::messages::HeaderValue| {
            json!(JsonHeader { key: &header.key, value: &header.value })
        };
        json["responseHeadersToAdd"] = response.response_headers_to_add.iter().map(header).collect();
    }
    json
}

fn of_status(status: &DescriptorStatus) -> Value {
    let mut json = json!({ "code": code_name(status.code) });
    if let Some(limit) = &status.current_limit {
        let mut current = json!({});
        if limit.requests_per_unit > 0 {
            current["requestsPerUnit"] = limit.requests_per_unit.into();
        }
        if let Some((_, name)) = NAMES.iter().find(|(unit, _)| *unit as i32 == limit.unit) {
            current["unit"] = (*name).into();
        }
        if !limit.name.is_empty() {
            current["name"] = String::from_utf8_lossy(&limit.name).into();
        }
        json["currentLimit"] = current;
    }
    if status.limit_remaining > 0 {
        json["limitRemaining"] = status.limit_remaining.into();
    }
    if let Some(reset) = status.duration_until_reset {
        json["durationUntilReset"] = format!("{}s", reset.seconds).into();
    }
    json
}

fn code_name(code: i32) -> &'static str {
    match Code::try_from(code) {
        Ok(Code::OverLimit) => "OVER_LIMIT",
        Ok(Code::Unknown) => "UNKNOWN",
        _ => "OK",
    }
}
