//! The report as one HTML page that needs nothing else: no script, no font, no network.

use std::fmt::{self, Write as _};

use super::format::{cell, count, date_time, duration, machine_time, percent};
use super::{KeyReport, PolicyReport, Report, Suggestion, chart, format, safe, words};

/// The style sheet, which goes into the page.
const CSS: &str = include_str!("page.css");
/// The most characters of a name, key, limit or file name.
const NAME_WIDTH: usize = 80;
/// The most characters of an excerpt or a reason.
const TEXT_WIDTH: usize = 240;
/// The most policies, keys and suggestions listed: more is for JSON.
const ROWS: usize = 100;
/// The most log files named.
const LOGS: usize = 5;
/// The most limits listed for one policy.
const LIMITS: usize = 12;

/// The report as a complete HTML page.
pub(crate) fn render_html(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = page(&mut out, report);
    out
}

fn page(out: &mut String, report: &Report) -> fmt::Result {
    // Everything from outside is escaped; the content security policy holds should that ever fail.
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Tollgate replay of {}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n",
        safe::html(&report.policy_file, NAME_WIDTH),
    )?;
    header(out, report)?;
    out.push_str("<main>\n");
    tiles(out, report)?;
    timeline(out, report)?;
    policies(out, report)?;
    if report.totals.requests > 0 {
        hardest_keys(out, report)?;
        suggestions(out, report)?;
    }
    quality(out, report)?;
    out.push_str("</main>\n");
    writeln!(
        out,
        "<footer><p>{}</p><p>Times are in UTC. <code>--json</code> has every number in full.</p></footer>\n</body>\n</html>",
        safe::escape_html(words::CAVEAT),
    )
}

/// The headline, and what was replayed against what.
fn header(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "<header>\n<p class=\"eyebrow\">Tollgate replay</p>\n<h1>{}</h1>\n<dl class=\"facts\">",
        // No line begins with a lone percent sign.
        safe::escape_html(&words::headline(report)).replace(" %", "\u{a0}%"),
    )?;
    writeln!(
        out,
        "<div><dt>Policies</dt><dd><bdi>{}</bdi></dd></div>",
        safe::html(&report.policy_file, NAME_WIDTH)
    )?;
    let mut logs: Vec<String> = report
        .logs
        .iter()
        .take(LOGS)
        .map(|log| format!("<bdi>{}</bdi>", safe::html(log, NAME_WIDTH)))
        .collect();
    if let Some(more @ 1..) = report.logs.len().checked_sub(LOGS) {
        logs.push(format!("and {} more", count(more as u64)));
    }
    if !logs.is_empty() {
        writeln!(out, "<div><dt>Logs</dt><dd>{}</dd></div>", logs.join(", "))?;
    }
    if let Some(span) = report.span {
        let (first, last) = (time(span.first_unix_seconds), time(span.last_unix_seconds));
        writeln!(out, "<div><dt>Time</dt><dd>{first} to {last} UTC</dd></div>")?;
    }
    out.push_str("</dl>\n</header>\n");
    Ok(())
}

/// The numbers that matter most.
fn tiles(out: &mut String, report: &Report) -> fmt::Result {
    let totals = &report.totals;
    if totals.requests == 0 {
        return Ok(());
    }
    out.push_str("<section class=\"tiles\" aria-label=\"Totals\">\n");
    let of_all = |n: u64| format!("{} of requests", percent(n, totals.requests));
    let span = report.span.map_or_else(String::new, |span| {
        match span.last_unix_seconds.saturating_sub(span.first_unix_seconds) {
            0 => "within one second".to_owned(),
            seconds => format!("over {}", duration(seconds)),
        }
    });
    tile(out, "", "Requests", totals.requests, &span)?;
    tile(out, "admitted", "Admitted", totals.admitted, &of_all(totals.admitted))?;
    tile(out, "denied", "Denied", totals.denied, &of_all(totals.denied))?;
    if totals.unmatched > 0 {
        let note = format!("{}: no policy applied", percent(totals.unmatched, totals.requests));
        tile(out, "", "Unmatched", totals.unmatched, &note)?;
    }
    if totals.shadow_denied > 0 {
        let note = format!("{}: admitted, only watched", percent(totals.shadow_denied, totals.requests));
        tile(out, "shadow", "Shadow would deny", totals.shadow_denied, &note)?;
    }
    out.push_str("</section>\n");
    Ok(())
}

fn tile(out: &mut String, class: &str, name: &str, n: u64, note: &str) -> fmt::Result {
    let number = cell(n);
    let long = if number.len() > 10 { " long" } else { "" };
    writeln!(
        out,
        "<div class=\"tile {class}\"><p class=\"name\">{name}</p><p class=\"number{long}\">{number}</p><p class=\"note\">{}</p></div>",
        safe::escape_html(note).replace(" %", "\u{a0}%"),
    )
}

