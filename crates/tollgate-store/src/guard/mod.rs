//! What happens when a store that others share cannot be asked.
//!
//! A [`Guarded`] store asks the one behind it as long as that answers. When it fails, the [`OnFailure`] choice of each limit decides
//! instead, and a [breaker](Phase) spares requests the waiting: while it is open nobody asks but a probe, now and then, and as soon
//! as one succeeds the store decides again.
//!
//! Only unavailability is met so. A store that says that it was asked something wrong is a defect, and that is passed
//! on.

mod breaker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_core::{
    Answer, Decision, Group, Hit, KeyHash, Limit, Nanos, OnFailure, Outcome, Retry, Share, Source,
};

pub use self::breaker::Phase;

use self::breaker::Breaker;
use crate::lease::Common;
use crate::memory::MemoryStore;
use crate::regroup::{grouped, shape};
use crate::seed::random_below;
use crate::store::{LocalStore, Refund, Store, StoreError};
use crate::together::hits;

/// A store that may fail, and that can be asked whether it is well.
pub trait Remote: Store + 'static {
    /// Asks the store for a sign of life, and changes nothing.
    ///
    /// # Errors
    /// If there is none.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What a [`Guarded`] store does while the one behind it is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuardOptions {
    /// Who decides then, for limits that do not say so themselves.
    pub on_failure: OnFailure,
    /// By which part of each limit this node decides when it does so alone. The shares of all nodes together are at most
    /// the limit.
    pub share: Share,
    /// The longest pause between two probes of a store that is not asked; the actual ones are drawn between nothing and
    /// that.
    pub pause: Duration,
}

impl Default for GuardOptions {
    /// This node decides alone, by the whole limit, which is right for one node and too much for many; and a quarter of a
    /// second.
    fn default() -> Self {
        Self { on_failure: OnFailure::Local, share: Share::WHOLE, pause: Duration::from_millis(250) }
    }
}

/// A store that goes on when the one behind it fails.
#[derive(Debug)]
pub struct Guarded<S> {
    remote: Arc<S>,
    local: MemoryStore,
    options: GuardOptions,
    breaker: Arc<Breaker>,
}

impl<S: Remote> Guarded<S> {
    /// Guards a store. `local` is where this node counts while it decides alone.
    pub fn new(remote: S, local: MemoryStore, options: GuardOptions) -> Self {
        Self { remote: Arc::new(remote), local, options, breaker: Arc::default() }
    }

    /// The store behind.
    pub fn remote(&self) -> &S {
        &self.remote
    }

    /// Where this node counts while it decides alone.
    pub const fn local(&self) -> &MemoryStore {
        &self.local
    }

    /// Whether the store behind is asked.
    pub fn phase(&self) -> Phase {
        self.breaker.phase()
    }

    /// How often in a row the store behind has failed.
    pub fn consecutive_failures(&self) -> u64 {
        self.breaker.failures()
    }

