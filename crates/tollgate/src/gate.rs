//! Policies and a store together.

mod reload;
pub(crate) mod spans;
mod together;
mod uses;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tollgate_core::{Answer, Grant, Group, Hit, KeyHash, KeySeed, Nanos, Outcome, Sharing, Timestamp};
use tollgate_policy::{Asked, Attributes, Config, KeyPart, Plan, PolicySet, Settlement, Single, Verdict};
use tollgate_store::{LocalStore, MemoryStore, Refund, Store, StoreError, random_seed};

use crate::bans::{Ban, Bans};
use crate::charge::charge;
use crate::limiter::LimitOrQuota;
use crate::plugin::Observers;
use crate::reservation::Reservation;
use crate::statistics::{Counters, Statistics};
use crate::usage::{Noted, UseRecord};

use self::reload::{Current, Reloads};

pub use self::reload::Changes;
pub use self::together::Ask;

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
    /// The policies, which can be replaced at any time.
    current: ArcSwap<Current>,
    reloads: Reloads,
    store: S,
    counters: Counters,
    bans: Bans,
    uses: Option<UseRecord>,
    observers: Observers,
}

impl Gate {
    /// A gate whose state is in this process's memory.
    pub fn new(config: Config) -> Self {
        Self::with_store(config, MemoryStore::default())
    }

    /// A gate with a single limit, for every request that has this key, in this process's memory.
    ///
    /// ```
    /// use tollgate::{Gate, KeyPart, Quota, Request};
    ///
    /// let gate = Gate::per("api_key | ip".parse::<KeyPart>()?, Quota::per_minute(100));
    /// assert!(gate.check(&Request::default().with_api_key("k-123")).is_allowed());
    /// # Ok::<(), tollgate::UnknownKey>(())
    /// ```
    pub fn per(key: impl Into<KeyPart>, limit: impl Into<LimitOrQuota>) -> Self {
        Self::new(Config::single([key.into()], limit.into().0))
    }
}

impl<S> Gate<S> {
    /// A gate on this store.
    pub fn with_store(config: Config, store: S) -> Self {
        Self::with_seed(config, store, random_seed())
    }

    /// A gate on this store, whose keys are hashed under this seed: the same on all nodes that share the store.
    pub fn with_seed(config: Config, store: S, seed: KeySeed) -> Self {
        let policies = PolicySet::new(config, seed);
        let bans = Bans::new(&policies);
        Self {
            current: ArcSwap::from_pointee(Current::new(policies)),
            reloads: Reloads::default(),
            store,
            counters: Counters::default(),
            bans,
            uses: None,
            observers: Observers::default(),
        }
    }

