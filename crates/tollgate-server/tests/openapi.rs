//! The documents of the OpenAPI: that they name what there is, and that the server answers as they say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Server, root};
use serde_json::{Value, json};

/// A document, and the files whose routes it tells of.
struct Document {
    file: &'static str,
    /// Where it is served.
    path: &'static str,
    routes: &'static [&'static str],
}

const DOCUMENTS: [Document; 1] = [Document {
    file: "serve/openapi.json",
    path: "/v1/openapi.json",
    routes: &["serve/api.rs", "serve/live/routes.rs", "serve/grpc/json.rs"],
}];

/// The methods that a path may have.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "options", "trace"];

/// A stream without an end is nothing to be read to its end.
const ENDLESS: &str = "/live";

const RULES: &str = "domain: edge
descriptors:
  - key: generic_key
    value: login
    rate_limit: { name: logins, unit: day, requests_per_unit: 3 }
  - key: user
    detailed_metric: true
    rate_limit: { unit: year, requests_per_unit: 5 }
  - key: open
    rate_limit: { unlimited: true }
";

fn source(file: &str) -> String {
    std::fs::read_to_string(root().join("crates/tollgate-server/src").join(file)).unwrap()
}

fn document(document: &Document) -> Value {
    serde_json::from_str(&source(document.file)).unwrap()
}

/// The methods of each path.
fn operations(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let methods = |path: &Value| {
        let methods = path.as_object().unwrap().keys().filter(|name| METHODS.contains(&name.as_str()));
        methods.cloned().collect()
    };
    let paths = document["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

/// The paths that a source gives to a router.
fn routed(source: &str) -> BTreeSet<String> {
    let after = |marks: [&'static str; 2]| {
        marks
            .into_iter()
            .flat_map(move |mark| source.match_indices(mark).map(move |(at, _)| &source[at + mark.len()..]))
    };
    after([".route(\"", "openapi::at(\""]).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn each_route_is_in_the_document_and_the_reverse() {
    for one in DOCUMENTS {
        let told: BTreeSet<String> = operations(&document(&one)).into_keys().collect();
        let there: BTreeSet<String> = one.routes.iter().flat_map(|file| routed(&source(file))).collect();
        assert_eq!(told, there, "{}", one.file);
    }
}

#[test]
fn each_path_takes_the_methods_that_the_document_names_and_no_other() {
    let server = Server::start(&[]);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for one in DOCUMENTS {
        let served = server.get(one.path);
        assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
        assert_eq!(served.json(), document(&one));
        assert_eq!(served.json()["info"]["version"], env!("CARGO_PKG_VERSION"));
        for (path, methods) in operations(&document(&one)) {
            let mut allowed: Vec<String> = methods.iter().map(|method| method.to_uppercase()).collect();
            if methods.contains("get") {
                allowed.push("HEAD".to_owned());
            }
            for method in METHODS.into_iter().filter(|method| !methods.contains(*method)) {
                let method = method.to_uppercase();
                let request = ureq::http::Request::builder()
                    .method(method.as_str())
                    .uri(format!("{}{path}", server.url))
                    .body(())
                    .unwrap();
                let response = agent.run(request).unwrap();
                assert_eq!(response.status(), 405, "{method} {path}");
                let said = response.headers()["allow"].to_str().unwrap().to_owned();
                let mut said: Vec<&str> = said.split(',').collect();
                said.sort_unstable();
                allowed.sort_unstable();
                assert_eq!(said, allowed, "{path}");
            }
        }
    }
}

#[test]
fn what_the_document_shows_works() {
    let server = Server::start(&[]);
    let document = document(&DOCUMENTS[0]);
    let resolved = |value: &Value| match value["$ref"].as_str() {
        Some(place) => document.pointer(place.strip_prefix('#').unwrap()).unwrap().clone(),
        None => value.clone(),
    };
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post) = item.get("post") else { continue };
        let content = resolved(&post["requestBody"])["content"]["application/json"].clone();
        for (name, example) in content["examples"].as_object().unwrap() {
            let reply = server.post(path, &example["value"].to_string());
            assert_eq!(reply.status, 200, "{path}, {name}: {}", reply.body);
        }
    }
}

#[test]
fn what_is_not_decided_is_answered_as_the_document_says() {
    let place = servers::Redis::nowhere();
    let seed = "00112233445566778899aabbccddeeff";
    let server = Server::start(&["--store", &place.url(), "--key-seed", seed, "--on-store-failure", "deny"]);
    let document = document(&DOCUMENTS[0]);
    let codes = document.pointer("/components/schemas/Error/properties/error/properties/code/enum").unwrap();
    let request = json!({ "path": "/", "user": "anna" });
    let entries = json!([{ "key": "user", "value": "anna" }]);
    let bodies = [
        ("/v1/check", request.clone()),
        ("/v1/peek", request.clone()),
        ("/v1/reset", json!({ "request": request })),
        ("/v1/check/batch", json!({ "requests": [request] })),
        ("/json", json!({ "domain": "edge", "descriptors": [{ "entries": entries }] })),
    ];
    for (path, body) in bodies {
        let reply = server.post(path, &body.to_string());
        assert!(reply.status >= 500, "{path}: {}", reply.body);
        let told = &document["paths"][path]["post"]["responses"][reply.status.to_string()];
        assert!(told.is_object(), "{path}: {} is not in the document", reply.status);
        if path != "/json" {
            let code = &reply.json()["error"]["code"];
            assert_eq!((reply.status, code), (503, &json!("STORE_UNAVAILABLE")), "{path}");
            assert!(codes.as_array().unwrap().contains(code));
        }
    }
    assert_eq!(server.get("/readyz").status, 503);
}

#[test]
fn bodies_that_are_no_json_are_refused_by_what_they_are_said_to_be() {
    let server = Server::start(&[]);
    let post = |path: &str, kind: &str, body: &str| {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let request = ureq::Agent::from(config).post(format!("{}{path}", server.url));
        common::Reply::of(request.header("content-type", kind).send(body).unwrap())
    };
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        assert_eq!(post("/v1/check", kind, "{}").status, 200, "{kind}");
    }
    let refused = post("/v1/check", "application/xml", "<a/>");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")));
    let refused = post("/json", "application/grpc", "{}");
    assert_eq!(refused.status, 415);
    assert!(refused.body.contains("application/json"), "{}", refused.body);
    // They are counted with all that was not decided.
    let metrics = server.get("/metrics").body;
    assert!(
        metrics.contains(r#"rate_limiter_requests_total{backend="memory",result="error"} 2"#),
        "{metrics}"
    );
}

/// The fuzzer: in the path, or where `cargo xtask test` puts it.
fn fuzzer() -> PathBuf {
    const FETCH: &str = "python3 -m venv target/servers/schemathesis && target/servers/schemathesis/bin/pip install schemathesis";
    let fetched = root().join("target/servers/schemathesis/bin/schemathesis");
    let is_there = |program: &&PathBuf| {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let candidates = [PathBuf::from("schemathesis"), fetched];
    candidates
        .iter()
        .find(is_there)
        .cloned()
        .unwrap_or_else(|| panic!("Schemathesis is missing: run `{FETCH}`"))
}

/// Says of every object that what is not named is not there, so that whatever the server answers has to be in the document.
fn closed(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("type") == Some(&json!("object")) && map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(json!(false));
            }
            map.values_mut().for_each(closed);
        }
        Value::Array(list) => list.iter_mut().for_each(closed),
        _ => {}
    }
}

