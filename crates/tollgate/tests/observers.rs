//! Observers: what they see, in which order, and that they change nothing.

#![cfg(all(feature = "shaping", feature = "tower"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod plugins;

use std::fmt::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::time::Duration;

use plugins::{Away, Log, Scribe, Slow, Standing, config, gate, hush, panic_on_purpose, store};
use proptest::prelude::*;
use tollgate::algorithm::SlidingLog;
use tollgate::plugin::{Check, Decided, ObservedStore, Observer, Observers};
use tollgate::{
    Ask, Clock, CustomLimiter, Descriptor, DescriptorRules, Gate, KeyedLimiter, Limit, LimitadorLimits,
    Limiter, ManualClock, MemoryOptions, Quota, Request, Shaper, StoreError, Timestamp, check_counters,
    check_descriptors, random_seed,
};

const TWO: &str = "policies:
  - { name: limit, key: ip, limit: 2/hour }
  - { name: watch, key: ip, limit: 1/hour, shadow: true }";

fn client() -> Request {
    Request::default().with_ip("203.0.113.7".parse().unwrap())
}

fn scribe() -> (Observers, Log) {
    let log = Log::default();
    (Observers::new(Scribe("a", log.clone())), log)
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn observers_are_called_in_order_and_see_what_is_decided() {
    let (gate, _) = gate(TWO);
    let (observers, log) = scribe();
    let gate = gate.with_observers(observers.with(Scribe("b", log.clone())));
    assert!(gate.check(&client()).is_allowed());
    assert_eq!(
        log.take(),
        [
            "a before [1, 1] [\"limit\", \"watch\"]",
            "b before [1, 1] [\"limit\", \"watch\"]",
            "a after 2 true: limit 1, watch 0",
            "b after 2 true: limit 1, watch 0",
        ]
    );
    // The shadow would deny it, and does not.
    assert!(gate.refusal(&client(), None).is_none());
    assert_eq!(log.take()[2], "a after 2 true: limit 0, watch 0");
    // Nothing is taken, so the shadow has what it had.
    assert!(gate.refusal(&client(), Some(5)).is_some());
    assert_eq!(
        log.take()[1..3],
        ["b before [5, 5] [\"limit\", \"watch\"]", "a after 2 false: limit 0, watch 0"]
    );
    gate.ban(&client(), Some("limit"), Duration::from_mins(1));
    assert!(gate.check(&client()).is_banned());
    assert_eq!(log.take()[2], "a after 2 false: banned");
    // Who is no business of any policy is seen too.
    assert!(gate.check(&Request::default()).is_allowed());
    assert_eq!(log.take()[1..3], ["b before [] []", "a after 0 true: "]);
    // Looking and giving back are no checks.
    gate.reset(&client(), None);
    let _ = gate.peek(&client(), None);
    assert!(log.take().is_empty());
}

#[test]
fn every_way_to_ask_a_gate_is_observed_once() {
    let (gate, clock) = gate("policies: [{ name: api, key: ip, limit: 100/hour }]");
    let (observers, log) = scribe();
    let gate = gate.with_observers(observers);
    let (now, client) = (clock.now(), client());
    let seen = |what: &str, times: usize| {
        let lines = log.take();
        let after = lines.iter().filter(|line| line.starts_with("a after 1 true: api")).count();
        assert_eq!((lines.len(), after), (2 * times, times), "{what}: {lines:?}");
    };
    let _ = gate.check(&client);
    seen("check", 1);
    let _ = gate.check_n(&client, 2);
    seen("check_n", 1);
    let _ = gate.check_at(now, &client, None);
    seen("check_at", 1);
    let _ = gate.refusal(&client, None);
    seen("refusal", 1);
    let _ = gate.check_many(&[client.clone(), client.clone()]);
    seen("check_many", 2);
    let (_, reservation) = gate.reserve(&client, None);
    seen("reserve", 1);
    gate.refund(reservation.unwrap());
    run(async {
        let verdict = gate.check_async(now, &client, None).await.unwrap();
        seen("check_async", 1);
        gate.settle_async(&verdict, tollgate::Settlement::Refund).await.unwrap();
        let policies = gate.policies();
        let asked = policies.plan(&client, now, None).detach(&policies);
        let _ = gate.decide_async(now, asked).await.unwrap();
        seen("decide_async", 1);
        let _ = gate.check_together_async(now, &[Ask::new(&client), Ask::new(&client)]).await.unwrap();
        seen("check_together_async", 2);
    });
    assert!(log.take().is_empty());
}

#[test]
fn requests_that_pass_together_are_seen_to_be_denied_together() {
    let (gate, clock) = gate("policies: [{ name: api, key: user, limit: 1/hour }]");
    let (observers, log) = scribe();
    let gate = gate.with_observers(observers);
    let [ana, bob] = ["ana", "bob"].map(|name| Request::default().with_user(name));
    assert!(gate.check(&ana).is_allowed());
    log.take();
    run(gate.check_together_async(clock.now(), &[Ask::new(&bob), Ask::new(&ana)])).unwrap();
    assert_eq!(log.take()[2..], ["a after 1 false: api 1", "a after 1 false: api 0"]);
}

#[test]
fn a_store_that_fails_is_seen_to_fail() {
    let (observers, log) = scribe();
    let failed = "a failed 1: the store is unavailable: it is gone";
    let (now, client) = (Timestamp::from_secs(1_800_000_000), client());
    let gate = Gate::with_store(config("policies: [{ name: api, key: ip, limit: 1/hour }]"), Away)
        .with_observers(observers.clone());
    let limiter =
        KeyedLimiter::<str, _>::with_store(Quota::per_hour(1), Away).with_observers(observers.clone());
    run(async {
        gate.check_async(now, &client, None).await.unwrap_err();
        assert_eq!(log.take(), ["a before [1] [\"api\"]", failed]);
        gate.check_together_async(now, &[Ask::new(&client)]).await.unwrap_err();
        assert_eq!(log.take(), ["a before [1] [\"api\"]", failed]);
        limiter.check_n_async("k", 3).await.unwrap_err();
        assert_eq!(log.take(), ["a before [3] []", failed]);
        limiter.reserve_async("k", 3).await.unwrap_err();
        assert_eq!(log.take(), ["a before [3] []", failed]);
        let store = ObservedStore::new(Away, observers);
        let limiter = KeyedLimiter::<str, _>::with_store(Quota::per_hour(1), store);
        limiter.check_async("k").await.unwrap_err();
        assert_eq!(log.take(), ["a before [1] []", failed]);
    });
}

#[test]
fn limiters_are_observed() {
    let (observers, log) = scribe();
    let limiter = Limiter::new(Quota::per_hour(2)).with_observers(observers.clone());
    let _ = (limiter.check(), limiter.check_n(2), limiter.reserve(1));
    let two_and_one = ["a before [1] []", "a after 1 true: 1 left", "a before [2] []"];
    let lines = log.take();
    assert_eq!(lines[..3], two_and_one);
    assert_eq!(lines[3..], ["a after 1 false: 1 left", "a before [1] []", "a after 1 true: 0 left"]);

    let keyed = KeyedLimiter::<str>::new(Quota::per_hour(2)).with_observers(observers.clone());
    let _ = (keyed.check("k"), keyed.check_many(&["k", "k"]), keyed.reserve("k", 1));
    let after = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| line.starts_with("a after")).collect()
    };
    let hour = [
        "a after 1 true: 1 left",
        "a after 1 true: 0 left",
        "a after 1 false: 0 left",
        "a after 1 false: 0 left",
    ];
    assert_eq!(after(log.take()), hour);

    let rule = SlidingLog::new(Quota::per_hour(2)).unwrap();
    let custom = CustomLimiter::<str, _>::new(rule).with_observers(observers.clone());
    let _ = (custom.check("k"), custom.reserve("k", 1), custom.check_n("k", 1), custom.check_n("k", 1));
    assert_eq!(after(log.take()), hour);
}

