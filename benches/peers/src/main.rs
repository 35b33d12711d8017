//! One measurement of one rate limiter: `peers <PEER> [options]`, one line of JSON.
//!
//! `cargo xtask bench peers` runs this once for each peer, scenario and round, each time in a process of its own, so that no
//! peer inherits another's heap, and makes the tables of what it prints.

mod arguments;
mod error;
mod line;
mod measure;
mod peers;
mod process;
mod setup;
mod workload;

use std::process::ExitCode;

use crate::arguments::{Command, USAGE};
use crate::error::Error;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to print.
fn run(words: impl Iterator<Item = String>) -> Result<String, Error> {
    match arguments::parse(words)? {
        Command::Help => Ok(USAGE.trim_end().to_owned()),
        Command::List => Ok(peers::names().collect::<Vec<_>>().join("\n")),
        Command::Measure(arguments) => {
            let measure = peers::find(&arguments.peer)?;
            Ok(measure(&arguments)?.finish())
        }
    }
}
