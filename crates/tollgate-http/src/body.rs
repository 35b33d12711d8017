//! What a denied client gets to read.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tollgate_core::Retry;
use tollgate_policy::{PolicyVerdict, Verdict};

use crate::grpc;
use crate::in_flight::TooMany;
use crate::numbers::{clamped, is_limited, retry_s, window_s};

/// The value of `error.code`.
pub const ERROR_CODE: &str = "RATE_LIMIT_EXCEEDED";

/// The same where a request could not be decided.
pub const UNAVAILABLE_CODE: &str = "RATE_LIMIT_UNAVAILABLE";

/// The same where the service has as many requests under way as it can bear.
pub const OVERLOADED_CODE: &str = "SERVICE_OVERLOADED";

/// What is told of that.
pub(crate) const OVERLOADED: &str =
    "This service has as many requests under way as it can bear. Try again in a second.";

/// The body of a 429, as JSON: `{"error": {"code": …, "message": …, "details": …, "recovery_suggestions": …}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Denial {
    /// The error.
    pub error: DenialError,
}

/// What is said of a denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DenialError {
    /// What a program asks for: [`ERROR_CODE`]; [`UNAVAILABLE_CODE`] of a request that could not be decided, [`OVERLOADED_CODE`] of one
    /// that the service cannot bear.
    pub code: &'static str,
    /// What happened, for people.
    pub message: String,
    /// The numbers.
    pub details: DenialDetails,
    /// What a client can do, for people.
    pub recovery_suggestions: Vec<Cow<'static, str>>,
}

/// The numbers of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DenialDetails {
    /// How much the limit holds that denied.
    pub limit: Option<u64>,
    /// In how many seconds a spent limit is whole again: the policy's period, unless it has a burst apart. `None` if
    /// there is no such time.
    pub window_seconds: Option<u64>,
    /// In how many seconds the same request would pass, rounded up; `None` if it never will.
    pub retry_after_seconds: Option<u64>,
}

/// The body of the answer to a denied request. It names the policy that denied.
pub fn response_body(verdict: &Verdict) -> Denial {
    Denial::of(verdict, false)
}

/// The same without the policy's name.
pub fn response_body_without_policy(verdict: &Verdict) -> Denial {
    Denial::of(verdict, true)
}

impl Denial {
    /// What is told of a request that could not be decided.
    fn unavailable(code: &'static str, message: &str) -> Self {
        let details = DenialDetails { limit: None, window_seconds: None, retry_after_seconds: Some(1) };
        let recovery_suggestions = vec!["Wait a second before sending this request again.".into()];
        Self { error: DenialError { code, message: message.to_owned(), details, recovery_suggestions } }
    }

    /// What is told of a request that the service cannot bear.
    pub(crate) fn overloaded() -> Self {
        Self::unavailable(OVERLOADED_CODE, OVERLOADED)
    }

    pub(crate) fn of(verdict: &Verdict, hide_policy: bool) -> Self {
        let deciding = verdict.deciding();
        let limited = deciding.filter(is_limited);
        let details = DenialDetails {
            limit: limited.map(|policy| clamped(policy.limit())),
            window_seconds: limited.as_ref().and_then(window_s),
            retry_after_seconds: retry_s(verdict.retry_after()),
        };
        let policy = match deciding {
            Some(policy) if !hide_policy => format!("the policy `{}`", policy.policy.name()),
            _ => "the policy of this service".to_owned(),
        };
        let (message, recovery_suggestions) = if verdict.is_banned() {
            banned(&policy, details)
        } else if details.limit == Some(0) || (deciding.is_none() && details.retry_after_seconds.is_none()) {
            closed(&policy)
        } else if verdict.retry_after() == Retry::Never {
            too_dear(&policy, deciding.as_ref(), details)
        } else {
            too_many(&policy, deciding.as_ref(), details)
        };
        Self { error: DenialError { code: ERROR_CODE, message, details, recovery_suggestions } }
    }

    /// The answer to a request that could not be decided, with the status 503; of gRPC, if its `content_type` is. Why is
    /// nobody's business outside.
    pub fn undecided(content_type: Option<&[u8]>) -> Response<Bytes> {
        const MESSAGE: &str =
            "The limits of this service cannot be checked at the moment. Try again in a second.";

        if grpc::is_grpc(content_type) {
            return grpc::unavailable(MESSAGE);
        }
        let mut answer = Self::unavailable(UNAVAILABLE_CODE, MESSAGE).to_response();
        make_unavailable(&mut answer);
        answer
    }

