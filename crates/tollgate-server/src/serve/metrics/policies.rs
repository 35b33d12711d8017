//! What policies say, and how they were loaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate::PolicyStatistics;

use super::{SERIES_MAX, catch_up};
use crate::serve::book::Book;

/// What each policy has said, as the gate has counted it up to now.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyCounts(Arc<Mutex<Vec<PolicyStatistics>>>);

impl PolicyCounts {
    pub(super) fn set(&self, policies: Vec<PolicyStatistics>) {
        *self.lock() = policies;
    }

    /// Also after a panic elsewhere: it is set anew each time.
    fn lock(&self) -> MutexGuard<'_, Vec<PolicyStatistics>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for PolicyCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let policies = self.lock();
        let mut encode = |name, help, count: fn(&PolicyStatistics) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            let own = policies.len().min(SERIES_MAX - 1);
            for policy in &policies[..own] {
                let label = [("policy", policy.name.as_str())];
                family.encode_family(&label)?.encode_counter::<NoLabelSet, _, u64>(&count(policy), None)?;
            }
            if policies.len() > own {
                let rest = policies[own..].iter().map(count).sum();
                family
                    .encode_family(&[("policy", "other")])?
                    .encode_counter::<NoLabelSet, u64, u64>(&rest, None)?;
            }
            Ok(())
        };
        encode("rate_limiter_policy_hits", "Requests that a policy applied to", |policy| policy.matched)?;
        encode("rate_limiter_policy_denied", "Requests that a policy did not admit", |policy| policy.denied)
    }
}

/// How the policies were loaded again.
#[derive(Debug)]
pub(super) struct ReloadMetrics {
    succeeded: Counter,
    failed: Counter,
    last_succeeded: Gauge,
    loaded_at: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

impl ReloadMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let reloads = Family::<ReloadLabels, Counter>::default();
        registry.register(
            "rate_limiter_reloads",
            "Loads of the policies since the first, by result",
            reloads.clone(),
        );
        let result = |result| reloads.get_or_create(&ReloadLabels { result }).clone();
        let (last_succeeded, loaded_at) = (Gauge::default(), Gauge::default());
        registry.register(
            "rate_limiter_last_reload_successful",
            "Whether the policy files were right when they were loaded last",
            last_succeeded.clone(),
        );
        registry.register(
            "rate_limiter_config_loaded_timestamp_seconds",
            "When the policies in force were loaded",
            loaded_at.clone(),
        );
        Self { succeeded: result("ok"), failed: result("failed"), last_succeeded, loaded_at }
    }

    pub(super) fn set(&self, book: &Book) {
        let (reloads, last) = (book.reloads(), book.last());
        catch_up(&self.succeeded, reloads.succeeded);
        catch_up(&self.failed, reloads.failed);
        self.last_succeeded.set(i64::from(last.failure.is_none()));
        let since = last.loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.loaded_at.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    }
}
