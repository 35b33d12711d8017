//! What identities use: how much of a period there is, and a record of it for billing.
//!
//! | what | where |
//! |---|---|
//! | how much of its periods a request's identity has used | [`Gate::usage`](crate::Gate::usage), from the store |
//! | how much every identity has used, now and before | [`UseRecord`], by which policies with `record` keep books |
//!
//! A [`UseRecord`] holds what *this* gate has let through. Where several nodes share a store, each has a record of its own; the sum over
//! all nodes of what an identity used in a period is what the store has counted.
//!
//! ```
//! use tollgate::usage::{RecordOptions, UseRecord};
//! use tollgate::{Config, Format, Gate, Request};
//!
//! let config = Config::parse("inline", "
//!     policies:
//!       - { name: plan, key: user, algorithm: quota, limit: 1000/month, record: true }
//! ", Format::Yaml, &[])?;
//! let gate = Gate::new(config).with_use_record(UseRecord::new(RecordOptions::default()));
//! let ana = Request::default().with_user("ana");
//! assert!(gate.check_n(&ana, 30).is_allowed());
//!
//! assert_eq!(gate.usage(&ana)[0].used, 30);
//! let rows = gate.use_record().expect("it keeps one").rows();
//! assert_eq!((rows[0].identity.as_deref(), rows[0].used), (Some("ana"), 30));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod book;
mod csv;
mod file;
mod journal;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_core::{Group, Hit, Limit, LimitId, Timestamp};
use tollgate_policy::{Policy, PolicyLimit, PolicySet, Use, Variant, Verdict, local_time};
use tollgate_store::LocalStore;

use self::book::{Book, Entry};
use self::file::Line;
use self::journal::Journal;

pub use self::book::UseRow;
pub use self::csv::csv;

/// How much an identity has used of one period of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The policy's name.
    pub policy: String,
    /// The tier, if the policy has tiers.
    pub tier: Option<String>,
    /// The limit's own name, if it has one.
    pub limit_name: Option<String>,
    /// When the period began.
    pub start: Timestamp,
    /// When it ends, and the next one begins.
    pub end: Timestamp,
    /// Both as the limit's calendar shows them, by RFC 3339.
    pub local: (String, String),
    /// How much the period holds, with what was carried over into it.
    pub limit: u64,
    /// How much of that was used.
    pub used: u64,
}

impl Usage {
    /// What a verdict tells of limits that count in windows.
    pub(crate) fn of(verdict: &Verdict, now: Timestamp) -> Vec<Self> {
        let usage = |policy: &tollgate_policy::PolicyVerdict<'_>| {
            let (name, tier) = (policy.policy.name().to_owned(), policy.tier.map(str::to_owned));
            let usage = move |(limit, outcome): (&tollgate_policy::PolicyLimit, &tollgate_core::Outcome)| {
                let Limit::FixedWindow(window) = limit.limit() else { return None };
                let (start, end) = window.windows().window(now);
                let decision = &outcome.decision;
                Some(Self {
                    policy: name.clone(),
                    tier: tier.clone(),
                    limit_name: limit.name().map(str::to_owned),
                    start,
                    end,
                    local: (local_time(limit.limit(), start), local_time(limit.limit(), end)),
                    limit: decision.limit,
                    used: decision.limit.saturating_sub(decision.remaining),
                })
            };
            policy.limits().filter_map(usage).collect::<Vec<_>>()
        };
        verdict.policies().flat_map(|policy| usage(&policy)).collect()
    }
}

/// How much a record holds, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOptions {
    /// How many rows there are at most, each for one identity, limit and period: 100,000 by default, which take about 30 MB.
    pub rows_max: usize,
    /// With a file: how long a change may wait until it is written; `None`, the default, for no time at all: then a decision is told only
    /// once what it took is on the disk.
    pub flush_every: Option<Duration>,
}

impl Default for RecordOptions {
    fn default() -> Self {
        Self { rows_max: 100_000, flush_every: None }
    }
}

/// A record of what identities have used, by policies that [ask for it](tollgate_policy::Policy::record).
///
/// Where there is no more room, the periods that ended first are dropped; where none has ended, what new identities use goes into
/// one row without an identity.
#[derive(Debug)]
pub struct UseRecord {
    book: Arc<Mutex<Book>>,
    journal: Option<Journal>,
}

/// When what was noted is on the disk, if anybody wants to wait for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(Option<u64>);

/// What may be taken out of the record again.
#[derive(Clone, Debug)]
pub(crate) struct Noted(Entry);

impl UseRecord {
    /// A record in memory.
    #[must_use]
    pub fn new(options: RecordOptions) -> Self {
        Self { book: Arc::new(Mutex::new(Book::new(options.rows_max))), journal: None }
    }

