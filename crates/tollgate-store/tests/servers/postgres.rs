//! A PostgreSQL server for a test.

// No test file uses all of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::servers::{Place, Redis, free_ports, signal};

/// A server with a database `postgres` and a user of that name, on a port and on a socket.
pub(crate) struct Postgres {
    process: Child,
    port: u16,
    settings: Vec<String>,
    place: Place,
}

impl Postgres {
    /// Starts one with these further settings, and waits until it answers.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let place = Redis::nowhere();
        own(place.directory());
        let output = program("initdb")
            .args(["--pgdata", "data", "--username", "postgres", "--auth", "trust"])
            .args(["--no-sync", "--no-locale", "--encoding", "UTF8"])
            .current_dir(place.directory())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let port = free_ports(1)[0];
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let process = run(&place, port, &settings);
        let server = Self { process, port, settings, place };
        server.until_it_answers();
        server
    }

    fn until_it_answers(&self) {
        let patience = Instant::now() + Duration::from_mins(1);
        while self.ask("select 1") != "1" {
            assert!(Instant::now() < patience, "the server does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has written of itself.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.directory().join("log")).unwrap_or_default()
    }

    /// Where it is, for this user (and password).
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where its socket is.
    pub(crate) fn url_of_socket(&self) -> String {
        let directory = self.place.directory().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{directory}:{}/postgres", self.port)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.place.directory().join(format!(".s.PGSQL.{}", self.port))
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.place.directory().join("data")
    }

    /// Runs statements as its owner, and returns what they say, a line a row; or nothing if they fail.
    pub(crate) fn ask(&self, statements: &str) -> String {
        let output = program("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username", "postgres"])
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string(), "--dbname", "postgres"])
            .args(["--command", statements])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Lets it hang: it keeps its connections, and does nothing.
    pub(crate) fn stop(&self) {
        self.signal_all("STOP");
    }

    /// Lets it go on after that.
    pub(crate) fn go_on(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        // New ones cannot come once the one that makes them has stopped.
        for process in std::iter::once(self.process.id()).chain(children(self.process.id())) {
            // Some end by themselves meanwhile.
            let mut kill = Command::new("kill");
            let _ = kill.arg(format!("-{name}")).arg(process.to_string()).stderr(Stdio::null()).status();
        }
    }

    /// Ends it as it is ended to be started again, its connections too.
    pub(crate) fn end(&mut self) {
        signal(&self.process, "INT");
        self.process.wait().unwrap();
    }

    /// Ends it as a machine ends that loses its power, as far as its processes see it.
    pub(crate) fn crash(&mut self) {
        signal(&self.process, "QUIT");
        self.process.wait().unwrap();
    }

    /// Starts it again after that.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.place, self.port, &self.settings);
        self.until_it_answers();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Also one that is stopped.
        if let Ok(None) = self.process.try_wait() {
            self.go_on();
            self.crash();
        }
    }
}

/// Starts the server. It need not survive the machine, so it does not wait for disks.
fn run(place: &Place, port: u16, settings: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(place.directory().join("log")).unwrap();
    let [port, directory] = [port.to_string(), place.directory().display().to_string()];
    let common =
        ["fsync=off", "listen_addresses=127.0.0.1", "shared_buffers=64MB", "log_min_messages=warning"];
    program("postgres")
        .args(["-D", "data", "-p", &port, "-k", &directory])
        .args(common.iter().flat_map(|setting| ["-c", setting]))
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .current_dir(place.directory())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// One of its programs, which Debian does not put in the path; run as somebody else by root, as whom it would refuse.
pub(crate) fn program(name: &str) -> Command {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = installed.filter(|path| version(path).is_some()).max_by_key(version);
    let path = newest.map_or_else(|| PathBuf::from(name), |path| path.join("bin").join(name));
    let found = Command::new(&path).arg("--version").stdout(Stdio::null()).status();
    assert!(found.is_ok(), "{}: {found:?}; install it with `apt-get install postgresql`", path.display());
    let mut command = Command::new(path);
    if let Some((user, group)) = somebody_else() {
        command.uid(user).gid(group);
    }
    command
}

/// Whom root runs it as.
fn somebody_else() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let mut parts =
            users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).unwrap())
}

/// Gives a directory to whoever runs the server.
pub(crate) fn own(path: &Path) {
    if let Some((user, group)) = somebody_else() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        // Behind the name, which stands in parentheses, come the state and the parent.
        let line = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let of = line.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        of == Some(parent)
    };
    processes.filter(is_child).collect()
}