/// Requests over time.
fn timeline(out: &mut String, report: &Report) -> fmt::Result {
    section(out, "timeline", "Timeline")?;
    if !chart::timeline(out, &report.timeline)? {
        empty(out, words::NO_TIMELINE)?;
    }
    end_section(out)
}

/// The table of policies.
fn policies(out: &mut String, report: &Report) -> fmt::Result {
    section(out, "policies", "Policies")?;
    if report.policies.is_empty() {
        empty(out, words::NO_POLICIES)?;
        return end_section(out);
    }
    let columns = [
        ("Policy", ""),
        ("Keys", "n"),
        ("Matched", "n"),
        ("Admitted", "n"),
        ("Denied", "n"),
        ("Denied share", "wide"),
    ];
    table(out, "Policies, most denied first", &columns)?;
    let ranked = words::ranked(&report.policies);
    for policy in ranked.iter().take(ROWS) {
        policy_row(out, policy)?;
    }
    end_table(out, ranked.len())?;
    end_section(out)
}

fn policy_row(out: &mut String, policy: &PolicyReport) -> fmt::Result {
    write!(out, "<tr><th scope=\"row\"><bdi class=\"key\">{}</bdi>", safe::html(&policy.name, NAME_WIDTH))?;
    if let Some(mark) = words::policy_mark(policy) {
        write!(out, " <span class=\"mark\">{mark}</span>")?;
    }
    for limit in policy.limits.iter().take(LIMITS) {
        write!(out, "<span class=\"under\">{}</span>", safe::html(limit, NAME_WIDTH))?;
    }
    if let Some(more @ 1..) = policy.limits.len().checked_sub(LIMITS) {
        write!(out, "<span class=\"under\">and {} more</span>", count(more as u64))?;
    }
    out.push_str("</th>");
    if policy.matched == 0 {
        let nothing = format::NOTHING;
        return writeln!(
            out,
            "<td class=\"n\">{nothing}</td><td class=\"n\">{nothing}</td><td class=\"n\">{nothing}</td>\
             <td class=\"n\">{nothing}</td><td class=\"none\">matched nothing</td></tr>"
        );
    }
    for n in [policy.keys, policy.matched, policy.admitted] {
        write!(out, "<td class=\"n\">{}</td>", cell(n))?;
    }
    write!(
        out,
        "<td class=\"n {}\">{}</td><td class=\"bar {}\"><span>{}</span>",
        denied_class(policy.denied),
        cell(policy.denied),
        if policy.shadow { "shadow" } else { "" },
        safe::escape_html(&percent(policy.denied, policy.matched)),
    )?;
    chart::share_bar(out, policy.denied, policy.matched)?;
    out.push_str("</td></tr>\n");
    Ok(())
}

/// The table of the keys denied most.
fn hardest_keys(out: &mut String, report: &Report) -> fmt::Result {
    section(out, "keys", "Hardest-hit keys")?;
    if report.hardest_keys.is_empty() {
        empty(out, words::NO_KEYS)?;
        return end_section(out);
    }
    let columns = [
        ("Key", ""),
        ("Matched", "n"),
        ("Denied", "n"),
        ("Denied share", "wide"),
        ("First denied", "n"),
        ("Last denied", "n"),
    ];
    table(out, "Keys, most denied first", &columns)?;
    for key in report.hardest_keys.iter().take(ROWS) {
        key_row(out, key)?;
    }
    end_table(out, report.hardest_keys.len())?;
    end_section(out)
}

fn key_row(out: &mut String, key: &KeyReport) -> fmt::Result {
    write!(
        out,
        "<tr><th scope=\"row\"><bdi class=\"key\"><code>{}</code></bdi><span class=\"under\"><bdi>{}</bdi></span></th>\
         <td class=\"n\">{}</td><td class=\"n {}\">{}</td><td class=\"bar\"><span>{}</span>",
        safe::html(&key.key, NAME_WIDTH),
        safe::html(&key.policy, NAME_WIDTH),
        cell(key.matched),
        denied_class(key.denied),
        cell(key.denied),
        safe::escape_html(&percent(key.denied, key.matched)),
    )?;
    chart::share_bar(out, key.denied, key.matched)?;
    writeln!(
        out,
        "</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        time(key.first_denied_unix_seconds),
        time(key.last_denied_unix_seconds),
    )
}

