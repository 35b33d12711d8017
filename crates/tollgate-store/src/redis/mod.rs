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

mod caller;
mod link;
mod permits;
mod reach;
mod route;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Answer, Group, Hit, KeyHash, Limit, Source, Timestamp};

#[cfg(feature = "redis-tls")]
pub use crate::shared::TlsOptions;
pub use crate::shared::{RemoteStatus, Unfit};

use self::reach::{Cluster, Plan, Reach};
use self::route::{Maker, Route};
use crate::conformance::Subject;
use crate::guard::Remote;
use crate::plain::{self, States};
use crate::seed::random_tag;
use crate::shared::batch::{Batch, Order, Reply};
use crate::shared::cells::{self, Cells, Swap, unfit};
use crate::shared::courier::first;
use crate::shared::permits::Wish;
use crate::shared::rule::Rule;
use crate::shared::spans::traced;
use crate::shared::{ToldTime, in_time, without_password};
use crate::store::{Refund, Store, StoreError};
use crate::together::hits;

/// How a [`RedisStore`] is reached.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// Where the server is: `redis://[user:password@]host[:port][/database]`, `rediss://…` with TLS, `redis+unix:///path`, or
    /// `redis+sentinel://[user:password@]host:port[,host:port…]/service[/database]`, where sentinels say where the primary of a
    /// service is, and user and password are for that (`rediss+sentinel://` if they and it take TLS); or `redis+cluster://[user:password@]host:port[,host:port…]`, of which any
    /// servers do, as they name the others (`rediss+cluster://` with TLS).
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

/// Does not show the password.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = without_password(&self.url);
        f.debug_struct("RedisOptions")
            .field("url", &url)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
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
    "{url}: {reason}; write redis://host:port, redis+unix:///path, \
     redis+sentinel://host:port,host:port/service or redis+cluster://host:port,host:port"
)]
pub struct AddressError {
    url: String,
    reason: String,
}

