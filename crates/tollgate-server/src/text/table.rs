//! Tables whose columns shrink to the width there is.

use std::fmt::{self, Write as _};

use super::paint::{Paint, Style};
use super::{format, safe};

/// Columns between two cells.
const GAP: usize = 2;
/// What a shrinking column keeps.
const NARROWEST: usize = 10;

/// What a column does when the table is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It keeps its width.
    Fixed,
    /// Its cells are cut in the middle.
    Elide,
    /// Its cells continue on the next line.
    Wrap,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    fit: Fit,
}

impl Column {
    /// A column of text.
    pub(crate) fn left(title: &'static str, fit: Fit) -> Self {
        Self { title, right: false, fit }
    }

    /// A column of numbers, which keeps its width.
    pub(crate) fn right(title: &'static str) -> Self {
        Self { title, right: true, fit: Fit::Fixed }
    }

    fn align(self, text: &str, width: usize, paint: Paint, style: Style) -> String {
        let padding = " ".repeat(width.saturating_sub(safe::width(text)));
        let text = style.paint(paint, text);
        if self.right { format!("{padding}{text}") } else { format!("{text}{padding}") }
    }

    /// `text` as lines of at most `width` columns.
    fn fold(self, text: &str, width: usize) -> Vec<String> {
        match self.fit {
            Fit::Fixed => vec![text.to_owned()],
            Fit::Elide => vec![safe::elide(text, width)],
            Fit::Wrap => safe::wrap(text, width),
        }
    }
}

/// A cell: one line or several, already safe to show.
#[derive(Debug, Clone)]
pub(crate) struct Cell(Vec<(String, Paint)>);

impl Cell {
    /// A cell with one line.
    pub(crate) fn new(text: impl Into<String>, paint: Paint) -> Self {
        Self(vec![(text.into(), paint)])
    }

    /// A cell with one line of ordinary text.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Paint::Plain)
    }

    /// A cell without a line.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// A cell for a number there is none of.
    pub(crate) fn nothing() -> Self {
        Self::new(format::NOTHING, Paint::Faint)
    }

    /// The cell with one more line.
    pub(crate) fn line(mut self, text: impl Into<String>, paint: Paint) -> Self {
        self.0.push((text.into(), paint));
        self
    }

    /// The cell in another colour.
    pub(crate) fn painted(mut self, paint: Paint) -> Self {
        for line in &mut self.0 {
            line.1 = paint;
        }
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|line| safe::width(&line.0)).max().unwrap_or(0)
    }
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    header: bool,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with a header.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, header: true, rows: Vec::new() }
    }

    /// A table that explains itself.
    pub(crate) fn without_header(columns: Vec<Column>) -> Self {
        Self { columns, header: false, rows: Vec::new() }
    }

    /// Adds a row, which has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Writes the table.
    pub(crate) fn write(&self, out: &mut String, style: Style) -> fmt::Result {
        let widths = self.widths(style.columns().saturating_sub(super::INDENT));
        if self.header {
            let titles: Vec<Cell> = self.columns.iter().map(|c| Cell::new(c.title, Paint::Faint)).collect();
            self.write_row(out, &titles, &widths, style)?;
        }
        for row in &self.rows {
            self.write_row(out, row, &widths, style)?;
        }
        Ok(())
    }

    fn write_row(&self, out: &mut String, cells: &[Cell], widths: &[usize], style: Style) -> fmt::Result {
        let folded: Vec<Vec<(String, Paint)>> = (self.columns.iter().zip(cells).zip(widths))
            .map(|((column, cell), &width)| {
                let fold = |(text, paint): &(String, Paint)| {
                    column.fold(text, width).into_iter().map(|line| (line, *paint)).collect::<Vec<_>>()
                };
                cell.0.iter().flat_map(fold).collect()
            })
            .collect();
        let height = folded.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let mut written = " ".repeat(super::INDENT);
            for (i, column) in self.columns.iter().enumerate() {
                let gap = if i == 0 { 0 } else { GAP };
                let (text, paint) =
                    folded[i].get(line).map_or(("", Paint::Plain), |(text, paint)| (text.as_str(), *paint));
                write!(written, "{:gap$}{}", "", column.align(text, widths[i], paint, style))?;
            }
            writeln!(out, "{}", written.trim_end())?;
        }
        Ok(())
    }

    /// The width of each column. What is too much is taken from the widest that can shrink.
    fn widths(&self, room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = (self.columns.iter().enumerate())
            .map(|(i, column)| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(Cell::width);
                let title = if self.header { safe::width(column.title) } else { 0 };
                cells.chain([title]).max().unwrap_or(0)
            })
            .collect();
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        while total(&widths) > room {
            let shrinking = (0..widths.len())
                .filter(|&i| self.columns[i].fit != Fit::Fixed && widths[i] > NARROWEST)
                .max_by_key(|&i| widths[i]);
            let Some(i) = shrinking else { break };
            widths[i] -= 1;
        }
        widths
    }
}
