//! Staying under the limits of others.

mod layer;
mod learned;
#[cfg(feature = "reqwest")]
mod reqwest;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tollgate_core::{Limit, LimitError, Quota, Retry};
use tollgate_store::{MemoryStore, Store, StoreError};

pub use self::layer::{OutgoingError, OutgoingFuture, OutgoingLayer, OutgoingService};

use self::learned::Learned;
use crate::keyed::KeyedLimiter;
use crate::line::Line;
use crate::reservation::Reservation;

/// Keeps requests to other services under their limits: spreads them by a quota of our own, and heeds what the services say.
///
/// Each key, usually a host, is counted by itself. Who has to wait waits in the order of asking, at most for a set time; who
/// would have to wait for longer is refused at once. On a store that nodes share, the quota holds for all of them together.
///
/// Of answers it learns from `Retry-After`, from `RateLimit`, `RateLimit-Remaining` with `-Reset`, and `X-RateLimit-Remaining` with
/// `-Reset`: a service that says that nothing is left is not asked until it is. One that answers with 429 and says nothing more
/// is left alone for a second, and each time that it does so again for twice as long, up to a minute.
///
/// As a Tower layer, for hyper, tonic and others, it is an [`OutgoingLayer`]; with the feature `reqwest`, that is middleware for
/// reqwest too. Other clients call [`admit`](Self::admit) before a
/// request and [`learn`](Self::learn) after it:
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Quota, outgoing::Outgoing};
///
/// # async fn send() -> http::Response<()> { http::Response::new(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// // Ten a second, and nobody waits for more than five.
/// let outgoing = Outgoing::new(Quota::per_second(10), Duration::from_secs(5))?;
/// outgoing.admit("api.example.com").await?;
/// let answer = send().await;
/// outgoing.learn("api.example.com", answer.status(), answer.headers());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Outgoing<S = MemoryStore> {
    /// Of a limit that holds the burst, and as many as may wait.
    limiter: Arc<KeyedLimiter<str, S>>,
    line: Line,
    patience: Duration,
    learned: Learned,
}

/// Why a request is not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused {
    /// It would have to wait for longer than it may.
    Limited {
        /// When it could go.
        retry_after: Retry,
    },
    /// The store that counts requests cannot be asked.
    Store(StoreError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited { retry_after: Retry::After(wait) } => {
                write!(f, "the limit of the service is used up for {:?}", Duration::from(*wait))
            }
            Self::Limited { .. } => f.write_str("the limit of the service does not allow this request"),
            Self::Store(error) => write!(f, "the limit of the service cannot be counted: {error}"),
        }
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Limited { .. } => None,
            Self::Store(error) => Some(error),
        }
    }
}

impl Outgoing {
    /// Sends at most at this rate to each key, as many at once as it counts, and lets nobody wait for longer than `patience`:
    /// zero refuses at once.
    ///
    /// # Errors
    /// If more may wait than a limit can hold.
    pub fn new(quota: Quota, patience: Duration) -> Result<Self, LimitError> {
        Self::with_store(quota, quota.count(), patience, MemoryStore::default())
    }

    /// Sets no limit of its own, and heeds only what the services say.
    pub fn unlimited(patience: Duration) -> Self {
        let limiter = Arc::new(KeyedLimiter::new(Limit::Unlimited));
        Self { limiter, line: Line::NONE, patience, learned: Learned::default() }
    }
}

impl<S> Outgoing<S> {
    /// Sends at most at this rate to each key, `burst` at once, and lets nobody wait for longer than `patience`. It is counted
    /// on this store, which should serve nothing else.
    ///
    /// # Errors
    /// If the burst is zero, or more may wait than a limit can hold.
    pub fn with_store(quota: Quota, burst: u64, patience: Duration, store: S) -> Result<Self, LimitError> {
        // As many as the quota lets through meanwhile.
        let queue = patience.as_nanos() * u128::from(quota.count()) / u128::from(quota.period().as_nanos());
        let (line, limit) = Line::new(quota, burst, u64::try_from(queue).unwrap_or(u64::MAX))?;
        let limiter = Arc::new(KeyedLimiter::with_store(limit, store));
        Ok(Self { limiter, line, patience, learned: Learned::default() })
    }

    /// Heeds what an answer says of the service's limits.
    pub fn learn(&self, key: &str, status: StatusCode, headers: &HeaderMap) {
        self.learned.learn(key, status, headers);
    }
}

impl<S: Store + 'static> Outgoing<S> {
    /// Waits until a request may be sent. Dropped before, it gives its place back.
    ///
    /// # Errors
    /// If it would have to wait for too long, or the store cannot be asked.
    pub async fn admit(&self, key: &str) -> Result<(), Refused> {
        let give_up_at = tokio::time::Instant::now() + self.patience;
        // What the service said comes first: while it is not to be asked, no place is taken.
        self.sit_out(key, give_up_at).await?;
        let (reservation, decision) = match self.limiter.reserve_decided_async(key, 1).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(denied)) => return Err(Refused::Limited { retry_after: denied.retry_after }),
            Err(error) => return Err(Refused::Store(error)),
        };
        let mut place = Place { limiter: &self.limiter, reservation: Some(reservation) };
        let wait = self.line.delay(&decision);
        if !wait.is_zero() {
            let turn_at = tokio::time::Instant::now() + wait;
            if turn_at > give_up_at {
                return Err(Refused::Limited { retry_after: Retry::After(wait.into()) });
            }
            tokio::time::sleep_until(turn_at).await;
        }
        // It may have said more meanwhile.
        self.sit_out(key, give_up_at).await?;
        place.reservation = None;
        Ok(())
    }

    /// Waits as long as the service is not to be asked.
    async fn sit_out(&self, key: &str, give_up_at: tokio::time::Instant) -> Result<(), Refused> {
        while let Some(until) = self.learned.until(key) {
            if until > give_up_at {
                let wait = until.saturating_duration_since(tokio::time::Instant::now());
                return Err(Refused::Limited { retry_after: Retry::After(wait.into()) });
            }
            tokio::time::sleep_until(until).await;
        }
        Ok(())
    }
}

/// A place that was taken, which is given back unless it is used.
struct Place<'o, S: Store + 'static> {
    limiter: &'o Arc<KeyedLimiter<str, S>>,
    reservation: Option<Reservation>,
}

impl<S: Store + 'static> Drop for Place<'_, S> {
    fn drop(&mut self) {
        // Without a runtime nobody waits for a place any more.
        let (Some(reservation), Ok(runtime)) =
            (self.reservation.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let limiter = Arc::clone(self.limiter);
        runtime.spawn(async move {
            if let Err(error) = limiter.refund_async(reservation).await {
                tracing::debug!(target: "tollgate::outgoing", %error, "a place that was not used was not given back");
            }
        });
    }
}
