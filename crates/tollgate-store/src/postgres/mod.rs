//! State in PostgreSQL, which many nodes share.
//!
//! A decision is one statement: a function in the database locks the keys of a request, reads their states, decides by the database's
//! clock, and writes what changed. For the commonest requests (`words`) it is a plain upsert that does the same. It decides as every store does, to the microsecond, and this program works out from what the
//! function found what people want to know of it (what is left, when to retry). Requests that are asked for at the same time
//! travel together.
//!
//! ```text
//! request ──▶ order ──▶ courier ──▶ batch ──▶ pool ──▶ upsert, or decide() ──▶ states before it ──▶ answers
//! ```
//!
//! Tables and functions are made by the store itself, in a schema of their own, and renewed by later versions. Each row says from when
//! on it means nothing, and is removed some time after that. A call changes the database at most once: it is made again only where
//! the database said that it did nothing. A call without an answer by its deadline is [unavailable](StoreError::Unavailable),
//! and may have counted.
//!
//! Any PostgreSQL from version 14 on will do. The store talks to it directly, or through a pooler that gives each client a session of its
//! own.

mod call;
mod error;
mod permits;
mod pool;
mod schema;
mod session;
#[cfg(feature = "postgres-tls")]
mod tls;
mod words;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tollgate_core::{Answer, Group, KeyHash, Limit, Source, Timestamp};

#[cfg(feature = "postgres-tls")]
pub use crate::shared::TlsOptions;
pub use crate::shared::{RemoteStatus, Unfit};

use self::call::Sent;
use self::pool::Pool;
use self::session::Maker;
use crate::conformance::Subject;
use crate::guard::Remote;
use crate::plain::{self, States};
use crate::seed::{random_below, random_tag};
use crate::shared::batch::{Batch, Order, Reply};
use crate::shared::cells::{self, Cells, Swap, unfit};
use crate::shared::courier::{Carrier, Courier};
use crate::shared::rule::Rule;
use crate::shared::spans::traced;
use crate::shared::{HeardTime, ToldTime, in_time, without_password};
use crate::store::{Refund, Store, StoreError};
use crate::together::hits;

/// The shortest time without an answer after which a connection is given up.
const SILENCE_LEAST: Duration = Duration::from_millis(500);

/// How many pages of the table are looked through at once for rows that mean nothing any more: 8 MiB.
const SWEPT_PAGES: i64 = 1_024;

/// How a [`PostgresStore`] is reached.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// Where the database is: `postgres://user[:password]@host[:port][,host[:port]…]/database`, where the host may be the directory of a Unix
    /// socket in percent-encoding (`%2Frun%2Fpostgresql`). Of several hosts, the one that takes changes is used. `?sslmode=verify-full`
    /// is TLS with the server's name verified; `?options=-c%20synchronous_commit%3Doff` sets what a session may set.
    pub url: String,
    /// The schema in which the tables are: a word of a-z, 0-9 and `_`. Nodes that share limits share it.
    pub schema: String,
    /// How long a decision may take. What has no answer by then is unavailable.
    pub deadline: Duration,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// How many connections this node keeps: 1 or more. Half of them decide, each up to 64 limits at
    /// once; the others are for all else. More of them are worth it where the way to the database or to its disk is long.
    pub connections: usize,
    /// How often a part of the table is looked through for rows that mean nothing any more, by one of the nodes.
    pub sweep_interval: Duration,
    /// What a server is known by, and this program to it.
    #[cfg(feature = "postgres-tls")]
    pub tls: TlsOptions,
}

/// Does not show the password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = without_password(&self.url);
        f.debug_struct("PostgresOptions")
            .field("url", &url)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// The database at this address, in the schema `tollgate`, with a deadline of 50 ms, half a second to connect, 4 connections, and a
    /// sweep every 10 seconds.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "tollgate".to_owned(),
            deadline: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(500),
            connections: 4,
            sweep_interval: Duration::from_secs(10),
            #[cfg(feature = "postgres-tls")]
            tls: TlsOptions::default(),
        }
    }
}

