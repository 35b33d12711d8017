use proptest::prelude::*;
use tollgate_core::{KeySeed, Timestamp};

use super::cel::{is_attribute, is_equality, over_attributes};
use super::*;
use crate::attribute::{Attribute, Request};
use crate::descriptors::{Applies, Descriptor};
use crate::set::PolicySet;

const SEED: KeySeed = KeySeed::new([7; 16]);

fn envoy(file: &str) -> (DescriptorRules, Import) {
    let rules = DescriptorRules::parse(&[("rules.yaml", file)], false, SEED)
        .unwrap_or_else(|wrong| panic!("{}", wrong[0]));
    let mut import = Import::default();
    import.add_descriptors(&["rules.yaml"], &rules);
    (rules, import)
}

fn limitador(file: &str) -> (LimitadorLimits, Import) {
    let limits = LimitadorLimits::parse("limits.yaml", file, SEED).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut import = Import::default();
    import.add_limitador("limits.yaml", file, &limits);
    (limits, import)
}

fn loaded(import: &Import) -> PolicySet {
    let text = import.text();
    let config = Config::parse("policy.yaml", &text, Format::Yaml, &[]);
    PolicySet::new(config.unwrap_or_else(|wrong| panic!("{text}\n{wrong}")), SEED)
}

/// The limits that policies set for a descriptor.
fn of_policies(set: &PolicySet, entries: &[(&str, &str)]) -> Vec<String> {
    let mut request = Request::new("", "").with(Attribute::Custom("domain".to_owned()), "d");
    for (key, value) in entries {
        request = request.with(Attribute::Custom((*key).to_owned()), *value);
    }
    let plan = set.plan(&request, Timestamp::from_secs(1_800_000_000), None);
    let limits = plan.hits().iter().map(|hit| hit.limit.to_string());
    limits.filter(|limit| limit != "unlimited").collect()
}

fn of_rules(rules: &DescriptorRules, entries: &[(&str, &str)]) -> Vec<String> {
    match &rules.find("d", &[Descriptor::new(entries)])[0] {
        Applies::Limited(applied) => vec![applied.limit.to_string()],
        Applies::Nothing | Applies::Unlimited(_) => Vec::new(),
    }
}

const RULES: &str = "domain: d
descriptors:
  - { key: a, rate_limit: { unit: minute, requests_per_unit: 1 }, descriptors: [
      { key: b, rate_limit: { unit: minute, requests_per_unit: 2 } },
      { key: c, value: x, rate_limit: { unit: minute, requests_per_unit: 3 } } ] }
  - { key: a, value: x, rate_limit: { unit: minute, requests_per_unit: 4 } }
  - { key: a, value: y, descriptors: [
      { key: b, value: 'y*', rate_limit: { unit: minute, requests_per_unit: 5 } } ] }
  - { key: a, value: 'z*', rate_limit: { unit: hour, requests_per_unit: 6 } }
  - { key: a, value: 'zx*', rate_limit: { unit: day, requests_per_unit: 7 } }
  - { key: a, value: zx, rate_limit: { unlimited: true } }
  - { key: a, value: zy, shadow_mode: true, rate_limit: { unit: week, requests_per_unit: 8 } }
  - { key: b, value: '*y', rate_limit: { unit: month, requests_per_unit: 9 } }
  - { key: b, value: 'x*x', rate_limit: { unit: year, requests_per_unit: 0 } }
  - { key: domain, value: other }
";

#[test]
fn descriptors_lead_to_the_same_limits() {
    let (rules, import) = envoy(RULES);
    assert_eq!(import.warnings(), []);
    let set = loaded(&import);
    let values =
        [None, Some("x"), Some("y"), Some("z"), Some("zx"), Some("zxx"), Some("zy"), Some("xx"), Some("Z")];
    for a in values {
        for b in values {
            for c in [None, Some("x"), Some("o")] {
                let all = [("a", a), ("b", b), ("c", c)];
                let entries: Vec<(&str, &str)> =
                    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
                let expected = of_rules(&rules, &entries);
                assert_eq!(of_policies(&set, &entries), expected, "{entries:?}\n{}", import.text());
            }
        }
    }
}

