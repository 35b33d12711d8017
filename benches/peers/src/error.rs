//! What can go wrong.

use std::fmt;
use std::io;

/// Why there is no measurement.
#[derive(Debug)]
pub(crate) enum Error {
    /// The arguments make no sense, or not for this peer.
    Usage(String),
    /// A limiter could not be made.
    Refused(String),
    /// The system did not say what was asked.
    System(&'static str, io::Error),
    /// A measuring thread panicked.
    Thread,
}

impl Error {
    /// For a limiter that refuses its settings, whatever it calls the reason.
    pub(crate) fn refused(peer: &str, reason: impl fmt::Debug) -> Self {
        Self::Refused(format!("{peer}: {reason:?}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}; see `peers --help`"),
            Self::Refused(what) => write!(f, "the limiter could not be made: {what}"),
            Self::System(what, error) => write!(f, "{what}: {error}"),
            Self::Thread => f.write_str("a measuring thread panicked"),
        }
    }
}