/// The table of limits that would fit.
fn suggestions(out: &mut String, report: &Report) -> fmt::Result {
    let ranked = words::ranked(&report.policies);
    let all: Vec<(&PolicyReport, &Suggestion)> =
        ranked.into_iter().flat_map(|policy| policy.suggestions.iter().map(move |s| (policy, s))).collect();
    if all.is_empty() {
        return Ok(());
    }
    section(out, "suggestions", "Limits that would fit this traffic")?;
    writeln!(out, "<p class=\"intro\">{}</p>", safe::escape_html(words::SUGGESTIONS_INTRO))?;
    let columns = [
        ("Policy", ""),
        ("Limit now", "n"),
        ("Denies nobody", "n"),
        ("Denies 0.1 %", "n"),
        ("Denies 1 %", "n"),
    ];
    table(out, "Limits that would fit this traffic", &columns)?;
    for (policy, s) in all.iter().take(ROWS) {
        let period = safe::html(&s.period, 24);
        let number = |n: Option<u64>| {
            n.map_or_else(|| format::NOTHING.to_owned(), |n| format!("{}<small>/{period}</small>", cell(n)))
        };
        writeln!(
            out,
            "<tr><th scope=\"row\"><bdi class=\"key\">{}</bdi><span class=\"under\">{}</span><span class=\"under say\">{}</span></th>\
             <td class=\"n\">{}</td><td class=\"n best\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            safe::html(&policy.name, NAME_WIDTH),
            safe::html(&s.limit, NAME_WIDTH),
            safe::escape_html(&words::suggestion(s, &safe::elide(&s.period, 24))),
            number(Some(s.current)),
            number(s.denies_nobody),
            number(s.denies_0_1_percent),
            number(s.denies_1_percent),
        )?;
    }
    end_table(out, all.len())?;
    end_section(out)
}

/// How the lines of the logs fared.
fn quality(out: &mut String, report: &Report) -> fmt::Result {
    let lines = &report.lines;
    section(out, "quality", "Log quality")?;
    let sentences: Vec<String> = [
        words::bad_lines(lines),
        words::late_lines(lines),
        words::restarts(lines),
        words::reordered_lines(lines),
    ]
    .into_iter()
    .flatten()
    .collect();
    if sentences.is_empty() {
        let sentence = if lines.requests == 0 {
            format!("Lines read: {}.", count(lines.read))
        } else {
            format!(
                "All {} were read, and all stood in order.",
                format::plural(lines.requests, "request", "requests")
            )
        };
        empty(out, &sentence)?;
    } else {
        out.push_str("<ul class=\"say\">\n");
        for sentence in sentences {
            let sentence =
                safe::escape_html(&sentence).replace("`--reorder-window`", "<code>--reorder-window</code>");
            writeln!(out, "<li>{}</li>", sentence.replace(" %", "\u{a0}%"))?;
        }
        out.push_str("</ul>\n");
    }
    if !report.bad_examples.is_empty() {
        table(
            out,
            "The first lines that could not be read",
            &[("Line", ""), ("Why", ""), ("It begins", "")],
        )?;
        for bad in report.bad_examples.iter().take(ROWS) {
            writeln!(
                out,
                "<tr><th scope=\"row\"><bdi>{}</bdi>:{}</th><td>{}</td><td><bdi><code class=\"excerpt\">{}</code></bdi></td></tr>",
                safe::html(&bad.file, NAME_WIDTH),
                bad.line,
                safe::html(&bad.reason, TEXT_WIDTH),
                safe::html(&bad.excerpt, TEXT_WIDTH),
            )?;
        }
        end_table(out, report.bad_examples.len())?;
    }
    end_section(out)
}

fn section(out: &mut String, id: &str, title: &str) -> fmt::Result {
    writeln!(out, "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>")
}

fn end_section(out: &mut String) -> fmt::Result {
    writeln!(out, "</section>")
}

/// What stands where there is nothing to show.
fn empty(out: &mut String, sentence: &str) -> fmt::Result {
    writeln!(out, "<p class=\"empty\">{}</p>", safe::escape_html(sentence))
}

/// Opens a table that scrolls by itself where the page is narrow. `columns` are titles and classes.
fn table(out: &mut String, caption: &str, columns: &[(&str, &str)]) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\">\n<table>\n<thead><tr>"
    )?;
    for (title, class) in columns {
        writeln!(out, "<th scope=\"col\" class=\"{class}\">{title}</th>")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")
}

/// Closes a table that had `all` rows to show.
fn end_table(out: &mut String, all: usize) -> fmt::Result {
    out.push_str("</tbody>\n</table>\n</div>\n");
    if let Some(more) = words::and_more(all.saturating_sub(ROWS)) {
        writeln!(out, "<p class=\"more\">{}</p>", more.replace("--json", "<code>--json</code>"))?;
    }
    Ok(())
}

fn denied_class(denied: u64) -> &'static str {
    if denied > 0 { "hot" } else { "" }
}

fn time(unix_seconds: u64) -> String {
    format!("<time datetime=\"{}\">{}</time>", machine_time(unix_seconds), date_time(unix_seconds))
}
