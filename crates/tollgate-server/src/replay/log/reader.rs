//! From the inputs to chunks of text.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::{memchr, memchr_iter, memrchr};

use super::batch::{Batch, CHUNK};
use super::format::{Format, FormatChoice, MAX_LINE};
use super::input::{Decoder, Raw};
use super::parser::Parser;
use super::{LogError, Options};

/// How much is kept of a line that is too long: enough to see that it is, even if what was cut off began after a
/// carriage return, which the parser takes off.
const KEPT: usize = MAX_LINE + 2;

/// Reads logs one after the other, decompresses them, and cuts them into chunks at line ends.
pub(crate) struct Reader {
    waiting: VecDeque<Source>,
    current: Option<Input>,
    /// The format of every input; `None` if each has to tell.
    format: Option<Format>,
    /// Finds out the format of an input.
    parser: Parser,
    progress: Progress,
}

impl Reader {
    /// Makes ready to read the files at `paths` in their order; `-` is standard input.
    ///
    /// All are looked at now, so that a wrong name at the end is not found out after hours; each is opened when its
    /// turn comes.
    pub(crate) fn open(paths: &[PathBuf], options: &Options) -> Result<Self, LogError> {
        let mut total = Some(0);
        let mut waiting = VecDeque::with_capacity(paths.len());
        for path in paths {
            let (source, length) = Source::new(path)?;
            if source.is_stdin() && waiting.iter().any(Source::is_stdin) {
                return Err(LogError::StdinTwice);
            }
            total = total.zip(length).map(|(total, length)| total + length);
            waiting.push_back(source);
        }
        Ok(Self::new(waiting, total, options))
    }

    /// A parser for the chunks of this reader, to be used here or on another thread.
    pub(crate) fn parser(&self) -> Parser {
        self.parser.clone()
    }

    /// How far reading has come. The answer can be kept and asked again from another thread.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Fills `batch` with the next lines, all of one input; false when there are no more.
    ///
    /// After an error the next call goes on with the next input. What an input held before it broke has been given out
    /// by then, up to its last whole line.
    pub(crate) fn read_chunk(&mut self, batch: &mut Batch) -> Result<bool, LogError> {
        batch.clear();
        loop {
            let input = match &mut self.current {
                Some(input) => input,
                None => match self.waiting.pop_front() {
                    Some(source) => self.current.insert(source.open(self.format, &self.progress)?),
                    None => return Ok(false),
                },
            };
            if input.fill(batch) {
                if input.format.is_none() {
                    input.format = self.parser.detect(&batch.text[..batch.filled], batch.first_line);
                }
                batch.format = input.format;
                return Ok(true);
            }
            if let Some(error) = self.current.take().and_then(Input::into_error) {
                return Err(error);
            }
        }
    }

    pub(super) fn new(waiting: VecDeque<Source>, total: Option<u64>, options: &Options) -> Self {
        Self {
            waiting,
            current: None,
            format: match options.format {
                FormatChoice::Auto => None,
                FormatChoice::Always(format) => Some(format),
            },
            parser: Parser::new(options),
            progress: Progress { read: Arc::default(), total },
        }
    }
}

/// How many bytes of the inputs were read, as they are: a compressed file counts with its compressed size.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    /// The bytes read so far, over all inputs.
    pub(crate) fn bytes_read(&self) -> u64 {
        // Relaxed: only shown to a person, nothing depends on its order with other memory.
        self.read.load(Ordering::Relaxed)
    }

    /// The size of all inputs when they were looked at; unknown if one of them is no regular file.
    pub(crate) fn bytes_total(&self) -> Option<u64> {
        self.total
    }
}

/// An input whose turn has not come.
pub(super) struct Source {
    name: Arc<str>,
    origin: Origin,
}

pub(super) enum Origin {
    File(PathBuf),
    Stdin,
    /// Bytes that a test makes.
    #[cfg(test)]
    Test(Box<dyn Read + Send>),
}

impl Source {
    /// The input at `path` and its size, if it is a regular file.
    fn new(path: &Path) -> Result<(Self, Option<u64>), LogError> {
        let name: Arc<str> = Arc::from(path.to_string_lossy());
        if path.as_os_str() == "-" {
            return Ok((Self { name: Arc::from("standard input"), origin: Origin::Stdin }, None));
        }
        let failed = |source| LogError::Open { input: Arc::clone(&name), source };
        let about = fs::metadata(path).map_err(failed)?;
        if about.is_dir() {
            return Err(LogError::Directory { input: name });
        }
        // Opened to see whether it may be; not so a pipe, whose writer would see it closed again.
        let length = about.is_file().then_some(about.len());
        if length.is_some() {
            File::open(path).map_err(failed)?;
        }
        Ok((Self { name, origin: Origin::File(path.to_owned()) }, length))
    }

