//! A Tower layer for clients.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Method, Request, Response, Uri};
use tollgate_store::{MemoryStore, Store};
use tower_layer::Layer;
use tower_service::Service;

use super::{Outgoing, Refused};

type KeyOf = dyn Fn(&Method, &Uri, &HeaderMap, &Extensions) -> String + Send + Sync;

/// Keeps the requests of a client under the limits of the services that it asks: see [`Outgoing`].
///
/// ```
/// use std::time::Duration;
/// use tollgate::Quota;
/// use tollgate::outgoing::{Outgoing, OutgoingLayer};
/// use tower::Layer;
///
/// # fn example<C>(client: C) -> Result<(), tollgate::LimitError> {
/// let outgoing = Outgoing::new(Quota::per_second(10), Duration::from_secs(5))?;
/// // For example hyper-util's client, or a channel of tonic.
/// let client = OutgoingLayer::new(outgoing).layer(client);
/// # Ok(())
/// # }
/// ```
///
/// With the feature `reqwest` it is middleware for reqwest as well: `ClientBuilder::new(client).with(OutgoingLayer::new(outgoing))`.
pub struct OutgoingLayer<S = MemoryStore> {
    pub(super) outgoing: Arc<Outgoing<S>>,
    pub(super) key: Arc<KeyOf>,
}

impl<S> OutgoingLayer<S> {
    /// Counts requests by the host and port that they go to, or all together where their URIs name none. To keep the limits at
    /// hand for other uses, pass an `Arc` of them.
    pub fn new(outgoing: impl Into<Arc<Outgoing<S>>>) -> Self {
        let host = |_: &Method, uri: &Uri, _: &HeaderMap, _: &Extensions| {
            uri.authority().map(|authority| {
                // Without the name and password that may stand before.
                let host = authority.as_str();
                host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase()
            })
        };
        let key = move |method: &Method, uri: &Uri, headers: &HeaderMap, extensions: &Extensions| {
            host(method, uri, headers, extensions).unwrap_or_default()
        };
        Self { outgoing: outgoing.into(), key: Arc::new(key) }
    }

    /// Counts requests by this instead: by the account that they are made for, say.
    #[must_use]
    pub fn key(
        mut self,
        key: impl Fn(&Method, &Uri, &HeaderMap, &Extensions) -> String + Send + Sync + 'static,
    ) -> Self {
        self.key = Arc::new(key);
        self
    }
}

impl<C, S> Layer<C> for OutgoingLayer<S> {
    type Service = OutgoingService<C, S>;

    fn layer(&self, inner: C) -> Self::Service {
        OutgoingService { inner, outgoing: Arc::clone(&self.outgoing), key: Arc::clone(&self.key) }
    }
}

impl<S> Clone for OutgoingLayer<S> {
    fn clone(&self) -> Self {
        Self { outgoing: Arc::clone(&self.outgoing), key: Arc::clone(&self.key) }
    }
}

impl<S: fmt::Debug> fmt::Debug for OutgoingLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingLayer").field("outgoing", &self.outgoing).finish_non_exhaustive()
    }
}

/// A client whose requests are kept under limits: made by an [`OutgoingLayer`].
pub struct OutgoingService<C, S = MemoryStore> {
    inner: C,
    outgoing: Arc<Outgoing<S>>,
    key: Arc<KeyOf>,
}

impl<C: Clone, S> Clone for OutgoingService<C, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), outgoing: Arc::clone(&self.outgoing), key: Arc::clone(&self.key) }
    }
}

impl<C: fmt::Debug, S> fmt::Debug for OutgoingService<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The future of an [`OutgoingService`].
pub type OutgoingFuture<R, E> = Pin<Box<dyn Future<Output = Result<R, OutgoingError<E>>> + Send>>;

impl<C, S, B, R> Service<Request<B>> for OutgoingService<C, S>
where
    C: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    C::Future: Send,
    S: Store + 'static,
    B: Send + 'static,
{
    type Response = Response<R>;
    type Error = OutgoingError<C::Error>;
    type Future = OutgoingFuture<Response<R>, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(OutgoingError::Inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let key = (self.key)(request.method(), request.uri(), request.headers(), request.extensions());
        let outgoing = Arc::clone(&self.outgoing);
        // The one that is ready goes with the request; a clone of it, which is not, stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            outgoing.admit(&key).await.map_err(OutgoingError::Refused)?;
            let answer = inner.call(request).await.map_err(OutgoingError::Inner)?;
            outgoing.learn(&key, answer.status(), answer.headers());
            Ok(answer)
        })
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutgoingError<E> {
    /// It was not sent.
    #[error("{0}")]
    Refused(#[source] Refused),
    /// The client failed.
    #[error("{0}")]
    Inner(#[source] E),
}
