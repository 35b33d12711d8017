//! How the files fare that memory is kept in, as metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tollgate::durable::Durability;
use tollgate::{LocalStore, Timestamp};

use super::catch_up;
use crate::serve::store::ServerStore;

/// What is looked up whenever metrics are read, where there are files.
#[derive(Debug, Default)]
pub(super) struct DiskMetrics {
    flushes: Counter,
    failures: Counter,
    written: Counter,
    file: Gauge,
    took: Gauge<f64, AtomicU64>,
    age: Gauge<f64, AtomicU64>,
    failing: Gauge,
}

impl DiskMetrics {
    /// The metrics, if this store has files.
    pub(super) fn new(registry: &mut Registry, store: &ServerStore) -> Option<Self> {
        store.durability()?;
        let metrics = Self::default();
        registry.register(
            "rate_limiter_disk_flushes",
            "How often what had changed was written to disk",
            metrics.flushes.clone(),
        );
        registry.register(
            "rate_limiter_disk_failures",
            "How often something could not be written to disk",
            metrics.failures.clone(),
        );
        registry.register_with_unit(
            "rate_limiter_disk_written",
            "What was written to disk",
            Unit::Bytes,
            metrics.written.clone(),
        );
        registry.register_with_unit(
            "rate_limiter_disk_file",
            "How long the file of states is",
            Unit::Bytes,
            metrics.file.clone(),
        );
        registry.register_with_unit(
            "rate_limiter_disk_last_flush",
            "How long the last flush has taken",
            Unit::Seconds,
            metrics.took.clone(),
        );
        registry.register_with_unit(
            "rate_limiter_disk_age",
            "How much would be lost now: the time since the last flush that succeeded began",
            Unit::Seconds,
            metrics.age.clone(),
        );
        registry.register(
            "rate_limiter_disk_failing",
            "1 while states cannot be written to disk",
            metrics.failing.clone(),
        );
        Some(metrics)
    }

    /// Looks it up.
    pub(super) fn read(&self, store: &ServerStore) {
        let Some(durability) = store.durability() else { return };
        catch_up(&self.flushes, durability.flushes);
        catch_up(&self.failures, durability.failures);
        catch_up(&self.written, durability.bytes_written);
        self.file.set(i64::try_from(durability.file_bytes).unwrap_or(i64::MAX));
        self.took.set(durability.last_flush_time.as_secs_f64());
        self.age.set(age(&durability, store.local().now()));
        self.failing.set(i64::from(durability.trouble.is_some()));
    }
}

/// In seconds.
fn age(durability: &Durability, now: Timestamp) -> f64 {
    std::time::Duration::from(now.since(durability.safe_as_of)).as_secs_f64()
}
