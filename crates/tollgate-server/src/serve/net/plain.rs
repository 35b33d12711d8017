//! Plain requests of HTTP/1: those that are all there when they are looked at, and say nothing that needs more than an answer.
//!
//! Nearly all questions of programs are of this kind, and the machinery for all that HTTP can be costs them more than what they
//! ask for. Whatever is the least unusual is left to that machinery, so nothing is decided here of what a request may be.

use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use httparse::{EMPTY_HEADER, Header, Status};
use tokio::io::AsyncWriteExt;

use super::opening::WAITED_FOR_MAX;
use super::seats::{Seat, Told};
use super::stream::Stream;

/// The most headers of a plain request.
const HEADERS_MAX: usize = 24;

/// How much is answered before it is sent, where a client asks several things at once.
const AT_ONCE_MAX: usize = 16 << 10;

/// A request to POST a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Plain<'b> {
    /// The target as it was written, with the query if there is one.
    pub(in crate::serve) target: &'b str,
    pub(in crate::serve) content_type: Option<&'b [u8]>,
    pub(in crate::serve) body: &'b [u8],
    /// How much it is, from its first byte to its last.
    length: usize,
}

/// Answers a plain request, whether or not it is the connection's last, to the end of a buffer; or says that others should, and
/// leaves everything as it was.
pub(in crate::serve) type Answer = Box<dyn Fn(&Plain<'_>, Last, &mut Vec<u8>) -> bool + Send + Sync>;

/// Whether an answer is the last on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Last(pub(in crate::serve) bool);

/// What became of what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It was answered, as far as it was plain requests.
    Plain,
    /// It is a plain request of which not all is there.
    Unfinished,
    /// It is for others.
    Other,
    /// The connection is over.
    Over,
}

/// Answers what is there and plain.
pub(super) async fn answer(
    stream: &mut Stream,
    seat: &mut Seat,
    bytes: &mut Vec<u8>,
    answer: &Answer,
) -> io::Result<Answered> {
    let is_last = Last(seat.life.is_last.load(Ordering::Relaxed));
    let (mut answers, mut done) = (Vec::new(), 0);
    while answers.len() < AT_ONCE_MAX {
        match plain(&bytes[done..]) {
            Look::Plain(plain) if answer(&plain, is_last, &mut answers) => {
                done += plain.length;
                seat.life.answered();
                if is_last.0 {
                    break;
                }
            }
            Look::Unfinished if done == 0 => return Ok(Answered::Unfinished),
            _ => break,
        }
    }
    if done == 0 {
        return Ok(Answered::Other);
    }
    bytes.drain(..done);
    if bytes.is_empty() {
        // Who is silent holds nothing.
        *bytes = Vec::new();
    }
    seat.life.end();
    if !send(stream, seat, &answers).await? {
        return Ok(Answered::Over);
    }
    if is_last.0 {
        stream.shutdown().await?;
        return Ok(Answered::Over);
    }
    Ok(Answered::Plain)
}

/// Sends all of it, however slowly the client takes it. False if that was too slowly, or holds too much.
async fn send(stream: &mut Stream, seat: &mut Seat, bytes: &[u8]) -> io::Result<bool> {
    let mut rest = bytes;
    loop {
        let is_all = rest.is_empty();
        // Under TLS what was taken may be waiting still.
        let owed = rest.len().max(1);
        let sends =
            async { if is_all { stream.flush().await.map(|()| 0) } else { stream.write(rest).await } };
        let sent = tokio::select! {
            biased;
            sent = sends => sent?,
            told = seat.told_while_owed(owed) => {
                if told == Told::Draining {
                    continue;
                }
                return Ok(false);
            }
        };
        if is_all {
            break;
        }
        if sent == 0 {
            return Ok(false);
        }
        rest = &rest[sent..];
        seat.touch();
    }
    seat.note(0, 0);
    Ok(true)
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look<'b> {
    Plain(Plain<'b>),
    /// One whose body is not all there.
    Unfinished,
    Other,
}

fn plain(bytes: &[u8]) -> Look<'_> {
    let Some((plain, end)) = head(bytes) else { return Look::Other };
    match bytes.get(plain.length..end) {
        Some(body) => Look::Plain(Plain { body, length: end, ..plain }),
        None if end <= WAITED_FOR_MAX => Look::Unfinished,
        None => Look::Other,
    }
}

/// The plain request whose head is there, still without its body, and where that ends.
fn head(bytes: &[u8]) -> Option<(Plain<'_>, usize)> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(Status::Complete(head)) = request.parse(bytes) else { return None };
    if request.method != Some("POST") || request.version != Some(1) {
        return None;
    }
    let (mut hosts, mut length, mut content_type) = (0, None, None);
    for Header { name, value } in request.headers.iter() {
        let is = |word: &str| name.eq_ignore_ascii_case(word);
        let is_unusual = match name.len() {
            4 => {
                hosts += usize::from(is("host"));
                false
            }
            14 if is("content-length") => length.replace(number(value)?).is_some(),
            12 if is("content-type") => content_type.replace(*value).is_some(),
            10 if is("connection") => !value.eq_ignore_ascii_case(b"keep-alive"),
            2 => is("te"),
            6 => is("expect"),
            7 => is("upgrade") || is("trailer"),
            16 => is("content-encoding"),
            17 => is("transfer-encoding"),
            _ => false,
        };
        if is_unusual {
            return None;
        }
    }
    let plain = Plain { target: request.path?, content_type, body: &[], length: head };
    (hosts == 1).then_some((plain, head + length?))
}

