#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::task::{Context, Poll};

use tokio::time::Instant;
use tollgate_core::{Limit, Nanos, Quota, Timestamp};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;

/// Tokio's clock, which tests wind forward.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).saturating_add(Nanos::from(self.0.elapsed()))
    }
}

fn queue(limit: impl Into<LimitOrQuota>, capacity: usize, patience_ms: u64) -> Queue<TokioClock> {
    let options = QueueOptions { capacity, patience: Duration::from_millis(patience_ms) };
    Queue::with_clock(limit, options, TokioClock(Instant::now()))
}

/// Asks for turns of these priorities at once, in this order, and says after how many seconds each came.
async fn turns(queue: &Queue<TokioClock>, priorities: &[u8]) -> Vec<Result<u64, QueueError>> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for priority in priorities.iter().copied() {
        let queue = queue.clone();
        tasks.push(tokio::spawn(
            async move { queue.turn(priority).await.map(|()| began.elapsed().as_secs()) },
        ));
        // It takes its place before the next one comes.
        tokio::task::yield_now().await;
    }
    let mut went = Vec::new();
    for task in tasks {
        went.push(task.await.unwrap());
    }
    went
}

fn one_a_second() -> Limit {
    Limit::gcra_with_burst(Quota::per_second(1), 1).unwrap()
}

#[tokio::test(start_paused = true)]
async fn they_go_in_order_and_at_the_rate() {
    let queue = queue(one_a_second(), 10, 60_000);
    assert_eq!(turns(&queue, &[0, 0, 0, 0]).await, [Ok(0), Ok(1), Ok(2), Ok(3)]);
    assert!(queue.is_empty());
    // It begins anew once it was empty.
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(turns(&queue, &[0, 0]).await, [Ok(0), Ok(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_goes_first() {
    let queue = queue(one_a_second(), 10, 60_000);
    assert_eq!(turns(&queue, &[0, 0, 1, 255, 1]).await, [Ok(0), Ok(4), Ok(2), Ok(1), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn it_is_bounded_and_the_last_makes_room() {
    let queue = queue(one_a_second(), 2, 60_000);
    assert_eq!(
        turns(&queue, &[0, 0, 0, 0, 1]).await,
        [Ok(0), Ok(2), Err(QueueError::Full), Err(QueueError::Full), Ok(1)]
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_too_long() {
    let queue = queue(one_a_second(), 10, 2_500);
    let began = Instant::now();
    assert_eq!(
        turns(&queue, &[0, 0, 0, 0, 0]).await,
        [Ok(0), Ok(1), Ok(2), Err(QueueError::Late), Err(QueueError::Late)]
    );
    assert_eq!(began.elapsed().as_millis(), 2_500);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_does_not_hold_up_the_others() {
    let queue = queue(one_a_second(), 10, 60_000);
    queue.turn(0).await.unwrap();
    let leaving: Vec<_> = (0..5)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.turn(9).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(queue.len(), 5);
    for task in &leaving {
        task.abort();
    }
    tokio::task::yield_now().await;
    assert_eq!(turns(&queue, &[0]).await, [Ok(1)]);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_came_to_one_who_leaves_goes_to_the_next() {
    let queue = queue(one_a_second(), 10, 60_000);
    queue.turn(0).await.unwrap();
    let leaving = queue.join(1).unwrap().unwrap();
    let mut next = queue.join(0).unwrap().unwrap();
    assert!(queue.shared.lock().admit());
    drop(leaving);
    assert_eq!(next.turn.try_recv(), Ok(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_admits_nothing_says_so() {
    let queue = queue(Limit::DenyAll, 10, 60_000);
    assert_eq!(queue.turn(0).await, Err(QueueError::Never));
}

/// A service that is never ready.
#[derive(Clone)]
struct Busy;

impl Service<u8> for Busy {
    type Response = ();
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<(), Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Pending
    }

    fn call(&mut self, _: u8) -> Self::Future {
        panic!("called without having been ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_asked_in_turn() {
    let queue = queue(one_a_second(), 1, 60_000);
    let layer = QueueLayer::new(queue).priority(|request: &u8| *request);
    let service = layer.layer(service_fn(async |request: u8| Ok::<_, std::convert::Infallible>(request)));
    let began = Instant::now();
    let ask = |request: u8| {
        let service = service.clone();
        tokio::spawn(async move { service.oneshot(request).await.map(|_| began.elapsed().as_secs()) })
    };
    let (first, second) = (ask(0), ask(0));
    tokio::task::yield_now().await;
    let third = ask(7);
    assert_eq!(first.await.unwrap().unwrap(), 0);
    assert_eq!(third.await.unwrap().unwrap(), 1);
    let full = second.await.unwrap().unwrap_err();
    assert!(matches!(full, QueuedError::Queue(QueueError::Full)));
    assert_eq!(full.to_string(), "the queue is full");

    let busy = layer.layer(Busy).oneshot(0);
    assert!(tokio::time::timeout(Duration::from_secs(1), busy).await.is_err());
}
