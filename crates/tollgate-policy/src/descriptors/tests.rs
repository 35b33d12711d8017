use std::collections::HashSet;

use tollgate_core::KeySeed;

use super::*;

fn parse(files: &[&str], merges: bool) -> Result<DescriptorRules, String> {
    let names = ["a.yaml", "b.yaml", "c.yaml"];
    let files: Vec<(&str, &str)> = names.into_iter().zip(files.iter().copied()).collect();
    DescriptorRules::parse(&files, merges, KeySeed::new([7; 16]))
        .map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn rules(file: &str) -> DescriptorRules {
    parse(&[file], false).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What becomes of one descriptor: the requests that it has in each unit, `unlimited` or nothing.
fn of(rules: &DescriptorRules, entries: &[(&str, &str)]) -> String {
    match &rules.find("d", &[Descriptor::new(entries)])[0] {
        Applies::Nothing => "nothing".to_owned(),
        Applies::Unlimited(_) => "unlimited".to_owned(),
        Applies::Limited(applied) => format!("{}/{}", applied.requests_per_unit, applied.unit),
    }
}

fn key(rules: &DescriptorRules, entries: &[(&str, &str)]) -> KeyHash {
    match &rules.find("d", &[Descriptor::new(entries)])[0] {
        Applies::Limited(applied) => applied.key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_comes_before_patterns_and_those_before_the_key_alone() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: path, rate_limit: { unit: minute, requests_per_unit: 1 } }
  - { key: path, value: '/a*', rate_limit: { unit: minute, requests_per_unit: 2 } }
  - { key: path, value: '/ab*', rate_limit: { unit: minute, requests_per_unit: 3 } }
  - { key: path, value: '/abc', rate_limit: { unit: minute, requests_per_unit: 4 } }
  - { key: path, value: '/x/*/y*z', rate_limit: { unit: minute, requests_per_unit: 5 } }
",
    );
    for (path, rate) in [
        ("/abc", "4/minute"),
        // The first of the file, not the longest.
        ("/abd", "2/minute"),
        ("/a", "2/minute"),
        ("/A", "1/minute"),
        ("/x/1/y2z", "5/minute"),
        ("/x/1/y2", "1/minute"),
        ("", "1/minute"),
    ] {
        assert_eq!(of(&rules, &[("path", path)]), rate, "{path}");
    }
    assert_eq!(of(&rules, &[("other", "/abc")]), "nothing");
    assert_eq!(of(&rules, &[]), "nothing");
}

#[test]
fn a_descriptor_leads_as_deep_as_it_has_entries() {
    let rules = rules(
        "domain: d
descriptors:
  - key: tenant
    value: acme
    rate_limit: { unit: hour, requests_per_unit: 10 }
    descriptors:
      - { key: user, rate_limit: { unit: second, requests_per_unit: 2 } }
  - key: tenant
    descriptors:
      - { key: path, rate_limit: { unit: day, requests_per_unit: 7 } }
",
    );
    assert_eq!(of(&rules, &[("tenant", "acme")]), "10/hour");
    assert_eq!(of(&rules, &[("tenant", "acme"), ("user", "anna")]), "2/second");
    assert_eq!(of(&rules, &[("tenant", "acme"), ("user", "anna"), ("path", "/")]), "nothing");
    // The value has a rule, so that the key alone is not tried, although it would lead on.
    assert_eq!(of(&rules, &[("tenant", "acme"), ("path", "/")]), "nothing");
    assert_eq!(of(&rules, &[("tenant", "other"), ("path", "/")]), "7/day");
    assert_eq!(of(&rules, &[("tenant", "other")]), "nothing");
    // In another order it is another descriptor.
    assert_eq!(of(&rules, &[("user", "anna"), ("tenant", "acme")]), "nothing");
    assert!(rules.find("elsewhere", &[Descriptor::new(&[("tenant", "acme")])])[0].is_nothing());
}

#[test]
fn values_are_counted_apart_unless_they_share_a_threshold() {
    let apart = "domain: d
descriptors:
  - { key: path, value: '/a*', rate_limit: { unit: minute, requests_per_unit: 2 } }
  - { key: user, rate_limit: { unit: minute, requests_per_unit: 2 } }
";
    let shared = rules(&apart.replace("'/a*',", "'/a*', share_threshold: true,"));
    let apart = rules(apart);
    assert_ne!(key(&apart, &[("path", "/a1")]), key(&apart, &[("path", "/a2")]));
    assert_eq!(key(&shared, &[("path", "/a1")]), key(&shared, &[("path", "/a2")]));
    assert_ne!(key(&shared, &[("user", "1")]), key(&shared, &[("user", "2")]));
    // Nothing that a request says makes two descriptors one.
    let keys: HashSet<_> = [("user", "1"), ("user", "1_user_1"), ("path", "/a"), ("path", "/a_")]
        .map(|entry| key(&apart, &[entry]))
        .into();
    assert_eq!(keys.len(), 4);
    let id =
        |rules: &DescriptorRules, value| match &rules.find("d", &[Descriptor::new(&[("user", value)])])[0] {
            Applies::Limited(applied) => applied.id,
            other => panic!("{other:?}"),
        };
    assert_eq!(id(&apart, "1"), id(&shared, "2"), "the limit is one, whatever the values");
}

#[test]
fn a_limit_that_comes_along_stands_in_for_the_rules() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: user, shadow_mode: true, rate_limit: { unit: minute, requests_per_unit: 2 } }
",
    );
    let entries = [("user", "1")];
    let brought = Descriptor { entries: &entries, limit: Some((42, Unit::Day)) };
    let Applies::Limited(applied) = &rules.find("d", &[brought])[0] else { panic!() };
    assert_eq!((applied.requests_per_unit, applied.unit, applied.is_shadow()), (42, Unit::Day, false));
    // Where no rule would apply too, but not in a domain that nobody knows.
    let unknown = [("other", "1")];
    let brought = Descriptor { entries: &unknown, limit: Some((42, Unit::Day)) };
    assert!(matches!(&rules.find("d", &[brought])[0], Applies::Limited(_)));
    assert!(rules.find("elsewhere", &[brought])[0].is_nothing());
}

