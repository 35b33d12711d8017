//! The `tollgate` program: a rate-limit server, and a workbench for its policies.

mod cli;
mod client;
mod health;
mod import;
mod load;
mod replay;
mod serve;
mod text;
mod validate;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Import(options) => import::run(&options),
        Command::Validate(options) => validate::run(&options),
        Command::Check(options) => client::check(&options),
        Command::Explain(options) => client::explain(&options),
        Command::Usage(options) => client::usage(&options),
        Command::Top(options) => client::top(&options),
        Command::Health(options) => health::run(&options),
        Command::Completions { shell } => cli::completions(shell),
    }
}
