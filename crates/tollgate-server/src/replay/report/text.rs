//! The report for a person at a terminal.

mod plot;

use std::fmt::{self, Write as _};

use super::format::{cell, count, date_time, moment, percent, plural};
use super::{KeyReport, PolicyReport, Report, Suggestion, safe, words};
use crate::text::INDENT;
use crate::text::paint::{Paint, Style};
use crate::text::table::{Cell, Column, Fit, Table};

/// The most columns of a name, key or file name.
const NAME_WIDTH: usize = 40;
/// The most columns of an excerpt or a limit.
const TEXT_WIDTH: usize = 200;
/// The most policies and suggestions listed: what does not fit on a few screens is for JSON.
const ROWS: usize = 50;
/// The most log files named.
const LOGS: usize = 4;
/// The most limits listed for one policy.
const LIMITS: usize = 8;

/// The report as text for a terminal `style.width` columns wide, with a newline at its end.
///
/// Colour only repeats what the words and shapes say already: without it nothing is lost.
pub(crate) fn render_text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = render(&mut out, report, style);
    out
}

fn render(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    summary(out, report, style)?;
    quality(out, report, style)?;
    if report.totals.requests == 0 && report.policies.is_empty() {
        return Ok(());
    }
    policies(out, report, style)?;
    if report.totals.requests > 0 {
        hardest_keys(out, report, style)?;
        timeline(out, report, style)?;
        suggestions(out, report, style)?;
        section(out, "Keep in mind", style)?;
        paragraph(out, words::CAVEAT, Paint::Faint, style)?;
    }
    Ok(())
}

/// The headline, what was read, and the totals.
fn summary(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    out.push('\n');
    paragraph(out, &words::headline(report), Paint::Strong, style)?;
    out.push('\n');

    let mut fact = |label: &str, value: &str| {
        let label = style.paint(Paint::Faint, &format!("{label:<8}"));
        writeln!(out, "  {label}  {value}")
    };
    fact("policies", &safe::elide(&report.policy_file, style.columns() - 14))?;
    let mut label = "logs";
    for log in report.logs.iter().take(LOGS) {
        fact(label, &safe::elide(log, style.columns() - 14))?;
        label = "";
    }
    if let Some(more @ 1..) = report.logs.len().checked_sub(LOGS) {
        fact("", &format!("and {} more", count(more as u64)))?;
    }
    if let Some(span) = report.span {
        let (first, last) = (date_time(span.first_unix_seconds), date_time(span.last_unix_seconds));
        fact("time", &format!("{first} to {last} UTC"))?;
    }

    let totals = &report.totals;
    if totals.requests == 0 {
        return Ok(());
    }
    out.push('\n');
    let mut table = Table::without_header(vec![
        Column::left("", Fit::Fixed),
        Column::right(""),
        Column::right(""),
        Column::left("", Fit::Wrap),
    ]);
    let mut row = |name: &str, n: u64, note: &str, paint: Paint| {
        table.row(vec![
            Cell::plain(name),
            Cell::new(cell(n), paint),
            Cell::new(percent(n, totals.requests), paint),
            Cell::new(note, Paint::Faint),
        ]);
    };
    row("admitted", totals.admitted, "", Paint::Plain);
    row("denied", totals.denied, "", if totals.denied > 0 { Paint::Denied } else { Paint::Plain });
    if totals.unmatched > 0 {
        row("unmatched", totals.unmatched, "admitted because no policy applied", Paint::Plain);
    }
    if totals.shadow_denied > 0 {
        row(
            "shadow",
            totals.shadow_denied,
            "would be denied if shadow policies were enforced",
            Paint::Warning,
        );
    }
    table.write(out, style)
}