#[test]
fn a_limit_replaces_others_by_name() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: a, rate_limit: { name: general, unit: minute, requests_per_unit: 1 } }
  - { key: b, rate_limit: { name: special, replaces: [{ name: general }], unit: minute, requests_per_unit: 2 } }
  - { key: c, rate_limit: { name: free, replaces: [{ name: special }, { name: general }], unlimited: true } }
",
    );
    let find = |keys: &[&str]| -> Vec<bool> {
        let entries: Vec<[(&str, &str); 1]> = keys.iter().map(|key| [(*key, "1")]).collect();
        let descriptors: Vec<Descriptor<'_>> = entries.iter().map(|entry| Descriptor::new(entry)).collect();
        rules.find("d", &descriptors).iter().map(|applies| !applies.is_nothing()).collect()
    };
    assert_eq!(find(&["a"]), [true]);
    assert_eq!(find(&["a", "b"]), [false, true]);
    assert_eq!(find(&["b", "a"]), [true, false]);
    // What is replaced still replaces others.
    assert_eq!(find(&["a", "b", "c"]), [false, false, true]);
}

#[test]
fn zero_denies_and_unlimited_lets_through() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: closed, rate_limit: { unit: SECOND, requests_per_unit: 0 } }
  - { key: open, rate_limit: { unlimited: true } }
  - { key: nothing }
  - { key: n, value: 5, rate_limit: { unit: week, requests_per_unit: 4294967295 } }
