//! The administration of the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Server, run, stderr};
use serde_json::{Value, json};

const POLICIES: &str = r#"policies:
  - { name: api, match: { path: /api/** }, key: api_key, limit: 100/hour }
  - { name: login, match: { method: POST, path: /login }, key: ip, limit: 2/hour }
  - { name: night, schedule: { zone: UTC, days: [mon], hours: "00:00-00:01" }, key: ip, limit: 5/hour }
"#;

const LOGIN: &str = r#"{"method":"POST","path":"/login","ip":"203.0.113.7"}"#;

fn server(dir: &Path, arguments: &[&str]) -> Server {
    let file = dir.join("policies.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    Server::start(&[&["--policy", file.to_str().unwrap(), "--watch", "off"], arguments].concat())
}

fn ok(server: &Server, method: &str, path: &str, body: &str) -> Value {
    let reply = server.administer(method, path, body);
    assert_eq!(reply.status, 200, "{method} {path}: {}", reply.body);
    reply.json()
}

fn names(list: &Value) -> Vec<&str> {
    list["policies"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect()
}

#[test]
fn policies_are_listed_set_and_removed_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), &[]);
    let list = ok(&server, "GET", "/v1/policies", "");
    assert_eq!(names(&list), ["api", "login", "night"]);
    assert_eq!(list["policies"][1]["definition"]["limit"], "2/hour");
    // What is spent under the file's policy stays spent under the one that is set in its place.
    for status in [200, 200, 429] {
        assert_eq!(server.post("/v1/check", LOGIN).status, status);
    }
    let mut definition = ok(&server, "GET", "/v1/policies/login", "")["definition"].clone();
    definition["limit"] = json!("10/hour");
    let changed = ok(&server, "PUT", "/v1/policies/login", &definition.to_string());
    assert_eq!(changed, json!({ "added": [], "changed": ["login"], "removed": [], "unchanged": 2 }));
    let answer = server.post("/v1/peek", LOGIN).json();
    assert_eq!((answer["limit"].as_u64(), answer["remaining"].as_u64()), (Some(10), Some(0)));
    // In YAML, with a name in parts, and without one in the body.
    let added = ok(&server, "PUT", "/v1/policies/team/search", "key: ip\nlimit: 7/minute\n");
    assert_eq!(added["added"], json!(["team/search"]));
    assert_eq!(ok(&server, "GET", "/v1/policies/team/search", "")["origin"], "runtime");
    assert_eq!(ok(&server, "GET", "/v1/policies/api", "")["origin"], "file");
    assert_eq!(server.post("/v1/peek", r#"{"ip":"203.0.113.7"}"#).json()["limit"], 7);
    // A policy of the file is hidden, and comes back.
    assert_eq!(ok(&server, "DELETE", "/v1/policies/api", "")["removed"], json!(["api"]));
    assert_eq!(names(&ok(&server, "GET", "/v1/policies", "")), ["login", "night", "team/search"]);
    assert_eq!(
        ok(&server, "GET", "/v1/changes", ""),
        json!({ "set": ["login", "team/search"], "removed": ["api"], "kept_in": null })
    );
    // A reload of the file leaves what was changed.
    assert_eq!(ok(&server, "POST", "/v1/reload", "")["unchanged"], 3);
    assert_eq!(ok(&server, "DELETE", "/v1/changes/login", "")["changed"], json!(["login"]));
    assert_eq!(server.post("/v1/peek", LOGIN).json()["limit"], 2);
    ok(&server, "DELETE", "/v1/changes", "");
    assert_eq!(names(&ok(&server, "GET", "/v1/policies", "")), ["api", "login", "night"]);
    // The metrics follow.
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("rate_limiter_active_policies{instance=\"memory\"} 3"), "{metrics}");
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), &[]);
    for (method, path, body, status, said) in [
        ("PUT", "/v1/policies/new", "", 422, "expected a policy"),
        ("PUT", "/v1/policies/new", "{", 422, "body:1:"),
        ("PUT", "/v1/policies/new", r#"{"kee":"ip","limit":"5/minute"}"#, 422, "did you mean `key`?"),
        ("PUT", "/v1/policies/new", r#"{"key":"ip","limit":-5}"#, 422, "body:1:21"),
        (
            "PUT",
            "/v1/policies/new",
            r#"{"name":"other","key":"ip","limit":"5/minute"}"#,
            422,
            "and not `other`",
        ),
        (
            "PUT",
            "/v1/policies/new",
            r#"{"key":"ip","limit":"5/minute","replaces":"none"}"#,
            422,
            "unknown policy `none`",
        ),
        ("PUT", "/v1/policies/a%20b", r#"{"key":"ip","limit":"5/minute"}"#, 422, "is no name"),
        ("DELETE", "/v1/policies/none", "", 404, "UNKNOWN_POLICY"),
        ("GET", "/v1/policies/none", "", 404, "UNKNOWN_POLICY"),
        ("DELETE", "/v1/changes/api", "", 404, "UNKNOWN_POLICY"),
        ("POST", "/v1/bans", "{}", 400, "missing field"),
        ("POST", "/v1/bans", r#"{"request":{"ip":"203.0.113.7"},"for":"soon"}"#, 400, "for"),
        ("POST", "/v1/bans", r#"{"request":{"ip":"203.0.113.7"},"for":"1h"}"#, 404, "no policy applies"),
        ("POST", "/v1/bans", r#"{"request":{"ip":"x"},"for":"1h"}"#, 400, "invalid IP address"),
        ("DELETE", "/v1/bans/xyz", "", 400, "32 hexadecimal digits"),
        ("DELETE", "/v1/bans/00000000000000000000000000000000", "", 404, "UNKNOWN_BAN"),
        ("POST", "/v1/explain", "[]", 400, "JSON object"),
        ("GET", "/v1/reload", "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/elsewhere", "", 404, "NOT_FOUND"),
    ] {
        let reply = server.administer(method, path, body);
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.body);
        assert!(reply.body.contains(said), "{method} {path} {body}: {}", reply.body);
        assert!(reply.json()["error"]["code"].is_string());
    }
    let large = format!(r#"{{"key":"ip","description":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(server.administer("PUT", "/v1/policies/new", &large).status, 413);
    assert_eq!(names(&ok(&server, "GET", "/v1/policies", "")), ["api", "login", "night"]);
}

#[test]
fn bans_are_set_listed_and_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), &[]);
    let banned = ok(&server, "POST", "/v1/bans", &format!(r#"{{"request":{LOGIN},"for":"10m"}}"#));
    assert_eq!(banned["banned"], json!(["login"]));
    let denied = server.post("/v1/check", LOGIN);
    assert_eq!(denied.status, 429);
    let bans = ok(&server, "GET", "/v1/bans", "")["bans"].clone();
    assert_eq!((bans.as_array().unwrap().len(), &bans[0]["policy"]), (1, &json!("login")));
    let explained = ok(&server, "POST", "/v1/explain", LOGIN);
    assert_eq!(explained["ban"]["key"], bans[0]["key"]);
    assert!(
        explained["summary"].as_str().unwrap().starts_with("denied: banned under `login` for "),
        "{explained}"
    );
    ok(&server, "DELETE", &format!("/v1/bans/{}", bans[0]["key"].as_str().unwrap()), "");
    assert_eq!(server.post("/v1/check", LOGIN).status, 200);
}

#[test]
fn a_denial_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), &[]);
    for _ in 0..5 {
        server.post("/v1/check", LOGIN);
    }
    let explained = ok(&server, "POST", "/v1/explain", LOGIN);
    assert_eq!(explained["allowed"], false);
    let summary = explained["summary"].as_str().unwrap();
    assert!(summary.starts_with("denied: `login` (2/hour GCRA) has 0 of 2 left; it passes in "), "{summary}");
    let policy = &explained["policies"][0];
    assert_eq!(
        (&policy["policy"], &policy["key"], &policy["remaining"]),
        (&json!("login"), &json!("203.0.113.7"), &json!(0))
    );
    let history = &policy["history"];
    assert_eq!((&history["allowed"], &history["denied"]), (&json!(2), &json!(3)), "{history}");
    let why = |name: &str| {
        let others = explained["others"].as_array().unwrap();
        others.iter().find(|other| other["policy"] == name).unwrap()["why"].as_str().unwrap().to_owned()
    };
    assert_eq!(why("api"), "is for /api/**");
    assert!(why("night").contains("not active"), "{explained}");
    // Nothing was taken for it, and a secret is not told.
    let secret = r#"{"path":"/api/x","api_key":"canary-1234567890"}"#;
    let explained = ok(&server, "POST", "/v1/explain", secret);
    assert!(explained["summary"].as_str().unwrap().contains("100 of 100"), "{explained}");
    assert!(!explained.to_string().contains("canary-1"), "{explained}");
}

#[test]
fn changes_and_bans_outlast_the_server_if_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("changes.json");
    let arguments = ["--changes", kept.to_str().unwrap()];
    let first = server(dir.path(), &arguments);
    ok(&first, "PUT", "/v1/policies/search", r#"{"match":{"path":"/search"},"key":"ip","limit":"5/minute"}"#);
    ok(&first, "DELETE", "/v1/policies/night", "");
    ok(&first, "POST", "/v1/bans", &format!(r#"{{"request":{LOGIN},"for":"1h"}}"#));
    drop(first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let second = server(dir.path(), &arguments);
    assert_eq!(names(&ok(&second, "GET", "/v1/policies", "")), ["api", "login", "search"]);
    assert_eq!(second.post("/v1/check", LOGIN).status, 429);
    drop(second);
    // A file that is not what was written is said, and nothing starts.
    let text = std::fs::read_to_string(&kept).unwrap();
    for wrong in
        ["{", "[]", &text.replace("\"version\": 1", "\"version\": 9"), &text.replace("5/minute", "5/moon")]
    {
        std::fs::write(&kept, wrong).unwrap();
        let refused = run(&["serve", "--listen", "127.0.0.1:0", "--changes", kept.to_str().unwrap()]);
        assert!(
            !refused.status.success() && stderr(&refused).contains("changes.json"),
            "{wrong}: {}",
            stderr(&refused)
        );
    }
    // Where it cannot be written, nothing changes.
    let nowhere = dir.path().join("none/changes.json");
    let third = server(dir.path(), &["--changes", nowhere.to_str().unwrap()]);
    let refused = third.administer("DELETE", "/v1/policies/api", "");
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str().unwrap().to_owned()),
        (500, "NOT_KEPT".to_owned())
    );
    assert_eq!(names(&ok(&third, "GET", "/v1/policies", "")), ["api", "login", "night"]);
}

#[test]
fn strangers_are_kept_out() {
    const TOKEN: &str = "correct-horse-battery-staple";
    let refused =
        run(&["serve", "--listen", "127.0.0.1:0", "--grpc", "off", "--resp", "off", "--admin", "0.0.0.0:0"]);
    assert!(!refused.status.success() && stderr(&refused).contains("--admin-token"), "{}", stderr(&refused));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let log = dir.path().join("audit.log");
    let server = server(
        dir.path(),
        &[
            "--admin-token-file",
            token.to_str().unwrap(),
            "--audit-log",
            log.to_str().unwrap(),
            "--audit-sample",
            "1",
        ],
    );
    let ask = |authorization: &str, more: (&str, &str)| {
        let url = format!("{}/v1/config", server.admin());
        let request = ureq::get(&url).header("Authorization", authorization).header(more.0, more.1);
        let response = request.config().http_status_as_error(false).build().call().unwrap();
        common::Reply::of(response)
    };
    let plain = ("Accept", "*/*");
    assert_eq!(ask("", plain).status, 401);
    assert_eq!(ask("Bearer wrong-horse-battery-staple", plain).status, 401);
    assert_eq!(ask(&format!("Bearer {TOKEN}"), ("Origin", "http://evil.example")).status, 403);
    let config = ask(&format!("Bearer {TOKEN}"), plain);
    assert_eq!(config.status, 200, "{}", config.body);
    assert_eq!(config.json()["settings"]["admin_token"], true);
    assert!(!config.body.contains(TOKEN));
    // The administration is nowhere else.
    for path in ["/v1/config", "/v1/bans", "/v1/changes"] {
        assert_eq!(server.get(path).status, 404);
    }
    // What happened is in the audit log, and the decisions too; no secret is.
    server.post("/v1/check", r#"{"path":"/api/x","api_key":"canary-1234567890"}"#);
    drop_gently(server);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let attempts: Vec<&Value> = lines.iter().filter(|line| line["event"] == "administration").collect();
    assert_eq!(attempts.len(), 3, "{text}");
    assert_eq!(
        (&attempts[0]["who"], &attempts[0]["what"], &attempts[0]["outcome"]),
        (&json!("127.0.0.1"), &json!("GET /v1/config"), &json!("401"))
    );
    let decided = lines.iter().find(|line| line["event"] == "decision").unwrap();
    assert_eq!(
        (&decided["policy"], &decided["allowed"], &decided["path"]),
        (&json!("api"), &json!(true), &json!("/api/x"))
    );
    assert!(!text.contains("canary-1") && !text.contains(TOKEN), "{text}");
}

/// Lets the server come to its end, so that all its logs are written.
fn drop_gently(mut server: Server) {
    server.terminate();
    assert!(server.wait(std::time::Duration::from_secs(10)).is_some_and(|status| status.success()));
}
