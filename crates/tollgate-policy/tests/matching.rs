//! Which policies apply to a request, what they count it by, and which one is named.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]
// A list of lines reads best as such.
#![allow(clippy::format_collect)]

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tollgate_core::{Clock, KeyHash, KeySeed, ManualClock, Retry, Timestamp};
use tollgate_policy::{Attribute, Attributes, Config, Format, Plan, Policy, PolicySet, Request, Verdict};
use tollgate_store::{LocalStore, MemoryOptions, MemoryStore};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const SEED: KeySeed = KeySeed::new([7; 16]);

fn policies(text: &str) -> PolicySet {
    match Config::parse("policy.yaml", text, Format::Yaml, &[]) {
        Ok(config) => PolicySet::new(config, SEED),
        Err(problems) => panic!("{problems}"),
    }
}

fn example() -> PolicySet {
    PolicySet::new(Config::example(), SEED)
}

fn names<'s>(plan: &Plan<'s>) -> Vec<&'s str> {
    plan.policies().map(Policy::name).collect()
}

fn applied<'s>(set: &'s PolicySet, request: &impl Attributes) -> Vec<&'s str> {
    names(&set.plan(request, NOW, None))
}

fn keys(set: &PolicySet, request: &impl Attributes) -> Vec<KeyHash> {
    set.plan(request, NOW, None).hits().iter().map(|hit| hit.key).collect()
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn from_ip(method: &str, path: &str) -> Request {
    Request::new(method, path).with_ip(ip("203.0.113.7"))
}

/// A request whose every attribute is these bytes.
struct Raw(Vec<u8>);

impl Attributes for Raw {
    fn ip(&self) -> Option<IpAddr> {
        None
    }

    fn path(&self) -> &'static str {
        "/"
    }

    fn get(&self, _: &Attribute) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(&self.0))
    }
}

#[test]
fn the_example_applies_as_it_says() {
    let set = example();
    let keyed = |method: &str, path: &str| from_ip(method, path).with_api_key("k");
    for (request, expected) in [
        (from_ip("POST", "/api/auth/login"), &["login", "burst-guard", "default"][..]),
        (from_ip("post", "/api/auth/login?next=/"), &["login", "burst-guard", "default"]),
        (from_ip("GET", "/api/auth/login"), &["burst-guard", "default"]),
        (from_ip("POST", "/api/auth/login/x"), &["burst-guard", "default"]),
        (from_ip("GET", "/api/search?q=toll"), &["search", "burst-guard", "default"]),
        (from_ip("HEAD", "/api/search"), &["burst-guard", "default"]),
        (from_ip("POST", "/api/upload"), &["upload", "burst-guard", "default"]),
        (keyed("GET", "/api/v2"), &["api-v2", "burst-guard", "default"]),
        (keyed("DELETE", "/api/v2/a/b"), &["api-v2", "burst-guard", "default"]),
        (from_ip("GET", "/api/v2/a"), &["burst-guard", "default"]),
        (keyed("GET", "/api/v20"), &["burst-guard", "default"]),
        (from_ip("GET", "/api/plans"), &["plan", "burst-guard"]),
        (from_ip("GET", "/api/plans/7"), &["plan", "burst-guard"]),
        (from_ip("GET", "/"), &["burst-guard", "default"]),
        (from_ip("", ""), &["burst-guard", "default"]),
        (Request::new("GET", "/").with_user("u"), &["default"]),
        (Request::new("GET", "/api/plans").with_user("u"), &["plan"]),
        (Request::new("POST", "/api/auth/login"), &[]),
        (Request::default(), &[]),
    ] {
        assert_eq!(applied(&set, &request), expected, "{request:?}");
    }
}

#[test]
fn every_spelling_of_a_path_is_the_same_path() {
    let set = example();
    let plain = keys(&set, &from_ip("POST", "/api/auth/login"));
    for spelling in [
        "/api/auth/login/",
        "/api/auth/login?x=/other",
        "/api/auth/login#top",
        "//api///auth//login//",
        "/API/Auth/LOGIN",
        "/api/./auth/../auth/login/.",
        "/../api/auth/login",
        "/api/auth/%6C%6f%67in",
        "/%61pi%2Fauth%2flogin",
        "\\api\\auth\\login",
        "/api%5Cauth%5clogin",
        "/api/%2e%2E/api/auth/login",
        "api/auth/login",
    ] {
        let request = from_ip("POST", spelling);
        assert_eq!(applied(&set, &request)[0], "login", "{spelling}");
        assert_eq!(keys(&set, &request), plain, "{spelling}");
    }
    for other in
        ["/api/auth/logins", "/api/auth/log in", "/api/auth/%256Cogin", "/api/auth", "/api/auth/login;x"]
    {
        assert_ne!(applied(&set, &from_ip("POST", other))[0], "login", "{other}");
    }
}