",
    );
    assert_eq!(of(&rules, &[("closed", "")]), "0/second");
    assert_eq!(of(&rules, &[("open", "x")]), "unlimited");
    assert_eq!(of(&rules, &[("nothing", "x")]), "nothing");
    assert_eq!(of(&rules, &[("n", "5")]), "4294967295/week");
    let Applies::Limited(closed) = &rules.find("d", &[Descriptor::new(&[("closed", "")])])[0] else {
        panic!()
    };
    assert_eq!(closed.limit, Limit::DenyAll);
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    for (file, message) in [
        ("descriptors: []", "the file has no `domain`"),
        ("domain: ''", "a domain has a name"),
        ("domain: d\ndescripters: []", "a.yaml:2:1"),
        ("domain: d\ndescriptors: { key: a }", "expected a list of descriptors"),
        ("domain: d\ndescriptors: [5]", "a descriptor: a map with `key:`"),
        ("domain: d\ndescriptors: [{ value: a }]", "the descriptor has no `key`"),
        ("domain: d\ndescriptors: [{ key: '' }]", "a descriptor's key is not empty"),
        ("domain: d\ndescriptors: [{ key: a }, { key: a }]", "for `a` without a value here already"),
        ("domain: d\ndescriptors: [{ key: a, value: b }, { key: a, value: b }]", "a.yaml:2:37"),
        (
            "domain: d\ndescriptors: [{ key: a, rate_limit: { requests_per_unit: 1 } }]",
            "the limit has no `unit`",
        ),
        ("domain: d\ndescriptors: [{ key: a, rate_limit: { unit: fortnight } }]", "unknown unit `fortnight`"),
        (
            "domain: d\ndescriptors: [{ key: a, rate_limit: { unit: day, requests_per_unit: -1 } }]",
            "-1 is not between",
        ),
        (
            "domain: d\ndescriptors: [{ key: a, rate_limit: { unit: day, unlimited: true } }]",
            "what is unlimited has no unit",
        ),
        ("domain: d\ndescriptors: [{ key: a, share_threshold: true }]", "only values by a pattern"),
        ("domain: d\ndescriptors: [{ key: a, ratelimit: {} }]", "did you mean `rate_limit`?"),
        (
            "domain: d\ndescriptors: [{ key: a, rate_limit: { name: x, replaces: [{ name: x }], unit: day } }]",
            "a limit cannot replace itself",
        ),
        (
            "domain: d\ndescriptors: [{ key: a, rate_limit: { name: x, replaces: [{ name: '' }], unit: day } }]",
            "what is replaced has a name",
        ),
    ] {
        let problems = parse(&[file], false).unwrap_err();
        assert!(problems.contains(message), "{file}: {problems}");
    }
}

#[test]
fn several_files_have_domains_of_their_own_or_merge() {
    let (one, two) = ("domain: d\ndescriptors: [{ key: a }]", "domain: d\ndescriptors: [{ key: b }]");
    assert!(parse(&[one, two], false).unwrap_err().contains("b.yaml:1:9"));
    assert_eq!(parse(&[one, two], true).unwrap().domains(), ["d"]);
    assert!(parse(&[one, one], true).unwrap_err().contains("has a rule for `a` in another file already"));
    assert_eq!(parse(&[one, &two.replace("domain: d", "domain: e")], false).unwrap().domains(), ["d", "e"]);
}

#[test]
fn rules_are_listed_with_the_way_to_them() {
    let rules = rules(
        "domain: d
descriptors:
  - key: a
    value: b
    metadata: { team: [1, true, x] }
    rate_limit: { unit: minute, requests_per_unit: 5 }
    descriptors:
      - { key: c, rate_limit: { unlimited: true } }
",
    );
    let listed: Vec<String> = rules.rules().into_iter().map(|(path, _)| path).collect();
    assert_eq!(listed, ["d.a_b", "d.a_b.c"]);
    let metadata = rules.rules()[0].1.metadata().unwrap().clone();
    let items =
        vec![MetadataValue::Number(1.0), MetadataValue::Bool(true), MetadataValue::Text("x".to_owned())];
    assert_eq!(metadata, MetadataValue::Map(vec![("team".to_owned(), MetadataValue::List(items))]));
}

#[test]
fn files_are_told_from_policy_files() {
    assert!(DescriptorRules::are_in("domain: d\ndescriptors: []"));
    assert!(DescriptorRules::are_in("domain: d"));
    // A word is only a setting where settings are named.
    for text in
        ["domain: policies", "domain: d\ndescriptors: [{ key: k, policies: [] }, policies]", "'domain': d"]
    {
        assert!(DescriptorRules::are_in(text), "{text}");
    }
    for text in ["policies: []", "", "[]", "domain: [", "policies: []\ndomain: d"] {
        assert!(!DescriptorRules::are_in(text), "{text}");
    }
    for text in
        ["domain: d\npolicies: []", "domain: { a: [b] }\n\"policies\": [", "domain: d\n---\npolicies: []"]
    {
        assert!(!DescriptorRules::are_in(text), "{text}");
    }
}
