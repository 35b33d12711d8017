//! `cargo xtask bench memory`: what the server takes of the machine's memory, idle and with ten million live keys.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;

use super::Server;
use crate::chores::{ChoreError, Done};

const KEYS: u32 = 10_000_000;
/// How many keys the server may hold, which is more than there are, as one would configure it.
const CAPACITY: &str = "12000000";
/// How many commands are under way at once.
const PIPELINE: u32 = 500;

pub(crate) fn bench() -> Done {
    Server::build()?;
    let plain = Server::start(&["--grpc", "--resp"], &[], None)?;
    println!("idle, as it comes: {}", memory_of(&plain)?);
    drop(plain);
    let server = Server::start(&["--resp"], &["--capacity", CAPACITY], None)?;
    println!("idle, with room for {CAPACITY} keys: {}", memory_of(&server)?);
    let mut client = Client::connect(&server.address("RESP")?)?;
    // Each key once, and a unit of a limit of ten for which an hour has to pass: none of them may be forgotten.
    client.ask((0..KEYS).map(|key| (key, 9)))?;
    println!("with {KEYS} live keys: {}", memory_of(&server)?);
    client.ask((0..KEYS).step_by(997).map(|key| (key, 8)))?;
    println!("all of {} keys asked again were known", KEYS.div_ceil(997));
    Ok(())
}

/// What is resident, and the most that ever was.
fn memory_of(server: &Server) -> Result<String, ChoreError> {
    let path = format!("/proc/{}/status", server.id());
    let text = std::fs::read_to_string(&path).map_err(|error| ChoreError::Io(path.clone(), error))?;
    let megabytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(format!("{:.1} MB", kibibytes * 1024.0 / 1e6))
    };
    let (now, most) = (megabytes("VmRSS:"), megabytes("VmHWM:"));
    let (Some(now), Some(most)) = (now, most) else { return Err(ChoreError::Failed(path)) };
    Ok(format!("{now} resident, at most {most}"))
}

struct Client {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Client {
    fn connect(address: &str) -> Result<Self, ChoreError> {
        let stream =
            TcpStream::connect(address).map_err(|error| ChoreError::Io(address.to_owned(), error))?;
        Ok(Self { stream: BufReader::new(stream), line: String::new() })
    }

    /// Asks for a unit of each key, of which so many have to be left then.
    fn ask(&mut self, keys: impl Iterator<Item = (u32, u32)>) -> Done {
        let failed = |error| ChoreError::Io("CL.THROTTLE".to_owned(), error);
        let mut keys = keys.peekable();
        let mut commands = Vec::new();
        while keys.peek().is_some() {
            commands.clear();
            let mut expected = Vec::new();
            for (key, left) in keys.by_ref().take(PIPELINE as usize) {
                let name = format!("k{key}");
                write!(commands, "*5\r\n$11\r\nCL.THROTTLE\r\n${}\r\n{name}\r\n", name.len())
                    .map_err(failed)?;
                commands.extend_from_slice(b"$1\r\n9\r\n$1\r\n1\r\n$4\r\n3600\r\n");
                expected.push((key, left));
            }
            self.stream.get_mut().write_all(&commands).map_err(failed)?;
            for (key, left) in expected {
                let mut answer = [0_i64; 6];
                for number in &mut answer {
                    self.line.clear();
                    self.stream.read_line(&mut self.line).map_err(failed)?;
                    let wrong = || ChoreError::Failed(format!("CL.THROTTLE k{key} 9 1 3600: {}", self.line));
                    *number = self.line.trim_end().get(1..).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
                }
                // An array of five: whether it is denied, the limit, what is left, and two times.
                if answer[..4] != [5, 0, 10, i64::from(left)] {
                    return Err(ChoreError::Failed(format!(
                        "CL.THROTTLE k{key} 9 1 3600, which said {answer:?},"
                    )));
                }
            }
        }
        Ok(())
    }
}