/// Why a store cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {reason}; write postgres://user@host:port/database")]
pub struct OptionsError {
    url: String,
    reason: String,
}

/// The store in a PostgreSQL database.
///
/// It need not be there when the store is made: until it is, decisions are [unavailable](StoreError::Unavailable).
///
/// ```no_run
/// use tollgate_store::postgres::{PostgresOptions, PostgresStore};
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::new(&PostgresOptions::new("postgres://limits@127.0.0.1/limits"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PostgresStore {
    /// Without a password.
    address: String,
    caller: Arc<Caller>,
    courier: Courier<Caller>,
    deadline: Duration,
}

/// Makes the calls.
#[derive(Debug)]
struct Caller {
    pool: Arc<Pool>,
    told_time: ToldTime,
    heard_time: HeardTime,
}

impl PostgresStore {
    /// A store that begins to connect. It must be made within a Tokio runtime, where it keeps a task as long as it lives.
    ///
    /// # Errors
    /// If the options cannot be understood.
    pub fn new(options: &PostgresOptions) -> Result<Self, OptionsError> {
        let address = without_password(&options.url);
        let patience = options.deadline.saturating_mul(2).max(SILENCE_LEAST);
        // The server gives a statement up before its connection is.
        let maker = Maker::new(options, patience / 2)
            .map_err(|reason| OptionsError { url: address.clone(), reason })?;
        let connections = options.connections.max(1);
        let pool = Pool::new(maker, connections, patience);
        let caller =
            Arc::new(Caller { pool, told_time: ToldTime::default(), heard_time: HeardTime::default() });
        tokio::spawn(sweep(Arc::downgrade(&caller), options.sweep_interval));
        // Fewer calls do more together; and what is not a decision finds a connection too.
        let courier = Courier::new(Arc::clone(&caller), connections.div_ceil(2), false);
        Ok(Self { address, caller, courier, deadline: options.deadline })
    }

    /// Whether a limit can be kept here.
    ///
    /// # Errors
    /// Why it cannot, and what to do.
    pub fn supports(limit: &Limit) -> Result<(), Unfit> {
        Rule::of(limit).map(|_| ())
    }

    /// Where the database is, as it can be shown: without a password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What all nodes that use this store agree on under a name: what the first of them proposed.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn agree(&self, name: &str, proposal: &str) -> Result<String, StoreError> {
        let words = Arc::new((name.to_owned(), proposal.to_owned()));
        let agree = self.caller.pool.call(move |session| {
            let words = Arc::clone(&words);
            async move { session.statements.agree(&session.client, &words.0, &words.1).await }
        });
        in_time(self.deadline, agree).await
    }

    /// How long a decision may take.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How the store fares.
    pub fn status(&self) -> RemoteStatus {
        self.caller.pool.status()
    }

    async fn decide(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let order = Order::new(groups).map_err(unfit)?;
        if hits(groups).any(|hit| !hit.formers.is_empty()) {
            // Boxed, as it is rare and large.
            Box::pin(in_time(self.deadline, cells::carry_over(&*self.caller, groups))).await?;
        }
        if !hits(groups).any(|hit| hit.limit.is_stateful()) {
            // Nothing to remember: any time will do.
            return Ok(plain::acquire(Timestamp::EPOCH, groups, &mut States::new(), Caller::SOURCE));
        }
        self.courier.send(order, self.deadline).await
    }
}

impl Caller {
    /// The time that the server is told.
    fn told_micros(&self) -> Option<i64> {
        self.told_time.micros().map(|micros| i64::try_from(micros).unwrap_or(i64::MAX))
    }

    async fn ask(&self, batch: &Batch) -> Result<Reply, StoreError> {
        let told = self.told_micros();
        for _ in 0..HeardTime::TRIES {
            let sent = Arc::new(Sent::of(batch, self.heard_time.about()));
            let asked = Arc::clone(&sent);
            let row = self.pool.call(move |session| {
                let sent = Arc::clone(&asked);
                async move { session.statements.decide(&session.client, &sent, told).await }
            });
            if let Some(reply) = self.heard_time.hear(sent.reply(&row.await?)?) {
                return Ok(reply);
            }
        }
        Err(HeardTime::astray())
    }

    async fn forget(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        let keys: Arc<[KeyHash]> = keys.into();
        let forget = self.pool.call(move |session| {
            let keys = Arc::clone(&keys);
            async move { session.statements.forget(&session.client, &keys).await }
        });
        forget.await
    }

    /// Writes a row that means nothing: what only reads would not notice a server that refuses to write.
    async fn probe(&self) -> Result<(), StoreError> {
        // No hash comes out like that.
        let key = KeyHash(u128::MAX - u128::from(random_tag()));
        self.pool
            .call(move |session| async move { session.statements.probe(&session.client, key).await })
            .await
    }
}

impl Carrier for Caller {
    type Error = StoreError;

    async fn carry(&self, batch: Batch) -> Result<Vec<Answer>, StoreError> {
        match words::Sent::of(&batch, self.told_micros()) {
            Some(sent) => self.take(&batch, sent).await,
            None => batch.answers(&self.ask(&batch).await?, Self::SOURCE),
        }
    }
}

impl Cells for Caller {
    const SOURCE: Source = Source::Postgres;

    fn together(&self, _one: KeyHash, _other: KeyHash) -> bool {
        true
    }

    fn told_time(&self) -> &ToldTime {
        &self.told_time
    }

    async fn read(&self, batch: &Batch) -> Result<Reply, StoreError> {
        self.ask(batch).await
    }

    async fn swap(&self, swap: Swap) -> Result<bool, StoreError> {
        let swap = Arc::new(swap);
        let swap = self.pool.call(move |session| {
            let swap = Arc::clone(&swap);
            async move { session.statements.swap(&session.client, &swap).await }
        });
        swap.await
    }
}

/// Has a part of the table looked through now and then, as long as the store lives. Which part, and whether it is time, the nodes
/// settle in the database.
async fn sweep(caller: Weak<Caller>, interval: Duration) {
    let micros = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
    loop {
        tokio::time::sleep(interval / 2 + random_below(interval)).await;
        let Some(caller) = caller.upgrade() else { return };
        let swept = caller.pool.call(move |session| async move {
            session.statements.sweep(&session.client, SWEPT_PAGES, micros).await
        });
        match swept.await {
            Ok(rows) => tracing::debug!(target: "tollgate::store", rows, "idle rows were removed"),
            Err(error) => tracing::debug!(target: "tollgate::store", %error, "idle rows were not removed"),
        }
    }
}

impl Remote for PostgresStore {
    async fn probe(&self) -> Result<(), StoreError> {
        in_time(self.deadline, self.caller.probe()).await
    }
}

impl Store for PostgresStore {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        traced!("postgresql", "acquire", &self.address, self.decide(groups))
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        traced!(
            "postgresql",
            "peek",
            &self.address,
            in_time(self.deadline, cells::look(&*self.caller, groups))
        )
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        let give_back = async {
            for refund in refunds {
                in_time(self.deadline, cells::give_back(&*self.caller, refund)).await?;
            }
            Ok(())
        };
        traced!("postgresql", "refund", &self.address, give_back)
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        traced!("postgresql", "reset", &self.address, in_time(self.deadline, self.caller.forget(keys)))
    }
}

/// A store that was told the time once goes by what it is told, for tests and simulations: the database's own clock means
/// nothing to it any more.
impl Subject for PostgresStore {
    async fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.caller.told_time.tell(now);
        self.decide(groups).await
    }

    async fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.caller.told_time.tell(now);
        Store::peek(self, groups).await
    }

    async fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.caller.told_time.tell(now);
        Store::refund(self, refunds).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        Store::reset(self, keys).await
    }
}
