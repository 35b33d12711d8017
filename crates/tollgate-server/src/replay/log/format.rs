//! The formats of lines.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest line that is read; a longer one is a bad line.
pub(super) const MAX_LINE: usize = 65_536;

/// What the user says about the format of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FormatChoice {
    /// Each input tells by its first line that can be read: JSON if it begins with `{`, else combined.
    #[default]
    Auto,
    /// Every input has this format.
    Always(Format),
}

/// A format of lines.
///
/// Both kinds of text lines may begin with a virtual host, as Apache's `vhost_combined` does, and may have more
/// fields at the end, which are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Common log format: `client identity user [time] "request" status size`.
    Common,
    /// The same, followed by `"referrer" "user agent"` on lines that have them.
    Combined,
    /// One JSON object on each line.
    Json,
}

impl FromStr for FormatChoice {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Self, FormatError> {
        match name {
            "auto" => Ok(Self::Auto),
            "common" => Ok(Self::Always(Format::Common)),
            "combined" => Ok(Self::Always(Format::Combined)),
            "json" => Ok(Self::Always(Format::Json)),
            _ => Err(FormatError { name: name.to_owned() }),
        }
    }
}

/// The name that [`FormatChoice`] is parsed from.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Json => "json",
        })
    }
}

/// The format has another name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown log format `{name}`; choose auto, common, combined or json")]
pub(crate) struct FormatError {
    name: String,
}
