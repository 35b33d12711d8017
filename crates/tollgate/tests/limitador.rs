//! What clients of Limitador ask, decided by its limits.

#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use tollgate::{
    CountersAnswer, KeySeed, LimitadorLimits, ManualClock, MemoryOptions, MemoryStore, Nanos, Timestamp,
    check_counters, peek_counters, report_counters,
};

struct Service {
    limits: LimitadorLimits,
    store: MemoryStore<ManualClock>,
    clock: ManualClock,
}

impl Service {
    fn new(file: &str) -> Self {
        let limits = LimitadorLimits::parse("limits.yaml", file, KeySeed::new([7; 16]));
        // No window of the clock begins here.
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_017));
        let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
        Self { limits: limits.unwrap_or_else(|wrong| panic!("{wrong}")), store, clock }
    }

    async fn check(&self, cost: u32) -> (bool, Vec<u64>) {
        seen(&check_counters(&self.store, &self.limits.find("ns", &[]), cost).await.unwrap())
    }

    async fn peek(&self, cost: u32) -> (bool, Vec<u64>) {
        seen(&peek_counters(&self.store, &self.limits.find("ns", &[]), cost).await.unwrap())
    }

    async fn report(&self, cost: u32) -> (bool, Vec<u64>) {
        seen(&report_counters(&self.store, &self.limits.find("ns", &[]), cost).await.unwrap())
    }
}

fn seen(answer: &CountersAnswer) -> (bool, Vec<u64>) {
    (answer.allowed, answer.statuses.iter().map(|status| status.remaining).collect())
}

const TWO: &str =
    "[{ namespace: ns, max_value: 2, seconds: 10 }, { namespace: ns, max_value: 9, seconds: 60 }]";

#[tokio::test]
async fn all_limits_of_a_namespace_decide_together() {
    let service = Service::new(TWO);
    assert_eq!(service.check(1).await, (true, vec![1, 8]));
    assert_eq!(service.peek(2).await, (false, vec![1, 8]));
    // Denied by the one, and the other keeps what it has.
    assert_eq!(service.check(2).await, (false, vec![1, 8]));
    service.clock.advance(Duration::from_secs(9));
    assert_eq!(service.check(1).await, (true, vec![0, 7]));
    // Ten seconds after the first hit, not after the second.
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(service.check(2).await, (true, vec![0, 5]));
    let answer = peek_counters(&service.store, &service.limits.find("ns", &[]), 0).await.unwrap();
    let resets: Vec<Nanos> = answer.statuses.iter().map(|status| status.reset_after).collect();
    assert_eq!(resets, [Nanos::from_secs(10), Nanos::from_secs(50)]);
}

#[tokio::test]
async fn what_has_been_spent_is_charged_as_far_as_there_is_anything() {
    let service = Service::new(TWO);
    assert_eq!(service.report(1).await, (true, vec![1, 8]));
    assert_eq!(service.report(5).await, (false, vec![0, 3]));
    assert_eq!(service.report(5).await, (false, vec![0, 0]));
    assert!(!service.check(1).await.0);
}

#[tokio::test]
async fn zero_denies_and_nothing_limits_nothing() {
    let service = Service::new("[{ namespace: ns, max_value: 0, seconds: 10 }]");
    assert_eq!(service.check(1).await, (false, vec![0]));
    assert_eq!(service.check(0).await, (true, vec![0]));
    assert_eq!(service.report(1).await, (false, vec![0]));
    let service = Service::new("[]");
    assert_eq!(service.check(u32::MAX).await, (true, vec![]));
    assert_eq!(service.report(u32::MAX).await, (true, vec![]));
}
