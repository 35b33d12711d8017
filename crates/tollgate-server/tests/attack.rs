//! Clients that mean harm, before the real program. Meanwhile those that do not are answered, and memory stays where it was.
//!
//! Here the attacks are short. `cargo xtask attack` runs them at length, with ten thousand connections, on the optimised
//! program, and prints what good clients notice of it.

// Where memory can be looked at.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/grpc.rs"]
mod client;
mod common;
#[path = "common/load.rs"]
mod load;
#[path = "common/tls.rs"]
mod tls;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use common::Server;
use load::{Times, ask_http, ask_resp, connect, resident};
use serde_json::json;
use tls::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How much more memory an attack may take.
const MORE_MAX: usize = 50 << 20;

/// How large an attack is.
#[derive(Clone, Copy)]
struct Scale {
    connections: usize,
    lasts: Duration,
    /// Before an attacker begins again.
    pause: Duration,
    is_told: bool,
}

impl Scale {
    fn short() -> Self {
        // Each takes a descriptor in this process, and one in the server.
        let connections = 1_000.min(load::descriptors() / 2);
        let (lasts, pause) = (Duration::from_secs(3), Duration::from_millis(50));
        Self { connections, lasts, pause, is_told: false }
    }

    fn long() -> Self {
        let connections = 10_000.min(load::descriptors() * 9 / 10);
        // So many at once are a flood of connections if they come again any sooner, and all that is measured is that.
        let (lasts, pause) = (Duration::from_secs(30), Duration::from_secs(5));
        Self { connections, lasts, pause, is_told: true }
    }
}

/// Where the server is, for attackers.
#[derive(Clone, Debug)]
struct Target {
    http: String,
    grpc: String,
    resp: String,
}

/// What an attacker does once, given its number; it is run again when it has ended.
type Attack = fn(Arc<Target>, usize) -> Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

macro_rules! attack {
    ($run:path) => {
        |target, number| Box::pin($run(target, number))
    };
}

/// From which address an attacker comes: none of 127.0.0.1, where good clients are.
fn from(number: usize) -> u8 {
    u8::try_from(2 + number % 20).unwrap()
}

