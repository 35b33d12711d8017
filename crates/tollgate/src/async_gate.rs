//! A gate whose store has to be waited for, in front of a service.

use std::sync::Arc;

use tollgate_core::Clock;
use tollgate_http::{Checking, Gatekeeper, Undecided};
use tollgate_policy::{Attributes, Settlement, Verdict};
use tollgate_store::{Store, SystemClock};

use crate::gate::Gate;

/// A [`Gate`] on a store over the network, as middleware needs it. Clones share it.
///
/// Middleware of a gate in this process's memory decides at once, and needs no such wrapping.
///
/// ```
/// # #[cfg(feature = "redis")] {
/// use tollgate::http::RateLimitLayer;
/// use tollgate::redis::{RedisOptions, RedisStore};
/// use tollgate::{AsyncGate, Config, Gate};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new(&RedisOptions::new("redis://127.0.0.1"))?;
/// let layer = RateLimitLayer::new(AsyncGate::new(Gate::with_store(Config::example(), store)));
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncGate<S> {
    gate: Arc<Gate<S>>,
    /// The time for schedules: budgets are counted on the store's own.
    clock: SystemClock,
}

impl<S> AsyncGate<S> {
    /// Wraps a gate. To keep it at hand for other uses, pass an `Arc` of it.
    pub fn new(gate: impl Into<Arc<Gate<S>>>) -> Self {
        Self { gate: gate.into(), clock: SystemClock::new() }
    }

    /// The gate.
    pub const fn gate(&self) -> &Arc<Gate<S>> {
        &self.gate
    }
}

impl<S> Clone for AsyncGate<S> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), clock: self.clock }
    }
}

impl<S: Store + 'static> Gatekeeper for AsyncGate<S> {
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
        let gate = Arc::clone(&self.gate);
        let (now, policies) = (self.clock.now(), gate.policies());
        let asked = policies.plan(request, now, cost).detach(&policies);
        let decide = async move { gate.decide_async(now, asked).await.map_err(Undecided::new) };
        Checking::Waiting(Box::pin(decide))
    }

    /// It must be called within a Tokio runtime, as services are.
    fn settle(self: &Arc<Self>, verdict: &Verdict, settlement: Settlement) {
        let (gate, verdict) = (Arc::clone(&self.gate), verdict.clone());
        tokio::spawn(async move {
            if let Err(error) = gate.settle_async(&verdict, settlement).await {
                tracing::warn!(target: "tollgate::store", %error, "a request was not charged for what it really cost");
            }
        });
    }
}
