//! `tollgate import`: what is made of other files, and that it decides alike.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Server, run, stderr, stdout};
use serde_json::{Value, json};

const RULES: &str = "domain: edge
descriptors:
  - key: tenant
    rate_limit: { unit: year, requests_per_unit: 5 }
    descriptors:
      - { key: user, rate_limit: { unit: year, requests_per_unit: 2 } }
  - key: tenant
    value: acme
    descriptors:
      - { key: user, value: 'admin*', rate_limit: { unit: year, requests_per_unit: 3 } }
  - { key: tenant, value: 'free*', share_threshold: true, rate_limit: { unit: year, requests_per_unit: 3 } }
  - { key: tenant, value: freedom, rate_limit: { unlimited: true } }
  - { key: closed, rate_limit: { unit: second, requests_per_unit: 0 } }
  - { key: watched, shadow_mode: true, rate_limit: { unit: year, requests_per_unit: 1 } }
";

const LIMITS: &str = r#"
- namespace: edge
  max_value: 3
  seconds: 31536000
  conditions: ["descriptors[0].method == 'GET'", "descriptors[0]['path'].startsWith('/a')"]
  variables: ["descriptors[0].user"]
- { namespace: edge, max_value: 0, seconds: 1, conditions: ['descriptors[0].closed == "yes"'], variables: [] }
- { namespace: edge, max_value: 4, seconds: 31536000, conditions: [], variables: ["descriptors[0]['tenant']"] }
"#;

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start(policy: &str) -> Server {
    Server::start(&["--policy", policy, "--grpc", "off"])
}

/// What a server says of requests with one descriptor each.
fn decided(server: &Server, requests: &[Value]) -> Vec<String> {
    let overall = |request: &Value| {
        let body = json!({ "domain": "edge", "descriptors": [request] }).to_string();
        server.post("/json", &body).json()["overallCode"].as_str().unwrap().to_owned()
    };
    requests.iter().map(overall).collect()
}

fn descriptor(entries: &[(&str, &str)]) -> Value {
    let entry = |(key, value): &(&str, &str)| json!({ "key": key, "value": value });
    json!({ "entries": entries.iter().map(entry).collect::<Vec<_>>() })
}

/// Asks a server by the original and one by what was imported the same, and demands the same answers.
fn decide_alike(original: &str, imported: &str, requests: &[Value]) {
    let (original, imported) = (start(original), start(imported));
    let (one, other) = (decided(&original, requests), decided(&imported, requests));
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(one[index], other[index], "request {index}: {request}");
    }
    assert!(one.contains(&"OK".to_owned()) && one.contains(&"OVER_LIMIT".to_owned()));
}

