//! What a policy counts by.

use std::fmt;
use std::str::FromStr;

use crate::attribute::{ATTRIBUTE_WORDS, Attribute};
use crate::expression::{Expression, Purpose};

/// A part of what a policy counts by: `ip`, `user`, `header:x-tenant`, or the first of several that a request has.
///
/// ```
/// use tollgate_policy::{Attribute, KeyPart};
///
/// let key: KeyPart = "api_key | bearer | ip".parse()?;
/// let parts = [KeyPart::Attribute(Attribute::ApiKey), KeyPart::Attribute(Attribute::Bearer), KeyPart::Ip];
/// assert_eq!(key, KeyPart::FirstOf(parts.to_vec()));
/// # Ok::<(), tollgate_policy::UnknownKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPart {
    /// The client's address, or its network.
    Ip,
    /// The API key, else the user, else the address.
    Identity,
    /// The method and the pattern that the path matched.
    Endpoint,
    /// Nothing: all requests are counted together.
    Global,
    /// A word of the configuration.
    Static(String),
    /// The value of an attribute.
    Attribute(Attribute),
    /// What an expression gives.
    Expression(Expression),
    /// The first of these that the request has. One never counts as another of the same value.
    FirstOf(Vec<KeyPart>),
}

/// A text that names nothing that a policy could count by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that a policy could count by")]
pub struct UnknownKey(pub(crate) String);

/// What stands between those of which the first counts.
const OR: &str = " | ";

/// What stands before an expression.
pub(crate) const EXPRESSION: &str = "expression:";

/// What a text may be, but for `static:` with a word and `expression:` with an expression.
pub(crate) fn key_words() -> impl Iterator<Item = &'static str> {
    ["ip", "identity", "endpoint", "global", "static:", EXPRESSION].into_iter().chain(ATTRIBUTE_WORDS)
}

impl KeyPart {
    /// The scope's customary priority: API key 3, user 2, endpoint 1, global 0.
    pub(crate) fn priority(&self) -> i32 {
        match self {
            Self::Attribute(Attribute::ApiKey | Attribute::Bearer) => 3,
            Self::Attribute(Attribute::User | Attribute::Claim(_)) => 2,
            Self::Global | Self::Static(_) => 0,
            Self::FirstOf(parts) => parts.iter().map(Self::priority).min().unwrap_or(0),
            _ => 1,
        }
    }

    /// Whether it depends on the path of a request.
    pub(crate) fn reads_path(&self) -> bool {
        match self {
            Self::Endpoint | Self::Attribute(Attribute::Path) => true,
            Self::Expression(expression) => expression.reads_path(),
            Self::FirstOf(parts) => parts.iter().any(Self::reads_path),
            _ => false,
        }
    }
}

impl FromStr for KeyPart {
    type Err = UnknownKey;

    /// Reads a part as it is written in a policy file.
    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        // A word may hold anything, and a name may hold a bar: one that parts others stands apart from them.
        if let Some(word) = text.strip_prefix("static:") {
            return Ok(Self::Static(word.to_owned()));
        }
        if let Some(expression) = text.strip_prefix(EXPRESSION) {
            let parsed = Expression::parse_for(expression.trim(), Purpose::Key);
            return parsed.map(Self::Expression).map_err(|_| UnknownKey(text.chars().take(60).collect()));
        }
        if text.contains(OR) {
            return text.split(OR).map(str::parse).collect::<Result<_, _>>().map(Self::FirstOf);
        }
        Ok(match text {
            "ip" => Self::Ip,
            "identity" => Self::Identity,
            "endpoint" => Self::Endpoint,
            "global" => Self::Global,
            _ => Self::Attribute(text.parse().map_err(|_| UnknownKey(text.chars().take(60).collect()))?),
        })
    }
}

/// Writes the part as it can be read back.
impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Identity => f.write_str("identity"),
            Self::Endpoint => f.write_str("endpoint"),
            Self::Global => f.write_str("global"),
            Self::Static(word) => write!(f, "static:{word}"),
            Self::Attribute(attribute) => attribute.fmt(f),
            Self::Expression(expression) => write!(f, "{EXPRESSION} {expression}"),
            Self::FirstOf(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let or = if index == 0 { "" } else { OR };
                    write!(f, "{or}{part}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<Attribute> for KeyPart {
    fn from(attribute: Attribute) -> Self {
        Self::Attribute(attribute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_as_they_are_written() {
        for text in
            ["ip", "identity", "endpoint", "global", "static:a b", "header:x-a", "user | claim:sub | ip"]
        {
            assert_eq!(text.parse::<KeyPart>().unwrap().to_string(), text);
        }
        // As they were read before there were several to choose from.
        for text in ["static:a | b", "header:x|y", "cookie:a|b"] {
            assert!(!matches!(text.parse(), Ok(KeyPart::FirstOf(_)) | Err(_)), "{text}");
        }
        for text in ["", "|", "ip |", "ips", "ip || user"] {
            assert!(text.parse::<KeyPart>().is_err(), "{text}");
        }
    }
}
