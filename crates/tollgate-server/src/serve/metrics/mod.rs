//! What Prometheus reads. Labels come from the configuration only, never from a request.
//!
//! * [`policies`]: what policies say, and how they were loaded; [`descriptors`]: what rules for descriptors decide.
//! * [`store`]: how the store fares, and [`disk`]: how keeping it does; [`connections`]: who is connected; [`process`]: what the program takes.
//! * [`services`]: the services that limits adapt to; [`permits`]: permits.
//! * [`exposition`]: in which form it is written.

pub(super) mod connections;
mod descriptors;
mod disk;
pub(super) mod exposition;
mod permits;
mod policies;
mod process;
mod services;
mod store;

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram as ExportedHistogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tollgate::Nanos;

use self::descriptors::DescriptorMetrics;
use self::disk::DiskMetrics;
use self::permits::PermitMetrics;
use self::policies::{PolicyCounts, ReloadMetrics};
use self::services::ServiceMetrics;
use self::store::StoreMetrics;
use super::api::App;
use super::otlp;
use super::resp::Tally;
use super::store::ServerStore;

/// The most series of one metric; policies beyond share the series `other`.
const SERIES_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    backend: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    backend: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    instance: &'static str,
}

/// All metrics, each found once and then only counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    allowed: Counter,
    denied: Counter,
    errors: Counter,
    duration: Histogram,
    /// The same for collectors of OpenTelemetry, if there is one.
    exported: OnceLock<(ExportedHistogram<f64>, [KeyValue; 1])>,
    active_policies: Gauge,
    policies: PolicyCounts,
    reloads: ReloadMetrics,
    audit_lost: Counter,
    spans_lost: Counter,
    services: ServiceMetrics,
    pub(super) permits: PermitMetrics,
    store: StoreMetrics,
    /// Where memory is kept in files.
    disk: Option<DiskMetrics>,
    /// What rules for descriptors have had to decide.
    pub(super) descriptors: DescriptorMetrics,
    /// Where there is a store to be asked that nodes share; and once more, if it is Redis.
    available: Vec<Gauge>,
    failures: Gauge,
}

/// Whether the store that nodes share answers; the second is said of Redis only.
const AVAILABLE: [(&str, &str); 2] = [
    ("rate_limiter_store_available", "Whether the store that nodes share answers"),
    ("rate_limiter_redis_available", "Whether Redis answers"),
];

/// Says that there is such a metric, and that no store is asked: an alert on its value must not fire.
#[derive(Debug)]
struct NoStore(&'static str, &'static str);

impl Collector for NoStore {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_descriptor(self.0, self.1, None, MetricType::Gauge).map(drop)
    }
}

/// From 100 ns to 0.8 s, in steps of two: decisions in memory take about a microsecond, those of a store at most its deadline.
pub(super) fn duration_bounds() -> impl Iterator<Item = f64> {
    (0..24).map(|step| 1e-7 * f64::from(1 << step))
}

/// Makes a counter say what was counted elsewhere. Who reads at the same time may have been here first.
fn catch_up(counter: &Counter, to: u64) {
    // Relaxed: a count, which orders nothing else.
    counter.inner().fetch_max(to, Ordering::Relaxed);
}

