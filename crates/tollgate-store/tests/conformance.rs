//! The memory store against the model.

use tollgate_core::{Answer, Group, KeyHash, Timestamp};
use tollgate_store::conformance::{Options, run_local};
use tollgate_store::{LocalStore, MemoryOptions, MemoryStore, Overflow, Refund};

#[test]
fn the_memory_store_equals_the_model() {
    // Half a million histories on each of two threads. To look at other ones, change the seeds.
    let options = MemoryOptions { capacity: 10_000_000, overflow: Overflow::Deny };
    let decisions: u64 = std::thread::scope(|scope| {
        let runs = [20_261_121, 3].map(|seed| {
            scope.spawn(move || match run_local(&MemoryStore::new(options), Options::new(seed, 500_000)) {
                Ok(summary) => summary.decisions,
                Err(mismatch) => panic!("{mismatch}"),
            })
        });
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert!(decisions > 9_000_000, "{decisions}");
}

/// A store that now and then forgets a denial's cause: the kit must notice.
struct Forgetful(MemoryStore);

impl LocalStore for Forgetful {
    fn now(&self) -> Timestamp {
        LocalStore::now(&self.0)
    }

    fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        let answer = self.0.acquire_at(now, groups);
        if !answer.allowed {
            let keys: Vec<_> = groups.iter().flat_map(|group| group.hits).map(|hit| hit.key).collect();
            LocalStore::reset(&self.0, &keys);
        }
        answer
    }

    fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Answer {
        self.0.peek_at(now, groups)
    }

    fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) {
        self.0.refund_at(now, refunds);
    }

    fn reset(&self, keys: &[KeyHash]) {
        LocalStore::reset(&self.0, keys);
    }
}

#[test]
fn the_kit_finds_a_wrong_store_and_says_how() {
    let store = Forgetful(MemoryStore::default());
    let mismatch = run_local(&store, Options::new(1, 10_000)).unwrap_err();
    // A request that takes something, one that is denied, one that shows that the first is forgotten; and the start.
    assert!((3..=6).contains(&mismatch.steps.len()), "{mismatch}");
    let shown = mismatch.to_string();
    assert!(
        shown.contains("of seed 1") && shown.contains("Acquire") && shown.contains("expected"),
        "{shown}"
    );
}
