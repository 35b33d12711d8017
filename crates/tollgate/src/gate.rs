//! Policies and a store together.

use std::sync::Arc;
use std::time::Instant;

use tollgate_core::{KeyHash, KeySeed, Timestamp};
use tollgate_policy::{Attributes, Config, Plan, PolicySet, Verdict};
use tollgate_store::{LocalStore, MemoryStore, Store, StoreError, random_seed};

use crate::reservation::Reservation;
use crate::statistics::{Counters, Statistics};

/// Decides requests by a policy file.
///
/// The plain methods need a store in this process, and answer at once. Those that end in `_async` work with any
/// [`Store`].
///
/// ```
/// use tollgate::{Config, Gate, Request};
///
/// let gate = Gate::new(Config::example());
/// let request = Request::new("GET", "/api/v2/orders").with_api_key("k-123");
/// let verdict = gate.check(&request);
/// assert!(verdict.is_allowed());
/// let tightest = verdict.deciding().expect("a policy of the example applies");
/// assert_eq!((tightest.policy.name(), tightest.remaining()), ("api-v2", 99));
/// ```
#[derive(Debug)]
pub struct Gate<S = MemoryStore> {
    policies: Arc<PolicySet>,
    store: S,
    counters: Counters,
}

impl Gate {
    /// A gate whose state is in this process's memory.
    pub fn new(config: Config) -> Self {
        Self::with_store(config, MemoryStore::default())
    }
}

impl<S> Gate<S> {
    /// A gate on this store.
    pub fn with_store(config: Config, store: S) -> Self {
        Self::with_seed(config, store, random_seed())
    }

    /// A gate on this store, whose keys are hashed under this seed: the same on all nodes that share the store.
    pub fn with_seed(config: Config, store: S, seed: KeySeed) -> Self {
        let policies = Arc::new(PolicySet::new(config, seed));
        let counters = Counters::new(policies.policies().len());
        Self { policies, store, counters }
    }

    /// The policies.
    pub const fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// What the gate has decided so far, and how it fares.
    pub fn status(&self) -> Statistics {
        self.counters.read(&self.policies)
    }

    fn timer(&self) -> Option<Instant> {
        self.counters.is_sampled().then(Instant::now)
    }

    fn record(&self, verdict: &Verdict, timer: Option<Instant>) {
        self.counters.record(verdict, timer.map(|started| started.elapsed()));
    }
}

impl<S: LocalStore> Gate<S> {
    /// Decides a request. If it passes, its cost is taken from every policy that applies; if not, from none.
    pub fn check(&self, request: &(impl Attributes + ?Sized)) -> Verdict {
        self.check_at(self.store.now(), request, None)
    }

    /// Like [`check`](Self::check), at this cost instead of the policies'.
    pub fn check_n(&self, request: &(impl Attributes + ?Sized), cost: u32) -> Verdict {
        self.check_at(self.store.now(), request, Some(cost))
    }

