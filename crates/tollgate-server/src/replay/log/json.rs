//! JSON lines.
//!
//! A scanner of its own, because a log is not always what JSON should be: strings may hold bytes that are not UTF-8,
//! raw control characters, and the `\xHH` of nginx's default escaping. Otherwise it accepts what JSON is and nothing
//! else. It takes note of the wanted values on its way through the line, and builds nothing.

use std::ops::Range;

use memchr::memchr2;

use super::batch::{Row, Span};
use super::escape;
use super::fields::{Edge, Wanted};
use super::names::Role;
use super::request::{self, field, is_absent};
use super::tally::Flaw;
use super::time::Times;

/// How deep a line may be nested. The scanner calls itself for each level.
pub(super) const MAX_DEPTH: usize = 64;

/// The values of one line, kept for the next one.
#[derive(Clone, Debug)]
pub(super) struct Found {
    slots: Vec<Value>,
    /// A field name with its escapes resolved.
    name: Vec<u8>,
}

impl Found {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self { slots: vec![Value::NONE; wanted.slot_count()], name: Vec::new() }
    }
}

/// A value in the line. Objects, `null` and empty lists are no values that a request could have.
#[derive(Clone, Copy, Debug)]
struct Value {
    kind: Kind,
    /// How deep the field stood: the whole name of a field with points goes before its nested form.
    depth: usize,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    /// A number or truth value.
    Bare,
    /// A string without its quotes.
    Text,
    /// A string with backslashes.
    Escaped,
}

impl Value {
    const NONE: Self = Self { kind: Kind::None, depth: usize::MAX, start: 0, end: 0 };
}

/// Reads the line from `start` to the end of `text`. All places in the row are places in `text` or in `side`; the
/// attributes are appended to `attributes`.
pub(super) fn row(
    text: &[u8],
    start: usize,
    wanted: &Wanted,
    found: &mut Found,
    times: &mut Times,
    side: &mut Vec<u8>,
    attributes: &mut Vec<Span>,
) -> Result<Row, Flaw> {
    found.slots.fill(Value::NONE);
    Scanner { text, at: start, wanted, found }.line()?;

    let mut line = Line { text, wanted, slots: &found.slots, side };
    let time_ns = line.time(times)?;
    let client = line.text(Role::Client).ok_or(Flaw::Missing(Role::Client))?;
    let client = request::client(client, text, line.side);
    let user = line.text(Role::User).unwrap_or(Span::ABSENT);
    let (method, target) = line.request()?;
    let user_agent = line.text(Role::UserAgent).unwrap_or(Span::ABSENT);
    let status = line.number(Role::Status).and_then(|status| u16::try_from(status).ok());
    let bytes = line.number(Role::Bytes);
    for slots in wanted.attributes() {
        attributes.push(line.first(slots).unwrap_or(Span::ABSENT));
    }
    Ok(Row { time_ns, client, user, method, target, user_agent, status, bytes })
}

/// What was found in a line.
struct Line<'a> {
    text: &'a [u8],
    wanted: &'a Wanted,
    slots: &'a [Value],
    side: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// The value of the first of these fields that has one.
    fn first(&mut self, slots: &[usize]) -> Option<Span> {
        slots.iter().find_map(|slot| self.value(self.slots[*slot]))
    }

    fn text(&mut self, role: Role) -> Option<Span> {
        self.first(self.wanted.role(role))
    }

    fn value(&mut self, value: Value) -> Option<Span> {
        let raw = &self.text[value.start..value.end];
        (value.kind != Kind::None && !is_absent(raw))
            .then(|| field(self.text, value.start, value.end, value.kind == Kind::Escaped, self.side))
    }

    /// The first time that can be read; else what is wrong with the first that cannot.
    fn time(&mut self, times: &mut Times) -> Result<u64, Flaw> {
        let mut flaw = None;
        for slot in self.wanted.role(Role::Time) {
            if let Some(span) = self.value(self.slots[*slot]) {
                match times.any(span.of(self.text, self.side)) {
                    Ok(time) => return Ok(time),
                    Err(error) => flaw = flaw.or(Some(error)),
                }
            }
        }
        Err(flaw.unwrap_or(Flaw::Missing(Role::Time)))
    }

    /// The method and the target, from fields of their own or from the request line.
    fn request(&mut self) -> Result<(Span, Span), Flaw> {
        let (method, target) = (self.text(Role::Method), self.text(Role::Target));
        let (method, target) = match (method, target) {
            (Some(method), Some(target)) => (method, target),
            _ => match self.text(Role::Request) {
                Some(request) => {
                    let (length, place) = request::request_line(request.of(self.text, self.side))?;
                    (
                        method.unwrap_or(request.part(0, length)),
                        target.unwrap_or(request.part(place.start, place.end)),
                    )
                }
                None if method.is_none() => return Err(Flaw::Missing(Role::Method)),
                None => return Err(Flaw::Missing(Role::Target)),
            },
        };
        request::check_method(method.of(self.text, self.side))?;
        Ok((method, request::path(target, self.text, self.side)))
    }

    /// A whole number, as a number or as a string of digits; a fraction of zeros is a number's own affair.
    fn number(&mut self, role: Role) -> Option<u64> {
        let value = self.text(role)?;
        let digits = value.of(self.text, self.side);
        let whole = match memchr::memchr(b'.', digits) {
            Some(point) if digits[point + 1..].iter().all(|digit| *digit == b'0') => &digits[..point],
            Some(_) => return None,
            None => digits,
        };
        if whole.is_empty() {
            return None;
        }
        whole.iter().try_fold(0u64, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
    }
}

