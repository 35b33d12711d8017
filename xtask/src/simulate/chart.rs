//! The courses as small plots side by side, in one SVG.

use std::fmt::Write as _;

use super::{BACK_S, CAPACITY, Course, END_S, LOST_S, best_at};

const COLUMNS: usize = 3;
const WIDTH: f64 = 280.0;
const HEIGHT: f64 = 120.0;
const GAP: f64 = 24.0;
/// Room for a title above each plot, and for the times below.
const ABOVE: f64 = 30.0;
const BELOW: f64 = 22.0;
/// Room for numbers on the left.
const LEFT: f64 = 40.0;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #57606a; }
.name { font-weight: 600; fill: #24292f; }
.good { fill: #2da44e; fill-opacity: .25; stroke: #2da44e; stroke-width: 1.5; }
.best { fill: none; stroke: #57606a; stroke-dasharray: 4 3; }
.axis { stroke: #d0d7de; }
@media (prefers-color-scheme: dark) {
  text { fill: #8b949e; } .name { fill: #e6edf3; } .axis { stroke: #30363d; } .best { stroke: #8b949e; }
}
";

/// The whole drawing.
#[allow(clippy::cast_precision_loss)]
pub(super) fn svg(courses: &[Course]) -> String {
    let rows = courses.len().div_ceil(COLUMNS);
    let row_height = ABOVE + HEIGHT + BELOW;
    let (width, height) = (LEFT + COLUMNS as f64 * (WIDTH + GAP), rows as f64 * row_height + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Requests answered in time, a second, behind each kind of limit\">\n<style>\n{STYLE}</style>\n"
    );
    for (index, course) in courses.iter().enumerate() {
        let x = LEFT + (index % COLUMNS) as f64 * (WIDTH + GAP);
        let y = (index / COLUMNS) as f64 * row_height + ABOVE;
        plot(&mut svg, course, x, y, index % COLUMNS == 0);
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.0}\">Requests answered in time, a second; dashed: the best that the service could do.</text>\n</svg>",
        height - 6.0,
    );
    svg
}

/// One course, its upper left corner there. Writing to a string cannot fail.
fn plot(svg: &mut String, course: &Course, left: f64, top: f64, has_numbers: bool) {
    // A fifth of room above the best.
    let y = |count: u32| top + HEIGHT - HEIGHT * f64::from(count) / (f64::from(CAPACITY) * 1.2);
    let x = |second: u32| left + WIDTH * f64::from(second) / f64::from(END_S);
    let (bottom, right) = (y(0), x(END_S));
    let (all, _) = course.shares();
    let _ = writeln!(
        svg,
        "<text class=\"name\" x=\"{left}\" y=\"{:.0}\">{}</text><text x=\"{right:.0}\" y=\"{:.0}\" text-anchor=\"end\">{all:.1} % of the best</text>",
        top - 8.0,
        course.name,
        top - 8.0,
    );
    let _ = writeln!(svg, "<path class=\"axis\" d=\"M{left} {bottom:.1}H{right:.1}\"/>");
    let marks = [(0, "start"), (LOST_S, "middle"), (BACK_S, "middle"), (END_S, "end")];
    for (second, anchor) in marks {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{second} s</text>",
            x(second),
            bottom + 15.0
        );
    }
    if has_numbers {
        for count in [0, CAPACITY / 2, CAPACITY] {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{count}</text>",
                left - 6.0,
                y(count) + 4.0
            );
        }
    }
    let (mut good, mut best) = (format!("M{left:.1} {bottom:.1}"), String::new());
    for (second, count) in (0..END_S).zip(&course.good) {
        let (from, to) = (x(second), x(second + 1));
        let _ = write!(good, "L{from:.1} {:.1}H{to:.1}", y(*count));
        let _ = write!(
            best,
            "{}{from:.1} {:.1}H{to:.1}",
            if second == 0 { 'M' } else { 'L' },
            y(best_at(second))
        );
    }
    let _ = writeln!(
        svg,
        "\n<path class=\"good\" d=\"{good}V{bottom:.1}Z\"/>\n<path class=\"best\" d=\"{best}\"/>"
    );
}