/// A length of a few digits and nothing else.
fn number(digits: &[u8]) -> Option<usize> {
    let is_short = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_short.then(|| digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// Begins an answer, up to where its own headers follow.
pub(in crate::serve) fn begin(answer: &mut Vec<u8>, status_line: &str, now: Duration, last: Last) {
    answer.extend_from_slice(status_line.as_bytes());
    answer.extend_from_slice(b"\r\ndate: ");
    answer.extend_from_slice(&date(now));
    if last.0 {
        answer.extend_from_slice(b"\r\nconnection: close");
    }
    answer.extend_from_slice(b"\r\n");
}

/// Ends an answer whose own headers were written.
pub(in crate::serve) fn end(answer: &mut Vec<u8>, body: &[u8]) {
    answer.extend_from_slice(b"content-length: ");
    answer.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    answer.extend_from_slice(b"\r\n\r\n");
    answer.extend_from_slice(body);
}

/// So long after the epoch, as headers say it; made once a second.
fn date(now: Duration) -> [u8; 29] {
    thread_local! {
        static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
    }
    let (second, text) = LAST.get();
    if second == now.as_secs() {
        return text;
    }
    let said = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs()));
    // It is as long for all years of four digits.
    let text = said.as_bytes().try_into().unwrap_or(text);
    LAST.set((now.as_secs(), text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "POST /v1/check HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Type: x/y\r\nUser-Agent: z\r\n\r\n{}";

    #[test]
    fn plain_requests_are_known() {
        let Look::Plain(found) = plain(PLAIN.as_bytes()) else { panic!() };
        assert_eq!((found.target, found.body, found.length), ("/v1/check", &b"{}"[..], PLAIN.len()));
        assert_eq!(found.content_type, Some(&b"x/y"[..]));
        // What follows is none of it.
        let two = format!("{PLAIN}{PLAIN}");
        assert_eq!(plain(two.as_bytes()), Look::Plain(found));
        assert_eq!(plain(&two.as_bytes()[found.length..]), Look::Plain(found));
        let kept = PLAIN.replace("z\r\n", "z\r\nConnection: Keep-Alive\r\n");
        assert!(matches!(plain(kept.as_bytes()), Look::Plain(_)));
    }

    #[test]
    fn what_is_not_all_there_is_not_plain() {
        for length in 0..PLAIN.len() {
            let expected = if length < PLAIN.len() - 2 { Look::Other } else { Look::Unfinished };
            assert_eq!(plain(&PLAIN.as_bytes()[..length]), expected, "{length}");
        }
        // What is long is not waited for here.
        assert_eq!(plain(PLAIN.replace("Length: 2", "Length: 99999").as_bytes()), Look::Other);
    }

    #[test]
    fn whatever_is_unusual_is_left_to_others() {
        for (from, to) in [
            ("POST", "PUT"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Host: a\r\n", ""),
            ("Host: a\r\n", "Host: a\r\nhost: a\r\n"),
            ("Length: 2", "Length: +2"),
            ("Length: 2", "Length: 2, 2"),
            ("Length: 2", "Length: 0x2"),
            ("Length: 2", "Length: 000002"),
            ("Length: 2", "Length:"),
            ("Content-Length: 2\r\n", ""),
            ("Content-Length: 2\r\n", "Content-Length: 2\r\nContent-Length: 2\r\n"),
            ("Content-Length: 2\r\n", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
            ("Content-Length: 2\r\n", "Content-Length : 2\r\n"),
            ("User-Agent: z", "Expect: 100-continue"),
            ("User-Agent: z", "Connection: close"),
            ("User-Agent: z", "Connection: upgrade"),
            ("User-Agent: z", "Connection: keep-alive, TE"),
            ("User-Agent: z", "Upgrade: h2c"),
            ("User-Agent: z", "TE: trailers"),
            ("User-Agent: z", "Trailer: x"),
            ("User-Agent: z", "Content-Encoding: gzip"),
            ("User-Agent: z", "Content-Type: x/y"),
            ("User-Agent: z", "User-Agent: z\r\n folded"),
            ("User-Agent: z", "User\u{0}Agent: z"),
        ] {
            let text = PLAIN.replacen(from, to, 1);
            assert_ne!(text, PLAIN);
            assert_eq!(plain(text.as_bytes()), Look::Other, "{text}");
        }
        let many = PLAIN.replace("User-Agent: z", &["X: y"; 25].join("\r\n"));
        assert_eq!(plain(many.as_bytes()), Look::Other);
    }

    #[test]
    fn dates_are_those_of_headers() {
        assert_eq!(&date(Duration::from_secs(784_111_777)), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date(Duration::from_millis(784_111_778_999)), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
