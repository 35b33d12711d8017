//! What collectors of OpenTelemetry are sent, and that decisions do not wait for any.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::float_cmp, reason = "counts are exact")]

#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/grpc.rs"]
mod grpc;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;
#[path = "common/tls.rs"]
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use collector::{Collector, texts};
use common::{Reply, Server, root, stderr, tollgate};
use grpc::{Client, ENVOY};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost_reflect::DynamicMessage;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use servers::Redis;
use tls::Authority;

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_mins(1);

/// So that nothing is waited for long.
const AT_ONCE: [(&str, &str); 2] = [("OTEL_BSP_SCHEDULE_DELAY", "20"), ("OTEL_METRIC_EXPORT_INTERVAL", "50")];

/// So that nothing is sent before the end.
const AT_THE_END: [(&str, &str); 2] =
    [("OTEL_BSP_SCHEDULE_DELAY", "3600000"), ("OTEL_METRIC_EXPORT_INTERVAL", "3600000")];

const POLICIES: &str = "policies: [{ name: logins, key: ip, limit: 2/day }]";

/// What must not be told to anybody.
const ADDRESS: &str = "203.0.113.77";

fn serve(environment: &[(&str, &str)], arguments: &[&str]) -> Server {
    let mut command = tollgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"]).args(arguments);
    command.envs(environment.iter().copied());
    Server::start_command(command)
}

fn policies() -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), POLICIES).unwrap();
    file
}

/// Asks whether the address may pass, as part of a trace.
fn check(server: &Server, traceparent: &str) -> u16 {
    let request = ureq::post(format!("{}/v1/check", server.url)).header("traceparent", traceparent);
    let config = request.config().http_status_as_error(false).timeout_global(Some(PATIENCE));
    Reply::of(config.build().send(json!({ "ip": ADDRESS }).to_string()).unwrap()).status
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn of_trace(spans: &[Span], trace: &str) -> Vec<Span> {
    spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect()
}

/// The only span of this name.
fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let found = named.next().unwrap_or_else(|| panic!("{name}: {spans:#?}"));
    assert_eq!(named.next(), None, "{name}");
    found
}

/// Waits until a trace has come whole: that its first span has ended is told last.
fn trace(collector: &Collector, trace: &str, parent: &str) -> Vec<Span> {
    collector.until(trace, |kept| {
        let spans = of_trace(&kept.spans, trace);
        spans.iter().any(|span| hex(&span.parent_span_id) == parent).then_some(spans)
    })
}

fn has(span: &Span, attributes: &[(&str, &str)]) {
    let own = texts(&span.attributes);
    for (key, value) in attributes {
        assert_eq!(own.get(*key).map(String::as_str), Some(*value), "{key}: {span:#?}");
    }
}

const TRACES: [&str; 4] = [
    "0af7651916cd43dd8448eb211c80319c",
    "1af7651916cd43dd8448eb211c80319c",
    "2af7651916cd43dd8448eb211c80319c",
    "3af7651916cd43dd8448eb211c80319c",
];
const PARENT: &str = "b7ad6b7169203331";

