//! `tollgate serve`, over the Redis protocol.

// What is sent and expected reads best as texts put together.
#![allow(clippy::format_collect, clippy::format_push_string)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{Server, run, stderr};
use servers::Redis;

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection by hand.
struct Wire(TcpStream);

impl Wire {
    fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.resp()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads just this.
    fn expect(&mut self, answer: &str) {
        let mut came = vec![0; answer.len()];
        self.0.read_exact(&mut came).unwrap();
        assert_eq!(String::from_utf8_lossy(&came), answer);
    }

    /// Reads until the other side has closed.
    fn rest(&mut self) -> String {
        let mut came = Vec::new();
        self.0.read_to_end(&mut came).unwrap();
        String::from_utf8(came).unwrap()
    }
}

fn array(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let texts: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", words.len(), texts.concat())
}

/// What redis-cli prints.
fn cli(server: &Server, arguments: &[&str]) -> String {
    let (host, port) = server.resp().split_once(':').unwrap();
    let output = Command::new("redis-cli")
        .args(["-h", host, "-p", port])
        .args(arguments)
        .env_remove("REDISCLI_AUTH")
        .output()
        .unwrap_or_else(|error| panic!("redis-cli: {error}; install it with `apt-get install redis-tools`"));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_examples_by_hand() {
    let server = Server::start(&[]);
    let mut wire = Wire::to(&server);
    wire.send(array("CL.THROTTLE user123 15 30 60"));
    wire.expect("*5\r\n:0\r\n:16\r\n:15\r\n:-1\r\n:2\r\n");
    wire.send(array("CL.THROTTLE slow 0 1 3600"));
    wire.expect("*5\r\n:0\r\n:1\r\n:0\r\n:-1\r\n:3600\r\n");
    wire.send(array("cl.throttle slow 0 1 3600"));
    wire.expect("*5\r\n:1\r\n:1\r\n:0\r\n:3600\r\n:3600\r\n");
    wire.send(array("THROTTLE crab 2 2 7200"));
    wire.expect("*5\r\n:1\r\n:2\r\n:1\r\n:3600\r\n:0\r\n");
    wire.send(array("GCRA redis 1 1 3600 TOKENS 2"));
    wire.expect("*5\r\n:0\r\n:2\r\n:0\r\n:-1\r\n:7200\r\n");
    wire.send("CL.THROTTLE k 1 1\r\nCL.THROTTLE k 1 0 1\r\nCL.THROTTLE k x 1 1\r\n");
    wire.expect(
        "-Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]\r\n\
         -Cell error: Zero rates are not supported\r\n-Cell error: Couldn't parse as integer: x\r\n",
    );
    wire.send("NOTHING\r\nPING\r\nQUIT\r\nPING\r\n");
    assert_eq!(wire.rest(), "-ERR unknown command 'NOTHING', with args beginning with: \r\n+PONG\r\n+OK\r\n");
}

#[test]
fn a_thousand_commands_at_once_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut wire = Wire::to(&server);
    let (mut asked, mut answers) = (String::new(), String::new());
    for number in 0..1_000 {
        asked += &array("CL.THROTTLE many 599 1 3600");
        _ = write!(asked, "ECHO {number}\r\n");
        let (limited, left) = if number < 600 { (0, 599 - number) } else { (1, 0) };
        let retry = if limited == 1 { 3_600 } else { -1 };
        let full = 3_600 * (number + 1).min(600);
        _ = write!(answers, "*5\r\n:{limited}\r\n:600\r\n:{left}\r\n:{retry}\r\n:{full}\r\n");
        _ = write!(answers, "${}\r\n{number}\r\n", number.to_string().len());
    }
    wire.send(asked);
    wire.expect(&answers);
    let metrics = server.get("/metrics").body;
    for line in [
        r#"rate_limiter_requests_total{backend="memory",result="allowed"} 600"#,
        r#"rate_limiter_requests_total{backend="memory",result="denied"} 400"#,
    ] {
        assert!(metrics.lines().any(|shown| shown == line), "{line}\n{metrics}");
    }
}

