//! One limit for each key.

use std::marker::PhantomData;
#[cfg(feature = "shaping")]
use std::time::Duration;

use smallvec::SmallVec;
use tollgate_core::{
    Answer, Decision, Group, Hit, Key, KeyBuilder, KeyHash, KeySeed, Limit, LimitId, Outcome, Source,
};
use tollgate_store::{LocalStore, MemoryStore, Store, StoreError, random_seed};

use crate::limiter::LimitOrQuota;
#[cfg(feature = "shaping")]
use crate::plugin::Said;
use crate::plugin::{Check, Observers};
use crate::reservation::Reservation;

/// Limits each key by itself: addresses, users, tenants, jobs.
///
/// Keys are typed by [`Key`]: texts, numbers, addresses, tuples of them, or your own. They are hashed and not kept.
///
/// The plain methods need a store in this process, and answer at once. Those that end in `_async` work with any
/// [`Store`].
///
/// ```
/// use std::net::IpAddr;
/// use tollgate::{KeyedLimiter, Limit, Quota};
///
/// let by_route = KeyedLimiter::<(IpAddr, &str)>::new(Limit::sliding_window(Quota::per_minute(5)));
/// let client: IpAddr = "203.0.113.7".parse()?;
/// assert!(by_route.check(&(client, "/login")).is_allowed());
/// assert_eq!(by_route.status(&(client, "/login")).remaining, 4);
/// assert_eq!(by_route.status(&(client, "/search")).remaining, 5);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct KeyedLimiter<K: ?Sized, S = MemoryStore> {
    limit: Limit,
    store: S,
    hasher: KeyBuilder,
    observers: Observers,
    // The limiter takes keys, and holds none.
    keys: PhantomData<fn(&K)>,
}

/// A limiter has one limit, so its store need not tell several apart.
const ONLY: LimitId = LimitId(0);

impl<K: Key + ?Sized> KeyedLimiter<K> {
    /// A limiter in memory, for at most a million keys that are under way at once. A
    /// [`Quota`](tollgate_core::Quota) makes a GCRA limit.
    pub fn new(limit: impl Into<LimitOrQuota>) -> Self {
        Self::with_store(limit, MemoryStore::default())
    }
}

impl<K: Key + ?Sized, S> KeyedLimiter<K, S> {
    /// A limiter on this store, which should serve no other limiter.
    ///
    /// ```
    /// use tollgate::{KeyedLimiter, MemoryOptions, MemoryStore, Overflow, Quota};
    ///
    /// let options = MemoryOptions { capacity: 50_000, overflow: Overflow::Deny, ..Default::default() };
    /// let limiter = KeyedLimiter::<u64, _>::with_store(Quota::per_second(10), MemoryStore::new(options));
    /// assert!(limiter.check(&7).is_allowed());
    /// ```
    pub fn with_store(limit: impl Into<LimitOrQuota>, store: S) -> Self {
        Self::with_seed(limit, store, &random_seed())
    }

    /// A limiter on this store, whose keys are hashed under this seed: the same on all nodes that share the store.
    pub fn with_seed(limit: impl Into<LimitOrQuota>, store: S, seed: &KeySeed) -> Self {
        let LimitOrQuota(limit) = limit.into();
        let hasher = KeyBuilder::new(seed);
        Self { limit, store, hasher, observers: Observers::default(), keys: PhantomData }
    }

    /// The same limiter, whose checks these [observers](crate::plugin) see, in the place of those that it had.
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// The rule.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The key on its way to its hash.
    #[inline(always)]
    fn hashed(&self, key: &K) -> KeyBuilder {
        let mut builder = self.hasher;
        key.write(&mut builder);
        builder
    }

    fn hash(&self, key: &K) -> KeyHash {
        self.hashed(key).finish()
    }

    fn hit(&self, key: &K, cost: u32) -> Hit<'_> {
        Hit::new(ONLY, self.hash(key), &self.limit).with_cost(cost)
    }

    fn reservation(&self, key: KeyHash, outcome: &Outcome) -> Result<Reservation, Decision> {
        let item = |grant| (key, self.limit, grant, outcome.source);
        outcome.grant.map(|grant| Reservation::new([item(grant)])).ok_or(outcome.decision)
    }
}

