//! Permits over HTTP and the Redis protocol, in memory and on a store that nodes share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../tollgate-store/tests/servers/postgres.rs"]
mod postgres;
#[path = "../../tollgate-store/tests/servers/mod.rs"]
mod servers;

use std::thread;

use common::{Server, until};
use postgres::Postgres;
use serde_json::{Value, json};
use servers::Redis;

fn ask(server: &Server, what: &str, question: &Value) -> (u16, Value) {
    let reply = server.post(&format!("/v1/permits/{what}"), &question.to_string());
    (reply.status, reply.json())
}

fn acquire(server: &Server, more: &Value) -> (u16, Value) {
    let mut question = json!({ "key": "exports", "limit": 1, "ttl_ms": 60_000 });
    question.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    ask(server, "acquire", &question)
}

/// What a command is answered, each line of it.
fn command(server: &Server, line: &str) -> Vec<String> {
    let mut connection =
        redis::Client::open(format!("redis://{}", server.resp())).unwrap().get_connection().unwrap();
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    match command.query::<redis::Value>(&mut connection) {
        Ok(value) => redis::from_redis_value::<Vec<String>>(value.clone())
            .unwrap_or_else(|_| vec![redis::from_redis_value(value).unwrap()]),
        Err(error) => vec![error.to_string()],
    }
}

/// One permit, of two nodes or of one: held, renewed, given back, and passed on to whoever waits.
fn one_after_the_other(one: &Server, other: &Server) {
    let (status, first) = acquire(one, &json!({}));
    assert_eq!((status, &first["granted"], &first["expires_in_ms"]), (200, &json!(true), &json!(60_000)));
    let permit = first["permit"].as_str().unwrap();
    // Asked again under the same name, it is the same permit.
    let (status, again) = acquire(other, &json!({ "permit": permit }));
    assert_eq!((status, &again["permit"]), (200, &first["permit"]));

    let (status, refused) = acquire(other, &json!({}));
    assert_eq!((status, &refused["granted"], &refused["ahead"]), (429, &json!(false), &json!(0)));
    assert_eq!(refused["error"]["code"], "CONCURRENCY_LIMIT_EXCEEDED");
    assert!((50_000..=60_000).contains(&refused["retry_after_ms"].as_u64().unwrap()), "{refused}");
    let key = json!({ "key": "exports" });
    assert_eq!(ask(other, "usage", &key).1, json!({ "in_use": 1, "awaited": 0 }));

    // Over the Redis protocol it is the same key.
    let denied = command(other, "TG.ACQUIRE exports 1 60000 PLACE 60000 ID 000000000000000000000000000000aa");
    assert_eq!(denied[..4], ["0", "000000000000000000000000000000aa", "0", "0"]);
    assert_eq!(command(one, "TG.PERMITS exports"), ["1", "1"]);
    let held = json!({ "key": "exports", "permit": permit });
    let renewal = json!({ "key": "exports", "permit": permit, "ttl_ms": 90_000 });
    assert_eq!(ask(other, "renew", &renewal), (200, json!({ "expires_in_ms": 90_000 })));
    assert_eq!(ask(one, "release", &held), (200, json!({ "released": true })));
    assert_eq!(ask(one, "release", &held), (200, json!({ "released": false })));
    assert_eq!(ask(one, "renew", &renewal).0, 404);
    // Nobody overtakes who stands in line.
    let (status, refused) = acquire(one, &json!({}));
    assert_eq!((status, &refused["ahead"]), (429, &json!(1)));
    let granted = command(other, "TG.ACQUIRE exports 1 60000 ID 000000000000000000000000000000aa");
    assert_eq!(granted, ["1", "000000000000000000000000000000aa", "60000", "0", "0"]);

    // Whoever waits has it as soon as it is given back.
    thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(one, &json!({ "wait_ms": 8_000, "ttl_ms": 1 })));
        until("somebody waits", || ask(other, "usage", &key).1["awaited"] != 0);
        assert!(!waits.is_finished());
        assert_eq!(command(one, "TG.RENEW exports 000000000000000000000000000000aa 60000"), ["60000"]);
        assert_eq!(command(one, "TG.RELEASE exports 000000000000000000000000000000aa"), ["1"]);
        let (status, granted) = waits.join().unwrap();
        assert_eq!((status, &granted["granted"]), (200, &json!(true)));
    });
    // It was for a millisecond, and its holder is not heard of again.
    until("it lapses", || acquire(other, &json!({})).0 != 429);
    let metrics = other.get("/metrics").body;
    let count = |name: &str| -> u64 {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let result = |result: &str| {
        metrics.lines().any(|line| {
            line.starts_with("rate_limiter_permits_total{")
                && line.contains(&format!("result=\"{result}\""))
                && !line.ends_with(" 0")
        })
    };
    assert!(result("granted") && result("full") && !result("error"), "{metrics}");
    assert!(std::ptr::eq(one, other) == (count("rate_limiter_permits_kept ") == 1), "{metrics}");
}