/// Asks for many large answers at once, and fetches them only when all is asked. Between them lie questions to the store.
fn ask_for_much(server: &Server) {
    let mut wire = Wire::to(server);
    wire.send("COMMAND DOCS\r\nECHO end\r\n");
    let mut docs = Vec::new();
    while !docs.ends_with(b"$3\r\nend\r\n") {
        let mut came = [0];
        wire.0.read_exact(&mut came).unwrap();
        docs.push(came[0]);
    }
    docs.truncate(docs.len() - "$3\r\nend\r\n".len());
    let docs = String::from_utf8(docs).unwrap();
    let (mut asked, mut answers) = (String::new(), String::new());
    for number in 0..500 {
        let key = format!("much-{number}");
        asked += &format!("COMMAND DOCS\r\n{}ECHO {key}\r\n", array(&format!("CL.THROTTLE {key} 9 1 3600")));
        answers += &format!("{docs}*5\r\n:0\r\n:10\r\n:9\r\n:-1\r\n:3600\r\n${}\r\n{key}\r\n", key.len());
    }
    wire.send(asked);
    wire.expect(&answers);
    wire.send("QUIT\r\n");
    assert_eq!(wire.rest(), "+OK\r\n");
}

#[test]
fn large_answers_wait_until_those_before_them_have_left() {
    ask_for_much(&Server::start(&[]));
}

#[test]
fn slow_clients_and_half_commands_hurt_nobody() {
    let server = Server::start(&[]);
    let mut slow = Wire::to(&server);
    for byte in (array("CL.THROTTLE slow 9 1 3600") + "ECHO 'a b'\r\n").as_bytes() {
        slow.send([*byte]);
    }
    slow.expect("*5\r\n:0\r\n:10\r\n:9\r\n:-1\r\n:3600\r\n$3\r\na b\r\n");

    let mut half = Wire::to(&server);
    half.send("PING\r\n*2\r\n$4\r\nECHO\r\n$10\r\nhal");
    half.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.rest(), "+PONG\r\n");

    let mut long = Wire::to(&server);
    // What it does not want to hear is not waited for.
    let _ = long.0.write_all(&vec![b'x'; 1_000_000]);
    assert_eq!(long.rest(), "-ERR Protocol error: too big inline request\r\n");

    for (sent, said) in [
        ("*1\r\n$2000000000\r\n", "invalid bulk length"),
        ("*2000000000\r\n", "invalid multibulk length"),
        ("*1\r\n*1\r\n*1\r\n", "expected '$', got '*'"),
    ] {
        let mut bomb = Wire::to(&server);
        bomb.send(sent);
        assert_eq!(bomb.rest(), format!("-ERR Protocol error: {said}\r\n"));
    }
    slow.send("PING\r\n");
    slow.expect("+PONG\r\n");
}

#[test]
fn who_does_not_read_is_closed() {
    let server = Server::start(&[]);
    let mut deaf = Wire::to(&server);
    let commands = "COMMAND DOCS\r\n".repeat(4_000);
    // Until the answers fill all that lies between, and the server has had enough.
    while deaf.0.write_all(commands.as_bytes()).is_ok() {}
    assert_eq!(cli(&server, &["PING"]), "PONG\n");
}

#[test]
fn connections_are_counted() {
    let server = Server::start(&["--max-connections", "2", "--resp-idle", "1s"]);
    let (mut one, mut other) = (Wire::to(&server), Wire::to(&server));
    for wire in [&mut one, &mut other] {
        // Who has asked but once would make room for others.
        for _ in 0..3 {
            wire.send("PING\r\n");
            wire.expect("+PONG\r\n");
        }
    }
    assert_eq!(Wire::to(&server).rest(), "-ERR max number of clients reached\r\n");
    // Who says nothing for too long is let go, and another may come.
    assert_eq!(one.rest(), "");
    assert_eq!(other.rest(), "");
    assert_eq!(cli(&server, &["PING"]), "PONG\n");
}

