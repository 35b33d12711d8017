//! The timeline as columns of Unicode blocks.
//!
//! Admitted and denied requests stand one above the other over the same hours, each on its own
//! scale: denials are often so few that on a common scale they would vanish, and two rows need no
//! colour to be told apart.

use std::fmt::{self, Write as _};

use super::super::axis::{self, Columns};
use super::super::{Timeline, format, safe};
use crate::text::paint::{Paint, Style};

/// A column's top, in eighths of a line.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// How many lines high the admitted requests are drawn.
const ADMITTED_LINES: usize = 6;
/// How many lines high the denied requests are drawn.
const DENIED_LINES: usize = 4;
/// The widest a single column becomes, in terminal columns.
const WIDEST: usize = 6;
/// The terminal columns a mark's label needs, with the space around it.
const TICK_WIDTH: usize = 9;

/// Writes the plot; `false` where there is nothing to draw.
pub(super) fn write(out: &mut String, timeline: &Timeline, style: Style) -> Result<bool, fmt::Error> {
    // Room for the labels of the count axis and the axis itself, and for the last time's overhang.
    let gutter = 10;
    let room = style.columns() - gutter - 4;
    let columns = Columns::fit(timeline, room);
    if columns.is_empty() {
        return Ok(false);
    }
    let plot = Plot { each: (room / columns.counts.len()).clamp(1, WIDEST), columns, gutter, style };

    let admitted: Vec<u64> = plot.columns.counts.iter().map(|c| c.0).collect();
    let denied: Vec<u64> = plot.columns.counts.iter().map(|c| c.1).collect();
    let (most_admitted, most_denied) = (plot.columns.most_admitted(), plot.columns.most_denied());

    plot.title(out, "admitted", Paint::Admitted)?;
    plot.panel(out, &admitted, most_admitted, ADMITTED_LINES, Paint::Admitted)?;
    if most_denied > 0 {
        plot.axis(out, '┼', '─')?;
        plot.title(out, "denied, on a scale of its own", Paint::Denied)?;
        plot.panel(out, &denied, most_denied, DENIED_LINES, Paint::Denied)?;
    }
    plot.time_axis(out)?;
    Ok(true)
}

/// What all parts of the plot share.
struct Plot {
    columns: Columns,
    /// Terminal columns to a column.
    each: usize,
    /// Terminal columns left of the axis.
    gutter: usize,
    style: Style,
}

impl Plot {
    /// Terminal columns right of the axis.
    fn width(&self) -> usize {
        self.columns.counts.len() * self.each
    }

    /// What a panel shows.
    fn title(&self, out: &mut String, name: &str, paint: Paint) -> fmt::Result {
        writeln!(out, "{:width$}{}", "", self.style.paint(paint, name), width = self.gutter + 1)
    }

    /// `values` as columns `lines` lines high.
    fn panel(&self, out: &mut String, values: &[u64], peak: u64, lines: usize, paint: Paint) -> fmt::Result {
        let heights: Vec<usize> = values.iter().map(|&value| eighths(value, peak, lines)).collect();
        for line in (0..lines).rev() {
            let mut row = String::new();
            for &height in &heights {
                let block = BLOCKS[height.saturating_sub(line * 8).min(8)];
                // Broad columns stand apart, so that they can be counted.
                let gap = usize::from(self.each >= 3);
                row.extend(std::iter::repeat_n(block, self.each - gap));
                row.extend(std::iter::repeat_n(' ', gap));
            }
            let label = if line + 1 == lines { axis_label(peak) } else { String::new() };
            let axis = if label.is_empty() { '│' } else { '┤' };
            self.line(out, &label, axis, &self.style.paint(paint, row.trim_end()))?;
        }
        Ok(())
    }

    /// One line of the plot, with what stands left of the axis.
    fn line(&self, out: &mut String, label: &str, axis: char, rest: &str) -> fmt::Result {
        let width = self.gutter - 1;
        let left = self.style.paint(Paint::Faint, &format!("{label:>width$} {axis}"));
        writeln!(out, "{left}{rest}")
    }