#[test]
fn in_memory() {
    let server = Server::start(&[]);
    one_after_the_other(&server, &server);
}

#[test]
fn on_a_store_that_nodes_share() {
    let redis = Redis::start(&[]);
    let start = || Server::start(&["--store", &redis.url(), "--store-deadline", "10s"]);
    one_after_the_other(&start(), &start());
    redis.stop();
    let away = Server::start(&[
        "--store",
        &redis.url(),
        "--store-deadline",
        "50ms",
        "--key-seed",
        "00112233445566778899aabbccddeeff",
    ]);
    // Whether somebody else holds it is not known: nobody gets it.
    assert_eq!(acquire(&away, &json!({})).0, 503);
    assert!(command(&away, "TG.ACQUIRE exports 1 1000")[0].contains("UNAVAILABLE"));
    redis.go_on();
}

#[test]
fn on_postgres() {
    let postgres = Postgres::start(&["synchronous_commit=off"]);
    let start = || Server::start(&["--store", &postgres.url(), "--store-deadline", "10s"]);
    one_after_the_other(&start(), &start());
}

#[test]
fn what_is_wrong_with_a_question_is_said() {
    let server = Server::start(&[]);
    for (what, question, said) in [
        (
            "acquire",
            json!({ "key": "k", "limit": 1, "ttl_ms": 0 }),
            "ttl_ms: a permit that lasts for no time",
        ),
        (
            "acquire",
            json!({ "key": "k", "limit": 1, "ttl_ms": 86_400_001_u64 }),
            "let it last for a day at most",
        ),
        ("acquire", json!({ "key": "", "limit": 1, "ttl_ms": 1 }), "a key has 1 to 1024 characters, not 0"),
        ("acquire", json!({ "key": "é".repeat(1_025), "limit": 1, "ttl_ms": 1 }), "not 1025"),
        ("acquire", json!({ "key": "k", "limit": -1, "ttl_ms": 1 }), "line 1"),
        ("acquire", json!({ "key": "k", "limit": 1, "ttl_ms": 1, "units": 0 }), "ask for at least one"),
        (
            "acquire",
            json!({ "key": "k", "limit": 1, "ttl_ms": 1, "wait_ms": 8_001 }),
            "wait_ms: 8001 is above 8000",
        ),
        ("renew", json!({ "key": "k", "permit": "x", "ttl_ms": 1 }), "32 hexadecimal digits"),
        ("release", json!({ "key": "k", "permit": "x", "more": 1 }), "unknown field `more`"),
    ] {
        let (status, answer) = ask(&server, what, &question);
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(message.contains(said), "{question}: {message}");
    }
    let (status, never) =
        ask(&server, "acquire", &json!({ "key": "k", "limit": 1, "ttl_ms": 1, "units": 2 }));
    assert_eq!((status, never.get("retry_after_ms")), (429, None));
    for (line, said) in [
        ("TG.ACQUIRE k 1", "wrong number of arguments"),
        ("TG.ACQUIRE k x 1", "limit: 'x' is not a whole number up to 4294967295"),
        ("TG.ACQUIRE k 1 0", "a permit that lasts for no time"),
        ("TG.ACQUIRE k 1 1 UNITS", "after each option comes its value"),
        ("TG.ACQUIRE k 1 1 UNITS 0", "ask for at least one"),
        ("TG.ACQUIRE k 1 1 FOO 1", "unknown option 'FOO'"),
        ("TG.ACQUIRE k 1 1 PLACE 3600001", "place: '3600001' is not a whole number up to 3600000"),
        ("TG.RELEASE k x", "32 hexadecimal digits"),
    ] {
        let told = command(&server, line);
        assert!(told[0].contains(said), "{line}: {told:?}");
    }
}
