//! The benchmarks of the server: how it is started, and how numbers are shown. Each is a module.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod memory;
mod paced;
pub(crate) mod reload;
pub(crate) mod resp;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::chores::{ChoreError, Done, cargo, root};

/// What a benchmark over HTTP is decided by, asked about, and with which limit, which nobody reaches.
const LIMIT: &str = "1000000000/second";

/// A program that is gone when this is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server, built for release.
struct Server {
    running: Running,
    /// What it says when it has started.
    banner: Vec<String>,
}

impl Server {
    /// Builds it, which takes minutes the first time.
    fn build() -> Done {
        cargo(&["build", "--release", "--package", "tollgate-server"], &[])
    }

    /// Starts it with HTTP and these of its other faces (`--grpc`, `--resp`), each at a free port.
    fn start(faces: &[&str], options: &[&str], log: Option<&Path>) -> Result<Self, ChoreError> {
        let program = target().join("release/tollgate");
        let shown = program.display().to_string();
        let failed = |error| ChoreError::Io(shown.clone(), error);
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
        for face in ["--grpc", "--resp"] {
            command.args([face, if faces.contains(&face) { "127.0.0.1:0" } else { "off" }]);
        }
        command.args(options).stdout(Stdio::piped());
        if let Some(log) = log {
            command.stderr(File::create(log).map_err(failed)?);
        }
        let mut running = Running(command.spawn().map_err(failed)?);
        let mut banner = Vec::new();
        for line in running.0.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let line = line.map_err(failed)?;
            let is_last = line.contains("curl");
            banner.push(line);
            if is_last {
                return Ok(Self { running, banner });
            }
        }
        Err(ChoreError::Failed(shown))
    }

    /// The host and port of a face, by its word in the banner.
    fn address(&self, face: &str) -> Result<String, ChoreError> {
        let line = self.banner.iter().find_map(|line| line.trim().strip_prefix(face)?.split_once("://"));
        let address = line.map(|(_, address)| address.trim().to_owned());
        address.ok_or_else(|| ChoreError::Failed(format!("tollgate serve, which says nothing of {face}")))
    }

    fn id(&self) -> u32 {
        self.running.0.id()
    }
}

/// Where cargo builds.
fn target() -> PathBuf {
    root().join(std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned()))
}

/// A directory for the files of a benchmark.
fn directory(name: &str) -> Result<PathBuf, ChoreError> {
    let directory = target().join(name);
    std::fs::create_dir_all(&directory)
        .map_err(|error| ChoreError::Io(directory.display().to_string(), error))?;
    Ok(directory)
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Done {
    std::fs::write(path, bytes).map_err(|error| ChoreError::Io(path.display().to_string(), error))
}

/// That a program is there, or how to install it.
fn needs(program: &str, package: &str) -> Done {
    if crate::servers::is_there(program) {
        return Ok(());
    }
    Err(ChoreError::Missing(format!(
        "{program} is missing: run `sudo apt-get install --yes {package}`, then this again"
    )))
}

/// Least, median and most.
fn spread(numbers: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(numbers.len() / 2), at(numbers.len().saturating_sub(1))]
}

/// Shows the rates of several that were asked in turn, and those of the first as ratios to each other's in the same round.
fn compared<'r>(all: impl Iterator<Item = (&'r str, &'r [f64])>) {
    let all: Vec<_> = all.collect();
    for (name, rates) in &all {
        println!("{name:<34} {}", shown(rates.iter().copied(), 0));
    }
    let Some(((_, ours), others)) = all.split_first() else { return };
    for (name, rates) in others {
        let ratios = ours.iter().zip(*rates).map(|(ours, other)| ours / other);
        println!("{:<34} {}", format!("to {name}"), shown(ratios, 2));
    }
}

/// The same for people.
fn shown(numbers: impl IntoIterator<Item = f64>, digits: usize) -> String {
    let [least, median, most] = spread(numbers);
    format!("{least:.digits$} / {median:.digits$} / {most:.digits$}")
}