    /// Asks the store behind for a sign of life, as a request would: what comes of it counts like any answer.
    ///
    /// # Errors
    /// If there is none, or if the store is not asked at the moment.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.ask(self.remote.probe()).await
    }

    /// Who decides while the store behind cannot be asked, for limits with this choice of their own, if they have one. A grace
    /// that is over is `Deny`.
    pub fn decides_alone(&self, own: Option<OnFailure>) -> OnFailure {
        self.choice(own, self.breaker.failing_for(Instant::now()))
    }

    fn choice(&self, own: Option<OnFailure>, lasted: Duration) -> OnFailure {
        match own.unwrap_or(self.options.on_failure) {
            OnFailure::Allow { grace } if lasted >= Duration::from(grace) => OnFailure::Deny,
            choice => choice,
        }
    }

    /// Asks the store behind, if that is worth it. Where that is not, it is unavailable as if it had been asked.
    async fn ask<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if self.breaker.phase() != Phase::Closed {
            return Err(StoreError::Unavailable("it was not asked, as it failed a moment ago".to_owned()));
        }
        let result = work.await;
        if let Err(error @ StoreError::Unavailable(_)) = &result {
            if self.breaker.failed(Instant::now()) {
                tracing::warn!(target: "tollgate::store", %error, "the store is unavailable: decided without it");
                self.watch();
            }
        } else {
            self.breaker.succeeded();
        }
        result
    }

    /// Probes the store until it is well again.
    fn watch(&self) {
        let (remote, breaker, pause) =
            (Arc::downgrade(&self.remote), Arc::clone(&self.breaker), self.options.pause);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(random_below(pause)).await;
                // Whoever is gone needs no store.
                let Some(remote) = remote.upgrade() else { return };
                breaker.probing(true);
                if remote.probe().await.is_ok() {
                    let lasted = breaker.failing_for(Instant::now());
                    breaker.succeeded();
                    tracing::info!(target: "tollgate::store", ?lasted, "the store answers again");
                    return;
                }
                breaker.probing(false);
            }
        });
    }

    /// Decides without the store, each group by its own choice.
    fn alone(
        &self,
        groups: &[Group<'_>],
        error: StoreError,
        decide: impl FnOnce(&MemoryStore, &[Group<'_>]) -> Answer,
    ) -> Result<Answer, StoreError> {
        let lasted = self.breaker.failing_for(Instant::now());
        let choice = |group: &Group<'_>| self.choice(group.sharing.on_failure, lasted);
        // What only watches does not stand in the way.
        if groups.iter().any(|group| !group.shadow && choice(group) == OnFailure::Deny) {
            return Err(error);
        }
        let counts = |group: &Group<'_>| choice(group) == OnFailure::Local;
        let counted: Vec<Group<'_>> = groups.iter().filter(|group| counts(group)).copied().collect();
        let answer = by_share(&counted, self.options.share, |groups| decide(&self.local, groups));
        let mut own = answer.outcomes.into_iter();
        let outcome = |(hit, counts): (&Hit<'_>, bool)| {
            if counts {
                own.next().map(|outcome| Outcome { source: Source::Fallback, ..outcome })
            } else {
                Some(passed(hit))
            }
        };
        let outcomes = groups
            .iter()
            .flat_map(|group| group.hits.iter().map(move |hit| (hit, counts(group))))
            .filter_map(outcome)
            .collect();
        Ok(Answer { allowed: answer.allowed, outcomes })
    }
}

/// Asks a request with limits that are this node's share.
fn by_share<R>(groups: &[Group<'_>], share: Share, decide: impl FnOnce(&[Group<'_>]) -> R) -> R {
    let limits: Vec<Limit> = hits(groups).map(|hit| hit.limit.share(share)).collect();
    let own: Vec<Hit<'_>> =
        hits(groups).zip(&limits).map(|(hit, limit)| Hit { limit, formers: &[], ..*hit }).collect();
    decide(&grouped(groups.iter().map(shape), &own))
}

/// The outcome of a hit that nobody counts.
fn passed(hit: &Hit<'_>) -> Outcome {
    let limit = hit.limit.capacity();
    let decision = Decision {
        allowed: true,
        limit,
        remaining: limit,
        retry_after: Retry::Now,
        reset_after: Nanos::ZERO,
    };
    Outcome { decision, grant: None, source: Source::Fallback }
}

impl<S: Remote> Common for Guarded<S> {
    async fn acquire_shared(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.ask(self.remote.acquire(groups)).await
    }

    fn acquire_alone(&self, groups: &[Group<'_>], error: StoreError) -> Result<Answer, StoreError> {
        match error {
            error @ StoreError::Unavailable(_) => self.alone(groups, error, LocalStore::acquire),
            error => Err(error),
        }
    }
}

impl<S: Remote> Store for Guarded<S> {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self.acquire_shared(groups).await {
            Err(error) => self.acquire_alone(groups, error),
            answer => answer,
        }
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self.ask(self.remote.peek(groups)).await {
            Err(error @ StoreError::Unavailable(_)) => self.alone(groups, error, LocalStore::peek),
            result => result,
        }
    }

    /// What this node took while it decided alone is given back here, all else to the store behind.
    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        let (own, others): (Vec<Refund<'_>>, Vec<Refund<'_>>) =
            refunds.iter().partition(|refund| refund.source == Source::Fallback);
        for refund in own {
            let limit = refund.limit.share(self.options.share);
            LocalStore::refund(&self.local, &[Refund { limit: &limit, ..refund }]);
        }
        if others.is_empty() { Ok(()) } else { self.ask(self.remote.refund(&others)).await }
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        LocalStore::reset(&self.local, keys);
        self.ask(self.remote.reset(keys)).await
    }
}
