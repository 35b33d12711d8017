//! Telemetry for collectors.

use clap::Args;

/// OpenTelemetry. All else is said by its own variables, as `OTEL_SERVICE_NAME` and `OTEL_TRACES_SAMPLER`.
#[derive(Args, Debug)]
#[command(next_help_heading = "OpenTelemetry")]
pub(crate) struct OtlpOptions {
    /// Send metrics and traces to the collector at this address, by OTLP over HTTP, as in http://127.0.0.1:4318 [default: what
    /// OTEL_EXPORTER_OTLP_ENDPOINT says; else nowhere]
    #[arg(long, value_name = "URL", env = "TOLLGATE_OTLP_ENDPOINT")]
    pub(crate) otlp_endpoint: Option<String>,
}
