//! The real program, as a test starts it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes that happens at all, also where a machine stands still for seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program, away from the environment of whoever runs the tests.
pub(crate) fn tollgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    for (name, _) in std::env::vars_os() {
        if ["TOLLGATE_", "OTEL_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null()).current_dir(root());
    command
}

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    tollgate().args(arguments).output().unwrap()
}

/// Runs the program to its end, with something on its standard input.
pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = tollgate()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // On a thread of its own: the program may answer before it has read all.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    output
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server on a free port, which is gone when the test is.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) announcement: String,
    agent: ureq::Agent,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = tollgate();
        command.args(["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"]).args(arguments);
        Self::start_command(command)
    }

    pub(crate) fn start_command(mut command: Command) -> Self {
        // Wherever there is room, unless the test says where: by an option, which comes before the variable.
        command.env("TOLLGATE_GRPC", "127.0.0.1:0").env("TOLLGATE_ADMIN", "127.0.0.1:0");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut announcement = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !announcement.contains("curl") {
            if out.read_line(&mut announcement).unwrap() == 0 {
                let output = child.wait_with_output().unwrap();
                panic!("the server did not start: {announcement}{}", stderr(&output));
            }
        }
        let url = announcement.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)));
        Self { child, url, announcement, agent: config.build().into() }
    }

    /// The address for gRPC.
    pub(crate) fn grpc(&self) -> String {
        let line = self.announcement.lines().find_map(|line| line.trim().strip_prefix("gRPC"));
        line.unwrap().trim().to_owned()
    }

    /// The address of the administration.
    pub(crate) fn admin(&self) -> String {
        let line = self.announcement.lines().find_map(|line| line.trim().strip_prefix("admin"));
        line.unwrap().trim().to_owned()
    }

    /// Asks the administration.
    pub(crate) fn administer(&self, method: &str, path: &str, body: &str) -> Reply {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.admin()));
        Reply::of(self.agent.run(request.body(body.to_owned()).unwrap()).unwrap())
    }

    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    /// Where it speaks the Redis protocol.
    pub(crate) fn resp(&self) -> &str {
        self.announcement.split_whitespace().find_map(|word| word.strip_prefix("redis://")).unwrap()
    }

    /// The same, plain or under TLS.
    pub(crate) fn resp_address(&self) -> &str {
        let mut words = self.announcement.split_whitespace();
        words.find_map(|word| word.strip_prefix("redis://").or(word.strip_prefix("rediss://"))).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        Reply::of(self.agent.post(format!("{}{path}", self.url)).send(body).unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        Reply::of(self.agent.get(format!("{}{path}", self.url)).call().unwrap())
    }

    /// The same, if there is an answer.
    pub(crate) fn try_get(&self, path: &str) -> Option<Reply> {
        self.agent.get(format!("{}{path}", self.url)).call().ok().map(Reply::of)
    }

    /// Asks the server to stop, as an init system does.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the program, for at most so long.
    pub(crate) fn wait(&mut self, most: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < most {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn of(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Self {
            status: response.status().as_u16(),
            headers,
            body: response.body_mut().read_to_string().unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
