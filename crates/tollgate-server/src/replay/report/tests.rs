//! What all forms of a report promise.

use super::sample::{START, empty, policy, report};
use super::{BadLine, KeyReport, Report, Span, Suggestion, Timeline, render_html, render_text, to_json};
use crate::text::paint::Style;

const PLAIN: Style = Style { color: false, width: 100 };

/// All forms, each made from the report anew.
fn all_forms(report: &Report) -> [String; 4] {
    [
        render_text(report, PLAIN),
        render_text(report, Style { color: true, width: 80 }),
        render_html(report),
        to_json(report),
    ]
}

/// A report in which everything that a stranger can choose is hostile.
fn hostile() -> Report {
    let nasty = "<script>alert(1)</script>\u{1b}[31m\u{202e}\"'&\u{7}".to_owned() + &"x".repeat(1_000_000);
    let mut report = report();
    report.policy_file.clone_from(&nasty);
    report.bad_examples =
        vec![BadLine { file: nasty.clone(), line: 1, reason: nasty.clone(), excerpt: nasty.clone() }];
    report.policies = vec![policy(&nasty, 10, 5)];
    report.hardest_keys = vec![KeyReport {
        policy: nasty.clone(),
        key: nasty,
        matched: 10,
        denied: 5,
        first_denied_unix_seconds: START,
        last_denied_unix_seconds: START,
    }];
    report
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    for report in [report(), empty(), hostile()] {
        assert_eq!(all_forms(&report), all_forms(&report.clone()));
    }
}

#[test]
fn nothing_from_outside_reaches_a_terminal_or_a_page_as_it_is() {
    let [text, _, html, _] = all_forms(&hostile());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a control character in the text");
    assert!(!text.contains('\u{202e}') && !html.contains('\u{202e}'), "a change of direction");
    assert!(!html.contains("<script"), "markup in the page");
    assert!(text.len() < 100_000 && html.len() < 500_000, "{} {}", text.len(), html.len());
}

#[test]
fn every_part_is_in_the_text() {
    let text = render_text(&report(), PLAIN);
    for expected in [
        "10,000 requests over 3 d 11 h: 412 (4.1 %) would have been denied.",
        "access.log:17: no time in brackets",
        "203.0.113.7",
        "shadow: would deny",
        "--reorder-window",
        "42/minute",
        "7,500",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "a line is wider than the terminal");
}

#[test]
fn nothing_is_said_well_too() {
    let [text, _, html, json] = all_forms(&empty());
    assert!(text.contains("The logs are empty: there is nothing to replay."), "{text}");
    assert!(html.contains("<html lang=\"en\"") && html.ends_with("</html>\n"));
    assert!(json.contains("\"denied_share\": null"), "{json}");
}

#[test]
fn the_largest_numbers_and_the_longest_lists_fit() {
    let mut report = report();
    report.span = Some(Span { first_unix_seconds: 0, last_unix_seconds: u64::MAX });
    report.totals.requests = u64::MAX;
    report.totals.denied = u64::MAX;
    report.policies = (0..10_000).map(|index| policy(&format!("policy-{index}"), u64::MAX, index)).collect();
    report.policies[0].suggestions = vec![Suggestion {
        limit: "1/s".to_owned(),
        current: u64::MAX,
        period: "second".to_owned(),
        requests: u64::MAX,
        denies_nobody: Some(u64::MAX),
        denies_0_1_percent: Some(u64::MAX),
        denies_1_percent: None,
    }];
    report.timeline = Timeline {
        start_unix_seconds: u64::MAX - 10,
        bucket_seconds: u64::MAX,
        admitted: vec![u64::MAX; 10_000],
        denied: vec![u64::MAX; 9_999],
    };
    let [_, _, html, json] = all_forms(&report);
    assert!(html.contains("policy-9999") && !html.contains("policy-42<"), "the page shows those denied most");
    assert!(html.contains("9,900 more"), "the page says how many it leaves out");
    assert!(json.contains("\"policy-42\""), "nothing is left out of the JSON");
    assert!(html.matches("<rect").count() < 1_000, "a chart of ten thousand columns");
}

#[test]
fn the_json_says_the_shares_and_ends_its_line() {
    let json: serde_json::Value = serde_json::from_str(&to_json(&report())).unwrap();
    assert_eq!(json["totals"]["denied_share"], 0.0412);
    assert_eq!(json["policies"][1]["denied_share"], 0.033);
    assert_eq!(json["policies"][0]["denied_share"], serde_json::Value::Null);
    assert!(to_json(&report()).ends_with("}\n"));
}
