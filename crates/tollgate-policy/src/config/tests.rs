//! What is said of files that are wrong, and that those that are right say the same in both languages.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use proptest::prelude::*;
use tollgate_core::Limit;

use super::*;

const REFERENCE: &str = include_str!("../../policies/REFERENCE.md");
const EXAMPLE_IN_TOML: &str = include_str!("../../policies/example.toml");

fn yaml(text: &str) -> Result<Config, Problems> {
    Config::parse("policy.yaml", text, Format::Yaml, &[])
}

fn toml(text: &str) -> Result<Config, Problems> {
    Config::parse("policy.toml", text, Format::Toml, &[])
}

/// Each problem on a line: `line:column message (hint)`.
fn said(parsed: Result<Config, Problems>) -> Vec<String> {
    let Err(problems) = parsed else { return Vec::new() };
    let line = |problem: &Problem| {
        let (line, column) = problems.position(problem);
        let hint = problem.hint().map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{line}:{column} {}{hint}", problem.message())
    };
    problems.iter().map(line).collect()
}

/// What is said of one policy that has these settings, without the place.
fn said_of(settings: &str) -> Vec<String> {
    let text = format!("policies: [{{ name: p, key: ip, {settings} }}]");
    let without_place = |line: String| line.split_once(' ').map(|(_, rest)| rest.to_owned()).unwrap();
    said(yaml(&text)).into_iter().map(without_place).collect()
}

fn limit_of(config: &Config) -> Limit {
    *config.policies[0].variants()[0].limits()[0].limit()
}