fn part_of(trace: usize, sampled: bool) -> String {
    format!("00-{}-{PARENT}-0{}", TRACES[trace], u8::from(sampled))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_on_through_the_face_the_decision_and_the_store() {
    let (collector, redis, file) = (Collector::start(), Redis::start(&[]), policies());
    let store = redis.url();
    let server = serve(
        &[&AT_ONCE[..], &[("OTEL_SERVICE_NAME", "gate"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=edge")]]
            .concat(),
        &["--policy", file.path().to_str().unwrap(), "--store", &store, "--store-deadline", "10s"]
            .into_iter()
            .chain(["--otlp-endpoint", &collector.url])
            .collect::<Vec<_>>(),
    );
    // Whoever asks does not want this one kept.
    assert_eq!(check(&server, &part_of(3, false)), 200);
    assert_eq!(check(&server, &part_of(0, true)), 200);
    assert_eq!(check(&server, &part_of(1, true)), 429);

    let first = trace(&collector, TRACES[0], PARENT);
    let (face, decision, call) =
        (named(&first, "POST /v1/check"), named(&first, "decide"), named(&first, "acquire"));
    assert_eq!((face.kind, decision.kind, call.kind), (2, 1, 3));
    assert_eq!(hex(&face.parent_span_id), PARENT);
    assert_eq!((&decision.parent_span_id, &call.parent_span_id), (&face.span_id, &decision.span_id));
    has(face, &[("http.route", "/v1/check"), ("http.response.status_code", "200")]);
    has(
        decision,
        &[("tollgate.result", "allowed"), ("tollgate.policy", "logins"), ("tollgate.source", "redis")],
    );
    has(call, &[("db.system.name", "redis"), ("db.operation.name", "acquire")]);
    assert!(store.contains(&texts(&call.attributes)["server.address"]), "{store}: {call:#?}");
    let inner = decision.start_time_unix_nano..=decision.end_time_unix_nano;
    assert!(inner.contains(&call.start_time_unix_nano) && inner.contains(&call.end_time_unix_nano));

    let denied = trace(&collector, TRACES[1], PARENT);
    has(
        named(&denied, "POST /v1/check"),
        &[("http.response.status_code", "429"), ("tollgate.result", "denied")],
    );
    has(named(&denied, "decide"), &[("tollgate.result", "denied"), ("tollgate.policy", "logins")]);
    let wait: f64 = texts(&named(&denied, "decide").attributes)["tollgate.retry_after"].parse().unwrap();
    assert!(wait > 0.0 && wait <= 86_400.0, "{wait}");

    // Over gRPC, the same.
    let client = Client::connect(&server.grpc()).await;
    let method = client.method(ENVOY, "ShouldRateLimit");
    let descriptor = json!({ "entries": [{ "key": "remote_address", "value": ADDRESS }] });
    let message = json!({ "domain": "edge", "descriptors": [descriptor] });
    let mut request = tonic::Request::new(DynamicMessage::deserialize(method.input(), message).unwrap());
    request.metadata_mut().insert("traceparent", part_of(2, true).parse().unwrap());
    assert_eq!(client.send_request(&method, request).await.unwrap()["overallCode"], "OVER_LIMIT");
    let spans = trace(&collector, TRACES[2], PARENT);
    let face = named(&spans, "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    assert_eq!(face.kind, 2);
    has(
        face,
        &[("rpc.response.status_code", "OK"), ("tollgate.domain", "edge"), ("tollgate.result", "denied")],
    );
    assert_eq!(named(&spans, "decide").parent_span_id, face.span_id);

    // The Redis protocol has no place for a trace: a command begins one.
    let client = redis::Client::open(format!("redis://{}", server.resp())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let _: redis::Value = redis::cmd("TG.CHECK").arg("ip").arg(ADDRESS).query(&mut connection).unwrap();
    let command = collector
        .until("the command", |kept| kept.spans.iter().find(|span| span.name == "tg.check").cloned());
    assert!(command.parent_span_id.is_empty());
    collector.until("its decision", |kept| {
        kept.spans
            .iter()
            .find(|span| span.name == "decide" && span.parent_span_id == command.span_id)
            .cloned()
    });

    // All has come by now that was asked before.
    collector.until("anything", |kept| {
        assert!(of_trace(&kept.spans, TRACES[3]).is_empty(), "{kept:#?}");
        let all = format!("{:?}", kept.spans);
        assert!(!all.contains(ADDRESS), "{all}");
        assert_eq!(kept.resource["service.name"], "gate");
        assert_eq!(kept.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(kept.resource["service.instance.id"].len(), 32);
        assert_eq!(kept.headers["x-team"], "edge");
        Some(())
    });
}

/// The numbers of `/metrics` by the names of their samples, added up, without the parts of histograms.
fn scraped(server: &Server) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in server.get("/metrics").body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        if !name.starts_with("rate_limiter_request_duration_seconds") {
            *sums.entry(name.to_owned()).or_insert(0.0) += value.parse::<f64>().unwrap();
        }
    }
    sums
}

/// What the page says that metrics are called: there, and here.
fn names() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches('`').to_owned());
        Some((cells.next()?, cells.next()?))
    });
    cells.filter(|(_, there)| there.starts_with("tollgate.") || there.starts_with("process.")).collect()
}

#[test]
fn a_collector_is_told_the_numbers_of_the_metrics() {
    let (collector, file, data) = (Collector::start(), policies(), tempfile::tempdir().unwrap());
    let server = serve(
        &[&AT_ONCE[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url), ("OTEL_TRACES_EXPORTER", "none")]]
            .concat(),
        &["--policy", file.path().to_str().unwrap(), "--data-dir", data.path().to_str().unwrap()],
    );
    let asked = (0..5).map(|_| check(&server, &part_of(0, true))).collect::<Vec<_>>();
    assert_eq!(asked, [200, 200, 429, 429, 429]);
    assert_eq!(server.post("/v1/check", "nonsense").status, 400);

    let of = |result| [("tollgate.backend", "memory"), ("tollgate.result", result)];
    collector.until("all that was asked", |kept| {
        let sums = ["allowed", "denied", "error"].map(|result| kept.sum("tollgate.requests", &of(result)));
        (sums == [Some(2.0), Some(3.0), Some(1.0)]).then_some(())
    });
    collector.until("their times", |kept| {
        let times = kept.histogram("tollgate.request.duration")?;
        assert_eq!(times.bucket_counts.iter().sum::<u64>(), times.count);
        assert_eq!(times.explicit_bounds.len(), 24);
        (times.count == 5 && times.sum.unwrap() > 0.0).then_some(())
    });
    let logins = [("tollgate.policy", "logins")];
    collector.until("what the policy said", |kept| {
        (kept.sum("tollgate.policy.hits", &logins), kept.sum("tollgate.policy.denied", &logins))
            .eq(&(Some(5.0), Some(3.0)))
            .then_some(())
    });
    // Whatever is told here is told there, and what stands still is the same.
    let (scraped, names) = (scraped(&server), names());
    let left_out = ["rate_limiter_build_info", "rate_limiter_redis_available"];
    for (here, sum) in scraped {
        if left_out.contains(&here.as_str()) {
            continue;
        }
        let there = names.get(&here).unwrap_or_else(|| panic!("{here} has no row in the page"));
        let changes = ["process.", "tollgate.disk.", "tollgate.connection."];
        collector.until(there, |kept| {
            let told = kept.sum(there, &[])?;
            (changes.iter().any(|part| there.starts_with(part)) || told == sum).then_some(())
        });
    }
    collector.until("that no traces were sent", |kept| kept.spans.is_empty().then_some(()));
}