    #[cfg(test)]
    pub(super) fn test(name: &str, source: Box<dyn Read + Send>) -> Self {
        Self { name: Arc::from(name), origin: Origin::Test(source) }
    }

    fn is_stdin(&self) -> bool {
        matches!(self.origin, Origin::Stdin)
    }

    fn open(self, format: Option<Format>, progress: &Progress) -> Result<Input, LogError> {
        let Self { name, origin } = self;
        let failed = |source| LogError::Open { input: Arc::clone(&name), source };
        let source: Box<dyn Read + Send> = match origin {
            Origin::File(path) => Box::new(File::open(path).map_err(failed)?),
            Origin::Stdin => Box::new(io::stdin()),
            #[cfg(test)]
            Origin::Test(source) => source,
        };
        match Decoder::new(Raw::new(source, Arc::clone(&progress.read))).map_err(failed)? {
            Ok(decoder) => Ok(Input::new(name, decoder, format)),
            Err(unsupported) => {
                Err(LogError::Unsupported { input: name, kind: unsupported.kind, tool: unsupported.tool })
            }
        }
    }
}

/// The input that is being read.
struct Input {
    name: Arc<str>,
    decoder: Decoder,
    format: Option<Format>,
    /// The beginning of the next line, which the last chunk had no room for.
    carry: Vec<u8>,
    /// Whether the rest of that line is to be thrown away, because it is too long.
    skipping: bool,
    /// The number of the next line, from 1.
    line: u64,
    end: Option<End>,
}

/// Why there is no more to read.
enum End {
    Whole,
    Failed(io::Error),
}

impl Input {
    fn new(name: Arc<str>, decoder: Decoder, format: Option<Format>) -> Self {
        Self { name, decoder, format, carry: Vec::new(), skipping: false, line: 1, end: None }
    }

    /// Fills `batch` with whole lines; false when there are none left.
    fn fill(&mut self, batch: &mut Batch) -> bool {
        let text = &mut batch.text;
        let mut filled = self.carry.len();
        text[..filled].copy_from_slice(&self.carry);
        self.carry.clear();

        while self.end.is_none() && filled < CHUNK {
            filled += self.read(&mut text[filled..]);
            if filled == CHUNK && memchr(b'\n', text).is_none() {
                filled = KEPT;
                self.skipping = true;
            }
        }

        // The last line of an input needs no end; but of an input that broke, it is not whole.
        let cut = match self.end {
            Some(End::Whole) => filled,
            _ => memrchr(b'\n', &text[..filled]).map_or(0, |at| at + 1),
        };
        let rest = &text[cut..filled];
        if self.end.is_none() {
            self.skipping |= rest.len() > KEPT;
            self.carry.extend_from_slice(&rest[..rest.len().min(KEPT)]);
        }
        batch.filled = cut;
        batch.input = Arc::clone(&self.name);
        batch.first_line = self.line;
        self.line += memchr_iter(b'\n', &text[..cut]).count() as u64;
        cut > 0
    }

    /// Reads into the beginning of `room`, which is not empty; says how much of it is to be kept.
    fn read(&mut self, room: &mut [u8]) -> usize {
        let length = match self.decoder.read(room) {
            Ok(0) => {
                self.end = Some(End::Whole);
                return 0;
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return 0,
            Err(error) => {
                self.end = Some(End::Failed(error));
                return 0;
            }
        };
        if !self.skipping {
            return length;
        }
        let Some(newline) = memchr(b'\n', &room[..length]) else {
            return 0;
        };
        self.skipping = false;
        room.copy_within(newline..length, 0);
        length - newline
    }

    /// What made it end too soon.
    fn into_error(self) -> Option<LogError> {
        let Some(End::Failed(source)) = self.end else {
            return None;
        };
        let (input, line) = (self.name, self.line - 1);
        let (offset, failed) = self.decoder.position();
        Some(if failed {
            LogError::Read { input, line, source }
        } else {
            LogError::Corrupt { input, compression: self.decoder.compression(), offset, line, source }
        })
    }
}