#[test]
fn who_waits_in_line_is_seen_to_wait() {
    let (observers, log) = scribe();
    let (store, _) = store();
    let shaper =
        Shaper::<str, _>::with_store(Quota::per_minute(1), 1, 1, store).unwrap().with_observers(observers);
    shaper.turn("k", 1).unwrap().take();
    shaper.turn("k", 1).unwrap().take();
    assert!(shaper.turn("k", 1).is_err());
    let lines = log.take();
    assert_eq!(lines[1], "a after 1 true: 1 left");
    assert_eq!(lines[3], "a after 1 true: 0 left in 60s");
    assert_eq!(lines[5], "a after 1 false: 0 left");
}

#[test]
fn descriptors_and_counters_are_observed_at_their_store() {
    let (observers, log) = scribe();
    let store = ObservedStore::new(store().0, observers);
    let file = "domain: edge\ndescriptors: [{ key: user, rate_limit: { unit: hour, requests_per_unit: 1 } }]";
    let rules = DescriptorRules::parse(&[("rules.yaml", file)], false, random_seed()).unwrap();
    let found = rules.find("edge", &[Descriptor::new(&[("user", "ana")])]);
    let file = "[{ namespace: shop, max_value: 1, seconds: 60 }]";
    let limits = LimitadorLimits::parse("limits.yaml", file, random_seed()).unwrap();
    run(async {
        for _ in 0..2 {
            let _ = check_descriptors(&store, &found, &[1]).await.unwrap();
            let _ = check_counters(&store, &limits.find("shop", &[]), 1).await.unwrap();
        }
    });
    let after: Vec<String> = log.take().into_iter().filter(|line| line.starts_with("a after")).collect();
    let [yes, no] = ["a after 1 true: 1 outcomes", "a after 1 false: 1 outcomes"];
    assert_eq!(after, [yes, yes, no, no]);
}

