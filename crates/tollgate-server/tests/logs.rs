//! What the server logs: for people and for programs, part by part.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Server, root, run, stderr, tollgate};
use serde_json::{Value, json};

/// The files of a folder, and of the folders in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn each_event_belongs_to_a_part_that_the_page_names() {
    let page = std::fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let crates = [
        "tollgate",
        "tollgate-actix",
        "tollgate-http",
        "tollgate-policy",
        "tollgate-server",
        "tollgate-store",
    ];
    let mut found = 0;
    for file in crates.iter().flat_map(|name| sources(&root().join("crates").join(name).join("src"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        for macro_name in ["error", "warn", "info", "debug", "trace"] {
            for (at, mark) in text.match_indices(&format!("tracing::{macro_name}!(")) {
                let rest = text[at + mark.len()..].trim_start();
                let part = rest.strip_prefix("target: \"").and_then(|rest| rest.split('"').next());
                let part = part.unwrap_or_else(|| panic!("{}: an event without a target", file.display()));
                assert!(page.contains(&format!("| `{part}` |")), "{}: {part}", file.display());
                found += 1;
            }
        }
    }
    assert!(found > 20, "{found}");
}

/// What a server logs while it is asked something wrong over HTTP, and a key is reset, until it ends.
fn logged(options: &[(&str, &str)]) -> Vec<String> {
    let mut command = tollgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--resp", "off"]).envs(options.iter().copied());
    let mut server = Server::start_command(command);
    let log = BufReader::new(server.child.stderr.take().unwrap());
    assert_eq!(server.post("/v1/check", "nonsense").status, 400);
    assert_eq!(
        server.post("/v1/reset", r#"{"request":{"path":"/api/v2/x","api_key":"canary-6f1d"}}"#).status,
        200
    );
    let lines = std::thread::spawn(move || log.lines().map(Result::unwrap).collect());
    server.terminate();
    assert!(server.wait(Duration::from_secs(10)).unwrap().success());
    lines.join().unwrap()
}

#[cfg(unix)]
#[test]
fn logs_are_written_for_programs_too() {
    let lines = logged(&[("TOLLGATE_LOG_FORMAT", "json"), ("TOLLGATE_LOG", "debug")]);
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = |part: &str, message: &str| {
        let found = events.iter().find(|event| event["target"] == part && event["message"] == message);
        found.unwrap_or_else(|| panic!("{part}, {message}: {lines:#?}")).clone()
    };
    assert_eq!(event("tollgate::policy", "loaded")["file"], "built-in example");
    let reset = event("tollgate::audit", "reset a key");
    assert_eq!((&reset["level"], &reset["policies"]), (&json!("INFO"), &json!("[\"api-v2\", \"default\"]")));
    assert!(reset["timestamp"].as_str().unwrap().ends_with('Z'), "{reset}");
    assert_eq!(event("tollgate::http", "a question was not answered")["code"], "BAD_REQUEST");
    event("tollgate::serve", "stopped");
    assert!(!lines.iter().any(|line| line.contains("canary")), "{lines:#?}");
}

#[cfg(unix)]
#[test]
fn each_part_can_be_switched_on_and_off() {
    let parts = |filter: &str| -> BTreeSet<String> {
        let lines = logged(&[("TOLLGATE_LOG", filter)]);
        let part = |line: &String| line.split_whitespace().nth(2).unwrap().trim_end_matches(':').to_owned();
        lines.iter().map(part).collect()
    };
    let all = |names: &[&str]| names.iter().map(|name| format!("tollgate::{name}")).collect::<BTreeSet<_>>();
    assert_eq!(parts("info"), all(&["audit", "policy", "serve"]));
    assert_eq!(parts("info,tollgate::audit=off,tollgate::http=debug"), all(&["http", "policy", "serve"]));
    assert_eq!(parts("off,tollgate::audit=info"), all(&["audit"]));
    assert!(parts("off").is_empty());
    let wrong = run(&["serve", "--log", "info,tollgate::http=loud"]);
    assert!(!wrong.status.success() && stderr(&wrong).contains("--log: "), "{}", stderr(&wrong));
}
