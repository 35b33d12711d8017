//! A client of HTTP that asks at a fixed pace, whether or not the server keeps up, and notes how long each answer took from
//! when its question was due: a server that stalls is charged with all that it kept waiting.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::chores::ChoreError;

/// How many connections ask in turn, each of its own thread.
const CONNECTIONS: u32 = 16;
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

/// A question to the HTTP API.
pub(super) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks this often a second, while it `goes_on`. The question may depend on its number.
pub(super) fn ask(
    address: &str,
    rate: f64,
    question: &(dyn Fn(u32) -> String + Sync),
    goes_on: &(dyn Fn() -> bool + Sync),
) -> Result<Answers, ChoreError> {
    let began = Instant::now();
    let asked_by = |first: u32| {
        let (mut times, mut failed, mut connection) = (Vec::new(), 0, None);
        let mut number = first;
        while goes_on() {
            let due = began + Duration::from_secs_f64(f64::from(number) / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            match answer(address, &mut connection, &question(number)) {
                Ok(true) => times.push(due.elapsed()),
                Ok(false) => failed += 1,
                Err(_) => (failed, connection) = (failed + 1, None),
            }
            number += CONNECTIONS;
        }
        (times, failed)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|first| scope.spawn(move || asked_by(first))).collect();
        let mut answers = Answers { times: Vec::new(), failed: 0 };
        for thread in threads {
            let (times, failed) =
                thread.join().map_err(|_| ChoreError::Failed("asking over HTTP".to_owned()))?;
            answers.times.extend(times);
            answers.failed += failed;
        }
        answers.times.sort_unstable();
        Ok(answers)
    })
}

/// Whether a question was answered with success, on a connection that is laid if there is none.
fn answer(
    address: &str,
    connection: &mut Option<BufReader<TcpStream>>,
    question: &str,
) -> std::io::Result<bool> {
    let stream = if let Some(stream) = connection {
        stream
    } else {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        connection.insert(BufReader::new(stream))
    };
    stream.get_mut().write_all(question.as_bytes())?;
    let (mut line, mut is_success, mut length) = (String::new(), None, 0);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let head = line.trim_end().to_ascii_lowercase();
        is_success = is_success.or(Some(head.contains(" 200")));
        if let Some(value) = head.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if head.is_empty() {
            break;
        }
    }
    let read = std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
    Ok(is_success == Some(true) && read == length)
}
