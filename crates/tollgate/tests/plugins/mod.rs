//! Plugins for tests, and panics that are meant.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it, and fails by panicking")]

use std::sync::{Arc, Mutex, Once};

use tollgate::plugin::{Check, Decided, Observer, Said};
use tollgate::{
    Answer, Config, Format, Gate, Group, KeyHash, ManualClock, MemoryOptions, MemoryStore, Refund, Store,
    StoreError, Timestamp,
};

pub(crate) type Standing = Gate<MemoryStore<ManualClock>>;

pub(crate) fn config(policies: &str) -> Config {
    Config::parse("test", policies, Format::Yaml, &[]).unwrap()
}

pub(crate) fn store() -> (MemoryStore<ManualClock>, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    (MemoryStore::with_clock(clock.clone(), MemoryOptions::default()), clock)
}

/// A gate on a clock that stands still.
pub(crate) fn gate(policies: &str) -> (Standing, ManualClock) {
    let (store, clock) = store();
    (Gate::with_store(config(policies), store), clock)
}

/// Panics, which a test wants.
pub(crate) fn panic_on_purpose() -> ! {
    panic!("{PURPOSE}")
}

const PURPOSE: &str = "on purpose";

/// Says nothing of panics that are meant.
pub(crate) fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<String>().is_none_or(|text| text != PURPOSE) {
                say(panic);
            }
        }));
    });
}

/// What observers have seen, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

/// Writes down what it sees under this name.
pub(crate) struct Scribe(pub(crate) &'static str, pub(crate) Log);

impl Observer for Scribe {
    fn before(&self, check: &Check<'_>) {
        let costs: Vec<u32> = check.costs().map(|(_, cost)| cost).collect();
        let policies: Vec<&str> = check.policies().iter().map(|policy| policy.name()).collect();
        self.1.push(format!("{} before {costs:?} {policies:?}", self.0));
    }

    fn after(&self, check: &Check<'_>, decided: &Decided<'_>) {
        let said = match decided.said {
            Said::Decision(decision) => format!("{} left", decision.remaining),
            Said::Answer(answer) => format!("{} outcomes", answer.outcomes.len()),
            Said::Verdict(verdict) if verdict.is_banned() => "banned".to_owned(),
            Said::Verdict(verdict) => {
                let each = verdict.policies();
                each.map(|each| format!("{} {}", each.policy.name(), each.remaining()))
                    .collect::<Vec<_>>()
                    .join(", ")
            }
            _ => unreachable!("nothing else answers"),
        };
        let delay = if decided.delay.is_zero() { String::new() } else { format!(" in {:?}", decided.delay) };
        let hits = check.costs().count();
        self.1.push(format!("{} after {hits} {}: {said}{delay}", self.0, decided.allowed));
    }

    fn failed(&self, check: &Check<'_>, error: &StoreError) {
        self.1.push(format!("{} failed {}: {error}", self.0, check.costs().count()));
    }
}

/// A store that is away.
pub(crate) struct Away;

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("it is gone".to_owned()))
}

impl Store for Away {
    async fn acquire(&self, _: &[Group<'_>]) -> Result<Answer, StoreError> {
        away()
    }

    async fn peek(&self, _: &[Group<'_>]) -> Result<Answer, StoreError> {
        away()
    }

    async fn refund(&self, _: &[Refund<'_>]) -> Result<(), StoreError> {
        away()
    }

    async fn reset(&self, _: &[KeyHash]) -> Result<(), StoreError> {
        away()
    }
}

/// A store whose answers take a while: each is asked for twice at least.
pub(crate) struct Slow(pub(crate) MemoryStore<ManualClock>);

impl Store for Slow {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        tokio::task::yield_now().await;
        let answer = Store::acquire(&self.0, groups).await;
        tokio::task::yield_now().await;
        answer
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        Store::peek(&self.0, groups).await
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        Store::refund(&self.0, refunds).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        Store::reset(&self.0, keys).await
    }
}
