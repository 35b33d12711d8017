//! A kit against which any store can be run.
//!
//! The kit generates histories (decisions of one and of several limits, looks, refunds, resets, changes of a limit,
//! steps of the clock forwards and backwards), runs them on a store and on a slow model that is written to be
//! obviously right, and demands equal answers: what is allowed, what remains, when to retry, when the limit is whole
//! again. A history on which they differ is cut down to the steps that matter.
//!
//! A store that cannot be told the time implements [`Subject`] with whatever lets a test set its clock; every
//! [`LocalStore`] is a subject already. Rules of one's own have a kit of [their own](algorithm).
//!
//! ```
//! use tollgate_store::{MemoryStore, conformance};
//!
//! let summary = conformance::run_local(&MemoryStore::default(), conformance::Options::new(1, 100))?;
//! assert_eq!(summary.cases, 100);
//! # Ok::<(), conformance::Mismatch>(())
//! ```

pub mod algorithm;
mod calendars;
mod history;
mod model;
mod random;
mod runner;

pub use history::Kind;
pub use runner::{Mismatch, Options, Summary, run, run_local};

use std::future::{Future, ready};

use tollgate_core::{Answer, Group, KeyHash, Timestamp};

use crate::store::{LocalStore, Refund, StoreError};

/// A store under test, which is told the time of each call.
pub trait Subject {
    /// [`Store::acquire`](crate::Store::acquire) at `now`.
    fn acquire_at(
        &self,
        now: Timestamp,
        groups: &[Group<'_>],
    ) -> impl Future<Output = Result<Answer, StoreError>>;

    /// [`Store::peek`](crate::Store::peek) at `now`.
    fn peek_at(
        &self,
        now: Timestamp,
        groups: &[Group<'_>],
    ) -> impl Future<Output = Result<Answer, StoreError>>;

    /// [`Store::refund`](crate::Store::refund) at `now`.
    fn refund_at(
        &self,
        now: Timestamp,
        refunds: &[Refund<'_>],
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// [`Store::reset`](crate::Store::reset).
    fn reset(&self, keys: &[KeyHash]) -> impl Future<Output = Result<(), StoreError>>;
}

impl<S: LocalStore> Subject for S {
    fn acquire_at(
        &self,
        now: Timestamp,
        groups: &[Group<'_>],
    ) -> impl Future<Output = Result<Answer, StoreError>> {
        ready(Ok(LocalStore::acquire_at(self, now, groups)))
    }

    fn peek_at(
        &self,
        now: Timestamp,
        groups: &[Group<'_>],
    ) -> impl Future<Output = Result<Answer, StoreError>> {
        ready(Ok(LocalStore::peek_at(self, now, groups)))
    }

    fn refund_at(
        &self,
        now: Timestamp,
        refunds: &[Refund<'_>],
    ) -> impl Future<Output = Result<(), StoreError>> {
        LocalStore::refund_at(self, now, refunds);
        ready(Ok(()))
    }

    fn reset(&self, keys: &[KeyHash]) -> impl Future<Output = Result<(), StoreError>> {
        LocalStore::reset(self, keys);
        ready(Ok(()))
    }
}
