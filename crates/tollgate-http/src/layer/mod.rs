//! The Tower layer.

mod future;
#[expect(clippy::module_inception, reason = "every middleware has a layer, a service and a future")]
mod layer;
mod options;
mod service;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use tollgate_policy::{Attributes, Verdict};

pub use self::future::ResponseFuture;
pub use self::layer::RateLimitLayer;
pub use self::service::RateLimitService;

/// What decides: implemented by the `tollgate` crate's gate.
///
/// It answers at once, so it fits limits whose state is in this process.
pub trait Gatekeeper: Send + Sync {
    /// Whether this request may pass. Takes its cost if it does.
    fn check<A: Attributes + ?Sized>(&self, request: &A) -> Verdict;
}

impl<G: Gatekeeper + ?Sized> Gatekeeper for Arc<G> {
    fn check<A: Attributes + ?Sized>(&self, request: &A) -> Verdict {
        (**self).check(request)
    }
}

/// The body of an answer: the inner service's, or that of a denial.
pub type RateLimitBody<B> = Either<B, Full<Bytes>>;
