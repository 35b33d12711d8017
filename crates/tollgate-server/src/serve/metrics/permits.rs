//! Permits as metrics: how often they are asked for and given back, and how many there are where this process keeps them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate::StoreError;
use tollgate::concurrency::Admission;
use tollgate::permit_store::MemoryPermits;

use super::ResultLabels;

#[derive(Debug)]
pub(in crate::serve) struct PermitMetrics {
    granted: Counter,
    full: Counter,
    errors: Counter,
    released: Counter,
    kept: Gauge,
}

impl PermitMetrics {
    pub(super) fn new(registry: &mut Registry, backend: &'static str) -> Self {
        let asked = Family::<ResultLabels, Counter>::default();
        registry.register("rate_limiter_permits", "Permits that were asked for, by result", asked.clone());
        let released = Counter::default();
        registry.register(
            "rate_limiter_permits_released",
            "Permits and places in line that were given back",
            released.clone(),
        );
        let kept = Gauge::default();
        registry.register(
            "rate_limiter_permits_kept",
            "Permits and places in line that this process keeps",
            kept.clone(),
        );
        let result = |result| asked.get_or_create(&ResultLabels { backend, result }).clone();
        Self { granted: result("granted"), full: result("full"), errors: result("error"), released, kept }
    }

    /// Counts what came of asking for a permit.
    pub(in crate::serve) fn asked(&self, admission: &Result<Admission, StoreError>) {
        match admission {
            Ok(Admission::Granted { .. }) => &self.granted,
            Ok(Admission::Full { .. }) => &self.full,
            Err(_) => &self.errors,
        }
        .inc();
    }

    /// Counts a permit that was given back.
    pub(in crate::serve) fn released(&self) {
        self.released.inc();
    }

    pub(super) fn read(&self, permits: &MemoryPermits) {
        self.kept.set(i64::try_from(permits.len()).unwrap_or(i64::MAX));
    }
}
