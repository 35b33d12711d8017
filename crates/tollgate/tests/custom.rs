//! A rule of one's own on the memory store.

use std::sync::Barrier;
use std::time::Duration;

use tollgate::algorithm::{Gcra, SlidingLog};
use tollgate::{
    CustomLimiter, KeyedLimiter, Limit, ManualClock, MemoryOptions, MemoryStore, Nanos, Overflow, Quota,
    Retry, Timestamp,
};

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_secs(1_000_000))
}

fn options(capacity: usize, overflow: Overflow) -> MemoryOptions {
    MemoryOptions { capacity, overflow }
}

#[test]
fn it_answers_as_a_keyed_limiter_does() {
    let (rule, clock) = (Gcra::new(Quota::per_minute(10), 5).unwrap(), clock());
    let own = CustomLimiter::<u64, _, _>::with_clock(rule, clock.clone(), MemoryOptions::default());
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    let keyed = KeyedLimiter::<u64, _>::with_store(Limit::from(rule), store);
    let (mut held, mut refunds) = (Vec::new(), 0);
    for step in 0..2_000_u64 {
        let (key, cost) = (step * step % 7, u32::try_from(step % 4).unwrap());
        assert_eq!(own.peek(&key, cost), keyed.peek(&key, cost), "{step}");
        match step % 11 {
            0..8 => assert_eq!(own.check_n(&key, cost), keyed.check_n(&key, cost), "{step}"),
            8 => match (own.reserve(&key, cost), keyed.reserve(&key, cost)) {
                (Ok(own), Ok(keyed)) => held.push((own, keyed)),
                (own, keyed) => assert_eq!(own.unwrap_err(), keyed.unwrap_err()),
            },
            9 => {
                if let Some((one, other)) = held.pop() {
                    assert_eq!(u64::from(one.cost()), other.cost());
                    own.refund(one);
                    keyed.refund(other);
                    refunds += 1;
                }
            }
            _ => {
                own.reset(&key);
                keyed.reset(&key);
            }
        }
        clock.advance(Duration::from_millis(step % 3 * 700));
        if step % 100 == 50 {
            clock.set(Timestamp::from_secs(1_000_000 + step));
        }
    }
    assert!(refunds > 50, "{refunds}");
}

#[test]
fn a_limited_key_is_never_evicted_and_idle_ones_make_room() {
    for overflow in [Overflow::Deny, Overflow::Shared] {
        let (rule, clock) = (SlidingLog::new(Quota::per_hour(2)).unwrap(), clock());
        let limiter = CustomLimiter::<u64, _, _>::with_clock(rule, clock.clone(), options(100, overflow));
        assert!(limiter.check_n(&0, 2).is_allowed());
        let admitted = (1..5_000).filter(|key| limiter.check_n(key, 2).is_allowed()).count();
        assert!(!limiter.check(&0).is_allowed());
        // 99 further keys have a place; the state that the others share lets one of them pass.
        assert_eq!(admitted, if overflow == Overflow::Deny { 99 } else { 100 });
        assert_eq!((limiter.store().len(), limiter.store().overflowed()), (100, 4_900));
        let turned_away = limiter.check(&7_777);
        assert_eq!(turned_away, limiter.peek(&7_777, 1), "a look says the same");
        assert_eq!(turned_away.retry_after, Retry::After(Nanos::from_secs(3_600)));
        clock.advance(Duration::from_hours(1));
        assert!(limiter.check(&7_777).is_allowed());
        assert!(limiter.check(&0).is_allowed());
        assert_eq!(limiter.store().len(), 100);
    }
}

#[test]
fn what_a_shared_state_gave_goes_back_to_it() {
    let rule = SlidingLog::new(Quota::per_hour(2)).unwrap();
    let limiter = CustomLimiter::<str, _, _>::with_clock(rule, clock(), options(1, Overflow::Shared));
    assert!(limiter.check("ann").is_allowed());
    let reservation = limiter.reserve("bob", 2).unwrap();
    assert!(!limiter.check("eve").is_allowed());
    limiter.refund(reservation);
    assert_eq!((limiter.status("eve").remaining, limiter.status("ann").remaining), (2, 1));
}

#[test]
fn threads_get_exactly_what_there_is() {
    let rule = SlidingLog::new(Quota::per_day(1_000)).unwrap();
    let (limiter, start) = (CustomLimiter::<str, _>::new(rule), Barrier::new(8));
    let ask = || {
        start.wait();
        (0..1_000).filter(|_| limiter.check("ann").is_allowed()).count()
    };
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 1_000);
}