/// What was wrong with the logs, where anything was.
fn quality(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let lines = &report.lines;
    let (bad, late) = (words::bad_lines(lines), words::late_lines(lines));
    let others = [words::restarts(lines), words::reordered_lines(lines)];
    if bad.is_none() && late.is_none() && others.iter().all(Option::is_none) {
        return Ok(());
    }
    section(out, "Log quality", style)?;
    if let Some(bad) = bad {
        paragraph(out, &bad, Paint::Warning, style)?;
        for example in &report.bad_examples {
            let place = format!("{}:{}", safe::elide(&example.file, NAME_WIDTH), example.line);
            let reason = safe::elide(&example.reason, TEXT_WIDTH);
            paragraph_at(out, 4, &format!("{place}: {reason}"), Paint::Plain, style)?;
            if !example.excerpt.is_empty() {
                let excerpt = safe::elide(&example.excerpt, style.columns() - 6);
                writeln!(out, "      {}", style.paint(Paint::Faint, &excerpt))?;
            }
        }
        let hidden = lines.bad.saturating_sub(report.bad_examples.len() as u64);
        if hidden > 0 && !report.bad_examples.is_empty() {
            let more = format!("and {} like these", plural(hidden, "line", "lines"));
            writeln!(out, "    {}", style.paint(Paint::Faint, &more))?;
        }
    }
    if let Some(late) = late {
        paragraph(out, &late, Paint::Warning, style)?;
    }
    for sentence in others.into_iter().flatten() {
        paragraph(out, &sentence, Paint::Plain, style)?;
    }
    Ok(())
}

/// The table of policies.
fn policies(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    section(out, "Policies", style)?;
    if report.policies.is_empty() {
        return paragraph(out, words::NO_POLICIES, Paint::Plain, style);
    }
    let wide = style.columns() >= 100;
    let mut columns = vec![Column::left("Policy", Fit::Elide), Column::left("Limit", Fit::Wrap)];
    if wide {
        columns.push(Column::right("Keys"));
    }
    columns.extend(["Matched", "Admitted", "Denied", "Share"].map(Column::right));

    let mut table = Table::new(columns);
    let ranked = words::ranked(&report.policies);
    for policy in ranked.iter().take(ROWS) {
        table.row(policy_row(policy, wide));
    }
    table.write(out, style)?;
    more(out, ranked.len(), style)
}

fn policy_row(policy: &PolicyReport, wide: bool) -> Vec<Cell> {
    let name = Cell::plain(safe::elide(&policy.name, NAME_WIDTH));
    let mut limits = Cell::empty();
    for limit in policy.limits.iter().take(LIMITS) {
        limits = limits.line(safe::elide(limit, TEXT_WIDTH), Paint::Faint);
    }
    if let Some(more @ 1..) = policy.limits.len().checked_sub(LIMITS) {
        limits = limits.line(format!("and {} more", count(more as u64)), Paint::Faint);
    }
    if let Some(mark) = words::policy_mark(policy) {
        limits = limits.line(format!("({mark})"), Paint::Warning);
    }

    let number = |n: u64| if policy.matched == 0 { Cell::nothing() } else { Cell::plain(cell(n)) };
    let hard = match (policy.denied, policy.shadow) {
        (0, _) => Paint::Plain,
        (_, true) => Paint::Warning,
        (_, false) => Paint::Denied,
    };
    let mut row = vec![name, limits];
    if wide {
        row.push(number(policy.keys));
    }
    row.push(number(policy.matched));
    row.push(number(policy.admitted));
    row.push(number(policy.denied).painted(hard));
    row.push(Cell::new(percent(policy.denied, policy.matched), hard));
    row
}

/// The table of the keys denied most.
fn hardest_keys(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    section(out, "Hardest-hit keys", style)?;
    if report.hardest_keys.is_empty() {
        return paragraph(out, words::NO_KEYS, Paint::Plain, style);
    }
    let wide = style.columns() >= 100;
    let mut columns = vec![Column::left("Key", Fit::Elide), Column::left("Policy", Fit::Elide)];
    columns.extend(["Matched", "Denied", "Share"].map(Column::right));
    if wide {
        columns.push(Column::right("First denied"));
    }
    columns.push(Column::right("Last denied"));

    let mut table = Table::new(columns);
    for key in &report.hardest_keys {
        table.row(key_row(key, wide));
    }
    table.write(out, style)
}

