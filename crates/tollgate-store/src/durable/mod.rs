//! Memory that outlives the process: a [`MemoryStore`] whose states are kept in a directory.
//!
//! Decisions are made in memory, and only there. A thread of the store's (`tollgate-flush`) looks once in an interval at what has
//! changed and appends it to a file. Decisions do not wait for it: all that they do for it is to look, after a change, at
//! a mark that nearly always is set already.
//!
//! # What holds
//! * **After the process is killed** the store opens again, and each key has a state that it had at some moment not longer ago than
//!   one flush interval and the time that a flush takes; if the machine itself stops, not longer ago than the last flush that
//!   had ended ([`Durability::safe_as_of`]). Nothing that was spent before that is forgotten.
//! * **Of each key by itself.** A request that several limits decide together is found with all that it took, or none, or, if a flush
//!   came between, the part that it had taken by then.
//! * **Time goes on** while nothing runs: states count from the Unix epoch, so what recovers by itself has recovered meanwhile.
//! * **A stop** ([`DurableStore::close`], or dropping the store) loses nothing.
//! * **What cannot be written is not decided otherwise.** If the disk is full or gone, the store decides on from memory, says so
//!   ([`Durability::trouble`]), tries again, and then writes everything.
//!
//! # Keys
//! A limiter on such a store has to hash its keys under the store's seed ([`DurableStore::seed`]): with a random one, no key would be found after
//! a restart. So it is `KeyedLimiter::with_seed(limit, store, &seed)`, or `Gate::with_seed(config, store, seed)`, and not `with_store`.
//!
//! One process at a time may use a directory: it holds a lock. The seed that keys are hashed under is kept with the states, as
//! they mean nothing without it; so the files are for their owner's eyes only.
//!
//! # The files
//! One file of batches with checksums, which starts with all states and goes on with changes; when it has grown to some times that
//! size, another is begun beside it and takes its place when it is whole.
//! A batch that is torn or damaged ends the file for its reader, and is cut off. An embedded database would bring ordered keys,
//! transactions and readers beside the writer, all of which cost and none of which is needed: the states are in memory, the
//! only order is that of time, and the only reader is the next start.

mod disk;
mod flusher;
mod format;
mod journal;
mod recover;
#[cfg(all(test, not(loom)))]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Answer, Clock, Group, HashedKey, Hit, KeyHash, KeySeed, Outcome, Timestamp};

use self::disk::{Disk, RealDisk};
pub use self::flusher::Durability;
use self::flusher::Flusher;
use self::journal::Journal;
pub use self::recover::{Cut, Recovery};
use self::recover::{Found, Reading};
use crate::clock::SystemClock;
use crate::memory::{MemoryOptions, MemoryStore};
use crate::seed::random_seed;
use crate::store::{LocalStore, Refund};

/// The shortest interval between flushes: below it, nothing else would be done.
pub const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The longest.
pub const FLUSH_INTERVAL_MAX: Duration = Duration::from_hours(1);

/// How a [`DurableStore`] is opened.
///
/// ```
/// use std::time::Duration;
/// use tollgate_store::durable::DurableOptions;
///
/// let mut options = DurableOptions::default();
/// assert_eq!(options.flush_interval, Duration::from_secs(1));
/// options.flush_interval = Duration::from_millis(200);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DurableOptions {
    /// The store in memory, of which an eighth is taken once more to know what has changed.
    pub memory: MemoryOptions,
    /// How often what has changed is written: about so much is lost when the process is killed. From
    /// [`FLUSH_INTERVAL_MIN`] to [`FLUSH_INTERVAL_MAX`]; what is beyond is taken for the nearest.
    pub flush_interval: Duration,
    /// What keys are hashed under; if it is not given, that of the directory, or a random one if that is new. It must be that of
    /// the directory.
    pub seed: Option<KeySeed>,
}

impl Default for DurableOptions {
    /// The memory store's defaults, written once a second.
    fn default() -> Self {
        Self { memory: MemoryOptions::default(), flush_interval: Duration::from_secs(1), seed: None }
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// It cannot be made or looked into.
    #[error("{}: {source}; it has to be a directory in which this user may write", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{} is in use by another process{by}; each process needs a directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Which, if that is known, as ` (process 1234)`.
        by: String,
    },
    /// A file in it cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What cannot be done.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file has the name of one of states, and is something else.
    #[error("{} holds no states of Tollgate's: move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The beginning of a file is damaged, so that nothing in it can be understood.
    #[error("{} is damaged at its beginning: put back a copy, or move it away to start without what it holds", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file was written by a later version.
    #[error(
        "{} is of format {version}, and this version reads format {known} only: start the later version that wrote it, or move \
         it away to start without what it holds", path.display(), known = format::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The states are of keys that were hashed under another seed.
    #[error(
        "{} holds states of keys that were hashed under another seed than the one given, so none of them would be found: give that \
         seed or none, or use another directory", path.display()
    )]
    Seed {
        /// The file.
        path: PathBuf,
    },
    /// What has changed could not be written.
    #[error("states cannot be written: {0}")]
    Flush(String),
}

