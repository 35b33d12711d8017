//! Plain requests are answered on a shorter way: it leads to the same answers, however requests are cut.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::Server;

const POLICY: &str = "policies:
  - name: wide
    match: { path: /wide/** }
    key: ip
    limit: 100/minute
    headers: { x-left: '{remaining} of {limit}', content-type: text/plain, date: never, X-LEFT: again }
  - { name: closed, match: { path: /closed }, key: ip, limit: 0/minute }
  - { name: watched, match: { path: /wide/** }, key: ip, limit: 5/second, shadow: true }
  - { name: tiers, match: { path: /tiers }, key: ip, tiers: { from: 'attribute:plan', default: free, limits: { free: 10/hour } } }
";

/// A server, and a connection to it.
struct Wire {
    server: Server,
    reader: BufReader<TcpStream>,
}

impl Wire {
    fn new(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.yaml");
        std::fs::write(&file, POLICY).unwrap();
        let server = Server::start(&[&["--policy", file.to_str().unwrap()], options].concat());
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { server, reader: BufReader::new(stream) }
    }

    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The status line, the headers in their order but for those that tell the time, and the body.
    fn hear(&mut self) -> (String, Vec<String>, String) {
        let mut line = || {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            assert!(line.ends_with("\r\n"), "{line:?}");
            line.trim_end().to_owned()
        };
        let status = line();
        let mut headers: Vec<String> =
            std::iter::repeat_with(line).take_while(|line| !line.is_empty()).collect();
        let length = headers.iter().find_map(|header| header.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        self.reader.read_exact(&mut body).unwrap();
        let dates = headers.iter().filter(|header| header.starts_with("date: ")).count();
        assert_eq!(dates, 1, "{headers:?}");
        headers.retain(|header| !header.starts_with("date: ") && !header.starts_with("x-ratelimit-reset: "));
        headers.sort();
        (status, headers, String::from_utf8(body).unwrap())
    }
}

fn plain(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The same in pieces, which takes all that HTTP is.
fn chunked(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         {length:x}\r\n{body}\r\n0\r\n\r\n"
    )
}

/// Costs nothing, so that it can be asked twice.
fn question(path: &str) -> String {
    format!(r#"{{"method":"GET","path":"{path}","ip":"203.0.113.7","cost":0}}"#)
}

#[test]
fn both_ways_lead_to_the_same_answer() {
    let (mut short, mut long) = (Wire::new(&[]), Wire::new(&[]));
    let questions = [
        question("/wide/1"),
        question("/closed"),
        question("/tiers"),
        question("/nowhere"),
        "{}".to_owned(),
        " {}".to_owned(),
        "{\"ip\": \"nobody\"}".to_owned(),
        "{\"unknown\": 1}".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        String::new(),
    ];
    for question in &questions {
        short.send(&plain(question));
        long.send(&chunked(question));
        assert_eq!(short.hear(), long.hear(), "{question}");
    }
    // As long as one way was gone only, the other is open still.
    let mut again = Wire::new(&[]);
    for question in &questions[..4] {
        again.send(&plain(question));
        let (status, headers, _) = again.hear();
        assert!(status.starts_with(if question.contains("closed") {
            "HTTP/1.1 429 "
        } else {
            "HTTP/1.1 200 "
        }));
        let own: Vec<&String> = headers.iter().filter(|header| header.starts_with("x-left")).collect();
        assert_eq!(own.len(), usize::from(question.contains("wide")), "{headers:?}");
    }
}

#[test]
fn many_at_once_are_answered_in_their_order() {
    let mut wire = Wire::new(&[]);
    let one = plain(r#"{"method":"GET","path":"/wide/2","ip":"203.0.113.7"}"#);
    let (last, cut) = (plain(&question("/tiers")), 70);
    wire.send(&[&one.repeat(90), &last[..cut]].concat());
    for left in (10..100).rev() {
        let (status, _, body) = wire.hear();
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(body.contains(&format!("\"remaining\":{left},")), "{left}: {body}");
    }
    // The rest of the last, in which there is something that is not for the short way.
    wire.send(
        &[&last[cut..], &chunked(&question("/closed")), &last, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"]
            .concat(),
    );
    for expected in ["\"policy\":\"tiers\"", "\"policy\":\"closed\"", "\"policy\":\"tiers\"", "ok\n"] {
        let (_, _, body) = wire.hear();
        assert!(body.contains(expected), "{expected}: {body}");
    }
}

#[test]
fn however_they_are_cut_they_are_answered() {
    let mut wire = Wire::new(&[]);
    let text = plain(&question("/wide/3"));
    for cut in 1..text.len() {
        wire.send(&text[..cut]);
        // What is sent in two writes may come as one: where they are looked at is up to the server.
        wire.send(&text[cut..]);
        let (status, _, body) = wire.hear();
        assert!(
            status == "HTTP/1.1 200 OK" && body.contains("\"policy\":\"wide\""),
            "{cut}: {status} {body}"
        );
    }
    for byte in text.as_bytes() {
        wire.reader.get_mut().write_all(&[*byte]).unwrap();
    }
    assert_eq!(wire.hear().0, "HTTP/1.1 200 OK");
}

#[test]
fn who_takes_no_answers_is_cut_off_and_others_are_not() {
    let wire = Wire::new(&[]);
    let mut deaf = TcpStream::connect(wire.server.address()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // Until nothing more is taken.
    let many = plain(&question("/wide/4")).repeat(200);
    while deaf.write_all(many.as_bytes()).is_ok() {}
    let mut other =
        Wire { reader: BufReader::new(TcpStream::connect(wire.server.address()).unwrap()), ..wire };
    other.send(&plain(&question("/wide/4")));
    assert_eq!(other.hear().0, "HTTP/1.1 200 OK");
    // A connection on which nothing moves takes nothing more, and one that was ended says so.
    let give_up = Instant::now() + Duration::from_mins(1);
    loop {
        match deaf.write(b"x") {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            _ => assert!(Instant::now() < give_up, "it was not cut off"),
        }
    }
}
