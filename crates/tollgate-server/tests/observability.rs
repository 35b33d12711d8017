//! What the server tells of itself: metrics, and the alerts and the dashboard that go by them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{Reply, Server, root, stderr, stdout};
use serde_json::{Value, json};
use servers::Redis;

const RULES: &str = "domain: edge
descriptors:
  - key: generic_key
    value: login
    rate_limit: { unit: day, requests_per_unit: 5 }
  - key: route
    value_to_metric: true
    descriptors:
      - key: user
        rate_limit: { unit: day, requests_per_unit: 100 }
      - key: tenant
        detailed_metric: true
        rate_limit: { unit: day, requests_per_unit: 100 }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: day, requests_per_unit: 1 }
";

fn deployed(file: &str) -> PathBuf {
    root().join("deploy").join(file)
}

/// Prometheus's own judge.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(deployed("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("promtool is missing ({error}): run `sudo apt-get install --yes --no-install-recommends prometheus`")
    });
    // One that does not read to the end has said why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn judged(arguments: &[&str], input: &str) {
    let output = promtool(arguments, input);
    // It also succeeds where it has found something to say.
    let said = stderr(&output);
    assert!(output.status.success() && said.is_empty(), "{}{said}\n{input}", stdout(&output));
}

const SERVICES: &str = "
policies: [{ name: searches, key: user, limit: 100/minute, adaptive: search }]
health: { search: { store: degraded } }
concurrency: { search: { limit: vegas } }
";

fn with_rules(more: &[&str]) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    std::fs::write(&file, RULES).unwrap();
    (Server::start(&[&["--policy", file.to_str().unwrap()], more].concat()), directory)
}

/// Asks for descriptors, each of some entries.
fn hit(server: &Server, hits: u32, descriptors: &[&[(&str, &str)]]) -> u16 {
    let entry = |(key, value): &(&str, &str)| json!({ "key": key, "value": value });
    let descriptor =
        |entries: &&[(&str, &str)]| json!({ "entries": entries.iter().map(entry).collect::<Value>() });
    let descriptors: Value = descriptors.iter().map(descriptor).collect();
    let request = json!({ "domain": "edge", "descriptors": descriptors, "hitsAddend": hits });
    server.post("/json", &request.to_string()).status
}

/// What Prometheus reads, in the newer format.
fn open_metrics(server: &Server) -> Reply {
    let request = ureq::get(format!("{}/metrics", server.url));
    Reply::of(request.header("accept", "application/openmetrics-text; version=1.0.0").call().unwrap())
}

