//! A gatekeeper over a store whose clock stands still.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it, and fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request};
use tollgate_core::{KeySeed, ManualClock, Timestamp};
use tollgate_http::{Checking, Gatekeeper, HttpAttributes, Peer};
use tollgate_policy::{Attributes, Config, Format, PolicySet, Settlement, Verdict};
use tollgate_store::{LocalStore, MemoryOptions, MemoryStore};

/// What was asked of each limit and taken from it, and how that was settled.
type Settled = (Vec<(u32, u32)>, Settlement);

pub(crate) struct Gate {
    pub(crate) policies: Arc<PolicySet>,
    pub(crate) store: MemoryStore<ManualClock>,
    /// Whether it has to be waited for.
    pub(crate) is_distant: AtomicBool,
    /// What it was told to settle.
    pub(crate) settled: Mutex<Vec<Settled>>,
}

/// The start of a minute, an hour and a day: midnight, 1 January 2027.
pub(crate) const NOW_S: u64 = 1_798_761_600;

impl Gate {
    pub(crate) fn new(policies: &str) -> Self {
        let config =
            Config::parse("test", policies, Format::Yaml, &[]).unwrap_or_else(|error| panic!("{error}"));
        let clock = ManualClock::new(Timestamp::from_secs(NOW_S));
        Self {
            policies: Arc::new(PolicySet::new(config, KeySeed::new([7; 16]))),
            store: MemoryStore::with_clock(clock, MemoryOptions::default()),
            is_distant: AtomicBool::new(false),
            settled: Mutex::default(),
        }
    }

    pub(crate) fn clock(&self) -> ManualClock {
        self.store.clock().clone()
    }

    /// Asks for a request of this cost from one client.
    pub(crate) fn ask(&self, cost: u32) -> Verdict {
        let request = Request::new(());
        let request = HttpAttributes::of(&request).with_ip(Some([203, 0, 113, 7].into()));
        self.decide(&request, Some(cost))
    }

    fn decide<A: Attributes + ?Sized>(&self, request: &A, cost: Option<u32>) -> Verdict {
        let now = self.store.now();
        let plan = self.policies.plan(request, now, cost);
        let answer = self.store.acquire_at(now, &plan.groups());
        plan.verdict(&self.policies, answer)
    }
}

impl Gatekeeper for Gate {
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
        let verdict = self.decide(request, cost);
        if self.is_distant.load(Ordering::Relaxed) {
            // As a store over the network answers: not when it is asked for the first time.
            return Checking::Waiting(Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(verdict)
            }));
        }
        Checking::Done(verdict)
    }

    fn settle(self: &Arc<Self>, verdict: &Verdict, settlement: Settlement) {
        let taken = verdict.taken().map(|(hit, grant, _)| (hit.cost, grant.cost)).collect();
        self.settled.lock().unwrap().push((taken, settlement));
    }
}

/// A request from an address.
pub(crate) fn from_peer(ip: &str, path: &str) -> Request<String> {
    let mut request = Request::builder().uri(path).body(String::new()).unwrap();
    request.extensions_mut().insert(Peer((ip.parse::<std::net::IpAddr>().unwrap(), 4711).into()));
    request
}

/// The headers as they stand in a response, sorted.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}
