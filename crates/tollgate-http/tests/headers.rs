//! What headers say, for verdicts of real policies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, List, ListEntry, Parser};
use support::{Gate, NOW_S, lines};
use tollgate_http::{HeaderOptions, HeaderStyle, ResetStyle};
use tollgate_policy::Verdict;

const TWO: &str = "
policies:
  - { name: burst, key: ip, algorithm: fixed_window, limit: 10/10s }
  - { name: daily, key: ip, algorithm: fixed_window, limit: 12/day }
";

const ALL: [HeaderStyle; 5] = [
    HeaderStyle::Ietf,
    HeaderStyle::OlderDraft,
    HeaderStyle::XRateLimit,
    HeaderStyle::RetryAfter,
    HeaderStyle::Custom,
];

fn all() -> HeaderOptions {
    ALL.into_iter().fold(HeaderOptions::none(), HeaderOptions::with)
}

fn written(options: HeaderOptions, verdict: &Verdict) -> Vec<String> {
    let mut headers = HeaderMap::new();
    options.write(verdict, NOW_S, &mut headers);
    for name in ["ratelimit", "ratelimit-policy"] {
        for value in headers.get_all(name) {
            parse(value);
        }
    }
    lines(&headers)
}

/// The items of a list as an independent parser sees them: names and the numbers of their parameters.
fn parse(value: &HeaderValue) -> Vec<(String, Vec<(String, i64)>)> {
    let list: List = Parser::new(value.as_bytes()).parse().unwrap();
    list.into_iter()
        .map(|entry| {
            let ListEntry::Item(item) = entry else { panic!("a list in a list") };
            let BareItem::String(name) = item.bare_item else { panic!("not a string") };
            let numbers = item.params.into_iter().map(|(key, value)| {
                let BareItem::Integer(number) = value else { panic!("not an integer") };
                (key.to_string(), number.into())
            });
            (String::from(name), numbers.collect())
        })
        .collect()
}

#[test]
fn an_admitted_request_hears_of_every_policy_and_of_the_tightest() {
    let gate = Gate::new(TWO);
    gate.clock().advance(Duration::from_millis(2_500));
    assert_eq!(
        written(all(), &gate.ask(1)),
        [
            "ratelimit-limit: 10",
            "ratelimit-policy: \"burst\";q=10;w=10, \"daily\";q=12;w=86400",
            "ratelimit-remaining: 9",
            "ratelimit-reset: 8",
            "ratelimit: \"burst\";r=9;t=8, \"daily\";r=11;t=86398",
            "x-ratelimit-limit: 10",
            "x-ratelimit-policy: burst",
            "x-ratelimit-remaining: 9",
            "x-ratelimit-reset: 1798761608",
        ]
    );
    // Later the day's limit is the tighter one.
    assert!(gate.ask(9).is_allowed());
    gate.clock().advance(Duration::from_secs(10));
    let headers = written(all(), &gate.ask(1));
    assert!(headers.contains(&"x-ratelimit-policy: daily".to_owned()), "{headers:?}");
    assert!(headers.contains(&"ratelimit-remaining: 1".to_owned()), "{headers:?}");
}

#[test]
fn a_denied_request_hears_when_to_come_back() {
    let gate = Gate::new(TWO);
    gate.clock().advance(Duration::from_millis(2_500));
    assert!(gate.ask(10).is_allowed());
    assert_eq!(
        written(all(), &gate.ask(1)),
        [
            "ratelimit-limit: 10",
            "ratelimit-policy: \"burst\";q=10;w=10, \"daily\";q=12;w=86400",
            "ratelimit-remaining: 0",
            "ratelimit-reset: 8",
            "ratelimit: \"burst\";r=0;t=8, \"daily\";r=2",
            "retry-after: 8",
            "x-ratelimit-limit: 10",
            "x-ratelimit-policy: burst",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 1798761608",
        ]
    );
}

