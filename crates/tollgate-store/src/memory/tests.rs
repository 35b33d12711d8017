use std::time::Duration;

use tollgate_core::{Combine, Former, Limit, ManualClock, Quota, Retry, Source};

use tollgate_core::{Hit, LimitId};

use super::*;

fn store(capacity: usize, overflow: Overflow) -> (MemoryStore<ManualClock>, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_secs(1_000_000));
    (MemoryStore::with_clock(clock.clone(), MemoryOptions { capacity, overflow }), clock)
}

fn hit(limit: &Limit, key: u128) -> Hit<'_> {
    // Spread as hashed keys are.
    Hit::new(LimitId(7), KeyHash(key.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)), limit)
}

fn take(store: &MemoryStore<ManualClock>, limit: &Limit, key: u128) -> Answer {
    store.acquire(&[Group::all(&[hit(limit, key)])])
}

#[test]
fn all_or_nothing_over_shards() {
    let (store, _) = store(1_000_000, Overflow::Deny);
    let (narrow, wide) = (Limit::gcra(Quota::per_minute(1)), Limit::fixed_window(Quota::per_minute(10)));
    let hits = [hit(&wide, 1), hit(&narrow, 2), hit(&wide, 3)];
    assert!(store.acquire(&[Group::all(&hits)]).allowed);
    for _ in 0..5 {
        let denied = store.acquire(&[Group::all(&hits)]);
        assert!(!denied.allowed);
        assert!(denied.outcomes.iter().all(|outcome| outcome.grant.is_none()));
        assert_eq!(denied.outcomes[0].decision.remaining, 9);
    }
    let any = Group { combine: Combine::Any, ..Group::all(&hits) };
    let answer = store.acquire(&[any]);
    assert!(answer.allowed);
    assert_eq!(answer.outcomes.iter().filter(|outcome| outcome.grant.is_some()).count(), 2);
    assert_eq!(answer.outcomes[2].decision.remaining, 8);
}

#[test]
fn a_key_hit_twice_must_afford_both() {
    let (store, _) = store(10, Overflow::Deny);
    let limit = Limit::fixed_window(Quota::per_minute(3));
    let hits = [hit(&limit, 1).with_cost(2), hit(&limit, 1).with_cost(2)];
    assert!(!store.acquire(&[Group::all(&hits)]).allowed);
    assert!(store.acquire(&[Group::all(&[hit(&limit, 1).with_cost(3)])]).allowed);
}

#[test]
fn a_limited_key_is_never_evicted() {
    for overflow in [Overflow::Deny, Overflow::Shared] {
        let (store, _) = store(100, overflow);
        let limit = Limit::gcra(Quota::per_hour(1));
        assert!(take(&store, &limit, 0).allowed);
        let admitted = (1..10_000).filter(|key| take(&store, &limit, *key).allowed).count();
        assert!(!take(&store, &limit, 0).allowed);
        assert_eq!(store.len(), 100);
        // 99 further keys have a place; the shared state lets one of the others pass.
        assert_eq!(admitted, if overflow == Overflow::Deny { 99 } else { 100 });
        assert_eq!(store.overflowed(), 10_000 - 100);
    }
}

#[test]
fn a_key_turned_away_is_told_when_a_place_is_free() {
    let (store, clock) = store(1, Overflow::Deny);
    let limit = Limit::gcra(Quota::per_minute(1));
    assert!(take(&store, &limit, 1).allowed);
    let turned_away = take(&store, &limit, 2).outcomes[0];
    assert_eq!(turned_away.source, Source::Overflow);
    assert_eq!(turned_away.decision.retry_after, Retry::After(tollgate_core::Nanos::from_secs(60)));
    clock.advance(Duration::from_mins(1));
    assert!(take(&store, &limit, 2).allowed);
}

#[test]
fn idle_keys_make_room() {
    let (store, clock) = store(1_000, Overflow::Deny);
    let limit = Limit::gcra(Quota::per_second(1));
    for round in 0..50_u128 {
        for key in 0..1_000 {
            assert!(take(&store, &limit, round * 1_000 + key).allowed);
        }
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(store.len(), 1_000);
    // What is used again and again keeps its place while others come and go.
    let busy = Limit::fixed_window(Quota::per_hour(1_000_000));
    for key in 0..5_000 {
        assert!(take(&store, &busy, u128::MAX).allowed);
        assert!(take(&store, &limit, 1_000_000 + key).allowed);
        clock.advance(Duration::from_millis(10));
    }
    assert_eq!(take(&store, &busy, u128::MAX).outcomes[0].decision.remaining, 1_000_000 - 5_001);
}

#[test]
fn looks_and_denials_leave_nothing_behind() {
    let (store, _) = store(1_000, Overflow::Deny);
    let limit = Limit::gcra(Quota::per_second(1));
    for key in 0..100 {
        let _ = store.peek(&[Group::all(&[hit(&limit, key)])]);
        let _ = store.acquire(&[Group::all(&[hit(&limit, key).with_cost(0)])]);
        let _ = store.acquire(&[Group::all(&[hit(&limit, key).with_cost(2)])]);
    }
    assert!(store.is_empty());
}

#[test]
fn resets_and_refunds_do_not_pile_up() {
    let (store, _) = store(10, Overflow::Deny);
    let limit = Limit::gcra(Quota::per_hour(2));
    for round in 0..10_000 {
        let request = hit(&limit, 1);
        let grant = take(&store, &limit, 1).outcomes[0].grant.unwrap();
        if round % 2 == 0 {
            store.reset(&[request.key]);
        } else {
            store.refund(&[Refund { key: request.key, limit: &limit, grant, source: Source::Memory }]);
        }
        assert!(store.is_empty());
    }
    assert!(take(&store, &limit, 1).allowed);
}

#[test]
fn a_changed_limit_keeps_what_was_spent() {
    let (store, _) = store(10, Overflow::Deny);
    let (before, after) = (Limit::gcra(Quota::per_hour(100)), Limit::fixed_window(Quota::per_hour(10)));
    for _ in 0..95 {
        let _ = take(&store, &before, 1);
    }
    // What it was in between nobody asked for.
    let between = Limit::gcra(Quota::per_minute(50));
    let formers = [Former::new(between, 1, 2), Former::new(before, 0, 2)];
    let changed = Hit::new(LimitId(7), hit(&before, 1).key.nth(2), &after).with_formers(&formers);
    let answer = store.acquire(&[Group::all(&[changed])]);
    assert_eq!(answer.outcomes[0].decision.remaining, 4);
    assert_eq!(store.len(), 1);
}

#[test]
fn many_threads_never_exceed_the_limit() {
    const LIMIT: u32 = 1_000;
    let (store, _) = store(1_000_000, Overflow::Deny);
    let limit = Limit::gcra(Quota::per_hour(LIMIT));
    let other = Limit::fixed_window(Quota::per_hour(u32::MAX));
    let admitted: usize = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..64_u128)
            .map(|task| {
                let (store, limit, other) = (&store, &limit, &other);
                scope.spawn(move || {
                    // In both orders, so that a fixed order of locking is needed.
                    let mut hits = [hit(limit, 1), hit(other, 2 + task % 3)];
                    if task % 2 == 0 {
                        hits.reverse();
                    }
                    (0..100).filter(|_| store.acquire(&[Group::all(&hits)]).allowed).count()
                })
            })
            .collect();
        tasks.into_iter().map(|task| task.join().unwrap()).sum()
    });
    assert_eq!(admitted, LIMIT as usize);
}