#[test]
fn redis_cli_in_both_versions() {
    let server = Server::start(&[]);
    let check = ["TG.CHECK", "path", "/api/v2/x", "api_key", "k", "header:x-tenant", "acme"];
    // Last comes how long until all is there again, which depends on when it is asked.
    let two = cli(&server, &check);
    assert!(two.starts_with("1\napi-v2\n100\n99\n0\n") && two.lines().count() == 6, "{two}");
    let three = cli(&server, &[&["-3"], &check[..]].concat());
    assert!(
        three.starts_with("allowed 1\npolicy api-v2\nlimit 100\nremaining 98\nretry_after_ms 0\n"),
        "{three}"
    );
    let peek = cli(&server, &["TG.PEEK", "path", "/api/v2/x", "api_key", "k", "cost", "99"]);
    assert!(peek.starts_with("0\napi-v2\n100\n98\n"), "{peek}");
    let never = cli(&server, &["TG.PEEK", "path", "/api/v2/x", "api_key", "k", "cost", "101"]);
    assert!(never.starts_with("0\napi-v2\n100\n98\n-1\n"), "{never}");
    assert_eq!(cli(&server, &["TG.RESET", "path", "/api/v2/x", "api_key", "k"]), "api-v2\ndefault\n");
    assert!(
        cli(&server, &["TG.PEEK", "path", "/api/v2/x", "api_key", "k"]).starts_with("1\napi-v2\n100\n100\n")
    );
    assert_eq!(cli(&server, &["TG.CHECK", "method", "GET"]), "1\n\n\n\n0\n0\n");
    let status = cli(&server, &["-3", "TG.STATUS"]);
    assert!(status.contains("allowed 3\ndenied 0\n") && status.contains("store memory\n"), "{status}");
    assert!(cli(&server, &["INFO", "server"]).starts_with("# Server\r\ntollgate_version:"));
    assert_eq!(cli(&server, &["-3", "CL.THROTTLE", "k", "0", "1", "60"]), "0\n1\n0\n-1\n60\n");
    assert!(
        cli(&server, &["TG.CHECK", "colour", "red"]).contains("`colour` is not an attribute of a request")
    );
    // The policy file decides by the same state, whoever asks.
    let reply = server.post("/v1/peek", r#"{"path":"/api/v2/x","api_key":"k"}"#);
    assert_eq!(reply.json()["remaining"], 100);
}

#[test]
fn a_password_is_asked_for() {
    let mut command = common::tollgate();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"])
        .env("TOLLGATE_RESP_PASSWORD", "canary-77aa");
    let server = Server::start_command(command);
    assert!(!server.announcement.contains("canary"));
    let mut wire = Wire::to(&server);
    wire.send("CL.THROTTLE k 1 1 1\r\nAUTH no\r\nAUTH canary-77aa\r\nCL.THROTTLE k 1 1 3600\r\n");
    wire.expect(
        "-NOAUTH Authentication required.\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n\
         *5\r\n:0\r\n:2\r\n:1\r\n:-1\r\n:3600\r\n",
    );
    assert!(cli(&server, &["PING"]).contains("NOAUTH"));
    for version in ["-2", "-3"] {
        assert!(
            cli(&server, &[version, "--no-auth-warning", "-a", "canary-77aa", "PING"]).ends_with("PONG\n")
        );
    }
}

#[test]
fn the_redis_crate_is_a_client() {
    let server = Server::start(&[]);
    for protocol in ["", "?protocol=resp3"] {
        let client = redis::Client::open(format!("redis://{}/{protocol}", server.resp())).unwrap();
        let mut connection = client.get_connection().unwrap();
        let key = format!("user{protocol}");
        let ask = || {
            let mut command = redis::cmd("CL.THROTTLE");
            command.arg(&key).arg(1).arg(1).arg(3_600);
            command
        };
        let first: (i64, i64, i64, i64, i64) = ask().query(&mut connection).unwrap();
        assert_eq!(first, (0, 2, 1, -1, 3_600));
        let mut pipeline = redis::pipe();
        pipeline.add_command(ask()).add_command(ask());
        let both: Vec<Vec<i64>> = pipeline.query(&mut connection).unwrap();
        assert_eq!(both[0][..4], [0, 2, 0, -1]);
        assert_eq!(both[1][..3], [1, 2, 0]);
        let error = redis::cmd("GET").arg("x").query::<()>(&mut connection).unwrap_err();
        assert!(error.to_string().contains("unknown command 'GET'"), "{error}");
        let name: String = redis::cmd("ECHO").arg("still here").query(&mut connection).unwrap();
        assert_eq!(name, "still here");
    }
}

#[test]
fn on_a_store_that_nodes_share() {
    let redis = Redis::start(&[]);
    let start = || Server::start(&["--store", &redis.url(), "--store-deadline", "2s"]);
    let (one, other) = (start(), start());
    let ask = |server: &Server, line: &str| {
        let mut wire = Wire::to(server);
        wire.send(array(line) + "QUIT\r\n");
        wire.rest()
    };
    assert_eq!(
        ask(&one, "CL.THROTTLE k 99 1 3600 100"),
        "*5\r\n:0\r\n:100\r\n:0\r\n:-1\r\n:360000\r\n+OK\r\n"
    );
    // A changed limit meets what is stored, and a denial leaves it.
    let denied = ask(&other, "CL.THROTTLE k 1 1 3600");
    assert!(denied.starts_with("*5\r\n:1\r\n:2\r\n:0\r\n:3564"), "{denied}");
    let denied = ask(&one, "CL.THROTTLE k 99 1 3600");
    assert!(denied.starts_with("*5\r\n:1\r\n:100\r\n:0\r\n:3"), "{denied}");
    assert!(denied.ends_with("\r\n:360000\r\n+OK\r\n") || denied.contains(":3599"), "{denied}");

    // Many at once, answered in order.
    let mut wire = Wire::to(&other);
    let mut asked = String::new();
    for number in 0..200 {
        asked += &array("CL.THROTTLE many 99 1 86400");
        _ = write!(asked, "ECHO {number}\r\n");
    }
    asked += &array("TG.CHECK path /api/v2/x api_key k cost 100");
    asked += &array("TG.RESET path /api/v2/x api_key k");
    asked += &array("TG.CHECK path /api/v2/x api_key k cost 100");
    asked += "QUIT\r\n";
    wire.send(asked);
    let answers = wire.rest();
    assert_eq!(answers.matches("*5\r\n:0\r\n").count(), 100, "{answers}");
    assert_eq!(answers.matches("*5\r\n:1\r\n").count(), 100, "{answers}");
    let numbers: Vec<usize> = answers
        .split("\r\n$")
        .filter_map(|part| part.split_once("\r\n")?.1.split("\r\n").next()?.parse().ok())
        .take(200)
        .collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    assert_eq!(answers.matches("*6\r\n:1\r\n$6\r\napi-v2\r\n:100\r\n:0\r\n").count(), 2, "{answers}");
    ask_for_much(&one);
}

#[test]
fn no_decision_is_no_denial() {
    let place = Redis::nowhere();
    let seed = "00112233445566778899aabbccddeeff";
    let server = Server::start(&["--store", &place.url(), "--key-seed", seed, "--on-store-failure", "deny"]);
    let answer = cli(&server, &["CL.THROTTLE", "k", "1", "1", "1"]);
    assert!(answer.starts_with("UNAVAILABLE the store is unavailable: "), "{answer}");
    let answer = cli(&server, &["TG.CHECK", "path", "/api/v2/x", "api_key", "k"]);
    assert!(answer.starts_with("UNAVAILABLE the store is unavailable: "), "{answer}");
    let metrics = server.get("/metrics").body;
    assert!(
        metrics.contains(r#"rate_limiter_requests_total{backend="redis",result="error"} 2"#),
        "{metrics}"
    );
}

#[cfg(unix)]
#[test]
fn told_to_stop_it_answers_what_is_under_way() {
    let mut server = Server::start(&[]);
    let (mut idle, mut slow) = (Wire::to(&server), Wire::to(&server));
    for wire in [&mut idle, &mut slow] {
        wire.send("PING\r\n");
        wire.expect("+PONG\r\n");
    }
    slow.send("*2\r\n$4\r\nECHO\r\n");
    // What was sent before is read before, on a connection of its own.
    assert_eq!(cli(&server, &["PING"]), "PONG\n");
    server.terminate();
    // Whoever has nothing under way is let go; nobody comes any more.
    assert_eq!(idle.rest(), "");
    slow.send("$4\r\nlast\r\n");
    assert_eq!(slow.rest(), "$4\r\nlast\r\n");
    assert!(server.wait(Duration::from_secs(12)).expect("the server ends").success());
}

#[test]
fn it_can_be_switched_off_and_what_is_wrong_is_said() {
    let server = Server::start(&["--resp-password", "unused"]);
    let taken = run(&["serve", "--listen", "127.0.0.1:0", "--resp", server.resp()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).contains("--resp off"), "{}", stderr(&taken));
    let mut command = common::tollgate();
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("TOLLGATE_RESP", "off");
    assert!(Server::start_command(command).announcement.contains("  RESP      off\n"));
    let wrong = run(&["serve", "--resp", "here"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("127.0.0.1:8081, or `off`"), "{}", stderr(&wrong));
}