#[test]
fn the_default_leaves_out_the_older_drafts() {
    let gate = Gate::new(TWO);
    let names: Vec<String> = written(HeaderOptions::default(), &gate.ask(10))
        .iter()
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "ratelimit-policy",
            "ratelimit",
            "x-ratelimit-limit",
            "x-ratelimit-policy",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ]
    );
    let denied = written(HeaderOptions::default().with_x_reset(ResetStyle::Delta), &gate.ask(1));
    assert!(denied.contains(&"retry-after: 10".to_owned()), "{denied:?}");
    assert!(denied.contains(&"x-ratelimit-reset: 10".to_owned()), "{denied:?}");
    assert!(written(HeaderOptions::none(), &gate.ask(1)).is_empty());
    assert_eq!(
        written(HeaderOptions::none().with(HeaderStyle::RetryAfter), &gate.ask(1)),
        ["retry-after: 10"]
    );
    assert!(!HeaderOptions::default().without(HeaderStyle::Ietf).has(HeaderStyle::Ietf));
}

#[test]
fn a_burst_and_its_window_make_the_rate() {
    let gate = Gate::new("policies: [{ name: a, key: ip, algorithm: gcra, limit: 1000/hour, burst: 100 }]");
    let ietf = HeaderOptions::none().with(HeaderStyle::Ietf).with(HeaderStyle::RetryAfter);
    assert_eq!(
        written(ietf, &gate.ask(100)),
        ["ratelimit-policy: \"a\";q=100;w=360", "ratelimit: \"a\";r=0;t=360"]
    );
    assert_eq!(
        written(ietf, &gate.ask(1)),
        ["ratelimit-policy: \"a\";q=100;w=360", "ratelimit: \"a\";r=0;t=4", "retry-after: 4"]
    );
}

#[test]
fn short_windows_are_a_second_and_a_retry_is_never_at_once() {
    let gate = Gate::new("policies: [{ name: a, key: ip, limit: 100/50ms }]");
    assert!(gate.ask(100).is_allowed());
    assert_eq!(
        written(HeaderOptions::default().without(HeaderStyle::XRateLimit), &gate.ask(1)),
        ["ratelimit-policy: \"a\";q=100;w=1", "ratelimit: \"a\";r=0;t=1", "retry-after: 1"]
    );
}

#[test]
fn what_can_never_pass_has_no_time_to_come_back() {
    let gate = Gate::new("policies: [{ name: a, key: ip, limit: 5/minute }]");
    assert_eq!(
        written(all(), &gate.ask(6)),
        [
            "ratelimit-limit: 5",
            "ratelimit-policy: \"a\";q=5;w=60",
            "ratelimit-remaining: 5",
            "ratelimit-reset: 0",
            "ratelimit: \"a\";r=5",
            "x-ratelimit-limit: 5",
            "x-ratelimit-policy: a",
            "x-ratelimit-remaining: 5",
            "x-ratelimit-reset: 1798761600",
        ]
    );
    let closed = Gate::new("policies: [{ name: a, key: ip, limit: 0/minute }]");
    let ietf = HeaderOptions::none().with(HeaderStyle::Ietf).with(HeaderStyle::RetryAfter);
    assert_eq!(written(ietf, &closed.ask(1)), ["ratelimit-policy: \"a\";q=0", "ratelimit: \"a\";r=0"]);
}

#[test]
fn the_unlimited_and_the_shadows_have_no_numbers() {
    let gate = Gate::new(
        "
policies:
  - { name: open, key: ip, limit: unlimited, headers: { X-Plan: gold, X-Left: '{remaining}' } }
  - { name: ghost, key: ip, shadow: true, limit: 1/minute, headers: { X-Ghost: '{policy}' } }
",
    );
    assert_eq!(written(all(), &gate.ask(1)), ["x-plan: gold"]);
    // The shadow is over its limit, which nobody can see.
    assert_eq!(written(all(), &gate.ask(1)), ["x-plan: gold"]);
    assert!(written(all(), &Gate::new("policies: []").ask(1)).is_empty());
}

#[test]
fn a_limit_beside_an_unlimited_one_is_told() {
    let gate = Gate::new(
        "policies: [{ name: open, key: ip, limit: unlimited }, { name: a, key: ip, limit: 5/minute }]",
    );
    for cost in [0, 1] {
        let headers = written(all(), &gate.ask(cost));
        assert!(headers.contains(&"x-ratelimit-limit: 5".to_owned()), "{headers:?}");
        assert!(headers.iter().all(|line| !line.contains("open") && !line.contains("18446744073709551615")));
    }
}

