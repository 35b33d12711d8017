//! Permits: at most so many at once, held by whoever asks over HTTP or the Redis protocol.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use tollgate::concurrency::{Admission, Concurrency, PermitId, PermitRequest};
use tollgate::permit_store::{MemoryPermits, PermitStore, PermitUsage, acquire_in_turn, permit_id};
use tollgate::{Key, KeyBuilder, KeyHash, KeySeed, Nanos, StoreError, SystemClock};

use super::api::{App, json, read, refusal, undecided};
use super::body::{Body, Unread};
use super::decode;
use super::store::ServerStore;

/// How many permits and places in line are kept in memory.
const CAPACITY: usize = 100_000;

/// The longest that a request may stand in line, in milliseconds: requests have ten seconds.
const WAIT_MAX: u64 = 8_000;

/// The longest key, in characters.
const KEY_MAX: usize = 1_024;

/// Where the server keeps permits: where it keeps the rest, in a store that nodes share or in this process.
#[derive(Debug)]
pub(super) struct Permits {
    here: MemoryPermits,
    keys: KeyBuilder,
}

/// The permits, and the store that they may be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk<'a> {
    permits: &'a Permits,
    store: &'a ServerStore,
}

impl Permits {
    pub(super) fn new(clock: SystemClock, seed: KeySeed) -> Self {
        Self { here: MemoryPermits::with_clock(clock, CAPACITY), keys: KeyBuilder::new(&seed) }
    }

    pub(super) const fn at<'a>(&'a self, store: &'a ServerStore) -> Desk<'a> {
        Desk { permits: self, store }
    }

    /// # Errors
    /// If it cannot be a key.
    pub(super) fn key(&self, text: &str) -> Result<KeyHash, String> {
        let length = text.chars().count();
        if !(1..=KEY_MAX).contains(&length) {
            return Err(format!("a key has 1 to {KEY_MAX} characters, not {length}"));
        }
        let mut builder = self.keys;
        text.write(&mut builder);
        Ok(builder.finish())
    }
}

