//! The sentences of a report. The terminal and the page say the same things in the same words.

use super::format::{count, duration, percent, plural};
use super::{Lines, PolicyReport, Report, Suggestion};

/// What limits the worth of any replay, said once in each report.
pub(super) const CAVEAT: &str = "A replay takes the log as it is: clients that are denied often come back \
     later or more often, which no log from before the policy can show.";

/// What the three numbers of a suggestion mean.
pub(super) const SUGGESTIONS_INTRO: &str = "The smallest number each limit could be set to, on this traffic, \
     to deny no request at all, at most 0.1 %, or at most 1 % of the requests it saw.";

/// What is said where no request was denied to any key.
pub(super) const NO_KEYS: &str = "No key would have been denied.";

/// What is said where the policy file holds no policy.
pub(super) const NO_POLICIES: &str = "The policy file holds no policies, so every request passes.";

/// What is said where there is no timeline to draw.
pub(super) const NO_TIMELINE: &str = "No requests, so nothing to draw.";

/// The outcome in one sentence.
pub(super) fn headline(report: &Report) -> String {
    let totals = &report.totals;
    if totals.requests == 0 {
        return nothing_replayed(&report.lines).to_owned();
    }
    let requests = plural(totals.requests, "request", "requests");
    let over = match report.span.map(|s| s.last_unix_seconds.saturating_sub(s.first_unix_seconds)) {
        Some(0) => " within one second".to_owned(),
        Some(seconds) => format!(" over {}", duration(seconds)),
        None => String::new(),
    };
    match totals.denied {
        0 if totals.requests == 1 => format!("{requests}{over}: it would not have been denied."),
        0 => format!("{requests}{over}: none would have been denied."),
        denied => {
            let share = percent(denied, totals.requests);
            format!("{requests}{over}: {} ({share}) would have been denied.", count(denied))
        }
    }
}

/// Why there was nothing to replay, and what to do.
fn nothing_replayed(lines: &Lines) -> &'static str {
    if lines.read == 0 {
        "The logs are empty: there is nothing to replay."
    } else if lines.bad > 0 {
        "No line could be read as a request: check that the logs are in the format asked for."
    } else {
        "The logs hold no requests: there is nothing to replay."
    }
}

/// Lines that were left out: `12 of 10,012 lines (0.1 %) could not be read and were left out.`
pub(super) fn bad_lines(lines: &Lines) -> Option<String> {
    (lines.bad > 0).then(|| {
        format!(
            "{} of {} ({}) could not be read and {} left out.",
            count(lines.bad),
            plural(lines.read, "line", "lines"),
            percent(lines.bad, lines.read),
            if lines.bad == 1 { "was" } else { "were" },
        )
    })
}

/// Lines that came too late to be put in order, and what to do about them.
pub(super) fn late_lines(lines: &Lines) -> Option<String> {
    (lines.late > 0).then(|| {
        let (were, they) = if lines.late == 1 { ("was", "it") } else { ("were", "they") };
        format!(
            "{} {were} older than the reorder window and {were} decided at the clock's reading, \
             later than {they} came; a larger `--reorder-window` puts {} in order.",
            plural(lines.late, "request", "requests"),
            if lines.late == 1 { "it" } else { "them" },
        )
    })
}

/// Lines that were put back in order: nothing is lost, but it explains differences to the log.
pub(super) fn reordered_lines(lines: &Lines) -> Option<String> {
    (lines.out_of_order > 0).then(|| {
        format!(
            "{} out of order in the log and put back in order.",
            plural(lines.out_of_order, "request stood", "requests stood"),
        )
    })
}

/// Where the log began again: files that were put one after another.
pub(super) fn restarts(lines: &Lines) -> Option<String> {
    (lines.restarts > 0).then(|| {
        format!(
            "The time went back by more than an hour {}, as where one log follows another; \
             every limit started anew there.",
            plural(lines.restarts, "time", "times"),
        )
    })
}

/// What sets a policy apart, if anything does.
pub(super) fn policy_mark(policy: &PolicyReport) -> Option<&'static str> {
    match (policy.enabled, policy.shadow) {
        (false, _) => Some("disabled"),
        (true, true) => Some("shadow: would deny"),
        (true, false) => None,
    }
}

/// A suggestion in one sentence.
pub(super) fn suggestion(s: &Suggestion, period: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(n) = s.denies_nobody {
        parts.push(format!("{} would deny nobody", count(n)));
    }
    if let Some(n) = s.denies_0_1_percent {
        parts.push(format!("{} at most 0.1 %", count(n)));
    }
    if let Some(n) = s.denies_1_percent {
        parts.push(format!("{} at most 1 %", count(n)));
    }
    if s.denies_nobody.is_none() && !parts.is_empty() {
        parts[0] = parts[0].replacen("at most", "would deny at most", 1);
    }
    let seen = plural(s.requests, "request", "requests");
    let Some(last) = parts.pop() else {
        return format!("The {seen} it saw are no ground for another number.");
    };
    let list = if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) };
    let now = format!("{} per {period}", count(s.current));
    match s.denies_nobody {
        Some(n) if n < s.current => format!("{now} leaves room: {list} of {seen}."),
        Some(n) if n == s.current => format!("{now} is just enough: {list} of {seen}."),
        _ => format!("Instead of {now}, {list} of {seen}."),
    }
}

/// How many rows a table left out.
pub(super) fn and_more(hidden: usize) -> Option<String> {
    (hidden > 0).then(|| format!("and {} more: see --json", count(hidden as u64)))
}

/// The policies in the order reports show them: most denied first, then most matched, then as in
/// the policy file.
pub(super) fn ranked(policies: &[PolicyReport]) -> Vec<&PolicyReport> {
    let mut ranked: Vec<&PolicyReport> = policies.iter().collect();
    ranked.sort_by_key(|p| std::cmp::Reverse((p.denied, p.matched)));
    ranked
}
