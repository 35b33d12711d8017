//! The parts of a request, whatever format they come from.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::batch::Span;
use super::escape::unescape;
use super::tally::Flaw;

/// A span of `text`, or of its unescaped form that is appended to `side`.
pub(super) fn field(text: &[u8], start: usize, end: usize, escaped: bool, side: &mut Vec<u8>) -> Span {
    if !escaped {
        return Span::new(start, end);
    }
    let before = side.len();
    unescape(&text[start..end], side);
    Span::side(before, side)
}

/// Whether a value says that there is none: it is empty, or the `-` of the log formats.
pub(super) fn is_absent(value: &[u8]) -> bool {
    matches!(value, b"" | b"-")
}

/// A request line: how long its method is, and the place of its target. That is whatever stands between the method and
/// the protocol, which may be missing; so it can contain spaces.
pub(super) fn request_line(line: &[u8]) -> Result<(usize, Range<usize>), Flaw> {
    let space = memchr(b' ', line).unwrap_or(line.len());
    if is_absent(line) {
        return Err(Flaw::Target);
    }
    check_method(&line[..space])?;
    let mut start = space + 1;
    while line.get(start) == Some(&b' ') {
        start += 1;
    }
    let mut end = match memrchr(b' ', line) {
        Some(last) if line[last + 1..].starts_with(b"HTTP/") => last,
        _ => line.len(),
    };
    while end > start && line[end - 1] == b' ' {
        end -= 1;
    }
    if start < end { Ok((space, start..end)) } else { Err(Flaw::Target) }
}

/// A method is a token of RFC 9110, section 5.6.2. This keeps out the binary rubbish of TLS and scanners.
pub(super) fn check_method(method: &[u8]) -> Result<(), Flaw> {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let letters = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut index = 0;
        while index < letters.len() {
            table[letters[index] as usize] = true;
            index += 1;
        }
        table
    };
    if method.is_empty() || !method.iter().all(|byte| TOKEN[usize::from(*byte)]) {
        return Err(Flaw::Method);
    }
    Ok(())
}

/// The target without scheme and authority, which requests through a proxy and some JSON logs have: a server's
/// policies see the path.
pub(super) fn path(target: Span, text: &[u8], side: &mut Vec<u8>) -> Span {
    let value = target.of(text, side);
    // Nearly every target begins with the slash of a path.
    if value.first() == Some(&b'/') {
        return target;
    }
    let Some(authority) = ["http://", "https://"]
        .iter()
        .find(|scheme| {
            value.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme.as_bytes()))
        })
        .map(|scheme| scheme.len())
    else {
        return target;
    };
    let rest = value[authority..].iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    match rest.map(|at| at + authority) {
        Some(at) if value[at] == b'/' => target.part(at, value.len()),
        Some(at) => {
            let query = value[at..].to_vec();
            let before = side.len();
            side.push(b'/');
            side.extend_from_slice(&query);
            Span::side(before, side)
        }
        None => {
            side.push(b'/');
            Span::side(side.len() - 1, side)
        }
    }
}

/// The client's address without a port: `1.2.3.4` of `1.2.3.4:5678`, `::1` of `[::1]:80` and of `[::1]`. Anything else
/// stays as it is.
pub(super) fn client(client: Span, text: &[u8], side: &[u8]) -> Span {
    let value = client.of(text, side);
    if value.first() == Some(&b'[') {
        return match memchr(b']', value) {
            Some(close) if close > 1 && is_port(&value[close + 1..]) => client.part(1, close),
            _ => client,
        };
    }
    match memchr(b':', value) {
        Some(colon) if colon > 0 && is_port(&value[colon..]) && is_ipv4(&value[..colon]) => {
            client.part(0, colon)
        }
        _ => client,
    }
}

fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', port @ ..] => !port.is_empty() && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether this is written like an IPv4 address, which a name never is.
fn is_ipv4(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'.').count() == 4
        && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn line(line: &str) -> (&str, &str) {
        let (method, target) = request_line(line.as_bytes()).unwrap();
        (&line[..method], &line[target])
    }

    #[test]
    fn request_lines() {
        assert_eq!(line("GET / HTTP/1.1"), ("GET", "/"));
        assert_eq!(line("GET /a?b=c HTTP/2.0"), ("GET", "/a?b=c"));
        assert_eq!(line("GET /a"), ("GET", "/a"));
        assert_eq!(line("GET /a b  c HTTP/1.0"), ("GET", "/a b  c"));
        assert_eq!(line("GET  /a  HTTP/1.0"), ("GET", "/a"));
        assert_eq!(line("OPTIONS * HTTP/1.1"), ("OPTIONS", "*"));
        assert_eq!(line("M-SEARCH * HTTP/1.1"), ("M-SEARCH", "*"));
        assert_eq!(line("GET HTTP/1.0 HTTP/1.1"), ("GET", "HTTP/1.0"));
    }

    #[test]
    fn bad_request_lines() {
        let flaw = |line: &[u8]| request_line(line).unwrap_err();
        for absent in [&b"-"[..], b"", b"GET", b"GET ", b"GET   ", b"GET HTTP/1.1", b"GET  HTTP/1.1"] {
            assert_eq!(flaw(absent), Flaw::Target, "{absent:?}");
        }
        for rubbish in
            [&b" / HTTP/1.1"[..], b"\\x16\\x03\\x01 /", b"\x16\x03\x01 /", b"\xff\xff", b"a/b c", b"\0 "]
        {
            assert_eq!(flaw(rubbish), Flaw::Method, "{rubbish:?}");
        }
    }

    #[test]
    fn targets_lose_scheme_and_authority() {
        for (target, wanted) in [
            ("/a", "/a"),
            ("//a/b", "//a/b"),
            ("*", "*"),
            ("example.com:443", "example.com:443"),
            ("http://example.com/a?b", "/a?b"),
            ("HTTPS://u:p@[::1]:8/a", "/a"),
            ("https://example.com", "/"),
            ("http://example.com?x=/", "/?x=/"),
            ("http://", "/"),
            ("http:/a", "http:/a"),
            ("ftp://a/b", "ftp://a/b"),
        ] {
            let mut side = b"x".to_vec();
            let span = path(Span::new(0, target.len()), target.as_bytes(), &mut side);
            assert_eq!(span.of(target.as_bytes(), &side).escape_ascii().to_string(), wanted, "{target}");
        }
    }

    #[test]
    fn clients_lose_their_port() {
        for (given, wanted) in [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:5678", "1.2.3.4"),
            ("1.2.3.4:", "1.2.3.4:"),
            ("1.2.3.4:http", "1.2.3.4:http"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("[::1", "[::1"),
            ("[::1]x", "[::1]x"),
            ("[]:80", "[]:80"),
            ("::1", "::1"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("example.com:80", "example.com:80"),
            ("10:80", "10:80"),
            ("unix:", "unix:"),
            (":80", ":80"),
        ] {
            let span = client(Span::new(0, given.len()), given.as_bytes(), &[]);
            assert_eq!(span.of(given.as_bytes(), &[]), wanted.as_bytes(), "{given}");
        }
    }
}
