//! Several requests that pass together or not at all.

use std::sync::Arc;

use smallvec::SmallVec;
use tollgate_core::{Answer, Grant, Group, Limit, Nanos, Outcomes, Source, Timestamp};
use tollgate_policy::{Attributes, Plan, PolicySet, Verdict};
use tollgate_store::{Refund, Store, StoreError};

use super::watched::Watched;
use super::{Gate, spans};
use crate::charge::charge;

/// One of several requests that are decided together.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ask<R> {
    /// The request.
    pub request: R,
    /// What it costs, in place of what the policies say.
    pub cost: Option<u32>,
    /// What limits it, in place of the limits of the policies that apply: for the same identities, and also where policies
    /// only watch.
    pub limit: Option<Limit>,
}

impl<R> Ask<R> {
    /// A request, by the policies alone.
    pub const fn new(request: R) -> Self {
        Self { request, cost: None, limit: None }
    }

    /// The same at this cost.
    #[must_use]
    pub const fn with_cost(mut self, cost: u32) -> Self {
        self.cost = Some(cost);
        self
    }

    /// The same with this limit.
    #[must_use]
    pub const fn with_limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// What a ban says of a request: the policy, and for how much longer.
type Banned = Option<(usize, Nanos)>;

/// Several requests on any store. Each method's errors are those of the store.
#[allow(clippy::missing_errors_doc)]
impl<S: Store> Gate<S> {
    /// Decides requests together, in one call of the store: all pass, and each takes its cost, or none does.
    ///
    /// Each verdict says what its own request's policies say, in the order of the requests; they pass if all verdicts allow.
    /// Where two count by the same key, the later one finds what the earlier one leaves. If one is banned, the store is
    /// not asked, and the verdicts of the others name no policy.
    ///
    /// ```
    /// use tollgate::{Ask, Clock, Gate, KeyPart, Quota, Request, SystemClock};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let gate = Gate::per(KeyPart::Ip, Quota::per_hour(1));
    /// let [one, other] = ["203.0.113.7", "203.0.113.8"].map(|ip| Request::default().with_ip(ip.parse().unwrap()));
    /// let now = SystemClock::new().now();
    /// assert!(gate.check_async(now, &one, None).await?.is_allowed());
    ///
    /// let verdicts = gate.check_together_async(now, &[Ask::new(&other), Ask::new(&one)]).await?;
    /// assert_eq!([verdicts[0].is_allowed(), verdicts[1].is_allowed()], [true, false]);
    /// // So the other address has its one request still.
    /// assert!(gate.check_async(now, &other, None).await?.is_allowed());
    /// # Ok::<(), tollgate::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub async fn check_together_async<R: Attributes + Sync>(
        &self,
        now: Timestamp,
        asks: &[Ask<&R>],
    ) -> Result<Vec<Verdict>, StoreError> {
        let span = spans::decision();
        let timer = self.timer();
        let policies = &self.policies();
        let plans = plans(policies, now, asks);
        let watched: Vec<Watched<'_>> = plans.iter().filter_map(|plan| self.watch(policies, plan)).collect();
        let (verdicts, allowed) = if let Some(banned) = self.banned(now, &plans) {
            (verdicts_of_bans(policies, plans, &banned), false)
        } else {
            let asked = spans::asking!(span, Store::acquire(&self.store, &groups(&plans)));
            let answer = asked.inspect_err(|error| watched.iter().for_each(|one| one.failed(error)))?;
            let verdicts = verdicts_of(policies, plans, &answer);
            for verdict in &verdicts {
                self.bans.note(now, policies, verdict);
            }
            self.written(self.note_all(now, &verdicts)).await;
            (verdicts, answer.allowed)
        };
        let current = self.current.load();
        let took = timer.map(|started| started.elapsed());
        for (index, verdict) in verdicts.iter().enumerate() {
            // Those that would have passed by themselves have not, if the others were denied.
            self.counters.record(allowed, took.filter(|_| index == 0));
            current.record_by(policies, verdict.admissions());
        }
        for (watched, verdict) in watched.iter().zip(&verdicts) {
            watched.decided(verdict, allowed);
        }
        // Of several, one that denies says why all are.
        let denying = verdicts.iter().find(|verdict| !verdict.is_allowed());
        if let Some(telling) = denying.or(verdicts.first()) {
            spans::verdict(&span, telling);
        }
        Ok(verdicts)
    }

    /// Says what [`check_together_async`](Self::check_together_async) would, and takes nothing.
    pub async fn peek_together_async<R: Attributes + Sync>(
        &self,
        now: Timestamp,
        asks: &[Ask<&R>],
    ) -> Result<Vec<Verdict>, StoreError> {
        let policies = self.policies();
        let plans = plans(&policies, now, asks);
        if let Some(banned) = self.banned(now, &plans) {
            return Ok(verdicts_of_bans(&policies, plans, &banned));
        }
        let answer = Store::peek(&self.store, &groups(&plans)).await?;
        Ok(verdicts_of(&policies, plans, &answer))
    }

