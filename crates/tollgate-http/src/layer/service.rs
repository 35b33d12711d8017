//! The service that asks before it passes a request on.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::future::{Passed, ResponseFuture};
use super::options::{Options, warn_of_missing_peer};
use super::{Gatekeeper, RateLimitBody};
use crate::attributes::HttpAttributes;

/// A service with limits in front of it: made by a [`RateLimitLayer`](super::RateLimitLayer).
///
/// The inner service finds the verdict in the request's extensions, as an `Arc<Verdict>`.
pub struct RateLimitService<S, G> {
    inner: S,
    gate: Arc<G>,
    options: Arc<Options>,
}

impl<S, G> RateLimitService<S, G> {
    pub(super) fn new(inner: S, gate: Arc<G>, options: Arc<Options>) -> Self {
        Self { inner, gate, options }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, G, B, R> Service<Request<B>> for RateLimitService<S, G>
where
    S: Service<Request<B>, Response = Response<R>>,
    G: Gatekeeper,
{
    type Response = Response<RateLimitBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    // The decision needs no waiting, so the inner service is called here, while it is ready, and not by a clone that
    // never was. What it set aside for a request that is then denied, it keeps for the next one.
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let seen = HttpAttributes::of(&request).with_api_key_header(&self.options.api_key);
        let ip = self.options.client(&seen);
        let seen = seen.with_ip(ip);
        if self.options.is_skipped(&seen) {
            return ResponseFuture::passing(self.inner.call(request), None);
        }
        if ip.is_none() {
            warn_of_missing_peer();
        }
        let verdict = self.gate.check(&seen);
        let now_unix_s = self.options.now_unix_s();
        if !verdict.is_allowed() {
            let mut response = self.options.denied(&verdict);
            self.options.headers.write(&verdict, now_unix_s, response.headers_mut());
            return ResponseFuture::denied(response);
        }
        let verdict = Arc::new(verdict);
        request.extensions_mut().insert(Arc::clone(&verdict));
        let passed = Passed { verdict, now_unix_s, headers: self.options.headers };
        ResponseFuture::passing(self.inner.call(request), Some(passed))
    }
}

impl<S: Clone, G> Clone for RateLimitService<S, G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate), options: Arc::clone(&self.options) }
    }
}

impl<S: fmt::Debug, G> fmt::Debug for RateLimitService<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService")
            .field("inner", &self.inner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
