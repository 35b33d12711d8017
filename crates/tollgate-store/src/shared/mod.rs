//! What stores on servers that many nodes share have in common.
//!
//! A server only decides: it answers with the states that it found, and what people want to know is worked out here, by the code
//! that the memory store uses.
//!
//! * `rule`: limits and states as numbers that a server can work with.
//! * `batch`: requests that travel together. `courier`: the task that gathers them.
//! * `cells`: what is done by reading, working here, and swapping.
//! * `permits`: permits that a program on the server counts.
//! * `spans`: what traces say of calls.

use std::time::Duration;

use crate::store::StoreError;

pub(crate) mod batch;
pub(crate) mod cells;
pub(crate) mod courier;
pub(crate) mod permits;
pub(crate) mod rule;
pub(crate) mod spans;
#[cfg(any(feature = "redis-tls", feature = "postgres-tls"))]
mod tls;
mod told;

pub use self::rule::Unfit;
#[cfg(any(feature = "redis-tls", feature = "postgres-tls"))]
pub use self::tls::TlsOptions;
pub(crate) use self::told::{HeardTime, ToldTime};

/// Work within a deadline, or not at all.
///
/// # Errors
/// Those of the work; or that there was no answer.
pub(crate) async fn in_time<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(late(deadline)))
}

/// What is said of what took longer.
pub(crate) fn late(deadline: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {deadline:?}"))
}

/// How a store on a server fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteStatus {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// How many calls and attempts to connect have failed since the last that did not.
    pub consecutive_failures: u32,
    /// What went wrong last, while it does.
    pub trouble: Option<String>,
}

/// An address that can be shown.
pub(crate) fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(end)) if start < end => format!("{}://…{}", &url[..start], &url[end..]),
        _ => url.to_owned(),
    }
}
