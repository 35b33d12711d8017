//! Permits: at most so many at once, held by whoever asks over HTTP or the Redis protocol.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tollgate::concurrency::{Admission, Concurrency, PermitId, PermitRequest};
use tollgate::permit_store::{MemoryPermits, PermitStore, PermitUsage, acquire_in_turn, permit_id};
use tollgate::{Key, KeyBuilder, KeyHash, Nanos, StoreError, SystemClock};

use super::api::{App, json, read, refusal, undecided};
use super::body::{Body, Unread};
use super::decode;
use super::otlp::spans;
use super::store::ServerStore;
use super::wire::millis;

/// How many permits and places in line are kept in memory.
const CAPACITY: usize = 100_000;

/// The longest that a request may stand in line, in milliseconds: requests have ten seconds.
const WAIT_MAX: u64 = 8_000;

/// The longest key, in characters.
const KEY_MAX: usize = 1_024;

/// The permits, wherever they are: in the store that nodes share, or in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk<'a>(pub(super) &'a App);

/// Where permits are kept that are not in a store which nodes share.
pub(super) fn in_memory(clock: SystemClock) -> MemoryPermits {
    MemoryPermits::with_clock(clock, CAPACITY)
}

/// The key of this text.
///
/// # Errors
/// If it cannot be one.
pub(super) fn key(keys: &KeyBuilder, text: &str) -> Result<KeyHash, String> {
    let length = text.chars().count();
    if !(1..=KEY_MAX).contains(&length) {
        return Err(format!("a key has 1 to {KEY_MAX} characters, not {length}"));
    }
    let mut builder = *keys;
    text.write(&mut builder);
    Ok(builder.finish())
}

impl Desk<'_> {
    /// Counts what came of asking for a permit.
    pub(super) fn asked(self, admission: &Result<Admission, StoreError>) {
        self.0.metrics.permits.asked(admission);
        if let Ok(admission) = admission {
            spans::result(admission.is_granted());
        }
    }

    /// Gives one back, and counts that.
    pub(super) async fn give_back(self, key: KeyHash, id: PermitId) -> Result<bool, StoreError> {
        let released = self.release(key, id).await?;
        if released {
            self.0.metrics.permits.released();
        }
        Ok(released)
    }
}

/// Does the same wherever the permits are.
macro_rules! wherever {
    ($desk:expr, $permits:ident => $what:expr) => {
        match $desk.0.gate.store() {
            ServerStore::Memory(_) | ServerStore::Durable(_) => {
                let $permits = &$desk.0.permits;
                $what
            }
            ServerStore::Shared(store) => {
                let $permits = store.store().remote();
                $what
            }
        }
    };
}

impl PermitStore for Desk<'_> {
    async fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> Result<Admission, StoreError> {
        wherever!(self, permits => PermitStore::acquire(permits, key, limit, request).await)
    }

    async fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> Result<Option<Nanos>, StoreError> {
        wherever!(self, permits => permits.renew(key, limit, id).await)
    }

    async fn release(&self, key: KeyHash, id: PermitId) -> Result<bool, StoreError> {
        wherever!(self, permits => permits.release(key, id).await)
    }

    async fn usage(&self, key: KeyHash) -> Result<PermitUsage, StoreError> {
        wherever!(self, permits => permits.usage(key).await)
    }

    async fn turn(&self, key: KeyHash, id: PermitId) {
        wherever!(self, permits => permits.turn(key, id).await);
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

/// Reads what was asked, and makes of it what the store is asked; or says what is wrong with either.
#[allow(clippy::result_large_err)]
fn understood<Q: DeserializeOwned, T>(
    app: &App,
    body: Result<Body, Unread>,
    understand: impl FnOnce(Q, &KeyBuilder) -> Result<T, String>,
) -> Result<T, Response> {
    understand(read(app, body)?, &KeyBuilder::new(&app.seed))
        .map_err(|message| refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message))
}

async fn acquire(State(app): Shared, body: Result<Body, Unread>) -> Response {
    let understood = understood(&app, body, |asked: Acquire, keys| {
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
        Ok((key(keys, &asked.key)?, limit, request, Duration::from_millis(wait)))
    });
    let (key, limit, request, wait) = match understood {
        Ok(understood) => understood,
        Err(refusal) => return refusal,
    };
    let admission = acquire_in_turn(&Desk(&app), key, &limit, &request, wait).await;
    Desk(&app).asked(&admission);
    match admission {
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

    let understood = understood(&app, body, |asked: Renew, keys| {
        Ok((key(keys, &asked.key)?, limit(u32::MAX, asked.ttl_ms)?, named(&asked.permit)?))
    });
    let (key, limit, id) = match understood {
        Ok(understood) => understood,
        Err(refusal) => return refusal,
    };
    match Desk(&app).renew(key, &limit, id).await {
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

    let understood =
        understood(&app, body, |asked: Release, keys| Ok((key(keys, &asked.key)?, named(&asked.permit)?)));
    let (key, id) = match understood {
        Ok(understood) => understood,
        Err(refusal) => return refusal,
    };
    match Desk(&app).give_back(key, id).await {
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

    let understood = understood(&app, body, |asked: Usage, keys| key(keys, &asked.key));
    let key = match understood {
        Ok(understood) => understood,
        Err(refusal) => return refusal,
    };
    match Desk(&app).usage(key).await {
        Ok(PermitUsage { in_use, awaited }) => json(StatusCode::OK, &Used { in_use, awaited }),
        Err(error) => undecided(&error),
    }
}
