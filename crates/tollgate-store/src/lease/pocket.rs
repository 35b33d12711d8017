//! What one node holds of one key, or owes for it.

use std::sync::Arc;

use tokio::sync::watch;
use tollgate_core::{Decision, Grant, Nanos, Outcome, Retry, Timestamp};

use super::terms::Terms;
use crate::store::StoreError;

/// What is fetched is meant to last so long.
const TERM: Nanos = Nanos::from_secs(2);

/// What is left when more is fetched is meant to last so long, if fetches are quicker: a processor may be busy.
const RESERVE: Nanos = Nanos::from_millis(10);

/// Tells those who wait for a fetch what came of it.
pub(super) type Fetching = watch::Receiver<Option<Result<(), StoreError>>>;

/// What a pocket says of a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is there.
    Enough,
    /// It is not, and the store has just said that it has none either.
    Refused,
    /// It is not, and the store may have it.
    Lacking,
}

/// Plain data that is told the time.
#[derive(Debug)]
pub(super) struct Pocket {
    pub(super) terms: Arc<Terms>,
    /// The units at hand; below zero what is owed.
    units: i64,
    /// What is being fetched.
    pending: u32,
    /// When what is held lapses, which is when the window ends that it was counted in.
    end: Timestamp,
    /// Where in its time the store booked it.
    stamp: Timestamp,
    /// What the store said last: how much there is at the fullest, and how much is left …
    whole: u64,
    left: Option<u64>,
    /// … when it will be whole …
    whole_at: Timestamp,
    /// … and which cost it refused, until when.
    refused: u32,
    again: Timestamp,
    /// What was handed out since the store was asked last.
    used: u64,
    asked: Timestamp,
    /// How much to hold by demand, and at how little to fetch.
    target: u32,
    low: i64,
    /// How much the store may have, if it had less than it was asked for; and how long it said to wait.
    guess: u32,
    pause: Nanos,
    /// How long the last fetch took.
    fetch_time: Nanos,
    touched: Timestamp,
    pub(super) fetching: Option<Fetching>,
}

impl Pocket {
    pub(super) fn new(terms: Arc<Terms>, now: Timestamp) -> Self {
        let (target, whole) = ((terms.chunk / 4).max(1), terms.limit.capacity());
        Self {
            terms,
            units: 0,
            pending: 0,
            end: Timestamp::MAX,
            stamp: Timestamp::EPOCH,
            whole,
            left: None,
            whole_at: Timestamp::EPOCH,
            refused: 0,
            again: Timestamp::EPOCH,
            used: 0,
            asked: Timestamp::EPOCH,
            target,
            low: 1,
            guess: u32::MAX,
            pause: Nanos::ZERO,
            fetch_time: Nanos::ZERO,
            touched: now,
            fetching: None,
        }
    }

    /// What is held of a window that is over is nothing.
    fn lapse(&mut self, now: Timestamp) {
        if now >= self.end {
            self.units = self.units.min(0);
            self.end = Timestamp::MAX;
            self.stamp = Timestamp::EPOCH;
            self.left = None;
        }
    }

    /// Whether the store has said anything yet.
    pub(super) const fn is_known(&self) -> bool {
        self.left.is_some()
    }

    /// Whether a cost is there.
    pub(super) fn look(&mut self, now: Timestamp, cost: u32) -> Look {
        self.lapse(now);
        if self.terms.owes {
            // No more than the store was seen to have left.
            let most = self.left.map_or(self.terms.chunk.into(), |left| left.min(self.terms.chunk.into()));
            let after = self.units.saturating_sub(cost.into());
            return if cost == 0 || after >= -most.cast_signed() { Look::Enough } else { Look::Refused };
        }
        let missing = i64::from(cost) - self.units;
        if missing <= 0 && (cost > 0 || self.is_known()) {
            Look::Enough
        } else if (now < self.again && missing >= i64::from(self.refused)) || self.is_exhausted(now) {
            Look::Refused
        } else {
            Look::Lacking
        }
    }

    /// Whether the limit is used up as fast as it recovers, and asked for several times while a fetch takes. Then
    /// nobody waits: what comes is for those who ask after it has come.
    fn is_exhausted(&self, now: Timestamp) -> bool {
        self.guess < u32::MAX && now.since(self.touched) < self.fetch_time
    }

    /// Somebody was answered.
    pub(super) const fn touch(&mut self, now: Timestamp) {
        self.touched = now;
    }

    /// Hands out a cost that is there.
    pub(super) fn take(&mut self, cost: u32) -> Grant {
        self.units = self.units.saturating_sub(cost.into());
        self.used = self.used.saturating_add(cost.into());
        Grant { stamp: self.stamp, cost }
    }

    /// The decision about a cost, after it was handed out or refused.
    pub(super) fn decision(&self, now: Timestamp, cost: u32, allowed: bool) -> Decision {
        let left = self.left.unwrap_or(if self.terms.owes { self.terms.chunk.into() } else { 0 });
        let remaining = left.saturating_add_signed(self.units);
        let retry_after = if allowed {
            Retry::Now
        } else if cost > self.terms.chunk {
            Retry::Never
        } else if now < self.again {
            Retry::After(self.again.since(now))
        } else if self.terms.owes {
            Retry::After(self.terms.sync.max(Nanos::new(1)))
        } else {
            Retry::After(self.pause.max(self.fetch_time).max(Nanos::new(1)))
        };
        Decision { allowed, limit: self.whole, remaining, retry_after, reset_after: self.whole_at.since(now) }
    }

