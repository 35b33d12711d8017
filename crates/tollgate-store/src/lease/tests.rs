//! Nodes over one store, with delays, losses, crashes and clocks that differ, against the limit itself.

use std::sync::Mutex;
use std::sync::atomic::AtomicU8;

use tokio::task::JoinSet;
use tollgate_core::{Clock, Combine, Group, ManualClock, Quota, Retry, Sharing};

use super::*;
use crate::memory::MemoryStore;
use crate::store::LocalStore;

/// A clock that differs from the store's, always by as much.
#[derive(Clone, Debug)]
struct Skewed(ManualClock, Nanos);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.0.now().saturating_add(self.1)
    }
}

/// Numbers that look random, the same for the same seed.
#[derive(Debug)]
struct Dice(Mutex<u64>);

impl Dice {
    fn below(&self, most: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % most.max(1)
    }

    /// One of some things.
    fn of<'a, T>(&self, some: &'a [T]) -> &'a T {
        &some[self.index(some.len())]
    }

    fn index(&self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }
}

const UP: u8 = 0;
const AWAY: u8 = 1;
const LOSES_ANSWERS: u8 = 2;

/// A store that time passes on the way to, and that can be away or lose its answers.
#[derive(Clone, Debug)]
struct Far {
    store: Arc<MemoryStore<ManualClock>>,
    dice: Arc<Dice>,
    state: Arc<AtomicU8>,
    calls: Arc<AtomicU8>,
}

impl Far {
    async fn travel(&self) {
        for _ in 0..self.dice.below(3) {
            tokio::task::yield_now().await;
        }
        self.store.clock().advance(Duration::from_micros(self.dice.below(2_000)));
    }

    async fn ask<T>(&self, ask: impl FnOnce(&MemoryStore<ManualClock>) -> T) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let lost = || StoreError::Unavailable("lost".to_owned());
        self.travel().await;
        let state = self.state.load(Ordering::Relaxed);
        if state == AWAY {
            return Err(lost());
        }
        let answer = ask(&self.store);
        self.travel().await;
        if state == LOSES_ANSWERS { Err(lost()) } else { Ok(answer) }
    }
}

impl Common for Far {}

impl Store for Far {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.ask(|store| LocalStore::acquire(store, groups)).await
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.ask(|store| LocalStore::peek(store, groups)).await
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.ask(|store| LocalStore::refund(store, refunds)).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        self.ask(|store| LocalStore::reset(store, keys)).await
    }
}

fn far(seed: u64) -> Far {
    let clock = ManualClock::new(Timestamp::from_secs(1_763_700_000));
    Far {
        store: Arc::new(MemoryStore::with_clock(clock, crate::MemoryOptions::default())),
        dice: Arc::new(Dice(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))),
        state: Arc::new(AtomicU8::new(UP)),
        calls: Arc::default(),
    }
}

/// A task that does not run by itself here: tests do what it does when they want it.
fn options(consistency: Consistency, nodes: u32) -> LeaseOptions {
    let never = Duration::from_hours(10_000);
    let idle = Duration::from_secs(20);
    LeaseOptions { consistency, nodes, idle, sync: never, wait: never, ..LeaseOptions::default() }
}

type Node = Leased<Far, Skewed>;

fn node(far: &Far, options: &LeaseOptions, skew: Nanos) -> Node {
    Leased::new(far.clone(), Skewed(far.store.clock().clone(), skew), options.clone())
}

