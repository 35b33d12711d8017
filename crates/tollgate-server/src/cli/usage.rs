//! The record of use.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::length;

/// What is noted for billing, of policies that say `record`.
#[derive(Args, Debug)]
#[command(next_help_heading = "Record of use")]
// Their names are those of the options.
#[allow(clippy::struct_field_names)]
pub(crate) struct UsageOptions {
    /// Keep what identities have used in this directory, and go on with what stands there: the record itself, and quotas in
    /// memory. Without it the record ends with the server
    #[arg(long, value_name = "DIR", env = "TOLLGATE_USAGE_DIR")]
    pub(crate) usage_dir: Option<PathBuf>,

    /// When to write it: `each` answers only once what it took is on the disk; a length of time, as in `1s`, writes so often, and may
    /// lose that much in a crash
    #[arg(long, value_name = "WHEN", env = "TOLLGATE_USAGE_FLUSH", default_value = "each")]
    pub(crate) usage_flush: Flush,

    /// How many rows to keep, each for an identity, a limit and a period
    #[arg(long, value_name = "ROWS", env = "TOLLGATE_USAGE_ROWS", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) usage_rows: u32,
}

/// When the record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Before each answer.
    Each,
    /// So often.
    Every(Duration),
}

/// As it is written.
impl fmt::Display for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each => f.write_str("each"),
            Self::Every(every) => write!(f, "{every:?}"),
        }
    }
}

impl FromStr for Flush {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "each" {
            return Ok(Self::Each);
        }
        match length(text) {
            Ok(every) if every >= Duration::from_millis(10) => Ok(Self::Every(every)),
            Ok(_) => Err("write 10ms or more, or `each`".to_owned()),
            Err(error) => Err(format!("{error}; or write `each`")),
        }
    }
}