#[test]
fn a_collector_under_tls_is_believed_by_its_certificate() {
    let authority = Authority::new();
    authority.issue("collector");
    let key = PrivateKeyDer::from_pem_file(authority.path("collector-key.pem")).unwrap();
    let config =
        ServerConfig::builder_with_provider(std::sync::Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![authority.certificate("collector")], key)
            .unwrap();
    let collector = Collector::start_tls(config);
    let believed = authority.text("ca.pem");
    let server = serve(
        &[&AT_ONCE[..], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &believed)]].concat(),
        &["--otlp-endpoint", &collector.url],
    );
    assert_eq!(check(&server, &part_of(0, true)), 200);
    trace(&collector, TRACES[0], PARENT);
    collector.until("metrics", |kept| kept.sum("tollgate.requests", &[]));
}

#[cfg(unix)]
#[test]
fn what_is_left_is_sent_at_the_end() {
    let (collector, file) = (Collector::start(), policies());
    let arguments = ["--policy", file.path().to_str().unwrap(), "--otlp-endpoint", &collector.url];
    let mut server = serve(&AT_THE_END, &arguments);
    assert_eq!(check(&server, &part_of(0, true)), 200);
    server.terminate();
    assert!(server.wait(PATIENCE).unwrap().success());
    collector.until("the rest", |kept| {
        assert_eq!(kept.sum("tollgate.requests", &[("tollgate.result", "allowed")]), Some(1.0));
        let names: BTreeSet<&str> = kept.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["POST /v1/check", "decide"]));
        Some(())
    });
}

