//! State in Redis or Valkey, which many nodes share.
//!
//! A decision is one round trip: a script on the server reads the states of all limits of a request, decides by the server's
//! clock, and writes what changed. It decides as every store does, to the microsecond, and this program works out from what the script
//! found what people want to know of it (what is left, when to retry). Requests that are asked for at the same time travel
//! together.
//!
//! ```text
//! request ──▶ order ──▶ courier ──▶ batch ──▶ script ──▶ states before it ──▶ answers
//! ```
//!
//! Every key has a time to live: as long as it says anything, and a second. A call changes the server at most once: it is
//! sent again only where the server said that it had not run it. A call without an answer by its deadline is
//! [unavailable](StoreError::Unavailable), and may have counted.

mod batch;
mod caller;
mod courier;
mod link;
mod route;
mod wire;

use std::sync::Arc;

use std::time::Duration;

use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, Source, State, Timestamp};

pub use self::wire::Unfit;

use self::batch::{Batch, Order, Reply};
use self::caller::{Caller, Swap};
use self::courier::Courier;
use self::link::Link;
use self::route::Route;
use self::wire::Rule;
use crate::conformance::Subject;
use crate::guard::Remote;
use crate::store::{Refund, Store, StoreError};
use crate::together::{self, States};

/// How a [`RedisStore`] is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Where the server is: `redis://[user:password@]host[:port][/database]`, `rediss://…` with TLS, `redis+unix:///path`, or
    /// `redis+sentinel://[user:password@]host:port[,host:port…]/service[/database]`, where sentinels say where the primary of a
    /// service is, and user and password are for that.
    pub url: String,
    /// What the names of all keys begin with. Nodes that share limits share it.
    pub prefix: String,
    /// How long a decision may take. What has no answer by then is unavailable.
    pub deadline: Duration,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// What a server at a `rediss://` address is known by, and this program to it.
    #[cfg(feature = "redis-tls")]
    pub tls: TlsOptions,
}

/// Certificates and keys, in PEM.
#[cfg(feature = "redis-tls")]
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Who is believed to vouch for the server; without one, those that the system believes.
    pub authorities: Option<Vec<u8>>,
    /// By which certificate, and key for it, this program says who it is.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Does not show the key.
#[cfg(feature = "redis-tls")]
impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (authorities, client) = (self.authorities.is_some(), self.client.is_some());
        f.debug_struct("TlsOptions").field("authorities", &authorities).field("client", &client).finish()
    }
}

impl RedisOptions {
    /// The server at this address, with a deadline of 20 ms, half a second to connect, and keys that begin with `tollgate:`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "tollgate:".to_owned(),
            deadline: Duration::from_millis(20),
            connect_timeout: Duration::from_millis(500),
            #[cfg(feature = "redis-tls")]
            tls: TlsOptions::default(),
        }
    }
}

/// Why a store cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url}: {reason}; write redis://host:port, redis+unix:///path or redis+sentinel://host:port,host:port/service"
)]
pub struct AddressError {
    url: String,
    reason: String,
}

/// How a store fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStatus {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// How many calls and attempts to connect have failed since the last that did not.
    pub consecutive_failures: u32,
    /// What went wrong last, while it does.
    pub trouble: Option<String>,
}

