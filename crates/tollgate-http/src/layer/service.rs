//! The service.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::body::RateLimitBody;
use super::course::{Known, decide, decide_later};
use super::future::{Deciding, ResponseFuture};
use super::options::Guard;
use crate::attributes::HttpAttributes;
use crate::gatekeeper::{Gatekeeper, Waiting};
use crate::under_way::UnderWay;

/// A service with limits in front of it: made by a [`RateLimitLayer`](super::RateLimitLayer).
pub struct RateLimitService<S, G> {
    inner: S,
    guard: Arc<Guard<G>>,
}

impl<S, G> RateLimitService<S, G> {
    pub(super) fn new(inner: S, guard: Guard<G>) -> Self {
        Self { inner, guard: Arc::new(guard) }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Clone, G: Gatekeeper> RateLimitService<S, G> {
    /// Waits for what becomes of a request; `waiting` is for what the store says, if it was asked already.
    fn call_later<B>(
        &mut self,
        request: Request<B>,
        waiting: Option<(Waiting, UnderWay)>,
    ) -> ResponseFuture<S, B, G>
    where
        S: Service<Request<B>>,
    {
        // The one that is ready goes with the request; a clone of it, which is not, stays.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let (head, body) = request.into_parts();
        let course = Box::pin(decide_later(Arc::clone(&self.guard), head, waiting));
        ResponseFuture::deciding(Deciding { course, body, inner })
    }
}

impl<S, G, B, R> Service<Request<B>> for RateLimitService<S, G>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    G: Gatekeeper,
{
    type Response = Response<RateLimitBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, G>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    // Where nothing has to be waited for, the inner service is called here, while it is ready. What it set aside for a
    // request that is then denied, it keeps for the next one.
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !self.guard.options.finders.is_empty() {
            if self.guard.options.finds_later() {
                return self.call_later(request, None);
            }
            let (mut head, body) = request.into_parts();
            if let Err(rejection) = self.guard.options.find_now(&mut head) {
                return ResponseFuture::answered(rejection.0);
            }
            request = Request::from_parts(head, body);
        }
        match decide(&self.guard, HttpAttributes::of(&request)) {
            Known::Course(course) => ResponseFuture::taking(course, request, &mut self.inner),
            Known::Waiting(waiting, under_way) => self.call_later(request, Some((waiting, under_way))),
        }
    }
}

impl<S: Clone, G> Clone for RateLimitService<S, G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), guard: Arc::clone(&self.guard) }
    }
}

impl<S: fmt::Debug, G> fmt::Debug for RateLimitService<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService")
            .field("inner", &self.inner)
            .field("options", &self.guard.options)
            .finish_non_exhaustive()
    }
}