/// The store on one Redis or Valkey server, on the primary of several that sentinels watch, or on a cluster.
///
/// It need not be there when the store is made: until it is, decisions are [unavailable](StoreError::Unavailable).
///
/// ```no_run
/// use tollgate_core::{Quota, KeySeed};
/// use tollgate_store::redis::{RedisOptions, RedisStore};
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new(&RedisOptions::new("redis://127.0.0.1:6379"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedisStore {
    /// Without a password.
    address: String,
    reach: Reach,
    told_time: Arc<ToldTime>,
    deadline: Duration,
}

/// Asks the server that has the keys with a tag, and whichever they have moved to, and gives what came of it.
///
/// A macro, as a future that a closure borrows for cannot be said to be `Send`.
macro_rules! wherever {
    ($store:expr, $tag:expr, |$path:ident| $call:expr) => {{
        let mut $path = $store.reach.path($tag)?;
        loop {
            let done = $call.await;
            if let Some(done) = $path.follow(done)? {
                break done;
            }
        }
    }};
}

impl RedisStore {
    /// A store that begins to connect. It must be made within a Tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be understood.
    pub fn new(options: &RedisOptions) -> Result<Self, AddressError> {
        let address = without_password(&options.url);
        let reach = Self::reach(options);
        let (reach, told_time) = reach.map_err(|reason| AddressError { url: address.clone(), reason })?;
        Ok(Self { address, reach, told_time, deadline: options.deadline })
    }

    fn reach(options: &RedisOptions) -> Result<(Reach, Arc<ToldTime>), String> {
        let told_time = Arc::new(ToldTime::default());
        let plan = Plan { options: options.clone(), told_time: Arc::clone(&told_time) };
        let reach = match Maker::parse(&options.url) {
            Some((maker, seeds)) => Reach::Cluster(Cluster::new(plan, maker, seeds)?),
            None => Reach::One(plan.node(Route::parse(&options.url, options)?, false)),
        };
        Ok((reach, told_time))
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
        let agree =
            async { Ok(wherever!(self, 0, |path| path.node.caller.agree(name, proposal, path.asking))) };
        in_time(self.deadline, agree).await
    }

    /// How long a decision may take.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How the store fares.
    pub fn status(&self) -> RemoteStatus {
        let nodes = self.reach.nodes();
        RemoteStatus {
            is_connected: self.reach.is_up(),
            consecutive_failures: nodes.iter().map(|node| node.caller.link.failures()).max().unwrap_or(0),
            trouble: nodes.iter().find_map(|node| node.caller.link.trouble()),
        }
    }

    async fn decide(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let order = Order::new(groups).map_err(unfit)?;
        if hits(groups).any(|hit| !hit.formers.is_empty()) {
            // Boxed, as it is rare and large; below as well.
            Box::pin(in_time(self.deadline, cells::carry_over(self, groups))).await?;
        }
        let mut tags = tags(groups);
        match (&self.reach, tags.next(), tags.next()) {
            // Nothing to remember: any time will do.
            (_, None, _) => Ok(plain::acquire(Timestamp::EPOCH, groups, &mut States::new(), Self::SOURCE)),
            (Reach::Cluster(_), Some(_), Some(_)) => {
                Box::pin(in_time(self.deadline, self.decide_apart(groups))).await
            }
            (_, Some(tag), _) => self.send(tag, order).await,
        }
    }

    /// Has a request decided whose keys have one server.
    async fn send(&self, tag: u16, order: Order) -> Result<Answer, StoreError> {
        Ok(wherever!(self, tag, |path| async {
            if !path.asking {
                return path.node.courier.send(order.clone(), self.deadline).await;
            }
            first(path.node.caller.decide(&Batch::of_one(order.clone()), true).await?)
        }))
    }

    /// Decides a request whose keys have several servers: looks at all, then takes on one server after the other, and gives
    /// back if one refuses that had agreed a moment ago. For that moment another request may find a unit held.
    async fn decide_apart(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        /// How often others may come between.
        const TRIES: u32 = 4;

        for _ in 0..TRIES {
            let (before, now) = cells::states(self, groups).await?;
            let mut states = before.clone();
            let mut answer = plain::acquire(now, groups, &mut states, Self::SOURCE);
            // Hits that take nothing can change a state all the same: a bucket that is not full at first begins to
            // fill, and what lies in the future is brought near.
            let changed = |hit: &Hit<'_>| {
                let (old, new) = (before.get(&hit.key), states.get(&hit.key));
                old != new && (old.is_some() || new.is_some_and(|new| hit.limit.vacant_at(new) > now))
            };
            for (index, hit) in hits(groups).enumerate() {
                if answer.outcomes[index].grant.is_none() && changed(hit) {
                    let look = Hit { formers: &[], ..*hit }.with_cost(0);
                    let order = Order::new(&[Group::all(&[look])]).map_err(unfit)?;
                    self.send(hit.key.tag(), order).await.map(drop)?;
                }
            }
            if !answer.allowed {
                return Ok(answer);
            }
            let taking: Vec<(usize, Hit<'_>)> = hits(groups)
                .enumerate()
                .filter(|(index, _)| answer.outcomes[*index].grant.is_some())
                .map(|(index, hit)| (index, Hit { formers: &[], ..*hit }))
                .collect();
            let mut tags: Vec<u16> = taking.iter().map(|(_, hit)| hit.key.tag()).collect();
            // Always in the same order.
            tags.sort_unstable();
            tags.dedup();
            let mut taken: Vec<usize> = Vec::new();
            let mut refused = None;
            for tag in tags {
                let part: Vec<(usize, Hit<'_>)> =
                    taking.iter().filter(|(_, hit)| hit.key.tag() == tag).copied().collect();
                let hits: Vec<Hit<'_>> = part.iter().map(|(_, hit)| *hit).collect();
                let order = Order::new(&[Group::all(&hits)]).map_err(unfit)?;
                match self.send(tag, order).await {
                    Ok(own) if own.allowed => {
                        for ((index, _), outcome) in part.iter().zip(own.outcomes) {
                            answer.outcomes[*index] = outcome;
                            taken.push(*index);
                        }
                    }
                    Ok(_) => refused = Some(Ok(())),
                    Err(error) => refused = Some(Err(error)),
                }
                if refused.is_some() {
                    break;
                }
            }
            let Some(refused) = refused else { return Ok(answer) };
            for (index, hit) in taking.iter().filter(|(index, _)| taken.contains(index)) {
                if let Some(grant) = answer.outcomes[*index].grant {
                    let refund = Refund { key: hit.key, limit: hit.limit, grant, source: Self::SOURCE };
                    cells::give_back(self, &refund).await?;
                }
            }
            refused?;
        }
        Err(StoreError::Unavailable(format!("others came between {TRIES} times")))
    }

    /// Does something with the permits of a key.
    async fn ask_permits(&self, key: KeyHash, wish: &Wish) -> Result<Vec<i64>, StoreError> {
        Ok(wherever!(self, key.tag(), |path| path.node.caller.permits(key, wish, path.asking)))
    }

    async fn forget(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        for keys in keys.chunk_by(|one, other| self.together(*one, *other)) {
            wherever!(self, keys[0].tag(), |path| path.node.caller.forget(keys, path.asking));
        }
        Ok(())
    }

    /// One server of a cluster that is well is enough: what the others have is unavailable by itself. Each probe asks for
    /// another tag, so that it comes to all of them.
    async fn probe_somewhere(&self) -> Result<(), StoreError> {
        let tag = random_tag();
        wherever!(self, tag, |path| path.node.caller.probe(tag, path.asking));
        Ok(())
    }
}

/// The tags of a request's keys, each once.
fn tags<'g>(groups: &'g [Group<'g>]) -> impl Iterator<Item = u16> + 'g {
    let tags = move || hits(groups).filter(|hit| hit.limit.is_stateful()).map(|hit| hit.key.tag());
    tags()
        .enumerate()
        .filter(move |(index, tag)| tags().take(*index).all(|other| other != *tag))
        .map(|(_, tag)| tag)
}

impl Cells for RedisStore {
    const SOURCE: Source = Source::Redis;

    fn together(&self, one: KeyHash, other: KeyHash) -> bool {
        matches!(self.reach, Reach::One(_)) || one.tag() == other.tag()
    }

    fn told_time(&self) -> &ToldTime {
        &self.told_time
    }

    async fn read(&self, batch: &Batch) -> Result<Reply, StoreError> {
        let tag = batch.keys().first().map_or(0, |(key, _)| key.tag());
        Ok(wherever!(self, tag, |path| path.node.caller.ask(batch, path.asking)))
    }

    async fn swap(&self, swap: Swap) -> Result<bool, StoreError> {
        Ok(wherever!(self, swap.key.tag(), |path| path.node.caller.swap(&swap, path.asking)))
    }
}

impl Remote for RedisStore {
    async fn probe(&self) -> Result<(), StoreError> {
        // What only reads would not notice a server that refuses to write.
        in_time(self.deadline, self.probe_somewhere()).await
    }
}

impl Store for RedisStore {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        traced!("redis", "acquire", &self.address, self.decide(groups))
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        traced!("redis", "peek", &self.address, in_time(self.deadline, cells::look(self, groups)))
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        let give_back = async {
            for refund in refunds {
                in_time(self.deadline, cells::give_back(self, refund)).await?;
            }
            Ok(())
        };
        traced!("redis", "refund", &self.address, give_back)
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        traced!("redis", "reset", &self.address, in_time(self.deadline, self.forget(keys)))
    }
}

/// A store that was told the time once goes by what it is told, for tests and simulations: the server's own clock means
/// nothing to it any more.
impl Subject for RedisStore {
    async fn acquire_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.told_time.tell(now);
        self.decide(groups).await
    }

    async fn peek_at(&self, now: Timestamp, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.told_time.tell(now);
        Store::peek(self, groups).await
    }

    async fn refund_at(&self, now: Timestamp, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.told_time.tell(now);
        Store::refund(self, refunds).await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        Store::reset(self, keys).await
    }
}
