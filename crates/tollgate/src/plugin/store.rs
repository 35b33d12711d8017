//! A store whose answers are seen.

use tollgate_core::{Answer, Group, KeyHash};
use tollgate_store::{Refund, Store, StoreError};

use super::observer::{Check, Observers, Said};

/// A store whose answers are [observed](super::Observer): for what asks a store by itself, such as `check_descriptors`, and for what is behind
/// a guard, which decides alone while that fails.
///
/// ```
/// use tollgate::plugin::{Check, ObservedStore, Observer, Observers};
/// use tollgate::{KeyedLimiter, MemoryStore, Quota, StoreError};
///
/// struct Alarm;
///
/// impl Observer for Alarm {
///     fn failed(&self, _: &Check<'_>, error: &StoreError) {
///         eprintln!("limits are not counted: {error}");
///     }
/// }
///
/// # async fn example() -> Result<(), StoreError> {
/// let store = ObservedStore::new(MemoryStore::default(), Observers::new(Alarm));
/// let limiter = KeyedLimiter::<str, _>::with_store(Quota::per_minute(100), store);
/// assert!(limiter.check_async("203.0.113.7").await?.is_allowed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ObservedStore<S> {
    store: S,
    observers: Observers,
}

impl<S> ObservedStore<S> {
    /// This store, whose answers these observers see.
    pub const fn new(store: S, observers: Observers) -> Self {
        Self { store, observers }
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }
}

impl<S: Store> Store for ObservedStore<S> {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let check = Check::of(groups);
        let watch = self.observers.begin(&check);
        let answer = self.store.acquire(groups).await;
        if let Some(watch) = watch {
            match &answer {
                Ok(answer) => watch.decided(&check, Said::Answer(answer)),
                Err(error) => watch.failed(&check, error),
            }
        }
        answer
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.store.peek(groups).await
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.store.refund(refunds).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        self.store.reset(keys).await
    }
}

#[cfg(feature = "shared")]
impl<S: tollgate_store::guard::Remote> tollgate_store::guard::Remote for ObservedStore<S> {
    async fn probe(&self) -> Result<(), StoreError> {
        self.store.probe().await
    }
}