/// The store on one Redis or Valkey server, or on the primary of several that sentinels watch.
///
/// It need not be there when the store is made: until it is, decisions are [unavailable](StoreError::Unavailable).
///
/// ```no_run
/// use tollgate_core::{Quota, KeySeed};
/// use tollgate_store::redis::{RedisOptions, RedisStore};
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new(RedisOptions::new("redis://127.0.0.1:6379"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedisStore {
    /// Without a password.
    address: String,
    caller: Arc<Caller>,
    courier: Courier,
    deadline: Duration,
}

impl RedisStore {
    /// A store that begins to connect. It must be made within a Tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be understood.
    pub fn new(options: RedisOptions) -> Result<Self, AddressError> {
        #[cfg(feature = "redis-tls")]
        let route = Route::parse(&options.url, &options.tls);
        #[cfg(not(feature = "redis-tls"))]
        let route = Route::parse(&options.url);
        let RedisOptions { url, prefix, deadline, connect_timeout, .. } = options;
        let route = route.map_err(|reason| AddressError { url: without_password(&url), reason })?;
        let link = Arc::new(Link::new(route, connect_timeout, deadline * 2));
        link.lay();
        let caller = Arc::new(Caller::new(link, prefix));
        Ok(Self {
            address: without_password(&url),
            courier: Courier::new(Arc::clone(&caller)),
            caller,
            deadline,
        })
    }

    /// Whether a limit can be kept here.
    ///
    /// # Errors
    /// Why it cannot, and what to do.
    pub fn supports(limit: &Limit) -> Result<(), Unfit> {
        Rule::of(limit).map(|_| ())
    }

    /// Where the server is, as it can be shown: without a password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What all nodes that use this store agree on under a name: what the first of them proposed. It is kept for ten years
    /// after the last that asked.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn agree(&self, name: &str, proposal: &str) -> Result<String, StoreError> {
        self.in_time(self.caller.agree(name, proposal)).await
    }

    /// How the store fares.
    pub fn status(&self) -> RedisStatus {
        RedisStatus {
            is_connected: self.caller.link.is_up(),
            consecutive_failures: self.caller.link.failures(),
            trouble: self.caller.link.trouble(),
        }
    }

    /// Within the deadline, or not at all.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let deadline = self.deadline;
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {deadline:?}"))))
    }

    async fn decide(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let order = Order::new(groups).map_err(unfit)?;
        if together::hits(groups).any(|hit| hit.previous.is_some()) {
            self.in_time(self.carry_over(groups)).await?;
        }
        self.courier.send(order, self.deadline).await
    }

    async fn look(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        Order::new(groups).map_err(unfit)?;
        let (mut states, reply) = self.states(groups).await?;
        for (hit, state) in carried(groups, &states, reply.now) {
            states.insert(hit.key, state);
        }
        Ok(together::peek(reply.now, groups, &mut states, Source::Redis))
    }

    /// The states of all keys of a request, and of those that they had before.
    async fn states(&self, groups: &[Group<'_>]) -> Result<(States, Reply), StoreError> {
        let batch = Batch::of_keys(together::hits(groups).flat_map(|hit| {
            let previous = hit.previous.map(|previous| (previous.key, *previous.limit));
            std::iter::once((hit.key, *hit.limit)).chain(previous)
        }));
        let reply = self.caller.ask(&batch).await?;
        Ok((batch.states(&reply), reply))
    }

    /// Moves what is left of keys whose limits were changed to the keys of the new ones.
    async fn carry_over(&self, groups: &[Group<'_>]) -> Result<(), StoreError> {
        let (states, reply) = self.states(groups).await?;
        let mut swaps = Vec::new();
        for (hit, state) in carried(groups, &states, reply.now) {
            let Some(previous) = hit.previous else { continue };
            let (Ok(rule), Ok(former)) = (Rule::of(hit.limit), Rule::of(previous.limit)) else { continue };
            let from = states.get(&previous.key).map(|state| former.write_state(state));
            let to = self.caller.lasting(hit.limit, &state, reply.now);
            let to = to.map(|millis| (rule.write_state(&state), millis));
            swaps.push(Swap { key: previous.key, from, to: None });
            let own = states.get(&hit.key).map(|state| rule.write_state(state));
            swaps.push(Swap { key: hit.key, from: own, to });
        }
        // If it was not done, somebody else did it.
        if !swaps.is_empty() {
            self.caller.swap(&swaps).await?;
        }
        Ok(())
    }

    async fn give_back(&self, refund: &Refund<'_>) -> Result<(), StoreError> {
        /// How often another decision may come between the look and the change.
        const TRIES: u32 = 16;

        let rule = Rule::of(refund.limit).map_err(unfit)?;
        for _ in 0..TRIES {
            let batch = Batch::of_keys([(refund.key, *refund.limit)]);
            let reply = self.caller.ask(&batch).await?;
            let Some(mut state) = batch.states(&reply).remove(&refund.key) else { return Ok(()) };
            let from = reply.values.first().cloned().flatten();
            refund.limit.give_back(&mut state, reply.now, refund.grant);
            let to = self
                .caller
                .lasting(refund.limit, &state, reply.now)
                .map(|millis| (rule.write_state(&state), millis));
            if self.caller.swap(&[Swap { key: refund.key, from, to }]).await? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable(format!("others changed the key {TRIES} times meanwhile")))
    }
}

/// The states that new keys get from those of their limits before a change.
fn carried<'h>(groups: &'h [Group<'h>], states: &States, now: Timestamp) -> Vec<(&'h Hit<'h>, State)> {
    together::hits(groups)
        .filter_map(|hit| {
            let previous = hit.previous?;
            let has_own = states.get(&hit.key).is_some_and(|state| hit.limit.vacant_at(state) > now);
            let former = states.get(&previous.key).filter(|_| !has_own)?;
            let state = hit.limit.carried_over(previous.limit, former, now);
            (state != State::Nothing).then_some((hit, state))
        })
        .collect()
}

fn unfit(why: Unfit) -> StoreError {
    StoreError::Defect(why.to_string())
}

/// An address that can be shown.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(end)) if start < end => format!("{}://…{}", &url[..start], &url[end..]),
        _ => url.to_owned(),
    }
}

impl Remote for RedisStore {
    async fn probe(&self) -> Result<(), StoreError> {
        // What only reads would not notice a server that refuses to write.
        self.in_time(self.caller.probe()).await
    }
}

impl Store for RedisStore {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.decide(groups).await
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.in_time(self.look(groups)).await
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        for refund in refunds {
            self.in_time(self.give_back(refund)).await?;
        }
        Ok(())
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        if keys.is_empty() { Ok(()) } else { self.in_time(self.caller.forget(keys)).await }
    }
}

/// A store that was told the time once goes by what it is told, for tests and simulations: the server's own clock means
/// nothing to it any more.
impl Subject for RedisStore {
    async fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.caller.tell(now);
        self.decide(groups).await
    }

    async fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.caller.tell(now);
        Store::peek(self, groups).await
    }

    async fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.caller.tell(now);
        Store::refund(self, refunds).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        Store::reset(self, keys).await
    }
}
