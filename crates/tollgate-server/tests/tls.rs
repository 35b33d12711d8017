//! `tollgate serve` under TLS, on all its listeners.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/grpc.rs"]
mod client;
mod common;
#[path = "common/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Client;
use common::{Server, run, stderr};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tls::{Authority, TlsWire};
use tonic::transport::{Channel, Endpoint};

const PATIENCE: Duration = Duration::from_secs(30);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A server with a certificate, on all listeners unless told otherwise.
fn start(authority: &Authority, more: &[&str]) -> Server {
    let (cert, key) = (authority.text("server.pem"), authority.text("server-key.pem"));
    Server::start(&[&["--tls-cert", &cert, "--tls-key", &key], more].concat())
}

fn authority() -> Authority {
    let authority = Authority::new();
    authority.issue("server");
    authority
}

fn address_of(url: &str) -> String {
    url.split_once("://").unwrap().1.to_owned()
}

/// What `curl` says, or why it says nothing.
fn curl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("curl: {error}; install it with `apt-get install curl`"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn redis_cli(server: &Server, arguments: &[&str]) -> String {
    let (host, port) = server.resp_address().rsplit_once(':').unwrap();
    let output = Command::new("redis-cli")
        .args(["-h", host, "-p", port])
        .args(arguments)
        .env_remove("REDISCLI_AUTH")
        .output()
        .unwrap_or_else(|error| panic!("redis-cli: {error}; install it with `apt-get install redis-tools`"));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

/// A channel of gRPC under TLS.
async fn channel(url: String, config: Arc<ClientConfig>) -> Result<Channel, tonic::transport::Error> {
    let address = address_of(&url);
    let connect = tower::service_fn(move |_| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The scheme is the connector's matter.
    let endpoint = Endpoint::from_shared(url.replace("https", "http")).unwrap();
    endpoint.connect_with_connector(connect).await
}

#[tokio::test]
async fn all_listeners_speak_tls() {
    let authority = authority();
    let server = start(&authority, &[]);
    let ca = authority.text("ca.pem");
    assert!(server.url.starts_with("https://") && server.grpc().starts_with("https://"));
    for version in ["--http1.1", "--http2", "--tlsv1.3", "--tls-max=1.2"] {
        let version: &[&str] = if version == "--tls-max=1.2" { &["--tls-max", "1.2"] } else { &[version] };
        let url = format!("{}/readyz", server.url);
        let said = curl(&[&["--cacert", &ca, "-w", "%{http_version}"], version, &[&url]].concat());
        let expected = if version == ["--http1.1"] { "ready\n1.1" } else { "ready\n2" };
        assert_eq!(said.as_deref(), Ok(expected), "{version:?}");
    }
    let check = format!("{}/v1/check", server.url);
    let said = curl(&["--cacert", &ca, "-d", r#"{"user":"u"}"#, &check]).unwrap();
    assert!(said.contains(r#""allowed":true"#), "{said}");

    assert_eq!(redis_cli(&server, &["--tls", "--cacert", &ca, "PING"]), "PONG\n");
    let throttled = redis_cli(&server, &["--tls", "--cacert", &ca, "CL.THROTTLE", "k", "0", "1", "3600"]);
    assert_eq!(throttled, "0\n1\n0\n-1\n3600\n");

    let channel = channel(server.grpc(), authority.client(None, Some("h2"))).await.unwrap();
    let client = Client::over(channel).await;
    let entry = json!({ "key": "user", "value": "u" });
    let answer =
        client.ask(&json!({ "domain": "d", "descriptors": [{ "entries": [entry] }] })).await.unwrap();
    assert_eq!(answer["overallCode"], "OK");

    // Plain words are refused, and hurt nobody.
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(HEALTH.as_bytes()).unwrap();
    let mut came = Vec::new();
    let _ = plain.read_to_end(&mut came);
    assert!(!came.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&came));
    assert!(TlsWire::connect(server.address(), &authority.client(None, None)).is_ok());
}

#[test]
fn much_goes_through_in_both_directions() {
    let authority = authority();
    let server = start(&authority, &[]);
    let config = authority.client(None, None);
    let mut wire = TlsWire::connect(server.resp_address(), &config).unwrap();
    let long = "x".repeat(60_000);
    let command = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{long}\r\n", long.len());
    for _ in 0..20 {
        let answer = wire.ask(&command, "x\r\n").unwrap();
        assert_eq!(answer.len(), long.len() + "$60000\r\n\r\n".len());
    }
    // More than any buffer holds, while the client reads nothing.
    let mut deaf = TlsWire::connect(server.resp_address(), &config).unwrap();
    let writer = command.repeat(10);
    deaf.0.write_all(writer.as_bytes()).unwrap();
    deaf.0.flush().unwrap();
    for _ in 0..10 {
        assert_eq!(deaf.ask("", "x\r\n").unwrap().len(), long.len() + "$60000\r\n\r\n".len());
    }
    let requests: Vec<_> = (0..1_000).map(|number| json!({ "user": number.to_string() })).collect();
    let batch = json!({ "requests": requests }).to_string();
    let mut wire = TlsWire::connect(server.address(), &config).unwrap();
    for _ in 0..5 {
        let length = batch.len();
        let head = format!("POST /v1/check/batch HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        let answer = wire.ask(&(head + &batch), "]}\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("allowed").count() == 1_000);
    }
}

#[test]
fn keys_of_every_usual_kind_work() {
    let authority = Authority::new();
    for (name, key) in [
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp384r1"]),
        ("ed25519", &["-algorithm", "ED25519"]),
    ] {
        authority.issue_with(name, key);
        let (cert, key) =
            (authority.text(&format!("{name}.pem")), authority.text(&format!("{name}-key.pem")));
        let server = Server::start(&["--tls-cert", &cert, "--tls-key", &key]);
        let mut wire = TlsWire::connect(server.address(), &authority.client(None, None)).unwrap();
        assert!(wire.ask(HEALTH, "ok\n").unwrap().starts_with("HTTP/1.1 200"), "{name}");
    }
}

#[tokio::test]
async fn clients_have_to_show_a_certificate_where_that_is_asked() {
    let authority = authority();
    authority.issue("client");
    let other = Authority::new();
    other.issue("stranger");
    let ca = authority.text("ca.pem");
    let server = start(&authority, &["--tls-client-ca", &ca]);
    let url = format!("{}/readyz", server.url);

    let (cert, key) = (authority.text("client.pem"), authority.text("client-key.pem"));
    let said = curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &url]);
    assert_eq!(said.as_deref(), Ok("ready\n"));
    let shown = ["--tls", "--cacert", &ca, "--cert", &cert, "--key", &key, "PING"];
    assert_eq!(redis_cli(&server, &shown), "PONG\n");
    let known = authority.client(Some("client"), Some("h2"));
    let _ = Client::over(channel(server.grpc(), known).await.unwrap()).await;

    // Without one, or with one of somebody else's.
    let (cert, key) = (other.text("stranger.pem"), other.text("stranger-key.pem"));
    for shown in [&[][..], &["--cert", &cert, "--key", &key]] {
        let refused = curl(&[&["--cacert", &ca], shown, &[&url]].concat());
        assert!(refused.is_err(), "{refused:?}");
        let refused = redis_cli(&server, &[&["--tls", "--cacert", &ca], shown, &["PING"]].concat());
        assert!(!refused.contains("PONG"), "{refused}");
    }
    let mut nobody = TlsWire::connect(server.address(), &authority.client(None, None)).unwrap();
    let refused = nobody.ask(HEALTH, "ok\n").unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
    let unknown = authority.client(None, Some("h2"));
    let refused = match channel(server.grpc(), unknown).await {
        Err(_) => true,
        Ok(channel) => {
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
            let asked = tonic_health::pb::HealthCheckRequest { service: String::new() };
            health.check(asked).await.is_err()
        }
    };
    assert!(refused);
}

#[test]
fn some_listeners_can_stay_plain() {
    let authority = authority();
    let server = start(&authority, &["--tls-on", "grpc,resp"]);
    assert_eq!(server.get("/readyz").body, "ready\n");
    assert!(server.grpc().starts_with("https://") && server.announcement.contains(" rediss://"));
    let mut wire = TlsWire::connect(server.resp_address(), &authority.client(None, None)).unwrap();
    assert_eq!(wire.ask("PING\r\n", "\r\n").unwrap(), "+PONG\r\n");
}

/// Asks again and again until the server shows this certificate.
fn until_shown(server: &Server, authority: &Authority, name: &str) {
    let config = authority.client(None, None);
    let started = Instant::now();
    loop {
        let wire = TlsWire::connect(server.address(), &config).unwrap();
        if wire.server() == authority.certificate(name) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{name} was not taken into use");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(unix)]
#[test]
fn certificates_are_read_again_and_no_connection_is_lost() {
    use std::os::unix::fs::symlink;

    let authority = authority();
    authority.issue("next");
    authority.issue("last");
    // As Kubernetes mounts a secret: files are links through a directory, which is a link that is swapped.
    let mount = tempfile::tempdir().unwrap();
    let put = |name: &str| {
        let version = mount.path().join(name);
        std::fs::create_dir(&version).unwrap();
        std::fs::copy(authority.path(&format!("{name}.pem")), version.join("tls.crt")).unwrap();
        std::fs::copy(authority.path(&format!("{name}-key.pem")), version.join("tls.key")).unwrap();
        let swapped = mount.path().join("..swapped");
        symlink(name, &swapped).unwrap();
        std::fs::rename(&swapped, mount.path().join("..data")).unwrap();
    };
    put("server");
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), mount.path().join(file)).unwrap();
    }
    let file = |name: &str| mount.path().join(name).to_str().unwrap().to_owned();
    let mut server = Server::start(&["--tls-cert", &file("tls.crt"), "--tls-key", &file("tls.key")]);
    until_shown(&server, &authority, "server");
    let mut old = TlsWire::connect(server.address(), &authority.client(None, None)).unwrap();
    assert!(old.ask(HEALTH, "ok\n").is_ok());

    put("next");
    until_shown(&server, &authority, "next");
    assert!(old.ask(HEALTH, "ok\n").is_ok());

    // A key that does not match is not taken; asked to, the server says so, and goes on with what it has.
    std::fs::copy(authority.path("last-key.pem"), mount.path().join("next/tls.key")).unwrap();
    hang_up(&server);
    std::thread::sleep(Duration::from_millis(500));
    until_shown(&server, &authority, "next");
    assert!(old.ask(HEALTH, "ok\n").is_ok());

    put("last");
    hang_up(&server);
    until_shown(&server, &authority, "last");
    assert!(old.ask(HEALTH, "ok\n").is_ok());

    server.terminate();
    assert!(server.wait(PATIENCE).unwrap().success());
    let mut log = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("the certificate in use is kept: --tls-key: the key in"), "{log}");
    assert_eq!(log.matches("a new certificate is in use").count(), 2, "{log}");
}

