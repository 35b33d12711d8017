//! What every store does.

use std::future::{Future, ready};

use tollgate_core::{
    Answer, Decision, Grant, Group, HashedKey, Hit, KeyHash, Limit, Nanos, Outcome, Retry, Source, Timestamp,
};

/// Something to give back.
#[derive(Clone, Copy, Debug)]
pub struct Refund<'a> {
    /// The key that it was taken from.
    pub key: KeyHash,
    /// The rule that it was taken by.
    pub limit: &'a Limit,
    /// What was taken. A grant is to be given back once: whoever holds it sees to that.
    pub grant: Grant,
    /// What decided then: it goes back to there.
    pub source: Source,
}

/// Why a store could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time. The limits' failure choice applies.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store answered that it cannot do what was asked: a mistake in its configuration, or in this program.
    #[error("the store refused: {0}")]
    Defect(String),
}

/// A store in this process. It answers at once: no waiting, no failing.
///
/// The methods that end in `_at` are told the time and are what an implementation gives; the others read the store's
/// own clock.
pub trait LocalStore: Send + Sync {
    /// The store's own time.
    fn now(&self) -> Timestamp;

    /// Decides a request, and takes its costs if it passes: all that it takes, or nothing.
    fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer;

    /// Decides a request of one hit, which is what most are: [`acquire_at`](Self::acquire_at), without the list.
    #[inline]
    fn acquire_one_at<K: HashedKey>(&self, now: Timestamp, hit: &Hit<'_, K>) -> Outcome
    where
        Self: Sized,
    {
        let answer = self.acquire_at(now, &[Group::all(&[hit.with_key(hit.key.hash())])]);
        // A store that answers with nothing denies.
        let denied = Outcome { decision: Decision::deny_all(), grant: None, source: Source::Memory };
        answer.outcomes.first().copied().unwrap_or(denied)
    }

    /// Decides a request of one hit for each of these keys, in their order, and tells `each` the outcomes. But for its
    /// key, each hit is like `hit`.
    #[inline]
    fn acquire_each_at<K: HashedKey>(
        &self,
        now: Timestamp,
        hit: &Hit<'_, ()>,
        keys: impl Iterator<Item = K>,
        mut each: impl FnMut(Outcome),
    ) where
        Self: Sized,
    {
        for key in keys {
            each(self.acquire_one_at(now, &hit.with_key(key)));
        }
    }

    /// Announces that a key will be asked for soon, so that its state can be brought near meanwhile.
    fn prefetch(&self, key: KeyHash) {
        let _ = key;
    }

    /// Says what [`acquire_at`](Self::acquire_at) would, and takes nothing.
    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer;

    /// Gives back what was taken.
    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]);

    /// Forgets keys: each is as new.
    fn reset(&self, keys: &[KeyHash]);

    /// [`acquire_at`](Self::acquire_at) the present.
    fn acquire(&self, groups: &[Group<'_>]) -> Answer {
        let now = self.now();
        let answer = self.acquire_at(now, groups);
        if !answer.allowed
            && answer.outcomes.iter().any(|outcome| is_over(&outcome.decision, now, || self.now()))
        {
            return self.acquire_at(self.now(), groups);
        }
        answer
    }

    /// [`acquire_one_at`](Self::acquire_one_at) the present.
    #[inline(always)]
    fn acquire_one<K: HashedKey>(&self, hit: &Hit<'_, K>) -> Outcome
    where
        Self: Sized,
    {
        let now = self.now();
        let outcome = self.acquire_one_at(now, hit);
        if !outcome.decision.allowed && is_over(&outcome.decision, now, || self.now()) {
            return self.acquire_one_at(self.now(), hit);
        }
        outcome
    }

    /// [`peek_at`](Self::peek_at) the present.
    fn peek(&self, groups: &[Group<'_>]) -> Answer {
        self.peek_at(self.now(), groups)
    }

    /// [`refund_at`](Self::refund_at) the present.
    fn refund(&self, refunds: &[Refund<'_>]) {
        self.refund_at(self.now(), refunds);
    }
}

/// Whether the wait that a denial asks for has passed since the clock was read for it.
///
/// A thread that was held up between reading the clock and deciding meets the state that others left at a later time, and
/// may be denied for just that: it looks again.
#[inline(never)]
pub(crate) fn is_over(denied: &Decision, now: Timestamp, clock: impl FnOnce() -> Timestamp) -> bool {
    /// The longest that a thread is commonly kept from running. Of those who are to wait for longer, the clock is not asked.
    const HELD_UP_MAX: Nanos = Nanos::from_millis(10);

    matches!(denied.retry_after, Retry::After(wait) if wait <= HELD_UP_MAX && clock().since(now) >= wait)
}

/// Any store. It has its own clock, and may have to be waited for.
///
/// Every [`LocalStore`] is one, with futures that are ready at once.
pub trait Store: Send + Sync {
    /// Decides a request, and takes its costs if it passes: all that it takes, or nothing.
    ///
    /// # Errors
    /// If the store cannot answer; then nothing is known of what was taken.
    fn acquire(&self, groups: &[Group<'_>]) -> impl Future<Output = Result<Answer, StoreError>> + Send;

    /// Says what [`acquire`](Self::acquire) would, and takes nothing.
    ///
    /// # Errors
    /// If the store cannot answer.
    fn peek(&self, groups: &[Group<'_>]) -> impl Future<Output = Result<Answer, StoreError>> + Send;

    /// Gives back what was taken.
    ///
    /// # Errors
    /// If the store cannot answer.
    fn refund(&self, refunds: &[Refund<'_>]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets keys: each is as new.
    ///
    /// # Errors
    /// If the store cannot answer.
    fn reset(&self, keys: &[KeyHash]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl<S: LocalStore> Store for S {
    fn acquire(&self, groups: &[Group<'_>]) -> impl Future<Output = Result<Answer, StoreError>> + Send {
        ready(Ok(LocalStore::acquire(self, groups)))
    }

    fn peek(&self, groups: &[Group<'_>]) -> impl Future<Output = Result<Answer, StoreError>> + Send {
        ready(Ok(LocalStore::peek(self, groups)))
    }

    fn refund(&self, refunds: &[Refund<'_>]) -> impl Future<Output = Result<(), StoreError>> + Send {
        LocalStore::refund(self, refunds);
        ready(Ok(()))
    }

    fn reset(&self, keys: &[KeyHash]) -> impl Future<Output = Result<(), StoreError>> + Send {
        LocalStore::reset(self, keys);
        ready(Ok(()))
    }
}
