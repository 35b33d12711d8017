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
    /// Whether the administration is what it tells of.
    is_admin: bool,
}

const HTTP_API: Document = Document {
    file: "serve/openapi.json",
    path: "/v1/openapi.json",
    routes: &[
        "serve/api.rs",
        "serve/permits.rs",
        "serve/services/routes.rs",
        "serve/live/routes.rs",
        "serve/grpc/json.rs",
    ],
    is_admin: false,
};

const ADMIN_API: Document = Document {
    file: "serve/admin/openapi.json",
    path: "/v1/openapi.json",
    routes: &["serve/admin/mod.rs"],
    is_admin: true,
};

const DOCUMENTS: [Document; 2] = [HTTP_API, ADMIN_API];

impl Document {
    /// Where a server answers what this tells of.
    fn url(&self, server: &Server) -> String {
        if self.is_admin { server.admin() } else { server.url.clone() }
    }
}

/// What the administration is asked with.
const TOKEN: &str = "correct-horse-battery-staple";

const POLICIES: &str = "policies:
  - { name: login, match: { method: POST, path: /api/auth/login }, key: ip, limit: 5/minute }
  - { name: all, key: ip | global, limit: 1000000/hour }
";

const SERVICES: &str = "
health: { orders: { errors: { degraded: 5%, bad: 25% } } }
concurrency: { orders: { limit: 8 } }
";

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

/// What stands in a document, or at the place there that it leads to.
fn resolved(document: &Value, value: &Value) -> Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(place.strip_prefix('#').unwrap()).unwrap().clone(),
        None => value.clone(),
    }
}

/// A path whose parameters are those that the document shows.
fn filled(document: &Value, path: &str) -> String {
    let parameters = document["paths"][path]["parameters"].as_array().cloned().unwrap_or_default();
    parameters.iter().map(|parameter| resolved(document, parameter)).fold(
        path.to_owned(),
        |path, parameter| {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            path.replace(&name, parameter["example"].as_str().unwrap())
        },
    )
}

/// Asks a server with some headers.
fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> common::Reply {
    let config = ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true);
    let request = ureq::http::Request::builder().method(method).uri(url);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    common::Reply::of(ureq::Agent::from(config.build()).run(request.body(body.to_owned()).unwrap()).unwrap())
}