/// Does this in each hook.
struct Curious<F>(F);

impl<F: Fn() + Send + Sync> Observer for Curious<F> {
    fn before(&self, _: &Check<'_>) {
        (self.0)();
    }

    fn after(&self, _: &Check<'_>, _: &Decided<'_>) {
        (self.0)();
    }
}

/// Were any lock held while hooks run, this would have no end: these limits have locks, and so have bans and reloads.
#[test]
fn an_observer_may_ask_what_it_observes() {
    let (asked, allowed) = (Arc::new(OnceLock::<Weak<Standing>>::new()), Arc::new(AtomicU32::new(0)));
    let (gate_asked, passed) = (Arc::clone(&asked), Arc::clone(&allowed));
    let curious = Curious(move || {
        let gate = gate_asked.get().unwrap().upgrade().unwrap();
        passed.fetch_add(u32::from(gate.check(&client()).is_allowed()), Ordering::Relaxed);
        gate.ban(&by(9), None, Duration::ZERO);
        gate.reload(config(MANY));
    });
    let gate = Arc::new(gate(MANY).0.with_observers(Observers::new(curious)));
    asked.set(Arc::downgrade(&gate)).unwrap();
    assert!(gate.check(&client()).is_allowed());
    gate.ban(&client(), None, Duration::from_secs(1));
    assert!(gate.check(&client()).is_banned());
    assert_eq!(allowed.load(Ordering::Relaxed), 2);
    assert_eq!(gate.status().allowed, 3);

    let limiter = Arc::new_cyclic(|limiter: &Weak<Limiter>| {
        let limiter = limiter.clone();
        let curious =
            Curious(move || assert!(limiter.upgrade().is_some_and(|limiter| limiter.check().is_allowed())));
        Limiter::new(Limit::sliding_log(Quota::per_hour(10)).unwrap()).with_observers(Observers::new(curious))
    });
    assert_eq!((limiter.check().remaining, limiter.status().remaining), (8, 7));
}

/// Panics in a hook as often as the bits of this say, one after the other, from the lowest.
struct Clumsy(AtomicU64);

impl Clumsy {
    fn new(bits: u64) -> Self {
        hush();
        Self(AtomicU64::new(bits))
    }

    fn stumble(&self) {
        let stumble = |bits: u64| Some(bits.rotate_right(1));
        if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, stumble).unwrap() & 1 == 1 {
            panic_on_purpose();
        }
    }
}

impl Observer for Clumsy {
    fn before(&self, _: &Check<'_>) {
        self.stumble();
    }

    fn after(&self, _: &Check<'_>, _: &Decided<'_>) {
        self.stumble();
    }

    fn failed(&self, _: &Check<'_>, _: &StoreError) {
        self.stumble();
    }
}

/// Its own end is a panic too.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_on_purpose();
    }
}

#[test]
fn panics_are_counted_and_those_after_it_are_called() {
    struct Bomber;
    impl Observer for Bomber {
        fn before(&self, _: &Check<'_>) {
            std::panic::panic_any(Bomb);
        }
    }
    let log = Log::default();
    let observers = Observers::new(Clumsy::new(u64::MAX)).with(Bomber).with(Scribe("a", log.clone()));
    let (gate, clock) = gate(TWO);
    let gate = gate.with_observers(observers.clone());
    for _ in 0..3 {
        let _ = gate.check(&client());
    }
    assert_eq!((observers.panics(), log.take().len()), (9, 6));
    let away = Gate::with_store(config(TWO), Away).with_observers(observers.clone());
    run(away.check_async(clock.now(), &client(), None)).unwrap_err();
    assert_eq!((observers.panics(), log.take().len()), (12, 2));
}

