//! Permits as tasks hold them.

#![cfg(feature = "permits")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate::concurrency::Concurrency;
use tollgate::permit_store::{MemoryPermits, PermitStore, PermitUsage};
use tollgate::{Clock, Key, KeyBuilder, KeySeed, NoPermit, Permits, Timestamp};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_mins(1);

const SEED: KeySeed = KeySeed::new([7; 16]);

fn permits(most: u32, ttl: Duration) -> (Permits<str>, Arc<MemoryPermits>) {
    let store = Arc::new(MemoryPermits::new(1_000));
    (Permits::with_store(Concurrency::new(most, ttl.into()).unwrap(), Arc::clone(&store), &SEED), store)
}

/// Waits until so many units are held, and so many are waited for.
async fn until(permits: &Permits<str>, in_use: u64, awaited: u64) {
    let reached = async {
        while permits.usage("k").await.unwrap() != (PermitUsage { in_use, awaited }) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it does not happen");
}

#[tokio::test]
async fn a_permit_is_held_until_it_is_dropped() {
    let (permits, _) = permits(2, PATIENCE);
    let first = permits.try_acquire("k").await.unwrap();
    let second = permits.try_acquire("k").await.unwrap();
    assert_ne!(first.id(), second.id());
    let full = permits.try_acquire("k").await.unwrap_err();
    assert!(matches!(full, NoPermit::Full { ahead: 0, retry_after } if retry_after <= PATIENCE), "{full}");
    let never = permits.acquire_many("k", NonZeroU32::new(3).unwrap(), PATIENCE).await.unwrap_err();
    assert_eq!(never, NoPermit::TooMany { wanted: 3, most: 2 });
    drop(first);
    until(&permits, 1, 0).await;
    assert!(!second.is_lost());
    // A task that panics is a holder that is gone.
    let panics = tokio::spawn(async move {
        let _held = second;
        panic!("as it should");
    });
    assert!(panics.await.is_err());
    until(&permits, 0, 0).await;
}

#[tokio::test]
async fn waiting_is_fair_and_can_be_called_off() {
    let (permits, _) = permits(1, PATIENCE);
    let permits = Arc::new(permits);
    let first = permits.try_acquire("k").await.unwrap();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..10_u64 {
        let (permits, order) = (Arc::clone(&permits), Arc::clone(&order));
        let own = Arc::clone(&permits);
        waiting.push(tokio::spawn(async move {
            let _permit = own.acquire("k", PATIENCE).await.unwrap();
            order.lock().unwrap().push(number);
        }));
        until(&permits, 1, number + 1).await;
    }
    // Two of them lose patience.
    for number in [3, 7] {
        waiting[number].abort();
    }
    until(&permits, 1, 8).await;
    drop(first);
    for task in waiting {
        let _ = tokio::time::timeout(PATIENCE, task).await.expect("it is its turn");
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 4, 5, 6, 8, 9]);
    until(&permits, 0, 0).await;
    // Whoever waits for nothing leaves the line as well.
    let _held = permits.try_acquire("k").await.unwrap();
    assert!(permits.acquire("k", Duration::from_millis(20)).await.is_err());
    until(&permits, 1, 0).await;
}

/// The time of a runtime whose clock stands until all tasks wait.
#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000).saturating_add(self.0.elapsed().into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_renewed_while_it_is_held_and_tells_when_it_is_lost() {
    let store = Arc::new(MemoryPermits::with_clock(PausedClock(Instant::now()), 1_000));
    let limit = Concurrency::new(1, Duration::from_secs(30).into()).unwrap();
    let permits: Permits<str, _> = Permits::with_store(limit, Arc::clone(&store), &SEED);
    let permit = permits.try_acquire("k").await.unwrap();
    // Far longer than it lasts by itself.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(permits.try_acquire("k").await.is_err() && !permit.is_lost());
    }
    // The store loses it, and somebody else has it.
    let mut builder = KeyBuilder::new(&SEED);
    "k".write(&mut builder);
    assert!(store.release(builder.finish(), permit.id()).await.unwrap());
    let other = permits.try_acquire("k").await.unwrap();
    let lost_after = Instant::now();
    permit.lost().await;
    assert!(permit.is_lost() && lost_after.elapsed() <= Duration::from_secs(10));
    // What is lost is not given back in the place of another.
    drop(permit);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(permits.try_acquire("k").await.is_err());
    drop(other);
}
