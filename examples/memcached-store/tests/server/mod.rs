//! A real Memcached for a test: started for it, on a free port, and stopped with it.

// No test file uses all of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Memcached {
    process: Child,
    port: u16,
}

impl Memcached {
    /// Starts one, and waits until it listens. It chooses its port, and writes it to a file.
    pub(crate) fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("tollgate-memcached-{}-{number}", std::process::id()));
        let process = Command::new("memcached")
            .args(["-l", "127.0.0.1", "-p", "-1", "-U", "0", "-M", "-u", "root"])
            .env("MEMCACHED_PORT_FILENAME", &file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("memcached: {error}; install it with `apt-get install memcached`")
            });
        let mut memcached = Self { process, port: 0 };
        let began = Instant::now();
        while memcached.port == 0 {
            assert!(began.elapsed() < PATIENCE, "memcached does not listen");
            thread::sleep(Duration::from_millis(5));
            memcached.port = port(&file).unwrap_or(0);
        }
        let _ = std::fs::remove_file(file);
        memcached
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets it hang: it keeps its connections, and does nothing.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after that.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.process.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// What it answers to a command, line by line, without the last.
    pub(crate) fn ask(&self, command: &str, last: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        write!(stream, "{command}\r\n").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.take_while(|line| line != last).collect()
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // Also one that hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The port in the file, once it is there: `TCP INET: 40123`.
fn port(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP INET: "))?;
    line.trim().parse().ok()
}
