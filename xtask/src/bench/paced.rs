//! A client that asks at a fixed pace, whether or not the server keeps up, and notes how long each answer took from
//! when its question was due: a server that stalls is charged with all that it kept waiting.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::chores::ChoreError;

/// How many connections ask.
const CONNECTIONS: usize = 16;
/// An answer that has not come by then has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
pub(super) struct Answers {
    /// In order.
    times: Vec<Duration>,
    /// Those that were no success, or did not come.
    pub(super) failed: u64,
}

impl Answers {
    /// The milliseconds within which this share of the answers came.
    pub(super) fn within(&self, share: f64) -> f64 {
        // An index: a length times a share of it.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (self.times.len() as f64 * share) as usize;
        let time = self.times.get(at).or(self.times.last());
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }
}

/// Whether an answer is a success; nothing as long as it is not all there.
pub(super) type Whole = fn(&[u8]) -> Option<bool>;

/// An answer over HTTP.
pub(super) fn http(came: &[u8]) -> Option<bool> {
    let end = came.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&came[..end]);
    let mut lines = head.lines();
    let is_success = lines.next().is_some_and(|status| status.contains(" 200"));
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    (came.len() >= end + 4 + length.unwrap_or(0_usize)).then_some(is_success)
}

/// An answer by the Redis protocol: a line, or an array of fewer than ten numbers.
pub(super) fn resp(came: &[u8]) -> Option<bool> {
    let lines = came.split(|byte| *byte == b'\n').count() - 1;
    let more = match came {
        [b'*', count @ b'0'..=b'9', ..] => usize::from(count - b'0'),
        _ => 0,
    };
    (lines > more).then(|| !came.starts_with(b"-"))
}

/// A question to the HTTP API.
pub(super) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks this often a second, while it `goes_on`. The question may depend on its number.
///
/// One thread looks at all connections again and again: one that sleeps would be woken too late by as much as is to be measured.
pub(super) fn ask(
    address: &str,
    rate: f64,
    question: &dyn Fn(u32) -> String,
    whole: Whole,
    goes_on: &dyn Fn() -> bool,
) -> Result<Answers, ChoreError> {
    let failed = |error| ChoreError::Io(address.to_owned(), error);
    let connect = || Connection::to(address).map_err(failed);
    let mut connections = (0..CONNECTIONS).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let mut answers = Answers { times: Vec::new(), failed: 0 };
    let (began, mut number) = (Instant::now(), 0);
    let mut first = 0;
    let mut due = began;
    loop {
        let is_over = !goes_on();
        if is_over && connections.iter().all(|connection| connection.asked.is_none()) {
            break;
        }
        // By turns: the server ends a connection on which nothing was asked for too long.
        first = (first + 1) % CONNECTIONS;
        let (after, before) = connections.split_at_mut(first);
        for connection in before.iter_mut().chain(after) {
            let result = match connection.asked {
                None if !is_over && Instant::now() >= due => {
                    let result = connection.ask(due, &question(number));
                    number += 1;
                    due = began + Duration::from_secs_f64(f64::from(number) / rate);
                    result.map(|()| None)
                }
                None => continue,
                Some(_) => connection.hear(whole),
            };
            match result {
                Ok(None) => {}
                Ok(Some((true, time))) => answers.times.push(time),
                Ok(Some((false, _))) => answers.failed += 1,
                Err(_) => {
                    answers.failed += 1;
                    *connection = connect()?;
                }
            }
        }
        std::thread::yield_now();
    }
    answers.times.sort_unstable();
    Ok(answers)
}

/// A connection on which one question at a time is under way.
struct Connection {
    stream: TcpStream,
    /// When the question was due.
    asked: Option<Instant>,
    /// What has come of the answer.
    came: Vec<u8>,
}

impl Connection {
    fn to(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, asked: None, came: Vec::new() })
    }

    fn ask(&mut self, due: Instant, question: &str) -> io::Result<()> {
        self.asked = Some(due);
        // It is small, and there is nothing before it: it fits in.
        self.stream.write_all(question.as_bytes())
    }

    /// Whether the answer is a success, and how long after it was due it came; nothing as long as it is not all there.
    fn hear(&mut self, whole: Whole) -> io::Result<Option<(bool, Duration)>> {
        let mut room = [0; 4 << 10];
        match self.stream.read(&mut room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.came.extend_from_slice(&room[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let is_late = self.asked.is_some_and(|due| due.elapsed() > PATIENCE);
                return if is_late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        }
        let Some(is_success) = whole(&self.came) else { return Ok(None) };
        self.came.clear();
        Ok(self.asked.take().map(|due| (is_success, due.elapsed())))
    }
}