/// The only outcome of an answer to one hit. A store that answers with none denies.
fn only(answer: &Answer) -> Outcome {
    let denied = Outcome { decision: Decision::deny_all(), grant: None, source: Source::Memory };
    answer.outcomes.first().copied().unwrap_or(denied)
}

/// What a limiter says of several keys, in their order; on the stack while there are few.
pub type Decisions = SmallVec<[Decision; 16]>;

impl<K: Key + ?Sized, S: LocalStore> KeyedLimiter<K, S> {
    /// Asks for 1, and takes it if it is there.
    #[inline(always)]
    pub fn check(&self, key: &K) -> Decision {
        self.check_n(key, 1)
    }

    /// Asks for `cost` units, and takes them if all are there. 0 only looks.
    #[inline(always)]
    pub fn check_n(&self, key: &K, cost: u32) -> Decision {
        // One outcome for both, so that none is copied.
        let outcome = if self.observers.are_none() {
            self.store.acquire_one(&Hit::new(ONLY, self.hashed(key), &self.limit).with_cost(cost))
        } else {
            self.acquire_observed(key, cost)
        };
        outcome.decision
    }

    /// Asks for `cost` units where somebody observes. Not inlined, so that it burdens no caller whom nobody does.
    #[cold]
    #[inline(never)]
    fn acquire_observed(&self, key: &K, cost: u32) -> Outcome {
        self.acquire(&self.hit(key, cost))
    }

    fn acquire(&self, hit: &Hit<'_>) -> Outcome {
        let groups = [Group::all(std::slice::from_ref(hit))];
        let acquire = || self.store.acquire_one(hit);
        self.observers.watch(&Check::of(&groups), acquire, |outcome| outcome.decision)
    }

    /// Asks for 1 of each of several keys, and says what [`check`](Self::check) would say of one after the other. It is
    /// three to four times as fast where the keys are many, as their states are fetched from memory all at once, and the
    /// clock is read once.
    ///
    /// For callers that get requests in batches: pipelines, queues, lists of descriptors. A key that occurs twice is
    /// asked twice.
    ///
    /// ```
    /// use tollgate::{KeyedLimiter, Quota};
    ///
    /// let limiter = KeyedLimiter::<str>::new(Quota::per_hour(1));
    /// let decisions = limiter.check_many(&["ann", "bob", "ann"]);
    /// let allowed: Vec<bool> = decisions.iter().map(|decision| decision.is_allowed()).collect();
    /// assert_eq!(allowed, [true, true, false]);
    /// ```
    #[inline]
    pub fn check_many(&self, keys: &[&K]) -> Decisions {
        if !self.observers.are_none() {
            return keys.iter().map(|key| self.acquire_observed(key, 1).decision).collect();
        }
        let mut decisions = Decisions::with_capacity(keys.len());
        let hashed = keys.iter().map(|key| self.hashed(key));
        let push = |outcome: Outcome| decisions.push(outcome.decision);
        self.store.acquire_each_at(self.store.now(), &Hit::new(ONLY, (), &self.limit), hashed, push);
        decisions
    }

    /// Like [`check_n`](Self::check_n), with a receipt by which the cost can be given back.
    ///
    /// # Errors
    /// The decision, if the request is denied.
    ///
    /// ```
    /// use tollgate::{KeyedLimiter, Quota};
    ///
    /// let limiter = KeyedLimiter::<str>::new(Quota::per_hour(10));
    /// if let Ok(reservation) = limiter.reserve("job", 8) {
    ///     // The job was cancelled before it began.
    ///     limiter.refund(reservation);
    /// }
    /// assert_eq!(limiter.status("job").remaining, 10);
    /// ```
    pub fn reserve(&self, key: &K, cost: u32) -> Result<Reservation, Decision> {
        let hit = self.hit(key, cost);
        self.reservation(hit.key, &self.acquire(&hit))
    }

