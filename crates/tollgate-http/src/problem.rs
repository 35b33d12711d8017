//! Denials as problem details (RFC 9457), and which form a client wants.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tollgate_core::Source;
use tollgate_policy::Verdict;

use crate::body::{Denial, OVERLOADED, make_unavailable};
use crate::grpc::{self, is_grpc};
use crate::headers::alias;
use crate::numbers::enforced;

/// The form of the body of a denial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenialForm {
    /// Problem details for clients whose `Accept` asks for them, the JSON form for all others.
    #[default]
    Negotiated,
    /// The JSON form: see [`Denial`].
    Json,
    /// Problem details: see [`ProblemDetails`].
    ProblemDetails,
}

impl DenialForm {
    /// Whether a client that accepts this gets problem details.
    fn is_problem_for<'h>(self, accept: impl Iterator<Item = &'h [u8]>) -> bool {
        match self {
            Self::Json => false,
            Self::ProblemDetails => true,
            Self::Negotiated => prefers_problem(accept),
        }
    }

    /// The answer to a denied request, as its client wants it: `accept` are the values of its `Accept` headers, and a
    /// `content_type` of gRPC asks for an answer of gRPC. [`HeaderOptions::write`](crate::HeaderOptions::write) adds what
    /// the headers say.
    pub fn answer<'h>(
        self,
        verdict: &Verdict,
        hide_policy: bool,
        content_type: Option<&[u8]>,
        accept: impl Iterator<Item = &'h [u8]>,
    ) -> Response<Bytes> {
        if is_grpc(content_type) {
            let message = Denial::of(verdict, hide_policy).error.message;
            return grpc::denial(&message, verdict.retry_after());
        }
        if self.is_problem_for(accept) {
            return ProblemDetails::of(verdict, hide_policy).to_response();
        }
        Denial::of(verdict, hide_policy).to_response()
    }

    /// The answer to a request that comes while as many are under way as the service can bear: status 503, to be tried again in a second.
    /// Of gRPC it is `UNAVAILABLE`.
    pub fn overloaded<'h>(
        self,
        content_type: Option<&[u8]>,
        accept: impl Iterator<Item = &'h [u8]>,
    ) -> Response<Bytes> {
        if is_grpc(content_type) {
            return grpc::unavailable(OVERLOADED);
        }
        let mut answer = if self.is_problem_for(accept) {
            ProblemDetails::overloaded().to_response()
        } else {
            Denial::overloaded().to_response()
        };
        make_unavailable(&mut answer);
        answer
    }
}

/// The media type of problem details.
const PROBLEM: &str = "application/problem+json";

/// Whether `Accept` names problem details, and nothing that the JSON form would do for at a higher weight. A client that
/// takes anything gets the JSON form.
fn prefers_problem<'h>(accept: impl Iterator<Item = &'h [u8]>) -> bool {
    let (mut problem, mut json) = (0, 0);
    for value in accept {
        let ranges = std::str::from_utf8(value).unwrap_or_default().split(',');
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1_000, thousandths);
            if kind.eq_ignore_ascii_case(PROBLEM) {
                problem = problem.max(weight);
            } else if kind.eq_ignore_ascii_case("application/json") {
                json = json.max(weight);
            }
        }
    }
    problem > 0 && problem >= json
}

/// A weight of `Accept` in thousandths; what is no weight counts as none.
fn thousandths(weight: &str) -> u16 {
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    let mut digits = part.bytes().chain([b'0'; 3]).take(3);
    let part = digits
        .try_fold(0_u16, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0')));
    match (whole, part) {
        ("1", Some(_)) => 1_000,
        ("0", Some(part)) => part,
        _ => 0,
    }
}

/// The body of a 429 as problem details (RFC 9457), of the types that the IETF's draft on rate-limit headers registers.
///
/// ```json
/// {
///   "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
///   "title": "Request cannot be satisfied as assigned quota has been exceeded",
///   "status": 429,
///   "detail": "Rate limit exceeded: the policy `login` allows 5 requests per minute. Try again in 30 seconds.",
///   "violated-policies": ["login"]
/// }
/// ```
///
/// While the store that nodes share is away and each decides by its part of the limits, the type is
/// `#temporary-reduced-capacity`, and so it is, with the status 503, while the service has more to do than it can bear; that
/// of a ban is `#abnormal-usage-detected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProblemDetails {
    /// What kind of problem it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// 429, or 503 of a service that is overloaded.
    pub status: u16,
    /// What happened, for people.
    pub detail: String,
    /// The policies that denied.
    #[serde(rename = "violated-policies")]
    pub violated_policies: Vec<String>,
}

/// The type of a lack of capacity, and what it means.
const REDUCED_CAPACITY: (&str, &str) = (
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    "Request cannot be satisfied due to temporary server capacity constraints",
);

impl ProblemDetails {
    /// What is told of a request that the service cannot bear.
    fn overloaded() -> Self {
        let (kind, title) = REDUCED_CAPACITY;
        Self {
            kind,
            title,
            status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            detail: OVERLOADED.to_owned(),
            violated_policies: Vec::new(),
        }
    }

    /// What is told of a denied request.
    pub fn of(verdict: &Verdict, hide_policy: bool) -> Self {
        let is_fallback = verdict.outcomes().iter().any(|outcome| outcome.source == Source::Fallback);
        let (kind, title) = if verdict.is_banned() {
            (
                "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
                "Request not satisfied due to detection of abnormal request pattern",
            )
        } else if is_fallback {
            REDUCED_CAPACITY
        } else {
            (
                "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "Request cannot be satisfied as assigned quota has been exceeded",
            )
        };
        let denying = enforced(verdict).enumerate().filter(|(_, policy)| !policy.admitted);
        let name = |(index, policy): (usize, tollgate_policy::PolicyVerdict<'_>)| {
            let mut digits = itoa::Buffer::new();
            if hide_policy { alias(index, &mut digits) } else { policy.policy.name() }.to_owned()
        };
        Self {
            kind,
            title,
            status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
            detail: Denial::of(verdict, hide_policy).error.message,
            violated_policies: denying.map(name).collect(),
        }
    }

    /// The whole answer: status 429 with this body.
    pub fn to_response(&self) -> Response<Bytes> {
        // Texts and numbers can always be written.
        let mut response = Response::new(serde_json::to_vec(self).unwrap_or_default().into());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_details_are_for_those_who_ask() {
        for (accept, wanted) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["application/json"], false),
            (&["application/problem+json"], true),
            (&["text/html, Application/Problem+JSON;q=0.5"], true),
            (&["application/json", "application/problem+json"], true),
            (&["application/json;q=0.9, application/problem+json;q=0.8"], false),
            (&["application/json;q=0.800, application/problem+json; q=0.8"], true),
            (&["application/problem+json;q=0"], false),
            (&["application/problem+json;q=x"], false),
            (&["application/problem+json;q=0.0001"], false),
        ] {
            let values = || accept.iter().map(|value| value.as_bytes());
            assert_eq!(DenialForm::Negotiated.is_problem_for(values()), wanted, "{accept:?}");
            assert!(DenialForm::ProblemDetails.is_problem_for(values()));
            assert!(!DenialForm::Json.is_problem_for(values()));
        }
    }
}