/// Lets the fuzzer at a server with all that it checks.
fn fuzz(server: &Server, one: &Document, directory: &Path) {
    let mut schema = document(one);
    closed(&mut schema["components"]["schemas"]);
    let (file, config) = (directory.join("openapi.json"), directory.join("schemathesis.toml"));
    std::fs::write(&file, schema.to_string()).unwrap();
    // A denial is an answer, and so is that there is no policy of a name; nothing wrong is ever met by a failure.
    let expected = "[checks.positive_data_acceptance]\nexpected-statuses = [200, 404, 429]\n\
                    [checks.negative_data_rejection]\nexpected-statuses = [400, 404, 405, 413, 415]\n";
    std::fs::write(&config, expected).unwrap();
    let output = Command::new(fuzzer())
        .arg("--config-file")
        .arg(&config)
        .arg("run")
        .arg(&file)
        .args(["--url", &server.url, "--exclude-path", ENDLESS, "--checks", "all", "--seed", "20261122"])
        .args(["--max-examples", "40", "--phases", "examples,coverage,fuzzing", "--no-color"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", common::stdout(&output), common::stderr(&output));
}

#[test]
fn a_fuzzer_that_knows_the_document_finds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fuzz(&Server::start(&["--grpc-headers"]), &DOCUMENTS[0], directory.path());
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    fuzz(&Server::start(&["--policy", rules.to_str().unwrap()]), &DOCUMENTS[0], directory.path());
}
