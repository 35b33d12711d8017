//! What `tollgate-http` says in the types of `http`, in those of Actix, which are of an earlier version of that crate.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use tollgate_http::AnswerHeaders;

/// The headers of an answer of Actix.
pub(crate) struct ActixHeaders<'h>(pub(crate) &'h mut HeaderMap);

impl AnswerHeaders for ActixHeaders<'_> {
    fn has(&self, name: &http::HeaderName) -> bool {
        self.0.contains_key(name.as_str())
    }

    fn add(&mut self, name: http::HeaderName, value: http::HeaderValue) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_str().as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            self.0.append(name, value);
        }
    }
}

/// An answer as Actix wants it.
pub(crate) fn response(answer: http::Response<Bytes>) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let status = StatusCode::from_u16(head.status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status).body(body);
    let mut headers = ActixHeaders(response.headers_mut());
    for (name, value) in &head.headers {
        headers.add(name.clone(), value.clone());
    }
    response
}
