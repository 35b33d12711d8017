//! What every store does.

use std::future::{Future, ready};

use smallvec::SmallVec;
use tollgate_core::{Decision, Grant, Group, KeyHash, Limit, Timestamp};

/// What a store says of one hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the hit's limit says. Its `remaining` and `reset_after` describe the state after the request: with the
    /// cost taken only if it was.
    pub decision: Decision,
    /// What was taken from the limit: `None` if the request as a whole was denied, or this limit did not admit it.
    pub grant: Option<Grant>,
    /// What decided.
    pub source: Source,
}

/// What decided a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The state of the key itself, in this process.
    #[default]
    Memory,
    /// The rule for a full store, as the key is new and there is no room for it.
    Overflow,
}

impl Source {
    /// The name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Overflow => "overflow",
        }
    }
}

/// The outcomes of a request's hits; on the stack while there are few.
pub type Outcomes = SmallVec<[Outcome; 4]>;

/// What a store says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer that nobody looks at limits nothing"]
pub struct Answer {
    /// Whether the request passes: whether every group that is not a shadow admits it.
    pub allowed: bool,
    /// One outcome for each hit, in the order of the groups and of the hits in them.
    pub outcomes: Outcomes,
}

/// Something to give back.
#[derive(Clone, Copy, Debug)]
pub struct Refund<'a> {
    /// The key that it was taken from.
    pub key: KeyHash,
    /// The rule that it was taken by.
    pub limit: &'a Limit,
    /// What was taken. A grant is to be given back once: whoever holds it sees to that.
    pub grant: Grant,
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

    /// Says what [`acquire_at`](Self::acquire_at) would, and takes nothing.
    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer;

    /// Gives back what was taken.
    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]);

    /// Forgets keys: each is as new.
    fn reset(&self, keys: &[KeyHash]);

    /// [`acquire_at`](Self::acquire_at) the present.
    fn acquire(&self, groups: &[Group<'_>]) -> Answer {
        self.acquire_at(self.now(), groups)
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

/// The rule by which hits decide together: whether the request passes, and for each hit whether its cost is taken.
///
/// `admits` holds what each hit's limit says by itself, in order. Stores of any kind share this function, so that they
/// agree.
pub fn combined(groups: &[Group<'_>], admits: &[bool]) -> (bool, SmallVec<[bool; 8]>) {
    let mut takes: SmallVec<[bool; 8]> = SmallVec::new();
    let mut allowed = true;
    let mut rest = admits;
    for group in groups {
        let (own, others) = rest.split_at(group.hits.len().min(rest.len()));
        rest = others;
        let admitting = own.iter().filter(|admits| **admits).count();
        let admitted = group.combine.admits(admitting, own.len());
        allowed &= admitted || group.shadow;
        takes.extend(own.iter().map(|admits| admitted && *admits));
    }
    if !allowed {
        takes.fill(false);
    }
    (allowed, takes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::{Combine, Hit, LimitId};

    #[test]
    fn groups_agree_or_nothing_is_taken() {
        let hit = Hit::new(LimitId(0), KeyHash(0), &Limit::Unlimited);
        let hits = [hit; 3];
        let group = |combine, shadow| Group { hits: &hits, combine, shadow };
        let (all, any) = (group(Combine::All, false), group(Combine::Any, false));
        let watched = group(Combine::All, true);

        let (allowed, takes) = combined(&[any], &[false, true, false]);
        assert!(allowed);
        assert_eq!(takes.as_slice(), [false, true, false]);

        let (allowed, takes) = combined(&[any, all], &[false, true, false, true, true, false]);
        assert!(!allowed);
        assert!(!takes.contains(&true));

        let (allowed, takes) = combined(&[watched, any], &[true, true, false, true, true, true]);
        assert!(allowed);
        assert_eq!(takes.as_slice(), [false, false, false, true, true, true]);

        assert!(combined(&[], &[]).0);
        assert!(combined(&[group(Combine::Majority, false)], &[true, false, true]).0);
    }
}
