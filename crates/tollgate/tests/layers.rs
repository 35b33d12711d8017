//! Layers around gates: what they change, and that their panics change nothing.

#![cfg(all(feature = "actix", feature = "axum"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod plugins;

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use plugins::{Away, Log, Scribe, Slow, config, gate, hush, panic_on_purpose, store};
use proptest::prelude::*;
use tollgate::http::{Checking, Gatekeeper, RateLimitLayer, Undecided, Waiting};
use tollgate::plugin::{Inner, Layer, Layered, Observers};
use tollgate::{
    Amended, AsyncGate, Attribute, Attributes, Clock, Gate, ManualClock, MemoryOptions, MemoryStore, Request,
    Retry, Settlement, Timestamp, Verdict,
};
use tower::{Layer as _, ServiceExt};

const API: &str = "policies: [{ name: api, key: ip, limit: 10/hour }]";

fn by(who: u8) -> Request {
    Request::default().with_ip([203, 0, 113, who].into())
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn verdict(gate: &Arc<impl Gatekeeper>, request: &Request, cost: Option<u32>) -> Verdict {
    run(gate.check(request, cost).verdict()).unwrap()
}

/// Lets one client pass, denies another, and asks for the rest.
struct Doorman;

impl Layer for Doorman {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        match request.ip().map(|ip| ip.to_string()).as_deref() {
            Some("203.0.113.1") => Checking::Passed,
            Some("203.0.113.2") => {
                let wait = Duration::from_secs(30);
                Checking::Done(Verdict::refused(Retry::After(wait.into())))
            }
            _ => inner.check(request, cost),
        }
    }
}

/// Writes down what comes by, and asks for more.
struct More(&'static str, u32, Arc<Mutex<Vec<String>>>);

impl Layer for More {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        let (name, log) = (self.0, Arc::clone(&self.2));
        log.lock().unwrap().push(format!("{name} asked {cost:?}"));
        inner.check(request, Some(cost.unwrap_or(1) * self.1)).map(move |verdict| {
            let left = verdict.deciding().map(|policy| policy.remaining());
            log.lock().unwrap().push(format!("{name} said {left:?}"));
            verdict
        })
    }
}

#[test]
fn a_layer_decides_before_or_asks() {
    let (gate, _) = gate(API);
    let gate = Arc::new(Layered::new(gate, Doorman));
    for _ in 0..3 {
        assert!(verdict(&gate, &by(1), Some(9)).is_allowed());
        let refused = verdict(&gate, &by(2), None);
        assert_eq!(refused.retry_after().duration(), Some(Duration::from_secs(30)));
    }
    assert_eq!(verdict(&gate, &by(3), Some(4)).deciding().unwrap().remaining(), 6);
    assert!(!verdict(&gate, &by(3), Some(7)).is_allowed());
    // Those that the layer decided about have all.
    for who in [1, 2] {
        assert_eq!(gate.inner().peek(&by(who), Some(0)).deciding().unwrap().remaining(), 10);
    }
}

#[test]
fn layers_are_asked_from_the_outside_and_told_from_the_inside() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let more = |name, times| More(name, times, Arc::clone(&log));
    let order = ["out asked None", "in asked Some(2)", "in said Some(4)", "out said Some(4)"];
    // The same for a gate that answers at once, and for one that has to be waited for.
    let near = Layered::new(gate(API).0, more("in", 3)).layer(more("out", 2));
    assert!(verdict(&Arc::new(near), &by(1), None).is_allowed());
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), order);
    let distant = AsyncGate::new(Gate::with_store(config(API), Slow(store().0)));
    let distant = Layered::new(distant, more("in", 3)).layer(more("out", 2));
    assert!(verdict(&Arc::new(distant), &by(1), None).is_allowed());
    let mut lines = std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(lines, order);
    lines.clear();
}

