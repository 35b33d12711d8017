//! The result: one line of JSON, flat.

use std::fmt::{Display, Write};

/// A JSON object under way. Names and texts are this program's own and need no escapes.
#[derive(Debug, Default)]
pub(crate) struct Line(String);

impl Line {
    /// Adds a text.
    #[must_use]
    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.field(name, format_args!("\"{value}\""))
    }

    /// Adds a whole number.
    #[must_use]
    pub(crate) fn whole(self, name: &str, value: u64) -> Self {
        self.field(name, value)
    }

    /// Adds a number with a fraction.
    #[must_use]
    pub(crate) fn decimal(self, name: &str, value: f64) -> Self {
        self.field(name, format_args!("{value:.6}"))
    }

    fn field(mut self, name: &str, value: impl Display) -> Self {
        let lead = if self.0.is_empty() { '{' } else { ',' };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{lead}\"{name}\":{value}");
        self
    }

    /// The whole line.
    pub(crate) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_line_is_a_flat_object() {
        let line = Line::default().text("peer", "governor").whole("keys", 10).decimal("ns", 1.5);
        assert_eq!(line.finish(), r#"{"peer":"governor","keys":10,"ns":1.500000}"#);
    }
}
