//! Charts as inline SVG.
//!
//! They have no `viewBox`: across they are laid out in percent, so that bars grow with the page and
//! the letters on the axes do not. Colours come from the page's style sheet.

use std::fmt::{self, Write as _};

use super::axis::{self, Columns, Scale};
use super::{Timeline, format, safe};

/// The most columns: more would be thinner than a pixel or two.
const MOST_COLUMNS: usize = 240;
/// The most marks on the time axis, for a wide page; a narrow one shows each second one.
const MOST_TICKS: u64 = 8;
/// The height of the chart of all requests, in pixels.
const REQUESTS_HEIGHT: u32 = 220;
/// The height of the chart of denied requests alone, in pixels.
const DENIED_HEIGHT: u32 = 88;
/// Room above the highest mark, in pixels, so that its label is not cut.
const HEADROOM: u32 = 8;
/// Room for the times below a chart, in pixels.
const FOOTROOM: u32 = 26;
/// Where denials are fewer than one in this many, they get a chart on their own scale.
const OWN_SCALE: u64 = 4;

/// Writes the timeline; `false` where there is nothing to draw.
pub(super) fn timeline(out: &mut String, timeline: &Timeline) -> Result<bool, fmt::Error> {
    let columns = Columns::fit(timeline, MOST_COLUMNS);
    if columns.is_empty() {
        return Ok(false);
    }
    let each = format::duration(columns.seconds);
    let peak = columns.busiest().map_or(0, |(_, n)| n);
    let denied = columns.most_denied();

    out.push_str("<figure class=\"chart\">\n");
    out.push_str(
        "<ul class=\"legend\"><li class=\"admitted\">admitted</li><li class=\"denied\">denied</li></ul>\n",
    );
    let label = summary(&columns, peak);
    Panel { columns: &columns, height: REQUESTS_HEIGHT, peak, steps: 4, admitted: true }
        .write(out, &label)?;
    if denied > 0 && denied < peak / OWN_SCALE {
        out.push_str("<p class=\"panel\">Denied alone, on its own scale</p>\n");
        let label = format!("Denied requests over time: at most {} in {each}.", format::count(denied));
        Panel { columns: &columns, height: DENIED_HEIGHT, peak: denied, steps: 2, admitted: false }
            .write(out, &label)?;
    }
    writeln!(
        out,
        "<figcaption>Requests in each {each}, times in UTC. Point at a bar for its numbers.</figcaption>\n</figure>",
    )?;
    Ok(true)
}

/// A bar that shows which part of the requests was denied.
pub(super) fn share_bar(out: &mut String, denied: u64, matched: u64) -> fmt::Result {
    if matched == 0 {
        return Ok(());
    }
    let label = format!("{} denied", format::percent(denied, matched));
    let share = if denied == 0 {
        String::new()
    } else {
        // A sliver that can be seen, even where the share is next to nothing.
        let exact = format::decimal(u128::from(denied) * 100, u128::from(matched));
        let width = if u128::from(denied) * 100 < u128::from(matched) { "1" } else { &exact };
        format!("<rect class=\"denied\" width=\"{width}%\" height=\"100%\"/>")
    };
    write!(
        out,
        "<svg class=\"share\" role=\"img\" aria-label=\"{}\"><rect class=\"track\" width=\"100%\" height=\"100%\"/>{share}</svg>",
        safe::escape_html(&label),
    )
}

/// One pair of axes and its bars.
struct Panel<'a> {
    columns: &'a Columns,
    /// The height of the plot without its labels, in pixels.
    height: u32,
    /// The highest value.
    peak: u64,
    /// The most steps on the count axis.
    steps: u128,
    /// Whether the admitted requests are drawn below the denied ones.
    admitted: bool,
}