/// Keeps the events of plugins, each with its fields.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "tollgate::plugin"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            let _ = write!(line, "{field}={value:?} ");
        });
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn panics_are_said_at_the_first_and_whenever_there_are_twice_as_many() {
    let events = Events::default();
    let limiter = Limiter::new(Quota::per_hour(1_000)).with_observers(Observers::new(Clumsy::new(u64::MAX)));
    tracing::subscriber::with_default(events.clone(), || {
        for _ in 0..50 {
            let _ = limiter.check();
        }
    });
    let events = events.0.lock().unwrap();
    // 1, 2, 4 … 64 of a hundred.
    assert_eq!(events.len(), 7);
    for part in ["plugin=\"observers::Clumsy\"", "panics=64", "panic=\"on purpose\"", "a plugin panicked"] {
        assert!(events[6].contains(part), "{part}: {}", events[6]);
    }
}

#[test]
fn two_threads_lose_nothing_to_panics() {
    let (gate, _) = gate("policies: [{ name: api, key: ip, limit: 1000/hour }]");
    let observers = Observers::new(Clumsy::new(0x9a5c_e317_0f2b_6d84));
    let gate = gate.with_observers(observers.clone());
    let both = Barrier::new(2);
    let ask = || {
        both.wait();
        (0..800).filter(|_| gate.check(&client()).is_allowed()).count()
    };
    let passed = std::thread::scope(|scope| {
        let others = scope.spawn(ask);
        ask() + others.join().unwrap()
    });
    assert_eq!(passed, 1000);
    let status = gate.status();
    assert_eq!((status.allowed, status.denied), (1000, 600));
    assert_eq!(observers.panics(), 3200 / 64 * u64::from(0x9a5c_e317_0f2b_6d84_u64.count_ones()));
}

/// What a client does: who, at which cost, and how long after the one before.
fn steps() -> impl Strategy<Value = Vec<(u8, u32, u64)>> {
    proptest::collection::vec((0..4_u8, 0..4_u32, 0..400_u64), 1..60)
}

const MANY: &str = "policies:
  - { name: rate, key: ip, limit: 20/minute }
  - { name: window, key: ip, algorithm: sliding_log, limit: 9/10s, ban: { after: 3/minute, for: 20s } }
  - { name: watch, key: ip, limit: 3/minute, shadow: true }";

const ONE: &str = "policies: [{ name: rate, key: ip, limit: 8/minute }]";

fn by(who: u8) -> Request {
    Request::default().with_ip([203, 0, 113, who].into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn observers_that_panic_change_no_decision(steps in steps(), one: u64, other: u64, is_many: bool) {
        let policies = if is_many { MANY } else { ONE };
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let store = || tollgate::MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
        let observers = Observers::new(Clumsy::new(one)).with(Clumsy::new(other));
        let plain = Gate::with_store(config(policies), store());
        let observed = Gate::with_store(config(policies), store()).with_observers(observers.clone());
        let slow = Gate::with_store(config(policies), Slow(store())).with_observers(observers.clone());
        let limit = Limit::gcra(Quota::per_minute(8));
        let keyed = KeyedLimiter::<u8, _>::with_store(limit, store());
        let keyed_observed = KeyedLimiter::<u8, _>::with_store(limit, store()).with_observers(observers.clone());
        let limiter = Limiter::with_clock(limit, clock.clone());
        let limiter_observed = Limiter::with_clock(limit, clock.clone()).with_observers(observers);
        let said = |verdict: &tollgate::Verdict| (verdict.is_allowed(), verdict.is_banned(), verdict.outcomes().to_vec());
        run(async {
            for (who, cost, wait) in steps {
                clock.advance(Duration::from_millis(wait * 10));
                let (now, request) = (clock.now(), by(who));
                let expected = plain.check_n(&request, cost);
                assert_eq!(said(&observed.check_n(&request, cost)), said(&expected));
                assert_eq!(said(&slow.check_async(now, &request, Some(cost)).await.unwrap()), said(&expected));
                assert_eq!(keyed_observed.check_n(&who, cost), keyed.check_n(&who, cost));
                assert_eq!(limiter_observed.check_n(cost), limiter.check_n(cost));
            }
            for who in 0..4 {
                let expected = plain.peek(&by(who), Some(0));
                assert_eq!(said(&observed.peek(&by(who), Some(0))), said(&expected));
                assert_eq!(said(&slow.peek_async(clock.now(), &by(who), Some(0)).await.unwrap()), said(&expected));
            }
        });
        let counts = |status: tollgate::Statistics| (status.allowed, status.denied, status.policies);
        prop_assert_eq!(counts(observed.status()), counts(plain.status()));
        prop_assert_eq!(counts(slow.status()), counts(plain.status()));
    }
}
