//! The Tower layer.

mod body;
mod course;
mod future;
#[expect(clippy::module_inception, reason = "every middleware has a layer, a service and a future")]
mod layer;
mod options;
mod service;

pub use self::body::RateLimitBody;
pub use self::future::ResponseFuture;
pub use self::layer::{ActualCost, RateLimitLayer};
pub use self::options::Rejection;
pub use self::service::RateLimitService;
