//! The question that is asked most, answered directly where it comes as a plain request and the store is this process's own.

use std::time::{Duration, SystemTime};

use axum::http::HeaderValue;
use bytes::Bytes;
use futures_util::FutureExt;
use tollgate::http::{AnswerHeaders, FieldName, HeaderOptions};

use super::api::{App, decide, json_line};
use super::body::is_said_to_be_json;
use super::net::plain::{Last, Plain, begin, end};
use super::otlp::spans;
use super::wire::{Answer, Question};

/// Where it is asked.
const CHECK: &str = "/v1/check";

/// What the head of an answer mostly takes.
const HEAD_BYTES: usize = 512;

/// Answers a check. False, and nothing done, if it is something else, is wrong, or has to be waited for: the routes have an
/// answer to all of these. So have they to traces.
pub(super) fn answer(app: &App, plain: &Plain<'_>, last: Last, answer: &mut Vec<u8>) -> bool {
    let is_check = plain.target == CHECK && plain.content_type.is_none_or(is_said_to_be_json);
    if !is_check || spans::are_on() || !app.decides_at_once() || plain.body.first() != Some(&b'{') {
        return false;
    }
    let Ok(question) = serde_json::from_slice::<Question>(plain.body) else { return false };
    // Nothing is waited for then.
    let Some(Ok(verdict)) = decide(app, question).now_or_never() else { return false };
    // Nor can an answer fail to be JSON: it is made of texts and numbers.
    let Ok(body) = json_line(&Answer::new(&verdict)) else { return false };
    let status_line = if verdict.is_allowed() { "HTTP/1.1 200 OK" } else { "HTTP/1.1 429 Too Many Requests" };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    answer.reserve(HEAD_BYTES + body.len());
    begin(answer, status_line, now, last);
    let mut lines = Lines { answer, names: Vec::new() };
    lines.line("content-type", b"application/json");
    HeaderOptions::default().write(&verdict, now.as_secs(), &mut lines);
    end(answer, &body);
    true
}

/// Headers as lines of text.
struct Lines<'a> {
    answer: &'a mut Vec<u8>,
    /// The names of those that policies are configured with.
    names: Vec<axum::http::HeaderName>,
}

impl Lines<'_> {
    fn line(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.answer.extend_from_slice(part);
        }
    }
}

impl AnswerHeaders for Lines<'_> {
    fn add(&mut self, name: FieldName, value: Bytes) {
        /// What an answer says already.
        const TAKEN: [&str; 5] =
            ["connection", "content-length", "content-type", "date", "transfer-encoding"];

        let is_custom = matches!(name, FieldName::Custom(_));
        let name = axum::http::HeaderName::from(name);
        // As everywhere, what is no value of a header is left out.
        let Ok(value) = HeaderValue::from_maybe_shared(value) else { return };
        if is_custom {
            if TAKEN.contains(&name.as_str()) || self.names.contains(&name) {
                return;
            }
            self.names.push(name.clone());
        }
        self.line(name.as_str(), value.as_bytes());
    }
}