    /// Whether it is time to ask the store, though there is some left.
    pub(super) fn is_low(&self, now: Timestamp) -> bool {
        let is_low = if self.terms.owes {
            // Half of what may be owed.
            self.owed() * 2 >= u64::from(self.terms.chunk)
        } else {
            self.units < self.low
        };
        is_low && now >= self.again && !self.is_fetching()
    }

    /// Whether a fetch is under way.
    pub(super) fn is_fetching(&self) -> bool {
        // If its sender is gone, so is the fetch.
        self.fetching.as_ref().is_some_and(|fetching| fetching.has_changed().is_ok())
    }

    /// How much of a cost is not there.
    pub(super) fn missing(&self, cost: u32) -> u32 {
        u32::try_from(i64::from(cost).saturating_sub(self.units)).unwrap_or(0)
    }

    /// Adds what is held, or owed, to what the store says.
    pub(super) fn add_to(&mut self, decision: &mut Decision, now: Timestamp, cost: u32) {
        decision.remaining = decision.remaining.saturating_add_signed(self.units);
        if !decision.allowed && self.look(now, cost) == Look::Enough {
            decision.allowed = true;
            decision.retry_after = Retry::Now;
        }
    }

    /// How much to ask the store for; at least what is missing.
    pub(super) fn want(&mut self, missing: u32) -> u32 {
        let room = i64::from(self.terms.chunk) - self.units;
        let wanted = if self.terms.owes {
            -self.units
        } else {
            let wanted = i64::from(self.target.min(self.guess)) - self.units;
            wanted.max(missing.into()).max(1).min(room)
        };
        self.pending = u32::try_from(wanted).unwrap_or(0);
        self.pending
    }

    /// What is owed.
    pub(super) const fn owed(&self) -> u64 {
        self.units.saturating_neg().cast_unsigned() * (self.units < 0) as u64
    }

    /// What the store said to a fetch of so many units, which it was asked for at `sent`.
    pub(super) fn told(&mut self, units: u32, outcome: &Outcome, sent: Timestamp, now: Timestamp) {
        let decision = &outcome.decision;
        self.left = Some(decision.remaining);
        // Beside a bucket, what may be held ahead counts as well.
        let beside = self.terms.limit.capacity() - self.terms.shared.capacity();
        self.whole = decision.limit.saturating_add(beside);
        self.fetch_time = now.since(sent);
        self.whole_at = now.saturating_add(decision.reset_after);
        let (used, asked) = (std::mem::take(&mut self.used), std::mem::replace(&mut self.asked, now));
        if asked > Timestamp::EPOCH {
            let chunk = self.terms.chunk;
            let in_time = |time: Nanos| {
                let elapsed = now.since(asked).as_nanos().max(1);
                u128::from(used) * u128::from(time.as_nanos()) / u128::from(elapsed)
            };
            self.target = u32::try_from(in_time(TERM)).unwrap_or(chunk).clamp((chunk / 4).max(1), chunk);
            // What is handed out in twice the time that a fetch takes.
            let twice = Nanos::new(self.fetch_time.as_nanos().saturating_mul(2));
            let meanwhile = in_time(twice.max(RESERVE));
            self.low =
                i64::try_from(meanwhile).unwrap_or(i64::MAX).saturating_add(1).min((chunk / 2).max(1).into());
        }
        let Some(grant) = outcome.grant else {
            self.refused = units;
            self.guess = u32::try_from(decision.remaining).unwrap_or(u32::MAX).max(1);
            self.pause = decision.retry_after.nanos().unwrap_or(Nanos::MAX);
            // By the later of two clocks, so that it passes then.
            self.again = now.saturating_add(self.pause);
            return;
        };
        self.again = Timestamp::EPOCH;
        if self.guess < u32::MAX {
            // There was less; now it gave what it was asked for.
            self.guess = units.saturating_mul(2);
            self.guess = if self.guess < self.target { self.guess } else { u32::MAX };
        }
        if self.terms.lapses {
            if grant.stamp != self.stamp {
                // What is left of the window before lapses.
                self.units = self.units.min(0);
            }
            // By the earlier of two clocks, so that nothing is handed out in the next.
            let until_end = self.terms.until_end(grant.stamp, decision);
            self.end = sent.saturating_add(until_end);
        }
        self.stamp = grant.stamp;
        self.units = self.units.saturating_add(units.into());
        self.pending = 0;
    }

    /// A fetch has ended.
    pub(super) fn fetched(&mut self) {
        self.fetching = None;
        self.pending = 0;
    }

    /// Takes back what was handed out, as far as there is room. Returns whether there was.
    pub(super) fn give_back(&mut self, now: Timestamp, grant: Grant) -> bool {
        self.lapse(now);
        let units = self.units.saturating_add(grant.cost.into());
        let is_present = !self.terms.lapses || grant.stamp == self.stamp;
        let fits = units.saturating_add(self.pending.into()) <= self.terms.chunk.into();
        if is_present && fits && (units <= 0 || !self.terms.owes) {
            self.units = units;
            return true;
        }
        false
    }

    /// Takes everything out, so that it can go back to the store.
    pub(super) fn empty(&mut self, now: Timestamp) -> Option<Grant> {
        self.lapse(now);
        let units = u32::try_from(self.units).ok().filter(|units| *units > 0)?;
        self.units = 0;
        Some(Grant { stamp: self.stamp, cost: units })
    }

    /// Whether it was not used for so long, and nobody is about to.
    pub(super) fn is_idle(&self, now: Timestamp, idle: Nanos) -> bool {
        !self.is_fetching() && now.since(self.touched) >= idle
    }
}