/// The times of good clients, by what they speak.
type Noticed = [(&'static str, Times); 4];

/// Asks on all faces for so long, without a break, and until each has been answered a few times.
async fn ask_all(target: Arc<Target>, lasts: Duration) -> Noticed {
    let started = Instant::now();
    let goes_on = |times: &Times| started.elapsed() < lasts || times.count() < 10;
    let kept = async {
        let mut times = Times::default();
        let mut stream = connect(&target.http, 1).await.unwrap();
        while goes_on(&times) {
            let since = Instant::now();
            ask_http(&mut stream).await.unwrap();
            times.note(since);
        }
        times
    };
    let new = async {
        let mut times = Times::default();
        while goes_on(&times) {
            let since = Instant::now();
            let mut stream = connect(&target.http, 1).await.unwrap();
            ask_http(&mut stream).await.unwrap();
            times.note(since);
        }
        times
    };
    let redis = async {
        let mut times = Times::default();
        let mut stream = connect(&target.resp, 1).await.unwrap();
        while goes_on(&times) {
            let since = Instant::now();
            ask_resp(&mut stream).await.unwrap();
            times.note(since);
        }
        times
    };
    let grpc = async {
        let mut times = Times::default();
        let client = Client::connect(&format!("http://{}", target.grpc)).await;
        let entry = json!({ "key": "user", "value": "good" });
        let question = json!({ "domain": "d", "descriptors": [{ "entries": [entry] }] });
        while goes_on(&times) {
            let since = Instant::now();
            let answer = tokio::time::timeout(load::PATIENCE, client.ask(&question)).await.unwrap().unwrap();
            assert_eq!(answer["overallCode"], "OK");
            times.note(since);
        }
        times
    };
    let (kept, new, redis, grpc) = tokio::join!(kept, new, redis, grpc);
    [("HTTP", kept), ("HTTP, new connections", new), ("RESP", redis), ("gRPC", grpc)]
}

/// Where a server is.
fn target_of(server: &Server) -> Arc<Target> {
    Arc::new(Target {
        http: server.address().to_owned(),
        grpc: server.grpc().split_once("://").unwrap().1.to_owned(),
        resp: server.resp_address().to_owned(),
    })
}

/// Begins an attack by so many, each of whom begins again for ever, and counts how often they begin.
fn begin(
    target: &Arc<Target>,
    scale: Scale,
    attackers: usize,
    attack: Attack,
    begun: &Arc<AtomicUsize>,
) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for number in 0..attackers {
        let (target, begun) = (Arc::clone(target), Arc::clone(begun));
        running.spawn(async move {
            loop {
                begun.fetch_add(1, Ordering::Relaxed);
                // However the server ends it, it is begun again, after a moment.
                let _ = attack(Arc::clone(&target), number).await;
                tokio::time::sleep(scale.pause).await;
            }
        });
    }
    running
}

/// Has the server attacked by so many at once, and looks what that does to others and to its memory.
async fn attacked(name: &str, scale: Scale, more: &[&str], attackers: usize, attack: Attack) {
    // Plenty for good clients, so that all are admitted.
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, "policies: [{ name: p, key: user, limit: 100000000/second }]\n").unwrap();
    let common = ["--policy", policy.to_str().unwrap(), "--log", "error", "--capacity", "10000"];
    let server = Server::start(&[&common[..], more].concat());
    let target = target_of(&server);
    // Under TLS good clients would be others: there the attackers are looked at alone.
    let is_plain = server.url.starts_with("http://");
    let (mut idle, mut beside) = (None, None);
    if is_plain {
        // What the first requests of all take for good is not the attack's.
        ask_all(Arc::clone(&target), Duration::from_millis(300)).await;
        if scale.is_told {
            idle = Some(ask_all(Arc::clone(&target), Duration::from_secs(5)).await);
            // The same attack on another server, on the same processors: what of it is the machine's.
            let other = Server::start(&[&common[..], more].concat());
            let mut running =
                begin(&target_of(&other), scale, attackers, attack, &Arc::new(AtomicUsize::new(0)));
            beside = Some(tokio::spawn(ask_all(Arc::clone(&target), scale.lasts)).await.unwrap());
            running.shutdown().await;
        }
    }
    let process = server.child.id();
    let before = resident(process);
    let begun = Arc::new(AtomicUsize::new(0));
    let mut running = begin(&target, scale, attackers, attack, &begun);
    let peak = Arc::new(AtomicUsize::new(before));
    let looks = Arc::clone(&peak);
    let look = tokio::spawn(async move {
        loop {
            looks.fetch_max(resident(process), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let noticed = if is_plain {
        Some(tokio::spawn(ask_all(Arc::clone(&target), scale.lasts)).await.unwrap())
    } else {
        tokio::time::sleep(scale.lasts).await;
        None
    };
    look.abort();
    let peak = peak.load(Ordering::Relaxed);
    running.shutdown().await;
    let more_mb = (peak - before) >> 20;
    if scale.is_told {
        let tries = begun.load(Ordering::Relaxed);
        println!("\n{name}: {attackers} at once, {tries} tries, memory + {more_mb} MiB");
    }
    assert!(peak - before <= MORE_MAX, "{name}: memory + {more_mb} MiB");
    for (index, (face, mut times)) in noticed.into_iter().flatten().enumerate() {
        if let (Some(idle), Some(beside)) = (&mut idle, &mut beside) {
            let millis = |times: &mut Times| times.within(990).as_secs_f64() * 1e3;
            let (was, floor, is) =
                (millis(&mut idle[index].1), millis(&mut beside[index].1), millis(&mut times));
            println!(
                "  {face:<22} {:>8} answers, p99 {is:>7.2} ms; idle {was:>7.2} ms: {:.1} ×; while another server is \
                 attacked here {floor:>7.2} ms: {:.1} ×",
                times.count(),
                is / was,
                is / floor,
            );
        }
    }
    // And it goes on as if nothing had been.
    if is_plain {
        ask_all(target, Duration::from_millis(100)).await;
    }
}

/// Reads until the server ends the connection.
async fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut came = vec![0; 4 << 10];
    let mut all = Vec::new();
    loop {
        match stream.read(&mut came).await? {
            0 => return Ok(all),
            read if all.len() < 1 << 10 => all.extend_from_slice(&came[..read]),
            _ => {}
        }
    }
}

/// Sends a header a second, and never ends.
async fn slowloris(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.http, from(number)).await?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n").await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(b"x-more: of this\r\n").await?;
    }
}

/// The same after a request that is one.
async fn late_slowloris(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.http, from(number)).await?;
    ask_http(&mut stream).await?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n").await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(b"x-more: of this\r\n").await?;
    }
}