#[test]
fn a_layer_may_change_what_a_request_is() {
    struct Plans;
    impl Layer for Plans {
        fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
            let gold = request.get(&Attribute::User).is_some_and(|user| *user == *b"ana");
            let plan = Attribute::Custom("plan".to_owned());
            inner.check(&Amended::new(request).with(plan, if gold { "gold" } else { "free" }), cost)
        }
    }
    let policy = "policies: [{ name: plan, key: user, tiers: { from: attribute:plan, default: free,
        limits: { free: 2/hour, gold: 50/hour } } }]";
    let gate = Arc::new(Layered::new(gate(policy).0, Plans));
    let limit = |user| verdict(&gate, &Request::default().with_user(user), None).deciding().unwrap().limit();
    assert_eq!((limit("ana"), limit("bob")), (50, 2));
}

/// Denies whatever was let pass.
struct Never;

impl Layer for Never {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        inner.check(request, cost).map(|_| Verdict::refused(Retry::Never))
    }
}

/// Waits for something of its own before it lets a gate decide that has to be waited for; if not, it denies.
struct Lookup(bool);

impl Layer for Lookup {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        let (is_known, checking) = (self.0, inner.check(request, cost));
        Checking::Waiting(Box::pin(async move {
            tokio::task::yield_now().await;
            if is_known { checking.verdict().await } else { Ok(Verdict::refused(Retry::Never)) }
        }))
    }
}

#[test]
fn what_a_layer_denies_takes_nothing() {
    let near = Arc::new(gate(API).0);
    assert!(!verdict(&Arc::new(Layered::new(Arc::clone(&near), Never)), &by(1), None).is_allowed());
    assert!(!verdict(&Arc::new(Layered::new(Arc::clone(&near), Lookup(false))), &by(1), None).is_allowed());
    assert_eq!(near.peek(&by(1), Some(0)).deciding().unwrap().remaining(), 10);
    assert!(verdict(&Arc::new(Layered::new(Arc::clone(&near), Lookup(true))), &by(1), None).is_allowed());
    assert_eq!(near.peek(&by(1), Some(0)).deciding().unwrap().remaining(), 9);

    let (store, clock) = store();
    let distant = Arc::new(Gate::with_store(config(API), Slow(store)));
    let left = async || {
        let verdict = distant.peek_async(clock.now(), &by(1), Some(0)).await.unwrap();
        verdict.deciding().unwrap().remaining()
    };
    let gate = || AsyncGate::new(Arc::clone(&distant));
    run(async {
        // It was not awaited, so it took nothing.
        let lookup = Arc::new(Layered::new(gate(), Lookup(false)));
        assert!(!lookup.check(&by(1), None).verdict().await.unwrap().is_allowed());
        assert_eq!(left().await, 10);
        let lookup = Arc::new(Layered::new(gate(), Lookup(true)));
        assert!(lookup.check(&by(1), None).verdict().await.unwrap().is_allowed());
        assert_eq!(left().await, 9);
        // It was, so it is given back, by a task.
        let never = Arc::new(Layered::new(gate(), Never));
        assert!(!never.check(&by(1), None).verdict().await.unwrap().is_allowed());
        tokio::time::timeout(Duration::from_mins(1), async {
            while left().await != 9 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    });
}

/// Changes nothing, and panics in one of these places as the bits say.
struct Clumsy(AtomicU64);

impl Clumsy {
    fn new(bits: u64) -> Self {
        hush();
        Self(AtomicU64::new(bits))
    }

    fn stumbles(&self) -> bool {
        let bits =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some(bits.rotate_right(1)));
        bits.unwrap() & 1 == 1
    }

    fn stumble(&self) {
        if self.stumbles() {
            panic_on_purpose();
        }
    }
}

impl Layer for Clumsy {
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
        self.stumble();
        let checking = inner.check(request, cost);
        self.stumble();
        let (in_map, after, polls) = (self.stumbles(), self.stumbles(), self.stumbles());
        let checking = checking.map(move |verdict| {
            if in_map {
                panic_on_purpose();
            }
            verdict
        });
        match checking {
            Checking::Waiting(waiting) => {
                Checking::Waiting(Box::pin(Stumbling { waiting, polls: usize::from(polls), after }))
            }
            // Waits where nothing has to be waited for.
            Checking::Done(verdict) if polls => Checking::Waiting(Box::pin(async move {
                tokio::task::yield_now().await;
                if after {
                    panic_on_purpose();
                }
                Ok(verdict)
            })),
            other => other,
        }
    }
}