#[cfg(unix)]
fn hang_up(server: &Server) {
    let status = Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn who_does_not_shake_hands_holds_nobody_up() {
    let authority = authority();
    let server = start(&authority, &[]);
    let config = authority.client(None, None);
    // Some say nothing, some half of it.
    let stalled: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
            }
            stream
        })
        .collect();
    let mut wire = TlsWire::connect(server.address(), &config).unwrap();
    assert!(wire.ask(HEALTH, "ok\n").is_ok());
    // And are gone after ten seconds.
    for mut stream in stalled {
        let _ = stream.read_to_end(&mut Vec::new()).map_err(|error| {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        });
    }
    assert!(wire.ask(HEALTH, "ok\n").is_ok());
}

#[test]
fn what_is_wrong_with_certificates_is_said_at_the_start() {
    let authority = authority();
    authority.issue("other");
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let torn = authority.path("torn.pem");
    let whole = std::fs::read_to_string(authority.path("server.pem")).unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let said = |cert: &str, key: &str, ca: Option<&str>| {
        let (cert, key) = (authority.text(cert), authority.text(key));
        let ca = ca.map(|ca| authority.text(ca));
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--grpc", "off", "--resp", "off"];
        arguments.extend(["--tls-cert", &cert, "--tls-key", &key]);
        arguments.extend(ca.as_deref().map(|ca| ["--tls-client-ca", ca]).into_iter().flatten());
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output).replace(authority.path("").to_str().unwrap(), "")
    };
    let all = [
        said("missing.pem", "server-key.pem", None),
        said("server.pem", "other-key.pem", None),
        said("empty.pem", "server-key.pem", None),
        said("torn.pem", "server-key.pem", None),
        said("server.pem", "server.pem", None),
        said("server-key.pem", "server-key.pem", None),
        said("server.pem", "server-key.pem", Some("empty.pem")),
    ];
    insta::assert_snapshot!(all.concat());
    let alone = run(&["serve", "--tls-cert", "server.pem"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(stderr(&alone).contains("--tls-key"), "{}", stderr(&alone));
}
