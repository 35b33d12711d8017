//! Gathers requests that are asked for at the same time, so that they travel together.
//!
//! A request that comes while hardly any call is under way is sent at once, by whoever asks. While as many are under way as the
//! server can well have, requests wait, and the next call takes all that it can hold. So under load each call does the work
//! of many.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tollgate_core::Answer;

use super::batch::{Batch, Order};
use super::caller::{CallError, Caller};
use crate::store::StoreError;

/// How many calls are under way at once, where each can take any request along.
const UNDER_WAY: usize = 2;

/// And in a cluster, where a call is for one slot only, so that hardly any take others along.
const UNDER_WAY_BY_SLOT: usize = 64;

/// How many requests may wait to be sent. More than these would not be answered in time anyway.
const WAITING: usize = 16_384;

type Reply = oneshot::Sender<Result<Answer, CallError>>;

#[derive(Clone, Debug)]
pub(super) struct Courier {
    caller: Arc<Caller>,
    under_way: Arc<Semaphore>,
    orders: mpsc::Sender<(Order, Reply)>,
}

impl Courier {
    /// A courier with a task of its own, which ends when the courier is dropped.
    pub(super) fn new(caller: Arc<Caller>, by_slot: bool) -> Self {
        let (orders, taken) = mpsc::channel(WAITING);
        let under_way = Arc::new(Semaphore::new(if by_slot { UNDER_WAY_BY_SLOT } else { UNDER_WAY }));
        tokio::spawn(run(Arc::clone(&caller), taken, Arc::clone(&under_way), by_slot));
        Self { caller, under_way, orders }
    }

    /// Has a request decided, within the deadline.
    pub(super) async fn send(&self, order: Order, deadline: Duration) -> Result<Answer, CallError> {
        let failed = |why: String| CallError::Told(StoreError::Unavailable(why));
        let late = |_| failed(format!("no answer within {deadline:?}"));
        // Nobody is overtaken: who waits has the next permit.
        if let Ok(permit) = self.under_way.try_acquire() {
            let batch = Batch::of_one(order);
            let answers = tokio::time::timeout(deadline, self.caller.decide(&batch, false)).await;
            drop(permit);
            let first = |answers: Vec<Answer>| answers.into_iter().next();
            let none = || StoreError::Defect("no answer".to_owned()).into();
            return first(answers.map_err(late)??).ok_or_else(none);
        }
        let (reply, answer) = oneshot::channel();
        self.orders
            .try_send((order, reply))
            .map_err(|_| failed(format!("{WAITING} requests are waiting already")))?;
        // If its task is gone, the runtime ends.
        let ended = |_| failed("the program is ending".to_owned());
        tokio::time::timeout(deadline, answer).await.map_err(late)?.map_err(ended)?
    }
}

async fn run(
    caller: Arc<Caller>,
    mut orders: mpsc::Receiver<(Order, Reply)>,
    under_way: Arc<Semaphore>,
    by_slot: bool,
) {
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
                match batch.push(order, by_slot) {
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
            let answers = caller.decide(&batch, false).await;
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
