//! What a layer is told to do.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, Response};
use tollgate_core::{Clock, Nanos, Timestamp};
use tollgate_policy::Verdict;

use crate::attributes::{API_KEY_HEADER, HttpAttributes};
use crate::body::{response_body, response_body_without_policy};
use crate::client::{TrustedProxies, client_address};
use crate::headers::HeaderOptions;

pub(super) type Skip = dyn Fn(&HttpAttributes<'_>) -> bool + Send + Sync;
pub(super) type OnDenied = dyn Fn(&Verdict) -> Response<Bytes> + Send + Sync;

#[derive(Clone)]
pub(super) struct Options {
    pub(super) headers: HeaderOptions,
    pub(super) proxies: TrustedProxies,
    pub(super) api_key: HeaderName,
    pub(super) skip: Vec<Arc<Skip>>,
    pub(super) on_denied: Option<Arc<OnDenied>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            headers: HeaderOptions::default(),
            proxies: TrustedProxies::none(),
            api_key: API_KEY_HEADER.clone(),
            skip: Vec::new(),
            on_denied: None,
            clock: Arc::new(WallClock),
        }
    }
}

impl Options {
    pub(super) fn is_skipped(&self, request: &HttpAttributes<'_>) -> bool {
        self.skip.iter().any(|skip| skip(request))
    }

    pub(super) fn client(&self, request: &HttpAttributes<'_>) -> Option<IpAddr> {
        request.peer().map(|peer| client_address(peer, request.headers(), &self.proxies))
    }

    pub(super) fn denied(&self, verdict: &Verdict) -> Response<Bytes> {
        match &self.on_denied {
            Some(on_denied) => on_denied(verdict),
            None if self.headers.hides_policy() => response_body_without_policy(verdict).to_response(),
            None => response_body(verdict).to_response(),
        }
    }

    pub(super) fn now_unix_s(&self) -> u64 {
        self.clock.now().as_secs()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("headers", &self.headers)
            .field("proxies", &self.proxies)
            .field("api_key", &self.api_key)
            .field("skips", &self.skip.len())
            .field("has_on_denied", &self.on_denied.is_some())
            .finish_non_exhaustive()
    }
}

/// Says once that requests come without an address: policies that count by it do not apply then, which is easily
/// taken for limits that do not work.
pub(super) fn warn_of_missing_peer() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "requests have no peer address, so policies that count by address do not apply; serve axum with \
             `into_make_service_with_connect_info::<SocketAddr>()`, or insert `tollgate_http::Peer` into requests"
        );
    });
}

/// The time of day.
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.saturating_add(Nanos::from(since_epoch))
    }
}