/// A server of each kind, of which every metric has been used, and what they tell.
fn scrapes() -> [String; 2] {
    let redis = Redis::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.yaml");
    std::fs::write(&file, SERVICES).unwrap();
    let (file, url) = (file.to_str().unwrap(), redis.url());
    let shared = Server::start(&["--policy", file, "--store", &url, "--store-deadline", "1s"]);
    assert_eq!(shared.post("/v1/check", r#"{"user":"anna","path":"/search"}"#).status, 200);
    let data = tempfile::tempdir().unwrap();
    let (local, _directory) = with_rules(&["--data-dir", data.path().to_str().unwrap()]);
    assert_eq!(hit(&local, 1, &[&[("generic_key", "login")]]), 200);
    [&shared, &local].map(|server| server.get("/metrics").body)
}

/// The names of samples.
fn names(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[test]
fn prometheus_finds_nothing_wrong_with_the_metrics() {
    for scrape in scrapes() {
        judged(&["check", "metrics"], &scrape);
    }
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let server = Server::start(&[]);
    let (older, newer) = (server.get("/metrics"), open_metrics(&server));
    assert_eq!(older.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(
        newer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(older.body.contains("# TYPE rate_limiter_requests_total counter"), "{}", older.body);
    assert!(!older.body.contains("# EOF"));
    assert!(newer.body.contains("# TYPE rate_limiter_requests counter"), "{}", newer.body);
    assert!(newer.body.ends_with("# EOF\n"));
    assert_eq!(names(&older.body), names(&newer.body));
}

#[test]
fn each_metric_has_exactly_its_labels() {
    let [shared, _] = scrapes();
    for (name, labels) in [
        ("rate_limiter_requests_total", &["backend", "result"][..]),
        ("rate_limiter_request_duration_seconds_count", &["backend"]),
        ("rate_limiter_redis_available", &["instance"]),
        ("rate_limiter_store_available", &["instance"]),
        ("rate_limiter_consecutive_failures", &["instance"]),
        ("rate_limiter_policy_hits_total", &["policy"]),
        ("rate_limiter_policy_denied_total", &["policy"]),
        ("rate_limiter_active_policies", &["instance"]),
        ("rate_limiter_breaker_state", &["instance", "state"]),
        ("rate_limiter_service_level", &["service"]),
        ("rate_limiter_concurrency_limit", &["service"]),
        ("rate_limiter_connections", &["face"]),
        ("rate_limiter_build_info", &["arch", "os", "version"]),
        ("process_resident_memory_bytes", &[]),
    ] {
        let samples: Vec<&str> =
            shared.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).collect();
        assert!(!samples.is_empty(), "{name}\n{shared}");
        for sample in samples {
            let within = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let mut found: Vec<&str> =
                within.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
            found.sort_unstable();
            assert_eq!(found, labels, "{sample}");
        }
    }
    let value = |name: &str| -> f64 {
        let line = shared.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 5.0 && value("process_open_fds") < value("process_max_fds"));
    assert!(value("process_start_time_seconds") > 1.6e9 && value("process_cpu_seconds_total") > 0.0);
    for line in [
        r#"rate_limiter_breaker_state{instance="redis",state="closed"} 1"#,
        r#"rate_limiter_breaker_state{instance="redis",state="open"} 0"#,
        r#"rate_limiter_redis_available{instance="redis"} 1"#,
        r#"rate_limiter_store_available{instance="redis"} 1"#,
    ] {
        assert!(shared.lines().any(|shown| shown == line), "{line}\n{shared}");
    }
}

#[test]
fn connections_are_counted_until_they_end() {
    let server = Server::start(&[]);
    let open = |face: &str| -> u64 {
        let name = format!("rate_limiter_connections{{face=\"{face}\"}} ");
        let scrape = server.get("/metrics").body;
        scrape.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    };
    let until = |face: &str, count: u64| {
        common::until(&format!("{count} by {face}"), || open(face) == count);
    };
    // The one that asks for metrics is among them.
    let before = open("http");
    let idle: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    until("http", before + 3);
    drop(idle);
    until("http", before);
    let redis = [0; 2].map(|_| TcpStream::connect(server.resp()).unwrap());
    let grpc = TcpStream::connect(server.grpc().trim_start_matches("http://")).unwrap();
    until("resp", 2);
    until("grpc", 1);
    drop((redis, grpc));
    until("resp", 0);
    until("grpc", 0);
    let accepted = r#"rate_limiter_connections_accepted_total{face="resp"} 2"#;
    assert!(server.get("/metrics").body.contains(accepted));
}

#[test]
fn rules_for_descriptors_are_counted_by_the_names_of_others() {
    let (server, _directory) = with_rules(&[]);
    let login: &[(&str, &str)] = &[("generic_key", "login")];
    assert_eq!(hit(&server, 3, &[login]), 200);
    assert_eq!(hit(&server, 2, &[login]), 200);
    assert_eq!(hit(&server, 1, &[login]), 429);
    assert_eq!(
        hit(&server, 1, &[&[("route", "api"), ("user", "anna")], &[("route", "api"), ("tenant", "acme")]]),
        200
    );
    assert_eq!(hit(&server, 2, &[&[("watched", "x")]]), 200);
    // Nothing is known of it.
    assert_eq!(hit(&server, 1, &[&[("other", "x")]]), 200);
    let scrape = server.get("/metrics").body;
    let count = |name: &str, labels: &str| -> Option<u64> {
        let name = format!("ratelimit_service_rate_limit_{name}{{domain=\"edge\",{labels}}} ");
        scrape.lines().find_map(|line| line.strip_prefix(&name)).map(|value| value.parse().unwrap())
    };
    let counts = |labels: &str| {
        ["total_hits", "within_limit", "near_limit", "over_limit", "shadow_mode"]
            .map(|name| count(name, labels).unwrap())
    };
    assert_eq!(counts("key1=\"generic_key_login\""), [6, 5, 1, 1, 0]);
    assert_eq!(counts("key1=\"route_api\",key2=\"user\""), [1, 1, 0, 0, 0]);
    assert_eq!(counts("key1=\"route_api\",key2=\"tenant_acme\""), [1, 1, 0, 0, 0]);
    // One of the two would have fitted.
    assert_eq!(counts("key1=\"watched\""), [2, 0, 1, 1, 2]);
    assert!(!scrape.contains("other_x"), "{scrape}");
    // Where there are no such rules, there are no such names.
    assert!(!Server::start(&[]).get("/metrics").body.contains("ratelimit_service"));
}

#[test]
fn what_clients_send_does_not_make_endless_series() {
    let (server, _directory) = with_rules(&[]);
    for number in 0..15 {
        let tenants: Vec<String> = (0..100).map(|one| format!("t{number}-{one}\"\n{{")).collect();
        let entries: Vec<[(&str, &str); 2]> =
            tenants.iter().map(|tenant| [("route", "a"), ("tenant", tenant)]).collect();
        let descriptors: Vec<&[(&str, &str)]> = entries.iter().map(|entries| &entries[..]).collect();
        assert_eq!(hit(&server, 1, &descriptors), 200);
    }
    let scrape = server.get("/metrics").body;
    let hits = || scrape.lines().filter(|line| line.starts_with("ratelimit_service_rate_limit_total_hits{"));
    assert_eq!(hits().count(), 1_000);
    assert!(hits().any(|line| line.ends_with(r#"{domain="other",key1="other"} 501"#)), "{scrape}");
    judged(&["check", "metrics"], &scrape);
}

#[test]
fn alerts_do_what_their_tests_say() {
    judged(&["check", "rules", "--lint=all", "--lint-fatal", "tollgate.rules.yaml"], "");
    judged(&["test", "rules", "tollgate.rules.test.yaml"], "");
}

/// The metrics that an expression or a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words =
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    let is_metric = |word: &&str| {
        let prefixes = ["rate_limiter_", "process_", "ratelimit_service_"];
        prefixes.iter().any(|prefix| word.starts_with(prefix)) && !word.ends_with('_')
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

/// All names that there are.
fn known() -> BTreeSet<String> {
    scrapes().iter().flat_map(|scrape| names(scrape)).collect()
}

#[test]
fn alerts_and_the_dashboard_go_by_metrics_that_there_are() {
    let known = known();
    let rules = std::fs::read_to_string(deployed("prometheus/tollgate.rules.yaml")).unwrap();
    // Recorded names have colons, and are made in the same file.
    let recorded: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    for name in named(&rules) {
        assert!(known.contains(&name), "the rules name {name}, which there is not");
    }
    assert!(recorded.iter().all(|name| name.contains(':')));

    let text = std::fs::read_to_string(deployed("grafana/tollgate.json")).unwrap();
    for name in named(&text) {
        assert!(known.contains(&name), "the dashboard names {name}, which there is not");
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_can_load() {
    let text = std::fs::read_to_string(deployed("grafana/tollgate.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&dashboard["uid"], &dashboard["title"], &dashboard["id"]),
        (&json!("tollgate"), &json!("Tollgate"), &json!(null))
    );
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: BTreeSet<&str> =
        variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(variables, BTreeSet::from(["datasource", "instance", "job", "policy"]));

    let (mut ids, mut expressions) = (BTreeSet::new(), Vec::new());
    let mut places: Vec<(String, [u64; 4])> = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its number is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(x + w <= 24, "{title}");
        for (other, [ox, oy, ow, oh]) in &places {
            assert!(
                x + w <= *ox || ox + ow <= x || y + h <= *oy || oy + oh <= y,
                "{title} lies over {other}"
            );
        }
        places.push((title.to_owned(), [x, y, w, h]));
        let kind = panel["type"].as_str().unwrap();
        assert!(["row", "stat", "timeseries", "table"].contains(&kind), "{title}");
        if kind == "row" {
            continue;
        }
        assert_eq!(panel["datasource"], json!({ "type": "prometheus", "uid": "${datasource}" }), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title}");
        let mut references = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(references.insert(target["refId"].as_str().unwrap()), "{title}");
            expressions.push(target["expr"].as_str().unwrap());
        }
    }
    expressions.extend(
        dashboard["annotations"]["list"].as_array().unwrap().iter().filter_map(|one| one["expr"].as_str()),
    );
    assert!(expressions.len() > 30);
    // Prometheus reads them, with something in place of Grafana's variables.
    let rule = |(number, expression): (usize, &&str)| {
        let expression = expression.replace("$__rate_interval", "1m");
        let expression =
            ["$job", "$instance", "$policy"].iter().fold(expression, |text, name| text.replace(name, "x"));
        json!({ "record": format!("expression:{number}"), "expr": expression })
    };
    let rules: Vec<Value> = expressions.iter().enumerate().map(rule).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.json");
    std::fs::write(&file, json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string())
        .unwrap();
    judged(&["check", "rules", file.to_str().unwrap()], "");
}

#[test]
fn the_page_about_metrics_names_all_that_there_are_and_no_others() {
    let page = std::fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let of_histograms = ["_bucket", "_count", "_sum"];
    let told = named(&page);
    let there: BTreeSet<String> = known()
        .into_iter()
        .map(|name| of_histograms.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name).to_owned())
        .collect();
    assert_eq!(told, there);
    let rules = std::fs::read_to_string(deployed("prometheus/tollgate.rules.yaml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("| `{alert}` |")), "{alert}");
    }
}
