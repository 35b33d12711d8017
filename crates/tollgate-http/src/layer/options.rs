//! What a layer is told to do.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::request::Parts as Head;
use http::response::Parts as AnswerHead;
use http::{Extensions, HeaderName, Response};
use tollgate_adaptive::{Full, Outcome};
use tollgate_core::{Clock, Nanos, Timestamp};
use tollgate_policy::{Settlement, Verdict};

use crate::attributes::{API_KEY_HEADER, HttpAttributes};
use crate::client::{TrustedProxies, client_address};
use crate::gatekeeper::Undecided;
use crate::headers::HeaderOptions;
use crate::problem::DenialForm;
use crate::under_way::Entrance;

/// The answer to a request that is not even decided about, as it lacks what it must have: made of the answer by `into`.
#[derive(Debug)]
pub struct Rejection(pub(super) Box<Response<Bytes>>);

impl Rejection {
    /// The answer.
    pub fn into_response(self) -> Response<Bytes> {
        *self.0
    }
}

impl From<Response<Bytes>> for Rejection {
    fn from(answer: Response<Bytes>) -> Self {
        Self(Box::new(answer))
    }
}

pub(super) type PeerOf = dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync;
pub(super) type Skip = dyn Fn(&HttpAttributes<'_>) -> bool + Send + Sync;
pub(super) type CostOf = dyn Fn(&HttpAttributes<'_>) -> Option<u32> + Send + Sync;
pub(super) type OnDecision = dyn Fn(&HttpAttributes<'_>, &Verdict) + Send + Sync;
pub(super) type OnDenied = dyn Fn(&HttpAttributes<'_>, &Verdict) -> Response<Bytes> + Send + Sync;
pub(super) type OnUndecided =
    dyn Fn(&HttpAttributes<'_>, &Undecided) -> Option<Response<Bytes>> + Send + Sync;
pub(super) type OnOverloaded = dyn Fn(&HttpAttributes<'_>, Full) -> Response<Bytes> + Send + Sync;
pub(super) type OutcomeOf = dyn Fn(&AnswerHead) -> Outcome + Send + Sync;
pub(super) type Settle = dyn Fn(&AnswerHead) -> Option<Settlement> + Send + Sync;

/// What was found; or the answer, if the request has none of what it must have.
pub(super) type Found = Result<Option<String>, Rejection>;
pub(super) type FindNow = dyn Fn(&HttpAttributes<'_>) -> Found + Send + Sync;
pub(super) type FindLater = dyn Fn(&Head) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync;

/// Finds an attribute of this name.
#[derive(Clone)]
pub(super) enum Finder {
    Now(String, Arc<FindNow>),
    Later(String, Arc<FindLater>),
}

/// What decides, and what a layer is told to do. Services share it, so that to clone one is to count once.
pub(super) struct Guard<G> {
    pub(super) gate: Arc<G>,
    pub(super) options: Options,
}

#[derive(Clone)]
pub(super) struct Options {
    pub(super) headers: HeaderOptions,
    pub(super) form: DenialForm,
    pub(super) peer: Option<Arc<PeerOf>>,
    pub(super) proxies: TrustedProxies,
    pub(super) api_key: HeaderName,
    pub(super) finders: Vec<Finder>,
    pub(super) skip: Vec<Arc<Skip>>,
    pub(super) entrance: Entrance,
    pub(super) cost: Option<Arc<CostOf>>,
    pub(super) on_decision: Vec<Arc<OnDecision>>,
    pub(super) on_denied: Option<Arc<OnDenied>>,
    pub(super) on_undecided: Option<Arc<OnUndecided>>,
    pub(super) on_overloaded: Option<Arc<OnOverloaded>>,
    pub(super) outcome: Option<Arc<OutcomeOf>>,
    pub(super) settle: Vec<Arc<Settle>>,
    pub(super) bytes_per_unit: Option<NonZeroU64>,
    pub(super) refunds_cancelled: bool,
    pub(super) shares_verdict: bool,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            headers: HeaderOptions::default(),
            form: DenialForm::default(),
            peer: None,
            proxies: TrustedProxies::none(),
            api_key: API_KEY_HEADER.clone(),
            finders: Vec::new(),
            skip: Vec::new(),
            entrance: Entrance::default(),
            cost: None,
            on_decision: Vec::new(),
            on_denied: None,
            on_undecided: None,
            on_overloaded: None,
            outcome: None,
            settle: Vec::new(),
            bytes_per_unit: None,
            refunds_cancelled: false,
            shares_verdict: false,
            clock: Arc::new(WallClock),
        }
    }
}

impl Options {
    /// A request as policies see it.
    pub(super) fn see<'r>(&'r self, seen: HttpAttributes<'r>) -> HttpAttributes<'r> {
        let seen = seen.with_api_key_header(&self.api_key);
        seen.with_ip(self.client(&seen))
    }

    fn client(&self, request: &HttpAttributes<'_>) -> Option<IpAddr> {
        let told = self.peer.as_ref().and_then(|peer| peer(request.extensions()));
        let peer = told.map(|address| address.ip()).or_else(|| request.peer())?;
        Some(client_address(peer, request.headers(), &self.proxies))
    }

    pub(super) fn is_skipped(&self, request: &HttpAttributes<'_>) -> bool {
        self.skip.iter().any(|skip| skip(request))
    }

    pub(super) fn cost(&self, request: &HttpAttributes<'_>) -> Option<u32> {
        self.cost.as_ref().and_then(|cost| cost(request))
    }

    /// Whether anybody looks at the verdict on a request that passes.
    pub(super) fn wants_verdicts(&self) -> bool {
        !self.headers.is_none() || self.shares_verdict || !self.on_decision.is_empty() || self.settles()
    }

    /// Whether a request may be charged otherwise once it is answered.
    pub(super) fn settles(&self) -> bool {
        !self.settle.is_empty() || self.bytes_per_unit.is_some() || self.refunds_cancelled
    }

    /// The time of day; not read where no header speaks of it.
    pub(super) fn now_unix_s(&self) -> u64 {
        if self.headers.tells_time() { self.clock.now().as_secs() } else { 0 }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("headers", &self.headers)
            .field("form", &self.form)
            .field("proxies", &self.proxies)
            .field("api_key", &self.api_key)
            .field("attributes", &self.finders.len())
            .field("skips", &self.skip.len())
            .field("has_on_denied", &self.on_denied.is_some())
            .field("settles", &self.settles())
            .finish_non_exhaustive()
    }
}

/// Says once that requests come without an address: policies that count by it do not apply then, which is easily
/// taken for limits that do not work.
pub(super) fn warn_of_missing_peer() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            target: "tollgate::http",
            "requests have no peer address, so policies that count by address do not apply; serve axum with \
             `into_make_service_with_connect_info::<SocketAddr>()`, insert `tollgate_http::Peer` into requests, or say \
             where it is with `RateLimitLayer::peer`"
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
