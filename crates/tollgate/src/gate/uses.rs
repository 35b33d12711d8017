//! What identities use: asked of the store, and recorded.

use tollgate_core::{Hit, Outcome, Timestamp};
use tollgate_policy::{Attributes, Verdict};
use tollgate_store::{LocalStore, Refund, Store, StoreError};

use super::Gate;
use crate::usage::{Noted, Ticket, Usage, UseRecord};

impl<S> Gate<S> {
    /// The same gate, which keeps this record of what is used under policies that [ask for it](tollgate_policy::Policy::record).
    #[must_use]
    pub fn with_use_record(mut self, record: UseRecord) -> Self {
        self.uses = Some(record);
        self
    }

    /// The record of what is used, if the gate keeps one.
    pub const fn use_record(&self) -> Option<&UseRecord> {
        self.uses.as_ref()
    }

    /// Notes what a request took.
    #[inline]
    pub(super) fn note(&self, now: Timestamp, verdict: &Verdict) -> Ticket {
        self.uses.as_ref().map_or_else(Ticket::default, |record| record.took(now, verdict))
    }

    /// Notes what several requests took.
    pub(super) fn note_all(&self, now: Timestamp, verdicts: &[Verdict]) -> Ticket {
        verdicts.iter().map(|verdict| self.note(now, verdict)).max().unwrap_or_default()
    }

    /// Notes what was given back of what a request took.
    pub(super) fn note_refunds(&self, verdict: &Verdict, refunds: &[Refund<'_>]) -> Ticket {
        let Some(record) = &self.uses else { return Ticket::default() };
        verdict.uses().fold(Ticket::default(), |ticket, one| {
            let refund = refunds.iter().find(|refund| refund.key == one.key);
            ticket.max(refund.map_or_else(Ticket::default, |refund| {
                record.subtract(&Noted::of(record.latest(), &one), refund.grant.cost)
            }))
        })
    }

    /// Notes what was given back by a reservation.
    pub(super) fn note_back(&self, noted: &[(Noted, u32)]) -> Ticket {
        let Some(record) = &self.uses else { return Ticket::default() };
        noted.iter().map(|(noted, units)| record.subtract(noted, *units)).max().unwrap_or_default()
    }

    /// Notes what a request was charged beyond what it took.
    pub(super) fn note_charge(&self, verdict: &Verdict, hit: &Hit<'_>, charged: &Outcome) -> Ticket {
        let Some((record, grant)) = self.uses.as_ref().zip(charged.grant) else { return Ticket::default() };
        let Some(mut one) = verdict.uses().find(|one| one.key == hit.key) else { return Ticket::default() };
        (one.grant, one.whole) = (grant, charged.decision.limit);
        record.add(record.latest(), &one, grant.cost)
    }

    /// Waits until what was noted is kept, where decisions are to wait for that.
    #[inline]
    pub(super) fn wait(&self, ticket: Ticket) {
        if let Some(record) = &self.uses {
            record.wait(ticket);
        }
    }

    /// The same without holding up the thread.
    pub(super) async fn written(&self, ticket: Ticket) {
        if let Some(record) = &self.uses {
            record.written(ticket).await;
        }
    }
}

impl<S: LocalStore> Gate<S> {
    /// How much the identity of a request has used of the periods under way, of each limit that counts in windows: `quota` and
    /// `fixed_window`. Takes nothing. Reading, like peeking, says nothing of bans.
    ///
    /// ```
    /// use tollgate::{Config, Format, Gate, Request};
    ///
    /// let config = Config::parse("inline", "
    ///     policies:
    ///       - { name: plan, key: user, algorithm: quota, limit: 1000/month, calendar: { zone: Europe/Berlin } }
    /// ", Format::Yaml, &[])?;
    /// let gate = Gate::new(config);
    /// let ana = Request::default().with_user("ana");
    /// assert!(gate.check_n(&ana, 30).is_allowed());
    ///
    /// let [plan] = &gate.usage(&ana)[..] else { panic!("there is one limit") };
    /// assert_eq!((plan.policy.as_str(), plan.used, plan.limit), ("plan", 30, 1000));
    /// assert!(plan.local.0.contains("-01T00:00:00+0"));
    /// # Ok::<(), tollgate::Problems>(())
    /// ```
    pub fn usage(&self, request: &(impl Attributes + ?Sized)) -> Vec<Usage> {
        let now = self.store.now();
        let policies = self.policies();
        let plan = policies.plan(request, now, Some(0));
        let answer = self.store.peek_at(now, &plan.groups());
        Usage::of(&plan.verdict(&policies, answer), now)
    }
}

impl<S: Store> Gate<S> {
    /// [`usage`](Gate::usage) on any store. Which period it is goes by `now`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn usage_async(
        &self,
        now: Timestamp,
        request: &(impl Attributes + ?Sized + Sync),
    ) -> Result<Vec<Usage>, StoreError> {
        let policies = self.policies();
        let plan = policies.plan(request, now, Some(0));
        let answer = Store::peek(&self.store, &plan.groups()).await?;
        Ok(Usage::of(&plan.verdict(&policies, answer), now))
    }
}
