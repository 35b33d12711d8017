//! What is told to standard error: for people, or for programs.
//!
//! Each event belongs to a part of the server, its target, whose name stays the same wherever the code goes:
//! `docs/observability.md` lists them.

use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, LogOptions, stderr_has_colour};

/// Begins to log.
///
/// # Errors
/// What is wrong with the filter.
pub(super) fn start(options: &LogOptions) -> Result<(), String> {
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|error| format!("--log: {error}; write a level, or `info,tollgate::grpc=debug`"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => logs.with_ansi(stderr_has_colour()).init(),
        LogFormat::Json => logs.with_ansi(false).json().flatten_event(true).init(),
    }
    Ok(())
}
