//! Told to stop under load, the server answers all that it was asked before, and ends.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/grpc.rs"]
mod client;
mod common;
#[path = "common/load.rs"]
mod load;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::Client;
use common::Server;
use load::{connect, hear_http, hear_resp, send_http, send_resp};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// What clients have seen.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    /// Requests without an answer: by whom, when they were sent, and why.
    failed: Mutex<Vec<(&'static str, Instant, String)>>,
}

impl Seen {
    /// Notes what became of a request. True if the client may go on.
    fn note<T>(&self, who: &'static str, sent: Instant, answer: Result<T, String>) -> bool {
        match answer {
            Ok(_) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                self.failed.lock().unwrap().push((who, sent, error));
                return false;
            }
        }
        true
    }
}

/// Asks on one connection, and on another when the server ends it, until there is none.
async fn kept(address: String, seen: Arc<Seen>) {
    while let Ok(mut stream) = connect(&address, 1).await {
        loop {
            if send_http(&mut stream).await.is_err() {
                return;
            }
            let sent = Instant::now();
            let answer = hear_http(&mut stream).await.map_err(|error| error.to_string());
            let is_over = *answer.as_ref().unwrap_or(&true);
            if !seen.note("HTTP", sent, answer) {
                return;
            }
            if is_over {
                break;
            }
        }
    }
}

/// Asks each time on a connection of its own.
async fn new(address: String, seen: Arc<Seen>) {
    while let Ok(mut stream) = connect(&address, 1).await {
        if send_http(&mut stream).await.is_err() {
            return;
        }
        let sent = Instant::now();
        let answer = hear_http(&mut stream).await.map_err(|error| error.to_string());
        if !seen.note("HTTP, new connections", sent, answer) {
            return;
        }
    }
}

async fn redis(address: String, seen: Arc<Seen>) {
    let mut stream = connect(&address, 1).await.unwrap();
    loop {
        if send_resp(&mut stream).await.is_err() {
            return;
        }
        let sent = Instant::now();
        let answer = hear_resp(&mut stream).await.map_err(|error| error.to_string());
        // The protocol has no word for an end: what is asked after it finds nobody.
        if !seen.note("RESP", sent, answer) {
            return;
        }
    }
}

async fn grpc(client: Arc<Client>, seen: Arc<Seen>) {
    let entry = json!({ "key": "user", "value": "good" });
    let question = json!({ "domain": "d", "descriptors": [{ "entries": [entry] }] });
    loop {
        let sent = Instant::now();
        match client.ask(&question).await {
            Ok(answer) => assert_eq!(answer["overallCode"], "OK"),
            // A request that was not sent: there is no connection any more.
            Err(status) if is_unsent(&status) => return,
            Err(status) => {
                seen.note::<()>("gRPC", sent, Err(status.to_string()));
                return;
            }
        }
        seen.note("gRPC", sent, Ok(()));
    }
}

/// Whether a request was not taken up, so that it can be sent elsewhere: it did not leave, or met the server's word of its end and came
/// after the last that was (RFC 9113, 6.8).
fn is_unsent(status: &Status) -> bool {
    let why = status.to_string();
    status.code() == Code::Unavailable && why.contains("ConnectError")
        || why.contains("hyper::Error(Canceled")
        || why.contains(r#"GoAway(b"", NO_ERROR, Remote)"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_that_was_asked_goes_without_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, "policies: [{ name: p, key: user, limit: 100000000/second }]\n").unwrap();
    let mut server = Server::start(&["--policy", policy.to_str().unwrap()]);
    let (http, resp) = (server.address().to_owned(), server.resp().to_owned());
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        clients.spawn(kept(http.clone(), Arc::clone(&seen)));
        clients.spawn(redis(resp.clone(), Arc::clone(&seen)));
    }
    for _ in 0..8 {
        clients.spawn(new(http.clone(), Arc::clone(&seen)));
    }
    for _ in 0..2 {
        let client = Arc::new(Client::connect(&server.grpc()).await);
        for _ in 0..16 {
            clients.spawn(grpc(Arc::clone(&client), Arc::clone(&seen)));
        }
    }
    let loaded = Instant::now();
    while seen.answered.load(Ordering::Relaxed) < 5_000 {
        assert!(loaded.elapsed() < Duration::from_mins(1), "there is no load");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.terminate();
    let told = Instant::now();
    let ended = tokio::task::spawn_blocking(move || server.wait(common::PATIENCE)).await.unwrap();
    assert!(ended.expect("the server ends").success());
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let failed = seen.failed.lock().unwrap();
    // Over HTTP and gRPC clients are told of the end before it comes; by the Redis protocol, what was sent before is answered.
    // A connection that is made while the server closes its door may find nobody behind it.
    let wrong: Vec<_> = failed
        .iter()
        .filter(|(who, sent, _)| matches!(*who, "HTTP" | "gRPC") || *sent < told)
        .map(|(who, sent, error)| {
            (who, told.saturating_duration_since(*sent), sent.saturating_duration_since(told), error)
        })
        .collect();
    assert!(wrong.is_empty(), "{} answered, and {wrong:?}", seen.answered.load(Ordering::Relaxed));
}
