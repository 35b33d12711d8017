//! A record in a file: a line for each change, which says what a row is now. The last line of a row counts.
//!
//! A line has the parts of a row between tabs, and ends with a hash of them, so that one that was not written to its end is known.

use std::borrow::Cow;
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
    /// Something may lie beyond that: an attempt to add lines failed.
    is_torn: bool,
    /// It may not be the one that bears the name: an attempt to write it anew failed.
    is_doubtful: bool,
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
    let (file, length) = written(directory, &book.lines()).map_err(named(&path))?;
    put_in_place(directory).map_err(named(&path))?;
    let directory = directory.to_owned();
    Ok(Lines { directory, file, length, anew: length, is_torn: false, is_doubtful: false, _lock: lock })
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("use.log")
}

fn path_of_the_new_one(directory: &Path) -> PathBuf {
    directory.join("use.log.new")
}

/// A file of these lines, on the disk, and how long it is.
fn written(directory: &Path, lines: &str) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    // It says who uses how much.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path_of_the_new_one(directory))?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    Ok((file, lines.len() as u64))
}

/// Puts the new file in place of the one that is there, at once.
fn put_in_place(directory: &Path) -> io::Result<()> {
    fs::rename(path_of_the_new_one(directory), path_in(directory))?;
    // The name as well.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

impl Lines {
    /// Whether it should be written anew: most of it is lines of rows that have changed since, or that was tried and failed.
    pub(super) fn is_stale(&self) -> bool {
        self.is_doubtful || self.length > (self.anew.saturating_mul(STALE_TIMES)).max(STALE_BYTES)
    }

    /// Adds lines, and waits until they are on the disk.
    pub(super) fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_doubtful {
            return Err(io::Error::other("the record could not be written anew, which is tried again"));
        }
        if self.is_torn {
            // What is there of those lines is written again.
            self.file.set_len(self.length)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length))?;
        }
        self.is_torn = true;
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.is_torn = false;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Writes the file anew. If that fails it must be tried again before lines are added: nobody knows which file has the name then.
    pub(super) fn rewrite(&mut self, lines: &str) -> io::Result<()> {
        let (file, length) = written(&self.directory, lines)?;
        self.is_doubtful = true;
        put_in_place(&self.directory)?;
        (self.file, self.length, self.anew) = (file, length, length);
        (self.is_torn, self.is_doubtful) = (false, false);
        Ok(())
    }
}

/// What a row is now, to be told in a line.
#[derive(Debug)]
pub(super) struct Line<'b> {
    pub(super) id: PeriodId,
    pub(super) period: &'b Period,
    pub(super) identity: Option<Cow<'b, str>>,
    pub(super) row: Row,
}

impl Line<'_> {
    pub(super) fn text(&self) -> String {
        let Self { id, period, identity, row } = self;
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
            optional(identity.as_deref()),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of a row of which so much was used.
    fn line(used: u64) -> String {
        let (id, period, row) = parts(used);
        Line { id, period: &period, identity: Some("ana".into()), row }.text()
    }

    fn parts(used: u64) -> (PeriodId, Period, Row) {
        let id = PeriodId {
            end: Timestamp::from_secs(7_200),
            start: Timestamp::from_secs(3_600),
            limit: LimitId(9),
        };
        let period = Period::new("plan".to_owned(), None, None, ("1:00".to_owned(), "2:00".to_owned()));
        (id, period, Row { key: KeyHash(5), whole: 100, used })
    }

    /// How much the record says was used.
    fn used(directory: &Path) -> u64 {
        let mut book = Book::new(10);
        drop(open(directory, &mut book).unwrap());
        book.rows().iter().map(|row| row.used).sum()
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let (id, _, row) = parts(7);
        let period =
            Period::new("a\tb%".to_owned(), Some("=".to_owned()), None, ("-".to_owned(), String::new()));
        let line = Line { id, period: &period, identity: Some("Zoë\r\n%25".into()), row }.text();
        let (read_id, read_period, identity, read_row) = read(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!((read_id, read_row.used, identity.as_deref()), (id, 7, Some("Zoë\r\n%25")));
        assert_eq!((read_period.policy, read_period.tier), (period.policy, period.tier));
    }

    #[test]
    fn where_it_cannot_be_written_anew_nothing_is_added_until_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_in(directory.path());
        let mut lines = open(directory.path(), &mut Book::new(10)).unwrap();
        lines.add(line(1).as_bytes()).unwrap();
        // Nothing can take the name of a directory.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(lines.rewrite(&line(1)).is_err());
        assert!(lines.add(line(2).as_bytes()).is_err());
        assert!(lines.is_stale());
        fs::remove_dir(&path).unwrap();
        lines.rewrite(&line(2)).unwrap();
        assert!(!lines.is_stale());
        lines.add(line(3).as_bytes()).unwrap();
        drop(lines);
        assert_eq!(used(directory.path()), 3);
    }

    #[test]
    fn what_an_attempt_has_left_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let mut lines = open(directory.path(), &mut Book::new(10)).unwrap();
        lines.add(line(1).as_bytes()).unwrap();
        // As a disk that fills up leaves it.
        lines.file.write_all(&line(2).as_bytes()[..20]).unwrap();
        lines.is_torn = true;
        lines.add(line(2).as_bytes()).unwrap();
        lines.add(line(3).as_bytes()).unwrap();
        drop(lines);
        assert_eq!(used(directory.path()), 3);
    }
}