/// A [`MemoryStore`] whose states are kept in a directory. See the [module](self) for what holds.
///
/// ```
/// use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, Quota};
/// use tollgate_store::LocalStore;
/// use tollgate_store::durable::{DurableOptions, DurableStore};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let limit = Limit::gcra(Quota::per_hour(1));
/// let hits = [Hit::new(LimitId(1), KeyHash(7), &limit)];
///
/// let store = DurableStore::open(directory, &DurableOptions::default())?;
/// assert!(store.acquire(&[Group::all(&hits)]).allowed);
/// store.close()?;
///
/// let store = DurableStore::open(directory, &DurableOptions::default())?;
/// assert_eq!(store.recovery().keys, 1);
/// assert!(!store.acquire(&[Group::all(&hits)]).allowed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DurableStore<C: Clock + Send + Sync + 'static = SystemClock> {
    memory: Arc<MemoryStore<C>>,
    directory: PathBuf,
    seed: KeySeed,
    recovery: Recovery,
    flusher: Flusher,
}

impl DurableStore {
    /// Opens the store in a directory, which is made if it is not there, on this machine's clock. Returns when all states are
    /// back: ten million take about two seconds.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn open(directory: impl AsRef<Path>, options: &DurableOptions) -> Result<Self, DurableError> {
        Self::open_with_clock(directory, options, SystemClock::new())
    }
}

impl<C: Clock + Send + Sync + 'static> DurableStore<C> {
    /// The same on another clock, which has to count from the Unix epoch.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn open_with_clock(
        directory: impl AsRef<Path>,
        options: &DurableOptions,
        clock: C,
    ) -> Result<Self, DurableError> {
        let disk = RealDisk::lock(directory.as_ref())?;
        Self::open_on(Box::new(disk), directory.as_ref(), options, clock)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        directory: &Path,
        options: &DurableOptions,
        clock: C,
    ) -> Result<Self, DurableError> {
        let unusable = |source| DurableError::Directory { path: directory.to_owned(), source };
        let found = Found::look(directory).map_err(unusable)?;
        let memory = MemoryStore::with_clock(clock, options.memory);

        let (mut journal, seed, recovery);
        if let Some(path) = found.latest {
            let reading = Reading::open(path.clone())?;
            seed = reading.seed();
            if options.seed.is_some_and(|wanted| wanted.to_bytes() != seed.to_bytes()) {
                return Err(DurableError::Seed { path });
            }
            let (resumed, filled) = reading.fill(&memory)?;
            recovery = filled;
            // What was put back has not changed.
            memory.note_changes();
            journal = Journal::new(disk, directory.to_owned(), seed);
            journal.resume(&memory, resumed).map_err(|source| DurableError::File {
                path,
                doing: "write",
                source,
            })?;
        } else {
            (seed, recovery) = (options.seed.unwrap_or_else(random_seed), Recovery::default());
            journal = Journal::new(disk, directory.to_owned(), seed);
        }
        for stale in found.stale {
            // If it stays, it is in nobody's way.
            let _ = std::fs::remove_file(stale);
        }
        // What cannot be written now is not a matter of a bad moment.
        journal.flush(&memory).map_err(unusable)?;

        let memory = Arc::new(memory);
        let interval = options.flush_interval.clamp(FLUSH_INTERVAL_MIN, FLUSH_INTERVAL_MAX);
        let flusher = Flusher::start(Arc::clone(&memory), journal, interval).map_err(unusable)?;
        Ok(Self { memory, directory: directory.to_owned(), seed, recovery, flusher })
    }

    /// The states in memory.
    pub fn memory(&self) -> &MemoryStore<C> {
        &self.memory
    }

    /// Where they are kept.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the keys must be hashed under, so that those that were kept are found again.
    pub const fn seed(&self) -> KeySeed {
        self.seed
    }

    /// What was found in the directory.
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// How the files fare.
    pub fn durability(&self) -> Durability {
        self.flusher.durability()
    }

    /// Writes what has changed up to now, and waits until it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&self) -> Result<(), DurableError> {
        self.flusher.flush().map_err(DurableError::Flush)
    }

    /// Writes what has changed, and ends. Dropping the store does the same, but cannot say whether it succeeded.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn close(self) -> Result<(), DurableError> {
        self.flush()
    }
}

impl<C: Clock + Send + Sync + 'static> LocalStore for DurableStore<C> {
    #[inline]
    fn now(&self) -> Timestamp {
        LocalStore::now(&*self.memory)
    }

    #[inline]
    fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        self.memory.acquire_at(now, groups)
    }

    #[inline(always)]
    fn acquire_one_at<K: HashedKey>(&self, now: Timestamp, hit: &Hit<'_, K>) -> Outcome {
        self.memory.acquire_one_at(now, hit)
    }

    #[inline(always)]
    fn acquire_each_at<K: HashedKey>(
        &self,
        now: Timestamp,
        hit: &Hit<'_, ()>,
        keys: impl Iterator<Item = K>,
        each: impl FnMut(Outcome),
    ) {
        self.memory.acquire_each_at(now, hit, keys, each);
    }

    #[inline]
    fn prefetch(&self, key: KeyHash) {
        self.memory.prefetch(key);
    }

    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        self.memory.peek_at(now, groups)
    }

    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) {
        self.memory.refund_at(now, refunds);
    }

    fn reset(&self, keys: &[KeyHash]) {
        LocalStore::reset(&*self.memory, keys);
    }
}