/// Panics before it has polled, or after it has for so many times, or when it is dropped.
struct Stumbling {
    waiting: Waiting,
    polls: usize,
    after: bool,
}

impl Future for Stumbling {
    type Output = Result<Verdict, Undecided>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 1 {
            panic_on_purpose();
        }
        let poll = self.waiting.as_mut().poll(cx);
        if self.after {
            panic_on_purpose();
        }
        poll
    }
}

impl Drop for Stumbling {
    fn drop(&mut self) {
        if self.after {
            panic_on_purpose();
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, u32, u64)>> {
    proptest::collection::vec((0..4_u8, 0..4_u32, 0..400_u64), 1..40)
}

const MANY: &str = "policies:
  - { name: rate, key: ip, limit: 20/minute }
  - { name: window, key: ip, algorithm: sliding_log, limit: 9/10s }
  - { name: watch, key: ip, limit: 3/minute, shadow: true }";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layers_that_panic_change_no_decision(steps in steps(), one: u64, other: u64) {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let store = || MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
        let layered = |bits| Clumsy::new(bits);
        let plain = Gate::with_store(config(MANY), store());
        let near = Arc::new(Gate::with_store(config(MANY), store()));
        let distant = Arc::new(Gate::with_store(config(MANY), Slow(store())));
        let near_layered = Arc::new(Layered::new(Arc::clone(&near), layered(one)).layer(layered(other)));
        let distant_layered = AsyncGate::new(Arc::clone(&distant));
        let distant_layered = Arc::new(Layered::new(distant_layered, layered(one)).layer(layered(other)));
        let said = |verdict: &Verdict| (verdict.is_allowed(), verdict.outcomes().to_vec());
        run(async {
            for (who, cost, wait) in steps {
                clock.advance(Duration::from_millis(wait * 10));
                let request = by(who);
                let expected = said(&plain.check_n(&request, cost));
                let answer = near_layered.check(&request, Some(cost)).verdict().await.unwrap();
                assert_eq!(said(&answer), expected);
                let answer = distant_layered.check(&request, Some(cost)).verdict().await.unwrap();
                assert_eq!(said(&answer), expected);
            }
            for who in 0..4 {
                let expected = said(&plain.peek(&by(who), Some(0)));
                assert_eq!(said(&near.peek(&by(who), Some(0))), expected);
                let answer = distant.peek_async(clock.now(), &by(who), Some(0)).await.unwrap();
                assert_eq!(said(&answer), expected);
            }
        });
        let counts = |status: tollgate::Statistics| (status.allowed, status.denied, status.policies);
        prop_assert_eq!(counts(near.status()), counts(plain.status()));
        prop_assert_eq!(counts(distant.status()), counts(plain.status()));
    }
}

#[test]
fn two_threads_lose_nothing_to_panics() {
    let policy = "policies: [{ name: api, key: ip, limit: 500/hour }]";
    let gate = Arc::new(Layered::new(gate(policy).0, Clumsy::new(0x1357_9bdf_0246_8ace)));
    let ask = || (0..400).filter(|_| verdict(&gate, &by(1), None).is_allowed()).count();
    let passed = std::thread::scope(|scope| {
        let other = scope.spawn(ask);
        ask() + other.join().unwrap()
    });
    assert_eq!(passed, 500);
    assert!(gate.panics() > 0);
    assert_eq!((gate.inner().status().allowed, gate.inner().status().denied), (500, 300));
}

#[test]
fn a_layer_that_panics_alone_leaves_it_undecided() {
    struct Alone;
    impl Layer for Alone {
        fn check(&self, _: &dyn Attributes, _: Option<u32>, _: Inner<'_>) -> Checking {
            Checking::Waiting(Box::pin(async { panic_on_purpose() }))
        }
    }
    hush();
    let gate = Arc::new(Layered::new(gate(API).0, Alone));
    let error = run(gate.check(&by(1), None).verdict()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request was not decided: a layer panicked that had not asked the gate inside"
    );
    assert_eq!(gate.panics(), 1);
}

