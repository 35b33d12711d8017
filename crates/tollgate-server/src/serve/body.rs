//! Bodies of requests, as far as they can be JSON at all, or YAML.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};

/// What JSON is said to be.
const JSON: &str = "application/json";

/// What clients say of a body where nobody has told them what it is: `curl -d`, and browsers for a text.
const UNSAID: [&str; 2] = ["application/x-www-form-urlencoded", "text/plain"];

/// What YAML is said to be: also by those who named it before it had a name.
const YAML: [&str; 4] = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];

/// A body that is not said to be something other than JSON.
#[derive(Debug)]
pub(super) struct Body(pub(super) Bytes);

/// A body that is not said to be something other than YAML, which all JSON is.
#[derive(Debug)]
pub(super) struct YamlBody(pub(super) Bytes);

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

const NOT_YAML: Unread = Unread {
    message: "the body must be JSON or YAML; say so by `Content-Type: application/json` or `application/yaml`",
    ..NOT_JSON
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
        bytes(request, state).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for YamlBody {
    type Rejection = Unread;

    async fn from_request(request: Request, state: &S) -> Result<Self, Unread> {
        if !may_be_yaml(request.headers()) {
            return Err(NOT_YAML);
        }
        bytes(request, state).await.map(Self)
    }
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Unread> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { TOO_LARGE } else { BROKEN }
    })
}

impl axum::response::IntoResponse for Unread {
    fn into_response(self) -> axum::response::Response {
        (self.status, format!("{}\n", self.message)).into_response()
    }
}

/// What a body is said to be, without parameters and in small letters; what cannot be read says that it is nothing known.
fn kind(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(value.split_once(';').map_or(value, |(kind, _)| kind).trim().to_ascii_lowercase())
}

fn may_be_json(headers: &HeaderMap) -> bool {
    kind(headers)
        .is_none_or(|said| said == JSON || has_suffix(&said, "+json") || UNSAID.contains(&said.as_str()))
}

/// Whether it is said in the usual words that a body is JSON.
pub(super) fn is_said_to_be_json(content_type: &[u8]) -> bool {
    content_type == JSON.as_bytes()
}

fn may_be_yaml(headers: &HeaderMap) -> bool {
    let is_yaml = |said: String| YAML.contains(&said.as_str()) || has_suffix(&said, "+yaml");
    may_be_json(headers) || kind(headers).is_some_and(is_yaml)
}

fn has_suffix(kind: &str, suffix: &str) -> bool {
    kind.strip_suffix(suffix).is_some_and(|start| !start.is_empty())
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

    #[test]
    fn a_policy_may_also_be_yaml() {
        let told = |kind: &'static str| {
            may_be_yaml(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]))
        };
        for kind in [
            "application/yaml",
            "Text/YAML; charset=utf-8",
            "application/x.y+yaml",
            "application/json",
            UNSAID[0],
        ] {
            assert!(told(kind), "{kind}");
        }
        for kind in ["application/toml", "application/xml", "+yaml", "yaml"] {
            assert!(!told(kind), "{kind}");
        }
    }
}
