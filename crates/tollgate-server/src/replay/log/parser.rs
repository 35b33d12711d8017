//! From a chunk of text to the requests in it.

use std::sync::Arc;

use memchr::memchr;

use super::Options;
use super::batch::{Batch, Row, Span};
use super::fields::{FieldNames, Wanted};
use super::format::{Format, MAX_LINE};
use super::tally::{BadLine, Flaw, excerpt};
use super::time::Times;
use super::{clf, json};

/// Finds the requests in a chunk of text.
///
/// It needs no order: clones of it can parse chunks on several threads.
#[derive(Clone, Debug)]
pub(crate) struct Parser {
    fields: Arc<FieldNames>,
    wanted: Arc<Wanted>,
    examples_max: usize,
    times: Times,
    found: json::Found,
}

impl Parser {
    pub(super) fn new(options: &Options) -> Self {
        let wanted = Wanted::new(&options.fields);
        Self {
            fields: Arc::new(options.fields.clone()),
            examples_max: options.examples_max,
            times: Times::default(),
            found: json::Found::new(&wanted),
            wanted: Arc::new(wanted),
        }
    }

    /// Finds the requests in the text of `batch`, and counts its lines.
    pub(crate) fn parse_chunk(&mut self, batch: &mut Batch) {
        batch.clear_rows(self.examples_max, self.wanted.attributes().len());
        let Batch { text, filled, input, first_line, format, side, rows, attributes, tally, .. } = batch;
        let text = &text[..*filled];
        for (start, end) in Lines::new(text, *first_line) {
            let line = &text[start..end];
            tally.lines += 1;
            if is_blank(line) {
                tally.blank += 1;
                continue;
            }
            let before = (side.len(), attributes.len());
            match self.row(*format, &text[..end], start, side, attributes) {
                Ok(row) => rows.push(row),
                Err(flaw) => {
                    side.truncate(before.0);
                    attributes.truncate(before.1);
                    let number = *first_line + tally.lines - 1;
                    tally.bad(|| BadLine {
                        input: Arc::clone(input),
                        line: number,
                        reason: reason(flaw, &self.fields),
                        excerpt: excerpt(line),
                    });
                }
            }
        }
        tally.entries = rows.len() as u64;
    }

    /// The format of the first line in `text` that can be read. `text` is from the given line on.
    pub(super) fn detect(&mut self, text: &[u8], first_line: u64) -> Option<Format> {
        let (mut side, mut attributes) = (Vec::new(), Vec::new());
        Lines::new(text, first_line).find_map(|(start, end)| {
            side.clear();
            attributes.clear();
            let line = &text[start..end];
            let readable =
                !is_blank(line) && self.row(None, &text[..end], start, &mut side, &mut attributes).is_ok();
            readable.then(|| guess(line))
        })
    }

    /// The request in the line from `start` to the end of `text`. With an unknown format, the line tells.
    fn row(
        &mut self,
        format: Option<Format>,
        text: &[u8],
        start: usize,
        side: &mut Vec<u8>,
        attributes: &mut Vec<Span>,
    ) -> Result<Row, Flaw> {
        if text.len() - start > MAX_LINE {
            return Err(Flaw::TooLong);
        }
        let with_agent = match format.unwrap_or_else(|| guess(&text[start..])) {
            Format::Json => {
                let (wanted, found, times) = (&self.wanted, &mut self.found, &mut self.times);
                return json::row(text, start, wanted, found, times, side, attributes);
            }
            Format::Combined => true,
            Format::Common => false,
        };
        let row = clf::row(text, start, with_agent, &mut self.times, side)?;
        attributes.resize(attributes.len() + self.wanted.attributes().len(), Span::ABSENT);
        Ok(row)
    }
}

/// The lines of a text, without their ends, as places in it.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8], first_line: u64) -> Self {
        // A byte order mark is only one at the start of an input.
        let marked = first_line == 1 && text.starts_with(b"\xEF\xBB\xBF");
        Self { text, at: if marked { 3 } else { 0 } }
    }
}

impl Iterator for Lines<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let start = self.at;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).map_or(self.text.len(), |at| start + at);
        self.at = self.text.len().min(end + 1);
        let end = if end > start && self.text[end - 1] == b'\r' { end - 1 } else { end };
        Some((start, end))
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// The format that a line looks like.
fn guess(line: &[u8]) -> Format {
    match line.trim_ascii_start().first() {
        Some(b'{') => Format::Json,
        _ => Format::Combined,
    }
}

/// What is wrong with a line, with the way out.
fn reason(flaw: Flaw, fields: &FieldNames) -> String {
    let Flaw::Missing(role) = flaw else {
        return flaw.to_string();
    };
    let names = fields.of(role);
    let shown: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    let more = match names.len().saturating_sub(3) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{flaw} (looked for {}{more}); say where it is with {}=FIELD", shown.join(", "), role.name())
}
