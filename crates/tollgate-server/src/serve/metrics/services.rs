//! The services that limits adapt to: how they fare, and how much of them is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tollgate::ServiceHealth;

use crate::serve::services::{PlacesSeen, Watched};

/// The services, as they were seen when somebody asked. There are at most a hundred of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceMetrics(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    health: Vec<ServiceHealth>,
    places: Vec<PlacesSeen>,
}

impl ServiceMetrics {
    pub(super) fn read(&self, watched: &Watched) {
        *self.lock() = Seen { health: watched.health(), places: watched.places() };
    }

    /// Also after a panic elsewhere: it is set anew each time.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for ServiceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let seen = self.lock();
        let help = "How a service fares: 0 is good, 1 degraded, 2 bad";
        let mut family =
            encoder.encode_descriptor("rate_limiter_service_level", help, None, MetricType::Gauge)?;
        for service in &seen.health {
            let label = [("service", service.name.as_str())];
            family.encode_family(&label)?.encode_gauge(&(service.level as u32))?;
        }
        let mut gauge = |name, help, value: fn(&PlacesSeen) -> u32| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for service in &seen.places {
                let label = [("service", service.name.as_str())];
                family.encode_family(&label)?.encode_gauge(&value(service))?;
            }
            Ok::<_, std::fmt::Error>(())
        };
        let help = "How much of a service may be under way at once";
        gauge("rate_limiter_concurrency_limit", help, |service| service.limit)?;
        let help = "How much of a service is under way";
        gauge("rate_limiter_concurrency_in_flight", help, |service| service.in_flight)?;
        let mut counter = |name, help, value: fn(&PlacesSeen) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for service in &seen.places {
                let label = [("service", service.name.as_str())];
                family.encode_family(&label)?.encode_counter::<NoLabelSet, _, u64>(&value(service), None)?;
            }
            Ok::<_, std::fmt::Error>(())
        };
        let help = "Places in a service that were asked for while there was none";
        counter("rate_limiter_concurrency_refused", help, |service| service.refused)?;
        let help = "Places in a service that ended by themselves, as nobody gave them back";
        counter("rate_limiter_concurrency_expired", help, |service| service.expired)
    }
}
