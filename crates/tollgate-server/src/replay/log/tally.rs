//! What is wrong with a line, and the count of such lines.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::format::MAX_LINE;
use super::names::Role;

/// How many lines were read, and how many of them were bad.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Lines of any kind.
    pub(crate) lines: u64,
    /// Lines that hold a request.
    pub(crate) entries: u64,
    /// Lines with nothing but white space.
    pub(crate) blank: u64,
    /// Lines that hold something else.
    pub(crate) bad: u64,
    examples: Vec<BadLine>,
    examples_max: usize,
}

impl Tally {
    /// Nothing counted yet, with room for a few bad lines to show.
    pub(crate) fn new(examples_max: usize) -> Self {
        Self { examples_max, ..Self::default() }
    }

    /// The first bad lines.
    pub(crate) fn examples(&self) -> &[BadLine] {
        &self.examples
    }

    /// Adds the count of a batch. Batches that are added in their order leave the first bad lines as examples.
    pub(crate) fn add(&mut self, batch: &Tally) {
        self.lines += batch.lines;
        self.entries += batch.entries;
        self.blank += batch.blank;
        self.bad += batch.bad;
        let room = self.examples_max.saturating_sub(self.examples.len());
        self.examples.extend(batch.examples.iter().take(room).cloned());
    }

    /// Starts again from zero.
    pub(super) fn reset(&mut self, examples_max: usize) {
        self.examples.clear();
        *self = Self { examples: std::mem::take(&mut self.examples), examples_max, ..Self::default() };
    }

    /// Counts a bad line; `example` is only made while there is room for it.
    pub(super) fn bad(&mut self, example: impl FnOnce() -> BadLine) {
        self.bad += 1;
        if self.examples.len() < self.examples_max {
            self.examples.push(example());
        }
    }
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// The input's name as it was given.
    pub(crate) input: Arc<str>,
    /// Its number in the input, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// Its beginning, made safe for a terminal.
    pub(crate) excerpt: String,
}

/// `access.log:12: no request in quotes: the line's beginning`
impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, line, reason, excerpt } = self;
        write!(f, "{input}:{line}: {reason}: {excerpt}")
    }
}

/// What is wrong with a line. Small and without allocation: a log can be nothing but bad lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Flaw {
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,

    #[error("fewer than three fields before the time")]
    Head,
    #[error("no time in square brackets")]
    Bracket,
    #[error("no client: its field is `-` or empty")]
    Client,
    #[error("no request in quotes after the time")]
    Request,
    #[error("the request has no closing quote")]
    RequestQuote,
    #[error("no status of three digits after the request")]
    Status,
    #[error("no size after the status: neither a number nor `-`")]
    Size,
    #[error("the referrer or user agent has no closing quote")]
    AgentQuote,

    #[error("the method is no HTTP method")]
    Method,
    #[error("the request has no target after its method")]
    Target,

    #[error("the time is not like 17/May/2015:10:05:03 +0000, 2015-05-17T10:05:03Z or 1431857103")]
    TimeSyntax,
    #[error("the time is on a day that no calendar has")]
    Date,
    #[error("the time is not between 00:00:00 and 23:59:60")]
    Clock,
    #[error("the time has no offset from UTC like Z or +01:00")]
    Zone,
    #[error("the time is not within the years 1970 to 2500")]
    Year,

    #[error("not a JSON object")]
    JsonObject,
    #[error("not JSON, or cut off")]
    Json,
    #[error("JSON nested more than {} deep", super::json::MAX_DEPTH)]
    JsonDepth,
    #[error("more text after the JSON object")]
    JsonRest,
    #[error("no {}", .0.name())]
    Missing(Role),
}

/// The beginning of a line in at most 80 characters that are safe to print: whatever could steer a terminal or
/// deceive the eye is a point.
pub(super) fn excerpt(line: &[u8]) -> String {
    const MAX: usize = 80;

    // A character has at most four bytes; cutting one in two makes at most one point too many, behind the end.
    let head = String::from_utf8_lossy(&line[..line.len().min(4 * (MAX + 1))]);
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() { c } else { '.' };
    if head.chars().count() <= MAX {
        return head.chars().map(safe).collect();
    }
    head.chars().take(MAX - 1).map(safe).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_harmless() {
        assert_eq!(excerpt(b""), "");
        assert_eq!(excerpt(b"GET /\x1b[2J\0\xff\xe2\x80\xae caf\xc3\xa9"), "GET /.[2J... café");
        assert_eq!(excerpt(&[b'a'; 80]), "a".repeat(80));
        assert_eq!(excerpt(&[b'a'; 81]), format!("{}…", "a".repeat(79)));
        assert_eq!(excerpt(&"é".repeat(500).into_bytes()).chars().count(), 80);
    }

    #[test]
    fn only_the_first_examples_are_kept() {
        let example = |line| BadLine { input: "a".into(), line, reason: "bad".into(), excerpt: "x".into() };
        let mut batch = Tally::new(3);
        (1..=5).for_each(|line| batch.bad(|| example(line)));
        assert_eq!((batch.bad, batch.examples().len()), (5, 3));

        let mut all = Tally::new(4);
        all.add(&batch);
        batch.reset(3);
        batch.bad(|| example(6));
        batch.bad(|| example(7));
        all.add(&batch);
        assert_eq!(all.bad, 7);
        assert_eq!(all.examples().iter().map(|bad| bad.line).collect::<Vec<_>>(), [1, 2, 3, 6]);
        assert_eq!(all.examples()[0].to_string(), "a:1: bad: x");
    }
}