/// Walks through one line.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    wanted: &'a Wanted,
    found: &'a mut Found,
}

impl<'a> Scanner<'a> {
    fn line(&mut self) -> Result<(), Flaw> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            return Err(Flaw::JsonObject);
        }
        self.object(Some(Wanted::ROOT), 0)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Flaw::JsonRest) }
    }

    /// Any value. `node` says which fields of an object are wanted.
    fn value(&mut self, node: Option<usize>, depth: usize) -> Result<Value, Flaw> {
        self.skip_space();
        let start = self.at;
        let value = |kind, end| Value { kind, depth, start, end };
        match self.peek() {
            Some(b'"') => {
                let (range, escaped) = self.string()?;
                let kind = if escaped { Kind::Escaped } else { Kind::Text };
                Ok(Value { kind, depth, start: range.start, end: range.end })
            }
            Some(b'{') => self.object(node, depth + 1).map(|()| Value::NONE),
            Some(b'[') => self.array(depth + 1).map(|first| Value { depth, ..first }),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| value(Kind::Bare, self.at)),
            Some(b't') => self.literal(b"true").map(|()| value(Kind::Bare, self.at)),
            Some(b'f') => self.literal(b"false").map(|()| value(Kind::Bare, self.at)),
            Some(b'n') => self.literal(b"null").map(|()| Value::NONE),
            _ => Err(Flaw::Json),
        }
    }

    fn object(&mut self, node: Option<usize>, depth: usize) -> Result<(), Flaw> {
        check_depth(depth)?;
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            let (name, escaped) = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            let edge = node.and_then(|node| self.edge(node, name, escaped));
            let (slot, inner) = edge.map_or((None, None), |edge| (edge.slot, edge.node));
            let value = self.value(inner, depth)?;
            if let Some(slot) = slot
                && value.kind != Kind::None
                && depth <= self.found.slots[slot].depth
            {
                self.found.slots[slot] = value;
            }
            self.skip_space();
            match self.take() {
                Some(b',') => {}
                Some(b'}') => return Ok(()),
                _ => return Err(Flaw::Json),
            }
        }
    }

    /// A list; gives its first element, because headers are lists in some logs.
    fn array(&mut self, depth: usize) -> Result<Value, Flaw> {
        check_depth(depth)?;
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::NONE);
        }
        let first = self.value(None, depth)?;
        loop {
            self.skip_space();
            match self.take() {
                Some(b',') => self.value(None, depth)?,
                Some(b']') => return Ok(first),
                _ => return Err(Flaw::Json),
            };
        }
    }

    /// A string: its contents, and whether there are backslashes in it.
    fn string(&mut self) -> Result<(Range<usize>, bool), Flaw> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += memchr2(b'"', b'\\', &self.text[self.at..]).ok_or(Flaw::Json)?;
            if self.take() == Some(b'"') {
                return Ok((start..self.at - 1, escaped));
            }
            escaped = true;
            let digits = match self.take() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
                Some(b'x') => 2,
                Some(b'u') => 4,
                _ => return Err(Flaw::Json),
            };
            for _ in 0..digits {
                self.take().and_then(escape::digit).ok_or(Flaw::Json)?;
            }
        }
    }

    fn number(&mut self) -> Result<(), Flaw> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(Flaw::Json) } else { Ok(()) }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Flaw> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Flaw::Json);
        }
        self.at += word.len();
        Ok(())
    }

    /// What the field of that name is good for in an object at `node`.
    fn edge(&mut self, node: usize, name: Range<usize>, escaped: bool) -> Option<&'a Edge> {
        let mut name = &self.text[name];
        if escaped {
            self.found.name.clear();
            escape::unescape(name, &mut self.found.name);
            name = &self.found.name;
        }
        self.wanted.find(node, name)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        if self.take() == Some(byte) { Ok(()) } else { Err(Flaw::Json) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

fn check_depth(depth: usize) -> Result<(), Flaw> {
    if depth < MAX_DEPTH { Ok(()) } else { Err(Flaw::JsonDepth) }
}
