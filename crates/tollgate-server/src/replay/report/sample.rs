//! A small report for tests.

use super::{BadLine, KeyReport, Lines, PolicyReport, Report, Span, Suggestion, Timeline, Totals};

/// 2026-03-02 00:00:00 UTC, a Monday.
pub(super) const START: u64 = 1_772_409_600;

/// A report with something in each of its parts.
pub(super) fn report() -> Report {
    Report {
        policy_file: "policies.toml".to_owned(),
        logs: vec!["access.log.1".to_owned(), "access.log".to_owned()],
        lines: Lines {
            read: 10_013,
            requests: 10_000,
            blank: 1,
            bad: 12,
            out_of_order: 40,
            late: 3,
            restarts: 0,
        },
        bad_examples: vec![BadLine {
            file: "access.log".to_owned(),
            line: 17,
            reason: "no time in brackets".to_owned(),
            excerpt: "GET / HTTP/1.1".to_owned(),
        }],
        span: Some(Span {
            first_unix_seconds: START + 3_600,
            last_unix_seconds: START + 3 * 86_400 + 12 * 3_600,
        }),
        totals: Totals {
            requests: 10_000,
            admitted: 9_588,
            denied: 412,
            unmatched: 1_500,
            shadow_denied: 33,
        },
        policies: vec![
            policy("unused", 0, 0),
            PolicyReport { shadow: true, ..policy("watched", 1_000, 33) },
            PolicyReport {
                suggestions: vec![Suggestion {
                    limit: "5/minute fixed window".to_owned(),
                    current: 5,
                    period: "minute".to_owned(),
                    requests: 7_500,
                    denies_nobody: Some(42),
                    denies_0_1_percent: Some(30),
                    denies_1_percent: None,
                }],
                ..policy("login", 7_500, 412)
            },
        ],
        hardest_keys: vec![KeyReport {
            policy: "login".to_owned(),
            key: "203.0.113.7".to_owned(),
            matched: 500,
            denied: 400,
            first_denied_unix_seconds: START + 7_200,
            last_denied_unix_seconds: START + 86_400,
        }],
        timeline: Timeline {
            start_unix_seconds: START,
            bucket_seconds: 3_600,
            admitted: (0..85).map(|hour| 100 + hour % 24 * 3).collect(),
            denied: (0..85).map(|hour| if hour % 24 == 9 { 103 } else { 0 }).collect(),
        },
    }
}

/// A report of empty logs.
pub(super) fn empty() -> Report {
    Report {
        policy_file: "policies.toml".to_owned(),
        logs: vec!["access.log".to_owned()],
        lines: Lines::default(),
        bad_examples: Vec::new(),
        span: None,
        totals: Totals::default(),
        policies: Vec::new(),
        hardest_keys: Vec::new(),
        timeline: Timeline::default(),
    }
}

/// A policy that matched and denied so many requests.
pub(super) fn policy(name: &str, matched: u64, denied: u64) -> PolicyReport {
    PolicyReport {
        name: name.to_owned(),
        priority: 0,
        limits: vec!["5/minute fixed window".to_owned()],
        shadow: false,
        enabled: true,
        keys: 10,
        matched,
        admitted: matched - denied,
        denied,
        suggestions: Vec::new(),
    }
}
