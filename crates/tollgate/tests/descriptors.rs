//! What proxies ask, decided by the rules of descriptors.

#![cfg(feature = "policy")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use tollgate::{
    Descriptor, DescriptorAnswer, DescriptorRules, KeySeed, ManualClock, MemoryOptions, MemoryStore,
    Timestamp, check_descriptors,
};

struct Service {
    rules: DescriptorRules,
    store: MemoryStore<ManualClock>,
    clock: ManualClock,
}

impl Service {
    fn new(descriptors: &str) -> Self {
        let file = format!("domain: d\ndescriptors:\n{descriptors}");
        let rules = DescriptorRules::parse(&[("rules.yaml", &file)], false, KeySeed::new([7; 16]));
        // A minute of the clock begins.
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
        Self { rules: rules.unwrap_or_else(|wrong| panic!("{}", wrong[0])), store, clock }
    }

    async fn ask_at(&self, descriptors: &[(&str, &str)], cost: u32) -> DescriptorAnswer {
        let entries: Vec<[(&str, &str); 1]> = descriptors.iter().map(|entry| [*entry]).collect();
        let descriptors: Vec<Descriptor<'_>> = entries.iter().map(|entry| Descriptor::new(entry)).collect();
        let found = self.rules.find("d", &descriptors);
        check_descriptors(&self.store, &found, &vec![cost; descriptors.len()]).await.unwrap()
    }

    async fn ask(&self, descriptors: &[(&str, &str)]) -> (bool, Vec<bool>, Vec<u32>) {
        let answer = self.ask_at(descriptors, 1).await;
        let over = answer.statuses.iter().map(|status| status.is_over).collect();
        (answer.allowed, over, answer.statuses.iter().map(|status| status.remaining).collect())
    }
}

#[tokio::test]
async fn all_descriptors_pass_or_none_is_charged() {
    let service = Service::new(
        "  - { key: a, rate_limit: { unit: minute, requests_per_unit: 1 } }
  - { key: b, rate_limit: { unit: hour, requests_per_unit: 9 } }
",
    );
    assert_eq!(service.ask(&[("a", "1"), ("b", "1")]).await, (true, vec![false, false], vec![0, 8]));
    // Denied by the one, and the other keeps what it has.
    assert_eq!(service.ask(&[("a", "1"), ("b", "1")]).await, (false, vec![true, false], vec![0, 8]));
    assert_eq!(service.ask(&[("a", "2"), ("b", "1")]).await, (true, vec![false, false], vec![0, 7]));
    let answer = service.ask_at(&[("a", "1")], 0).await;
    assert_eq!(answer.statuses[0].reset_after, tollgate::Nanos::from_secs(60));
    service.clock.advance(Duration::from_mins(1));
    assert!(service.ask(&[("a", "1")]).await.0, "the next window");
}

#[tokio::test]
async fn shadows_count_and_never_deny() {
    let service = Service::new(
        "  - { key: a, shadow_mode: true, rate_limit: { unit: minute, requests_per_unit: 1 } }
",
    );
    assert_eq!(service.ask(&[("a", "1")]).await, (true, vec![false], vec![0]));
    assert_eq!(service.ask(&[("a", "1")]).await, (true, vec![false], vec![0]));
}

#[tokio::test]
async fn those_in_quota_mode_deny_only_all_together() {
    let service = Service::new(
        "  - { key: a, quota_mode: true, rate_limit: { unit: minute, requests_per_unit: 1 } }
  - { key: b, quota_mode: true, rate_limit: { unit: minute, requests_per_unit: 2 } }
  - { key: c, rate_limit: { unit: minute, requests_per_unit: 3 } }
",
    );
    let all = [("a", "1"), ("c", "1"), ("b", "1")];
    assert_eq!(service.ask(&all).await, (true, vec![false; 3], vec![0, 2, 1]));
    assert_eq!(service.ask(&all).await, (true, vec![true, false, false], vec![0, 1, 0]));
    assert_eq!(service.ask(&all).await, (false, vec![true, false, true], vec![0, 1, 0]));
}

#[tokio::test]
async fn what_no_rule_limits_passes() {
    let service = Service::new(
        "  - { key: open, rate_limit: { unlimited: true } }
  - { key: closed, rate_limit: { unit: day, requests_per_unit: 0 } }
",
    );
    assert_eq!(
        service.ask(&[("open", "1"), ("other", "1")]).await,
        (true, vec![false, false], vec![u32::MAX, 0])
    );
    assert!(!service.ask(&[("closed", "1"), ("open", "1")]).await.0);
    assert!(service.ask_at(&[("open", "1")], 0).await.allowed);
}