    /// The policies, as they are now.
    pub fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.current.load().policies)
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// What the gate has decided so far, and how it fares.
    pub fn status(&self) -> Statistics {
        let mut status = self.counters.read();
        self.current.load().describe(&mut status);
        status
    }

    fn timer(&self) -> Option<Instant> {
        self.counters.is_sampled().then(Instant::now)
    }

    #[inline]
    fn record_single(
        &self,
        current: &Current,
        single: &Single<'_>,
        outcome: &Outcome,
        timer: Option<Instant>,
    ) {
        self.counters.record(single.is_allowed(outcome), timer.map(|started| started.elapsed()));
        current.record(std::iter::once((single.policy(), outcome.decision.allowed)));
    }

    fn record(&self, current: &Current, verdict: &Verdict, timer: Option<Instant>) {
        self.counters.record(verdict.is_allowed(), timer.map(|started| started.elapsed()));
        current.record(verdict.admissions());
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
        let current = self.current.load();
        if let Some(single) = self.single(&current, request, now, cost) {
            let outcome = self.store.acquire_one_at(now, single.hit());
            self.record_single(&current, &single, &outcome, timer);
            return single.verdict(&current.policies, outcome);
        }
        self.decide(&current, now, current.policies.plan(request, now, cost), timer)
    }

    fn decide(&self, current: &Current, now: Timestamp, plan: Plan<'_>, timer: Option<Instant>) -> Verdict {
        let watched = self.watch(&current.policies, &plan);
        let verdict = self.verdict_of_ban(&current.policies, now, &plan).unwrap_or_else(|| {
            let answer = self.store.acquire_at(now, &plan.groups());
            let verdict = plan.verdict(&current.policies, answer);
            self.bans.note(now, &current.policies, &verdict);
            self.wait(self.note(now, &verdict));
            verdict
        });
        self.record(current, &verdict, timer);
        if let Some(watched) = watched {
            watched.decided(&verdict, verdict.is_allowed());
        }
        verdict
    }

    /// Like [`check`](Self::check) or [`check_n`](Self::check_n), with a verdict only if the request is denied, which costs less.
    ///
    /// ```
    /// use tollgate::{Gate, KeyPart, Quota, Request};
    ///
    /// let gate = Gate::per(KeyPart::Ip, Quota::per_hour(1));
    /// let request = Request::default().with_ip("203.0.113.7".parse()?);
    /// assert!(gate.refusal(&request, None).is_none());
    /// assert!(gate.refusal(&request, None).is_some());
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn refusal(&self, request: &(impl Attributes + ?Sized), cost: Option<u32>) -> Option<Verdict> {
        let timer = self.timer();
        let now = self.store.now();
        let current = self.current.load();
        if let Some(single) = self.single(&current, request, now, cost) {
            let outcome = self.store.acquire_one_at(now, single.hit());
            self.record_single(&current, &single, &outcome, timer);
            return (!single.is_allowed(&outcome)).then(|| single.verdict(&current.policies, outcome));
        }
        let plan = current.policies.plan(request, now, cost);
        if !self.bans.are_idle() || self.uses.is_some() || !self.observers.are_none() {
            return Some(self.decide(&current, now, plan, timer)).filter(|verdict| !verdict.is_allowed());
        }
        let answer = self.store.acquire_at(now, &plan.groups());
        if answer.allowed {
            self.counters.record(true, timer.map(|started| started.elapsed()));
            current.record(plan.admissions(&answer.outcomes));
            return None;
        }
        let verdict = plan.verdict(&current.policies, answer);
        self.record(&current, &verdict, timer);
        Some(verdict)
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
        let current = self.current.load();
        let plans: Vec<Plan<'_>> =
            requests.iter().map(|request| current.policies.plan(request, now, None)).collect();
        for hit in plans.iter().flat_map(Plan::hits) {
            self.store.prefetch(hit.key);
        }
        plans.into_iter().map(|plan| self.decide(&current, now, plan, self.timer())).collect()
    }

    /// Like [`check`](Self::check), with a receipt by which the cost can be given back; `None` if the request is denied.
    pub fn reserve(
        &self,
        request: &(impl Attributes + ?Sized),
        cost: Option<u32>,
    ) -> (Verdict, Option<Reservation>) {
        let now = self.store.now();
        let current = self.current.load();
        let verdict = self.decide(&current, now, current.policies.plan(request, now, cost), self.timer());
        let reservation = verdict.is_allowed().then(|| reservation(now, &verdict));
        (verdict, reservation)
    }

    /// Gives back what was reserved. What limits have recovered by themselves since is not given twice.
    pub fn refund(&self, mut reservation: Reservation) {
        let noted = reservation.take_noted();
        reservation.give_back(|refunds| LocalStore::refund(&self.store, refunds));
        self.wait(self.note_back(&noted));
    }

    /// Charges a request that has passed for what it really cost: gives back what was too much, or takes what was too little,
    /// as far as it is there.
    ///
    /// ```
    /// use tollgate::{Gate, KeyPart, Quota, Request, Settlement};
    ///
    /// let gate = Gate::per(KeyPart::Ip, Quota::per_hour(1_000));
    /// let request = Request::new("POST", "/complete").with_ip("203.0.113.7".parse()?);
    /// let verdict = gate.check_n(&request, 500);
    /// // It took 120 tokens.
    /// gate.settle(&verdict, Settlement::Actual(120));
    /// assert_eq!(gate.peek(&request, Some(0)).deciding().map(|policy| policy.remaining()), Some(880));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn settle(&self, verdict: &Verdict, settlement: Settlement) {
        let now = self.store.now();
        let (refunds, charges) = changes(verdict, settlement);
        self.store.refund_at(now, &refunds);
        let mut ticket = self.note_refunds(verdict, &refunds);
        for hit in charges {
            let mut charged = self.store.acquire_at(now, &[Group::all(&[hit])]);
            if let Some(rest) = rest(&hit, &charged) {
                charged = self.store.acquire_at(now, &[Group::all(&[rest])]);
            }
            if let Some(outcome) = charged.outcomes.first() {
                ticket = ticket.max(self.note_charge(verdict, &hit, outcome));
            }
        }
        self.wait(ticket);
    }

    /// Says what [`check`](Self::check) would, at the policies' cost or at another, and takes nothing.
    pub fn peek(&self, request: &(impl Attributes + ?Sized), cost: Option<u32>) -> Verdict {
        let now = self.store.now();
        let policies = &self.current.load().policies;
        let plan = policies.plan(request, now, cost);
        self.verdict_of_ban(policies, now, &plan).unwrap_or_else(|| {
            let answer = self.store.peek_at(now, &plan.groups());
            plan.verdict(policies, answer)
        })
    }

    /// Bans what a request is counted by, for so long, under all policies that apply or under one of them: those deny it
    /// everything. Returns their names. It lasts as long as this gate does, at most.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tollgate::{Gate, KeyPart, Quota, Request};
    ///
    /// let gate = Gate::per(KeyPart::Ip, Quota::per_hour(1_000));
    /// let request = Request::default().with_ip("203.0.113.7".parse()?);
    /// assert_eq!(gate.ban(&request, None, Duration::from_mins(15)), ["default"]);
    /// assert!(gate.check(&request).is_banned());
    /// gate.reset(&request, None);
    /// assert!(gate.check(&request).is_allowed());
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn ban(
        &self,
        request: &(impl Attributes + ?Sized),
        policy: Option<&str>,
        length: Duration,
    ) -> Vec<String> {
        self.ban_at(self.store.now(), request, policy, length)
    }

    /// Who is banned, the longest first.
    pub fn bans(&self) -> Vec<Ban> {
        self.bans_at(self.store.now())
    }

    /// Forgets what a request's keys have spent, and lifts their bans, under all policies that apply or under one of them.
    /// Returns the names of the policies whose state was reset.
    pub fn reset(&self, request: &(impl Attributes + ?Sized), policy: Option<&str>) -> Vec<String> {
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
        let policies = self.policies();
        self.decide_plan_async(&policies, now, policies.plan(request, now, cost), timer).await
    }

    /// Decides what was [planned](tollgate_policy::Plan::detach), at the time that it was planned for.
    pub async fn decide_async(&self, now: Timestamp, asked: Asked) -> Result<Verdict, StoreError> {
        self.decide_plan_async(asked.policies(), now, asked.plan(), self.timer()).await
    }

    async fn decide_plan_async(
        &self,
        policies: &Arc<PolicySet>,
        now: Timestamp,
        plan: Plan<'_>,
        timer: Option<Instant>,
    ) -> Result<Verdict, StoreError> {
        let watched = self.watch_long(policies, &plan);
        let span = spans::decision();
        let verdict = if let Some(banned) = self.verdict_of_ban(policies, now, &plan) {
            banned
        } else {
            let asked = spans::asking!(span, Store::acquire(&self.store, &plan.groups()));
            let answer = asked.inspect_err(|error| watched.iter().for_each(|one| one.failed(error)))?;
            let verdict = plan.verdict(policies, answer);
            self.bans.note(now, policies, &verdict);
            self.written(self.note(now, &verdict)).await;
            verdict
        };
        self.counters.record(verdict.is_allowed(), timer.map(|started| started.elapsed()));
        self.current.load().record_by(policies, verdict.admissions());
        spans::verdict(&span, &verdict);
        if let Some(watched) = watched {
            watched.decided(&verdict, verdict.is_allowed());
        }
        Ok(verdict)
    }

    /// Charges a request that has passed for what it really cost: see [`settle`](Gate::settle).
    pub async fn settle_async(&self, verdict: &Verdict, settlement: Settlement) -> Result<(), StoreError> {
        let (refunds, charges) = changes(verdict, settlement);
        if !refunds.is_empty() {
            Store::refund(&self.store, &refunds).await?;
        }
        let mut ticket = self.note_refunds(verdict, &refunds);
        for hit in charges {
            let charged = charge(&self.store, Sharing::DEFAULT, false, &hit).await?;
            ticket = ticket.max(self.note_charge(verdict, &hit, &charged));
        }
        self.written(ticket).await;
        Ok(())
    }

    /// Says what [`check_async`](Self::check_async) would, and takes nothing.
    pub async fn peek_async(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized + Sync),
        cost: Option<u32>,
    ) -> Result<Verdict, StoreError> {
        let policies = self.policies();
        let plan = policies.plan(request, now, cost);
        if let Some(banned) = self.verdict_of_ban(&policies, now, &plan) {
            return Ok(banned);
        }
        let answer = Store::peek(&self.store, &plan.groups()).await?;
        Ok(plan.verdict(&policies, answer))
    }

    /// Forgets what a request's keys have spent, and lifts their bans, under all policies that apply or under one of them.
    pub async fn reset_async(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized + Sync),
        policy: Option<&str>,
    ) -> Result<Vec<String>, StoreError> {
        let (keys, names) = self.reset_keys(now, request, policy);
        Store::reset(&self.store, &keys).await?;
        Ok(names)
    }
}

