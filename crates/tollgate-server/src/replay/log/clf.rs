//! Lines of the common and the combined log format.
//!
//! ```text
//! 127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326 "http://b/" "Mozilla/4.08"
//! client identity user [time] "request" status size "referrer" "user agent" anything
//! ```

use memchr::{memchr, memchr_iter, memchr2};

use super::batch::{Row, Span};
use super::request::{self, field, is_absent};
use super::tally::Flaw;
use super::time::Times;

/// Reads the line from `start` to the end of `text`. All places in the row are places in `text` or in `side`.
pub(super) fn row(
    text: &[u8],
    start: usize,
    with_agent: bool,
    times: &mut Times,
    side: &mut Vec<u8>,
) -> Result<Row, Flaw> {
    let bracket = time_bracket(text, start).ok_or(Flaw::Bracket)?;
    let (client, user) = head(text, start, bracket - 1)?;

    // Nearly always the time has 26 characters.
    let close = if text.get(bracket + 27) == Some(&b']') {
        bracket + 27
    } else {
        bracket + memchr(b']', &text[bracket..]).ok_or(Flaw::TimeSyntax)?
    };
    let time_ns = times.text(&text[bracket + 1..close])?;

    let at = quote_after(text, close + 1).ok_or(Flaw::Request)?;
    let request = quoted(text, at).ok_or(Flaw::RequestQuote)?;
    let (method, target) = request::request_line(&text[at..request.end])?;
    let method = Span::new(at, at + method);
    let target = field(text, at + target.start, at + target.end, request.escaped, side);
    let target = request::path(target, text, side);

    let (status, at) = status(text, request.end + 1)?;
    let (bytes, at) = size(text, at)?;
    let user_agent = if with_agent { user_agent(text, at, side)? } else { Span::ABSENT };

    Ok(Row { time_ns, client, user, method, target, user_agent, status: Some(status), bytes })
}

/// The place of the `[` that begins the time. An IPv6 address of a virtual host can stand in brackets before it, but
/// only at the line's start.
fn time_bracket(text: &[u8], start: usize) -> Option<usize> {
    memchr_iter(b'[', &text[start..]).map(|at| start + at).find(|at| *at > start && text[at - 1] == b' ')
}

/// The client and the user, from what stands before the time: `client identity user`, or with a virtual host before
/// them. Apache does not escape spaces in a user's name; so more than three words are told apart by the identity, which
/// is `-` on every server of today.
fn head(text: &[u8], start: usize, end: usize) -> Result<(Span, Span), Flaw> {
    let word = |from: usize| text[from..end].iter().position(|byte| *byte == b' ').map(|at| from + at);
    let first = word(start).ok_or(Flaw::Head)?;
    let second = word(first + 1).ok_or(Flaw::Head)?;
    let (client, user) = match word(second + 1) {
        Some(third) if text[first + 1..second] != *b"-" => ((first + 1, second), third + 1),
        _ => ((start, first), second + 1),
    };
    if is_absent(&text[client.0..client.1]) {
        return Err(Flaw::Client);
    }
    let user = match &text[user..end] {
        b"" | b"-" | b"\"\"" => Span::ABSENT,
        _ => Span::new(user, end),
    };
    Ok((request::client(Span::new(client.0, client.1), text, &[]), user))
}

/// The contents of a field in quotes: where it ends, before the quote, and whether it has backslashes.
struct Quoted {
    end: usize,
    escaped: bool,
}

/// The field in quotes whose contents begin at `start`.
fn quoted(text: &[u8], start: usize) -> Option<Quoted> {
    let mut escaped = false;
    let mut at = start;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(Quoted { end: at, escaped });
        }
        escaped = true;
        at += 2;
    }
}

/// Where the contents of a field in quotes begin, if a space and a quote stand at `at`.
fn quote_after(text: &[u8], at: usize) -> Option<usize> {
    (text.get(at..at + 2)? == b" \"").then_some(at + 2)
}

/// The status after a space at `at`, and where it ends.
fn status(text: &[u8], at: usize) -> Result<(u16, usize), Flaw> {
    match text.get(at..at + 4) {
        Some(&[b' ', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) if ends_at(text, at + 4) => {
            let digit = |digit: u8| u16::from(digit - b'0');
            Ok((digit(a) * 100 + digit(b) * 10 + digit(c), at + 4))
        }
        _ => Err(Flaw::Status),
    }
}

/// The size after a space at `at`, and where it ends.
fn size(text: &[u8], at: usize) -> Result<(Option<u64>, usize), Flaw> {
    let start = at + 1;
    if text.get(start) == Some(&b'-') && ends_at(text, start + 1) {
        return Ok((None, start + 1));
    }
    let mut size = 0u64;
    let mut at = start;
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        size = size
            .checked_mul(10)
            .and_then(|size| size.checked_add(u64::from(digit - b'0')))
            .ok_or(Flaw::Size)?;
        at += 1;
    }
    if at == start || !ends_at(text, at) {
        return Err(Flaw::Size);
    }
    Ok((Some(size), at))
}

/// The second of two fields in quotes at `at`; absent unless both are there.
fn user_agent(text: &[u8], at: usize, side: &mut Vec<u8>) -> Result<Span, Flaw> {
    let Some(referrer) = quote_after(text, at) else {
        return Ok(Span::ABSENT);
    };
    let referrer = quoted(text, referrer).ok_or(Flaw::AgentQuote)?;
    let Some(start) = quote_after(text, referrer.end + 1) else {
        return Ok(Span::ABSENT);
    };
    let agent = quoted(text, start).ok_or(Flaw::AgentQuote)?;
    if is_absent(&text[start..agent.end]) {
        return Ok(Span::ABSENT);
    }
    Ok(field(text, start, agent.end, agent.escaped, side))
}

/// Whether a word ends before `at`.
fn ends_at(text: &[u8], at: usize) -> bool {
    matches!(text.get(at), None | Some(b' '))
}
