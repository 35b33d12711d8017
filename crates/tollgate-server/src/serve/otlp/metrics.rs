//! The numbers of `/metrics` under names, with units, as OpenTelemetry has them
//! (<https://opentelemetry.io/docs/specs/semconv/general/metrics/>).
//!
//! They are read from what `/metrics` would say, so nothing is counted twice. Only the histogram of times is: instruments that are
//! read cannot have distributions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::SERVICE;
use super::samples::{Sample, help, samples};
use crate::serve::api::App;
use crate::serve::metrics::duration_bounds;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It grows, and adds up over nodes.
    Counter,
    /// It goes up and down, and adds up over nodes.
    UpDown,
    /// It does not add up.
    Gauge,
}

/// What a metric is here and there: how its samples are called, its name, its unit, its kind.
type Row = (&'static str, &'static str, &'static str, Kind);

const ROWS: [Row; 45] = {
    use Kind::{Counter, Gauge, UpDown};

    [
        ("rate_limiter_requests_total", "tollgate.requests", "{request}", Counter),
        ("rate_limiter_policy_hits_total", "tollgate.policy.hits", "{request}", Counter),
        ("rate_limiter_policy_denied_total", "tollgate.policy.denied", "{request}", Counter),
        ("rate_limiter_active_policies", "tollgate.policy.active", "{policy}", Gauge),
        ("rate_limiter_reloads_total", "tollgate.config.reloads", "{reload}", Counter),
        ("rate_limiter_last_reload_successful", "tollgate.config.last_reload_successful", "1", Gauge),
        ("rate_limiter_config_loaded_timestamp_seconds", "tollgate.config.loaded_at", "s", Gauge),
        ("rate_limiter_store_available", "tollgate.store.available", "1", Gauge),
        ("rate_limiter_consecutive_failures", "tollgate.store.consecutive_failures", "{failure}", Gauge),
        ("rate_limiter_breaker_state", "tollgate.store.breaker_state", "1", Gauge),
        ("rate_limiter_store_keys", "tollgate.store.keys", "{key}", UpDown),
        ("rate_limiter_store_capacity", "tollgate.store.capacity", "{key}", UpDown),
        ("rate_limiter_store_held", "tollgate.store.held", "{key}", UpDown),
        ("rate_limiter_store_overflowed_total", "tollgate.store.overflowed", "{hit}", Counter),
        ("rate_limiter_audit_lost_total", "tollgate.audit.lost", "{line}", Counter),
        ("rate_limiter_otlp_spans_lost_total", "tollgate.otlp.spans_lost", "{span}", Counter),
        ("rate_limiter_disk_flushes_total", "tollgate.disk.flushes", "{flush}", Counter),
        ("rate_limiter_disk_failures_total", "tollgate.disk.failures", "{failure}", Counter),
        ("rate_limiter_disk_written_bytes_total", "tollgate.disk.written", "By", Counter),
        ("rate_limiter_disk_file_bytes", "tollgate.disk.file_size", "By", UpDown),
        ("rate_limiter_disk_last_flush_seconds", "tollgate.disk.last_flush", "s", Gauge),
        ("rate_limiter_disk_age_seconds", "tollgate.disk.age", "s", Gauge),
        ("rate_limiter_disk_failing", "tollgate.disk.failing", "1", Gauge),
        ("rate_limiter_service_level", "tollgate.service.level", "1", Gauge),
        ("rate_limiter_concurrency_limit", "tollgate.concurrency.limit", "{request}", Gauge),
        ("rate_limiter_concurrency_in_flight", "tollgate.concurrency.in_flight", "{request}", UpDown),
        ("rate_limiter_concurrency_refused_total", "tollgate.concurrency.refused", "{request}", Counter),
        ("rate_limiter_concurrency_expired_total", "tollgate.concurrency.expired", "{request}", Counter),
        ("rate_limiter_permits_total", "tollgate.permit.asked", "{permit}", Counter),
        ("rate_limiter_permits_released_total", "tollgate.permit.released", "{permit}", Counter),
        ("rate_limiter_permits_kept", "tollgate.permit.kept", "{permit}", UpDown),
        ("rate_limiter_connections", "tollgate.connection.count", "{connection}", UpDown),
        ("rate_limiter_connections_accepted_total", "tollgate.connection.accepted", "{connection}", Counter),
        ("ratelimit_service_rate_limit_total_hits", "tollgate.descriptor.hits", "{hit}", Counter),
        ("ratelimit_service_rate_limit_within_limit", "tollgate.descriptor.within_limit", "{hit}", Counter),
        ("ratelimit_service_rate_limit_near_limit", "tollgate.descriptor.near_limit", "{hit}", Counter),
        ("ratelimit_service_rate_limit_over_limit", "tollgate.descriptor.over_limit", "{hit}", Counter),
        ("ratelimit_service_rate_limit_shadow_mode", "tollgate.descriptor.shadow_mode", "{hit}", Counter),
        ("process_cpu_seconds_total", "process.cpu.time", "s", Counter),
        ("process_resident_memory_bytes", "process.memory.usage", "By", UpDown),
        ("process_virtual_memory_bytes", "process.memory.virtual", "By", UpDown),
        ("process_threads", "process.thread.count", "{thread}", UpDown),
        ("process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}", UpDown),
        ("process_max_fds", "tollgate.file_descriptor.limit", "{file_descriptor}", Gauge),
        ("process_start_time_seconds", "tollgate.started_at", "s", Gauge),
    ]
};

/// Has the SDK read the numbers whenever it is about to send them.
pub(super) fn observe(provider: &SdkMeterProvider, app: &Arc<App>) {
    let meter = provider.meter(SERVICE);
    let text = app.metrics.render(app);
    let reader = Arc::new(Reader { app: Arc::clone(app), read: Mutex::default() });
    for (name, to, unit, kind) in ROWS {
        let (reader, seen) = (Arc::clone(&reader), AtomicU64::new(0));
        let read = move |to: &dyn AsyncInstrument<f64>| reader.read(name, &seen, to);
        let help = help(&text, name).unwrap_or_default().to_owned();
        // What is made need not be kept: the provider has the callbacks.
        match kind {
            Kind::Counter => {
                let counter = meter.f64_observable_counter(to);
                counter.with_unit(unit).with_description(help).with_callback(read).build();
            }
            Kind::UpDown => {
                let sum = meter.f64_observable_up_down_counter(to);
                sum.with_unit(unit).with_description(help).with_callback(read).build();
            }
            Kind::Gauge => {
                let gauge = meter.f64_observable_gauge(to);
                gauge.with_unit(unit).with_description(help).with_callback(read).build();
            }
        }
    }
    let times = meter
        .f64_histogram("tollgate.request.duration")
        .with_unit("s")
        .with_description("Time to decide a request")
        .with_boundaries(duration_bounds().collect())
        .build();
    app.metrics.export_times(times, [KeyValue::new("tollgate.backend", app.gate.store().backend())]);
}

/// Reads all numbers once for each time that they are sent.
#[derive(Debug)]
struct Reader {
    app: Arc<App>,
    /// What was read last, and how often that was done.
    read: Mutex<(u64, HashMap<&'static str, Vec<Sample>>)>,
}

impl Reader {
    /// Tells an instrument the numbers of its metric. One that has had what was read last begins a new round.
    fn read(&self, name: &str, seen: &AtomicU64, to: &dyn AsyncInstrument<f64>) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed, as it is under the lock.
        if seen.load(Ordering::Relaxed) == read.0 {
            let text = self.app.metrics.render(&self.app);
            let mut all = samples(&text);
            let told = ROWS.iter().filter_map(|(name, ..)| Some((*name, all.remove(name)?)));
            *read = (read.0 + 1, told.collect());
        }
        seen.store(read.0, Ordering::Relaxed);
        for sample in read.1.get(name).into_iter().flatten() {
            to.observe(sample.value, &sample.attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_metric() {
        let page = include_str!("../../../../../docs/observability.md");
        for (here, there, unit, kind) in ROWS {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::UpDown => "up-down counter",
                Kind::Gauge => "gauge",
            };
            let row = format!("| `{here}` | `{there}` | `{unit}` | {kind} |");
            assert!(page.lines().any(|line| line == row), "{row}");
        }
    }
}
