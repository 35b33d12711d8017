//! The layer, and how it is built.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Response};
use tollgate_core::Clock;
use tollgate_policy::Verdict;
use tower_layer::Layer;

use super::Gatekeeper;
use super::options::Options;
use super::service::RateLimitService;
use crate::attributes::HttpAttributes;
use crate::client::TrustedProxies;
use crate::headers::HeaderOptions;

/// Puts limits in front of a service.
///
/// Clones share the gatekeeper, and with it all state. See the [crate's front page](crate) for a whole program.
pub struct RateLimitLayer<G> {
    gate: Arc<G>,
    options: Arc<Options>,
}

impl<G: Gatekeeper> RateLimitLayer<G> {
    /// Lets this gatekeeper decide. To keep it at hand for other uses, pass an `Arc` of it.
    pub fn new(gate: G) -> Self {
        Self { gate: Arc::new(gate), options: Arc::default() }
    }

    /// Adds these headers to answers.
    #[must_use]
    pub fn headers(self, headers: HeaderOptions) -> Self {
        self.with(|options| options.headers = headers)
    }

    /// Believes these proxies about whom they forward for. By default nobody is believed.
    #[must_use]
    pub fn trusted_proxies(self, proxies: TrustedProxies) -> Self {
        self.with(|options| options.proxies = proxies)
    }

    /// Finds API keys in this header instead of `x-api-key`.
    #[must_use]
    pub fn api_key_header(self, name: HeaderName) -> Self {
        self.with(|options| options.api_key = name)
    }

    /// Answers denied requests with this instead of the JSON body. The headers are added to it, but for those that it
    /// already has.
    #[must_use]
    pub fn on_denied(self, answer: impl Fn(&Verdict) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.with(|options| options.on_denied = Some(Arc::new(answer)))
    }

    /// Lets requests of which this is true pass unseen: they count nowhere, and their answers get no headers. Can be
    /// called again: one that says so is enough.
    #[must_use]
    pub fn skip(self, skip: impl Fn(&HttpAttributes<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.with(|options| options.skip.push(Arc::new(skip)))
    }

    /// Lets requests for exactly these paths pass unseen, such as health checks.
    #[must_use]
    pub fn skip_paths<P: Into<String>>(self, paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        self.skip(move |request| paths.iter().any(|path| path == request.uri().path()))
    }

    /// Takes the time of day for `X-RateLimit-Reset` from this clock: for tests.
    #[must_use]
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        self.with(|options| options.clock = Arc::new(clock))
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl<S, G> Layer<S> for RateLimitLayer<G> {
    type Service = RateLimitService<S, G>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService::new(inner, Arc::clone(&self.gate), Arc::clone(&self.options))
    }
}

// Not derived: a gatekeeper need not be `Clone` or `Debug`.
impl<G> Clone for RateLimitLayer<G> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), options: Arc::clone(&self.options) }
    }
}

impl<G> fmt::Debug for RateLimitLayer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").field("options", &self.options).finish_non_exhaustive()
    }
}
