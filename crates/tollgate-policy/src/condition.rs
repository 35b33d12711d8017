//! What a policy asks of a request beside its method and its path.

use crate::address::Networks;
use crate::attribute::Attribute;
use crate::expression::Expression;

/// What a policy asks of a request beside its method and its path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// The attribute is one of these values.
    Is {
        /// Of what.
        attribute: Attribute,
        /// In their normal spelling.
        values: Vec<String>,
    },
    /// The attribute is like one of these patterns.
    Like {
        /// Of what.
        attribute: Attribute,
        /// Any of them will do.
        patterns: Vec<Like>,
    },
    /// The client's address is in one of these networks.
    From(Networks),
    /// The expression is true.
    When(Expression),
}

impl Condition {
    /// The attribute that it looks at, if it is one that has a name.
    pub const fn attribute(&self) -> Option<&Attribute> {
        match self {
            Self::Is { attribute, .. } | Self::Like { attribute, .. } => Some(attribute),
            Self::From(_) | Self::When(_) => None,
        }
    }

    /// Whether it depends on the path of a request.
    pub(crate) fn reads_path(&self) -> bool {
        match self {
            Self::When(expression) => expression.reads_path(),
            other => other.attribute() == Some(&Attribute::Path),
        }
    }

    /// What is allowed, as it was written.
    pub fn values(&self) -> Vec<String> {
        match self {
            Self::Is { values, .. } => values.clone(),
            Self::Like { patterns, .. } => {
                patterns.iter().map(|like| format!("like {}", like.text())).collect()
            }
            Self::When(expression) => vec![expression.to_string()],
            Self::From(networks) => networks.iter().map(|network| network.to_string()).collect(),
        }
    }
}

/// A pattern in which `*` stands for any bytes, also none; capitals do not matter.
///
/// ```
/// use tollgate_policy::Like;
///
/// let bots = Like::new("*bot*/2.?");
/// assert!(bots.matches(b"Searchbot/2.?"));
/// assert!(!bots.matches(b"searchbot/2.1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Like {
    /// What stands between the `*`.
    parts: Vec<String>,
    /// Whether capitals matter.
    is_spelt: bool,
}

impl Like {
    /// The pattern of a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let parts = text.to_ascii_lowercase().split('*').map(str::to_owned).collect();
        Self { parts, is_spelt: false }
    }

    /// The pattern of a text in which capitals matter.
    pub(crate) fn spelt(text: &str) -> Self {
        Self { parts: text.split('*').map(str::to_owned).collect(), is_spelt: true }
    }

    /// It as a text; in small letters, where capitals do not matter.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts.join("*")
    }

    /// Whether a value is like it. It takes no more steps than the lengths of both, multiplied.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.parts.first().is_some_and(|only| self.is_same(value, only));
        };
        let starts = value.get(..first.len()).is_some_and(|start| self.is_same(start, first));
        if !starts {
            return false;
        }
        let mut rest = &value[first.len()..];
        for part in middle.iter().filter(|part| !part.is_empty()) {
            // The first place is as good as any: what follows has the most room then.
            let found = rest.windows(part.len()).position(|place| self.is_same(place, part));
            let Some(found) = found else { return false };
            rest = &rest[found + part.len()..];
        }
        let end = rest.len().checked_sub(last.len()).map(|from| &rest[from..]);
        end.is_some_and(|end| self.is_same(end, last))
    }

    fn is_same(&self, value: &[u8], part: &str) -> bool {
        if self.is_spelt { value == part.as_bytes() } else { value.eq_ignore_ascii_case(part.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, value, is_like) in [
            ("abc", "ABC", true),
            ("abc", "abcd", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("*c", "cb", false),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("*ab*ab*", "ab", false),
            ("*ab*ab*", "xabyabz", true),
            ("**", "x", true),
            ("a**b", "a-b", true),
            ("*a*b*c", "abcabcabd", false),
        ] {
            assert_eq!(Like::new(pattern).matches(value.as_bytes()), is_like, "{pattern} {value}");
        }
        assert!(Like::new("*\u{e9}*").matches("caf\u{e9}s".as_bytes()));
        assert!(Like::new("a*").matches(b"a\xff"));
    }
}