    /// Charges requests for what they have cost already: each limit as far as there is anything left, whatever the others
    /// say. Verdicts deny where there was not enough; a ban changes nothing, and nothing is counted as a decision.
    ///
    /// ```
    /// use tollgate::{Ask, Clock, Gate, KeyPart, Quota, Request, SystemClock};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let gate = Gate::per(KeyPart::Ip, Quota::per_hour(1_000));
    /// let request = Request::default().with_ip("203.0.113.7".parse().unwrap());
    /// let now = SystemClock::new().now();
    /// // It was let in by a look, and took 1,200 tokens.
    /// let charged = gate.charge_async(now, &[Ask::new(&request).with_cost(1_200)]).await?;
    /// assert!(!charged[0].is_allowed());
    /// assert_eq!(charged[0].taken().map(|(_, grant, _)| grant.cost).sum::<u32>(), 1_000);
    /// # Ok::<(), tollgate::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub async fn charge_async<R: Attributes + Sync>(
        &self,
        now: Timestamp,
        asks: &[Ask<&R>],
    ) -> Result<Vec<Verdict>, StoreError> {
        let policies = self.policies();
        let plans = plans(&policies, now, asks);
        let mut outcomes = Outcomes::new();
        for group in groups(&plans) {
            for hit in group.hits {
                outcomes.push(charge(&self.store, group.sharing, group.shadow, hit).await?);
            }
        }
        let allowed = outcomes.iter().all(|outcome| outcome.decision.allowed);
        let verdicts = verdicts_of(&policies, plans, &Answer { allowed, outcomes });
        self.written(self.note_all(now, &verdicts)).await;
        Ok(verdicts)
    }

    /// Gives so many units back to each limit that a request was charged by, up to what is spent: more than was taken, as
    /// after a request of cost 0, if it is known otherwise what there is to give back.
    ///
    /// They go back to where the verdict's request was booked: to its window, so that nothing is given back to a later one. A
    /// sliding log knows of each admission when it was, and takes back only that one.
    pub async fn give_back_async(&self, verdict: &Verdict, units: u32) -> Result<(), StoreError> {
        let refunds: SmallVec<[Refund<'_>; 4]> = verdict
            .taken()
            .map(|(hit, grant, source)| {
                // What a node holds ahead is no more than the store has handed out: units that were not taken from it
                // must not be put there. The store knows what is spent.
                let source = if source == Source::Lease { Source::Redis } else { source };
                Refund { key: hit.key, limit: hit.limit, grant: Grant { cost: units, ..grant }, source }
            })
            .collect();
        if refunds.is_empty() {
            return Ok(());
        }
        Store::refund(&self.store, &refunds).await?;
        self.written(self.note_refunds(verdict, &refunds)).await;
        Ok(())
    }

    /// What bans say, if they say anything.
    fn banned(&self, now: Timestamp, plans: &[Plan<'_>]) -> Option<Vec<Banned>> {
        let banned: SmallVec<[Banned; 4]> = plans.iter().map(|plan| self.bans.find(now, plan)).collect();
        banned.iter().any(Option::is_some).then(|| banned.into_vec())
    }
}

fn plans<'a, R: Attributes>(policies: &'a PolicySet, now: Timestamp, asks: &'a [Ask<&R>]) -> Vec<Plan<'a>> {
    let plan = |ask: &'a Ask<&R>| {
        let plan = policies.plan(ask.request, now, ask.cost);
        match &ask.limit {
            Some(limit) => plan.with_limit(limit),
            None => plan,
        }
    };
    asks.iter().map(plan).collect()
}

fn verdicts_of_bans(policies: &Arc<PolicySet>, plans: Vec<Plan<'_>>, banned: &[Banned]) -> Vec<Verdict> {
    let verdict = |(mut plan, banned): (Plan<'_>, &Banned)| {
        if let Some((policy, left)) = banned {
            return plan.banned(policies, *policy, *left);
        }
        plan.clear();
        plan.verdict(policies, Answer { allowed: true, outcomes: Outcomes::new() })
    };
    plans.into_iter().zip(banned).map(verdict).collect()
}

/// What an answer to all plans means for each.
fn verdicts_of(policies: &Arc<PolicySet>, plans: Vec<Plan<'_>>, answer: &Answer) -> Vec<Verdict> {
    let mut rest = &answer.outcomes[..];
    let verdict = |plan: Plan<'_>| {
        let (own, others) = rest.split_at(plan.hits().len().min(rest.len()));
        rest = others;
        let own = Answer { allowed: plan.admits(own), outcomes: own.into() };
        plan.verdict(policies, own)
    };
    plans.into_iter().map(verdict).collect()
}

/// The groups of all plans, one behind the other.
fn groups<'p>(plans: &'p [Plan<'_>]) -> SmallVec<[Group<'p>; 8]> {
    plans.iter().flat_map(Plan::groups).collect()
}
