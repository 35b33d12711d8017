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

/// Decides within a span, and notes there what came of it: `note` says of a decision whether it allows, and may add to the span.
pub(crate) async fn decided<T>(
    decide: impl Future<Output = Result<T, StoreError>>,
    note: impl FnOnce(&Span, &T) -> bool,
) -> Result<T, StoreError> {
    let span = tracing::debug_span!(
        target: "tollgate::gate",
        "decide",
        tollgate.result = Empty,
        tollgate.policy = Empty,
        tollgate.source = Empty,
        tollgate.retry_after = Empty,
        otel.status_code = Empty,
    );
    let decided = decide.instrument(span.clone()).await;
    if !span.is_disabled() {
        let result = match &decided {
            Ok(decision) if note(&span, decision) => "allowed",
            Ok(_) => "denied",
            Err(_) => {
                span.record("otel.status_code", "ERROR");
                "error"
            }
        };
        span.record("tollgate.result", result);
    }
    decided
}

/// Notes who has decided, and when to come again.
pub(crate) fn verdict(span: &Span, verdict: &Verdict) {
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