#[test]
fn a_request_that_lacks_what_is_counted_is_not_subject_to_the_policy() {
    for (key, has, lacks) in [
        ("ip", from_ip("GET", "/"), Request::new("GET", "/").with_user("u").with_api_key("k")),
        ("user", Request::new("GET", "/").with_user("u"), from_ip("GET", "/").with_user("")),
        ("api_key", Request::new("GET", "/").with_api_key("k"), from_ip("GET", "/").with_api_key("")),
        ("identity", from_ip("GET", "/"), Request::new("GET", "/").with_user("").with_header("x", "y")),
        (
            "host",
            Request::new("GET", "/").with_header("host", "a:1"),
            Request::new("GET", "/").with_header("host", "."),
        ),
        (
            "header:x-t",
            Request::new("", "/").with_header("X-T", "a"),
            Request::new("", "/").with_header("x-t", ""),
        ),
        ("query:q", Request::new("GET", "/?q=1"), Request::new("GET", "/?q=&p=1")),
        (
            "cookie:c",
            Request::new("", "/").with_header("cookie", "c=1"),
            Request::new("", "/").with_header("cookie", "c="),
        ),
        (
            "claim:sub",
            Request::new("", "/").with(Attribute::Claim("sub".into()), "s"),
            Request::new("", "/").with(Attribute::Custom("sub".into()), "s"),
        ),
        ("[ip, user]", from_ip("GET", "/").with_user("u"), from_ip("GET", "/")),
        ("method", Request::new("GET", "/"), Request::new("", "/")),
    ] {
        let set = policies(&format!("policies: [{{ name: p, key: {key}, limit: 1/s }}]"));
        assert_eq!(applied(&set, &has), ["p"], "{key}");
        assert!(set.describe_key(0, &has).is_some(), "{key}");
        assert_eq!(applied(&set, &lacks), [""; 0], "{key}");
        assert_eq!(set.describe_key(0, &lacks), None, "{key}");
    }
    // These are never lacking.
    for key in ["global", "static:all", "endpoint", "path"] {
        let set = policies(&format!("policies: [{{ name: p, key: '{key}', limit: 1/s }}]"));
        assert_eq!(applied(&set, &Request::default()), ["p"], "{key}");
    }
}

#[test]
fn an_identity_is_the_api_key_else_the_user_else_the_address() {
    let set = policies("policies: [{ name: p, key: identity, limit: 1/s }]");
    let bare = || Request::new("GET", "/");
    let all = from_ip("GET", "/").with_user("u").with_api_key("k");
    assert_eq!(keys(&set, &all), keys(&set, &bare().with_api_key("k")));
    assert_eq!(keys(&set, &from_ip("GET", "/").with_user("u")), keys(&set, &bare().with_user("u")));
    assert_eq!(
        keys(&set, &from_ip("GET", "/").with_user("").with_api_key("")),
        keys(&set, &from_ip("GET", "/"))
    );
    // The middleware's header and the caller's word for it are the same key.
    assert_eq!(keys(&set, &bare().with_header("X-API-Key", "k")), keys(&set, &bare().with_api_key("k")));
    // No kind can pass for another, however it is spelt.
    let address = "203.0.113.7";
    let kinds = [
        keys(&set, &bare().with_api_key(address)),
        keys(&set, &bare().with_user(address)),
        keys(&set, &bare().with_ip(ip(address))),
        keys(&set, &bare().with_user("\u{cb}\0q\u{7}")),
        keys(&set, &bare().with_ip(ip("2001:db8::"))),
    ];
    assert_eq!(kinds.iter().flatten().collect::<HashSet<_>>().len(), kinds.len());
}

#[test]
fn values_of_a_combination_do_not_run_together() {
    let set = policies("policies: [{ name: p, key: [header:a, header:b], limit: 1/s }]");
    let key = |a: &str, b: &str| keys(&set, &Request::new("", "/").with_header("a", a).with_header("b", b));
    let long = "x".repeat(5_000);
    let pairs = [("x", "yz"), ("xy", "z"), ("yz", "x"), ("x\0y", "z"), (&long, "z"), (&long[..4_096], "z")];
    let different: HashSet<_> = pairs.iter().map(|(a, b)| key(a, b)).collect();
    assert_eq!(different.len(), pairs.len());
    assert_eq!(key("x", "yz"), key("x", "yz"));
}

#[test]
fn keys_differ_between_policies_tiers_and_limits() {
    let set = policies(
        "policies:
  - { name: a, key: ip, limits: [1/s, 1/s, 1/s] }
  - { name: b, key: ip, limits: [1/s, 1/s, 1/s] }
  - { name: c, key: ip, tiers: { from: user, default: free, limits: { free: [1/s, 1/s], pro: [1/s, 1/s] } } }
  - { name: d, key: [ip, global], limit: 1/s }
  - { name: e, key: ['static:x', ip], limit: 1/s }
  - { name: f, key: endpoint, limit: 1/s }",
    );
    let mut seen = HashSet::new();
    let free = from_ip("GET", "/");
    for key in keys(&set, &free) {
        assert!(seen.insert(key), "a key stands for two limits");
    }
    let pro = keys(&set, &free.clone().with_user("pro"));
    assert_eq!(pro.iter().filter(|key| !seen.contains(key)).count(), 2, "only the tier's limits differ");
    let ids: HashSet<_> = set.plan(&free, NOW, None).hits().iter().map(|hit| hit.id).collect();
    assert_eq!(ids.len(), seen.len());
    // The seed makes all of them others.
    let text = "policies: [{ name: a, key: ip, limits: [1/s, 1/s, 1/s] }]";
    let config = Config::parse("", text, Format::Yaml, &[]).unwrap();
    let other = PolicySet::new(config, KeySeed::new([8; 16]));
    assert!(keys(&other, &free).iter().all(|key| !seen.contains(key)));
}

