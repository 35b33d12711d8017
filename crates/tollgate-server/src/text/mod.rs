//! Text for people at terminals.
//!
//! * [`format`]: numbers, lengths of time, dates; [`safe`]: what strangers wrote, made harmless.
//! * [`table`]: columns; [`paint`]: colours.

pub(crate) mod format;
pub(crate) mod paint;
pub(crate) mod safe;
pub(crate) mod table;

use self::paint::Style;

/// Columns between the edge of the terminal and the text of lists.
pub(crate) const INDENT: usize = 2;

/// How to write to standard output. Where it is no terminal, colours are taken out by whoever prints.
pub(crate) fn style() -> Style {
    let terminal = console::Term::stdout().size_checked().map(|(_, columns)| columns);
    Style { color: true, width: terminal.unwrap_or(100).clamp(80, 120) }
}