const MANY_MISTAKES: &str = "\
version: 2
shadow: perhaps
ipv4_prefix: 33
ipv6_prefix: 0
polices: []
policies:
  - name: Zürich
    key: ip
    limit: 5/fortnight
  - key: ip
    limit: 5
  - name: no-key
    limit: 5/minute
  - name: no-limit
    key: ip
  - name: twice
    key: ip
    limit: 1/s
    limit: 2/s
  - name: twice
    key: identitty
    limit: 1/s
    brust: 3
  - name: matching
    match:
      metod: GET
      method: [GET, 'P OST']
      path: [api, /a/**/b, '/a?b', '/x{id}', /../etc]
      where: { heder:x: 1, user: [] }
    key: [header:x, cokie:sid]
    limit: ten/minute
  - name: scheduled
    key: user
    limit: 10/0s
    schedule: { days: [mon, funday], hours: 9-17, zone: Europe/Bonn, until: noon }
  - name: both
    key: global
    limits: [1/s]
    tiers: { default: free, limits: { free: 1/s } }
  - name: tiers
    key: api_key
    tiers:
      form: attribute:plan
      from: plan
      default: fre
      limits: { free: 100/hour, basic: 1000/huor }
  - name: no-tiers
    key: api_key
    tiers: { from: claim:plan, limits: {} }
  - name: lookup
    key: api_key
    tiers: { lookup: { by: api_key, values: { a: gold } }, default: silver, limits: { silver: 1/s } }
  - name: replacing
    key: ip
    limit: 1/s
    replaces: [replacing, matchign, nothing-like-it]
  - name: burst
    key: ip
    algorithm: fixed_window
    limit: 1/s
    burst: 3
  - name: log
    key: ip
    algorithm: sliding_log
    limit: 2_000_000/day
  - name: empty-bucket
    key: ip
    algorithm: token_bucket
    capacity: 0
    refill: 1/s
  - name: slow
    key: ip
    algorithm: leaky_bucket
    capacity: 9007199254740991
    leak: 1/year
  - name: huge
    key: ip
    limit: 18446744073709551615/second
    burst: 18446744073709551615
  - name: negative
    key: ip
    algorithm: token_bucket
    capacity: -1
    refill: -1/s
    initial: -1
    cost: -1
    priority: 1000001
  - name: types
    description: [5]
    match: GET
    key: { ip: true }
    enabled: 1
    shadow: 'yes'
    combine: most
    cost: 1.5
    algorithm: [gcra]
    schedule: always
    headers: X-Limit
    replaces: { default: true }
    limit: 1/s
  - name: headers
    key: ip
    limit: 1/s
    headers: { 'X Limit': 1, Content-Length: 5, x-a: '{user}', x-b: \"a\\r\\nb\" }
  - name: list
    key: []
    limits: []
  - name: items
    key: ip
    algorithm: gcra
    limits:
      - { name: a b, limit: 1/s }
      - { algorithm: gacr, limit: 1/s, burst: 5 }
      - { algorithm: token_bucket, capacity: x, refill: 1/s, initial: 3 }
      - { limti: 1/s }
      - [1/s]
  - just words
";

#[test]
fn a_file_of_mistakes_is_told_all_of_them_at_once() {
    assert_snapshot!("many_mistakes", yaml(MANY_MISTAKES).unwrap_err());
}

#[test]
fn a_circle_of_replacements_is_refused() {
    let policy = |name: &str, replaces: &str| {
        format!("  - {{ name: {name}, key: ip, limit: 1/s, replaces: [{replaces}] }}\n")
    };
    let text = |policies: &[(&str, &str)]| {
        let list: String = policies.iter().map(|(name, replaces)| policy(name, replaces)).collect();
        format!("policies:\n{list}  - {{ name: z, key: ip, limit: 1/s }}\n")
    };
    assert_eq!(said(yaml(&text(&[("a", "b, z"), ("b", "c"), ("c", "z")]))), [""; 0]);
    assert_eq!(
        said(yaml(&text(&[("a", "b"), ("b", "a")]))),
        ["3:48 `b` is replaced by what it replaces, so that neither would apply"]
    );
    assert_eq!(
        said(yaml(&text(&[("x", "a"), ("a", "b, z"), ("b", "z, c"), ("c", "a")]))),
        ["5:48 `c` is replaced by what it replaces, so that neither would apply"]
    );
    // As long as it may be, and quickly.
    let names: Vec<String> = (0..10_000).map(|index| format!("p{index}")).collect();
    let chain: Vec<(&str, &str)> = names.windows(2).map(|pair| (&*pair[0], &*pair[1])).collect();
    let last = [("p9999", "p0")];
    assert_eq!(said(yaml(&text(&[&chain[..], &last[..]].concat()))).len(), 1);
}

#[test]
fn what_is_no_file_of_policies_says_so() {
    for (text, expected) in [
        ("", "1:1 the file is empty"),
        (" \n# only words\n", "1:1 the file is empty"),
        ("~", "1:1 the file is empty"),
        ("version: 1", "1:1 there is no `policies:`"),
        ("policies:", "1:1 there is no `policies:`"),
        ("[1, 2]", "1:1 expected a map with `policies:`, found a list"),
        ("login", "1:1 expected a map with `policies:`, found a text"),
        ("policies: { login: 5/minute }", "1:11 expected a list of policies, found a map"),
    ] {
        let said = said(yaml(text));
        assert!(said.len() == 1 && said[0].starts_with(expected), "{text:?}: {said:?}");
    }
    assert!(said(toml(""))[0].starts_with("1:1 there is no `policies:`"));
    assert!(yaml("policies: []").unwrap().policies.is_empty());
    assert!(toml("policies = []").unwrap().policies.is_empty());
}

#[test]
fn invalid_yaml_says_where() {
    for (text, expected) in [
        (
            "policies:\n  - name: a\n key: ip\n",
            "3:2 this is not valid YAML: while parsing a block mapping, did not find expected key",
        ),
        ("policies: [a\n", "this is not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        (
            "policies: \"abc\n",
            "1:11 this is not valid YAML: while scanning a quoted scalar, found unexpected end of stream",
        ),
        (
            "policies:\n\t- name: a\n",
            "2:2 this is not valid YAML: tabs disallowed within this context (block indentation)",
        ),
        ("a: *nowhere", "1:4 this is not valid YAML: while parsing node, found unknown anchor"),
        ("a: &a [*a]", "1:8 this alias refers to something that contains it"),
        ("policies: []\n---\npolicies: []\n", "2:1 a second document starts here; a policy file holds one"),
        ("policies: !secret []", "the tag !secret means nothing here"),
        ("policies: !secret {}", "the tag !secret means nothing here"),
        ("version: !!int 1", "1:10 the tag tag:yaml.org,2002:!int means nothing here"),
        ("a: &a { x: 1 }\nb: { <<: *a }", "2:6 merge keys are not supported; write the settings out"),
        ("[a]: 1", "1:1 this cannot be the name of a setting"),
        ("~: 1", "1:1 this cannot be the name of a setting"),
    ] {
        let said = said(yaml(text));
        assert!(said.len() == 1 && said[0].ends_with(expected), "{text:?}: {said:?}");
    }
    let told = "--- !!map\npolicies: !!seq [{ name: !!str 5, key: &k ip, limit: 1/s, description: *k }]\n";
    assert_eq!(yaml(told).unwrap().policies[0].name(), "5");
}

#[test]
fn invalid_toml_says_where() {
    for (text, expected) in [
        ("policies = [\n  1,,\n]\n", "2:5 this is not valid TOML: extra comma in array, expected value"),
        ("a = 1\na = 2\n", "2:1 this is not valid TOML: duplicate key"),
        ("version = 99999999999999999999999999999999999999999\n", "1:11 this number is too large"),
    ] {
        assert_eq!(said(toml(text)), [expected], "{text:?}");
    }
    let text = "[[policies]]\nname = 'a'\nkye = 'ip'\nlimit = '1/s'\n";
    assert_snapshot!(toml(text).unwrap_err(), @r"
    error: the policy `a` has no `key`
     --> policy.toml:1:1
      |
    1 | [[policies]]
      | ^ say what it counts by: `ip`, `api_key`, `user`, …, or `global` for all requests together

    error: unknown setting `kye`
     --> policy.toml:3:1
      |
    3 | kye = 'ip'
      | ^^^ did you mean `key`?
    ");
}

#[test]
fn positions_count_what_people_see() {
    // Characters, not bytes.
    let text = "policies: [{ description: 'Zürich 漢字 😀', nme: a }]";
    let position = |said: Vec<String>| said.last().unwrap().split_once(' ').unwrap().0.to_owned();
    assert_eq!(position(said(yaml(text))), "1:42");
    assert_eq!(position(said(toml("policies = [{ description = 'Zürich 漢字 😀', nme = 'a' }]"))), "1:44");
    // A byte order mark is not seen, and the end of a line is one end however it is written.
    for mark in ["", "\u{feff}"] {
        for end in ["\n", "\r\n"] {
            let text = format!("{mark}vresion: 1\npolicies:\n  - nme: ä\n    key: ip\n").replace('\n', end);
            let said = said(yaml(&text));
            assert_eq!(said[0], "1:1 unknown setting `vresion` (did you mean `version`?)", "{text:?}");
            assert!(said.iter().any(|line| line.starts_with("3:5 unknown setting `nme`")), "{said:?}");
            let text = format!("{mark}vresion = 1\n[[policies]]\nnme = 'ä'\nkey = 'ip'\n").replace('\n', end);
            let said = self::said(toml(&text));
            assert_eq!(said[0], "1:1 unknown setting `vresion` (did you mean `version`?)", "{text:?}");
            assert!(said.iter().any(|line| line.starts_with("3:1 unknown setting `nme`")), "{said:?}");
        }
    }
    let text = "\u{feff}policies: []\r\nshadow: ja\r\n";
    assert_snapshot!(yaml(text).unwrap_err(), @r"
    error: expected true or false, found a text
     --> policy.yaml:2:9
      |
    2 | shadow: ja
      |         ^^
    ");
}

#[test]
fn a_line_of_a_megabyte_is_not_shown() {
    let text = format!("policies: [{{ name: a, key: ip, limit: {} }}]", "x".repeat(1 << 20));
    assert_snapshot!(yaml(&text).unwrap_err(), @r"
    error: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…` is not a rate; write a count and a period, as in `100/minute` or `5/30s`
     --> policy.yaml:1:39
    ");
    let text = format!("{}: 1\npolicies: []\n", "k".repeat(900));
    assert!(yaml(&text).unwrap_err().to_string().len() < 500);
}

#[test]
fn of_very_many_problems_the_first_are_shown_and_quickly() {
    let text = format!("policies:\n{}", "  - x\n".repeat(50_000));
    let start = Instant::now();
    let problems = yaml(&text).unwrap_err();
    let shown = problems.to_string();
    assert_eq!(problems.len(), 50_000);
    assert!(shown.ends_with("\n\n… and 49900 more"), "{}", &shown[shown.len() - 200..]);
    assert_eq!(shown.matches("error: ").count(), 100);
    let last = problems.iter().last().map(|problem| problems.position(problem));
    assert_eq!(last, Some((50_001, 5)));
    assert!(start.elapsed() < Duration::from_mins(1));
}

#[test]
fn bombs_are_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n");
    let mut chain = String::from("a0: &a0 [ha]\n");
    for level in 1..30 {
        let nine = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{nine}]").unwrap();
    }
    for level in 1..5_000 {
        writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    let too_many = "the file holds more than 1048576 values";
    let too_deep = "this is nested more than 32 deep";
    let dotted = vec!["a"; 100_000].join(".");
    for (parsed, expected) in [
        (yaml(&laughs), too_many),
        (yaml(&chain), too_many),
        (yaml(&"- ".repeat(1 << 20)), too_deep),
        (yaml(&"? ".repeat(1 << 20)), too_deep),
        (yaml(&"a: {".repeat(1 << 20)), too_deep),
        (yaml(&"[".repeat(1 << 20)), "this is not valid YAML: recursion limit exceeded"),
        (yaml(&format!("{}{}", "[".repeat(33), "]".repeat(33))), too_deep),
        (toml(&format!("a = {}{}", "[".repeat(33), "]".repeat(33))), too_deep),
        (toml(&format!("a = {}", "[".repeat(1 << 20))), "max recursion depth met"),
        (toml(&format!("a = {}", "{a=".repeat(1 << 18))), "max recursion depth met"),
        (toml(&format!("{dotted} = 1")), "recursion limit"),
        (toml(&format!("[{dotted}]")), "recursion limit"),
    ] {
        let problems = parsed.unwrap_err();
        let message = problems.iter().next().map(Problem::message).unwrap();
        assert!(message.ends_with(expected), "{message}");
    }
    // What is as deep as it may be is refused for what it says, not for its depth.
    let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
    assert!(said(yaml(&deep))[0].contains("expected a map"));
}

#[test]
fn names_may_repeat_only_where_that_means_something() {
    let twice = |text: &str| said(yaml(text)).join("\n");
    assert!(twice("policies: []\npolicies: []\n").contains("2:1 `policies` is set twice"));
    let text = "policies: [{ name: a, key: ip, limit: 1/s }, { name: a, key: ip, limit: 1/s }]";
    assert!(twice(text).contains("there are two policies named `a`"));
    assert!(
        said_of("tiers: { from: user, default: a, limits: { a: 1/s, a: 2/s } }")[0].contains("set twice")
    );
    assert!(said_of("limit: 1/s, match: { where: { user: a, user: b } }")[0].contains("set twice"));
    // Two spellings of one header are two conditions, and both must hold.
    assert_eq!(said_of("limit: 1/s, match: { where: { header:X: a, header:x: b } }"), [""; 0]);
}

#[test]
fn limits_read_in_every_way_that_they_can_be_written() {
    for (settings, expected) in [
        ("limit: 5/minute", "5/minute GCRA"),
        ("limit: 5 per 2 days", "5/2d GCRA"),
        ("limit: '1,000/h', burst: 10", "1000/hour GCRA, burst 10"),
        ("limit: 0/minute", "deny all"),
        ("limit: 0/minute, burst: 10", "deny all"),
        ("limit: unlimited", "unlimited"),
        ("algorithm: sliding_log, limit: unlimited", "unlimited"),
        ("algorithm: token_bucket, limit: unlimited", "unlimited"),
        ("algorithm: token_bucket, limit: 0/s", "deny all"),
        ("algorithm: token_bucket, limit: 10/hour", "10 token bucket, refilled 10/hour"),
        ("algorithm: leaky_bucket, limit: 10/hour", "10 leaky bucket, leaks 10/hour"),
        ("algorithm: leaky_bucket, capacity: 5, leak: 1/s", "5 leaky bucket, leaks 1/second"),
        (
            "algorithm: token_bucket, capacity: 5, refill: 1/s, refill_style: interval, initial: 0",
            "5 token bucket, refilled 1/second at once, initially 0",
        ),
        ("algorithm: fixed_window, limit: 1/1.5ms", "1/1.5ms fixed window"),
        ("algorithm: sliding_window, limit: 1/500ns", "1/500ns sliding window"),
        ("algorithm: quota, limit: 5/month", "5/calendar month (UTC)"),
        ("algorithm: quota, limit: unlimited", "unlimited"),
        ("algorithm: quota, limit: 0/month", "deny all"),
        (
            "algorithm: quota, limit: 500 per month, calendar: { zone: europe/berlin, start_day: 15 }, carry_over: 20%",
            "500/calendar month from day 15 (Europe/Berlin), carries over 100",
        ),
        (
            "algorithm: quota, limit: 7/week, calendar: { start_day: sun }, carry_over: 7",
            "7/calendar week from Sunday (UTC), carries over 7",
        ),
        (
            "algorithm: quota, limit: 5/y, calendar: { start_month: apr, start_day: 6, zone: Europe/London }",
            "5/calendar year from April 6 (Europe/London)",
        ),
        (
            "algorithm: fixed_window, limit: 5/day, calendar: { zone: Asia/Kolkata }",
            "5/calendar day (Asia/Kolkata)",
        ),
        ("algorithm: fixed_window, limit: 5/3s, carry_over: 40%", "5/3s fixed window, carries over 2"),
        (
            "algorithm: quota, carry_over: 1, tiers: { from: user, default: a, limits: { a: 5/month } }",
            "5/calendar month (UTC), carries over 1",
        ),
        (
            "limits: { name: x, algorithm: quota, limit: 5/hour, calendar: { zone: UTC } }",
            "5/calendar hour (UTC)",
        ),
        ("limits: 5/s", "5/second GCRA"),
        ("limits: { name: x, limit: 5/s }", "5/second GCRA"),
        ("limits: [5/s]", "5/second GCRA"),
        ("tiers: { from: user, default: 1, limits: { '1': 5/s } }", ""),
        ("tiers: { from: user, default: '1', limits: { 1: 5/s } }", "5/second GCRA"),
        (
            "algorithm: fixed_window, tiers: { from: user, default: a, limits: { a: 5/s } }",
            "5/second fixed window",
        ),
    ] {
        let parsed = yaml(&format!("policies: [{{ name: p, key: ip, {settings} }}]"));
        match parsed {
            Ok(config) => assert_eq!(limit_of(&config).to_string(), expected, "{settings}"),
            Err(problems) => assert_eq!(expected, "", "{settings}: {problems}"),
        }
    }
}

#[test]
fn limits_that_cannot_be_say_why() {
    for (settings, expected) in [
        ("limit: 5", "5 in how long? (write `5/minute`)"),
        ("limit: -5", "expected a rate such as `100/minute`, found a number"),
        ("limit: 5.5/minute", "`5.5` is not a whole number of at most 9007199254740991"),
        ("limit: -5/minute", "`-5` is not a whole number of at most 9007199254740991"),
        ("limit: true", "expected a rate such as `100/minute`, found true or false"),
        ("limit: 5/101 years", "a period of 36865d is longer than 100 years"),
        (
            "limit: 5/s, burst: 0",
            "a burst of 0 would deny everything; if that is meant, set the limit itself to 0",
        ),
        ("limit: 5/s, burst: many", "expected a whole number, found a text"),
        ("limit: 5/month, calendar: { zone: UTC }", "`calendar` means nothing for `gcra`"),
        (
            "algorithm: sliding_log, limit: 5/month, carry_over: 2",
            "`carry_over` means nothing for `sliding_log`",
        ),
        (
            "algorithm: quota, limit: 5/30 days",
            "a calendar counts by one minute, hour, day, week, month or year (write `10000/month`; for windows of any \
             length use `algorithm: fixed_window` without `calendar`)",
        ),
        (
            "algorithm: quota, limit: 5/month, calendar: { zone: Europe/Bonn }",
            "unknown time zone `Europe/Bonn` (write an IANA name such as `Europe/Berlin`)",
        ),
        (
            "algorithm: quota, limit: 5/month, calendar: { start_day: 32 }",
            "`32` is no day to start on (write `monday` for weeks, or a day from 1 to 31 for months and years)",
        ),
        (
            "algorithm: quota, limit: 5/month, calendar: { start_day: monday }",
            "a month starts on a day from 1 to 31",
        ),
        (
            "algorithm: quota, limit: 5/week, calendar: { start_day: 1 }",
            "a week starts on a day such as `monday`",
        ),
        (
            "algorithm: quota, limit: 5/day, calendar: { start_day: 1 }",
            "`start_day` means nothing for `5/day`",
        ),
        (
            "algorithm: quota, limit: 5/month, calendar: { start_month: april }",
            "`start_month` means nothing for `5/month`",
        ),
        (
            "algorithm: quota, limit: 5/year, calendar: { start_month: 13 }",
            "`13` is no month (write `april`, or a number from 1 to 12)",
        ),
        (
            "algorithm: quota, limit: 5/month, carry_over: 120%",
            "what is carried over is a number of units, or a part of the limit up to 100% (write `500` or `20%`)",
        ),
        (
            "limit: 5/month, record: true",
            "a record goes by the periods of a limit, and this policy has no `quota` and no `fixed_window` \
             (write `algorithm: quota`)",
        ),
        ("algorithm: quota, limit: 5/month, record: clame:x", "unknown attribute `clame:x`"),
        ("algorithm: quota, limit: 5/month, carry_over: 6", "a carry-over of 6 is above 5"),
        ("limit: 5/s, capacity: 5", "`capacity` means nothing for `gcra`"),
        ("limit: 5/s, refill_style: greedy", "`refill_style` means nothing for `gcra`"),
        ("burst: 5", "a limit needs `limit`, as in `limit: 100/minute`"),
        ("algorithm: token_bucket, limit: 5/s, capacity: 5", "a token bucket needs `capacity` and `refill`"),
        ("algorithm: token_bucket, capacity: 5", "a token bucket needs `capacity` and `refill`"),
        ("algorithm: leaky_bucket, capacity: 5", "a leaky bucket needs `capacity` and `leak`"),
        ("algorithm: leaky_bucket, limit: 5/s, initial: 5", "`initial` means nothing for `leaky_bucket`"),
        ("algorithm: token_bucket, capacity: 5, refill: 1/s, initial: 6", "initial 6 is above 5"),
        (
            "algorithm: token_bucket, capacity: 5, refill: 1/s, refill_style: lazy",
            "unknown refill style `lazy`",
        ),
        ("algorithm: sliding_window", "a window needs `limit`, as in `limit: 100/minute`"),
        ("limits: [1/s], algorithm: gcra", "`algorithm` belongs into the items of `limits` or `tiers`"),
        ("limits: [1/s], limit: 1/s", "`limit` belongs into the items of `limits` or `tiers`"),
        ("limits: [[1/s]]", "expected a rate such as `100/minute`, found a list"),
        ("tiers: { from: user, default: a, limits: { a: [] } }", "an empty list says nothing"),
        ("tiers: { default: a, limits: { a: 1/s } }", "the tiers need either `from` or `lookup`"),
        ("tiers: { from: user, default: a }", "the tiers have no `limits`"),
        ("tiers: { from: user, limits: { a: 1/s } }", "the tiers have no `default`"),
        ("tiers: { lookup: { by: user }, default: a, limits: { a: 1/s } }", "a lookup needs `by`"),
        ("tiers: 5/s", "expected a map with `from:`, `default:` and `limits:`, found a text"),
    ] {
        let said = said_of(settings);
        assert!(said.len() == 1 && said[0].starts_with(expected), "{settings}: {said:?}");
    }
    let many = vec!["1/s"; 17].join(", ");
    assert_eq!(said_of(&format!("limits: [{many}]")), ["a policy has at most 16 limits"]);
}

#[test]
fn the_environment_stands_in_for_settings() {
    let set = |variables: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<_> = variables.iter().map(owned).collect();
        Config::parse("example.yaml", EXAMPLE, Format::Yaml, &variables)
    };
    let config = set(&[
        ("TOLLGATE__SHADOW", "true"),
        ("TOLLGATE__IPV6_PREFIX", "56"),
        ("TOLLGATE__POLICIES__LOGIN__LIMIT", "10/minute"),
        ("TOLLGATE__policies__login__Shadow", "true"),
        ("TOLLGATE__POLICIES__LOGIN__KEY", "global"),
        ("TOLLGATE__POLICIES__1__ENABLED", " false "),
        ("TOLLGATE__POLICIES__API_V2__BURST", "7"),
        ("TOLLGATE__POLICIES__BURST_GUARD__LIMITS__MINUTE__LIMIT", "9000/minute"),
        ("TOLLGATE__POLICIES__BURST_GUARD__LIMITS__2", "5/s"),
        ("TOLLGATE__POLICIES__PLAN__TIERS__LIMITS__FREE", "200/hour"),
        ("TOLLGATE__POLICIES__PLAN__TIERS__LIMITS__TRIAL", "2/hour"),
        ("TOLLGATE__POLICIES__API_V2__HEADERS__X_API_QUOTA", "{remaining}"),
    ])
    .unwrap();
    let policy = |name: &str| config.policies.iter().find(|policy| policy.name() == name).unwrap();
    let limits = |name: &str| -> Vec<String> {
        let variants = policy(name).variants().iter();
        variants.flat_map(crate::Variant::limits).map(|limit| limit.limit().to_string()).collect()
    };
    assert!(config.shadow && config.ipv6_prefix == 56 && policy("login").is_shadow());
    assert_eq!(limits("login"), ["10/minute fixed window"]);
    assert_eq!(policy("login").key().collect::<Vec<_>>(), ["global"]);
    assert!(!policy("search").is_enabled());
    assert_eq!(limits("api-v2"), ["1000/hour GCRA, burst 7"]);
    assert_eq!(limits("burst-guard")[1..], ["9000/minute fixed window", "5/second GCRA"]);
    assert_eq!((limits("plan")[0].as_str(), limits("plan")[4].as_str()), ("200/hour GCRA", "2/hour GCRA"));

    // What is not named stays.
    assert_eq!(set(&[]).unwrap(), Config::example());
    for (variable, value, expected) in [
        ("TOLLGATE__POLICIES__LOGIN__LIMIT", "often", "18:12 `often` is not a rate"),
        ("TOLLGATE__POLICIES__LOGIN__LIMTI", "5/s", "13:5 unknown setting `limti` (did you mean `limit`?)"),
        (
            "TOLLGATE__POLICIES__LOGNI__LIMIT",
            "5/s",
            "names `logni`, which the policy file does not have there",
        ),
        ("TOLLGATE__POLICIES__99__LIMIT", "5/s", "names `99`, which"),
        ("TOLLGATE__POLICIES__LOGIN__LIMIT__X", "5/s", "names `x`, which"),
        ("TOLLGATE__POLICIES__LOGIN", "5/s", "names `login`, which"),
        ("TOLLGATE__POLICIES", "none", "13:3 expected a list of policies, found a text"),
        ("TOLLGATE__", "x", "unknown setting ``"),
        ("TOLLGATE__SHADOWS", "x", "unknown setting `shadows`"),
    ] {
        let said = said(set(&[(variable, value)]));
        assert!(said.len() == 1 && said[0].contains(expected), "{variable}={value}: {said:?}");
    }
    // A file without anything has no place for a setting.
    let variables = [("TOLLGATE__SHADOW".to_owned(), "true".to_owned())];
    assert!(Config::parse("empty", "", Format::Yaml, &variables).is_err());
}

#[test]
fn files_are_loaded_as_their_names_say_and_only_if_they_are_files() {
    let folder = std::env::temp_dir().join(format!("tollgate-policy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let load = |path: &Path| Config::load_with(path, &[]);
    assert_eq!(load(&write("a.yaml", EXAMPLE.as_bytes())).unwrap(), Config::example());
    assert_eq!(load(&write("a.TOML", EXAMPLE_IN_TOML.as_bytes())).unwrap(), Config::example());
    assert!(matches!(load(&folder.join("none.yaml")), Err(LoadError::Read { .. })));
    assert!(matches!(load(&folder), Err(LoadError::Read { .. })));
    let error = load(&write("b.yaml", b"policies: [] # \xff")).unwrap_err();
    assert!(matches!(error, LoadError::NotText { offset: 15, .. }), "{error}");
    let large = vec![b'#'; FILE_BYTES_MAX + 1];
    assert!(matches!(load(&write("c.yaml", &large)), Err(LoadError::TooLarge { .. })));
    assert!(load(&write("d.yaml", b"policies: 5")).unwrap_err().to_string().contains("d.yaml:1:11"));
    #[cfg(target_os = "linux")]
    assert!(matches!(load(Path::new("/dev/zero")), Err(LoadError::TooLarge { .. })));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_example_says_the_same_in_both_languages() {
    assert_eq!(yaml(EXAMPLE).unwrap(), toml(EXAMPLE_IN_TOML).unwrap());
    let names = |config: &Config| -> Vec<String> {
        config.policies.iter().map(|policy| policy.name().to_owned()).collect()
    };
    let expected = ["login", "search", "upload", "api-v2", "plan", "burst-guard", "default"];
    assert_eq!(names(&Config::example()), expected);
}

#[test]
fn every_example_of_the_reference_loads() {
    // The opening fence of one block ends the text before it.
    let fenced = |language: &str| -> Vec<&str> {
        let parts: Vec<&str> = REFERENCE.split("\n```").collect();
        let tagged = parts.iter().filter_map(|part| part.strip_prefix(language));
        tagged.filter_map(|part| part.strip_prefix('\n')).collect()
    };
    let (yamls, tomls) = (fenced("yaml"), fenced("toml"));
    assert!(yamls.len() > 8 && tomls.len() == 1);
    // Expressions need a feature.
    for text in yamls.iter().filter(|text| cfg!(feature = "expressions") || !text.contains("expression:")) {
        if let Err(problems) = yaml(text) {
            panic!("{problems}\n{text}");
        }
    }
    assert_eq!(toml(tomls[0]).unwrap(), yaml(yamls[0]).unwrap());
    // Each rate of the grammar is one, and every variable leads somewhere.
    let texts = fenced("text");
    for rate in texts[0].split("      ").map(str::trim).filter(|rate| !rate.is_empty()) {
        assert_eq!(said_of(&format!("limit: '{rate}'")), [""; 0], "{rate}");
    }
    for line in texts[1].lines() {
        let (name, value) = line.split_once('=').unwrap();
        let variables = [(name.to_owned(), value.to_owned())];
        let parsed = Config::parse("example.yaml", EXAMPLE, Format::Yaml, &variables);
        assert_ne!(parsed.unwrap(), Config::example(), "{line}");
    }
}

#[test]
fn every_setting_of_the_reference_exists_and_the_other_way_round() {
    let mut written = BTreeSet::new();
    let mut is_setting = false;
    for line in REFERENCE.lines() {
        let cell = line.split('|').nth(1).unwrap_or_default().trim();
        is_setting = line.starts_with('|') && (is_setting || cell == "setting");
        if is_setting {
            written
                .extend(cell.split(',').filter_map(|word| word.trim().strip_prefix('`')?.strip_suffix('`')));
        }
    }
    let known: BTreeSet<&str> = policies::KNOWN
        .into_iter()
        .chain(limits::LIMIT_SETTINGS)
        .chain([
            "version",
            "policies",
            "shadow",
            "ipv4_prefix",
            "ipv6_prefix",
            "store",
            "health",
            "concurrency",
        ])
        .chain(store::KNOWN)
        .chain(["errors", "latency", "cpu", "dwell", "to", "degraded", "bad"])
        .chain(["ttl", "least", "most", "slow_above", "tolerance"])
        .chain(["method", "path", "ip", "where", "when", "days", "hours", "zone", "start_day", "start_month"])
        .chain(["from", "lookup", "default", "limits", "by", "values", "after", "for"])
        .collect();
    assert_eq!(written, known);
    for word in crate::attribute::ATTRIBUTE_WORDS {
        assert!(REFERENCE.contains(&format!("| `{word}")), "the reference lacks the attribute {word}");
    }
    for (word, _) in limits::KINDS {
        assert!(REFERENCE.contains(&format!("| `{word}` |")), "the reference lacks the algorithm {word}");
    }
    // And each of them is known where the reference says it is.
    for (settings, place) in [
        ("version shadow ipv4_prefix ipv6_prefix store health concurrency", "{}\npolicies: []"),
        (
            "url prefix deadline connect_timeout health_check_interval ca certificate key key_seed nodes node",
            "store: { {} }\npolicies: []",
        ),
        (
            "consistency on_store_failure lease_percent lease_idle sync_interval",
            "store: { {} }\npolicies: []",
        ),
        ("errors latency cpu store dwell", "health: { a: { {} } }\npolicies: []"),
        ("limit ttl least initial most slow_above tolerance", "concurrency: { a: { {} } }\npolicies: []"),
        ("to degraded bad", "policies: [{ name: p, key: ip, limit: 1/s, adaptive: { {} } }]"),
        ("consistency on_store_failure adaptive", "policies: [{ name: p, key: ip, limit: 1/s, {} }]"),
        ("method path ip where", "policies: [{ name: p, key: ip, limit: 1/s, match: { {} } }]"),
        ("days hours zone", "policies: [{ name: p, key: ip, limit: 1/s, schedule: { {} } }]"),
        (
            "zone start_day start_month",
            "policies: [{ name: p, key: ip, algorithm: quota, limit: 1/day, calendar: { {} } }]",
        ),
        ("record", "policies: [{ name: p, key: ip, algorithm: quota, limit: 1/day, {} }]"),
        ("calendar carry_over", "policies: [{ name: p, key: ip, algorithm: quota, limit: 1/day, {} }]"),
        ("from lookup default limits", "policies: [{ name: p, key: ip, tiers: { {} } }]"),
        ("by values", "policies: [{ name: p, key: ip, tiers: { lookup: { {} } } }]"),
        (
            "description match cost combine priority enabled",
            "policies: [{ name: p, key: ip, limit: 1/s, {} }]",
        ),
        ("shadow schedule replaces headers burst", "policies: [{ name: p, key: ip, limit: 1/s, {} }]"),
    ] {
        for setting in settings.split(' ') {
            let said = said(yaml(&place.replace("{}", &format!("{setting}: {{ nonsense: [] }}"))));
            assert!(!said.is_empty(), "{setting} takes anything");
            assert!(!said.join("\n").contains(&format!("unknown setting `{setting}`")), "{said:?}");
        }
    }
}

/// Texts that are nearly right: pieces of what the languages are made of.
fn scraps() -> impl Strategy<Value = String> {
    let pieces = [
        "policies:",
        "policies = ",
        "[[policies]]",
        "\n",
        "\n  ",
        "- ",
        "name: ",
        "name = ",
        "key: ip",
        "a",
        "'",
        "\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ": ",
        "=",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "|\n",
        ">-\n",
        "#",
        "5/minute",
        "limit: ",
        "limits: ",
        "tiers: ",
        "from: ",
        "default: ",
        "match: ",
        "where: ",
        "path: ",
        "/**",
        "{id}",
        "0x",
        "-1",
        "1e999",
        "\t",
        "\r\n",
        "\u{feff}",
        "---",
        "...",
        "? ",
        "%YAML 1.2\n",
        "ä",
        "\0",
        "\u{2028}",
        "replaces: ",
        "<<: ",
        "schedule: ",
        "hours: ",
        "24:00-",
        "headers: ",
        "99999999999999999999999999999999999999999",
        "~",
        "true",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn no_text_makes_a_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        scraps in scraps(),
        (cut, flip) in (any::<usize>(), any::<u8>()),
    ) {
        // The example with one byte changed.
        let mut mutated = EXAMPLE.as_bytes().to_vec();
        let at = cut % mutated.len();
        mutated[at] = flip;
        let texts = [
            String::from_utf8_lossy(&bytes).into_owned(),
            scraps,
            String::from_utf8_lossy(&mutated).into_owned(),
            String::from_utf8_lossy(&EXAMPLE_IN_TOML.as_bytes()[..cut % EXAMPLE_IN_TOML.len()]).into_owned(),
        ];
        for text in &texts {
            for format in [Format::Yaml, Format::Toml] {
                if let Err(problems) = Config::parse("random", text, format, &[]) {
                    prop_assert!(!problems.is_empty());
                    let shown = (problems.render(false), problems.render(true));
                    prop_assert!(!shown.0.is_empty() && !shown.1.is_empty());
                    for problem in problems.iter() {
                        let (line, column) = problems.position(problem);
                        prop_assert!(line >= 1 && line <= text.lines().count() + 1 && column >= 1);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_loaded_again_is_what_would_be_loaded_now(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"0159 abx:{}[],'\n"[..])), 0..3),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let text = String::from_utf8_lossy(&bytes);
        let (now, former) = (yaml(&text), Config::example());
        let again = Config::parse_by("policy.yaml", &text, Format::Yaml, &[], Some(&former));
        match (now, again) {
            (Ok(now), Ok(again)) => {
                for (index, policy) in again.policies.iter().enumerate() {
                    prop_assert_eq!(policy, &now.policies[index]);
                    let known = former.policies.iter().find(|known| known == &policy);
                    let is_shared = known.is_some_and(|known| Arc::ptr_eq(known, policy));
                    prop_assert_eq!(is_shared, known.is_some_and(|known| known.replaces.is_empty()));
                }
                prop_assert_eq!(again, now);
            }
            (now, again) => prop_assert_eq!(said(again), said(now)),
        }
    }

    #[test]
    fn no_variable_makes_a_parser_panic(
        name in "(TOLLGATE__)?((POLICIES|LOGIN|LIMITS|TIERS|0|1|99999999999999999999|[a-zA-Z_.]{0,5})(__)?){0,5}",
        value in ".{0,20}",
    ) {
        let variables = [(name, value)];
        let _ = Config::parse("example.yaml", EXAMPLE, Format::Yaml, &variables).map_err(|problems| problems.to_string());
    }
}

#[cfg(feature = "expressions")]
#[test]
fn expressions_are_refused_where_they_stand() {
    let text = "policies:
  - name: a
    match: { when: 'pfad == \"/\"' }
    key: 'expression: [path]'
    cost: path
    limit: 5/minute
";
    let problems = yaml(text).unwrap_err().to_string();
    for wanted in [
        "policy.yaml:3:20",
        "at character 1 of the expression: a request has no `pfad`",
        "policy.yaml:4:10",
        "the expression gives a list where a text is wanted",
        "policy.yaml:5:11",
        "the expression gives a string where a whole number is wanted",
    ] {
        assert!(problems.contains(wanted), "{wanted}: {problems}");
    }
}

#[cfg(not(feature = "expressions"))]
#[test]
fn expressions_need_a_feature() {
    let problems =
        yaml("policies: [{ name: a, match: { when: 'true' }, key: ip, limit: 5/minute }]").unwrap_err();
    assert!(problems.to_string().contains("build it with the feature `expressions`"), "{problems}");
}

#[test]
fn bans_are_checked() {
    for (ban, message) in [
        ("15m", "expected a map with `after:` and `for:`"),
        ("{ after: 5/minute }", "a ban needs `after`"),
        ("{ after: unlimited, for: 1m }", "`unlimited` is not a rate"),
        ("{ after: 5/minute, for: 0s }", "a ban of no length bans nobody"),
        ("{ after: 5/minute, for: -5m }", "is not a length of time"),
        ("{ after: 5/minute, for: 5m, since: 1 }", "unknown setting `since`"),
    ] {
        let problems = yaml(&format!("policies: [{{ name: a, key: ip, limit: 5/minute, ban: {ban} }}]"));
        let problems = problems.unwrap_err().to_string();
        assert!(problems.contains(message), "{ban}: {problems}");
    }
}
