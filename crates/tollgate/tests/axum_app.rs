//! The axum example, as a program, asked over the network.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The example while it runs.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example stands beside the tests' own folder once cargo has built all targets.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!("axum_app{}", std::env::consts::EXE_SUFFIX);
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "build it first: cargo build --package tollgate --examples --all-features");
    path
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[test]
fn the_example_limits_its_routes() {
    let mut child = Command::new(example()).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let program = Program(child);
    let address = line.trim().strip_prefix("listening on http://").unwrap();

    let hello = ask(address, "GET /hello");
    assert!(hello.starts_with("HTTP/1.1 200") && hello.ends_with("hello; 99 more of these\n"), "{hello}");
    assert!(hello.contains("ratelimit: \"everyone\";r=99"), "{hello}");
    // Ten in a row: even where a minute ends between them, one of the two halves is denied something.
    let replies: Vec<String> = (0..11).map(|_| ask(address, "POST /login")).collect();
    let denied: Vec<&String> = replies.iter().filter(|reply| reply.starts_with("HTTP/1.1 429")).collect();
    assert!((1..=6).contains(&denied.len()), "{}", denied.len());
    assert!(
        denied.iter().all(|reply| reply.contains("RATE_LIMIT_EXCEEDED") && reply.contains("retry-after: "))
    );
    assert!(!ask(address, "GET /healthz").contains("ratelimit"));
    drop(program);
}