    /// The answer to a request of who has as many under way as may be, with the status 429; of gRPC, if its `content_type` is.
    /// How long to wait nobody knows.
    pub fn busy(too_many: TooMany, content_type: Option<&[u8]>) -> Response<Bytes> {
        let most = u64::from(too_many.0.get());
        let at_once = format!("{most} request{}", if most == 1 { "" } else { "s" });
        let message =
            format!("Too many requests at once: {at_once} may be under way. Try again when one is answered.");
        if grpc::is_grpc(content_type) {
            return grpc::busy(&message);
        }
        let details = DenialDetails { limit: Some(most), window_seconds: None, retry_after_seconds: Some(1) };
        let recovery_suggestions = vec![
            "Wait for an answer, to its end, before sending the next request.".into(),
            format!("Open at most {at_once} at the same time.").into(),
        ];
        let error = DenialError { code: ERROR_CODE, message, details, recovery_suggestions };
        Self { error }.to_response()
    }

    /// The body as JSON.
    pub fn to_json(&self) -> Bytes {
        // Texts and numbers can always be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The whole answer: status 429 with this body. [`HeaderOptions::write`](crate::HeaderOptions::write) adds what its
    /// headers say.
    pub fn to_response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.to_json());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Turns an answer into one for a while: status 503, to be tried again in a second.
pub(crate) fn make_unavailable(answer: &mut Response<Bytes>) {
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
}

type Words = (String, Vec<Cow<'static, str>>);

fn too_many(policy: &str, deciding: Option<&PolicyVerdict<'_>>, details: DenialDetails) -> Words {
    let wait = seconds(details.retry_after_seconds.unwrap_or(1));
    let message = match (details.limit, details.window_seconds) {
        (Some(limit), Some(window)) => format!(
            "Rate limit exceeded: {policy} allows {} per {}. Try again in {wait}.",
            amount(limit, deciding),
            period(window)
        ),
        _ => format!("Rate limit exceeded: {policy} does not allow this request now. Try again in {wait}."),
    };
    let suggestions = vec![
        format!("Wait {wait} before sending this request again; the Retry-After header says how long.")
            .into(),
        "Spread requests out over time instead of sending them all at once.".into(),
        "Keep answers that you need again, so that you ask for them only once.".into(),
    ];
    (message, suggestions)
}

fn banned(policy: &str, details: DenialDetails) -> Words {
    let wait = seconds(details.retry_after_seconds.unwrap_or(1));
    let message = format!("Rate limit exceeded too often: {policy} lets no request through for {wait}.");
    let suggestions = vec![
        format!("Send nothing for {wait}: until then every request is denied.").into(),
        "Heed the Retry-After header of denied requests, so that this does not happen again.".into(),
        "Ask whoever runs this service if you think that this is a mistake.".into(),
    ];
    (message, suggestions)
}

fn too_dear(policy: &str, deciding: Option<&PolicyVerdict<'_>>, details: DenialDetails) -> Words {
    let most = match details.limit {
        Some(limit) => format!(" than the {} that {policy} allows at once", amount(limit, deciding)),
        None => format!(" than {policy} allows"),
    };
    let message =
        format!("Rate limit exceeded: this request costs more{most}, so it can never pass. Do not retry it.");
    let suggestions = vec![
        "Waiting does not help: do not send this request again as it is.".into(),
        "Split the request into smaller ones.".into(),
        "Ask whoever runs this service for a higher limit.".into(),
    ];
    (message, suggestions)
}

fn closed(policy: &str) -> Words {
    let message =
        format!("Rate limit exceeded: {policy} lets no request through, so this one can never pass.");
    let suggestions = vec![
        "Waiting does not help: do not send this request again.".into(),
        "Ask whoever runs this service for access.".into(),
    ];
    (message, suggestions)
}

/// `5 requests`, or `5 units` where a request may cost more than one.
fn amount(count: u64, policy: Option<&PolicyVerdict<'_>>) -> String {
    let what = if policy
        .is_some_and(|policy| policy.policy.cost() == 1 && policy.policy.cost_expression().is_none())
    {
        "request"
    } else {
        "unit"
    };
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn period(window_s: u64) -> Cow<'static, str> {
    match window_s {
        1 => "second".into(),
        60 => "minute".into(),
        3_600 => "hour".into(),
        86_400 => "day".into(),
        604_800 => "week".into(),
        other => seconds(other).into(),
    }
}

fn seconds(count: u64) -> String {
    format!("{count} second{}", if count == 1 { "" } else { "s" })
}
