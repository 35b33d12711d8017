//! A queue in front of something that is limited: bounded, in order, with priorities.

mod layer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_core::{Clock, Retry};
use tollgate_store::SystemClock;

pub use self::layer::{QueueFuture, QueueLayer, QueueService, QueuedError};

use crate::limiter::{LimitOrQuota, Limiter};

/// Lets callers wait until a limit admits them: those of a higher priority first, and others in the order in which they came.
///
/// It differs from a [`Shaper`](crate::Shaper) in that a caller who comes later can go first. For that it remembers who waits, and
/// there is one line for all.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Quota, queue::{Queue, QueueOptions}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let options = QueueOptions { capacity: 100, patience: Duration::from_secs(5) };
/// let queue = Queue::new(Quota::per_second(10), options);
/// queue.turn(0).await?;
/// // Before all of priority 0 that wait.
/// queue.turn(1).await?;
/// # Ok::<(), tollgate::queue::QueueError>(())
/// # }).unwrap();
/// ```
pub struct Queue<C = SystemClock> {
    shared: Arc<Shared<C>>,
}

/// How many may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// How many may wait. Where that many do, one of a higher priority takes the place of the last.
    pub capacity: usize,
    /// How long each may wait.
    pub patience: Duration,
}

/// Why a caller was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// As many wait as may, and none of a lower priority.
    #[error("the queue is full")]
    Full,
    /// It has waited for as long as it may.
    #[error("the wait was too long")]
    Late,
    /// The limit never admits anything.
    #[error("the limit admits nothing")]
    Never,
}

struct Shared<C> {
    limiter: Limiter<C>,
    options: QueueOptions,
    line: Mutex<Line>,
}

/// Who waits.
#[derive(Default)]
struct Line {
    waiting: BTreeMap<Place, oneshot::Sender<Result<(), QueueError>>>,
    /// How many have come.
    came: u64,
    /// Whether a task lets them go.
    is_served: bool,
}

/// A place in the line: those in front come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// How far it is from the highest priority.
    rank: u8,
    number: u64,
}

impl Queue {
    /// A queue in front of this limit.
    pub fn new(limit: impl Into<LimitOrQuota>, options: QueueOptions) -> Self {
        Self::with_clock(limit, options, SystemClock::new())
    }
}

impl<C: Clock + 'static> Queue<C> {
    /// A queue on this clock.
    pub fn with_clock(limit: impl Into<LimitOrQuota>, options: QueueOptions, clock: C) -> Self {
        let limiter = Limiter::with_clock(limit, clock);
        Self { shared: Arc::new(Shared { limiter, options, line: Mutex::default() }) }
    }

    /// Waits for one's turn, in Tokio's time. Dropped before, it leaves the line.
    ///
    /// # Errors
    /// If the queue is full, the wait is too long, or the limit admits nothing.
    pub async fn turn(&self, priority: u8) -> Result<(), QueueError> {
        let Some(mut waiting) = self.join(priority)? else { return Ok(()) };
        let turn = tokio::time::timeout(self.shared.options.patience, &mut waiting.turn).await;
        match turn {
            Ok(Ok(told)) => {
                waiting.is_over = true;
                told
            }
            // Nobody drops a sender without a word.
            Ok(Err(_)) | Err(_) => Err(QueueError::Late),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes at once, or takes a place.
    fn join(&self, priority: u8) -> Result<Option<Waiting<C>>, QueueError> {
        let mut line = self.shared.lock();
        // Nobody is overtaken.
        if line.waiting.is_empty() && self.shared.limiter.check().allowed {
            return Ok(None);
        }
        let place = Place { rank: u8::MAX - priority, number: line.came };
        if line.waiting.len() >= self.shared.options.capacity {
            match line.waiting.last_entry() {
                Some(last) if last.key().rank > place.rank => {
                    let _ = last.remove().send(Err(QueueError::Full));
                }
                _ => return Err(QueueError::Full),
            }
        }
        let (sender, turn) = oneshot::channel();
        line.came += 1;
        line.waiting.insert(place, sender);
        if !std::mem::replace(&mut line.is_served, true) {
            tokio::spawn(serve(Arc::clone(&self.shared)));
        }
        Ok(Some(Waiting { shared: Arc::clone(&self.shared), place, turn, is_over: false }))
    }
}

impl<C> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, Line> {
        // No holder panics.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Lets the first go who is still there. Returns whether there was one.
    fn admit(&mut self) -> bool {
        while let Some((_, first)) = self.waiting.pop_first() {
            if first.send(Ok(())).is_ok() {
                return true;
            }
        }
        false
    }
}

/// Lets those who wait go, as the limit admits them, until nobody waits.
async fn serve<C: Clock + 'static>(shared: Arc<Shared<C>>) {
    loop {
        let wait = {
            let mut line = shared.lock();
            if line.waiting.is_empty() {
                line.is_served = false;
                return;
            }
            let decision = shared.limiter.check();
            if decision.allowed {
                line.admit();
                continue;
            }
            match decision.retry_after {
                Retry::Now => Duration::ZERO,
                Retry::After(wait) => Duration::from(wait),
                Retry::Never => {
                    for (_, waiting) in std::mem::take(&mut line.waiting) {
                        let _ = waiting.send(Err(QueueError::Never));
                    }
                    continue;
                }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Somebody who waits.
struct Waiting<C> {
    shared: Arc<Shared<C>>,
    place: Place,
    turn: oneshot::Receiver<Result<(), QueueError>>,
    is_over: bool,
}

impl<C> Drop for Waiting<C> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut line = self.shared.lock();
        // Whose turn came while it was giving up hands it on.
        if line.waiting.remove(&self.place).is_none() && matches!(self.turn.try_recv(), Ok(Ok(()))) {
            line.admit();
        }
    }
}

impl<C> Clone for Queue<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C> fmt::Debug for Queue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("options", &self.shared.options)
            .field("waiting", &self.shared.lock().waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