    /// Like [`check`](Self::check) or [`check_n`](Self::check_n) at a given time, for callers that have just read the
    /// store's clock, or that bring their own.
    pub fn check_at(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized),
        cost: Option<u32>,
    ) -> Verdict {
        let timer = self.timer();
        let plan = self.policies.plan(request, now, cost);
        let answer = self.store.acquire_at(now, &plan.groups());
        let verdict = plan.verdict(&self.policies, answer);
        self.record(&verdict, timer);
        verdict
    }

    /// Decides several requests, and says what [`check`](Self::check) would say of one after the other: their states are
    /// fetched from memory all at once, and the clock is read once.
    ///
    /// ```
    /// use tollgate::{Config, Gate, Request};
    ///
    /// let gate = Gate::new(Config::example());
    /// let orders = Request::new("GET", "/api/v2/orders").with_api_key("k-123");
    /// let verdicts = gate.check_many(&[orders.clone(), orders]);
    /// assert!(verdicts.iter().all(|verdict| verdict.is_allowed()));
    /// ```
    pub fn check_many(&self, requests: &[impl Attributes]) -> Vec<Verdict> {
        let now = self.store.now();
        let plans: Vec<Plan<'_>> =
            requests.iter().map(|request| self.policies.plan(request, now, None)).collect();
        for hit in plans.iter().flat_map(Plan::hits) {
            self.store.prefetch(hit.key);
        }
        let decide = |plan: Plan<'_>| {
            let timer = self.timer();
            let answer = self.store.acquire_at(now, &plan.groups());
            let verdict = plan.verdict(&self.policies, answer);
            self.record(&verdict, timer);
            verdict
        };
        plans.into_iter().map(decide).collect()
    }

    /// Like [`check`](Self::check), with a receipt by which the cost can be given back; `None` if the request is denied.
    pub fn reserve(
        &self,
        request: &(impl Attributes + ?Sized),
        cost: Option<u32>,
    ) -> (Verdict, Option<Reservation>) {
        let timer = self.timer();
        let now = self.store.now();
        let plan = self.policies.plan(request, now, cost);
        let answer = self.store.acquire_at(now, &plan.groups());
        let reservation = answer.allowed.then(|| reservation(&plan, &answer));
        let verdict = plan.verdict(&self.policies, answer);
        self.record(&verdict, timer);
        (verdict, reservation)
    }

    /// Gives back what was reserved. What limits have recovered by themselves since is not given twice.
    pub fn refund(&self, reservation: Reservation) {
        reservation.give_back(|refunds| LocalStore::refund(&self.store, refunds));
    }

    /// Says what [`check`](Self::check) would, at the policies' cost or at another, and takes nothing.
    pub fn peek(&self, request: &(impl Attributes + ?Sized), cost: Option<u32>) -> Verdict {
        let now = self.store.now();
        let plan = self.policies.plan(request, now, cost);
        let answer = self.store.peek_at(now, &plan.groups());
        plan.verdict(&self.policies, answer)
    }

    /// Forgets what a request's keys have spent, under all policies that apply or under one of them. Returns the names of
    /// the policies whose state was reset.
    pub fn reset(&self, request: &(impl Attributes + ?Sized), policy: Option<usize>) -> Vec<&str> {
        let (keys, names) = self.reset_keys(self.store.now(), request, policy);
        LocalStore::reset(&self.store, &keys);
        names
    }
}

/// The same on any store. Each method's errors are those of the store.
#[allow(clippy::missing_errors_doc)]
impl<S: Store> Gate<S> {
    /// Decides a request at `now`, at the policies' cost or at another. The time is only that of schedules: budgets are
    /// counted on the store's own clock.
    pub async fn check_async(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized + Sync),
        cost: Option<u32>,
    ) -> Result<Verdict, StoreError> {
        let timer = self.timer();
        let plan = self.policies.plan(request, now, cost);
        let answer = Store::acquire(&self.store, &plan.groups()).await?;
        let verdict = plan.verdict(&self.policies, answer);
        self.record(&verdict, timer);
        Ok(verdict)
    }

    /// Says what [`check_async`](Self::check_async) would, and takes nothing.
    pub async fn peek_async(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized + Sync),
        cost: Option<u32>,
    ) -> Result<Verdict, StoreError> {
        let plan = self.policies.plan(request, now, cost);
        let answer = Store::peek(&self.store, &plan.groups()).await?;
        Ok(plan.verdict(&self.policies, answer))
    }

    /// Forgets what a request's keys have spent, under all policies that apply or under one of them.
    pub async fn reset_async(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized + Sync),
        policy: Option<usize>,
    ) -> Result<Vec<&str>, StoreError> {
        let (keys, names) = self.reset_keys(now, request, policy);
        Store::reset(&self.store, &keys).await?;
        Ok(names)
    }
}

impl<S> Gate<S> {
    fn reset_keys(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized),
        policy: Option<usize>,
    ) -> (Vec<KeyHash>, Vec<&str>) {
        let mut plan = self.policies.plan(request, now, None);
        if let Some(policy) = policy {
            plan.retain(policy);
        }
        let keys = plan.hits().iter().map(|hit| hit.key).collect();
        (keys, plan.policies().map(tollgate_policy::Policy::name).collect())
    }
}

fn reservation(plan: &Plan<'_>, answer: &tollgate_core::Answer) -> Reservation {
    let taken = plan.hits().iter().zip(&answer.outcomes);
    Reservation::new(
        taken.filter_map(|(hit, outcome)| Some((hit.key, *hit.limit, outcome.grant?, outcome.source))),
    )
}

#[cfg(feature = "tower")]
impl<S: LocalStore> tollgate_http::Gatekeeper for Gate<S> {
    fn check<A: Attributes + ?Sized>(&self, request: &A) -> Verdict {
        Gate::check(self, request)
    }
}