#[test]
fn a_file_of_rules_reads_well() {
    let (_, import) = envoy(
        "domain: edge
descriptors:
  - key: generic_key
    value: it's
    rate_limit: { name: logins, unit: day, requests_per_unit: 2 }
  - key: user
    quota_mode: true
    rate_limit: { unit: hour, requests_per_unit: 5, name: users, replaces: [{ name: logins }] }
    metadata: { team: x }
  - { key: domain, rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: path, value: '/a*b*c', share_threshold: true, rate_limit: { unit: day, requests_per_unit: 1 } }
",
    );
    loaded(&import);
    insta::assert_snapshot!(import.text());
    let warnings: Vec<String> = import.warnings().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"));
}

const LIMITS: &str = r#"
- namespace: d
  max_value: 10
  seconds: 60
  name: posts & "more"
  conditions: ["descriptors[0]['req.method'] == 'POST'", "descriptors[0].path.startsWith('/a')"]
  variables: ["descriptors[0].user", "descriptors[0]['plan'] + '/' + limit.name"]
- { namespace: d, max_value: 0, seconds: 5, conditions: ['"banned" == descriptors[0].state'], variables: [] }
- { namespace: d, max_value: 3, seconds: 5, conditions: ['descriptors[1].a == "b"'] }
- { namespace: d, max_value: 3, seconds: 6, conditions: ['size(descriptors) == 1'] }
- { namespace: d, max_value: 3, seconds: 7, id: some-id, conditions: ["limit.id == 'some-id'", "limit.name == null"] }
- { namespace: d, max_value: 3, seconds: 8, variables: ['descriptors[0].domain'] }
- { namespace: d, max_value: 3, seconds: 9, conditions: ["descriptors[0].x == '1'", "descriptors[0].x == '2'"] }
- { namespace: d, max_value: 3, seconds: 11, conditions: ["descriptors[0].x != 'descriptors[1] limit.name'"] }
"#;

#[test]
fn limits_apply_to_the_same_requests() {
    let (limits, import) = limitador(LIMITS);
    let set = loaded(&import);
    assert_eq!(import.policies(), 4);
    let texts = ["x", "/a/b", "POST", "banned", "free"];
    for state in texts {
        for path in texts {
            for method in texts {
                for user in [&[][..], &[("user", "anna"), ("plan", "free")]] {
                    let one = [("state", state), ("path", path), ("req.method", method), ("x", state)];
                    let entries = [&one[..], user].concat();
                    let mut expected: Vec<String> = limits
                        .find("d", &[&entries])
                        .iter()
                        // The two that policies cannot say.
                        .filter(|counter| ![6, 9].contains(&counter.limit.seconds()))
                        .map(|counter| counter.limit.limit().to_string())
                        .collect();
                    let mut found = of_policies(&set, &entries);
                    for limit in found.iter_mut().chain(&mut expected) {
                        if limit.starts_with('0') || limit.starts_with("deny") {
                            "denied".clone_into(limit);
                        }
                    }
                    assert_eq!(found, expected, "{entries:?}\n{}", import.text());
                }
            }
        }
    }
}

#[test]
fn a_file_of_limits_reads_well() {
    let (_, import) = limitador(LIMITS);
    insta::assert_snapshot!(import.text());
    let warnings: Vec<String> = import.warnings().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"));
    let (_, nothing) = limitador("[]");
    assert!(loaded(&nothing).policies().next().is_none());
}

