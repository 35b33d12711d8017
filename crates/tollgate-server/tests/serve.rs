//! `tollgate serve`, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use common::{Reply, Server, root, run, stderr, tollgate};
use serde_json::json;

const LOGIN: &str = r#"{"method":"POST","path":"/api/auth/login","ip":"203.0.113.7"}"#;

#[test]
fn it_says_what_runs_and_the_line_to_try_works() {
    // Which clock is best depends on the machine.
    let server = Server::start(&["--clock", "monotonic"]);
    let shown = server.announcement.replace(server.address(), "ADDRESS");
    let shown = shown.replace(&server.grpc(), "http://GRPC").replace(server.resp(), "RESP");
    let shown = shown.replace(&server.admin(), "http://ADMIN");
    insta::assert_snapshot!(shown);
    // The curl line is taken at its word.
    let line = server.announcement.lines().find(|line| line.contains("curl")).unwrap();
    let (_, body) = line.split_once("-d '").unwrap();
    let reply = server.post("/v1/check", body.trim_end_matches('\''));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["allowed"], true);
}

/// The answers to six logins within one minute of the clock.
fn six_logins(server: &Server) -> Vec<Reply> {
    let minute = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 60;
    for _ in 0..3 {
        let started = minute();
        let replies: Vec<Reply> = (0..6).map(|_| server.post("/v1/check", LOGIN)).collect();
        if minute() == started {
            return replies;
        }
        // A minute ended in between. It cannot do so again, but what was counted must go.
        server.post("/v1/reset", &format!(r#"{{"request":{LOGIN}}}"#));
    }
    panic!("six requests took longer than a minute");
}

#[test]
fn the_sixth_login_of_a_minute_is_denied_and_told_why() {
    let server = Server::start(&[]);
    let replies = six_logins(&server);
    for (reply, left) in replies.iter().zip((0..5).rev()) {
        let answer = reply.json();
        assert_eq!(
            (reply.status, &answer["remaining"], &answer["policy"]),
            (200, &json!(left), &json!("login"))
        );
    }
    let reply = &replies[5];
    let answer = reply.json();
    assert_eq!(reply.status, 429);
    assert_eq!(answer["allowed"], false);
    assert_eq!(answer["error"]["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(answer["error"]["details"]["limit"], 5);
    assert_eq!(answer["error"]["details"]["window_seconds"], 60);
    let retry: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry));
    assert_eq!(answer["error"]["details"]["retry_after_seconds"], retry);
    assert_eq!(reply.header("x-ratelimit-limit"), Some("5"));
    assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
    assert!(reply.header("ratelimit").unwrap().starts_with(r#""login";r=0;t="#), "{reply:?}");
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some(r#""login";q=5;w=60, "burst-guard";q=100;w=10, "default";q=1000;w=3600"#)
    );

    // A denied request took nothing from the other policies: 5 of 1,000 are spent.
    let default =
        answer["policies"].as_array().unwrap().iter().find(|policy| policy["policy"] == "default").unwrap();
    assert_eq!(default["remaining"], 995);
    // Another address is another client.
    assert_eq!(server.post("/v1/check", &LOGIN.replace("113.7", "113.8")).status, 200);
}

#[test]
fn peek_takes_nothing_and_reset_forgets() {
    let server = Server::start(&[]);
    let request = r#"{"path":"/api/v2/x","api_key":"k-1"}"#;
    for _ in 0..3 {
        assert_eq!(server.post("/v1/peek", request).json()["remaining"], 100);
    }
    assert_eq!(server.post("/v1/check", request).json()["remaining"], 99);
    let reply = server.post("/v1/reset", &format!(r#"{{"request":{request},"policy":"api-v2"}}"#));
    assert_eq!((reply.status, reply.json()), (200, json!({ "reset": ["api-v2"] })));
    let left = server.post("/v1/peek", request).json()["policies"].clone();
    assert_eq!((&left[0]["remaining"], &left[1]["remaining"]), (&json!(100), &json!(999)));
    let reply = server.post("/v1/reset", &format!(r#"{{"request":{request}}}"#));
    assert_eq!(reply.json(), json!({ "reset": ["api-v2", "default"] }));
    let reply = server.post("/v1/reset", r#"{"policy":"nothing"}"#);
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("UNKNOWN_POLICY")));
}

#[test]
fn costs_tiers_and_batches() {
    let server = Server::start(&[]);
    let batch = json!({ "requests": [
        { "path": "/api/v2/x", "api_key": "a", "cost": 60 },
        { "path": "/api/v2/x", "api_key": "a", "cost": 60 },
        { "path": "/api/v2/x", "api_key": "a", "cost": 40 },
        { "path": "/api/v2/x", "api_key": "a", "cost": 101 },
        { "path": "/api/plans/y", "user": "u", "attributes": { "plan": "premium" } },
        { "path": "/api/plans/y", "user": "u", "attributes": { "plan": "imagined" } },
        {},
    ]});
    let reply = server.post("/v1/check/batch", &batch.to_string());
    let results = reply.json()["results"].clone();
    let allowed: Vec<_> =
        results.as_array().unwrap().iter().map(|result| result["allowed"].as_bool().unwrap()).collect();
    assert_eq!((reply.status, allowed), (200, vec![true, false, true, false, true, true, true]));
    // What can never pass is not told to wait.
    assert!(results[3].get("retry_after_ms").is_none());
    assert_eq!(results[4]["limit"], 10_000);
    assert_eq!(results[5]["limit"], 100);
    // To a request of which nothing is known no policy applies.
    assert_eq!(results[6], json!({ "allowed": true, "policies": [] }));
}

#[test]
fn what_is_wrong_with_a_question_is_said_with_its_place() {
    let server = Server::start(&[]);
    let mut shown = String::new();
    for body in [
        "",
        "{",
        "{\n  \"method\": GET\n}",
        r#"{"methd":"GET"}"#,
        r#"{"ip":"300.1.2.3"}"#,
        r#"{"cost":-1}"#,
        r#"{"cost":4294967296}"#,
        r#"{"cost":1.5}"#,
        r#"{"headers":{"a":1}}"#,
        "[]",
        "\"\\ud800\"",
        "null",
    ] {
        let reply = server.post("/v1/check", body);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("BAD_REQUEST")), "{body}");
        let _ = writeln!(shown, "{body}\n    {}", reply.json()["error"]["message"].as_str().unwrap());
    }
    insta::assert_snapshot!(shown);
    assert_eq!(server.post("/v1/check", &format!(r#"{{"path":"{}"}}"#, "x".repeat(70_000))).status, 413);
    let many = json!({ "requests": vec![json!({}); 1_001] });
    assert_eq!(server.post("/v1/check/batch", &many.to_string()).status, 400);
    assert_eq!(server.get("/v1/check").status, 405);
    assert_eq!(server.get("/nothing").status, 404);
    // After all that it still works.
    assert_eq!(server.post("/v1/check", LOGIN).status, 200);
}

#[test]
fn bytes_that_are_no_text_are_refused_or_counted_but_break_nothing() {
    let server = Server::start(&[]);
    for request in [
        b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\n\xff\xfe\x00".as_slice(),
        b"POST /v1/check HTTP/1.1\r\nhost: x\r\nx-bytes: \xff\xfe\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request).unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(!reply.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn status_policies_and_metrics_tell_what_happened() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        server.post("/v1/check", r#"{"path":"/api/v2/x","api_key":"canary-6f1d"}"#);
    }
    server.post("/v1/check", r#"{"path":"/api/v2/x","api_key":"canary-6f1d","cost":1000}"#);
    server.post("/v1/check", "nonsense");

    let status = server.get("/v1/status").json();
    assert_eq!((&status["allowed"], &status["denied"]), (&json!(3), &json!(1)));
    assert_eq!(status["store"]["backend"], "memory");
    assert_eq!(status["store"]["available"], true);
    assert_eq!(status["active_policies"], 7);
    let api =
        status["policies"].as_array().unwrap().iter().find(|policy| policy["name"] == "api-v2").unwrap();
    assert_eq!(*api, json!({ "name": "api-v2", "matched": 4, "denied": 1 }));

    let policies = server.get("/v1/policies").json();
    let login = &policies["policies"][0];
    assert_eq!(
        (&login["name"], &login["limits"][0]["rule"]),
        (&json!("login"), &json!("5/minute fixed window"))
    );

    let reply = server.get("/metrics");
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        r#"rate_limiter_requests_total{backend="memory",result="allowed"} 3"#,
        r#"rate_limiter_requests_total{backend="memory",result="denied"} 1"#,
        r#"rate_limiter_requests_total{backend="memory",result="error"} 1"#,
        r#"rate_limiter_request_duration_seconds_count{backend="memory"} 4"#,
        "# TYPE rate_limiter_redis_available gauge",
        r#"rate_limiter_consecutive_failures{instance="memory"} 0"#,
        r#"rate_limiter_policy_hits_total{policy="api-v2"} 4"#,
        r#"rate_limiter_policy_denied_total{policy="api-v2"} 1"#,
        r#"rate_limiter_active_policies{instance="memory"} 7"#,
    ] {
        assert!(reply.body.lines().any(|shown| shown == line), "{line}\n{}", reply.body);
    }
    for page in ["/v1/status", "/v1/policies", "/metrics"] {
        assert!(!server.get(page).body.contains("canary"), "{page} shows a secret");
    }
    assert_eq!((server.get("/healthz").status, server.get("/readyz").status), (200, 200));
}

#[test]
fn small_answers_are_not_held_back() {
    // With Nagle's algorithm on, an answer can wait for the client's delayed acknowledgement: 40 ms each.
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"user":"u"}"#;
    let request =
        format!("POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"}\n") {
            let mut part = [0; 4_096];
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0);
            reply.extend_from_slice(&part[..read]);
        }
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < Duration::from_millis(30), "{fastest:?}");
}

#[test]
fn a_request_has_so_much_time_and_so_much_room() {
    let server = Server::start(&[]);
    let send = |bytes: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    let hear = |mut stream: TcpStream| {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    let started = Instant::now();
    let silent = send("");
    let half_a_head = send("GET / HTTP/1.1\r\nhost: x\r\n");
    let half_a_body = send("POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n{\"user\"");
    let mut then_half_a_head = send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut said = Vec::new();
    while !said.ends_with(b"ok\n") {
        let mut byte = [0];
        then_half_a_head.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    then_half_a_head.write_all(b"GET /he").unwrap();

    let many = send(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)));
    assert!(hear(many).starts_with("HTTP/1.1 431"));
    let long = send(&format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(16 << 10)));
    assert!(hear(long).starts_with("HTTP/1.1 431"));

    assert_eq!(hear(silent), "");
    assert_eq!(hear(half_a_head), "");
    assert!(started.elapsed() >= Duration::from_secs(9), "{:?}", started.elapsed());
    let said = hear(half_a_body);
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(
        said.contains("the request did not come within 10 s") && said.contains("connection: close"),
        "{said}"
    );
    // What follows an answer is waited for as well.
    assert_eq!(hear(then_half_a_head), "");
}

#[test]
fn in_a_crowd_requests_are_answered_however_they_are_cut() {
    let server = Server::start(&[]);
    let connect = || {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    let hear = |stream: &mut TcpStream, answers: usize| {
        let mut said = Vec::new();
        while said.windows(3).filter(|three| three == b"ok\n").count() < answers {
            let mut part = [0; 4_096];
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0);
            said.extend_from_slice(&part[..read]);
        }
    };
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    // More than keep what they need for the next request.
    let mut crowd: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(request.as_bytes()).unwrap();
            hear(&mut stream, 1);
            stream
        })
        .collect();
    let mut stream = connect();
    for cut in [1, 5, request.len() - 3, request.len() - 1] {
        // Several at once, and a part of the next.
        let (begin, end) = request.split_at(cut);
        stream.write_all(format!("{request}{request}\r\n{request}{begin}").as_bytes()).unwrap();
        hear(&mut stream, 3);
        stream.write_all(format!("{end}{request}").as_bytes()).unwrap();
        hear(&mut stream, 2);
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        hear(&mut stream, 1);
    }
    for stream in &mut crowd {
        stream.write_all(request.as_bytes()).unwrap();
        hear(stream, 1);
    }
}

#[test]
fn connections_are_counted_by_address() {
    let server = Server::start(&["--max-connections", "3", "--max-connections-per-address", "2"]);
    let mut kept: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    for stream in &mut kept {
        let head = "POST /v1/check HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 12\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // It says so when the request is under way.
        let mut goes_on = [0; 25];
        stream.read_exact(&mut goes_on).unwrap();
        assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut refused = TcpStream::connect(server.address()).unwrap();
    let mut said = String::new();
    refused.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    // Whoever is answered, and then silent, makes room.
    kept[0].write_all(b"{\"user\":\"u\"}").unwrap();
    common::until("there is room", || server.try_get("/healthz").is_some_and(|reply| reply.status == 200));
}

#[cfg(unix)]
#[test]
fn told_to_stop_it_ends_in_time_whatever_a_client_does() {
    let mut server = Server::start(&[]);
    let mut idle = TcpStream::connect(server.address()).unwrap();
    idle.write_all(b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    assert_eq!(server.get("/healthz").status, 200);
    server.terminate();
    // The client would go on for ever.
    assert!(server.wait(common::PATIENCE).expect("the server ends").success());
}

#[cfg(unix)]
#[test]
fn told_to_stop_it_answers_what_is_under_way() {
    let mut server = Server::start(&[]);
    let mut slow = TcpStream::connect(server.address()).unwrap();
    slow.write_all(b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n{\"user\"").unwrap();
    // A second request shows that the first has arrived: connections are accepted in order.
    assert_eq!(server.get("/healthz").status, 200);
    server.terminate();
    while TcpStream::connect(server.address()).is_ok() {
        std::thread::yield_now();
    }
    slow.write_all(b":\"u\"}").unwrap();
    let mut reply = String::new();
    slow.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(server.wait(Duration::from_secs(10)).expect("the server ends").success());
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let server = Server::start(&[]);
    let taken = run(&["serve", "--listen", server.address()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(stderr(&taken).contains("Address already in use"), "{}", stderr(&taken));
    assert!(stderr(&taken).contains("--listen"));

    let missing = run(&["serve", "--policy", "nothing.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(
        stderr(&missing),
        "tollgate: cannot read nothing.yaml: No such file or directory (os error 2)\n"
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, "policies:\n  - name: a\n    key: ip\n    limit: 5/minutte\n").unwrap();
    let wrong = run(&["serve", "--policy", file.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("policy.yaml:4:12"), "{}", stderr(&wrong));
}

#[test]
fn the_clock_can_be_chosen_and_is_shown() {
    let shown = |server: &Server| {
        let line = server.announcement.lines().find_map(|line| line.strip_prefix("  clock     "));
        line.unwrap().to_owned()
    };
    let chosen = shown(&Server::start(&[]));
    assert!(["counter", "monotonic"].contains(&chosen.as_str()), "{chosen}");
    let mut command = tollgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--resp", "off"]).env("TOLLGATE_CLOCK", "monotonic");
    assert_eq!(shown(&Server::start_command(command)), "monotonic");

    if chosen == "counter" {
        let server = Server::start(&["--clock", "counter"]);
        assert_eq!(shown(&server), "counter");
        assert_eq!(server.post("/v1/check", LOGIN).json()["allowed"], true);
    } else {
        let refused = run(&["serve", "--listen", "127.0.0.1:0", "--clock", "counter"]);
        assert_eq!(refused.status.code(), Some(1));
        let told = stderr(&refused);
        assert!(told.starts_with("tollgate: --clock counter: ") && told.contains("`monotonic`"), "{told}");
    }
    let unknown = run(&["serve", "--clock", "sundial"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("[possible values: auto, counter, monotonic]"), "{}", stderr(&unknown));
}

#[test]
fn flags_have_variables_and_a_policy_file_that_disappears_is_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.toml");
    std::fs::write(&file, "[[policies]]\nname = \"only\"\nkey = \"user\"\nlimit = \"2/hour\"\n").unwrap();
    let mut command = tollgate();
    command
        .arg("serve")
        .env("TOLLGATE_LISTEN", "127.0.0.1:0")
        .env("TOLLGATE_RESP", "off")
        .env("TOLLGATE_POLICY", &file)
        .env("TOLLGATE_CAPACITY", "123")
        .env("TOLLGATE_OVERFLOW", "deny")
        .env("TOLLGATE__POLICIES__ONLY__LIMIT", "3/hour");
    let server = Server::start_command(command);
    std::fs::remove_file(&file).unwrap();
    let reply = server.post("/v1/check", r#"{"user":"u"}"#);
    assert_eq!(
        (reply.json()["policy"].clone(), reply.json()["remaining"].clone()),
        (json!("only"), json!(2))
    );
    assert_eq!(server.get("/v1/status").json()["store"]["capacity"], 123);
}

#[test]
fn limits_of_zero_and_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    let text = "policies:\n  - { name: closed, match: { path: /closed }, key: global, limit: 0/second }\n  \
                - { name: open, match: { path: /open }, key: global, limit: unlimited }\n";
    std::fs::write(&file, text).unwrap();
    let server = Server::start(&["--policy", file.to_str().unwrap()]);
    let closed = server.post("/v1/check", r#"{"path":"/closed","cost":0}"#);
    assert_eq!((closed.status, closed.header("retry-after")), (429, None));
    assert_eq!(closed.json()["error"]["details"]["retry_after_seconds"], json!(null));
    let open = server.post("/v1/check", r#"{"path":"/open","cost":4294967295}"#);
    assert_eq!(open.status, 200);
    assert!(!open.body.contains("18446744073709551615"), "{}", open.body);
    std::fs::write(&file, "policies:\n  - { name: huge, key: ip, limit: 18446744073709551615/second }\n")
        .unwrap();
    let huge = run(&["validate", file.to_str().unwrap()]);
    assert!(stderr(&huge).contains("unlimited"), "{}", stderr(&huge));
    assert!(root().join("samples/access.log").exists());
}

#[test]
fn the_headers_of_an_answer() {
    let server = Server::start(&[]);
    let request = r#"{"path":"/api/v2/x","api_key":"k","cost":60}"#;
    let mut shown = String::new();
    for _ in 0..2 {
        let reply = server.post("/v1/check", request);
        let _ = writeln!(shown, "{}", reply.status);
        for (name, value) in
            reply.headers.iter().filter(|(name, _)| name != "date" && name != "content-length")
        {
            // An epoch time is today's; all else is the same every day.
            let value = if name == "x-ratelimit-reset" { "EPOCH" } else { value };
            let _ = writeln!(shown, "{name}: {value}");
        }
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}