    /// Like [`reserve`](Self::reserve), with what was decided. What `delay` says of that is what observers are told.
    #[cfg(feature = "shaping")]
    pub(crate) fn reserve_decided(
        &self,
        key: &K,
        cost: u32,
        delay: impl FnOnce(&Decision) -> Duration,
    ) -> Result<(Reservation, Duration), Decision> {
        let hit = self.hit(key, cost);
        let groups = [Group::all(std::slice::from_ref(&hit))];
        let watch = self.observers.begin(&Check::of(&groups));
        let outcome = self.store.acquire_one(&hit);
        let Decision { allowed, .. } = outcome.decision;
        let delay = if allowed { delay(&outcome.decision) } else { Duration::ZERO };
        if let Some(watch) = watch {
            watch.decided_with(&Check::of(&groups), Said::Decision(&outcome.decision), allowed, delay);
        }
        Ok((self.reservation(hit.key, &outcome)?, delay))
    }

    /// Gives back what was reserved. What the limit has recovered by itself since is not given twice.
    pub fn refund(&self, reservation: Reservation) {
        reservation.give_back(|refunds| LocalStore::refund(&self.store, refunds));
    }

    /// Says what [`check_n`](Self::check_n) would, and takes nothing.
    pub fn peek(&self, key: &K, cost: u32) -> Decision {
        only(&LocalStore::peek(&self.store, &[Group::all(&[self.hit(key, cost)])])).decision
    }

    /// What is left for a key, and when its limit is whole again.
    pub fn status(&self, key: &K) -> Decision {
        self.peek(key, 0)
    }

    /// Forgets a key: it is as new.
    pub fn reset(&self, key: &K) {
        LocalStore::reset(&self.store, &[self.hash(key)]);
    }
}

/// The same on any store. Each method's errors are those of the store.
#[allow(clippy::missing_errors_doc)]
impl<K: Key + ?Sized, S: Store> KeyedLimiter<K, S> {
    /// Asks for 1, and takes it if it is there.
    pub async fn check_async(&self, key: &K) -> Result<Decision, StoreError> {
        self.check_n_async(key, 1).await
    }

    /// Asks for `cost` units, and takes them if all are there. 0 only looks.
    pub async fn check_n_async(&self, key: &K, cost: u32) -> Result<Decision, StoreError> {
        Ok(self.acquire_async(&self.hit(key, cost)).await?.decision)
    }

    async fn acquire_async(&self, hit: &Hit<'_>) -> Result<Outcome, StoreError> {
        let groups = [Group::all(std::slice::from_ref(hit))];
        let acquire = async || Ok(only(&Store::acquire(&self.store, &groups).await?));
        self.observers.watch_async(&Check::of(&groups), acquire(), |outcome| outcome.decision).await
    }

    /// Like [`check_n_async`](Self::check_n_async), with a receipt by which the cost can be given back; or the decision
    /// that denies it.
    pub async fn reserve_async(
        &self,
        key: &K,
        cost: u32,
    ) -> Result<Result<Reservation, Decision>, StoreError> {
        let hit = self.hit(key, cost);
        Ok(self.reservation(hit.key, &self.acquire_async(&hit).await?))
    }

    /// Like [`reserve_async`](Self::reserve_async), with what was decided.
    #[cfg(feature = "outgoing")]
    pub(crate) async fn reserve_decided_async(
        &self,
        key: &K,
        cost: u32,
    ) -> Result<Result<(Reservation, Decision), Decision>, StoreError> {
        let hit = self.hit(key, cost);
        let outcome = self.acquire_async(&hit).await?;
        Ok(self.reservation(hit.key, &outcome).map(|reservation| (reservation, outcome.decision)))
    }

    /// Gives back what was reserved.
    pub async fn refund_async(&self, reservation: Reservation) -> Result<(), StoreError> {
        Store::refund(&self.store, &reservation.refunds()).await
    }

    /// Says what [`check_n_async`](Self::check_n_async) would, and takes nothing.
    pub async fn peek_async(&self, key: &K, cost: u32) -> Result<Decision, StoreError> {
        let hits = [self.hit(key, cost)];
        Ok(only(&Store::peek(&self.store, &[Group::all(&hits)]).await?).decision)
    }

    /// What is left for a key, and when its limit is whole again.
    pub async fn status_async(&self, key: &K) -> Result<Decision, StoreError> {
        self.peek_async(key, 0).await
    }

    /// Forgets a key: it is as new.
    pub async fn reset_async(&self, key: &K) -> Result<(), StoreError> {
        Store::reset(&self.store, &[self.hash(key)]).await
    }
}