fn import(arguments: &[&str]) -> String {
    let output = run(&[&["import"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn rules_for_descriptors_decide_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (file, made) = (written(dir.path(), "rules.yaml", RULES), dir.path().join("policy.yaml"));
    let made = made.to_str().unwrap();
    assert_eq!(import(&[&file, "--output", made]), "");
    assert!(
        stdout(&run(&["validate", made])).contains("fine (10 policies"),
        "{}",
        stdout(&run(&["validate", made]))
    );
    let mut requests = Vec::new();
    for _ in 0..6 {
        for tenant in ["acme", "free1", "free2", "freedom", "other"] {
            requests.push(descriptor(&[("tenant", tenant)]));
            for user in ["anna", "admin-1", "admin-2"] {
                requests.push(descriptor(&[("tenant", tenant), ("user", user)]));
            }
        }
        requests.push(descriptor(&[("closed", "x")]));
        requests.push(descriptor(&[("watched", "x")]));
        requests.push(descriptor(&[("user", "anna")]));
    }
    decide_alike(&file, made, &requests);
}

#[test]
fn limits_of_limitador_decide_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (file, made) = (written(dir.path(), "limits.yaml", LIMITS), dir.path().join("policy.yaml"));
    let made = made.to_str().unwrap();
    assert_eq!(import(&[&file, "-o", made]), "");
    assert!(stdout(&run(&["validate", made])).contains("fine (3 policies, 3 limits)"));
    let mut requests = Vec::new();
    for _ in 0..6 {
        for (method, path) in [("GET", "/a/b"), ("GET", "/b"), ("POST", "/a/b")] {
            for user in ["anna", "bob"] {
                requests.push(descriptor(&[("method", method), ("path", path), ("user", user)]));
                let tenant = [("method", method), ("path", path), ("user", user), ("tenant", "acme")];
                requests.push(descriptor(&tenant));
            }
        }
        requests.push(descriptor(&[("closed", "yes")]));
        requests.push(descriptor(&[("closed", "no"), ("tenant", "other")]));
    }
    decide_alike(&file, made, &requests);
    // The attributes of /v1/check are the same.
    let server = start(made);
    let body = json!({ "attributes": { "domain": "edge", "closed": "yes" } }).to_string();
    assert_eq!(server.post("/v1/check", &body).status, 429);
}

#[test]
fn what_cannot_be_said_is_told_twice() {
    let dir = tempfile::tempdir().unwrap();
    let limits = format!(
        "{LIMITS}\n- {{ namespace: edge, max_value: 4, seconds: 9, variables: ['descriptors[1].x'] }}"
    );
    let files = [
        written(dir.path(), "limits.yaml", &limits),
        written(
            dir.path(),
            "rules.yaml",
            &RULES.replace("unlimited: true", "unlimited: true, replaces: [{ name: x }]"),
        ),
    ];
    let output = run(&["import", &files[0], &files[1]]);
    assert!(output.status.success());
    let (text, warnings) = (stdout(&output), stderr(&output));
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
    for message in [
        "limits.yaml:10:3: not imported: `descriptors[1].x`: it looks at descriptor 1",
        "edge.tenant_freedom: replaces: descriptors of one request do not know each other here",
    ] {
        assert!(warnings.contains(message), "{warnings}");
    }
    assert!(
        text.contains("limits.yaml:10:3: not imported") && text.contains("# Look at this: replaces:"),
        "{text}"
    );
    let made = written(dir.path(), "policy.yaml", &text);
    assert!(stdout(&run(&["validate", &made])).contains("fine (13 policies"), "{text}");
}

#[test]
fn rules_of_one_domain_may_be_merged() {
    let dir = tempfile::tempdir().unwrap();
    let more = "domain: edge\ndescriptors: [{ key: more, rate_limit: { unit: year, requests_per_unit: 1 } }]";
    let files = [written(dir.path(), "a.yaml", RULES), written(dir.path(), "b.yaml", more)];
    let output = run(&["import", "--merge-domains", "--from", "envoy", &files[0], &files[1]]);
    assert!(output.status.success(), "{}", stderr(&output));
    let made = written(dir.path(), "policy.yaml", &stdout(&output));
    assert!(stdout(&run(&["validate", &made])).contains("fine (11 policies"));
    // Also the rules of the one file stand back where an entry leads on in the other.
    let server = start(&made);
    let both = vec![descriptor(&[("more", "x"), ("tenant", "y")]); 9];
    assert!(decided(&server, &both).iter().all(|code| code == "OK"));
    let one = vec![descriptor(&[("more", "x")]); 2];
    assert_eq!(decided(&server, &one), ["OK", "OVER_LIMIT"]);
}

#[test]
fn what_is_no_such_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| written(dir.path(), name, text);
    let fine = at("fine.yaml", LIMITS);
    let ours = at("ours.yaml", "policies: []");
    let toml = at("ours.toml", "[[policies]]");
    let strange = at("strange.yaml", "hello: [");
    let wrong = at("wrong.yaml", &LIMITS.replace("seconds: 1,", "seconds: 0,"));
    let twice = at("twice.yaml", RULES);
    for (arguments, message) in [
        (&[ours.as_str()][..], "ours.yaml is a policy file of Tollgate's already"),
        (&[toml.as_str()], "ours.toml is a policy file of Tollgate's already"),
        (&[ours.as_str(), "--from", "envoy"], "already"),
        (&[strange.as_str()], "strange.yaml looks like no file that is known"),
        (&[strange.as_str(), "--from", "limitador"], "this is not valid YAML"),
        (&[fine.as_str(), "--from", "envoy"], "fine.yaml:2:1"),
        (&[fine.as_str(), wrong.as_str()], "wrong.yaml:7:45"),
        (&[twice.as_str(), twice.as_str()], "the domain `edge` is in another file already"),
        (&["/nowhere/at/all"], "cannot read /nowhere/at/all"),
        (&[fine.as_str(), "--output", fine.as_str()], "this is a file that is imported"),
        (&[fine.as_str(), "--output", "/nowhere/at/all"], "cannot write /nowhere/at/all"),
    ] {
        let output = run(&[&["import"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    assert_eq!(std::fs::read_to_string(&fine).unwrap(), LIMITS, "it is as it was");
}
