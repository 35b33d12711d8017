use std::collections::HashSet;

use proptest::prelude::*;
use tollgate_core::{Limit, Timestamp};

use super::*;

fn parse(file: &str) -> Result<LimitadorLimits, String> {
    LimitadorLimits::parse("limits.yaml", file, KeySeed::new([7; 16]))
        .map_err(|problems| problems.to_string())
}

fn limits(file: &str) -> LimitadorLimits {
    parse(file).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A file with one limit, whose conditions and variables are these.
fn one(conditions: &str, variables: &str) -> String {
    format!(
        "- namespace: ns\n  max_value: 5\n  seconds: 60\n  name: one\n  conditions: [{conditions}]\n  variables: [{variables}]\n"
    )
}

/// Whether the only limit of a file applies to a request.
fn applies(file: &str, descriptors: &[Entries<'_>]) -> bool {
    !limits(file).find("ns", descriptors).is_empty()
}

#[test]
fn a_limit_applies_where_all_conditions_hold() {
    let get: Entries<'_> = &[("method", "GET"), ("req.path", "/a"), ("n", "7"), ("empty", "")];
    let other: Entries<'_> = &[("tenant", "acme")];
    for (conditions, holds) in [
        ("", true),
        (r#"'descriptors[0].method == "GET"'"#, true),
        (r#"'descriptors[0]["method"] == "GET"'"#, true),
        (r#""descriptors[0]['req.path'] == '/a'""#, true),
        (r#""descriptors[0]['req.path'] != '/a'""#, false),
        (r#""'GET' == descriptors[0].method""#, true),
        (r#""descriptors[0].method == 'GET'", "descriptors[1].tenant == 'acme'""#, true),
        (r#""descriptors[0].method == 'GET'", "descriptors[1].tenant == 'other'""#, false),
        // What is not there does not hold, not even as unequal.
        (r#""descriptors[0].none == 'x'""#, false),
        (r#""descriptors[0].none != 'x'""#, false),
        (r#""descriptors[2].method != 'x'""#, false),
        (r#""descriptors[0].empty == ''""#, true),
        (r#""descriptors[0].method.startsWith('G') && size(descriptors) == 2""#, true),
        (r#""'tenant' in descriptors[1] && !('tenant' in descriptors[0])""#, true),
        (r#""has(descriptors[1].tenant)""#, true),
        (r#""int(descriptors[0].n) > 5""#, true),
        (r#""int(descriptors[0].method) > 5""#, false),
        (r#""limit.name == 'one' && limit.id == null""#, true),
        (r#""limit['name'] == 'two'""#, false),
        ("'true'", true),
        ("'1 / 0 == 1'", false),
    ] {
        assert_eq!(applies(&one(conditions, ""), &[get, other]), holds, "{conditions}");
    }
    assert!(!applies(&one(r#""descriptors[0].method == 'GET'""#, ""), &[]));
    assert!(applies(&one("", ""), &[]));
    assert!(limits(&one("", "")).find("elsewhere", &[get]).is_empty());
}

#[test]
fn variables_must_have_values() {
    let file = one("", r#""descriptors[0]['user']", "descriptors[0].plan""#);
    let limits = limits(&file);
    assert!(limits.find("ns", &[&[("user", "anna")]]).is_empty());
    let both = limits.find("ns", &[&[("user", "anna"), ("plan", "free"), ("user", "bob")]]);
    // By their texts, and the last value of a key.
    let values: Vec<_> = both[0].values().collect();
    assert_eq!(values, [("descriptors[0].plan", "free"), ("descriptors[0]['user']", "bob")]);
    for (variable, value) in [
        ("size(descriptors[0].user)", "4"),
        ("descriptors[0].user + '/' + limit.name", "anna/one"),
        ("descriptors[0].user == 'anna'", "true"),
        ("limit.id", "null"),
        ("1.5", "1.5"),
        ("2u", "2"),
    ] {
        let limits = self::limits(&one("", &format!("\"{variable}\"")));
        let found = limits.find("ns", &[&[("user", "anna")]]);
        assert_eq!(found[0].values().collect::<Vec<_>>(), [(variable, value)]);
    }
}

#[test]
fn counters_are_told_apart_by_what_makes_them() {
    let file = |limit: &str| format!("- {{ namespace: ns, {limit}, variables: ['descriptors[0].u'] }}");
    let key =
        |limit: &str, value: &str| limits(&file(limit)).find("ns", &[&[("u", value), ("m", "x")]])[0].key;
    let plain = "max_value: 5, seconds: 60";
    // What they are called and how much they allow makes no other counter.
    for same in [
        "max_value: 9, seconds: 60",
        "max_value: 5, seconds: 60, name: n, id: i",
        "max_value: 5, seconds: 60, conditions: []",
    ] {
        assert_eq!(key(plain, "1"), key(same, "1"), "{same}");
    }
    let conditions = "conditions: [\"descriptors[0].m == 'x'\", 'true']";
    let turned = "conditions: ['true', \"descriptors[0].m == 'x'\", 'true']";
    assert_eq!(key(&format!("{plain}, {conditions}"), "1"), key(&format!("{plain}, {turned}"), "1"));
    let keys: HashSet<_> = [
        key(plain, "1"),
        key(plain, "2"),
        key(plain, ""),
        key("max_value: 5, seconds: 61", "1"),
        key(&format!("{plain}, {conditions}"), "1"),
    ]
    .into();
    assert_eq!(keys.len(), 5);
}

#[test]
fn a_window_starts_with_the_first_hit() {
    let limits = limits(&one("", ""));
    let rule = limits.limits()[0].limit();
    let at = |seconds: u64| Timestamp::from_secs(1_800_000_000 + seconds);
    let mut state = rule.fresh(at(0));
    // It stood idle for a while, which is no part of the window.
    assert!((0..5).all(|_| rule.acquire(&mut state, at(37), 1).decision.allowed));
    let denied = rule.acquire(&mut state, at(96), 1).decision;
    assert!(!denied.allowed);
    assert_eq!(denied.retry_after.nanos().unwrap().as_nanos(), 1_000_000_000);
    let again = rule.acquire(&mut state, at(97), 5).decision;
    assert!(again.allowed && again.remaining == 0);
    assert_eq!(again.reset_after.as_nanos(), 60_000_000_000);
}

#[test]
fn zero_denies() {
    let limits = limits("- { namespace: ns, max_value: 0, seconds: 1, conditions: [], variables: [] }");
    assert_eq!(limits.find("ns", &[])[0].limit.limit(), &Limit::DenyAll);
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    let plain = "namespace: ns, max_value: 1, seconds: 1";
    for (file, message) in [
        ("[5]".to_owned(), "a limit: a map with `namespace:`"),
        ("policies: []".to_owned(), "expected a list of limits, found a map"),
        ("- { max_value: 1, seconds: 1 }".to_owned(), "the limit has no `namespace`"),
        ("- { namespace: '', max_value: 1, seconds: 1 }".to_owned(), "a namespace has a name"),
        ("- { namespace: [], max_value: 1, seconds: 1 }".to_owned(), "expected a text, found a list"),
        ("- { namespace: ns, seconds: 1 }".to_owned(), "the limit has no `max_value`"),
        (
            "- { namespace: ns, max_value: -1, seconds: 1 }".to_owned(),
            "-1 is not between 0 and 9007199254740991",
        ),
        ("- { namespace: ns, max_value: 1.5, seconds: 1 }".to_owned(), "expected a whole number"),
        ("- { namespace: ns, max_value: 18446744073709551615, seconds: 1 }".to_owned(), "is not between"),
        ("- { namespace: ns, max_value: 1 }".to_owned(), "the limit has no `seconds`"),
        ("- { namespace: ns,\n    max_value: 1, seconds: 0 }".to_owned(), "limits.yaml:2:28"),
        ("- { namespace: ns, max_value: 1, seconds: 0 }".to_owned(), "a window lasts at least a second"),
        (
            "- { namespace: ns, max_value: 1, seconds: 99999999999 }".to_owned(),
            "is not between 1 and 3153600000",
        ),
        (format!("- {{ {plain}, condition: [] }}"), "did you mean `conditions`?"),
        (format!("- {{ {plain}, conditions: x }}"), "expected a list of expressions, found a text"),
        (format!("- {{ {plain}, conditions: [5] }}"), "expected a text, found a number"),
        (format!("- {{ {plain}, conditions: ['a ='] }}"), "at character"),
        (
            format!("- {{ {plain}, conditions: ['req.method == \"GET\"'] }}"),
            "a limit that names `req.method` by itself applies to nothing since Limitador 2",
        ),
        (format!("- {{ {plain}, variables: [user_id] }}"), "write `descriptors[0][\"user_id\"]`"),
        (format!("- {{ {plain}, variables: ['descriptors.user'] }}"), "write `descriptors[0].user`"),
        (format!("- {{ {plain}, variables: ['descriptors[0]'] }}"), "gives a map where a text is wanted"),
        (format!("- {{ {plain}, conditions: ['descriptors[0].a'] }}"), "where true or false is wanted"),
        (format!("- {{ {plain}, conditions: ['limit.max == 1'] }}"), "a limit has no `max` to be asked"),
        (format!("- {{ {plain}, conditions: ['descriptors.all(d, true)'] }}"), "nothing here repeats"),
        (format!("- {{ {plain}, conditions: [\"{}true\"] }}", "!".repeat(999)), "at most 1000 bytes"),
        (
            format!("- {{ {plain} }}\n- {{ {plain}, name: other }}"),
            "this limit has the same counters as limit 1 of the file",
        ),
        (format!("- {{ {plain}, namespace: other }}"), "`namespace` is set twice"),
    ] {
        let problems = parse(&file).expect_err(&file);
        assert!(problems.contains(message), "{file}: {problems}");
    }
    // All of it at once.
    let problems = parse("- { seconds: 0 }\n- { namespace: ns, max_value: x }").unwrap_err();
    assert_eq!(problems.matches("error: ").count(), 5, "{problems}");
}

#[test]
fn files_are_told_from_others() {
    for text in [
        "[]",
        "- namespace: a",
        "---\n- namespace: a\n",
        "\u{feff}- { namespace: a }",
        "# why\n--- !!seq\n- a",
    ] {
        assert!(LimitadorLimits::are_in(text), "{text}");
    }
    for text in ["", "policies: []", "domain: d\ndescriptors: []", "[[policies]]\nname = 'x'", "- ["] {
        assert!(!LimitadorLimits::are_in(text), "{text}");
    }
}

#[test]
fn a_limit_concerns_the_descriptors_that_it_looks_at() {
    let looks = |conditions: &str| {
        let limits = limits(&one(conditions, ""));
        (0..3).map(|place| limits.limits()[0].looks_at(place)).collect::<Vec<_>>()
    };
    assert_eq!(looks(""), [true, true, true]);
    assert_eq!(looks("'descriptors[1].a == \"b\"'"), [false, true, false]);
    assert_eq!(looks("'descriptors[1].a == \"b\"', 'descriptors[0].a == \"b\"'"), [true, true, false]);
    assert_eq!(looks("'descriptors[size(descriptors) - 1].a == \"b\"'"), [true, true, true]);
}

#[test]
fn unicode_and_quotes_are_as_any_text() {
    let file = one(r#""descriptors[0]['größe'] == '\u2603\"'""#, r#""descriptors[0]['größe']""#);
    let limits = limits(&file);
    let found = limits.find("ns", &[&[("größe", "☃\"")]]);
    assert_eq!(found[0].values().next(), Some(("descriptors[0]['größe']", "☃\"")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in a file, it is read or refused, and what is read can be asked.
    #[test]
    fn no_expression_is_too_much(text in "[ -~]{0,60}", deep in 0..400usize) {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let nested = format!("{}{}{}", "(".repeat(deep), text, ")".repeat(deep));
        for text in [text.as_str(), nested.as_str(), &format!("descriptors[0].a == {text}")] {
            if let Ok(limits) = parse(&one(&quoted(text), "")) {
                let _ = limits.find("ns", &[&[("a", "1")]]);
            }
        }
    }

    /// Two requests share a counter if, and only if, the values are the same.
    #[test]
    fn values_make_counters(one in ".{0,12}", other in ".{0,12}", third in ".{0,12}") {
        let limits = limits(&self::one("", "'descriptors[0].a', 'descriptors[0].b'"));
        let key = |a: &str, b: &str| limits.find("ns", &[&[("a", a), ("b", b)]])[0].key;
        prop_assert_eq!(key(&one, &other) == key(&one, &third), other == third);
        prop_assert_eq!(key(&one, &other) == key(&other, &one), one == other);
    }
}
