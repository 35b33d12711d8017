//! Requests that overlap are decided as if one had come after the other.
//!
//! For each history of a few tasks that ask for one key, an order of its requests is looked for that a limit would have
//! answered so, and in which no request comes before one that had its answer before this one was asked (Wing and Gong,
//! *Testing and verifying concurrent objects*, 1993).

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "postgres")]
#[path = "servers/postgres.rs"]
mod postgres;
#[cfg(feature = "shared")]
mod servers;
#[cfg(feature = "shared")]
#[path = "servers/stores.rs"]
mod stores;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, Quota};
use tollgate_store::{LocalStore, MemoryStore};

const HISTORIES: u32 = 10_000;
const TASKS: u32 = 4;
const EACH: u32 = 3;

/// A request, when it was asked and answered, and what was said.
#[derive(Clone, Copy, Debug)]
struct Step {
    asked: u32,
    answered: u32,
    cost: u32,
    allowed: bool,
    left: u64,
}

/// Whether there is an order that explains it all, from a limit of so much of which `used` is taken; `done` are those that
/// are in order already.
/// Where those who ask tell the time themselves, whoever was held up sees a little less.
fn explained(steps: &[Step], done: u32, used: u64, burst: u64, slack: u64) -> bool {
    if done.count_ones() as usize == steps.len() {
        return true;
    }
    let open = || steps.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
    // Whoever was asked after another was answered comes after it.
    let first_answer = open().map(|(_, step)| step.answered).min().unwrap_or(0);
    open().any(|(index, step)| {
        let after = used + u64::from(step.cost);
        let allowed = after <= burst;
        let used = if allowed { after } else { used };
        step.asked < first_answer
            && step.allowed == allowed
            && (burst - used).abs_diff(step.left) <= slack
            && explained(steps, done | 1 << index, used, burst, slack)
    })
}

/// What each task asks for, and of how much: of histories that look random.
fn histories() -> impl Iterator<Item = (u64, Vec<Vec<u32>>)> {
    let mut random = 7_u32;
    let mut below = move |most: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % most
    };
    (0..HISTORIES).map(move |_| {
        let burst = u64::from(1 + below(12));
        (burst, (0..TASKS).map(|_| (0..EACH).map(|_| below(4)).collect()).collect())
    })
}

/// One an hour: nothing comes back meanwhile.
fn slow(burst: u64) -> Limit {
    Limit::gcra_with_burst(Quota::per_hour(1), burst).unwrap()
}

/// Checks the steps of all histories.
fn check(all: impl Iterator<Item = (u64, Vec<Step>)>, slack: u64) {
    let overlaps = |one: &Step, other: &Step| one.asked < other.asked && other.asked < one.answered;
    let mut overlapping = 0;
    for (burst, steps) in all {
        overlapping += u32::from(steps.iter().any(|one| steps.iter().any(|other| overlaps(one, other))));
        assert!(explained(&steps, 0, 0, burst, slack), "nothing explains this, of {burst}: {steps:#?}");
    }
    println!("{overlapping} of {HISTORIES} histories had requests that overlapped");
    assert!(overlapping > HISTORIES / 1_000, "{overlapping}");
}

#[test]
fn in_memory() {
    let store = MemoryStore::default();
    let clock = AtomicU32::new(0);
    let run = |(key, (burst, tasks)): (u128, (u64, Vec<Vec<u32>>))| {
        let (limit, all_there) = (slow(burst), Barrier::new(tasks.len()));
        let ask = |costs: Vec<u32>| {
            all_there.wait();
            let ask = |cost: u32| {
                let hits = [Hit::new(LimitId(1), KeyHash(key), &limit).with_cost(cost)];
                let asked = clock.fetch_add(1, Ordering::SeqCst);
                let answer = LocalStore::acquire(&store, &[Group::all(&hits)]);
                let answered = clock.fetch_add(1, Ordering::SeqCst);
                Step {
                    asked,
                    answered,
                    cost,
                    allowed: answer.allowed,
                    left: answer.outcomes[0].decision.remaining,
                }
            };
            costs.into_iter().map(ask).collect::<Vec<Step>>()
        };
        let steps = thread::scope(|scope| {
            let threads: Vec<_> = tasks.into_iter().map(|costs| scope.spawn(|| ask(costs))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        (burst, steps)
    };
    check((0..).zip(histories()).map(run), 1);
}

/// Has tasks ask a store that is waited for.
#[cfg(feature = "shared")]
async fn overlap_on(store: impl tollgate_store::Store + 'static) {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    let store = Arc::new(store);
    let clock = Arc::new(AtomicU32::new(0));
    let mut all = Vec::new();
    for (key, (burst, tasks)) in (0..).zip(histories()) {
        let limit = slow(burst);
        let ask = |costs: Vec<u32>| {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            async move {
                let mut steps = Vec::new();
                for cost in costs {
                    let hits = [Hit::new(LimitId(1), KeyHash(key), &limit).with_cost(cost)];
                    let asked = clock.fetch_add(1, Ordering::SeqCst);
                    let answer = store.acquire(&[Group::all(&hits)]).await.unwrap();
                    let answered = clock.fetch_add(1, Ordering::SeqCst);
                    let left = answer.outcomes[0].decision.remaining;
                    steps.push(Step { asked, answered, cost, allowed: answer.allowed, left });
                }
                steps
            }
        };
        let tasks: JoinSet<Vec<Step>> = tasks.into_iter().map(ask).collect();
        all.push((burst, tasks.join_all().await.into_iter().flatten().collect()));
    }
    check(all.into_iter(), 0);
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_redis() {
    let redis = servers::Redis::start(&[]);
    overlap_on(stores::connected(stores::patient(redis.url())).await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_postgres() {
    let server = postgres::Postgres::start(&["synchronous_commit=off"]);
    overlap_on(stores::connected_to_postgres(stores::patient_on_postgres(server.url_of_socket())).await)
        .await;
}

#[test]
fn what_cannot_be_is_not_explained() {
    let step = |asked, answered, left| Step { asked, answered, cost: 1, allowed: true, left };
    // Two of two, one after the other, and at the same time.
    assert!(explained(&[step(0, 1, 1), step(2, 3, 0)], 0, 0, 2, 0));
    assert!(explained(&[step(0, 2, 0), step(1, 3, 1)], 0, 0, 2, 0));
    // The second was told what only the first could be.
    assert!(!explained(&[step(0, 1, 0), step(2, 3, 1)], 0, 0, 2, 0));
    // Both were told that they are the first.
    assert!(!explained(&[step(0, 2, 1), step(1, 3, 1)], 0, 0, 2, 0));
}
