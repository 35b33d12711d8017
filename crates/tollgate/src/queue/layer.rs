//! A Tower layer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tollgate_core::Clock;
use tollgate_store::SystemClock;
use tower_layer::Layer;
use tower_service::Service;

use super::{Queue, QueueError};

type PriorityOf<R> = dyn Fn(&R) -> u8 + Send + Sync;

/// Puts a [`Queue`] in front of a service, of whichever requests `R`. All services that one layer makes share the queue.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Quota, queue::{Queue, QueueLayer, QueueOptions}};
/// use tower::Layer;
///
/// # fn example<S>(service: S) {
/// let options = QueueOptions { capacity: 100, patience: Duration::from_secs(5) };
/// let layer = QueueLayer::new(Queue::new(Quota::per_second(10), options))
///     .priority(|request: &http::Request<()>| u8::from(request.uri().path() == "/checkout"));
/// let service = layer.layer(service);
/// # }
/// ```
pub struct QueueLayer<R, C = SystemClock> {
    queue: Queue<C>,
    priority: Arc<PriorityOf<R>>,
}

impl<R, C> QueueLayer<R, C> {
    /// Lets requests wait in this queue, all at the same priority.
    pub fn new(queue: Queue<C>) -> Self {
        Self { queue, priority: Arc::new(|_| 0) }
    }

    /// Gives requests this priority: the highest goes first.
    #[must_use]
    pub fn priority(mut self, priority: impl Fn(&R) -> u8 + Send + Sync + 'static) -> Self {
        self.priority = Arc::new(priority);
        self
    }
}

impl<S, R, C> Layer<S> for QueueLayer<R, C> {
    type Service = QueueService<S, R, C>;

    fn layer(&self, inner: S) -> Self::Service {
        QueueService { inner, queue: self.queue.clone(), priority: Arc::clone(&self.priority) }
    }
}

impl<R, C> Clone for QueueLayer<R, C> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), priority: Arc::clone(&self.priority) }
    }
}

impl<R, C> fmt::Debug for QueueLayer<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueLayer").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// A service with a queue in front of it: made by a [`QueueLayer`].
pub struct QueueService<S, R, C = SystemClock> {
    inner: S,
    queue: Queue<C>,
    priority: Arc<PriorityOf<R>>,
}

impl<S: Clone, R, C> Clone for QueueService<S, R, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), queue: self.queue.clone(), priority: Arc::clone(&self.priority) }
    }
}

impl<S: fmt::Debug, R, C> fmt::Debug for QueueService<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueService")
            .field("inner", &self.inner)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// The future of a [`QueueService`].
pub type QueueFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, QueuedError<E>>> + Send>>;

impl<S, R, C> Service<R> for QueueService<S, R, C>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    R: Send + 'static,
    C: Clock + 'static,
{
    type Response = S::Response;
    type Error = QueuedError<S::Error>;
    type Future = QueueFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(QueuedError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (queue, priority) = (self.queue.clone(), (self.priority)(&request));
        // The one that is ready goes with the request; a clone of it, which is not, stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            queue.turn(priority).await.map_err(QueuedError::Queue)?;
            inner.call(request).await.map_err(QueuedError::Inner)
        })
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueuedError<E> {
    /// It did not come to its turn.
    #[error("{0}")]
    Queue(#[source] QueueError),
    /// The service failed.
    #[error("{0}")]
    Inner(#[source] E),
}
