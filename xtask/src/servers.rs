//! The servers that tests start: there, installed, or missed with the command that installs them.

use std::process::{Command, Stdio};

use crate::chores::{ChoreError, Done};

/// The programs, and Debian's packages of them.
const NEEDED: [(&str, &str); 4] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("openssl", "openssl"),
    // In which the dashboard is looked at.
    ("chromium", "chromium"),
];

/// Sees to it that all are there.
pub(crate) fn ready() -> Done {
    let packages: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --yes {}", packages.join(" "));
    println!("the tests need {}: {command}", packages.join(" and "));
    // Where that may not be done, it is said below.
    for arguments in [&["update"][..], &[&["install", "--yes"], packages.as_slice()].concat()] {
        let _ = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
    }
    match NEEDED.iter().find(|(program, _)| !is_there(program)) {
        None => Ok(()),
        Some((program, _)) => {
            Err(ChoreError::Missing(format!("{program} is missing: run `sudo {command}`, then this again")))
        }
    }
}

fn is_there(program: &str) -> bool {
    let version = Command::new(program)
        .arg(if program == "openssl" { "version" } else { "--version" })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}
