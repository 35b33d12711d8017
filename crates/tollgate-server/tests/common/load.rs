//! Clients that behave, who notice whether they are served.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// How long an answer may take before it counts as none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const BODY: &str = r#"{"user":"good"}"#;

/// Connects from one of the addresses of this machine: 127.0.0.1 and up.
pub(crate) async fn connect(address: &str, from: u8) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // As a port that is waiting for its last packets would do, else there are too few.
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into())?;
    let stream = socket.connect(address.parse().unwrap()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a question over HTTP.
pub(crate) async fn send_http(stream: &mut TcpStream) -> io::Result<()> {
    let length = BODY.len();
    let request = format!("POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{BODY}");
    stream.write_all(request.as_bytes()).await
}

/// Hears the answer. True if the server says that the connection ends.
pub(crate) async fn hear_http(stream: &mut TcpStream) -> io::Result<bool> {
    let answer = read_until(stream, |answer| answer.ends_with(b"}\n")).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer.to_lowercase().contains("connection: close"))
}

/// Asks over HTTP on a connection that goes on.
pub(crate) async fn ask_http(stream: &mut TcpStream) -> io::Result<()> {
    send_http(stream).await?;
    hear_http(stream).await.map(drop)
}

/// Sends a question by the Redis protocol.
pub(crate) async fn send_resp(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"CL.THROTTLE good 1000000 1000000 1\r\n").await
}

/// Hears the answer.
pub(crate) async fn hear_resp(stream: &mut TcpStream) -> io::Result<()> {
    // A line for the list, and one for each of its five numbers.
    let is_whole = |answer: &[u8]| answer.split(|byte| *byte == b'\n').count() == 7;
    let answer = read_until(stream, is_whole).await?;
    assert!(answer.starts_with("*5\r\n:0\r\n"), "{answer}");
    Ok(())
}

/// Asks by the Redis protocol.
pub(crate) async fn ask_resp(stream: &mut TcpStream) -> io::Result<()> {
    send_resp(stream).await?;
    hear_resp(stream).await
}

async fn read_until(stream: &mut TcpStream, is_whole: impl Fn(&[u8]) -> bool) -> io::Result<String> {
    let mut answer = Vec::new();
    let read = async {
        while !is_whole(&answer) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(PATIENCE, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(String::from_utf8(answer).unwrap())
}

/// How long answers took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn note(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a thousand took at most.
    pub(crate) fn within(&mut self, of_thousand: usize) -> Duration {
        self.0.sort_unstable();
        self.0.get(self.0.len() * of_thousand / 1_000).or(self.0.last()).copied().unwrap_or_default()
    }
}

/// How much memory a process has, in bytes.
pub(crate) fn resident(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// Asks the system for as many descriptors as it grants, and says how many those are.
pub(crate) fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let granted = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: granted, maximum: granted });
    granted.map_or(usize::MAX, |granted| usize::try_from(granted).unwrap())
}