impl<S> Gate<S> {
    /// [`ban`](Self::ban) at a given time.
    pub fn ban_at(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized),
        policy: Option<&str>,
        length: Duration,
    ) -> Vec<String> {
        let policies = &self.current.load().policies;
        let plan = plan_of(policies, request, now, policy);
        let mut names = Vec::new();
        for (index, key) in plan.ban_keys() {
            let Some(policy) = policies.policy(index) else { continue };
            self.bans.add(now, policy.name(), key, Nanos::from(length));
            names.push(policy.name().to_owned());
        }
        names
    }

    /// [`bans`](Self::bans) at a given time.
    pub fn bans_at(&self, now: Timestamp) -> Vec<Ban> {
        self.bans.list(now)
    }

    /// Bans keys anew that were banned by a gate with the same [seed](Self::with_seed), as [`bans`](Self::bans) has told them.
    pub fn restore_bans_at(&self, now: Timestamp, bans: impl IntoIterator<Item = Ban>) {
        for ban in bans {
            if ban.until > now {
                self.bans.add_until(now, &ban.policy, ban.key, ban.until);
            }
        }
    }

    /// Lifts the ban of a key, as [`bans`](Self::bans) tells it. Returns whether there was one.
    pub fn lift_ban(&self, key: KeyHash) -> bool {
        self.bans.lift(&[key]) > 0
    }

    /// How many keys are banned, with those whose bans have just ended.
    pub fn ban_count(&self) -> usize {
        self.bans.len()
    }

    /// What a request asks, if that is a single hit, nobody can be banned, and nobody observes.
    #[inline(always)]
    fn single<'c>(
        &self,
        current: &'c Current,
        request: &(impl Attributes + ?Sized),
        now: Timestamp,
        cost: Option<u32>,
    ) -> Option<Single<'c>> {
        let is_plain = self.bans.are_idle() && self.observers.are_none();
        if is_plain { current.policies.single(request, now, cost) } else { None }
    }

    /// What there is to say if a ban denies the request. Without one, this is a look at a number.
    #[inline]
    fn verdict_of_ban(&self, policies: &Arc<PolicySet>, now: Timestamp, plan: &Plan<'_>) -> Option<Verdict> {
        let (policy, left) = self.bans.find(now, plan)?;
        Some(plan.clone().banned(policies, policy, left))
    }

    fn reset_keys(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized),
        policy: Option<&str>,
    ) -> (Vec<KeyHash>, Vec<String>) {
        let policies = &self.current.load().policies;
        let plan = plan_of(policies, request, now, policy);
        let bans: SmallVec<[KeyHash; 4]> = plan.ban_keys().map(|(_, key)| key).collect();
        self.bans.lift(&bans);
        let of_hit = |hit: &Hit<'_>| {
            let key = hit.key;
            std::iter::once(key)
                .chain(hit.formers.iter().map(move |former| former.key(key)))
                .collect::<Vec<_>>()
        };
        let keys = plan.hits().iter().flat_map(of_hit).collect();
        (keys, plan.policies().map(|policy| policy.name().to_owned()).collect())
    }
}

