//! What is told to standard error: for people, or for programs.
//!
//! Each event belongs to a part of the server, its target, whose name stays the same wherever the code goes:
//! `docs/observability.md` lists them.

use opentelemetry_sdk::trace::SdkTracer;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::cli::{LogFormat, LogOptions, stderr_has_colour};

/// Begins to log, and to give spans to whoever collects them.
///
/// # Errors
/// What is wrong with the filter.
pub(super) fn start(options: &LogOptions, tracer: Option<SdkTracer>) -> Result<(), String> {
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|error| format!("--log: {error}; write a level, or `info,tollgate::grpc=debug`"))?;
    // Spans are for traces. Here they would only make lines longer.
    let events = filter_fn(|metadata| !metadata.is_span()).with_max_level_hint(LevelFilter::TRACE);
    let events = filter.and(events);
    let logs = fmt::layer().with_writer(std::io::stderr);
    let logs = match options.log_format {
        LogFormat::Text => logs.with_ansi(stderr_has_colour()).with_filter(events).boxed(),
        LogFormat::Json => logs.with_ansi(false).json().flatten_event(true).with_filter(events).boxed(),
    };
    registry().with(tracer.map(spans)).with(logs).init();
    Ok(())
}

/// What gives this program's spans to a tracer, without saying where in the sources they are.
fn spans<S>(tracer: SdkTracer) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> registry::LookupSpan<'a>,
{
    let own = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("tollgate::"));
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(own.with_max_level_hint(LevelFilter::DEBUG))
}
