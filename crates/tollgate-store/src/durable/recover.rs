//! Reading the files back.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tollgate_core::{Clock, KeySeed, Timestamp};

use super::DurableError;
use super::format::{BATCH_HEAD_BYTES, BATCH_MAGIC, BadHead, BatchHead, HEAD_BYTES, Head, entries};
use super::journal::{Resumed, file_number};
use crate::memory::MemoryStore;

/// How much of what follows a bad batch is looked through for whole ones.
const SEARCHED_MAX: u64 = 64 << 20;

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// How many keys have a state again.
    pub keys: usize,
    /// When the last of the states was read from memory; `None` if there was nothing to be found.
    pub as_of: Option<Timestamp>,
    /// How many states found no room, because the store's capacity is smaller than it was: those keys are as new.
    pub without_room: u64,
    /// What could not be read, if anything.
    pub cut: Option<Cut>,
}

/// The end of a file that could not be read, and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where it begins, in bytes.
    pub at: u64,
    /// How long it is.
    pub bytes: u64,
    /// Whether there is something whole behind it, so that the file was damaged later and not torn while it was written. Such
    /// a file is set aside, with `.damaged` behind its name.
    pub is_damage: bool,
}

/// What is in a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The file with the latest states.
    pub(super) latest: Option<PathBuf>,
    /// Those that stand in no one's place any more.
    pub(super) stale: Vec<PathBuf>,
}

impl Found {
    pub(super) fn look(directory: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        let mut latest = 0;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_new = path.extension().is_some_and(|extension| extension == "new");
            if is_new && file_number(&path.with_extension("")).is_some() {
                found.stale.push(path);
                continue;
            }
            let Some(number) = file_number(&path) else { continue };
            let path = if number > latest || found.latest.is_none() {
                latest = number;
                found.latest.replace(path)
            } else {
                Some(path)
            };
            found.stale.extend(path);
        }
        Ok(found)
    }
}

/// A file of states that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    path: PathBuf,
    file: BufReader<File>,
    bytes: u64,
    head: Head,
}

impl Reading {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it should be.
    pub(super) fn open(path: PathBuf) -> Result<Self, DurableError> {
        let unreadable = |source| DurableError::File { path: path.clone(), doing: "read", source };
        let file = File::open(&path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = [0; HEAD_BYTES];
        match file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(DurableError::Damaged { path });
            }
            Err(error) => return Err(unreadable(error)),
        }
        match Head::read(&head) {
            Ok(head) => Ok(Self { path, file, bytes, head }),
            Err(BadHead::Foreign) => Err(DurableError::Foreign { path }),
            Err(BadHead::Damaged) => Err(DurableError::Damaged { path }),
            Err(BadHead::Version(version)) => Err(DurableError::Version { path, version }),
        }
    }

    pub(super) const fn seed(&self) -> KeySeed {
        self.head.seed
    }

    /// Fills a store, up to the first batch that is not whole.
    ///
    /// # Errors
    /// If the file cannot be read: nothing is known then of what it holds.
    pub(super) fn fill<C: Clock>(
        mut self,
        store: &MemoryStore<C>,
    ) -> Result<(Resumed, Recovery), DurableError> {
        let now = store.clock().now();
        let mut recovery = Recovery::default();
        let mut resumed =
            Resumed { number: self.head.number, batches: 0, end: HEAD_BYTES as u64, is_damaged: false };
        let mut sections = Vec::new();
        let read = loop {
            match self.batch(&resumed, &mut sections) {
                Ok(Some(head)) => {
                    // Its checksum is right, so whatever is not known in it was written on purpose, and ends it.
                    let without_room = &mut recovery.without_room;
                    let known = entries(&sections, |part, entry| {
                        *without_room += u64::from(!store.put(part, entry, now));
                    });
                    if known.is_none() {
                        break Ok(());
                    }
                    recovery.as_of = Some(head.time);
                    resumed.batches = head.number;
                    resumed.end += (BATCH_HEAD_BYTES + head.length) as u64;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let cut = read.and_then(|()| self.cut(&resumed));
        recovery.cut =
            cut.map_err(|source| DurableError::File { path: self.path.clone(), doing: "read", source })?;
        resumed.is_damaged = recovery.cut.as_ref().is_some_and(|cut| cut.is_damage);
        recovery.keys = store.len();
        Ok((resumed, recovery))
    }

    /// The next batch, if it is whole.
    fn batch(&mut self, before: &Resumed, sections: &mut Vec<u8>) -> io::Result<Option<BatchHead>> {
        let rest = self.bytes - before.end;
        let mut head = [0; BATCH_HEAD_BYTES];
        if rest < head.len() as u64 {
            return Ok(None);
        }
        self.file.read_exact(&mut head)?;
        let Some(head) = BatchHead::read(&head) else { return Ok(None) };
        if head.number <= before.batches || (BATCH_HEAD_BYTES + head.length) as u64 > rest {
            return Ok(None);
        }
        sections.resize(head.length, 0);
        self.file.read_exact(sections)?;
        Ok(head.fits(sections).then_some(head))
    }

    /// What is left behind the last whole batch.
    fn cut(&mut self, resumed: &Resumed) -> io::Result<Option<Cut>> {
        let bytes = self.bytes - resumed.end;
        if bytes == 0 {
            return Ok(None);
        }
        self.file.seek(SeekFrom::Start(resumed.end))?;
        let mut rest = Vec::new();
        self.file.by_ref().take(SEARCHED_MAX).read_to_end(&mut rest)?;
        let is_whole = |bytes: &[u8]| {
            let (head, sections) = bytes.split_first_chunk()?;
            let head = BatchHead::read(head)?;
            let sections = sections.get(..head.length)?;
            head.fits(sections).then_some(())
        };
        let starts = rest.windows(BATCH_MAGIC.len()).enumerate().skip(1);
        let is_damage = starts
            .filter(|(_, bytes)| bytes == BATCH_MAGIC)
            .any(|(start, _)| is_whole(&rest[start..]).is_some());
        Ok(Some(Cut { path: self.path.clone(), at: resumed.end, bytes, is_damage }))
    }
}