impl Panel<'_> {
    fn write(&self, out: &mut String, label: &str) -> fmt::Result {
        let scale = Scale::up_to(self.peak, self.steps);
        writeln!(
            out,
            "<svg class=\"plot\" height=\"{}\" role=\"img\" aria-label=\"{}\">",
            HEADROOM + self.height + FOOTROOM,
            safe::escape_html(label),
        )?;
        for mark in scale.marks() {
            let y = self.y(mark, scale);
            let class = if mark == 0 { "base" } else { "grid" };
            writeln!(
                out,
                "<line class=\"{class}\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\"/><text class=\"count\" x=\"-8\" y=\"{y}\" dy=\".32em\">{}</text>",
                format::short(mark),
            )?;
        }
        self.bars(out, scale)?;
        self.times(out)?;
        out.push_str("</svg>\n");
        Ok(())
    }

    fn bars(&self, out: &mut String, scale: Scale) -> fmt::Result {
        let n = self.columns.counts.len();
        let (top, base) = (HEADROOM, HEADROOM + self.height);
        for (i, &(admitted, denied)) in self.columns.counts.iter().enumerate() {
            if (admitted, denied) == (0, 0) {
                continue;
            }
            let (x, width) = slot(i, n);
            let begin = self.columns.begin(i);
            write!(
                out,
                "<g><title>{}, {} UTC: {} admitted, {} denied</title>",
                format::date(begin),
                if self.columns.seconds.is_multiple_of(60) {
                    format::hour_minute(begin)
                } else {
                    format::hour_minute_second(begin)
                },
                format::count(admitted),
                format::count(denied),
            )?;
            write!(
                out,
                "<rect class=\"aim\" x=\"{x}%\" y=\"{top}\" width=\"{width}%\" height=\"{}\"/>",
                self.height
            )?;
            let below = if self.admitted { u128::from(admitted) } else { 0 };
            if below > 0 {
                let y = self.y(below, scale);
                let height = self.pixels(below, scale);
                write!(
                    out,
                    "<rect class=\"admitted\" x=\"{x}%\" y=\"{y}\" width=\"{width}%\" height=\"{height}\"/>"
                )?;
            }
            if denied > 0 {
                // At least one pixel and a half: a single denial must not vanish.
                let exact = self.thousandths(u128::from(denied), scale).max(1_500);
                let foot = u128::from(base) * 1_000 - self.thousandths(below, scale);
                let y = format::decimal(foot.saturating_sub(exact), 1_000);
                let height = format::decimal(exact, 1_000);
                write!(
                    out,
                    "<rect class=\"denied\" x=\"{x}%\" y=\"{y}\" width=\"{width}%\" height=\"{height}\"/>"
                )?;
            }
            out.push_str("</g>\n");
        }
        Ok(())
    }

    fn times(&self, out: &mut String) -> fmt::Result {
        let (start, end) = (self.columns.start, self.columns.end());
        let base = HEADROOM + self.height;
        for (i, tick) in axis::ticks(start, end, MOST_TICKS).iter().enumerate() {
            let x = format::decimal(u128::from(tick.at - start) * 100, u128::from(end - start));
            let class = if i % 2 == 0 { "time" } else { "time between" };
            writeln!(
                out,
                "<g class=\"{class}\"><line x1=\"{x}%\" x2=\"{x}%\" y1=\"{base}\" y2=\"{}\"/><text x=\"{x}%\" y=\"{}\">{}</text></g>",
                base + 5,
                base + 19,
                tick.label,
            )?;
        }
        Ok(())
    }

    /// How high `value` is, in thousandths of a pixel.
    fn thousandths(&self, value: u128, scale: Scale) -> u128 {
        (value * u128::from(self.height) * 1_000 / scale.top).min(u128::from(self.height) * 1_000)
    }

    /// How high `value` is, in pixels.
    fn pixels(&self, value: u128, scale: Scale) -> String {
        format::decimal(self.thousandths(value, scale), 1_000)
    }

    /// Where `value` stands, in pixels from the top.
    fn y(&self, value: u128, scale: Scale) -> String {
        let base = u128::from(HEADROOM + self.height) * 1_000;
        format::decimal(base - self.thousandths(value, scale), 1_000)
    }
}

/// Where the bar of column `i` of `n` begins and how wide it is, in percent.
fn slot(i: usize, n: usize) -> (String, String) {
    let (i, n) = (i as u128, n as u128);
    // In thousandths of a percent. Few bars stand apart and do not grow into slabs; many touch, and
    // overlap a little so that no seams show between them.
    let slot = 100_000 / n;
    let width = if n > 80 { slot + slot / 12 } else { (slot * 5 / 6).min(8_000) };
    let x = i * 100_000 / n + slot.saturating_sub(width) / 2;
    (format::decimal(x, 1_000), format::decimal(width.min(100_000 - x), 1_000))
}

/// The chart in words, for who cannot see it.
fn summary(columns: &Columns, peak: u64) -> String {
    let mut words = format!(
        "Requests over time in columns of {}, from {} to {} UTC.",
        format::duration(columns.seconds),
        format::date_time(columns.start),
        format::date_time(columns.end()),
    );
    if let Some((i, _)) = columns.busiest() {
        let begin = format::date_time(columns.begin(i));
        // Writing to a `String` cannot fail.
        let _ = write!(words, " The most were {} from {begin}", format::count(peak));
        let _ =
            write!(words, "; at most {} were denied in one column.", format::count(columns.most_denied()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(columns: usize, admitted: u64, denied: u64) -> String {
        let timeline_of = Timeline {
            start_unix_seconds: 1_772_409_600,
            bucket_seconds: 60,
            admitted: vec![admitted; columns],
            denied: vec![denied; columns],
        };
        let mut out = String::new();
        assert_eq!(timeline(&mut out, &timeline_of), Ok(columns > 0 && admitted + denied > 0));
        out
    }

    #[test]
    fn many_buckets_become_few_bars() {
        let svg = draw(10_000, 1, 1);
        let bars = svg.matches("<title>").count();
        assert!(bars <= MOST_COLUMNS && bars > MOST_COLUMNS / 3, "{bars}");
    }

    #[test]
    fn one_bucket_is_one_bar() {
        let svg = draw(1, 10, 5);
        assert_eq!(svg.matches("<title>").count(), 1);
        assert!(svg.contains("2026-03-02, 00:00 UTC: 10 admitted, 5 denied"), "{svg}");
    }

    #[test]
    fn few_denials_get_their_own_scale() {
        assert!(draw(5, 1_000, 1).contains("Denied alone"));
        assert!(!draw(5, 1_000, 900).contains("Denied alone"));
        assert!(!draw(5, 1_000, 0).contains("Denied alone"));
    }

    #[test]
    fn nothing_is_not_drawn() {
        assert_eq!(draw(0, 0, 0), "");
        assert_eq!(draw(3, 0, 0), "");
    }

    #[test]
    fn a_share_bar_shows_the_share() {
        let bar = |denied, matched| {
            let mut out = String::new();
            share_bar(&mut out, denied, matched).map(|()| out)
        };
        assert_eq!(bar(0, 0), Ok(String::new()));
        assert!(bar(1, 4).is_ok_and(|svg| svg.contains("class=\"denied\" width=\"25.000%\"")));
        assert!(bar(1, 1_000_000).is_ok_and(|svg| svg.contains("width=\"1%\"") && svg.contains("&lt;0.1 %")));
        assert!(bar(0, 4).is_ok_and(|svg| !svg.contains("class=\"denied\"")));
    }
}
