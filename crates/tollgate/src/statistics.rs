//! What a gate has seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a gate has decided since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Requests that passed.
    pub allowed: u64,
    /// Requests that were denied.
    pub denied: u64,
    /// Whether the store can be asked: always, for one in this process.
    pub store_available: bool,
    /// How often in a row the store failed, up to now.
    pub consecutive_failures: u64,
    /// The mean time of a decision, of one in sixty-four of them; zero before the first.
    pub mean_latency: Duration,
    /// How many policies are switched on.
    pub active_policies: u64,
    /// What each policy said, in the order of the configuration.
    pub policies: Vec<PolicyStatistics>,
}

/// What one policy has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyStatistics {
    /// The policy's name.
    pub name: String,
    /// Whether it is switched on.
    pub is_enabled: bool,
    /// Whether it only watches.
    pub is_shadow: bool,
    /// Requests that it applied to.
    pub matched: u64,
    /// How many of them it did not admit, as a shadow too.
    pub denied: u64,
}

/// The counters behind [`Statistics`]. All orderings are relaxed: each counter stands for itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    allowed: AtomicU64,
    denied: AtomicU64,
    sampled: AtomicU64,
    sampled_nanos: AtomicU64,
}

/// Every how many decisions one is timed.
const SAMPLE: u64 = 64;

impl Counters {
    /// Whether the next decision is to be timed.
    pub(crate) fn is_sampled(&self) -> bool {
        (self.allowed.load(Ordering::Relaxed) + self.denied.load(Ordering::Relaxed)).is_multiple_of(SAMPLE)
    }

    pub(crate) fn record(&self, allowed: bool, took: Option<Duration>) {
        let total = if allowed { &self.allowed } else { &self.denied };
        total.fetch_add(1, Ordering::Relaxed);
        if let Some(took) = took {
            self.sampled.fetch_add(1, Ordering::Relaxed);
            self.sampled_nanos
                .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// All but what is known of policies.
    pub(crate) fn read(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            allowed: read(&self.allowed),
            denied: read(&self.denied),
            store_available: true,
            mean_latency: Duration::from_nanos(
                read(&self.sampled_nanos).checked_div(read(&self.sampled)).unwrap_or(0),
            ),
            ..Statistics::default()
        }
    }
}