#[test]
fn numbers_fit_structured_fields() {
    // The largest count that there can be, in a period as long as there can be.
    let gate = Gate::new(
        "policies: [{ name: a, key: ip, algorithm: fixed_window, limit: 9007199254740991/100 years }]",
    );
    let mut headers = HeaderMap::new();
    HeaderOptions::default().write(&gate.ask(1), u64::MAX, &mut headers);
    assert_eq!(parse(&headers["ratelimit"])[0].1[0], ("r".to_owned(), 999_999_999_999_999));
    assert_eq!(headers["x-ratelimit-reset"], "999999999999999");
    assert_eq!(headers["x-ratelimit-limit"], "999999999999999");
}

#[test]
fn names_can_be_kept_secret() {
    let gate = Gate::new(
        "
policies:
  - { name: secret-one, key: ip, limit: 5/minute, headers: { X-Policy: '{policy}' } }
  - { name: secret-two, key: ip, limit: 1/minute }
",
    );
    for _ in 0..2 {
        let headers = written(all().hide_policy(true), &gate.ask(1));
        assert!(headers.iter().all(|line| !line.contains("secret")), "{headers:?}");
        assert!(headers.contains(&"x-policy: default".to_owned()), "{headers:?}");
        assert!(headers.contains(&"ratelimit-policy: \"default\";q=5;w=60, \"2\";q=1;w=60".to_owned()));
    }
}

#[test]
fn the_tighter_policy_wins_where_two_set_one_header() {
    let gate = Gate::new(
        "
policies:
  - { name: wide, key: ip, limit: 100/minute, headers: { X-Left: '{remaining} of {limit}', X-Wide: 'yes' } }
  - { name: tight, key: ip, limit: 5/minute, headers: { X-Left: '{remaining} of {limit} {reset} {retry_after}' } }
",
    );
    let custom = HeaderOptions::none().with(HeaderStyle::Custom);
    assert_eq!(written(custom, &gate.ask(5)), ["x-left: 0 of 5 60 0", "x-wide: yes"]);
    assert_eq!(written(custom, &gate.ask(1)), ["x-left: 0 of 5 60 12", "x-wide: yes"]);
}

#[test]
fn what_is_there_stays_and_lists_grow() {
    let gate = Gate::new("policies: [{ name: a, key: ip, limit: 5/minute }]");
    let mut headers = HeaderMap::new();
    headers.insert("x-ratelimit-remaining", HeaderValue::from_static("0"));
    headers.insert("ratelimit", HeaderValue::from_static("\"inner\";r=0"));
    HeaderOptions::default().write(&gate.ask(1), NOW_S, &mut headers);
    assert_eq!(headers["x-ratelimit-remaining"], "0");
    let states: Vec<_> = headers.get_all("ratelimit").iter().flat_map(parse).map(|(name, _)| name).collect();
    assert_eq!(states, ["inner", "a"]);
}

#[test]
fn no_answer_contradicts_itself() {
    let gate = Gate::new(
        "
policies:
  - name: layers
    key: ip
    limits:
      - { name: one, algorithm: token_bucket, capacity: 20, refill: 3/second }
      - { name: two, algorithm: sliding_window, limit: 40/7s }
  - { name: log, key: ip, algorithm: sliding_log, limit: 30/5s }
  - { name: leak, key: ip, algorithm: leaky_bucket, capacity: 25, leak: 7/s }
",
    );
    let mut seen = 0_u64;
    for step in 0..5_000_u64 {
        gate.clock().advance(Duration::from_millis(step * 7_919 % 400));
        let verdict = gate.ask(u32::try_from(step * 31 % 28).unwrap());
        let mut headers = HeaderMap::new();
        all().write(&verdict, NOW_S, &mut headers);
        let quotas = parse(&headers["ratelimit-policy"]);
        let states = parse(&headers["ratelimit"]);
        let retry_after =
            headers.get("retry-after").map(|value| value.to_str().unwrap().parse::<i64>().unwrap());
        assert_eq!(retry_after.is_some(), !verdict.is_allowed() && verdict.retry_after().nanos().is_some());
        assert_ne!(retry_after, Some(0));
        for ((name, quota), (same, state)) in quotas.iter().zip(&states) {
            assert_eq!(name, same);
            assert!(quota[0].0 == "q" && state[0].0 == "r" && state[0].1 <= quota[0].1, "{headers:?}");
            if let (Some(retry_after), Some((_, wait))) = (retry_after, state.get(1)) {
                assert!(*wait <= retry_after, "{headers:?}");
            }
        }
        seen += u64::from(retry_after.is_some());
    }
    assert!((100..4_900).contains(&seen), "{seen} of 5,000 were denied");
}