#[test]
fn what_is_counted_survives_a_change_of_numbers_and_of_other_policies() {
    let parse = |text: &str| Config::parse("", text, Format::Yaml, &[]).unwrap();
    let before = policies("policies: [{ name: a, key: ip, limit: 1/s }, { name: b, key: ip, limit: 1/s }]");
    let others =
        "policies: [{ name: new, key: ip, limit: 1/s }, { name: b, key: ip, limit: 1/s, priority: 7 }]";
    let others = before.succeed(parse(others), NOW);
    let request = from_ip("GET", "/");
    assert_eq!(keys(&before, &request)[1], keys(&others, &request)[1]);
    // Of other numbers the keys are others, and lead to those before.
    let after = "policies: [{ name: new, key: ip, limit: 1/s }, { name: b, key: ip, limit: 9/h, burst: 3 }]";
    let after = others.succeed(parse(after), NOW);
    let hit = after.plan(&request, NOW, None).hits()[1];
    let before = before.plan(&request, NOW, None).hits()[1];
    assert_eq!(hit.id, before.id);
    assert_ne!(hit.key, before.key);
    assert_eq!(hit.formers[0].key(hit.key), before.key);
    assert_eq!(hit.formers[0].limit(), before.limit);
}

#[test]
fn an_ipv6_network_is_one_client_and_so_is_every_notation_of_an_address() {
    let by_ip = "policies: [{ name: p, key: ip, limit: 1/s }]";
    let set = policies(by_ip);
    let key = |set: &PolicySet, address: &str| keys(set, &Request::new("GET", "/").with_ip(ip(address)));
    assert_eq!(key(&set, "2001:db8:1:2::1"), key(&set, "2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(key(&set, "2001:db8:1:2::1"), key(&set, "2001:db8:1:3::1"));
    assert_ne!(key(&set, "203.0.113.7"), key(&set, "203.0.113.8"));
    for notation in ["::ffff:203.0.113.7", "::ffff:cb00:7107", "64:ff9b::203.0.113.7"] {
        assert_eq!(key(&set, notation), key(&set, "203.0.113.7"), "{notation}");
    }
    assert_eq!(set.describe_key(0, &Request::default().with_ip(ip("2001:db8::9"))).unwrap(), "2001:db8::");

    let wide = policies(&format!("ipv4_prefix: 24\nipv6_prefix: 48\n{by_ip}"));
    assert_eq!(key(&wide, "203.0.113.7"), key(&wide, "203.0.113.8"));
    assert_ne!(key(&wide, "203.0.113.7"), key(&wide, "203.0.114.7"));
    assert_eq!(key(&wide, "2001:db8:1:2::1"), key(&wide, "2001:db8:1:ffff::1"));
}

#[test]
fn an_endpoint_is_a_method_and_the_pattern_that_matched() {
    let set = policies(
        "policies:
  - { name: listed, match: { path: ['/users/{id}', /users/**] }, key: endpoint, limit: 1/s }
  - { name: everywhere, key: endpoint, limit: 1/s }",
    );
    let at = |index: usize, method: &str, path: &str| keys(&set, &Request::new(method, path))[index];
    assert_eq!(at(0, "GET", "/users/7"), at(0, "GET", "/users/8"));
    assert_ne!(at(0, "GET", "/users/7"), at(0, "POST", "/users/7"));
    // The first pattern that matches, also where several do.
    assert_ne!(at(0, "GET", "/users/7"), at(0, "GET", "/users/7/posts"));
    assert_eq!(at(0, "GET", "/users/7/posts"), at(0, "GET", "/users"));
    assert_ne!(at(1, "GET", "/users/7"), at(1, "GET", "/users/8"));
    assert_eq!(at(1, "GET", "/users/7"), at(1, "GET", "/Users//7/"));
}

#[test]
fn bytes_that_are_no_text_are_keys_like_any_others() {
    let set = policies(
        "policies: [{ name: p, key: header:x, limit: 1/s }, { name: i, key: identity, limit: 1/s }]",
    );
    let values: [&[u8]; 6] = [b"\xff", b"\xff\xfe", b"\xc3\x28", b"\0", "\u{fffd}".as_bytes(), b"a"];
    let different: HashSet<_> = values.iter().map(|value| keys(&set, &Raw(value.to_vec()))).collect();
    assert_eq!(different.len(), values.len());
    for value in values {
        assert!(set.describe_key(0, &Raw(value.to_vec())).is_some());
    }
    // A tier is text, so such a value is none.
    let tiers = policies(
        "policies: [{ name: p, key: global, tiers: { from: user, default: a, limits: { a: 1/s } } }]",
    );
    assert_eq!(applied(&tiers, &Raw(b"\xff".to_vec())), ["p"]);
}

#[test]
fn a_key_of_a_megabyte_is_counted_by_its_start_and_its_length() {
    let set = policies("policies: [{ name: p, key: header:x, limit: 1/s }]");
    let mut long = vec![b'x'; 1 << 20];
    let key = keys(&set, &Raw(long.clone()));
    assert_eq!(keys(&set, &Raw(long.clone())), key);
    assert_ne!(keys(&set, &Raw(long[1..].to_vec())), key);
    assert_ne!(keys(&set, &Raw(long[..4_096].to_vec())), key);
    long[4_095] = b'y';
    assert_ne!(keys(&set, &Raw(long)), key);
    // A path of a megabyte is matched as any other.
    let request = from_ip("GET", &"/a".repeat(1 << 19));
    assert_eq!(applied(&example(), &request), ["burst-guard", "default"]);
}

#[test]
fn secrets_are_not_shown() {
    let set = policies(
        "policies: [{ name: p, key: [api_key, ip], limit: 1/s }, { name: q, key: identity, limit: 1/s },
          { name: r, key: 'header:authorization', limit: 1/s }, { name: s, key: [user, endpoint], limit: 1/s }]",
    );
    let request =
        from_ip("GET", "/A/").with_api_key("secret-key").with_header("Authorization", "Bearer token");
    assert_eq!(set.describe_key(0, &request).unwrap(), "sec… · 203.0.113.7");
    assert_eq!(set.describe_key(1, &request).unwrap(), "sec…");
    assert_eq!(set.describe_key(2, &request).unwrap(), "Bear…");
    assert_eq!(set.describe_key(3, &request.with_user("mia")).unwrap(), "mia · GET /a");
    assert_eq!(set.describe_key(4, &Request::default()), None);
}

#[test]
fn a_tier_is_chosen_by_name_or_by_look_up_and_the_unknown_get_the_default() {
    let set = policies(
        "policies:
  - name: named
    key: global
    tiers: { from: 'attribute:plan', default: free, limits: { pro: 10/s, free: 1/s } }
  - name: looked-up
    key: global
    tiers:
      lookup: { by: api_key, values: { k1: gold, '2': gold, k3: silver } }
      default: silver
      limits: { gold: 100/s, silver: [2/s, 20/h] }",
    );
    let plan = |plan: &str| Request::new("GET", "/").with(Attribute::Custom("plan".into()), plan);
    let counts = |request: &Request| -> Vec<u64> {
        set.plan(request, NOW, None).hits().iter().map(|hit| hit.limit.capacity()).collect()
    };
    assert_eq!(counts(&plan("pro")), [10, 2, 20]);
    for unknown in
        [plan("free"), plan("Pro"), plan(" pro"), plan(""), plan("trial"), Request::new("GET", "/")]
    {
        assert_eq!(counts(&unknown), [1, 2, 20], "{unknown:?}");
    }
    assert_eq!(counts(&plan("pro").with_api_key("k1")), [10, 100]);
    assert_eq!(counts(&plan("pro").with_api_key("2")), [10, 100]);
    assert_eq!(counts(&plan("pro").with_api_key("k3")), [10, 2, 20]);
    assert_eq!(counts(&plan("pro").with_api_key("K1")), [10, 2, 20]);
}

#[test]
fn conditions_must_all_hold_and_any_of_their_values_will_do() {
    let set = policies(
        "policies:
  - name: p
    match:
      method: [get, POST]
      path: [/a/*, /b/**]
      where: { header:X-Tenant: [acme, globex, 7], query:v: true }
    key: global
    limit: 1/s
  - { name: path, match: { where: { path: //A/x/ } }, key: global, limit: 1/s }
  - { name: method, match: { where: { method: delete } }, key: global, limit: 1/s }
  - { name: host, match: { where: { host: Example.COM. } }, key: host, limit: 1/s }",
    );
    let tenant =
        |method: &str, path: &str, tenant: &str| Request::new(method, path).with_header("x-tenant", tenant);
    for (request, expected) in [
        (tenant("GET", "/a/y?v=true", "acme"), &["p"][..]),
        (tenant("POST", "/b?v=true", "globex"), &["p"]),
        (tenant("POST", "/b/c/d?v=%74rue", "7"), &["p"]),
        (tenant("PUT", "/a/y?v=true", "acme"), &[]),
        (tenant("GET", "/a/y?v=false", "acme"), &[]),
        (tenant("GET", "/a/y?v=true", "ACME"), &[]),
        (tenant("GET", "/a/y?v=true", ""), &[]),
        (tenant("GET", "/a?v=true", "acme"), &[]),
        (Request::new("GET", "/a/y?v=true"), &[]),
        (Request::new("GET", "/a/x/?v=true"), &["path"]),
        (tenant("GET", "/A/./x?v=true", "acme"), &["p", "path"]),
        (Request::new("DELETE", "/"), &["method"]),
        (Request::new("", "/").with_header("host", "EXAMPLE.com:8443"), &["host"]),
        (Request::new("", "/").with_header("host", "example.com."), &["host"]),
        (Request::new("", "/").with_header("host", "example.com.evil"), &[]),
    ] {
        assert_eq!(applied(&set, &request), expected, "{request:?}");
    }
    // One host is one key, too.
    let host = |name: &str| keys(&set, &Request::new("", "/").with_header("host", name));
    assert_eq!(host("example.com"), host("Example.Com.:80"));
}

#[test]
fn a_policy_replaces_others_where_it_applies_and_only_there() {
    let set = policies(
        "policies:
  - { name: default, key: ip, limit: 1/s }
  - { name: other, key: ip, limit: 1/s }
  - { name: keyed, match: { path: /k/** }, key: api_key, limit: 1/s, replaces: [default, other] }
  - { name: watching, match: { path: /w/** }, key: ip, limit: 1/s, replaces: default, shadow: true }
  - { name: off, match: { path: /o/** }, key: ip, limit: 1/s, replaces: default, enabled: false }
  - { name: late, match: { path: /l/** }, key: ip, limit: 1/s, replaces: default, schedule: { hours: 08:00-09:00 } }
  - { name: chain, match: { path: /k/c }, key: ip, limit: 1/s, replaces: keyed }",
    );
    for (request, expected) in [
        (from_ip("GET", "/k").with_api_key("k"), &["keyed"][..]),
        (from_ip("GET", "/k"), &["default", "other"]),
        (from_ip("GET", "/x").with_api_key("k"), &["default", "other"]),
        (from_ip("GET", "/w"), &["default", "other", "watching"]),
        (from_ip("GET", "/o"), &["default", "other"]),
        // What is replaced still replaces.
        (from_ip("GET", "/k/c").with_api_key("k"), &["chain"]),
        (from_ip("GET", "/k/c"), &["default", "other", "chain"]),
    ] {
        assert_eq!(applied(&set, &request), expected, "{request:?}");
    }
    // 1,800,000,000 is 08:00 UTC.
    let late = from_ip("GET", "/l");
    assert_eq!(applied(&set, &late), ["other", "late"]);
    let an_hour_later = Timestamp::from_secs(1_800_003_600);
    assert_eq!(names(&set.plan(&late, an_hour_later, None)), ["default", "other"]);
}

#[test]
fn a_rehearsal_of_the_whole_file_replaces_as_the_file_will() {
    let text = "policies: [{ name: default, key: ip, limit: 1/s },
        { name: login, match: { path: /login }, key: ip, limit: 1/s, replaces: default },
        { name: watching, match: { path: /watch }, key: ip, limit: 1/s, replaces: default, shadow: true }]";
    let (enforced, rehearsed) = (policies(text), policies(&format!("shadow: true\n{text}")));
    assert!(!enforced.is_shadow() && rehearsed.is_shadow());
    for path in ["/", "/login", "/watch"] {
        let request = from_ip("GET", path);
        assert_eq!(applied(&enforced, &request), applied(&rehearsed, &request), "{path}");
        assert!(rehearsed.plan(&request, NOW, None).groups().iter().all(|group| group.shadow));
    }
}

#[test]
fn a_schedule_is_kept_in_its_own_time_zone() {
    let set = policies(
        "policies:
  - { name: day, key: global, limit: 1/s, schedule: { days: [mon, fri], hours: 09:00-17:00, zone: Europe/Berlin } }
  - { name: night, key: global, limit: 1/s, schedule: { hours: 22:00-06:00 } }",
    );
    // 2027-01-15, a Friday, 08:00 UTC, is 09:00 in Berlin.
    for (hours, expected) in [
        (0, &["day"][..]),
        (7, &["day"]),
        (8, &[]),
        (14, &["night"]),
        (21, &["night"]),
        (22, &[]),
        (72, &["day"]),
        (96, &[]),
    ] {
        let at = Timestamp::from_secs(1_800_000_000 + hours * 3_600);
        assert_eq!(names(&set.plan(&Request::default(), at, None)), expected, "after {hours} hours");
    }
    for end in [Timestamp::EPOCH, Timestamp::MAX] {
        let _ = set.plan(&Request::default(), end, None);
    }
}

#[test]
fn a_cost_is_the_policys_or_the_callers() {
    let set = policies(
        "policies: [{ name: a, key: global, limit: 9/s, cost: 5 }, { name: b, key: global, limit: 9/s }]",
    );
    let costs = |cost| -> Vec<u32> {
        set.plan(&Request::default(), NOW, cost).hits().iter().map(|hit| hit.cost).collect()
    };
    assert_eq!((costs(None), costs(Some(0)), costs(Some(7))), (vec![5, 1], vec![0, 0], vec![7, 7]));
}

/// A store and policies, and a clock for both.
struct Desk {
    set: Arc<PolicySet>,
    store: MemoryStore<ManualClock>,
    clock: ManualClock,
}

impl Desk {
    fn new(set: PolicySet) -> Self {
        let clock = ManualClock::new(NOW);
        Self {
            set: Arc::new(set),
            store: MemoryStore::with_clock(clock.clone(), MemoryOptions::default()),
            clock,
        }
    }

    fn ask(&self, request: &Request) -> Verdict {
        let plan = self.set.plan(request, self.clock.now(), None);
        let answer = self.store.acquire(&plan.groups());
        plan.verdict(&self.set, answer)
    }
}

fn deciding(verdict: &Verdict) -> &str {
    verdict.deciding().map_or("nobody", |policy| policy.policy.name())
}

#[test]
fn the_most_restrictive_policy_is_named() {
    let desk = Desk::new(policies(
        "policies:
  - { name: wide, key: global, limit: 100/hour }
  - { name: narrow, key: ip, algorithm: fixed_window, limit: 3/minute }
  - { name: narrowest, match: { path: /x }, key: ip, algorithm: fixed_window, limit: 2/hour }
  - { name: watching, key: ip, limit: 1/day, shadow: true }",
    ));
    let request = from_ip("GET", "/");
    for remaining in [2, 1, 0] {
        let verdict = desk.ask(&request);
        assert!(verdict.is_allowed());
        let policy = verdict.deciding().unwrap();
        assert_eq!((policy.policy.name(), policy.limit(), policy.remaining()), ("narrow", 3, remaining));
    }
    let denied = desk.ask(&request);
    assert!(!denied.is_allowed());
    assert_eq!(deciding(&denied), "narrow");
    assert_eq!(denied.retry_after(), Retry::After(tollgate_core::Nanos::from_secs(60)));
    assert_eq!(denied.taken().count(), 0);
    // The shadow tells what it would have done, and decides nothing.
    let watching = denied.policies().find(|policy| policy.shadow).unwrap();
    assert!(!watching.admitted && watching.policy.name() == "watching");

    // A minute later the address may again, until a policy denies it for longer.
    desk.clock.advance(Duration::from_mins(1));
    let other = from_ip("GET", "/x");
    assert_eq!(deciding(&desk.ask(&other)), "narrowest");
    assert!(desk.ask(&other).is_allowed());
    assert_eq!(deciding(&desk.ask(&other)), "narrowest");
    assert_eq!(deciding(&desk.ask(&request)), "narrow");
    let both = desk.ask(&other);
    assert_eq!(deciding(&both), "narrowest");
    assert!(both.retry_after() > Retry::After(tollgate_core::Nanos::from_secs(60)));
}

#[test]
fn among_equals_the_highest_priority_is_named_and_then_the_first() {
    let set = |first: i32, second: i32| {
        Desk::new(policies(&format!(
            "policies: [{{ name: a, key: ip, limit: 2/h, priority: {first} }},
                        {{ name: b, key: ip, limit: 2/h, priority: {second} }}]"
        )))
    };
    let request = from_ip("GET", "/");
    for (first, second, expected) in [(0, 1, "b"), (1, 0, "a"), (1, 1, "a"), (-5, -6, "a")] {
        let desk = set(first, second);
        for _ in 0..4 {
            assert_eq!(deciding(&desk.ask(&request)), expected, "{first} and {second}");
        }
    }
    // The scopes' customary order: API key, user, endpoint, global.
    let text: String = ["global", "endpoint", "user", "api_key"]
        .iter()
        .map(|key| format!("  - {{ name: {key}, key: {key}, limit: 2/h }}\n"))
        .collect();
    let desk = Desk::new(policies(&format!("policies:\n{text}")));
    assert_eq!(deciding(&desk.ask(&request)), "endpoint");
    assert_eq!(
        deciding(&Desk::new(policies(&format!("policies:\n{text}"))).ask(&request.clone().with_user("u"))),
        "user"
    );
    let all = request.with_user("u").with_api_key("k");
    assert_eq!(deciding(&Desk::new(policies(&format!("policies:\n{text}"))).ask(&all)), "api_key");
}

#[test]
fn a_denied_request_costs_no_policy_anything_and_nobody_decides_about_nothing() {
    let desk = Desk::new(policies(
        "policies: [{ name: none, match: { path: /no }, key: global, limit: 0/s }, { name: some, key: global, limit: 2/h }]",
    ));
    for _ in 0..5 {
        let denied = desk.ask(&from_ip("GET", "/no"));
        assert_eq!((denied.is_allowed(), deciding(&denied)), (false, "none"));
        assert_eq!(denied.retry_after(), Retry::Never);
    }
    let allowed = desk.ask(&from_ip("GET", "/"));
    assert_eq!(allowed.deciding().unwrap().remaining(), 1);

    let desk = Desk::new(policies("policies: []"));
    let verdict = desk.ask(&from_ip("GET", "/"));
    assert_eq!((verdict.is_allowed(), deciding(&verdict)), (true, "nobody"));
}

#[test]
fn several_limits_decide_by_their_rule() {
    for (rule, passes) in [("all", 1), ("majority", 2), ("any", 4)] {
        let desk = Desk::new(policies(&format!(
            "policies: [{{ name: p, key: global, combine: {rule}, limits: [1/h, 2/h, {{ name: last, limit: 4/h }}] }}]"
        )));
        let passed = (0..10).take_while(|_| desk.ask(&Request::default()).is_allowed()).count();
        assert_eq!(passed, passes, "{rule}");
    }
}

#[test]
fn ten_thousand_paths_each_find_their_own_policy() {
    let rules: String = (0..10_000)
        .map(|index| match index % 4 {
            0 => format!("  - {{ name: p{index}, match: {{ path: /api/r{index} }}, key: ip, limit: 1/s }}\n"),
            1 => format!("  - {{ name: p{index}, match: {{ path: /api/r{index}/** }}, key: ip, limit: 1/s }}\n"),
            2 => format!("  - {{ name: p{index}, match: {{ path: '/api/r{index}/{{id}}' }}, key: ip, limit: 1/s }}\n"),
            _ => format!(
                "  - {{ name: p{index}, match: {{ method: [PUT], path: [/v1/r{index}, /v2/r{index}] }}, key: ip, limit: 1/s }}\n"
            ),
        })
        .collect();
    let set = policies(&format!(
        "policies:\n{rules}  - {{ name: last, match: {{ path: /api/** }}, key: ip, limit: 1/s }}\n"
    ));
    assert_eq!(set.policies().len(), 10_001);
    for index in 0..10_000 {
        let own = format!("p{index}");
        let expected = |here: bool| if here { vec![own.as_str(), "last"] } else { vec!["last"] };
        assert_eq!(applied(&set, &from_ip("GET", &format!("/api/r{index}"))), expected(index % 4 < 2));
        assert_eq!(
            applied(&set, &from_ip("GET", &format!("/api/r{index}/7"))),
            expected(index % 4 == 1 || index % 4 == 2)
        );
        let versioned = from_ip("PUT", &format!("/v2/r{index}"));
        assert_eq!(applied(&set, &versioned), if index % 4 == 3 { vec![own.as_str()] } else { vec![] });
        assert_eq!(set.index_of(&own), Some(index));
    }
}

#[test]
fn ten_thousand_values_each_find_their_own_policy() {
    let rules: String = (0..10_000)
        .map(|index| {
            let extra = if index % 2 == 0 { ", header:x-env: [live, test]" } else { "" };
            format!(
                "  - {{ name: p{index}, match: {{ path: /api/**, where: {{ 'header:x-tenant': [t{index}, u{index}]{extra} }} }}, key: ip, limit: 1/s }}\n"
            )
        })
        .collect();
    let set = policies(&format!("policies:\n{rules}"));
    let tenant = |name: String| from_ip("GET", "/api/x").with_header("x-tenant", name);
    for index in 0..10_000 {
        let own = format!("p{index}");
        for spelling in ["t", "u"] {
            let request = tenant(format!("{spelling}{index}"));
            let live = request.clone().with_header("X-Env", "live");
            assert_eq!(applied(&set, &live), [own.as_str()]);
            assert_eq!(applied(&set, &request), if index % 2 == 0 { vec![] } else { vec![own.as_str()] });
        }
    }
    assert_eq!(applied(&set, &tenant("t10000".to_owned())), [""; 0]);
    assert_eq!(applied(&set, &from_ip("GET", "/api/x")), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn any_request_is_matched(
        method in ".{0,8}",
        path in ".{0,60}",
        value in prop::collection::vec(any::<u8>(), 0..40),
        address in any::<u128>(),
        now in any::<u64>(),
    ) {
        let set = example();
        let request = Request::new(method, path)
            .with_ip(std::net::Ipv6Addr::from_bits(address).into())
            .with_header("x-api-key", String::from_utf8_lossy(&value))
            .with_header("cookie", String::from_utf8_lossy(&value));
        let plan = set.plan(&request, Timestamp::from_nanos(now), None);
        prop_assert!(names(&plan).contains(&"burst-guard"));
        prop_assert_eq!(plan.groups().len(), plan.policies().count());
        for index in 0..set.policies().len() {
            let _ = set.describe_key(index, &request);
        }
        let _ = set.plan(&Raw(value), Timestamp::from_nanos(now), Some(u32::MAX));
    }

    #[test]
    fn any_spelling_of_the_login_path_is_limited(
        pieces in prop::collection::vec(0..9_u8, 0..12),
        capitals in any::<u32>(),
        escapes in any::<u32>(),
    ) {
        // Harmless pieces between the segments, and letters in capitals or escaped.
        let harmless = |piece: u8| ["/", "/.", "/./", "//", "/x/..", "\\", "%2f", "/%2e", "/y/%2E%2e"][usize::from(piece)];
        let mut path = String::new();
        for (index, segment) in ["api", "auth", "login"].iter().enumerate() {
            path.extend(pieces.iter().skip(index * 4).take(4).map(|piece| harmless(*piece)));
            path.push('/');
            for (letter, byte) in segment.bytes().enumerate() {
                let bit = 1 << (index * 5 + letter);
                let byte = if capitals & bit == 0 { byte } else { byte.to_ascii_uppercase() };
                if escapes & bit == 0 {
                    path.push(char::from(byte));
                } else {
                    write!(path, "%{byte:02x}").unwrap();
                }
            }
        }
        let set = example();
        prop_assert!(applied(&set, &from_ip("POST", &path)).contains(&"login"), "{}", path);
    }
}

#[test]
fn lists_admit_and_deny_by_network_value_and_pattern() {
    let desk = Desk::new(policies(
        "
policies:
  - name: monitoring
    match: { ip: [10.0.0.0/8, 2001:db8:1::/48, 192.0.2.1] }
    key: global
    limit: unlimited
    replaces: '*'
  - { name: trusted-too, match: { where: { api_key: [k-1] } }, key: global, limit: unlimited, replaces: '*' }
  - { name: blocked, match: { ip: 203.0.113.0/24 }, key: global, limit: 0/minute }
  - name: scrapers
    match: { where: { header:user-agent: { like: ['*Scrapy*', 'curl/*'] }, method: GET } }
    key: ip
    limit: 1/minute
  - { name: default, key: ip, limit: 1000/hour }
",
    ));
    let from = |ip: &str| Request::new("GET", "/").with_ip(ip.parse().unwrap());
    let agent = |agent: &str| from("198.51.100.1").with_header("user-agent", agent);
    for (request, policies) in [
        (from("10.1.2.3"), vec!["monitoring"]),
        (from("::ffff:10.1.2.3"), vec!["monitoring"]),
        (from("2001:db8:1:2::3"), vec!["monitoring"]),
        (from("192.0.2.1"), vec!["monitoring"]),
        (from("10.1.2.3").with_api_key("k-1"), vec!["monitoring", "trusted-too"]),
        (from("192.0.2.2"), vec!["default"]),
        (from("203.0.113.77"), vec!["blocked", "default"]),
        (from("203.0.113.77").with_api_key("k-1"), vec!["trusted-too"]),
        (agent("My-SCRAPY/1"), vec!["scrapers", "default"]),
        (agent("curl/8"), vec!["scrapers", "default"]),
        (agent("a curl/8"), vec!["default"]),
        (agent(&"x".repeat(1 << 20)), vec!["default"]),
        // Without an address no network holds it.
        (Request::default(), vec![]),
    ] {
        let plan = desk.set.plan(&request, NOW, None);
        let names: Vec<&str> = plan.policies().map(Policy::name).collect();
        assert_eq!(names, policies, "{}", request.path());
    }
    assert!(!desk.ask(&from("203.0.113.77")).is_allowed());
    assert!(desk.ask(&from("203.0.113.77").with_api_key("k-1")).is_allowed());
}

#[test]
fn wrong_lists_are_told_of() {
    for (policy, says) in [
        ("match: { ip: [10.0.0.0/33] }", "not an address or a network"),
        ("match: { ip: { a: b } }", ""),
        ("match: { where: { user: { like: [] , unlike: x } } }", "unknown setting `unlike`"),
        ("match: { where: { user: {} } }", "there are no patterns"),
        ("replaces: b", "replaces all others"),
    ] {
        let text = format!(
            "policies: [{{ name: a, key: ip, limit: 1/minute, {policy} }}, {{ name: b, key: ip, limit: 1/minute, replaces: '*' }}]"
        );
        let problems = Config::parse("test", &text, Format::Yaml, &[]).unwrap_err().to_string();
        assert!(problems.contains(says), "{problems}");
    }
}

#[test]
fn a_single_limit_asks_what_its_plan_asks() {
    let requests = [
        from_ip("GET", "/a"),
        from_ip("POST", "/a//b?x=1").with_api_key("k"),
        Request::new("GET", "/"),
        Request::new("GET", "/").with_ip(ip("2001:db8::7")).with_header("x-tenant", "acme"),
    ];
    for policy in [
        "key: ip, limit: 5/minute",
        "key: [identity, path], limit: 5/minute, cost: 3, shadow: true",
        "key: 'header:x-tenant | api_key', limit: 5/minute",
        "key: ip, tiers: { from: 'header:x-tenant', default: free, limits: { free: 1/minute, acme: 2/minute } }",
        "key: ip, limit: 5/minute, match: { ip: '2001:db8::/32' }",
    ] {
        let set = policies(&format!("policies: [{{ name: a, {policy} }}]"));
        for request in &requests {
            for cost in [None, Some(7)] {
                let plan = set.plan(request, NOW, cost);
                let planned = plan.hits().iter().map(|hit| (hit.id, hit.key, *hit.limit, hit.cost));
                let single = set.single(request, NOW, cost);
                let hit = single.map(|single| *single.hit());
                let hit =
                    hit.map(|hit| (hit.id, tollgate_core::HashedKey::hash(&hit.key), *hit.limit, hit.cost));
                assert_eq!(hit.into_iter().collect::<Vec<_>>(), planned.collect::<Vec<_>>(), "{policy}");
            }
        }
    }
    // Where there is more to decide there is no short way.
    for several in [
        "policies: [{ name: a, key: ip, limits: [5/minute, 9/hour] }]",
        "policies: [{ name: a, key: ip, limit: 5/minute }, { name: b, key: ip, limit: 5/minute }]",
        "policies: [{ name: a, key: ip, limit: 5/minute, match: { path: /a } }]",
    ] {
        assert!(policies(several).single(&requests[0], NOW, None).is_none(), "{several}");
    }
}

#[cfg(feature = "expressions")]
#[test]
fn expressions_match_count_and_cost() {
    let set = policies(
        "policies:
  - name: long
    match: { when: 'int(query[\"months\"]) > 12' }
    key: 'expression: header[\"x-tenant\"]'
    cost: 'int(query[\"months\"]) / 12'
    limit: 100/hour
",
    );
    let ask = |path: &str, tenant: Option<&str>| {
        let request = Request::new("GET", path);
        let request = match tenant {
            Some(tenant) => request.with_header("x-tenant", tenant),
            None => request,
        };
        let plan = set.plan(&request, NOW, None);
        plan.hits().first().map(|hit| (hit.key, hit.cost))
    };
    assert_eq!(ask("/?months=36", Some("acme")).unwrap().1, 3);
    assert_eq!(ask("/?months=36", Some("acme")).unwrap().0, ask("/?months=24", Some("acme")).unwrap().0);
    assert_ne!(ask("/?months=36", Some("acme")).unwrap().0, ask("/?months=36", Some("other")).unwrap().0);
    for (path, tenant) in
        [("/?months=12", Some("acme")), ("/?months=a", Some("acme")), ("/", Some("a")), ("/?months=36", None)]
    {
        assert_eq!(ask(path, tenant), None, "{path}");
    }
    let request = Request::new("GET", "/?months=36").with_header("x-tenant", "acme");
    assert_eq!(set.describe_key(0, &request).as_deref(), Some("acme"));
}

/// A host is one, however a client spells it: in expressions as in conditions.
#[cfg(feature = "expressions")]
#[test]
fn expressions_see_hosts_as_conditions_do() {
    let set = policies(
        "policies:
  - { name: condition, match: { where: { host: shop.example } }, key: global, limit: 5/hour }
  - { name: expression, match: { when: 'host == \"shop.example\"' }, key: global, limit: 5/hour }
",
    );
    for host in ["shop.example", "SHOP.example:8443", "shop.example."] {
        let request = Request::new("GET", "/").with_header("host", host);
        assert_eq!(set.plan(&request, NOW, None).policies().count(), 2, "{host}");
    }
    let other = Request::new("GET", "/").with_header("host", "shop.example.org");
    assert_eq!(set.plan(&other, NOW, None).policies().count(), 0);
}