    /// The axis below a panel that another follows.
    fn axis(&self, out: &mut String, corner: char, line: char) -> fmt::Result {
        let rest: String = std::iter::repeat_n(line, self.width()).collect();
        self.line(out, "0", corner, &self.style.paint(Paint::Faint, &rest))
    }

    /// The axis below the last panel, with its times.
    fn time_axis(&self, out: &mut String) -> fmt::Result {
        let (start, end) = (self.columns.start, self.columns.end());
        let most = (self.width() / TICK_WIDTH).max(1);
        let mut axis: Vec<char> = std::iter::repeat_n('─', self.width()).collect();
        let mut labels = String::new();
        let mut written = 0;
        for tick in axis::ticks(start, end, most as u64) {
            let Some(place) = self.place(tick.at) else { continue };
            if let Some(mark) = axis.get_mut(place) {
                *mark = '┴';
            }
            // The label is centred under its mark, as far as the one before it leaves room.
            let begin = (self.gutter + 1 + place).saturating_sub(safe::width(&tick.label) / 2);
            if written > 0 && begin <= written {
                continue;
            }
            write!(labels, "{:width$}{}", "", tick.label, width = begin - written)?;
            written = begin + safe::width(&tick.label);
        }
        let axis: String = axis.into_iter().collect();
        self.line(out, "0", '└', &self.style.paint(Paint::Faint, &axis))?;
        if !labels.is_empty() {
            writeln!(out, "{}", self.style.paint(Paint::Faint, &labels))?;
        }
        let note = format!("one column is {}, times are in UTC", format::duration(self.columns.seconds));
        writeln!(out, "\n{:width$}{}", "", self.style.paint(Paint::Faint, &note), width = self.gutter + 1)
    }

    /// The terminal column, right of the axis, in which the moment `at` falls.
    fn place(&self, at: u64) -> Option<usize> {
        let offset = u128::from(at.checked_sub(self.columns.start)?);
        let place = offset * self.each as u128 / u128::from(self.columns.seconds);
        usize::try_from(place).ok().filter(|&place| place <= self.width())
    }
}

/// `n` in full where there is room for it left of the axis.
fn axis_label(n: u64) -> String {
    if n < 1_000_000 { format::count(n) } else { format::short(u128::from(n)) }
}

/// How many eighths of a line `value` is high, when `top` is `lines` lines high. Any value but zero
/// can be seen.
fn eighths(value: u64, top: u64, lines: usize) -> usize {
    let full = lines * 8;
    let height = u128::from(value) * full as u128 / u128::from(top.max(1));
    usize::try_from(height).unwrap_or(full).clamp(usize::from(value > 0), full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_nothing_can_be_seen() {
        assert_eq!(eighths(0, 1_000, 4), 0);
        assert_eq!(eighths(1, 1_000_000, 4), 1);
        assert_eq!(eighths(1_000, 1_000, 4), 32);
        assert_eq!(eighths(u64::MAX, u64::MAX, 6), 48);
    }

    #[test]
    fn a_plot_of_few_columns() {
        let timeline = Timeline {
            start_unix_seconds: 0,
            bucket_seconds: 3_600,
            admitted: vec![4, 2, 0],
            denied: vec![0, 1, 0],
        };
        let mut plot = String::new();
        assert_eq!(write(&mut plot, &timeline, Style { color: false, width: 80 }), Ok(true));
        let expected = "
           admitted
        4 ┤█████
          │█████
          │█████
          │█████ █████
          │█████ █████
          │█████ █████
        0 ┼──────────────────
           denied, on a scale of its own
        1 ┤      █████
          │      █████
          │      █████
          │      █████
        0 └┴───────────┴─────
         Jan 1       02:00

           one column is 1 h, times are in UTC
";
        assert_eq!(plot, expected[1..]);
    }
}
