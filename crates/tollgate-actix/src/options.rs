//! What the middleware is told to do.

use std::fmt;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::dev::{ResponseHead, ServiceRequest};
use actix_web::http::header::HeaderName;
use actix_web::{Error, HttpResponse};
use tollgate_adaptive::{Full, Outcome};
use tollgate_http::{
    API_KEY_HEADER, DenialForm, Entrance, HeaderOptions, Networks, TrustedProxies, Undecided,
};
use tollgate_policy::{Settlement, Verdict};

pub(crate) type Skip = dyn Fn(&ServiceRequest) -> bool + Send + Sync;
pub(crate) type CostOf = dyn Fn(&ServiceRequest) -> Option<u32> + Send + Sync;
pub(crate) type OnDecision = dyn Fn(&ServiceRequest, &Verdict) + Send + Sync;
pub(crate) type OnDenied = dyn Fn(&ServiceRequest, &Verdict) -> HttpResponse + Send + Sync;
pub(crate) type OnUndecided = dyn Fn(&ServiceRequest, &Undecided) -> Option<HttpResponse> + Send + Sync;
pub(crate) type OnOverloaded = dyn Fn(&ServiceRequest, Full) -> HttpResponse + Send + Sync;
pub(crate) type OutcomeOf = dyn Fn(&ResponseHead) -> Outcome + Send + Sync;
pub(crate) type Settle = dyn Fn(&ResponseHead) -> Option<Settlement> + Send + Sync;

/// What was found; or the error that is the answer, if the request has none of what it must have.
pub(crate) type Found = Result<Option<String>, Error>;
pub(crate) type FindNow = dyn Fn(&ServiceRequest) -> Found + Send + Sync;
pub(crate) type FindLater = dyn Fn(&ServiceRequest) -> Pin<Box<dyn Future<Output = Found>>> + Send + Sync;

/// Finds an attribute of this name.
#[derive(Clone)]
pub(crate) enum Finder {
    Now(String, Arc<FindNow>),
    Later(String, Arc<FindLater>),
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) headers: HeaderOptions,
    pub(crate) form: DenialForm,
    pub(crate) proxies: TrustedProxies,
    pub(crate) api_key: HeaderName,
    pub(crate) finders: Vec<Finder>,
    pub(crate) skip: Vec<Arc<Skip>>,
    pub(crate) skipped_networks: Vec<Networks>,
    pub(crate) entrance: Entrance,
    pub(crate) cost: Option<Arc<CostOf>>,
    pub(crate) on_decision: Vec<Arc<OnDecision>>,
    pub(crate) on_denied: Option<Arc<OnDenied>>,
    pub(crate) on_undecided: Option<Arc<OnUndecided>>,
    pub(crate) on_overloaded: Option<Arc<OnOverloaded>>,
    pub(crate) outcome: Option<Arc<OutcomeOf>>,
    pub(crate) settle: Vec<Arc<Settle>>,
    pub(crate) settles_reported: bool,
    pub(crate) bytes_per_unit: Option<NonZeroU64>,
    pub(crate) refunds_cancelled: bool,
    pub(crate) shares_verdict: bool,
}

impl Default for Options {
    fn default() -> Self {
        // The name is one of a header, in whichever library.
        let api_key = HeaderName::from_bytes(API_KEY_HEADER.as_str().as_bytes());
        Self {
            headers: HeaderOptions::default(),
            form: DenialForm::default(),
            proxies: TrustedProxies::none(),
            api_key: api_key.unwrap_or(actix_web::http::header::AUTHORIZATION),
            finders: Vec::new(),
            skip: Vec::new(),
            skipped_networks: Vec::new(),
            entrance: Entrance::default(),
            cost: None,
            on_decision: Vec::new(),
            on_denied: None,
            on_undecided: None,
            on_overloaded: None,
            outcome: None,
            settle: Vec::new(),
            settles_reported: false,
            bytes_per_unit: None,
            refunds_cancelled: false,
            shares_verdict: false,
        }
    }
}

impl Options {
    /// Whether anybody looks at the verdict on a request that passes.
    pub(crate) fn wants_verdicts(&self) -> bool {
        !self.headers.is_none() || self.shares_verdict || !self.on_decision.is_empty() || self.settles()
    }

    /// Whether a request may be charged otherwise once it is answered.
    pub(crate) fn settles(&self) -> bool {
        !self.settle.is_empty()
            || self.settles_reported
            || self.bytes_per_unit.is_some()
            || self.refunds_cancelled
    }

    /// The time of day; not read where no header speaks of it.
    pub(crate) fn now_unix_s(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.headers.tells_time() { now() } else { 0 }
    }

    /// Whether any attribute has to be waited for.
    pub(crate) fn finds_later(&self) -> bool {
        self.finders.iter().any(|finder| matches!(finder, Finder::Later(..)))
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
            .field("skips", &(self.skip.len() + self.skipped_networks.len()))
            .field("has_on_denied", &self.on_denied.is_some())
            .field("settles", &self.settles())
            .finish_non_exhaustive()
    }
}
