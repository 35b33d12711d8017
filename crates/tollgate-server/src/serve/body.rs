//! Bodies of requests, as far as they can be JSON at all.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};

/// What clients say of a body where nobody has told them what it is: `curl -d`, and browsers for a text.
const UNSAID: [&str; 2] = ["application/x-www-form-urlencoded", "text/plain"];

/// A body that is not said to be something other than JSON.
#[derive(Debug)]
pub(super) struct Body(pub(super) Bytes);

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

const NOT_JSON: Unread = Unread {
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    code: "UNSUPPORTED_MEDIA_TYPE",
    message: "the body must be JSON; say so by `Content-Type: application/json`",
};

const TOO_LARGE: Unread = Unread {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    code: "TOO_LARGE",
    message: "the body is larger than this address takes",
};

const BROKEN: Unread =
    Unread { status: StatusCode::BAD_REQUEST, code: "BAD_REQUEST", message: "the body ended before its end" };

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Unread;

    async fn from_request(request: Request, state: &S) -> Result<Self, Unread> {
        if !may_be_json(request.headers()) {
            return Err(NOT_JSON);
        }
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { TOO_LARGE } else { BROKEN }
        })
    }
}

impl axum::response::IntoResponse for Unread {
    fn into_response(self) -> axum::response::Response {
        (self.status, format!("{}\n", self.message)).into_response()
    }
}

fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    let kind = value.split_once(';').map_or(value, |(kind, _)| kind).trim();
    let is = |known: &str| kind.eq_ignore_ascii_case(known);
    let ends_in_json =
        kind.len() > 5 && kind.get(kind.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case("+json"));
    is("application/json") || ends_in_json || UNSAID.into_iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_something_else_is_no_json() {
        let told = |kind: &'static [u8]| {
            let value = axum::http::HeaderValue::from_bytes(kind).unwrap();
            may_be_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
            "text/plain",
            UNSAID[0],
        ] {
            assert!(told(kind.as_bytes()), "{kind}");
        }
        for kind in [
            "",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "+json",
            "text/html",
        ] {
            assert!(!told(kind.as_bytes()), "{kind}");
        }
        assert!(!told("ä+json".as_bytes()) && !told(b"\xff"));
        assert!(may_be_json(&HeaderMap::new()));
    }
}