/// A server that decides by the policies here, and keeps changes in a directory.
fn changing(directory: &Path, arguments: &[&str]) -> Server {
    let [file, changes] = ["policies.yaml", "changes.json"].map(|name| directory.join(name));
    std::fs::write(&file, POLICIES).unwrap();
    let (file, changes) = (file.to_str().unwrap(), changes.to_str().unwrap());
    Server::start(&[&["--policy", file, "--watch", "off", "--changes", changes], arguments].concat())
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

/// The paths that a source gives to a router, parameters that take the rest of a path written as others.
fn routed(source: &str) -> BTreeSet<String> {
    let after = |marks: [&'static str; 2]| {
        marks
            .into_iter()
            .flat_map(move |mark| source.match_indices(mark).map(move |(at, _)| &source[at + mark.len()..]))
    };
    after([".route(\"", "openapi::at(\""])
        .map(|rest| rest.split('"').next().unwrap().replace("{*", "{"))
        .collect()
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
    for one in DOCUMENTS {
        let (url, document) = (one.url(&server), document(&one));
        let served = ask("GET", &format!("{url}{}", one.path), &[], "");
        assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
        assert_eq!(served.json(), document);
        assert_eq!(served.json()["info"]["version"], env!("CARGO_PKG_VERSION"));
        for (path, methods) in operations(&document) {
            let filled = filled(&document, &path);
            let mut allowed: Vec<String> = methods.iter().map(|method| method.to_uppercase()).collect();
            if methods.contains("get") {
                allowed.push("HEAD".to_owned());
            }
            for method in METHODS.into_iter().filter(|method| !methods.contains(*method)) {
                let method = method.to_uppercase();
                let refused = ask(&method, &format!("{url}{filled}"), &[], "");
                assert_eq!(refused.status, 405, "{method} {path}");
                assert_eq!(refused.header("content-type"), Some("application/json"), "{method} {path}");
                let said = refused.header("allow").unwrap();
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
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.yaml");
    std::fs::write(&file, format!("{POLICIES}{SERVICES}")).unwrap();
    let server = Server::start(&["--policy", file.to_str().unwrap()]);
    let document = document(&HTTP_API);
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post) = item.get("post") else { continue };
        let content = resolved(&document, &post["requestBody"])["content"]["application/json"].clone();
        for (name, example) in content["examples"].as_object().unwrap() {
            let reply = server.post(path, &example["value"].to_string());
            // What an id is nobody knows before; a permit is given back before it is renewed here.
            let unknown = ["/v1/release", "/v1/renew", "/v1/permits/renew"];
            let status = if unknown.contains(&path.as_str()) { 404 } else { 200 };
            assert_eq!(reply.status, status, "{path}, {name}: {}", reply.body);
        }
    }
}

#[test]
fn what_the_document_of_the_administration_shows_works() {
    let directory = tempfile::tempdir().unwrap();
    let server = changing(directory.path(), &[]);
    let document = document(&ADMIN_API);
    let url = |path: &str| format!("{}{}", server.admin(), filled(&document, path));
    // What is set and banned can be got, and then be taken away again.
    for method in ["put", "post", "get", "delete"] {
        for (path, item) in document["paths"].as_object().unwrap() {
            let Some(operation) = item.get(method) else { continue };
            let content = resolved(&document, &operation["requestBody"])["content"].clone();
            let mut bodies = vec![(String::new(), Value::Null)];
            if let Some(kinds) = content.as_object() {
                let examples = |(kind, content): (&String, &Value)| -> Vec<(String, Value)> {
                    let examples = content["examples"].as_object().unwrap().values();
                    examples.map(|example| (kind.clone(), example["value"].clone())).collect()
                };
                bodies = kinds.iter().flat_map(examples).collect();
            }
            for (kind, body) in bodies {
                let headers = [("content-type", kind.as_str())];
                let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
                let headers: &[_] = if kind.is_empty() { &[] } else { &headers };
                let method = method.to_uppercase();
                let reply = ask(&method, &url(path), headers, if body.is_null() { "" } else { &text });
                // There may be nothing to take away.
                let is_gone = method == "DELETE" && reply.status == 404;
                assert!(reply.status == 200 || is_gone, "{method} {path}, {text}: {}", reply.body);
                assert!(operation["responses"][reply.status.to_string()].is_object(), "{method} {path}");
            }
        }
    }
}

#[test]
fn names_may_be_written_in_several_ways() {
    let directory = tempfile::tempdir().unwrap();
    let server = changing(directory.path(), &[]);
    let url = |path: &str| format!("{}/v1/policies/{path}", server.admin());
    let set = |name: &str, kind: &str, body: &str| ask("PUT", &url(name), &[("content-type", kind)], body);
    assert_eq!(set("team%2Fsearch", "application/yaml", "key: ip\nlimit: 7/minute\n").status, 200);
    for name in ["team/search", "team%2fsearch", "te%61m/search"] {
        assert_eq!(ask("GET", &url(name), &[], "").json()["name"], "team/search", "{name}");
    }
    for (name, status) in [("%ff", 400), ("a%00b", 404), ("%2525", 404), ("", 404)] {
        let refused = ask("GET", &url(name), &[], "");
        assert_eq!(
            (refused.status, refused.header("content-type")),
            (status, Some("application/json")),
            "{name}"
        );
        assert!(refused.json()["error"]["code"].is_string());
    }
    // JSON is read as JSON writes it.
    let json =
        r#"{"key":"ip","limit":"5\/minute","description":"\ud83d\ude00 \u0000 \u0085 \u2028 \ufffe \t"}"#;
    for kind in ["application/json", "application/yaml", "text/plain"] {
        let reply = set("emoji", kind, json);
        assert_eq!(reply.status, 200, "{kind}: {}", reply.body);
    }
    let description = &ask("GET", &url("emoji"), &[], "").json()["definition"]["description"];
    assert_eq!(description, "\u{1f600} \0 \u{85} \u{2028} \u{fffe} \t");
    let refused = set("login", "application/toml", "key = 'ip'\nlimit = '5/minute'\n");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")));
    assert!(refused.body.contains("application/yaml"), "{}", refused.body);
    let key = format!("{}/v1/bans/+{}", server.admin(), "0".repeat(31));
    assert_eq!(ask("DELETE", &key, &[], "").status, 400);
    // And it is all there again when the server is.
    drop(server);
    let server = changing(directory.path(), &[]);
    assert_eq!(server.administer("GET", "/v1/policies/emoji", "").json()["origin"], "runtime");
}

#[test]
fn each_operation_of_the_administration_wants_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let server = changing(directory.path(), &["--admin-token", TOKEN]);
    let document = document(&ADMIN_API);
    assert_eq!(document["security"], json!([{ "token": [] }]));
    for (path, methods) in operations(&document) {
        for method in methods {
            assert!(document["paths"][&path][&method].get("security").is_none(), "{method} {path}");
            let url = format!("{}{}", server.admin(), filled(&document, &path));
            let refused = ask(&method.to_uppercase(), &url, &[], "{}");
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
            assert_eq!(refused.json()["error"]["code"], "UNAUTHORIZED", "{method} {path}");
            let headers = [("origin", "http://evil.example"), ("authorization", "Bearer x")];
            assert_eq!(ask(&method.to_uppercase(), &url, &headers, "{}").status, 403, "{method} {path}");
        }
    }
}

#[test]
fn what_is_not_decided_is_answered_as_the_document_says() {
    let place = servers::Redis::nowhere();
    let seed = "00112233445566778899aabbccddeeff";
    let server = Server::start(&["--store", &place.url(), "--key-seed", seed, "--on-store-failure", "deny"]);
    let document = document(&HTTP_API);
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
    // A denial is an answer, and so is that there is no policy of a name; nothing wrong is ever met by a failure. Of
    // definitions more can be wrong than a schema can say, and where rules decide there are no policies to be set.
    let (well, ill) = if one.is_admin {
        ("[200, 404, 409, 422]", "[400, 404, 405, 409, 413, 415, 422]")
    } else {
        ("[200, 404, 429]", "[400, 404, 405, 413, 415]")
    };
    let expected = format!(
        "[checks.positive_data_acceptance]\nexpected-statuses = {well}\n\
         [checks.negative_data_rejection]\nexpected-statuses = {ill}\n"
    );
    std::fs::write(&config, expected).unwrap();
    let mut command = Command::new(fuzzer());
    command.arg("--config-file").arg(&config).arg("run").arg(&file).args(["--url", &one.url(server)]);
    if one.is_admin {
        command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    } else {
        command.args(["--exclude-path", ENDLESS]);
    }
    let output = command
        .args(["--checks", "all", "--seed", "20261122"])
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
    let policies = directory.path().join("policies.yaml");
    std::fs::write(&policies, format!("{POLICIES}{SERVICES}")).unwrap();
    let server = Server::start(&["--policy", policies.to_str().unwrap(), "--grpc-headers"]);
    fuzz(&server, &HTTP_API, directory.path());
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    fuzz(&Server::start(&["--policy", rules.to_str().unwrap()]), &HTTP_API, directory.path());
}

#[test]
fn a_fuzzer_that_knows_the_administration_finds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = changing(directory.path(), &["--admin-token", TOKEN]);
    fuzz(&server, &ADMIN_API, directory.path());
    // Whatever it has set, the server decides, and starts again with it.
    let token = format!("Bearer {TOKEN}");
    let url = |server: &Server| format!("{}/v1/policies", server.admin());
    let list = |server: &Server| ask("GET", &url(server), &[("authorization", &token)], "").json();
    let set = || {
        ask(
            "PUT",
            &format!("{}/last", url(&server)),
            &[("authorization", &token)],
            "{ key: ip, limit: 5/day }",
        )
    };
    assert_eq!(set().status, 200);
    let before = list(&server);
    assert_eq!(server.get("/healthz").status, 200);
    drop(server);
    let server = changing(directory.path(), &["--admin-token", TOKEN]);
    let definitions = |list: &Value| {
        let definition = |policy: &Value| (policy["origin"].clone(), policy["definition"].clone());
        list["policies"].as_array().unwrap().iter().map(definition).collect::<Vec<_>>()
    };
    assert_eq!(definitions(&list(&server)), definitions(&before));
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    let server = Server::start(&["--policy", rules.to_str().unwrap(), "--admin-token", TOKEN]);
    fuzz(&server, &ADMIN_API, directory.path());
}
