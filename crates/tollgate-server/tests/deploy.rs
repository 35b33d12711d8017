//! What runs the server elsewhere: health checks, systemd, and the files under `deploy/`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::Duration;

use common::{Server, root, stderr, stdout, tollgate};
use tls::Authority;

const PATIENCE: Duration = Duration::from_secs(30);

fn health(arguments: &[&str]) -> Output {
    tollgate().arg("health").args(arguments).output().unwrap()
}

#[test]
fn health_is_that_of_the_server() {
    let mut server = Server::start(&[]);
    let address = server.address().to_owned();
    let ready = health(&["--listen", &address]);
    assert_eq!((ready.status.code(), stdout(&ready)), (Some(0), "ready\n".to_owned()));

    // By the variables of the server, one that listens everywhere.
    let port = address.rsplit_once(':').unwrap().1;
    let output = tollgate().arg("health").env("TOLLGATE_LISTEN", format!("0.0.0.0:{port}")).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "ready\n".to_owned()));

    // One that is about to stop, and waits for the rest of a request.
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{").unwrap();
    let mut asks = TcpStream::connect(&address).unwrap();
    asks.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";
    asks.write_all(request.as_bytes()).unwrap();
    let mut said = [0; 1_024];
    assert!(asks.read(&mut said).unwrap() > 0);
    server.terminate();
    let output = loop {
        let output = health(&["--listen", &address]);
        if output.status.code() != Some(0) {
            break output;
        }
    };
    // It still answers for a moment, and then nobody is there.
    let said = stderr(&output);
    assert!(
        said.contains("is not ready: unready: stopping (status 503)") || said.contains("does not answer"),
        "{said}"
    );
    slow.write_all(b"}").unwrap();
    assert!(server.wait(PATIENCE).unwrap().success());

    let nobody = health(&["--listen", &address]);
    assert_eq!(nobody.status.code(), Some(1));
    let said = stderr(&nobody);
    assert!(said.starts_with(&format!("tollgate: the server at {address} does not answer: ")), "{said}");
}

#[test]
fn health_speaks_tls_where_the_server_does() {
    let authority = Authority::new();
    authority.issue("server");
    let (cert, key, ca) =
        (authority.text("server.pem"), authority.text("server-key.pem"), authority.text("ca.pem"));
    for more in [&[][..], &["--tls-client-ca", &ca]] {
        let options = [&["--tls-cert", &cert, "--tls-key", &key], more].concat();
        let server = Server::start(&options);
        let output = health(&[&["--listen", server.address()], &options[..]].concat());
        assert_eq!(
            (output.status.code(), stdout(&output)),
            (Some(0), "ready\n".to_owned()),
            "{}",
            stderr(&output)
        );
        // Whoever speaks otherwise is not answered, and says so.
        let output = health(&["--listen", server.address()]);
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = tollgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--resp", "off"]).env("NOTIFY_SOCKET", &path);
    let mut server = Server::start_command(command);
    let told = || {
        let mut said = [0; 256];
        let length = socket.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    assert_eq!(server.get("/readyz").status, 200);
    server.terminate();
    assert_eq!(told(), "STOPPING=1");
    assert!(server.wait(PATIENCE).unwrap().success());
}

#[test]
fn the_unit_of_systemd_is_in_order() {
    let unit = std::fs::read_to_string(root().join("deploy/systemd/tollgate.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/local/bin/tollgate serve\n"));
    // The program need not be installed here.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/tollgate", "/bin/true")).unwrap();
    let analyze = |arguments: &[&str]| {
        let output =
            Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap_or_else(|error| {
                panic!("systemd-analyze: {error}; install it with `apt-get install systemd`")
            });
        (output.status.success(), stdout(&output) + &stderr(&output))
    };
    let (is_right, said) = analyze(&["verify"]);
    assert!(is_right && said.is_empty(), "{said}");
    // In tenths: of 100, what a service without any hardening is near to.
    let (is_safe, said) = analyze(&["security", "--offline=yes", "--threshold=20"]);
    assert!(is_safe, "{said}");
}

#[test]
fn what_is_deployed_names_what_there_is() {
    let read = |path: &str| std::fs::read_to_string(root().join("deploy").join(path)).unwrap();
    let (docker, kubernetes) = (read("docker/Dockerfile"), read("kubernetes/tollgate.yaml"));
    let help = stdout(&tollgate().args(["serve", "--help"]).output().unwrap());
    for text in [&docker, &kubernetes, &read("systemd/tollgate.service")] {
        for word in text.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_')) {
            assert!(!word.starts_with("TOLLGATE_") || help.contains(&format!("[env: {word}")), "{word}");
        }
    }
    // The policies of the example are such.
    let (_, policies) = kubernetes.split_once("policy.yaml: |\n").unwrap();
    let policies: Vec<&str> = policies.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.yaml");
    std::fs::write(&path, policies.join("\n")).unwrap();
    let validated = common::run(&["validate", path.to_str().unwrap()]);
    assert!(validated.status.success(), "{}", stderr(&validated));
}
