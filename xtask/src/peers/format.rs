//! Numbers and tables for people.

use std::fmt;

/// A whole number with its digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number to three digits or so: what is beyond them is noise.
pub(super) fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { whole(value) }
}

/// A number without a fraction.
pub(super) fn whole(value: f64) -> String {
    // Times and counts are far below 2^64, and not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    grouped(value.round() as u64)
}

/// A time in nanoseconds, in the unit that suits it.
pub(super) fn time(nanos: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    match UNITS.iter().find(|(unit, _)| nanos >= *unit) {
        Some((unit, name)) => format!("{} {name}", number(nanos / unit)),
        None => format!("{} ns", whole(nanos)),
    }
}

/// A ratio.
pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

/// A table under a title: Markdown that also reads well as it stands.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// What is to be said of it.
    pub(super) note: String,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(ToString::to_string).collect();
        Self { title: title.into(), head, rows: Vec::new(), note: String::new() }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.head.len()).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        writeln!(f, "### {}\n", self.title)?;
        write_row(f, &self.head, &widths)?;
        // Names are read from the left, numbers from the right.
        for (column, width) in widths.iter().enumerate() {
            let rule = "-".repeat(*width);
            if column == 0 { write!(f, "|-{rule}-|")? } else { write!(f, "-{rule}:|")? }
        }
        writeln!(f)?;
        for row in &self.rows {
            write_row(f, row, &widths)?;
        }
        if self.note.is_empty() { Ok(()) } else { writeln!(f, "\n{}", self.note) }
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, cells: &[String], widths: &[usize]) -> fmt::Result {
    write!(f, "|")?;
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if column == 0 { write!(f, " {cell:<width$} |")? } else { write!(f, " {cell:>width$} |")? }
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (grouped(7), grouped(1_000), grouped(10_000_000)),
            ("7".into(), "1,000".into(), "10,000,000".into())
        );
        assert_eq!([1.26, 99.96, 312.4, 12_345.6].map(number), ["1.3", "100.0", "312", "12,346"]);
        assert_eq!([999.0, 1_500.0, 8_187_074.0].map(time), ["999 ns", "1.5 µs", "8.2 ms"]);
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new("Speed", &["limiter", "µs"]);
        table.rows.push(vec!["a".into(), "12.5".into()]);
        let text = "### Speed\n\n| limiter |   µs |\n|---------|-----:|\n| a       | 12.5 |\n";
        assert_eq!(table.to_string(), text);
    }
}