impl Metrics {
    pub(super) fn new(store: &ServerStore) -> Self {
        let backend = store.backend();
        let mut registry = Registry::default();
        let requests = Family::<ResultLabels, Counter>::default();
        registry.register("rate_limiter_requests", "Requests decided, by result", requests.clone());
        let buckets = || Histogram::new(duration_bounds());
        let durations = Family::<BackendLabels, Histogram, fn() -> Histogram>::new_with_constructor(buckets);
        registry.register(
            "rate_limiter_request_duration_seconds",
            "Time to decide a request",
            durations.clone(),
        );
        let mut available = Vec::new();
        for ((name, help), is_asked) in AVAILABLE.into_iter().zip([!store.is_local(), backend == "redis"]) {
            if is_asked {
                let family = Family::<InstanceLabels, Gauge>::default();
                registry.register(name, help, family.clone());
                available.push(family.get_or_create(&InstanceLabels { instance: backend }).clone());
            } else {
                registry.register_collector(Box::new(NoStore(name, help)));
            }
        }
        let failures = Family::<InstanceLabels, Gauge>::default();
        registry.register(
            "rate_limiter_consecutive_failures",
            "Failures of the store in a row",
            failures.clone(),
        );
        let failures = failures.get_or_create(&InstanceLabels { instance: backend }).clone();
        let active = Family::<InstanceLabels, Gauge>::default();
        registry.register("rate_limiter_active_policies", "Policies that are switched on", active.clone());
        let active_policies = active.get_or_create(&InstanceLabels { instance: backend }).clone();
        let policies = PolicyCounts::default();
        registry.register_collector(Box::new(policies.clone()));
        let reloads = ReloadMetrics::new(&mut registry);
        let audit_lost = Counter::default();
        registry.register(
            "rate_limiter_audit_lost",
            "Lines that the audit log lacks, as its file was too slow",
            audit_lost.clone(),
        );
        let spans_lost = Counter::default();
        registry.register(
            "rate_limiter_otlp_spans_lost",
            "Spans that no collector has: there were too many, or it did not take them",
            spans_lost.clone(),
        );
        let disk = DiskMetrics::new(&mut registry, store);
        let permits = PermitMetrics::new(&mut registry, backend);
        let services = ServiceMetrics::default();
        registry.register_collector(Box::new(services.clone()));
        let store = StoreMetrics::new(&mut registry, store);
        let descriptors = DescriptorMetrics::new(&mut registry);
        connections::register(&mut registry);
        process::register(&mut registry);
        let result = |result| requests.get_or_create(&ResultLabels { backend, result }).clone();
        Self {
            allowed: result("allowed"),
            denied: result("denied"),
            errors: result("error"),
            duration: durations.get_or_create(&BackendLabels { backend }).clone(),
            exported: OnceLock::new(),
            active_policies,
            policies,
            reloads,
            audit_lost,
            spans_lost,
            services,
            permits,
            store,
            disk,
            descriptors,
            available,
            failures,
            registry,
        }
    }

    /// Counts a decision. What each policy said of it the gate counts.
    pub(super) fn counted(&self, allowed: bool, took: Duration) {
        if allowed { &self.allowed } else { &self.denied }.inc();
        self.took(took.as_secs_f64());
    }

    fn took(&self, seconds: f64) {
        self.duration.observe(seconds);
        if let Some((times, backend)) = self.exported.get() {
            times.record(seconds, backend);
        }
    }

    /// From now on, notes times for a collector too.
    pub(super) fn export_times(&self, times: ExportedHistogram<f64>, backend: [KeyValue; 1]) {
        // There is one collector, which is set once.
        let _ = self.exported.set((times, backend));
    }

    /// Counts decisions that no policy made, of commands that came together. Their time is counted once, as what each took
    /// in the mean: they were decided in one go.
    pub(super) fn throttled(&self, tally: Tally, took: impl FnOnce() -> Nanos) {
        let decided = tally.allowed + tally.denied;
        if decided > 0 {
            self.allowed.inc_by(tally.allowed);
            self.denied.inc_by(tally.denied);
            // Lengths of time, for people.
            #[allow(clippy::cast_precision_loss)]
            self.took(took().as_nanos() as f64 / 1e9 / decided as f64);
        }
        if tally.errors > 0 {
            self.errors.inc_by(tally.errors);
        }
    }

    /// Counts a question that was not decided: it could not be understood, or the store did not answer.
    pub(super) fn undecided(&self) {
        self.errors.inc();
    }

    /// How many questions were allowed, denied, and not decided, since the server was started.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        (self.allowed.get(), self.denied.get(), self.errors.get())
    }

    /// All metrics in the OpenMetrics text format.
    pub(super) fn render(&self, app: &App) -> String {
        let (store, status) = (app.gate.store(), app.gate.status());
        self.active_policies.set(i64::try_from(status.active_policies).unwrap_or(i64::MAX));
        self.policies.set(status.policies);
        self.reloads.set(&app.book);
        catch_up(&self.audit_lost, app.audit.lost());
        catch_up(&self.spans_lost, otlp::lost());
        self.services.read(&app.watched);
        self.permits.read(&app.permits);
        self.store.read(store);
        if let Some(disk) = &self.disk {
            disk.read(store);
        }
        self.failures.set(i64::try_from(store.consecutive_failures()).unwrap_or(i64::MAX));
        for gauge in &self.available {
            gauge.set(i64::from(store.is_available() == Some(true)));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
