//! What `tollgate-http` says in the types of `http`, in those of Actix, which are of an earlier version of that crate.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use tollgate_http::{AnswerHeaders, FieldName};

/// The headers of an answer of Actix.
pub(crate) struct ActixHeaders<'h>(pub(crate) &'h mut HeaderMap);

impl AnswerHeaders for ActixHeaders<'_> {
    fn add(&mut self, name: FieldName, value: Bytes) {
        let is_list = name.is_list();
        let (Some(name), Ok(value)) = (header_name(name), HeaderValue::from_maybe_shared(value)) else {
            return;
        };
        if is_list || !self.0.contains_key(&name) {
            self.0.append(name, value);
        }
    }
}

fn header_name(name: FieldName) -> Option<HeaderName> {
    Some(match name {
        FieldName::RetryAfter => header::RETRY_AFTER,
        FieldName::RateLimitPolicy => const { HeaderName::from_static("ratelimit-policy") },
        FieldName::RateLimit => const { HeaderName::from_static("ratelimit") },
        FieldName::Limit => const { HeaderName::from_static("ratelimit-limit") },
        FieldName::Remaining => const { HeaderName::from_static("ratelimit-remaining") },
        FieldName::Reset => const { HeaderName::from_static("ratelimit-reset") },
        FieldName::XLimit => const { HeaderName::from_static("x-ratelimit-limit") },
        FieldName::XRemaining => const { HeaderName::from_static("x-ratelimit-remaining") },
        FieldName::XReset => const { HeaderName::from_static("x-ratelimit-reset") },
        FieldName::XPolicy => const { HeaderName::from_static("x-ratelimit-policy") },
        other => return HeaderName::from_bytes(http::HeaderName::from(other).as_str().as_bytes()).ok(),
    })
}

/// An answer as Actix wants it.
pub(crate) fn response(answer: http::Response<Bytes>) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let status = StatusCode::from_u16(head.status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status).body(body);
    for (name, value) in &head.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_str().as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}