/// What a request asks, of all policies or of the one of this name.
fn plan_of<'p>(
    policies: &'p PolicySet,
    request: &(impl Attributes + ?Sized),
    now: Timestamp,
    policy: Option<&str>,
) -> Plan<'p> {
    let mut plan = policies.plan(request, now, None);
    if let Some(name) = policy {
        match policies.index_of(name) {
            Some(index) => drop(plan.retain(index)),
            None => plan.clear(),
        }
    }
    plan
}

fn reservation(now: Timestamp, verdict: &Verdict) -> Reservation {
    let noted = verdict.uses().map(|one| (Noted::of(now, &one), one.grant.cost));
    Reservation::new(verdict.taken().map(|(hit, grant, source)| (hit.key, *hit.limit, grant, source)))
        .with_noted(noted)
}

/// What is to be given back of what a request took, and what it is to take beyond.
fn changes(verdict: &Verdict, settlement: Settlement) -> (SmallVec<[Refund<'_>; 4]>, SmallVec<[Hit<'_>; 4]>) {
    let (mut refunds, mut charges) = (SmallVec::new(), SmallVec::new());
    for (hit, grant, source) in verdict.taken() {
        let (back, more) = settlement.change(grant.cost);
        if back > 0 {
            let grant = Grant { cost: back, ..grant };
            refunds.push(Refund { key: hit.key, limit: hit.limit, grant, source });
        }
        if more > 0 {
            charges.push(hit.with_cost(more));
        }
    }
    (refunds, charges)
}

/// What can be taken in place of a hit that was denied: all that was left.
fn rest<'h>(hit: &Hit<'h>, answer: &Answer) -> Option<Hit<'h>> {
    let decision = &answer.outcomes.first()?.decision;
    let left = u32::try_from(decision.remaining).unwrap_or(u32::MAX).min(hit.cost);
    (!decision.allowed && left > 0).then(|| hit.with_cost(left))
}

#[cfg(feature = "tower")]
impl<S: LocalStore + 'static> tollgate_http::Gatekeeper for Gate<S> {
    fn check<A: Attributes + ?Sized>(
        self: &Arc<Self>,
        request: &A,
        cost: Option<u32>,
    ) -> tollgate_http::Checking {
        tollgate_http::Checking::Done(self.check_at(self.store.now(), request, cost))
    }

    fn admit<A: Attributes + ?Sized>(
        self: &Arc<Self>,
        request: &A,
        cost: Option<u32>,
    ) -> tollgate_http::Checking {
        self.refusal(request, cost).map_or(tollgate_http::Checking::Passed, tollgate_http::Checking::Done)
    }

    fn settle(self: &Arc<Self>, verdict: &Verdict, settlement: Settlement) {
        Gate::settle(self, verdict, settlement);
    }
}