#[test]
fn expressions_are_turned() {
    let turned = |text: &str| over_attributes(text, (Some("it's \"n\""), None));
    for (text, expected) in [
        ("descriptors[0].a == 'b'", Ok("attribute.a == 'b'")),
        ("descriptors [ 0 ] ['a']", Ok("attribute ['a']")),
        ("'x' in descriptors[0]", Ok("'x' in attribute")),
        ("'descriptors[0]' == \"limit.name\"", Ok("'descriptors[0]' == \"limit.name\"")),
        (r"'\'descriptors[1]' == r'\'", Ok(r"'\'descriptors[1]' == r'\'")),
        ("'''it's descriptors[1]'''", Ok("'''it's descriptors[1]'''")),
        (
            "descriptors[0].descriptors == descriptors[0].limit",
            Ok("attribute.descriptors == attribute.limit"),
        ),
        ("limit.name + limit['id']", Ok(r#""it's \"n\"" + null"#)),
        ("my_limit + descriptors2", Ok("my_limit + descriptors2")),
        ("descriptors[1].a", Err("looks at descriptor 1")),
        ("size(descriptors)", Err("several descriptors")),
        ("descriptors[limit.name]", Err("several descriptors")),
        ("limit(1)", Err("more than its name or id")),
        ("'never ends", Ok("'never ends")),
    ] {
        match (turned(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
            (found, expected) => panic!("{text}: {found:?} {expected:?}"),
        }
    }
    for (text, expected) in [
        ("attribute.user", Some("user")),
        (" attribute [ 'user' ] ", Some("user")),
        ("attribute[\"a b\"]", Some("a b")),
        ("attribute['a\\'b']", None),
        ("attribute.user.size()", None),
        ("attribute.user()", None),
        ("attribute['a'] + 'b'", None),
        ("attribute", None),
        ("attributes.a", None),
    ] {
        assert_eq!(is_attribute(text).as_deref(), expected, "{text}");
    }
    for (text, expected) in [
        ("attribute.a == 'b'", Some(("a", "b"))),
        ("'b'==attribute['a']", Some(("a", "b"))),
        ("attribute.a != 'b'", None),
        ("attribute.a == ''", None),
        ("attribute.a == 'b' && true", None),
        ("attribute.a == attribute.b", None),
        ("attribute.a == '''b'''", None),
        ("attribute.a == r'b'", None),
    ] {
        let found = is_equality(text);
        assert_eq!(found.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), expected, "{text}");
    }
}

#[test]
fn many_keys_are_told_as_far_as_they_can_be() {
    let keys = |count: usize| {
        let rule = |n: usize| {
            format!("  - {{ key: a_long_key_{n}, rate_limit: {{ unit: day, requests_per_unit: {n} }} }}\n")
        };
        format!("domain: d\ndescriptors:\n{}", (0..count).map(rule).collect::<String>())
    };
    let (_, import) = envoy(&keys(20));
    loaded(&import);
    assert_eq!(import.warnings(), []);
    let (_, import) = envoy(&keys(100));
    loaded(&import);
    assert_eq!(import.warnings().len(), 100);
    assert!(import.warnings()[0].message.contains("so many keys"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is imported can be loaded, and no text leaves its place.
    #[test]
    fn what_is_imported_loads(key in "\\PC{1,8}", value in ".{1,8}", name in ".{0,8}", other in "[a*]{1,5}") {
        let quote = super::draft::quoted;
        let file = format!(
            "domain: d\ndescriptors:\n  - {{ key: {}, value: {}, rate_limit: {{ name: {}, unit: day, requests_per_unit: 1 }} }}\n  \
             - {{ key: b, value: {}, rate_limit: {{ unit: day, requests_per_unit: 2 }} }}",
            quote(&key), quote(&value), quote(&format!("n{name}")), quote(&other),
        );
        if let Ok(rules) = DescriptorRules::parse(&[("rules.yaml", &file)], false, SEED) {
            let mut import = Import::default();
            import.add_descriptors(&[&name], &rules);
            prop_assert!(import.check().is_ok(), "{}\n{}", import.text(), import.check().unwrap_err());
        }
        let file = format!(
            "- {{ namespace: {}, max_value: 1, seconds: 1, name: {}, conditions: [{}], variables: [{}] }}",
            quote(&value), quote(&format!("n{name}")),
            quote(&format!("descriptors[0][{}] == {}", super::cel::in_cel(&key), super::cel::in_cel(&value))),
            quote(&format!("descriptors[0][{}] + limit.name", super::cel::in_cel(&key))),
        );
        if let Ok(limits) = LimitadorLimits::parse("limits.yaml", &file, SEED) {
            let mut import = Import::default();
            import.add_limitador(&name, &file, &limits);
            prop_assert!(import.check().is_ok(), "{}\n{}", import.text(), import.check().unwrap_err());
        }
    }
}
