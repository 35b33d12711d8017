//! A record in a file: a line for each change, which says what a row is now. The last line of a row counts.
//!
//! A line has the parts of a row between tabs, and ends with a hash of them, so that one that was not written to its end is known.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tollgate_core::{HashedKey, KeyBuilder, KeyHash, KeySeed, LimitId, Timestamp};

use super::book::{Book, Period, PeriodId, Row};

/// What lines begin with: the version of their form.
const VERSION: &str = "1";

/// A file that is longer than this, and than so many times what it was when it was written anew, is written anew.
const STALE_BYTES: u64 = 16 << 20;
const STALE_TIMES: u64 = 4;

/// A file that lines are added to.
#[derive(Debug)]
pub(super) struct Lines {
    directory: PathBuf,
    file: File,
    /// How long it is, up to the last line that was written to its end.
    length: u64,
    /// How long it was when it was written anew.
    anew: u64,
    /// Locked as long as this is there.
    _lock: File,
}

/// The file of a directory, and what it holds.
pub(super) fn open(directory: &Path, book: &mut Book) -> io::Result<Lines> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    fs::create_dir_all(directory).map_err(named(directory))?;
    let lock_path = directory.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(named(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(named(&lock_path)(error)),
        Err(TryLockError::WouldBlock) => {
            let why = format!("{}: another process keeps its record here", directory.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
    }
    let path = path_in(directory);
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(mut file) => drop(file.read_to_end(&mut bytes).map_err(named(&path))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(&path)(error)),
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (index, line) in lines.iter().enumerate() {
        let read = std::str::from_utf8(line).ok().and_then(|line| read(line.strip_suffix('\n')?));
        match read {
            Some((id, period, identity, row)) => book.set(id, period, identity, row),
            // What was not written to its end was not told to anybody either.
            None if index + 1 == lines.len() => {}
            None => {
                let why = format!(
                    "{}:{}: this is no line of a record; mend it, or move the file away to begin anew",
                    path.display(),
                    index + 1
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    let (file, length) = replace(directory, &book.lines()).map_err(named(&path))?;
    Ok(Lines { directory: directory.to_owned(), file, length, anew: length, _lock: lock })
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("use.log")
}

/// Puts a file of these lines in place of the one that is there, at once.
fn replace(directory: &Path, lines: &str) -> io::Result<(File, u64)> {
    let (path, new) = (path_in(directory), directory.join("use.log.new"));
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    // It says who uses how much.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    // The name as well.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok((file, lines.len() as u64))
}

impl Lines {
    /// Whether most of it is lines of rows that have changed since.
    pub(super) fn is_stale(&self) -> bool {
        self.length > (self.anew.saturating_mul(STALE_TIMES)).max(STALE_BYTES)
    }

    /// Adds lines, and waits until they are on the disk.
    pub(super) fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if written.is_ok() {
            self.length += lines.len() as u64;
        } else {
            // What is there of them is written again.
            self.file.set_len(self.length)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length))?;
        }
        written
    }

    /// Writes the file anew.
    pub(super) fn rewrite(&mut self, lines: &str) -> io::Result<()> {
        (self.file, self.length) = replace(&self.directory, lines)?;
        self.anew = self.length;
        Ok(())
    }
}

/// The line that says what a row is.
pub(super) fn line(id: PeriodId, period: &Period, identity: Option<&str>, row: &Row) -> String {
    let optional =
        |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| format!("={}", escaped(text)));
    let mut line = [
        VERSION.to_owned(),
        format!("{:016x}", id.limit.0),
        id.start.as_nanos().to_string(),
        id.end.as_nanos().to_string(),
        escaped(&period.local.0),
        escaped(&period.local.1),
        escaped(&period.policy),
        optional(period.tier.as_deref()),
        optional(period.limit_name.as_deref()),
        optional(identity),
        format!("{:032x}", row.key.0),
        row.whole.to_string(),
        row.used.to_string(),
    ]
    .join("\t");
    let sum = sum(&line);
    // Writing to a string cannot fail.
    let _ = writeln!(line, "\t{sum:016x}");
    line
}

fn read(line: &str) -> Option<(PeriodId, Period, Option<Box<str>>, Row)> {
    let (rest, told) = line.rsplit_once('\t')?;
    if u64::from_str_radix(told, 16).ok()? != sum(rest) {
        return None;
    }
    let mut parts = rest.split('\t');
    let mut next = || parts.next();
    if next()? != VERSION {
        return None;
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let optional = |text: &str| match text.strip_prefix('=') {
        Some(text) => Some(Some(unescaped(text))),
        None => (text == "-").then_some(None),
    };
    let limit = LimitId(u64::from_str_radix(next()?, 16).ok()?);
    let (start, end) = (Timestamp::from_nanos(number(next()?)?), Timestamp::from_nanos(number(next()?)?));
    let local = (unescaped(next()?), unescaped(next()?));
    let policy = unescaped(next()?);
    let (tier, limit_name, identity) = (optional(next()?)?, optional(next()?)?, optional(next()?)?);
    let key = KeyHash(u128::from_str_radix(next()?, 16).ok()?);
    let row = Row { key, whole: number(next()?)?, used: number(next()?)? };
    let period = Period::new(policy, tier, limit_name, local);
    Some((PeriodId { end, start, limit }, period, identity.map(Into::into), row))
}

/// A text without tabs and ends of lines.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\t', "%09").replace('\n', "%0A").replace('\r', "%0D")
}

fn unescaped(text: &str) -> String {
    text.replace("%09", "\t").replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
}

/// A hash against accidents.
fn sum(text: &str) -> u64 {
    let mut builder = KeyBuilder::new(&KeySeed::new([0; 16]));
    builder.push(text);
    builder.low()
}
