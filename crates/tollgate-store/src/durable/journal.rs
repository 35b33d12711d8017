//! The files that states are kept in, as they are written.
//!
//! There is one file at a time. It begins with all states, as they were when it was begun, and goes on with what has changed
//! since. When that has grown long enough, the next file is begun beside it: each flush writes what has changed to both,
//! and some more of all states to the next, until that is whole. Then it gets its name, and the one before is removed. So
//! a file that has its name is whole up to some flush, and no flush has to write everything at once.
//!
//! If a file cannot be written any more, for whatever reason, nothing is known of its end. Then all states are written to a
//! new one; until that succeeds, the one before stays as it is.

use std::io;
use std::path::{Path, PathBuf};

use tollgate_core::{Clock, KeySeed, Timestamp};

use super::disk::{Disk, Sheet};
use super::format::{Batch, Head};
use crate::memory::MemoryStore;
use crate::memory::keep::{Entry, Part, Seen};

/// How many times as long as all states a file may grow, and by how much beyond, before the next is begun: what is
/// written for that is then no more than half of what is written anyway, and reading it all takes a few seconds at most.
const GROWTH_MAX: u64 = 3;
const GROWTH_BYTES: u64 = 16 << 20;

/// About how much of all states is written at a time to a file that has been begun.
const SLICE_BYTES: u64 = 4 << 20;

/// How many flushes to wait before a file is begun again after it could not be written.
const FLUSHES_BETWEEN_TRIES: u32 = 30;

/// Where files are, and what they are written with.
pub(super) struct Journal {
    disk: Box<dyn Disk>,
    directory: PathBuf,
    seed: KeySeed,
    /// What is written; none before the first file, and when one cannot be written any more.
    present: Option<Log>,
    /// What is begun.
    next: Option<Begun>,
    /// The file that was written last, to be removed when there is a new one; or to be set aside under another name.
    former: Option<Former>,
    /// The number of the latest file, and of the latest batch.
    number: u64,
    batches: u64,
    /// How much was written in all.
    written: u64,
    seen: Seen,
    batch: Batch,
    patience: u32,
}

/// A file that is written.
struct Log {
    sheet: Box<dyn Sheet>,
    path: PathBuf,
    /// How long it is, and was when it held all states once.
    bytes: u64,
    base: u64,
}

/// A file that does not hold all states yet.
struct Begun {
    log: Log,
    /// Which part of all states comes next, out of how many.
    part: usize,
    parts: usize,
}

struct Former {
    path: PathBuf,
    set_aside: bool,
}

/// What was read from a file that can be gone on with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resumed {
    pub(super) number: u64,
    pub(super) batches: u64,
    /// Up to where it is whole.
    pub(super) end: u64,
    /// Whether there is something behind that which somebody may want to look at.
    pub(super) is_damaged: bool,
}

/// What a flush has done.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// How much was written.
    pub(super) bytes: u64,
    /// Why no new file could be written, though the present one was.
    pub(super) trouble: Option<io::Error>,
}

impl Journal {
    /// A journal without files.
    pub(super) fn new(disk: Box<dyn Disk>, directory: PathBuf, seed: KeySeed) -> Self {
        Self {
            disk,
            directory,
            seed,
            present: None,
            next: None,
            former: None,
            number: 0,
            batches: 0,
            written: 0,
            seen: Seen::default(),
            batch: Batch::default(),
            patience: 0,
        }
    }

