//! `tollgate usage`: what identities have used, for billing.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{ConnectionOptions, Server};
use crate::cli::{fail, print_out};

#[derive(Args, Debug)]
pub(crate) struct UsageOptions {
    /// How to write it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Csv)]
    format: Format,

    /// Which periods
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Periods::All)]
    periods: Periods,

    /// Only what was used under this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,

    /// The administration of the server
    #[arg(long, value_name = "URL", env = "TOLLGATE_ADMIN_URL", default_value = "http://127.0.0.1:8082")]
    server: String,

    /// What the administration asks for, if it does
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,

    #[command(flatten)]
    connection: ConnectionOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Comma-separated values, with a line of names
    Csv,
    /// JSON
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Periods {
    /// All that the server still has
    All,
    /// Those under way
    Current,
    /// Those that have ended, of which nothing changes any more
    Ended,
}

/// Asks, and prints the answer as it is.
pub(crate) fn run(options: &UsageOptions) -> ExitCode {
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let mut path = format!(
        "/v1/usage?format={}&periods={}",
        name(options.format.to_possible_value()),
        name(options.periods.to_possible_value())
    );
    if let Some(policy) = &options.policy {
        path.push_str("&policy=");
        for byte in policy.bytes() {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    let server = Server::new(&options.server, &options.connection);
    let asked = server.and_then(|server| server.with_token(options.token.as_ref()).get(&path));
    match asked {
        Ok(text) => print_out(text.as_bytes()),
        Err(error) => fail(error),
    }
}