async fn check(node: &Node, limit: &Limit, cost: u32) -> Result<Outcome, StoreError> {
    let hits = [Hit::new(LimitId(1), KeyHash(5), limit).with_cost(cost)];
    Ok(Store::acquire(node, &[Group::all(&hits)]).await?.outcomes[0])
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Lets what is under way in the background end.
async fn settle_down() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn limits() -> Vec<Limit> {
    vec![
        Limit::gcra_with_burst(Quota::per_second(50), 400).unwrap(),
        Limit::leaky_bucket(300, Quota::per_second(7)).unwrap(),
        Limit::token_bucket(500, Quota::per_minute(1_000)).unwrap(),
        Limit::fixed_window(Quota::per_second(200)),
        Limit::sliding_window(Quota::per_second(300)),
    ]
}

/// What all nodes together are admitted in a storm of everything, in the order of time.
async fn storm(far: &Far, limit: Limit, options: &LeaseOptions, with_losses: bool) -> Vec<(Timestamp, u32)> {
    let dice = Arc::clone(&far.dice);
    let skew = |dice: &Dice| Nanos::from_millis(dice.below(10_000_000));
    let mut nodes: Vec<Node> = (0..options.nodes).map(|_| node(far, options, skew(&dice))).collect();
    let admitted = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..150 {
        let mut requests = JoinSet::new();
        for _ in 0..dice.below(60) {
            let node = dice.of(&nodes);
            let node = Leased(Arc::clone(&node.0));
            let (admitted, clock, cost) =
                (Arc::clone(&admitted), far.store.clock().clone(), *dice.of(&[1, 2, 3]));
            requests.spawn(async move {
                if let Ok(outcome) = check(&node, &limit, cost).await
                    && outcome.decision.allowed
                {
                    admitted.lock().unwrap().push((clock.now(), cost));
                }
            });
        }
        while requests.join_next().await.is_some() {}
        settle_down().await;
        match dice.below(12) {
            0 => {
                let index = dice.index(nodes.len());
                nodes[index] = node(far, options, skew(&dice));
            }
            1 if with_losses => {
                far.state.store(*dice.of(&[UP, UP, AWAY, LOSES_ANSWERS]), Ordering::Relaxed);
            }
            2..6 => far.store.clock().advance(Duration::from_millis(dice.below(1_500))),
            6 => dice.of(&nodes).tend().await,
            7 => far.store.clock().advance(Duration::from_secs(30)),
            8 => {
                for node in &nodes {
                    node.0.settle().await;
                }
            }
            _ => far.store.clock().advance(Duration::from_micros(dice.below(100_000))),
        }
    }
    std::mem::take(&mut admitted.lock().unwrap())
}

/// Whether a limit would have admitted all of this: for a bucket that is the same as `A(T) ≤ B + R·T` in any interval.
fn conforms(limit: &Limit, admitted: &[(Timestamp, u32)]) -> bool {
    let mut state = limit.fresh(admitted.first().map_or(Timestamp::EPOCH, |(at, _)| *at));
    admitted.iter().all(|(at, cost)| limit.acquire(&mut state, *at, *cost).decision.allowed)
}

#[test]
fn leases_never_admit_more_than_the_limit() {
    let mut total = 0;
    for seed in 0..400 {
        let far = far(seed as u64);
        let limit = limits()[seed % 5];
        let nodes = [2, 3, 5, 8, 16][seed / 5 % 5];
        // Much, so that even small limits are held ahead by many nodes.
        let options = LeaseOptions { percent: 50, ..options(Consistency::Lease, nodes) };
        let admitted = runtime().block_on(storm(&far, limit, &options, true));
        assert!(conforms(&limit, &admitted), "seed {seed}: {limit} on {nodes} nodes");
        total += admitted.len();
    }
    assert!(total > 100_000, "{total}");
}

#[test]
fn local_first_admits_at_most_what_each_node_may_owe_beyond_the_limit() {
    for seed in 0..200 {
        let far = far(seed as u64);
        let nodes = [2, 4, 8][seed % 3];
        let limit = Limit::gcra_with_burst(Quota::per_second(50), 400).unwrap();
        let options = options(Consistency::LocalFirst, nodes);
        // A node that dies takes what it owes with it, so nobody dies here.
        let admitted = runtime().block_on(async {
            let nodes: Vec<Node> = (0..nodes).map(|_| node(&far, &options, Nanos::ZERO)).collect();
            let mut admitted = Vec::new();
            for _ in 0..2_000 {
                let node = far.dice.of(&nodes);
                if check(node, &limit, 1).await.unwrap().decision.allowed {
                    admitted.push((far.store.clock().now(), 1));
                }
                far.store.clock().advance(Duration::from_millis(far.dice.below(6)));
                if far.dice.below(20) == 0 {
                    node.0.settle().await;
                }
            }
            admitted
        });
        let owed = u64::from(nodes) * (400 * 5 / 100 / u64::from(nodes));
        let bound = Limit::gcra_with_burst(Quota::per_second(50), 400 + owed).unwrap();
        assert!(conforms(&bound, &admitted), "seed {seed}");
        assert!(admitted.len() > 400, "seed {seed}: {}", admitted.len());
    }
}

#[test]
fn a_busy_limit_is_used_up_to_what_others_hold() {
    runtime().block_on(async {
        let far = far(1);
        let limit = Limit::gcra(Quota::per_minute(1_000));
        let options = options(Consistency::Lease, 4);
        let nodes: Vec<Node> = (0..4).map(|_| node(&far, &options, Nanos::ZERO)).collect();
        let mut admitted = 0;
        // Four minutes, in each of which four times as much is asked for as there is.
        for step in 0..16_000_usize {
            admitted += u64::from(check(&nodes[step % 4], &limit, 1).await.unwrap().decision.allowed);
            settle_down().await;
            far.store
                .clock()
                .set(Timestamp::from_nanos(1_763_700_000_000_000_000 + step as u64 * 15_000_000));
        }
        assert!((4_950..=5_000).contains(&admitted), "{admitted}");
    });
}

#[test]
fn a_key_waits_once_and_then_never() {
    runtime().block_on(async {
        let far = far(2);
        let limit = Limit::gcra(Quota::per_minute(10_000));
        let node = node(&far, &options(Consistency::Lease, 2), Nanos::ZERO);
        assert_eq!(check(&node, &limit, 1).await.unwrap().source, Source::Lease);
        for _ in 0..2_000 {
            let hits = [Hit::new(LimitId(1), KeyHash(5), &limit)];
            let groups = [Group::all(&hits)];
            let mut check = Box::pin(Store::acquire(&node, &groups));
            let waker = std::task::Waker::noop();
            // Ready at once.
            let ready = check.as_mut().poll(&mut std::task::Context::from_waker(waker));
            assert!(matches!(ready, std::task::Poll::Ready(Ok(answer)) if answer.allowed));
            settle_down().await;
        }
        assert!(far.calls.load(Ordering::Relaxed) < 60);
    });
}

#[test]
fn what_nobody_asks_for_goes_back() {
    runtime().block_on(async {
        let far = far(3);
        let limit = Limit::gcra_with_burst(Quota::per_hour(1), 1_000).unwrap();
        let node = node(&far, &options(Consistency::Lease, 2), Nanos::ZERO);
        check(&node, &limit, 1).await.unwrap();
        let shared = limit.lessened(50).unwrap();
        let left = || {
            let hits = [Hit::new(LimitId(1), KeyHash(5), &shared).with_cost(0)];
            LocalStore::peek(&*far.store, &[Group::all(&hits)]).outcomes[0].decision.remaining
        };
        assert!(left() < 949, "{}", left());
        far.store.clock().advance(Duration::from_secs(21));
        node.tend().await;
        assert_eq!((left(), node.pockets()), (949, 0));
    });
}

#[test]
fn a_denial_says_when_to_come_back_and_asks_nobody_until_then() {
    runtime().block_on(async {
        let far = far(4);
        let limit = Limit::gcra(Quota::per_minute(120));
        let node = node(&far, &options(Consistency::Lease, 1), Nanos::ZERO);
        let denied = loop {
            let outcome = check(&node, &limit, 1).await.unwrap();
            settle_down().await;
            if !outcome.decision.allowed {
                break outcome.decision;
            }
        };
        let Retry::After(wait) = denied.retry_after else { panic!("{denied:?}") };
        assert!(wait <= Nanos::from_millis(510), "{wait:?}");
        let calls = far.calls.load(Ordering::Relaxed);
        // Not a moment before, since then it would be asked for several times while a fetch takes.
        let half = Duration::from_nanos(wait.as_nanos() / 2);
        far.store.clock().advance(half);
        assert!(!check(&node, &limit, 1).await.unwrap().decision.allowed);
        assert_eq!(far.calls.load(Ordering::Relaxed), calls);
        far.store.clock().advance(half + Duration::from_nanos(1));
        assert!(check(&node, &limit, 1).await.unwrap().decision.allowed);
    });
}

#[test]
fn small_limits_logs_and_great_costs_are_the_stores() {
    runtime().block_on(async {
        let far = far(5);
        let node = node(&far, &options(Consistency::Lease, 2), Nanos::ZERO);
        let great = Limit::gcra(Quota::per_minute(1_000));
        for (limit, cost) in [
            (Limit::gcra(Quota::per_minute(100)), 1),
            (Limit::sliding_log(Quota::per_minute(1_000)).unwrap(), 1),
            (great, 26),
        ] {
            let outcome = check(&node, &limit, cost).await.unwrap();
            assert_eq!(
                (outcome.source, outcome.decision.limit),
                (Source::Memory, limit.capacity()),
                "{limit}"
            );
            node.reset(&[KeyHash(5)]).await.unwrap();
        }
    });
}

#[test]
fn groups_are_each_counted_their_own_way_and_all_or_nothing_is_taken() {
    runtime().block_on(async {
        let far = far(6);
        let node = node(&far, &options(Consistency::Lease, 2), Nanos::ZERO);
        let (great, small) = (Limit::gcra(Quota::per_hour(1_000)), Limit::fixed_window(Quota::per_hour(3)));
        let leased = [Hit::new(LimitId(1), KeyHash(1), &great)];
        let strict = [Hit::new(LimitId(2), KeyHash(2), &small)];
        let sharing = Sharing { consistency: Some(Consistency::Strict), on_failure: None };
        let groups = [Group::all(&leased), Group { sharing, combine: Combine::Any, ..Group::all(&strict) }];
        for left in (0..3).rev() {
            let answer = Store::acquire(&node, &groups).await.unwrap();
            assert!(answer.allowed);
            assert_eq!(answer.outcomes[0].source, Source::Lease);
            assert_eq!(
                (answer.outcomes[1].source, answer.outcomes[1].decision.remaining),
                (Source::Memory, left)
            );
        }
        let before = node.peek(&groups[..1]).await.unwrap().outcomes[0].decision.remaining;
        let answer = Store::acquire(&node, &groups).await.unwrap();
        assert!(!answer.allowed && answer.outcomes[0].grant.is_none());
        assert_eq!(node.peek(&groups[..1]).await.unwrap().outcomes[0].decision.remaining, before);
        // What both nodes may hold is not there at once.
        assert_eq!(before, 1_000 - 2 * 25 - 3);
    });
}

#[test]
fn a_refund_goes_back_to_where_it_came_from() {
    runtime().block_on(async {
        let far = far(7);
        let limit = Limit::fixed_window(Quota::per_hour(1_000));
        let node = node(&far, &options(Consistency::Lease, 1), Nanos::ZERO);
        let outcome = check(&node, &limit, 5).await.unwrap();
        let status = async || {
            let hits = [Hit::new(LimitId(1), KeyHash(5), &limit).with_cost(0)];
            node.peek(&[Group::all(&hits)]).await.unwrap().outcomes[0].decision.remaining
        };
        assert_eq!(status().await, 995);
        let refund =
            Refund { key: KeyHash(5), limit: &limit, grant: outcome.grant.unwrap(), source: outcome.source };
        node.refund(&[refund]).await.unwrap();
        assert_eq!(status().await, 1_000);
        node.hand_back().await;
        assert_eq!((status().await, node.pockets()), (1_000, 0));
    });
}

#[test]
fn without_the_store_what_is_held_is_handed_out_and_then_there_is_no_answer() {
    runtime().block_on(async {
        let far = far(8);
        let limit = Limit::gcra(Quota::per_hour(1_000));
        let node = node(&far, &options(Consistency::Lease, 1), Nanos::ZERO);
        check(&node, &limit, 1).await.unwrap();
        far.state.store(AWAY, Ordering::Relaxed);
        let mut admitted = 0;
        while let Ok(outcome) = check(&node, &limit, 1).await {
            assert!(outcome.decision.allowed);
            admitted += 1;
        }
        assert!((1..50).contains(&admitted), "{admitted}");
    });
}