    /// Goes on with a file, from which the store was filled.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn resume<C: Clock>(&mut self, store: &MemoryStore<C>, from: Resumed) -> io::Result<()> {
        let path = self.directory.join(file_name(from.number));
        (self.number, self.batches) = (from.number, from.batches);
        if from.is_damaged {
            self.former = Some(Former { path, set_aside: true });
            return Ok(());
        }
        let sheet = self.disk.reopen(&path, from.end)?;
        self.present = Some(Log { sheet, path, bytes: from.end, base: bytes_of(store) });
        store.changes(&mut self.seen, |_, _| ());
        Ok(())
    }

    /// Whether a file that could not be written is to be begun again.
    pub(super) const fn is_waiting(&self) -> bool {
        self.patience > 0
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.present.as_ref().map_or(0, |log| log.bytes)
    }

    /// Writes what has changed since the last flush.
    ///
    /// # Errors
    /// If it cannot be written; then the next flush writes all states, to a new file.
    pub(super) fn flush<C: Clock>(&mut self, store: &MemoryStore<C>) -> io::Result<Flushed> {
        let flushed = self.try_flush(store);
        if flushed.is_err() {
            if let Some(log) = self.present.take() {
                self.former = Some(Former { path: log.path, set_aside: false });
            }
            self.abandon();
        }
        flushed
    }

    fn try_flush<C: Clock>(&mut self, store: &MemoryStore<C>) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        if self.present.is_none() {
            // All states are told to who has seen none, whatever was noted until now.
            self.seen = Seen::default();
            store.note_changes();
            self.begin(0)?;
        }
        let before = self.written;
        flushed.trouble = self.write(store.clock().now(), |seen, write| store.changes(seen, write))?;
        let changed = self.written - before;
        if let Some(log) = &mut self.present {
            log.sheet.check()?;
            if changed > 0 {
                log.sheet.sync()?;
            }
        }
        self.patience = self.patience.saturating_sub(1);
        // What has not come into the next file is lost there: it must not become whole.
        if flushed.trouble.is_none()
            && let Err(error) = self.go_on(store, changed)
        {
            if self.present.is_none() {
                return Err(error);
            }
            flushed.trouble = Some(error);
        }
        if flushed.trouble.is_some() {
            self.abandon();
            self.patience = FLUSHES_BETWEEN_TRIES;
        }
        flushed.bytes = self.written - before;
        Ok(flushed)
    }

    /// Begins the next file if it is time for it, and writes more of it.
    fn go_on<C: Clock>(&mut self, store: &MemoryStore<C>, changed: u64) -> io::Result<()> {
        let is_long = |log: &Log| log.bytes > GROWTH_MAX * log.base + GROWTH_BYTES;
        if self.next.is_none() && self.patience == 0 && self.present.as_ref().is_some_and(is_long) {
            let parts = bytes_of(store).div_ceil(SLICE_BYTES).clamp(1, 1_024);
            self.begin(usize::try_from(parts).unwrap_or(1))?;
        }
        // So much that the file before has hardly grown by half until it is done.
        let budget = (2 * changed).max(bytes_of(store) / 8).max(SLICE_BYTES);
        let present = self.present.take();
        let result = self.slice(store, budget);
        self.present = present;
        result?;
        let Some(begun) = self.next.take_if(|begun| begun.part >= begun.parts) else { return Ok(()) };
        self.complete(begun)
    }

    /// Writes further parts of all states to the file that is begun, about so much.
    fn slice<C: Clock>(&mut self, store: &MemoryStore<C>, budget: u64) -> io::Result<()> {
        let before = self.written;
        while self.written - before < budget
            && let Some(begun) = &mut self.next
            && begun.part < begun.parts
        {
            let (part, parts) = (begun.part, begun.parts);
            begun.part += 1;
            self.write(store.clock().now(), |_, write| store.part(part, parts, write))?;
        }
        Ok(())
    }

    /// Gives the file that is whole now its name, and removes the one before.
    fn complete(&mut self, begun: Begun) -> io::Result<()> {
        let Begun { mut log, .. } = begun;
        log.sheet.sync()?;
        let path = log.path.with_extension("");
        if let Err(error) = self.disk.rename(&log.path, &path) {
            // It may have its name all the same, and would be read in place of the one before: neither is gone on with.
            if let Some(present) = self.present.take() {
                self.former = Some(Former { path: present.path, set_aside: false });
            }
            // If it still has its former name, nobody reads it.
            let _ = self.disk.remove(&log.path);
            return Err(error);
        }
        log.path = path;
        log.base = log.bytes;
        if let Some(present) = self.present.replace(log) {
            self.former = Some(Former { path: present.path, set_aside: false });
        }
        if let Some(former) = self.former.take() {
            // It has done its duty: if it stays, the next start removes it.
            let _ = if former.set_aside {
                self.disk.rename(&former.path, &former.path.with_extension("damaged"))
            } else {
                self.disk.remove(&former.path)
            };
        }
        Ok(())
    }

    /// Begins a file.
    fn begin(&mut self, parts: usize) -> io::Result<()> {
        self.number += 1;
        let path = self.directory.join(file_name(self.number)).with_extension("new");
        let sheet = self.disk.create(&path)?;
        let log = Log { sheet, path, bytes: 0, base: 0 };
        let head = Head { number: self.number, seed: self.seed }.write();
        self.next.insert(Begun { log, part: 0, parts }).log.write(&head)
    }

    /// Removes the file that is begun, if there is one.
    fn abandon(&mut self) {
        if let Some(begun) = self.next.take() {
            // If it stays, it has not got its name, so nobody will read it.
            let _ = self.disk.remove(&begun.log.path);
        }
    }

    /// Writes what `tell` tells, in batches, to all files that are written. Returns why it could not be written to the next one, if
    /// only there.
    fn write(
        &mut self,
        time: Timestamp,
        tell: impl FnOnce(&mut Seen, &mut dyn FnMut(Part, Entry<'_>)),
    ) -> io::Result<Option<io::Error>> {
        let mut writing = Writing {
            time,
            batch: &mut self.batch,
            batches: &mut self.batches,
            written: &mut self.written,
            present: self.present.as_mut(),
            next: self.next.as_mut().map(|begun| &mut begun.log),
            failed: None,
            next_failed: None,
        };
        tell(&mut self.seen, &mut |part, entry| writing.push(part, entry));
        writing.end();
        match writing.failed {
            Some(error) => Err(error),
            None => Ok(writing.next_failed),
        }
    }
}

impl Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sheet.write(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Entries on their way into files.
struct Writing<'j> {
    time: Timestamp,
    batch: &'j mut Batch,
    batches: &'j mut u64,
    written: &'j mut u64,
    present: Option<&'j mut Log>,
    next: Option<&'j mut Log>,
    failed: Option<io::Error>,
    /// Of the next file, as long as there is the present one.
    next_failed: Option<io::Error>,
}

impl Writing<'_> {
    fn push(&mut self, part: Part, entry: Entry<'_>) {
        // What cannot be written is read all the same, to the end: it is soon told anew.
        if self.failed.is_none() {
            self.batch.push(part, entry);
            if self.batch.is_long() {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        *self.batches += 1;
        let bytes = self.batch.finish(*self.batches, self.time);
        let has_present = self.present.is_some();
        if let Some(log) = &mut self.present {
            *self.written += bytes.len() as u64;
            self.failed = log.write(bytes).err();
        }
        if let Some(log) = &mut self.next
            && self.next_failed.is_none()
        {
            *self.written += bytes.len() as u64;
            *if has_present { &mut self.next_failed } else { &mut self.failed } = log.write(bytes).err();
        }
        self.batch.clear();
    }
}

/// About how long all states of a store are, as they are written.
fn bytes_of<C: Clock>(store: &MemoryStore<C>) -> u64 {
    store.len() as u64 * 16
}

/// The name of a file.
pub(super) fn file_name(number: u64) -> String {
    format!("state-{number:010}")
}

/// The number of a file that has its name.
pub(super) fn file_number(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix("state-")?;
    (digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}
