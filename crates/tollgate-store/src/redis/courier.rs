//! Gathers requests that are asked for at the same time, so that they travel together.
//!
//! While as many calls are under way as the server can well have, requests wait, and the next call takes all that it can
//! hold. So one request alone is sent at once, and under load each call does the work of many.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tollgate_core::Answer;

use super::batch::{Batch, Order};
use super::caller::Caller;
use crate::store::StoreError;

/// How many calls are under way at once.
const UNDER_WAY: usize = 2;

/// How many requests may wait to be sent. More than these would not be answered in time anyway.
const WAITING: usize = 16_384;

type Reply = oneshot::Sender<Result<Answer, StoreError>>;

#[derive(Clone, Debug)]
pub(super) struct Courier(mpsc::Sender<(Order, Reply)>);

impl Courier {
    /// A courier with a task of its own, which ends when the courier is dropped.
    pub(super) fn new(caller: Arc<Caller>) -> Self {
        let (orders, taken) = mpsc::channel(WAITING);
        tokio::spawn(run(caller, taken));
        Self(orders)
    }

    /// Has a request decided, within the deadline.
    pub(super) async fn send(&self, order: Order, deadline: Duration) -> Result<Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let late = || StoreError::Unavailable(format!("no answer within {deadline:?}"));
        self.0
            .try_send((order, reply))
            .map_err(|_| StoreError::Unavailable(format!("{WAITING} requests are waiting already")))?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            // Its task is gone: the runtime ends.
            Ok(Err(_)) => Err(StoreError::Unavailable("the program is ending".to_owned())),
            Err(_) => Err(late()),
        }
    }
}

async fn run(caller: Arc<Caller>, mut orders: mpsc::Receiver<(Order, Reply)>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(order) => order,
            None => match orders.recv().await {
                Some(order) => order,
                None => return,
            },
        };
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
        let (mut batch, mut replies) = (Batch::default(), Vec::new());
        let mut next = Some(first);
        while let Some((order, reply)) = next {
            // Whoever has gone needs no answer, and has taken nothing yet.
            if !reply.is_closed() {
                match batch.push(order) {
                    Ok(()) => replies.push(reply),
                    Err(order) => {
                        left = Some((order, reply));
                        break;
                    }
                }
            }
            next = orders.try_recv().ok();
        }
        if batch.is_empty() {
            continue;
        }
        let caller = Arc::clone(&caller);
        tokio::spawn(async move {
            let answers = caller.decide(&batch).await;
            drop(permit);
            match answers {
                Ok(answers) => {
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        let _ = reply.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for reply in replies {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        });
    }
}
