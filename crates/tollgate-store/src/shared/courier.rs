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
use super::late;
use crate::store::StoreError;

/// How many requests may wait to be sent, with those that were given up since the last call left. More than these would not be
/// answered in time anyway.
const WAITING: usize = 32_768;

/// Whoever brings a batch to a server, and its answers back.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Why there are none.
    type Error: From<StoreError> + Clone + Send;

    /// Has all requests of a batch decided, in their order.
    fn carry(&self, batch: Batch) -> impl Future<Output = Result<Vec<Answer>, Self::Error>> + Send;
}

type Reply<E> = oneshot::Sender<Result<Answer, E>>;

#[derive(Debug)]
pub(crate) struct Courier<C: Carrier> {
    carrier: Arc<C>,
    under_way: Arc<Semaphore>,
    orders: mpsc::Sender<(Order, Reply<C::Error>)>,
}

impl<C: Carrier> Clone for Courier<C> {
    fn clone(&self) -> Self {
        let Self { carrier, under_way, orders } = self;
        Self { carrier: Arc::clone(carrier), under_way: Arc::clone(under_way), orders: orders.clone() }
    }
}

impl<C: Carrier> Courier<C> {
    /// A courier with a task of its own, which ends when the courier is dropped. So many calls are under way at once; each is for keys
    /// of one tag only, if that matters.
    pub(crate) fn new(carrier: Arc<C>, under_way: usize, one_tag: bool) -> Self {
        let (orders, taken) = mpsc::channel(WAITING);
        let under_way = Arc::new(Semaphore::new(under_way));
        tokio::spawn(run(Arc::clone(&carrier), taken, Arc::clone(&under_way), one_tag));
        Self { carrier, under_way, orders }
    }

    /// Has a request decided, within the deadline.
    pub(crate) async fn send(&self, order: Order, deadline: Duration) -> Result<Answer, C::Error> {
        let failed = |why: String| C::Error::from(StoreError::Unavailable(why));
        // Nobody is overtaken: who waits has the next permit.
        if let Ok(permit) = self.under_way.try_acquire() {
            let batch = Batch::of_one(order);
            let answers = tokio::time::timeout(deadline, self.carrier.carry(batch)).await;
            drop(permit);
            return first(answers.map_err(|_| late(deadline))??);
        }
        let (reply, answer) = oneshot::channel();
        self.orders
            .try_send((order, reply))
            .map_err(|_| failed(format!("{WAITING} requests are waiting already")))?;
        // If its task is gone, the runtime ends.
        let ended = |_| failed("the program is ending".to_owned());
        tokio::time::timeout(deadline, answer).await.map_err(|_| late(deadline))?.map_err(ended)?
    }
}

/// The answer of a batch of one.
pub(crate) fn first<E: From<StoreError>>(answers: Vec<Answer>) -> Result<Answer, E> {
    answers.into_iter().next().ok_or_else(|| StoreError::Defect("no answer".to_owned()).into())
}

async fn run<C: Carrier>(
    carrier: Arc<C>,
    mut orders: mpsc::Receiver<(Order, Reply<C::Error>)>,
    under_way: Arc<Semaphore>,
    one_tag: bool,
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
                match batch.push(order, one_tag) {
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
        let carrier = Arc::clone(&carrier);
        tokio::spawn(async move {
            match carrier.carry(batch).await {
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
            // Who asks again at once goes with the next call, and does not set off with one of its own.
            tokio::task::yield_now().await;
            drop(permit);
        });
    }
}
