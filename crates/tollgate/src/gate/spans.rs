//! Spans around decisions, for programs that collect traces.
//!
//! They are for debugging by their level, so without a subscriber that wants them a span is a look at one number. Decisions that are
//! there at once take less time than a span does, so only those that may be waited for have one. Keys and addresses are not in them.

use std::time::Duration;

use tollgate_core::Retry;
use tollgate_policy::Verdict;
use tollgate_store::StoreError;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// A span for one decision, which ends when it is dropped.
pub(crate) fn decision() -> Span {
    tracing::debug_span!(
        target: "tollgate::gate",
        "decide",
        tollgate.result = Empty,
        tollgate.policy = Empty,
        tollgate.source = Empty,
        tollgate.retry_after = Empty,
        otel.status_code = Empty,
    )
}

/// Asks a store within a decision's span. A future within another one, and its answer, are carried from one to the other, which
/// costs more than a span; so where nobody wants that, there is no other one.
macro_rules! asking {
    ($span:expr, $ask:expr) => {
        if $span.is_disabled() { $ask.await } else { $crate::gate::spans::seen(&$span, $ask).await }
    };
}
pub(crate) use asking;

/// Asks a store within a span that somebody wants.
pub(crate) async fn seen<T>(
    span: &Span,
    ask: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let answer = ask.instrument(span.clone()).await;
    if answer.is_err() {
        span.record("tollgate.result", "error");
        span.record("otel.status_code", "ERROR");
    }
    answer
}

/// Notes whether a request passes.
pub(crate) fn result(span: &Span, allowed: bool) {
    span.record("tollgate.result", if allowed { "allowed" } else { "denied" });
}

/// Notes who has decided, and when to come again.
pub(crate) fn verdict(span: &Span, verdict: &Verdict) {
    if span.is_disabled() {
        return;
    }
    result(span, verdict.is_allowed());
    if let Some(policy) = verdict.deciding() {
        span.record("tollgate.policy", policy.policy.name());
        if let Some((_, outcome)) = policy.tightest() {
            span.record("tollgate.source", outcome.source.name());
        }
    }
    if let Retry::After(wait) = verdict.retry_after() {
        span.record("tollgate.retry_after", Duration::from(wait).as_secs_f64());
    }
}