/// Sends most of a large body at once, and the rest byte by byte.
async fn slow_body(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.http, from(number)).await?;
    let head = "POST /v1/check/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b' '; 900_000]).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream.write_all(b" ").await?;
    }
}

/// Asks for much, again and again, and reads nothing.
async fn deaf(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.http, from(number)).await?;
    let requests: Vec<_> = (0..200).map(|_| json!({ "user": "x" })).collect();
    let batch = json!({ "requests": requests }).to_string();
    let head = format!("POST /v1/check/batch HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", batch.len());
    loop {
        stream.write_all((head.clone() + &batch).as_bytes()).await?;
    }
}

/// Too many headers, or one that does not end.
async fn header_bomb(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.http, from(number)).await?;
    let bomb = match number % 3 {
        0 => format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)),
        1 => format!("GET / HTTP/1.1\r\n{}\r\n", format!("a: {}\r\n", "b".repeat(1_000)).repeat(20)),
        _ => format!("GET /{}", "a".repeat(10 << 20)),
    };
    // The server need not read it all.
    let _ = stream.write_all(bomb.as_bytes()).await;
    if let Ok(said) = rest(&mut stream).await {
        let said = String::from_utf8_lossy(&said);
        let is_refused = ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"];
        assert!(said.is_empty() || is_refused.iter().any(|status| said.starts_with(status)), "{said}");
    }
    Ok(())
}

mod frames {
    //! HTTP/2 by hand (RFC 9113), as no library would send it.

    pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    /// `POST /` to `x`, by the table that HPACK has from the start.
    pub(super) const POST: &[u8] = b"\x83\x86\x84\x41\x01x";
    /// `GET /metrics` of `x`.
    pub(super) const METRICS: &[u8] = b"\x82\x86\x04\x08/metrics\x41\x01x";

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    pub(super) fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        frame(0, flags, stream, payload)
    }

    pub(super) fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
        frame(1, flags, stream, block)
    }

    pub(super) fn reset(stream: u32) -> Vec<u8> {
        frame(3, 0, stream, &8_u32.to_be_bytes())
    }

    /// Settings of which each is a number and a value.
    pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frame(4, 0, 0, &payload)
    }

    pub(super) fn continuation(stream: u32, block: &[u8]) -> Vec<u8> {
        frame(9, 0, stream, block)
    }
}

/// A connection of HTTP/2, on one or the other of the listeners that speak it.
async fn http2(target: &Target, number: usize, settings: &[(u16, u32)]) -> std::io::Result<TcpStream> {
    let address = if number.is_multiple_of(2) { &target.http } else { &target.grpc };
    let mut stream = connect(address, from(number)).await?;
    stream.write_all(&[frames::PREFACE, &frames::settings(settings)].concat()).await?;
    Ok(stream)
}

