//! Headers that a policy adds to answers.

use std::fmt::Write;

/// A header of a policy's own: a name, and a value with numbers in it.
///
/// The value may hold `{limit}`, `{remaining}`, `{reset}` and `{retry_after}` (whole seconds, rounded up) and
/// `{policy}`. All else is fixed by the configuration, so nothing that a client sends can reach a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomHeader {
    name: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Limit,
    Remaining,
    Reset,
    RetryAfter,
    Policy,
}

const FIELDS: [(&str, Field); 5] = [
    ("limit", Field::Limit),
    ("remaining", Field::Remaining),
    ("reset", Field::Reset),
    ("retry_after", Field::RetryAfter),
    ("policy", Field::Policy),
];

/// The numbers that a header can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderValues<'a> {
    /// How much the limit holds.
    pub limit: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// Seconds until it is whole again.
    pub reset_s: u64,
    /// Seconds until a retry can pass; 0 if it can now.
    pub retry_after_s: u64,
    /// The policy's name.
    pub policy: &'a str,
}

/// Why a header cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("`{0}` is no name for a header: letters, digits and `-` make one")]
    Name(String),
    #[error("a header's value is visible ASCII text of at most 1,000 characters")]
    Value,
    #[error(
        "`{{{0}}}` means nothing in a header's value; `{{limit}}`, `{{remaining}}`, `{{reset}}`, `{{retry_after}}` and `{{policy}}` do"
    )]
    Field(String),
    #[error("`{0}` is set by the server itself")]
    Reserved(String),
}

impl CustomHeader {
    pub(crate) fn parse(name: &str, value: &str) -> Result<Self, HeaderError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 100 || !name.bytes().all(token) {
            return Err(HeaderError::Name(name.chars().take(60).collect()));
        }
        let lower = name.to_ascii_lowercase();
        // What frames a message must not be chosen here.
        if [
            "connection",
            "content-length",
            "transfer-encoding",
            "host",
            "upgrade",
            "te",
            "trailer",
            "set-cookie",
        ]
        .contains(&lower.as_str())
        {
            return Err(HeaderError::Reserved(name.to_owned()));
        }
        if value.len() > 1_000 || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(HeaderError::Value);
        }
        let mut parts = Vec::new();
        let mut rest = value;
        while let Some((text, after)) = rest.split_once('{') {
            let (field, after) = after.split_once('}').ok_or(HeaderError::Value)?;
            let known = FIELDS.iter().find(|(name, _)| *name == field);
            let (_, known) = known.ok_or_else(|| HeaderError::Field(field.to_owned()))?;
            parts.extend([Part::Text(text.to_owned()), Part::Field(*known)]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { name: lower, parts })
    }

    /// The header's name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The header's value with these numbers.
    pub fn value(&self, values: HeaderValues<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            let number = match part {
                Part::Text(fixed) => {
                    text.push_str(fixed);
                    continue;
                }
                Part::Field(Field::Policy) => {
                    text.push_str(values.policy);
                    continue;
                }
                Part::Field(Field::Limit) => values.limit,
                Part::Field(Field::Remaining) => values.remaining,
                Part::Field(Field::Reset) => values.reset_s,
                Part::Field(Field::RetryAfter) => values.retry_after_s,
            };
            // Writing to a string cannot fail.
            let _ = write!(text, "{number}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_in_the_text() {
        let header =
            CustomHeader::parse("X-API-Quota", "{remaining} of {limit} ({policy}; {reset}/{retry_after})")
                .unwrap();
        let values =
            HeaderValues { limit: 100, remaining: 7, reset_s: 30, retry_after_s: 0, policy: "api-v2" };
        assert_eq!(
            (header.name(), header.value(values).as_str()),
            ("x-api-quota", "7 of 100 (api-v2; 30/0)")
        );
    }

    #[test]
    fn nothing_else_gets_into_a_header() {
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:b", "x"),
            ("x\r\ny", "x"),
            ("Content-Length", "5"),
            ("x", "a\r\nb: c"),
            ("x", "ä"),
            ("x", "{user}"),
            ("x", "{limit"),
            ("x", &"x".repeat(1_001)),
        ] {
            assert!(CustomHeader::parse(name, value).is_err(), "{name}: {value}");
        }
    }
}
