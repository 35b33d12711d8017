//! What collectors of OpenTelemetry are sent, over OTLP: metrics and traces. Nothing, and at no cost, unless an address is given.
//!
//! * [`settings`]: what is sent where, by the option and by OpenTelemetry's own variables.
//! * [`client`]: the way to the collector, and what is said when it is away.
//! * [`queue`]: spans that wait, of which there are at most so many.
//! * [`metrics`]: the numbers of `/metrics` under OpenTelemetry's names; [`samples`]: reading them.
//! * [`spans`]: spans around what faces are asked.
//!
//! Decisions only ever put something into memory: the SDK sends it on threads of its own.

mod client;
mod metrics;
mod queue;
mod samples;
mod settings;
pub(super) mod spans;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider};
use tollgate::random_seed;

use self::client::Client;
use self::queue::{Bounded, Counted, Room};
use self::settings::{Settings, Signal};
use super::api::App;
use crate::cli::OtlpOptions;

pub(super) use self::queue::lost;

/// How long the end waits until what is left was sent.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The name of the service, where the environment says none.
const SERVICE: &str = "tollgate";

/// What sends telemetry; empty if none was asked for.
#[derive(Debug, Default)]
pub(super) struct Otlp {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Otlp {
    /// Makes ready to send what is asked for.
    ///
    /// # Errors
    /// What is wrong with the option or with the environment, and what to write instead.
    pub(super) fn start(options: &OtlpOptions) -> Result<Self, String> {
        let settings = Settings::read(options.otlp_endpoint.as_deref())?;
        let resource = resource();
        let traces = settings.traces.map(|endpoint| {
            let client = Client::new(Signal::Traces, &endpoint)?;
            let exporter =
                SpanExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint);
            let exporter = exporter.build().map_err(|error| format!("OTLP: {error}"))?;
            let room = Arc::new(Room::new(settings.queue_max));
            let queue = BatchConfigBuilder::default().with_max_queue_size(settings.queue_max).build();
            let processor = BatchSpanProcessor::builder(Counted::new(exporter, Arc::clone(&room)));
            let processor = Bounded::new(processor.with_batch_config(queue).build(), room);
            let provider = SdkTracerProvider::builder().with_span_processor(processor);
            Ok::<_, String>(provider.with_resource(resource.clone()).build())
        });
        let metrics = settings.metrics.map(|endpoint| {
            let client = Client::new(Signal::Metrics, &endpoint)?;
            let exporter =
                MetricExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint);
            let exporter = exporter.build().map_err(|error| format!("OTLP: {error}"))?;
            Ok::<_, String>(
                SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource).build(),
            )
        });
        let started = Self { traces: traces.transpose()?, metrics: metrics.transpose()? };
        if started.traces.is_some() {
            spans::turn_on();
        }
        Ok(started)
    }

    /// What spans are given to, if anything.
    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|provider| provider.tracer(SERVICE))
    }

    /// Has metrics sent, if that is asked for.
    pub(super) fn observe(&self, app: &Arc<App>) {
        if let Some(provider) = &self.metrics {
            metrics::observe(provider, app);
        }
    }

    /// Sends what is left, for as long as the end may wait.
    pub(super) fn stop(self) {
        let (ended, end) = mpsc::channel();
        let mut threads = 0;
        let mut aside = |work: Box<dyn FnOnce() + Send>| {
            let ended = ended.clone();
            threads += 1;
            std::thread::spawn(move || {
                work();
                let _ = ended.send(());
            });
        };
        if let Some(traces) = self.traces {
            aside(Box::new(move || drop(traces.shutdown_with_timeout(FLUSH_MAX))));
        }
        if let Some(metrics) = self.metrics {
            aside(Box::new(move || drop(metrics.shutdown_with_timeout(FLUSH_MAX))));
        }
        let began = Instant::now();
        for _ in 0..threads {
            if end.recv_timeout(FLUSH_MAX.saturating_sub(began.elapsed())).is_err() {
                tracing::warn!(
                    target: "tollgate::otlp",
                    "the collector did not take what was left within {} s: that is lost",
                    FLUSH_MAX.as_secs()
                );
                return;
            }
        }
    }
}

/// Who this is: what the environment says, with a name, the version, and a number that tells processes apart.
fn resource() -> Resource {
    use opentelemetry::{Key, KeyValue};

    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new(
            "service.instance.id",
            format!("{:032x}", u128::from_be_bytes(random_seed().to_bytes())),
        ),
    ];
    let said = Resource::builder().build();
    let is_said = |key: &KeyValue| said.get(&key.key).is_some();
    let mut resource = Resource::builder().with_attributes(own.into_iter().filter(|own| !is_said(own)));
    let name = said.get(&Key::from_static_str("service.name"));
    if name.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        resource = resource.with_service_name(SERVICE);
    }
    resource.build()
}