/// Sends, and reads what comes meanwhile, until the server has had enough.
async fn flood(stream: TcpStream, mut next: impl FnMut(u32) -> Vec<u8>) -> std::io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let read = async {
        let mut came = vec![0; 16 << 10];
        while from.read(&mut came).await? > 0 {}
        std::io::Result::Ok(())
    };
    let write = async {
        for number in 0.. {
            to.write_all(&next(number)).await?;
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

/// Opens requests and takes them back at once (CVE-2023-44487).
async fn rapid_reset(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let stream = http2(&target, number, &[]).await?;
    let next = |batch: u32| {
        let streams = (0..100).map(|index| batch * 200 + index * 2 + 1);
        let pairs = streams.map(|stream| {
            [frames::headers(frames::END_HEADERS, stream, frames::POST), frames::reset(stream)].concat()
        });
        pairs.collect::<Vec<_>>().concat()
    };
    flood(stream, next).await
}

/// Headers that do not end (CVE-2024-27316).
async fn continuations(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let stream = http2(&target, number, &[]).await?;
    // A header that is not kept in a table: `a: bb…`.
    let header = [&b"\x00\x01a\x7f\x81\x01"[..], &[b'b'; 256]].concat();
    let block = header.repeat(30);
    let next = move |number: u32| match number {
        0 => frames::headers(0, 1, frames::POST),
        _ => frames::continuation(1, &block),
    };
    flood(stream, next).await
}

/// Headers that take a byte each on the wire, and thousands in memory: one is put into the table, and then named.
async fn header_table_bomb(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let stream = http2(&target, number, &[]).await?;
    // With incremental indexing: `a: bb…` of 3,000 bytes; afterwards it is number 62.
    let put = [frames::POST, b"\x40\x01a\x7f\xb9\x16", &[b'b'; 3_000]].concat();
    let named = [frames::POST, &[0xbe; 4_000]].concat();
    let next = move |number: u32| {
        let block = if number == 0 { &put } else { &named };
        frames::headers(frames::END_HEADERS, number * 2 + 1, block)
    };
    flood(stream, next).await
}

/// Asks for answers and does not let them come.
async fn no_window(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let stream = connect(&target.http, from(number)).await?;
    let mut stream = stream;
    stream.write_all(&[frames::PREFACE, &frames::settings(&[(4, 0)])].concat()).await?;
    for index in 0..120 {
        let flags = frames::END_HEADERS | frames::END_STREAM;
        stream.write_all(&frames::headers(flags, index * 2 + 1, frames::METRICS)).await?;
    }
    rest(&mut stream).await.map(drop)
}

/// Bodies of many requests at once that do not end.
async fn many_bodies(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.grpc, from(number)).await?;
    stream.write_all(&[frames::PREFACE, &frames::settings(&[])].concat()).await?;
    let path = b"/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let block = [&b"\x83\x86\x41\x01x\x04"[..], &[u8::try_from(path.len()).unwrap()], path].concat();
    // A message is announced of which the last part does not come.
    let message = [&b"\x00\x00\x00\xff\xff"[..], &[0; 16_000]].concat();
    for index in 0..60 {
        let stream_number = index * 2 + 1;
        stream.write_all(&frames::headers(frames::END_HEADERS, stream_number, &block)).await?;
        for _ in 0..3 {
            stream.write_all(&frames::data(0, stream_number, &message)).await?;
        }
    }
    rest(&mut stream).await.map(drop)
}

/// What the Redis protocol can be made to promise.
async fn resp_bomb(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let mut stream = connect(&target.resp, from(number)).await?;
    let bomb = match number % 6 {
        0 => b"*1\r\n$2000000000\r\n".to_vec(),
        1 => b"*2147483647\r\n".to_vec(),
        2 => b"*1\r\n".repeat(100_000),
        3 => vec![b'x'; 1 << 20],
        // Most of a command, which is kept.
        4 => [&b"*2\r\n$4\r\nECHO\r\n$60000\r\n"[..], "x".repeat(59_000).as_bytes()].concat(),
        // Answers that nobody fetches.
        _ => b"COMMAND DOCS\r\n".repeat(2_000),
    };
    let _ = stream.write_all(&bomb).await;
    if number % 6 == 5 {
        std::future::pending::<()>().await;
    }
    rest(&mut stream).await.map(drop)
}

/// Begins a handshake, or only a connection.
async fn stalled_handshake(target: Arc<Target>, number: usize) -> std::io::Result<()> {
    let address = [&target.http, &target.grpc, &target.resp][number % 3];
    let mut stream = connect(address, from(number)).await?;
    if !number.is_multiple_of(4) {
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await?;
    }
    if number % 4 > 1 {
        stream.write_all(&[7; 300]).await?;
    }
    rest(&mut stream).await.map(drop)
}

/// All attacks, each with how many attackers there are of so many, and what they do.
const ATTACKS: [(&str, usize, Attack); 12] = [
    ("slowloris", 1, attack!(slowloris)),
    ("slowloris after a request", 1, attack!(late_slowloris)),
    ("slow bodies", 5, attack!(slow_body)),
    ("answers that are not read", 40, attack!(deaf)),
    ("header bombs", 100, attack!(header_bomb)),
    ("rapid reset", 100, attack!(rapid_reset)),
    ("CONTINUATION flood", 100, attack!(continuations)),
    ("header table bombs", 100, attack!(header_table_bomb)),
    ("no window for answers", 25, attack!(no_window)),
    ("many bodies at once", 10, attack!(many_bodies)),
    ("RESP bombs", 1, attack!(resp_bomb)),
    ("stalled handshakes", 1, attack!(stalled_handshake)),
];

async fn run(name: &str, scale: Scale) {
    /// One after the other: what one attack does to the machine is not to be seen in another.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let (_, one_of, attack) = *ATTACKS.iter().find(|(known, ..)| *known == name).unwrap();
    let attackers = (scale.connections / one_of).max(8);
    if name == "stalled handshakes" {
        let authority = Authority::new();
        authority.issue("server");
        let (cert, key) = (authority.text("server.pem"), authority.text("server-key.pem"));
        attacked(name, scale, &["--tls-cert", &cert, "--tls-key", &key], attackers, attack).await;
    } else {
        attacked(name, scale, &[], attackers, attack).await;
    }
}

macro_rules! short {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                run($name, Scale::short()).await;
            }
        )*

        #[test]
        fn all_attacks_are_tried() {
            let tried = [$($name),*];
            assert!(ATTACKS.iter().all(|(name, ..)| tried.contains(name)));
        }
    };
}

short! {
    slowloris_hurts_nobody: "slowloris",
    slowloris_after_a_request_hurts_nobody: "slowloris after a request",
    slow_bodies_hurt_nobody: "slow bodies",
    answers_that_are_not_read_hurt_nobody: "answers that are not read",
    header_bombs_hurt_nobody: "header bombs",
    rapid_reset_hurts_nobody: "rapid reset",
    continuation_floods_hurt_nobody: "CONTINUATION flood",
    header_table_bombs_hurt_nobody: "header table bombs",
    answers_without_a_window_hurt_nobody: "no window for answers",
    many_bodies_at_once_hurt_nobody: "many bodies at once",
    resp_bombs_hurt_nobody: "RESP bombs",
    stalled_handshakes_hurt_nobody: "stalled handshakes",
}

/// At length, one after the other; for `cargo xtask attack`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask attack"]
async fn at_length() {
    let wanted = std::env::var("ATTACK").unwrap_or_default();
    for (name, ..) in ATTACKS.iter().filter(|(name, ..)| name.contains(&wanted)) {
        run(name, Scale::long()).await;
    }
}