#[test]
fn panics_inside_are_not_the_layers() {
    struct Broken(AtomicU32);
    impl Gatekeeper for Broken {
        fn check<A: Attributes + ?Sized>(self: &Arc<Self>, _: &A, cost: Option<u32>) -> Checking {
            self.0.fetch_add(1, Ordering::Relaxed);
            if cost.is_none() {
                panic_on_purpose();
            }
            Checking::Waiting(Box::pin(async { panic_on_purpose() }))
        }

        fn settle(self: &Arc<Self>, _: &Verdict, _: Settlement) {}
    }
    hush();
    let gate = Arc::new(Layered::new(Broken(AtomicU32::new(0)), Doorman));
    for cost in [None, Some(1)] {
        let ask = std::panic::AssertUnwindSafe(|| verdict(&gate, &by(3), cost));
        assert!(std::panic::catch_unwind(ask).is_err());
    }
    // Each was asked once, and nobody blames the layer.
    assert_eq!((gate.inner().0.load(Ordering::Relaxed), gate.panics()), (2, 0));
}

/// A gate that is observed and layered, for middleware, and how often the handler was called.
type Guarded = Layered<Layered<Gate<MemoryStore<ManualClock>>, Clumsy>, Doorman>;

fn guarded() -> (Guarded, Log) {
    let log = Log::default();
    let observers = Observers::new(Scribe("a", log.clone()));
    let gate = gate("policies: [{ name: api, key: ip, limit: 1/hour }]").0.with_observers(observers);
    (Layered::new(gate, Clumsy::new(u64::MAX)).layer(Doorman), log)
}

/// What becomes of requests by these clients: the status, the handler's part, and how long to wait.
const COURSE: [(u8, StatusCode, Option<&str>); 5] = [
    (1, StatusCode::OK, None),
    (1, StatusCode::OK, None),
    (2, StatusCode::TOO_MANY_REQUESTS, Some("30")),
    (3, StatusCode::OK, None),
    (3, StatusCode::TOO_MANY_REQUESTS, Some("3600")),
];

#[test]
fn tower_takes_observed_and_layered_gates() {
    let (gate, log) = guarded();
    let called = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&called);
    let handler = tower::service_fn(move |_: http::Request<String>| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
    });
    let service = RateLimitLayer::new(gate).layer(handler);
    run(async {
        for (who, status, wait) in COURSE {
            let peer = tollgate::http::Peer(([203, 0, 113, who], 80).into());
            let request = http::Request::builder().extension(peer).body(String::new()).unwrap();
            let answer = service.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{who}");
            let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(retry, wait, "{who}");
            // Whom no policy has decided about is told of none.
            assert_eq!(answer.headers().contains_key("ratelimit"), who == 3);
        }
    });
    assert_eq!((called.load(Ordering::Relaxed), log.take().len()), (3, 4));
}

#[test]
fn actix_takes_observed_and_layered_gates() {
    use tollgate::actix::RateLimit;

    let (gate, log) = guarded();
    actix_web::rt::System::new().block_on(async {
        let handler = actix_web::web::to(async || "hello");
        let app = actix_web::App::new().wrap(RateLimit::new(gate)).default_service(handler);
        let app = actix_web::test::init_service(app).await;
        for (who, status, wait) in COURSE {
            let peer = std::net::SocketAddr::from(([203, 0, 113, who], 80));
            let request = actix_web::test::TestRequest::default().peer_addr(peer).to_request();
            let answer = actix_web::test::call_service(&app, request).await;
            assert_eq!(answer.status().as_u16(), status.as_u16(), "{who}");
            let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(retry, wait, "{who}");
        }
    });
    assert_eq!(log.take().len(), 4);
}

#[test]
fn a_store_that_is_away_leaves_layered_requests_undecided_too() {
    let log = Log::default();
    let observers = Observers::new(Scribe("a", log.clone()));
    let gate = AsyncGate::new(Gate::with_store(config(API), Away).with_observers(observers));
    let gate = Arc::new(Layered::new(gate, Clumsy::new(0b10_0000)).layer(Doorman));
    let error = run(gate.check(&by(3), None).verdict()).unwrap_err();
    assert_eq!(error.to_string(), "the request was not decided: the store is unavailable: it is gone");
    assert_eq!(log.take()[1], "a failed 1: the store is unavailable: it is gone");
}
