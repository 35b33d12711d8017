//! Requests to services that have limits.
#![cfg(feature = "outgoing")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::{Instant, advance};
use tollgate::outgoing::{Outgoing, OutgoingError, OutgoingLayer, Refused};
use tollgate::{Clock, MemoryOptions, MemoryStore, Nanos, Quota, Retry, Timestamp};
use tower::{Layer, ServiceExt, service_fn};

/// Tokio's clock, which tests wind forward.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).saturating_add(Nanos::from(self.0.elapsed()))
    }
}

fn outgoing(quota: Quota, burst: u64, patience_s: u64) -> Outgoing<MemoryStore<TokioClock>> {
    let store = MemoryStore::with_clock(TokioClock(Instant::now()), MemoryOptions::default());
    Outgoing::with_store(quota, burst, Duration::from_secs(patience_s), store).unwrap()
}

fn wait_of(refused: &Refused) -> Option<Duration> {
    match refused {
        Refused::Limited { retry_after: Retry::After(wait) } => Some(Duration::from(*wait)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_and_those_that_would_wait_too_long_are_refused() {
    let outgoing = Arc::new(outgoing(Quota::per_second(1), 2, 3));
    let began = Instant::now();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let outgoing = Arc::clone(&outgoing);
            tokio::spawn(async move { outgoing.admit("a").await.map(|()| began.elapsed().as_secs()) })
        })
        .collect();
    let mut went = Vec::new();
    for task in tasks {
        went.push(task.await.unwrap().ok());
    }
    assert_eq!(went, [Some(0), Some(0), Some(1), Some(2), Some(3), None, None, None]);
    outgoing.admit("b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_gives_its_place_back() {
    let outgoing = outgoing(Quota::per_second(1), 1, 1);
    outgoing.admit("a").await.unwrap();
    for _ in 0..5 {
        let waiting = outgoing.admit("a");
        assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    outgoing.admit("a").await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_the_service_says_is_heeded() {
    let outgoing = outgoing(Quota::per_second(100), 100, 10);
    let told = |seconds: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", seconds.parse().unwrap());
        headers
    };
    outgoing.learn("a", StatusCode::TOO_MANY_REQUESTS, &told("5"));
    let began = Instant::now();
    outgoing.admit("b").await.unwrap();
    assert!(began.elapsed().is_zero());
    outgoing.admit("a").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 5);
    // Nobody waits for that long, and so nobody waits at all.
    outgoing.learn("a", StatusCode::TOO_MANY_REQUESTS, &told("3600"));
    let refused = outgoing.admit("a").await.unwrap_err();
    assert_eq!(wait_of(&refused), Some(Duration::from_hours(1)));
    assert_eq!(refused.to_string(), "the limit of the service is used up for 3600s");
    assert_eq!(began.elapsed().as_secs(), 5);
    advance(Duration::from_secs(3_595)).await;
    outgoing.admit("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_what_the_service_says_meanwhile() {
    let outgoing = Arc::new(outgoing(Quota::per_second(1), 1, 60));
    outgoing.admit("a").await.unwrap();
    let began = Instant::now();
    let waiting = tokio::spawn({
        let outgoing = Arc::clone(&outgoing);
        async move { outgoing.admit("a").await }
    });
    tokio::task::yield_now().await;
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit", r#""default";r=0;t=20"#.parse().unwrap());
    outgoing.learn("a", StatusCode::OK, &headers);
    waiting.await.unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), 20);
}

/// In real time, in which moments pass between one look at the clock and the next.
#[tokio::test]
async fn without_a_limit_of_our_own_only_theirs_counts() {
    let outgoing = Outgoing::unlimited(Duration::ZERO);
    for _ in 0..1_000 {
        outgoing.admit("a").await.unwrap();
    }
    outgoing.learn("a", StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new());
    assert!(outgoing.admit("a").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_kept_under_a_remote_limit() {
    // A service that admits five a second, and nothing more.
    let (admitted, denied) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let remote = tollgate::Limiter::with_clock(
        tollgate::Limit::fixed_window(Quota::per_second(5)),
        TokioClock(Instant::now()),
    );
    let service = {
        let (admitted, denied, remote) = (Arc::clone(&admitted), Arc::clone(&denied), Arc::new(remote));
        service_fn(move |_: Request<()>| {
            let decision = remote.check();
            let count = if decision.allowed { &admitted } else { &denied };
            count.fetch_add(1, Ordering::Relaxed);
            let mut answer = Response::new(());
            if !decision.allowed {
                *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                answer.headers_mut().insert("retry-after", "1".parse().unwrap());
            }
            async move { Ok::<_, Infallible>(answer) }
        })
    };
    // Ours is a little stricter, so that theirs never bites.
    let client = OutgoingLayer::new(outgoing(Quota::per_second(4), 1, 60)).layer(service.clone());
    for _ in 0..40 {
        let request = Request::get("http://api.example.com/x").body(()).unwrap();
        client.clone().oneshot(request).await.unwrap();
    }
    assert_eq!((admitted.load(Ordering::Relaxed), denied.load(Ordering::Relaxed)), (40, 0));

    // One that knows nothing of the limit learns it from the first denial.
    let client = OutgoingLayer::new(Outgoing::unlimited(Duration::ZERO)).layer(service);
    let mut refused = 0;
    for _ in 0..40 {
        let request = Request::get("http://user:secret@API.example.com/x").body(()).unwrap();
        match client.clone().oneshot(request).await {
            Ok(_) => {}
            Err(OutgoingError::Refused(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(denied.load(Ordering::Relaxed), 1);
    assert!(refused >= 30, "{refused}");
}

/// The same through reqwest, over real sockets.
#[cfg(feature = "reqwest")]
mod through_reqwest {
    use std::net::SocketAddr;
    use std::sync::mpsc;

    use async_trait::async_trait;
    use axum::Router;
    use axum::routing::get;
    use http::Extensions;
    use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};

    use super::*;

    /// Holds Tokio's clock while a request is on the wire. There it takes real time, in which the paused clock would otherwise be wound
    /// on to the next timer; as long as a blocking task runs, it is not.
    struct OnTheWire;

    #[async_trait]
    impl Middleware for OnTheWire {
        async fn handle(
            &self,
            request: reqwest::Request,
            extensions: &mut Extensions,
            next: Next<'_>,
        ) -> reqwest_middleware::Result<reqwest::Response> {
            let (arrived, arrival) = mpsc::channel::<()>();
            let held = tokio::task::spawn_blocking(move || arrival.recv());
            let answer = next.run(request, extensions).await;
            drop(arrived);
            held.await.unwrap().unwrap_err();
            answer
        }
    }

    /// A service that denies this many requests, each for five seconds, and answers those after them. Counts all.
    async fn serve(denials: u32) -> (SocketAddr, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let answer = {
            let asked = Arc::clone(&asked);
            move || async move {
                let is_denied = asked.fetch_add(1, Ordering::Relaxed) < denials;
                if is_denied { Err((StatusCode::TOO_MANY_REQUESTS, [("retry-after", "5")])) } else { Ok(()) }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/", get(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (address, asked)
    }

    /// A client that finds the hosts `a.example.com` and `b.example.com` here.
    fn client(address: SocketAddr, limits: impl Middleware) -> ClientWithMiddleware {
        // Connections that are kept would be closed by timers.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = client.resolve("a.example.com", address).resolve("b.example.com", address);
        ClientBuilder::new(client.build().unwrap()).with(limits).with(OnTheWire).build()
    }

    async fn ask(client: &ClientWithMiddleware, host: &str) -> reqwest_middleware::Result<u16> {
        client.get(format!("http://{host}.example.com/")).send().await.map(|answer| answer.status().as_u16())
    }

    fn refused(error: &Error) -> &Refused {
        match error {
            Error::Middleware(why) => why.downcast_ref().unwrap(),
            Error::Reqwest(error) => panic!("{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn under_the_limit_requests_pass_and_over_it_they_wait() {
        let (address, asked) = serve(0).await;
        let client = client(address, OutgoingLayer::new(outgoing(Quota::per_second(1), 2, 3)));
        let began = Instant::now();
        let mut went = Vec::new();
        for host in ["a", "a", "a", "a", "b"] {
            assert_eq!(ask(&client, host).await.unwrap(), 200);
            went.push(began.elapsed().as_secs());
        }
        // Each host is counted by itself.
        assert_eq!(went, [0, 0, 1, 2, 2]);
        assert_eq!(asked.load(Ordering::Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_wait_hears_for_how_long_it_would_have_been() {
        let (address, asked) = serve(0).await;
        let client = client(address, OutgoingLayer::new(outgoing(Quota::per_minute(1), 1, 0)));
        let began = Instant::now();
        assert_eq!(ask(&client, "a").await.unwrap(), 200);
        let error = ask(&client, "a").await.unwrap_err();
        assert_eq!(wait_of(refused(&error)), Some(Duration::from_mins(1)));
        assert_eq!(error.to_string(), "the limit of the service is used up for 60s");
        assert!(began.elapsed().is_zero());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_learned_from() {
        let (address, asked) = serve(1).await;
        let patient = client(address, OutgoingLayer::new(Outgoing::unlimited(Duration::from_secs(10))));
        let began = Instant::now();
        assert_eq!(ask(&patient, "a").await.unwrap(), 429);
        assert_eq!(ask(&patient, "b").await.unwrap(), 200);
        assert!(began.elapsed().is_zero());
        assert_eq!(ask(&patient, "a").await.unwrap(), 200);
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(asked.load(Ordering::Relaxed), 3);

        let (address, asked) = serve(1).await;
        let hasty = client(address, OutgoingLayer::new(Outgoing::unlimited(Duration::ZERO)));
        assert_eq!(ask(&hasty, "a").await.unwrap(), 429);
        let error = ask(&hasty, "a").await.unwrap_err();
        assert_eq!(wait_of(refused(&error)), Some(Duration::from_secs(5)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        advance(Duration::from_secs(5)).await;
        assert_eq!(ask(&hasty, "a").await.unwrap(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_what_goes_with_them() {
        #[derive(Clone)]
        struct Account(&'static str);

        let (address, _) = serve(0).await;
        let limits = OutgoingLayer::new(outgoing(Quota::per_minute(1), 1, 0));
        let account = |extensions: &Extensions| extensions.get().map_or("", |Account(name)| *name).to_owned();
        let client = client(address, limits.key(move |_, _, _, extensions| account(extensions)));
        let ask = |host: &str, account| {
            client.get(format!("http://{host}.example.com/")).with_extension(Account(account)).send()
        };
        ask("a", "one").await.unwrap();
        ask("a", "two").await.unwrap();
        assert!(ask("b", "one").await.unwrap_err().is_middleware());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_client_fails_with_is_passed_on() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = client(nobody, OutgoingLayer::new(Outgoing::unlimited(Duration::ZERO)));
        assert!(ask(&client, "a").await.unwrap_err().is_connect());
        assert!(client.get("mailto:somebody@example.com").send().await.unwrap_err().is_builder());
    }
}