impl PermitStore for Desk<'_> {
    async fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> Result<Admission, StoreError> {
        match self.store {
            ServerStore::Memory(_) | ServerStore::Durable(_) => {
                self.permits.here.acquire(key, limit, request).await
            }
            ServerStore::Shared(store) => {
                PermitStore::acquire(store.store().remote(), key, limit, request).await
            }
        }
    }

    async fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> Result<Option<Nanos>, StoreError> {
        match self.store {
            ServerStore::Memory(_) | ServerStore::Durable(_) => self.permits.here.renew(key, limit, id).await,
            ServerStore::Shared(store) => store.store().remote().renew(key, limit, id).await,
        }
    }

    async fn release(&self, key: KeyHash, id: PermitId) -> Result<bool, StoreError> {
        match self.store {
            ServerStore::Memory(_) | ServerStore::Durable(_) => self.permits.here.release(key, id).await,
            ServerStore::Shared(store) => store.store().remote().release(key, id).await,
        }
    }

    async fn usage(&self, key: KeyHash) -> Result<PermitUsage, StoreError> {
        match self.store {
            ServerStore::Memory(_) | ServerStore::Durable(_) => self.permits.here.usage(key).await,
            ServerStore::Shared(store) => store.store().remote().usage(key).await,
        }
    }

    async fn turn(&self, key: KeyHash, id: PermitId) {
        match self.store {
            ServerStore::Memory(_) | ServerStore::Durable(_) => self.permits.here.turn(key, id).await,
            ServerStore::Shared(store) => store.store().remote().turn(key, id).await,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acquire {
    key: String,
    /// How many units there are.
    #[serde(deserialize_with = "decode::whole")]
    limit: u32,
    #[serde(deserialize_with = "decode::whole")]
    ttl_ms: u64,
    #[serde(default, deserialize_with = "decode::whole_or_null")]
    units: Option<u32>,
    /// The name of the permit, if it was asked for before.
    #[serde(default)]
    permit: Option<String>,
    #[serde(default, deserialize_with = "decode::whole_or_null")]
    wait_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    key: String,
    permit: String,
    #[serde(deserialize_with = "decode::whole")]
    ttl_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    key: String,
    permit: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Usage {
    key: String,
}

#[derive(Debug, Serialize)]
struct Held {
    granted: bool,
    permit: String,
    expires_in_ms: u64,
}

#[derive(Debug, Serialize)]
struct Refused {
    granted: bool,
    /// Units that those in line before this one want.
    ahead: u64,
    /// Absent if there are not so many units at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    error: Why,
}

#[derive(Debug, Serialize)]
struct Why {
    code: &'static str,
    message: String,
}

/// Milliseconds, rounded up: asking a little late passes, a little early does not.
pub(super) const fn millis(length: Nanos) -> u64 {
    length.as_nanos().div_ceil(1_000_000)
}

/// What a request of these numbers comes to.
///
/// # Errors
/// What is wrong with them.
pub(super) fn limit(most: u32, ttl_ms: u64) -> Result<Concurrency, String> {
    Concurrency::new(most, Nanos::from_millis(ttl_ms)).map_err(|error| format!("ttl_ms: {error}"))
}

/// # Errors
/// If it names no permit.
pub(super) fn named(permit: &str) -> Result<PermitId, String> {
    permit.parse().map_err(|error| format!("permit: {error}"))
}

type Shared = State<Arc<App>>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/permits/acquire", post(acquire))
        .route("/v1/permits/renew", post(renew))
        .route("/v1/permits/release", post(release))
        .route("/v1/permits/usage", post(usage))
}

fn wrong(message: String) -> Response {
    refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
}

async fn acquire(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let asked: Acquire = match read(&app, body) {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let read = || {
        let limit = limit(asked.limit, asked.ttl_ms)?;
        let id = asked.permit.as_deref().map_or_else(|| Ok(permit_id()), named)?;
        let units =
            asked.units.unwrap_or(1).try_into().map_err(|_| "units: ask for at least one".to_owned())?;
        let wait = asked.wait_ms.unwrap_or(0);
        if wait > WAIT_MAX {
            return Err(format!(
                "wait_ms: {wait} is above {WAIT_MAX}; ask again after that, with the same permit"
            ));
        }
        let request = PermitRequest { units, ..PermitRequest::new(id) };
        Ok((app.permits.key(&asked.key)?, limit, request, Duration::from_millis(wait)))
    };
    let (key, limit, request, wait) = match read() {
        Ok(read) => read,
        Err(message) => return wrong(message),
    };
    let desk = app.permits.at(app.gate.store());
    match acquire_in_turn(&desk, key, &limit, &request, wait).await {
        Ok(Admission::Granted { lasts }) => {
            let permit = request.id.to_string();
            json(StatusCode::OK, &Held { granted: true, permit, expires_in_ms: millis(lasts) })
        }
        Ok(Admission::Full { ahead, retry_after }) => {
            let message = match retry_after {
                Some(_) => format!("as many permits are held as there may be ({})", limit.most()),
                None => {
                    format!("{} units are asked for, and there are {} in all", request.units, limit.most())
                }
            };
            let error = Why { code: "CONCURRENCY_LIMIT_EXCEEDED", message };
            let retry_after_ms = retry_after.map(millis);
            json(StatusCode::TOO_MANY_REQUESTS, &Refused { granted: false, ahead, retry_after_ms, error })
        }
        Err(error) => undecided(&error),
    }
}

async fn renew(State(app): Shared, body: Result<Body, Unread>) -> Response {
    #[derive(Serialize)]
    struct Renewed {
        expires_in_ms: u64,
    }

    let asked: Renew = match read(&app, body) {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let read = || Ok((app.permits.key(&asked.key)?, limit(u32::MAX, asked.ttl_ms)?, named(&asked.permit)?));
    let (key, limit, id) = match read() {
        Ok(read) => read,
        Err(message) => return wrong(message),
    };
    match app.permits.at(app.gate.store()).renew(key, &limit, id).await {
        Ok(Some(lasts)) => json(StatusCode::OK, &Renewed { expires_in_ms: millis(lasts) }),
        Ok(None) => {
            let message = "this permit is not held: it was released, or lapsed, and others may have it";
            refusal(StatusCode::NOT_FOUND, "NO_SUCH_PERMIT", message)
        }
        Err(error) => undecided(&error),
    }
}

async fn release(State(app): Shared, body: Result<Body, Unread>) -> Response {
    #[derive(Serialize)]
    struct Released {
        released: bool,
    }

    let asked: Release = match read(&app, body) {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let read = || Ok((app.permits.key(&asked.key)?, named(&asked.permit)?));
    let (key, id) = match read() {
        Ok(read) => read,
        Err(message) => return wrong(message),
    };
    match app.permits.at(app.gate.store()).release(key, id).await {
        Ok(released) => json(StatusCode::OK, &Released { released }),
        Err(error) => undecided(&error),
    }
}

async fn usage(State(app): Shared, body: Result<Body, Unread>) -> Response {
    #[derive(Serialize)]
    struct Used {
        in_use: u64,
        awaited: u64,
    }

    let asked: Usage = match read(&app, body) {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let key = match app.permits.key(&asked.key) {
        Ok(key) => key,
        Err(message) => return wrong(message),
    };
    match app.permits.at(app.gate.store()).usage(key).await {
        Ok(PermitUsage { in_use, awaited }) => json(StatusCode::OK, &Used { in_use, awaited }),
        Err(error) => undecided(&error),
    }
}
