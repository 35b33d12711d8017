//! How the store fares, as metrics.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate::guard::Phase;

use crate::serve::store::ServerStore;

const PHASES: [Phase; 3] = [Phase::Closed, Phase::Open, Phase::HalfOpen];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    instance: &'static str,
    state: &'static str,
}

/// What is looked up in the store whenever metrics are read.
#[derive(Debug)]
pub(in crate::serve) struct StoreMetrics {
    keys: Gauge,
    capacity: Gauge,
    held: Gauge,
    overflowed: Counter,
    /// Where there is a store that can fail.
    breaker: Vec<(Phase, Gauge)>,
}

impl StoreMetrics {
    pub(in crate::serve) fn new(registry: &mut Registry, store: &ServerStore) -> Self {
        let [keys, capacity, held]: [Gauge; 3] = Default::default();
        registry.register("rate_limiter_store_keys", "Keys that are remembered", keys.clone());
        registry.register("rate_limiter_store_capacity", "Keys that can be remembered", capacity.clone());
        registry.register(
            "rate_limiter_store_held",
            "Keys for which this node holds units ahead, or owes some",
            held.clone(),
        );
        let overflowed = Counter::default();
        registry.register(
            "rate_limiter_store_overflowed",
            "Hits for which the store had no room",
            overflowed.clone(),
        );
        let breaker = Family::<BreakerLabels, Gauge>::default();
        let mut phases = Vec::new();
        if store.guard().is_some() {
            registry.register(
                "rate_limiter_breaker_state",
                "1 for the state that the breaker before the store is in: closed while the store is asked",
                breaker.clone(),
            );
            let gauge = |phase: Phase| {
                let labels = BreakerLabels { instance: store.backend(), state: phase.name() };
                (phase, breaker.get_or_create(&labels).clone())
            };
            phases.extend(PHASES.map(gauge));
        }
        Self { keys, capacity, held, overflowed, breaker: phases }
    }

    /// Looks it up.
    pub(in crate::serve) fn read(&self, store: &ServerStore) {
        let local = store.local();
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.keys, local.len());
        set(&self.capacity, local.capacity());
        set(&self.held, store.held());
        // It is counted elsewhere, and never goes back.
        self.overflowed.inner().store(local.overflowed(), Ordering::Relaxed);
        if let Some(guard) = store.guard() {
            let now = guard.phase();
            for (phase, gauge) in &self.breaker {
                gauge.set(i64::from(*phase == now));
            }
        }
    }
}
