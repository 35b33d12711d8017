//! Access logs, read as a stream of requests.
//!
//! Reading is two steps, so that they can run on two threads. [`Reader::read_chunk`] opens, decompresses and
//! cuts the input at line ends; `Parser::parse_chunk` finds the requests in such a chunk. Both work in a
//! [`Batch`], which owns its text and is used again and again: once warm, nothing is allocated per line.
//!
//! ```text
//! let mut reader = Reader::open(&paths, &options)?;
//! let mut parser = reader.parser();
//! let mut tally = Tally::new(options.examples_max);
//! while reader.read_chunk(&mut batch)? {
//!     parser.parse_chunk(&mut batch);
//!     tally.add(batch.tally());
//!     for entry in batch.entries() { .. }
//! }
//! ```
//!
//! A log holds what strangers sent. No line is trusted: a line that cannot be read is counted and shown as an
//! example, never fatal; memory is bounded by the chunk, not by the line; fields are bytes, not text.

mod batch;
mod clf;
mod escape;
mod fields;
mod format;
mod input;
mod json;
mod names;
mod parser;
mod reader;
mod request;
mod tally;
mod time;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use thiserror::Error;

pub(crate) use batch::{Batch, Entry};
pub(crate) use fields::FieldNames;
pub(crate) use format::FormatChoice;
use input::Compression;
pub(crate) use reader::{Progress, Reader};
pub(crate) use tally::{BadLine, Tally};
#[cfg(test)]
use {format::Format, parser::Parser};

/// How to read the logs.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The format of the lines, or the wish to find out.
    pub(crate) format: FormatChoice,
    /// Where the fields of a JSON line are.
    pub(crate) fields: FieldNames,
    /// How many bad lines to keep as examples; all are counted.
    pub(crate) examples_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { format: FormatChoice::Auto, fields: FieldNames::default(), examples_max: 10 }
    }
}

/// Why an input cannot be read, or not to its end.
///
/// After any of these the [`Reader`] stands at the next input: the caller may stop, or say it and go on.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    /// It is not there, or may not be read.
    #[error("cannot read {input}: {}", reason(.source))]
    Open {
        /// The path as it was given.
        input: Arc<str>,
        /// What the system said.
        source: io::Error,
    },

    /// It is a directory.
    #[error("cannot read {input}: it is a directory; name the files in it, for example {input}/*")]
    Directory {
        /// The path as it was given.
        input: Arc<str>,
    },

    /// Standard input was asked for more than once.
    #[error("standard input can be read only once: give `-` a single time")]
    StdinTwice,

    /// It is compressed in a way that is not read.
    #[error(
        "cannot read {input}: it is {kind} data; decompress it first, for example `{tool} {input} | tollgate replay ... -`"
    )]
    Unsupported {
        /// The path as it was given.
        input: Arc<str>,
        /// The compression's name.
        kind: &'static str,
        /// The command that decompresses it to standard output.
        tool: &'static str,
    },

    /// The system failed while it was read.
    #[error("cannot read {input}{}: {}", beyond(*.line), reason(.source))]
    Read {
        /// The path as it was given.
        input: Arc<str>,
        /// The last whole line that was read; 0 if none was.
        line: u64,
        /// What the system said.
        source: io::Error,
    },

    /// Its compressed data is damaged or ends too soon.
    #[error(
        "{input} is broken {compression} data near byte {offset}{}: {}; the lines before it were read",
        beyond(*.line),
        reason(.source)
    )]
    Corrupt {
        /// The path as it was given.
        input: Arc<str>,
        /// The compression it has.
        compression: Compression,
        /// About how many compressed bytes were good.
        offset: u64,
        /// The last whole line that was read; 0 if none was.
        line: u64,
        /// What the decoder said.
        source: io::Error,
    },
}

/// How far an input could be read.
fn beyond(line: u64) -> String {
    match line {
        0 => String::new(),
        line => format!(" beyond line {line}"),
    }
}

/// What the system said, without the number that [`io::Error`] writes behind it.
fn reason(error: &io::Error) -> String {
    let said = error.to_string();
    match said.find(" (os error ") {
        Some(at) => said[..at].to_owned(),
        None => said,
    }
}