fn key_row(key: &KeyReport, wide: bool) -> Vec<Cell> {
    let mut row = vec![
        Cell::plain(safe::elide(&key.key, NAME_WIDTH)),
        Cell::new(safe::elide(&key.policy, NAME_WIDTH), Paint::Faint),
        Cell::plain(cell(key.matched)),
        Cell::new(cell(key.denied), Paint::Denied),
        Cell::new(percent(key.denied, key.matched), Paint::Denied),
    ];
    if wide {
        row.push(Cell::new(moment(key.first_denied_unix_seconds), Paint::Faint));
    }
    row.push(Cell::new(moment(key.last_denied_unix_seconds), Paint::Faint));
    row
}

/// The plot of requests over time.
fn timeline(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    section(out, "Timeline", style)?;
    if !plot::write(out, &report.timeline, style)? {
        paragraph(out, words::NO_TIMELINE, Paint::Plain, style)?;
    }
    Ok(())
}

/// The table of limits that would fit.
fn suggestions(out: &mut String, report: &Report, style: Style) -> fmt::Result {
    let ranked = words::ranked(&report.policies);
    let all: Vec<(&PolicyReport, &Suggestion)> =
        ranked.into_iter().flat_map(|policy| policy.suggestions.iter().map(move |s| (policy, s))).collect();
    if all.is_empty() {
        return Ok(());
    }
    section(out, "Limits that would fit this traffic", style)?;
    paragraph(out, words::SUGGESTIONS_INTRO, Paint::Faint, style)?;
    out.push('\n');

    let mut columns = vec![Column::left("Policy", Fit::Elide), Column::left("Limit now", Fit::Wrap)];
    columns.extend(["Denies nobody", "Denies 0.1 %", "Denies 1 %"].map(Column::right));
    let mut table = Table::new(columns);
    for (policy, s) in all.iter().take(ROWS) {
        let number = |n: Option<u64>| match n {
            Some(n) => Cell::plain(format!("{}/{}", cell(n), safe::elide(&s.period, 12))),
            None => Cell::nothing(),
        };
        table.row(vec![
            Cell::plain(safe::elide(&policy.name, NAME_WIDTH)),
            Cell::new(safe::elide(&s.limit, TEXT_WIDTH), Paint::Faint),
            number(s.denies_nobody).painted(Paint::Strong),
            number(s.denies_0_1_percent),
            number(s.denies_1_percent),
        ]);
    }
    table.write(out, style)?;
    more(out, all.len(), style)
}

/// A heading: a rule across the page that carries the section's name.
fn section(out: &mut String, title: &str, style: Style) -> fmt::Result {
    let rule = "─".repeat(style.columns().saturating_sub(safe::width(title) + 4));
    let (title, rule) = (style.paint(Paint::Strong, title), style.paint(Paint::Faint, &rule));
    writeln!(out, "\n{} {title} {rule}\n", style.paint(Paint::Faint, "──"))
}

/// Prose, wrapped.
fn paragraph(out: &mut String, text: &str, paint: Paint, style: Style) -> fmt::Result {
    paragraph_at(out, INDENT, text, paint, style)
}

fn paragraph_at(out: &mut String, indent: usize, text: &str, paint: Paint, style: Style) -> fmt::Result {
    // Long lines are hard to read, however wide the terminal is.
    for line in safe::wrap(text, style.columns().min(100) - indent) {
        writeln!(out, "{:indent$}{}", "", style.paint(paint, &line))?;
    }
    Ok(())
}

/// How many rows of `all` were left out, where any were.
fn more(out: &mut String, all: usize, style: Style) -> fmt::Result {
    match words::and_more(all.saturating_sub(ROWS)) {
        Some(more) => writeln!(out, "  {}", style.paint(Paint::Faint, &more)),
        None => Ok(()),
    }
}