    /// A record that is kept in a directory, and goes on with what stands there. The directory is made if it is not there, and locked: no
    /// other process can use it meanwhile.
    ///
    /// # Errors
    /// If the directory cannot be read, written or locked, or holds something that no record has written.
    pub fn open(directory: &Path, options: RecordOptions) -> io::Result<Self> {
        let mut book = Book::new(options.rows_max);
        let file = file::open(directory, &mut book)?;
        let book = Arc::new(Mutex::new(book));
        let journal = Journal::start(file, Arc::clone(&book), options.flush_every)?;
        Ok(Self { book, journal: Some(journal) })
    }

    /// All rows: the periods that ended first, first; in each by policy, tier, limit and identity.
    pub fn rows(&self) -> Vec<UseRow> {
        let mut rows = self.book().rows();
        // Others may go on meanwhile.
        rows.sort_unstable();
        rows
    }

    /// Whether decisions wait until what they took is on the disk: then those of [`Gate`](crate::Gate)'s futures that take something are not
    /// ready at once, also where the store is in this process.
    pub fn writes_through(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::writes_through)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.book().len()
    }

    /// Whether nothing was noted yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why what was noted last could not be written, while it cannot. Decisions go on, and what is to be written is kept.
    pub fn trouble(&self) -> Option<String> {
        self.journal.as_ref().and_then(Journal::trouble)
    }

    /// Has a store in memory go on where the record stands: what the record knows of periods under way, and the store does not, is
    /// taken from their limits. For when a program has been started again; its keys must be hashed under the same seed.
    ///
    /// Returns of how many rows something was taken. A limit whose numbers were changed meanwhile begins anew.
    pub fn restore(&self, store: &impl LocalStore, policies: &PolicySet) -> usize {
        let now = store.now();
        let entries = self.book().under_way(now);
        let limits = policies.policies().flat_map(Policy::variants).flat_map(Variant::limits);
        let limits: HashMap<LimitId, &PolicyLimit> = limits.map(|limit| (limit.id(), limit)).collect();
        let mut restored = 0;
        for (entry, row) in entries {
            let Some(limit) = limits.get(&entry.limit) else { continue };
            let Limit::FixedWindow(window) = limit.limit() else { continue };
            if window.windows().window(now) != (entry.start, entry.end) {
                continue;
            }
            let hit = Hit::new(entry.limit, row.key, limit.limit()).with_cost(0);
            let found = store.peek_at(now, &[Group::all(&[hit])]);
            let left = found.outcomes.first().map_or(0, |outcome| outcome.decision.remaining);
            // What had been carried over and was spent before is missing as well.
            let missing = window.capacity().saturating_sub(row.whole).saturating_add(row.used);
            let mut more = missing.saturating_sub(window.capacity().saturating_sub(left)).min(left);
            restored += usize::from(more > 0);
            while more > 0 {
                let cost = u32::try_from(more).unwrap_or(u32::MAX);
                let _ = store.acquire_at(now, &[Group::all(&[hit.with_cost(cost)])]);
                more -= u64::from(cost);
            }
        }
        restored
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // What is noted is one row: a panic leaves none half written.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a request took.
    pub(crate) fn took(&self, now: Timestamp, verdict: &Verdict) -> Ticket {
        verdict.uses().fold(Ticket::default(), |ticket, one| ticket.max(self.add(now, &one, one.grant.cost)))
    }

    /// Notes that so many more units were used.
    pub(crate) fn add(&self, now: Timestamp, one: &Use<'_>, units: u32) -> Ticket {
        if units == 0 {
            return Ticket::default();
        }
        let mut book = self.book();
        self.write(&book.add(now, one, units))
    }

    /// Notes that units were given back, if the period that they were taken from is still under way.
    pub(crate) fn subtract(&self, noted: &Noted, units: u32) -> Ticket {
        let mut book = self.book();
        match book.subtract(&noted.0, units) {
            Some(line) => self.write(&line),
            None => Ticket::default(),
        }
    }

    /// The latest time at which anything was noted.
    pub(crate) fn latest(&self) -> Timestamp {
        self.book().latest()
    }

    /// Hands a line to be written, while the book is still held, so that lines come in the order of the changes.
    fn write(&self, line: &Line<'_>) -> Ticket {
        Ticket(self.journal.as_ref().and_then(|journal| journal.append(&line.text())))
    }

    /// Waits until what was noted is on the disk, if that is asked for; or cannot be brought there.
    pub(crate) fn wait(&self, ticket: Ticket) {
        if let (Ticket(Some(ticket)), Some(journal)) = (ticket, &self.journal) {
            journal.wait(ticket);
        }
    }

    /// The same without holding up the thread.
    pub(crate) async fn written(&self, ticket: Ticket) {
        if let (Ticket(Some(ticket)), Some(journal)) = (ticket, &self.journal) {
            std::future::poll_fn(|context| journal.poll(ticket, context)).await;
        }
    }
}

impl Noted {
    /// What can be taken out again of what a request used.
    pub(crate) fn of(now: Timestamp, one: &Use<'_>) -> Self {
        Self(Entry::of(now, one))
    }
}