/// How many spans the server says were lost.
fn lost(server: &Server) -> f64 {
    scraped(server)["rate_limiter_otlp_spans_lost_total"]
}

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks again and again, until spans are lost: it is always decided, and the server is ready all the time.
fn decides_without(server: &Server) {
    until("spans are lost", || {
        assert_eq!(check(server, &part_of(0, true)), 200);
        assert_eq!(server.get("/readyz").status, 200);
        lost(server) > 0.0
    });
}

#[cfg(unix)]
#[test]
fn a_collector_that_hangs_is_waited_for_by_nobody() {
    // Connections are made, and nobody answers: for longer than this test would wait.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let slow = [("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"), ("OTEL_BSP_MAX_QUEUE_SIZE", "8")];
    let mut server = serve(&[&AT_ONCE[..], &slow].concat(), &["--otlp-endpoint", &url]);
    decides_without(&server);
    server.terminate();
    assert!(server.wait(PATIENCE).unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_collector_that_is_away_or_refuses_is_told_of_once() {
    let collector = Collector::start();
    collector.refuse(Some(StatusCode::BAD_REQUEST));
    let mut server = serve(&AT_ONCE, &["--otlp-endpoint", &collector.url]);
    let log = BufReader::new(server.child.stderr.take().unwrap());
    let lines = std::thread::spawn(move || log.lines().map(Result::unwrap).collect::<Vec<_>>());
    decides_without(&server);
    collector.until("more", |kept| (kept.asked > 20).then_some(()));
    collector.refuse(None);
    assert_eq!(check(&server, &part_of(1, true)), 200);
    trace(&collector, TRACES[1], PARENT);
    collector.until("metrics", |kept| kept.sum("tollgate.requests", &[]));
    server.terminate();
    assert!(server.wait(PATIENCE).unwrap().success());
    let lines = lines.join().unwrap();
    for (line, signals) in
        [("does not take telemetry", 2), ("takes telemetry again", 2), ("spans were lost", 1)]
    {
        let told = lines.iter().filter(|told| told.contains(line)).count();
        assert_eq!(told, signals, "{line}: {lines:#?}");
    }
}

#[cfg(unix)]
#[test]
fn nobody_at_the_address_changes_nothing() {
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let mut server = serve(&AT_ONCE, &["--otlp-endpoint", &url]);
    decides_without(&server);
    server.terminate();
    assert!(server.wait(PATIENCE).unwrap().success());
}

#[test]
fn what_is_wrong_with_an_address_is_said_at_the_start() {
    for (environment, arguments, said) in [
        (&[][..], &["--otlp-endpoint", "collector:4318"][..], "--otlp-endpoint: collector:4318: "),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost")], &[], "OTEL_EXPORTER_OTLP_ENDPOINT: localhost: "),
        (
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
            ],
            &[],
            "OTEL_EXPORTER_OTLP_PROTOCOL: grpc: ",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "nowhere.pem")],
            &["--otlp-endpoint", "https://127.0.0.1:4318"],
            "OTEL_EXPORTER_OTLP_CERTIFICATE: nowhere.pem: ",
        ),
    ] {
        let mut command = tollgate();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).envs(environment.iter().copied());
        let output = command.output().unwrap();
        assert!(!output.status.success());
        assert!(stderr(&output).contains(said), "{said}: {}", stderr(&output));
    }
}
