//! A chunk of a log's text and the requests found in it.

use std::sync::Arc;

use super::fields::ATTRIBUTES_MAX;
use super::format::{Format, MAX_LINE};
use super::names::Role;
use super::tally::Tally;

/// How much text a batch holds: some thousand lines, small enough to pass through a few of them in the cache.
pub(super) const CHUNK: usize = 1 << 20;

// The reader needs room for the longest line it keeps, and a span's places fit into 31 bits, even if each line had its
// longest field unescaped once for every role and every attribute.
const _: () = assert!(CHUNK > 2 * MAX_LINE && CHUNK * (ATTRIBUTES_MAX + 2 * Role::COUNT) < 1 << 31);

/// A chunk of text, cut at a line's end, and the requests found in it.
///
/// Made once and used again for the next chunk; it can be sent to another thread between any two steps.
#[derive(Debug)]
pub(crate) struct Batch {
    /// [`CHUNK`] bytes, of which the first `filled` are the text.
    pub(super) text: Vec<u8>,
    pub(super) filled: usize,
    /// The input that the text is from.
    pub(super) input: Arc<str>,
    /// The number of the text's first line in its input, from 1.
    pub(super) first_line: u64,
    /// The format of its lines; `None` while no line of the input could be read.
    pub(super) format: Option<Format>,
    /// Field values that are not in the text as they are, because they were escaped there.
    pub(super) side: Vec<u8>,
    pub(super) rows: Vec<Row>,
    /// The user-chosen attributes of all rows, row by row, and how many each row has.
    pub(super) attributes: Vec<Span>,
    pub(super) attributes_per_row: usize,
    pub(super) tally: Tally,
}

impl Batch {
    /// An empty batch. Takes a megabyte at once, and some more when it is parsed.
    pub(crate) fn new() -> Self {
        Self {
            text: vec![0; CHUNK],
            filled: 0,
            input: Arc::from(""),
            first_line: 1,
            format: None,
            side: Vec::new(),
            rows: Vec::new(),
            attributes: Vec::new(),
            attributes_per_row: 0,
            tally: Tally::default(),
        }
    }

    /// How many requests it holds.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds no request, because it was not parsed or had none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The requests, in the order of their lines.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.rows.iter().enumerate().map(|(index, row)| self.entry(index, row))
    }

    /// The entry of this number, from 0.
    pub(crate) fn get(&self, index: usize) -> Option<Entry<'_>> {
        self.rows.get(index).map(|row| self.entry(index, row))
    }

    /// When the request of this number came, in nanoseconds since the Unix epoch.
    pub(crate) fn time_ns(&self, index: usize) -> Option<u64> {
        self.rows.get(index).map(|row| row.time_ns)
    }

    /// The name of the input that the lines are from.
    #[cfg(test)]
    pub(crate) fn input(&self) -> &Arc<str> {
        &self.input
    }

    /// The format of the lines; `None` while no line of the input could be read.
    #[cfg(test)]
    pub(crate) fn format(&self) -> Option<Format> {
        self.format
    }

    /// The count of this batch's lines alone.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Forgets everything, and keeps the room for it.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
        self.format = None;
        self.clear_rows(0, 0);
    }

    /// Forgets the requests found in the text.
    pub(super) fn clear_rows(&mut self, examples_max: usize, attributes_per_row: usize) {
        self.side.clear();
        self.rows.clear();
        self.attributes.clear();
        self.attributes_per_row = attributes_per_row;
        self.tally.reset(examples_max);
    }

    fn entry<'a>(&'a self, index: usize, row: &Row) -> Entry<'a> {
        let per_row = self.attributes_per_row;
        Entry {
            time_ns: row.time_ns,
            client: self.bytes(row.client),
            user: self.field(row.user),
            method: self.bytes(row.method),
            target: self.bytes(row.target),
            status: row.status,
            bytes: row.bytes,
            user_agent: self.field(row.user_agent),
            attributes: &self.attributes[index * per_row..(index + 1) * per_row],
            batch: self,
        }
    }

    fn field(&self, span: Span) -> Option<&[u8]> {
        (span != Span::ABSENT).then(|| self.bytes(span))
    }

    fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.text, &self.side)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// One request of a log. Its fields are what the log says, byte for byte, with escapes resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// When it was, in nanoseconds since the Unix epoch.
    pub(crate) time_ns: u64,
    /// Who sent it: an IP address without port, or a host name. Never empty.
    pub(crate) client: &'a [u8],
    /// The authenticated user.
    pub(crate) user: Option<&'a [u8]>,
    /// The method. Never empty.
    pub(crate) method: &'a [u8],
    /// The path with its query. Never empty.
    pub(crate) target: &'a [u8],
    /// The status of the response.
    pub(crate) status: Option<u16>,
    /// The size of the response.
    pub(crate) bytes: Option<u64>,
    /// What the client calls itself.
    pub(crate) user_agent: Option<&'a [u8]>,
    attributes: &'a [Span],
    batch: &'a Batch,
}

impl<'a> Entry<'a> {
    /// The user-chosen attribute of that [index](super::FieldNames::attribute_names); only JSON lines have any.
    pub(crate) fn attribute(&self, index: usize) -> Option<&'a [u8]> {
        self.batch.field(*self.attributes.get(index)?)
    }
}

/// An [`Entry`] at rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) time_ns: u64,
    pub(super) client: Span,
    pub(super) user: Span,
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) user_agent: Span,
    pub(super) status: Option<u16>,
    pub(super) bytes: Option<u64>,
}

/// A place in a batch's text, or in its side text. Half the size of a range of `usize`: a batch has some thousand
/// rows with at least five of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// No field.
    pub(super) const ABSENT: Self = Self { start: u32::MAX, len: 0 };

    /// The bit of `start` that says: in the side text.
    const SIDE: u32 = 1 << 31;

    /// A place in the text.
    #[expect(clippy::cast_possible_truncation, reason = "the text is no longer than CHUNK")]
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: (end - start) as u32 }
    }

    /// What was appended to the side text since it was `start` bytes long.
    ///
    /// Each role and each attribute appends at most what its line has, and there are few enough of them that the
    /// side text cannot grow beyond 31 bits.
    pub(super) fn side(start: usize, side: &[u8]) -> Self {
        match (u32::try_from(start), u32::try_from(side.len() - start)) {
            (Ok(start), Ok(len)) if start < Self::SIDE => Self { start: start | Self::SIDE, len },
            _ => Self::ABSENT,
        }
    }

    /// The bytes there; none if the field is absent.
    pub(super) fn of<'a>(self, text: &'a [u8], side: &'a [u8]) -> &'a [u8] {
        if self == Self::ABSENT {
            return &[];
        }
        let start = (self.start & !Self::SIDE) as usize;
        let source = if self.start & Self::SIDE == 0 { text } else { side };
        &source[start..start + self.len as usize]
    }

    /// The part of this place from `start` to `end`, counted from its beginning.
    #[expect(clippy::cast_possible_truncation, reason = "a part of a span is no longer than the span")]
    pub(super) const fn part(self, start: usize, end: usize) -> Self {
        Self { start: self.start + start as u32, len: (end - start) as u32 }
    }
}
