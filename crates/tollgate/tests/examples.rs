//! The example servers, as programs, asked over the network.
#![cfg(all(feature = "actix", feature = "axum"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// An example while it runs.
struct Program {
    process: Child,
    address: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, further: &[&str]) -> Self {
        let mut command = Command::new(example(name));
        let mut process = command.arg("127.0.0.1:0").args(further).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    /// The whole answer to a request: what stands before the version, and further headers.
    fn ask(&self, request: &str, headers: &[(&str, &str)]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").unwrap();
        for (name, value) in headers {
            write!(stream, "{name}: {value}\r\n").unwrap();
        }
        stream.write_all(b"\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

/// The example stands beside the tests' own folder once cargo has built all targets.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "build it first: cargo build --package tollgate --examples --all-features");
    path
}

#[test]
fn the_apps_limit_their_routes() {
    for name in ["axum_app", "actix_app"] {
        let program = Program::start(name);
        let hello = program.ask("GET /hello", &[]);
        assert!(hello.starts_with("HTTP/1.1 200") && hello.ends_with("hello; 99 more of these\n"), "{hello}");
        assert!(hello.contains("ratelimit: \"everyone\";r=99"), "{hello}");
        // Ten in a row: even where a minute ends between them, one of the two halves is denied something.
        let replies: Vec<String> =
            (0..11).map(|_| program.ask("POST /login", &[("content-length", "0")])).collect();
        let denied: Vec<&String> = replies.iter().filter(|reply| reply.starts_with("HTTP/1.1 429")).collect();
        assert!((1..=6).contains(&denied.len()), "{name}: {}", denied.len());
        assert!(
            denied
                .iter()
                .all(|reply| reply.contains("RATE_LIMIT_EXCEEDED") && reply.contains("retry-after: "))
        );
        assert!(!program.ask("GET /healthz", &[]).contains("ratelimit"));
    }
}

#[test]
fn accounts_are_counted_by_plan_and_by_what_requests_cost() {
    let program = Program::start("axum_tiers");
    let complete = |key: &str, words: u32| {
        program.ask(
            &format!("GET /complete?words={words}"),
            &[("x-api-key", key), ("x-forwarded-for", "203.0.113.7")],
        )
    };
    let left = |reply: &str| -> Option<u32> {
        let item = reply.split("\"plan\";r=").nth(1)?;
        item.split(';').next()?.parse().ok()
    };
    // Each is charged for the words of those before it.
    assert_eq!(left(&complete("free-1", 7)), Some(19));
    let second = left(&complete("free-1", 20)).unwrap();
    assert!((12..=13).contains(&second), "{second}");
    assert!(complete("free-1", 1).starts_with("HTTP/1.1 429"));
    // Another account, and one that pays.
    assert_eq!(left(&complete("free-2", 1)), Some(19));
    assert_eq!(left(&complete("pro-1", 1)), Some(1_999));
    for reply in [complete("made-up", 1), program.ask("GET /complete?words=1", &[])] {
        assert!(reply.starts_with("HTTP/1.1 401") && !reply.contains("ratelimit"), "{reply}");
    }
}

#[test]
fn a_server_of_ones_own_has_code_around_decisions() {
    // It is always night.
    let program = Program::start_with("own_server", &["0-24"]);
    let check = |ip: &str| program.ask("GET /check", &[("x-forwarded-for", ip)]);
    for _ in 0..20 {
        assert!(check("10.1.2.3").starts_with("HTTP/1.1 200"));
    }
    let first = check("203.0.113.7");
    assert!(first.contains("\"everyone\";r=8"), "{first}");
    // At most ten a minute, and each costs two; a few more where this takes longer.
    let denied = (0..30).filter(|_| check("203.0.113.7").starts_with("HTTP/1.1 429")).count();
    assert!((1..=26).contains(&denied), "{denied}");
    let counts = program.ask("GET /counts", &[]);
    let everyone = format!("everyone: {} admitted, {denied} denied\n", 31 - denied);
    assert!(counts.contains(&everyone), "{counts}");
    assert!(counts.contains("trial: "), "{counts}");
}
