//! A store for Tollgate on Memcached, written against public items only: an example of a store of one's own.
//!
//! ```no_run
//! use tollgate::{KeyedLimiter, Quota};
//! use tollgate_memcached::{MemcachedOptions, MemcachedStore};
//!
//! # async fn example() -> Result<(), tollgate::StoreError> {
//! let store = MemcachedStore::new(MemcachedOptions::new("127.0.0.1:11211"))?;
//! let limiter = KeyedLimiter::<str, _>::with_store(Quota::per_minute(100), store);
//! let decision = limiter.check_async("ann").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds, and what does not
//! * **One key**: a decision reads the state, works it out here, and writes it by compare-and-swap. However many nodes ask,
//!   it is as if they had asked one after the other.
//! * **Several keys of one request**: Memcached has no transactions. All states are read, and written one after the other in
//!   the order of their keys; where one has changed meanwhile, what was taken from those before is given back, and all begins
//!   anew. So a request that is denied takes nothing, and no limit is ever passed; but for a moment others may see a unit
//!   held, and what a node had taken that dies in between stays taken.
//! * **Time** is each node's own, as Memcached has no clock that could be asked. Every state says when it was written, and a
//!   node whose clock lies behind that by at most [`skew`](MemcachedOptions::skew) goes by it: the key's time is that of the
//!   fastest clock, which brings refills that much earlier, once. A clock that lies farther behind counts as one that was set
//!   back, and while others are ahead of it like this, more may pass than the limit allows: keep clocks together.
//! * **Memory**: every key expires a little after it is as new. But Memcached evicts what was used least when it is full,
//!   and a key that is evicted is new: give it room, or `-M`, by which it refuses instead.
//! * **Availability**: no answer within the deadline is [`StoreError::Unavailable`]. Nothing is sent twice, and a connection
//!   on which a call was given up is closed. [`Guarded`](tollgate::guard::Guarded) decides meanwhile.

mod connection;
mod form;

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use tollgate::algorithm::SlidingLog;
use tollgate::guard::Remote;
use tollgate::plain::{self, States};
use tollgate::{
    Answer, Clock, Grant, Group, Hit, KeyHash, Limit, Nanos, Refund, Source, State, Store, StoreError,
    SystemClock, Timestamp,
};

use self::connection::{Connection, Pool};

/// How a [`MemcachedStore`] is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemcachedOptions {
    /// The server: `host:port`.
    pub address: String,
    /// What the names of keys begin with, at most 100 bytes that are visible: `tollgate:` by default.
    pub prefix: String,
    /// How long a decision may take; 100 ms by default.
    pub deadline: Duration,
    /// How many connections there are at most; 8 by default. Requests beyond wait.
    pub connections: usize,
    /// How far the nodes' clocks may lie apart; 1 s by default.
    pub skew: Duration,
    /// How much longer a key is kept than it matters; 2 s by default, as Memcached counts seconds. The skew is added.
    pub linger: Duration,
}

impl MemcachedOptions {
    /// The defaults, for a server at this address.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            prefix: "tollgate:".to_owned(),
            deadline: Duration::from_millis(100),
            connections: 8,
            skew: Duration::from_secs(1),
            linger: Duration::from_secs(2),
        }
    }
}

/// The largest log whose state fits a value of Memcached's in any case.
const LOG_MAX: u64 = 20_000;

/// The longest time that a limit may take to recover: Memcached counts moments of expiry in seconds up to January 2038.
const RECOVERY_MAX: Nanos = Nanos::from_secs(5 * 365 * 86_400);

/// How often others may come between a look and the change.
const TRIES: u32 = 256;

/// State on a Memcached server, which many nodes share.
#[derive(Debug)]
pub struct MemcachedStore<C = SystemClock> {
    options: MemcachedOptions,
    clock: C,
    pool: Pool,
}

/// A state as it was found.
struct Found {
    state: State,
    unique: u64,
}

impl MemcachedStore {
    /// A store on this machine's clock. It connects when it is first asked.
    ///
    /// # Errors
    /// [`StoreError::Defect`] if the prefix cannot begin a key.
    pub fn new(options: MemcachedOptions) -> Result<Self, StoreError> {
        Self::with_clock(options, SystemClock::new())
    }
}

impl<C: Clock> MemcachedStore<C> {
    /// A store on this clock.
    ///
    /// # Errors
    /// [`StoreError::Defect`] if the prefix cannot begin a key.
    pub fn with_clock(options: MemcachedOptions, clock: C) -> Result<Self, StoreError> {
        let prefix = &options.prefix;
        if prefix.len() > 100 || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = format!("the prefix {prefix:?} is not at most 100 visible characters of ASCII");
            return Err(StoreError::Defect(why));
        }
        let pool = Pool::new(options.address.clone(), options.connections);
        Ok(Self { options, clock, pool })
    }

    /// The clock.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// Whether a limit can be kept: one that recovers within five years, and if it is a log, of at most 20,000.
    pub fn supports(limit: &Limit) -> bool {
        let fits = |log: &SlidingLog| log.limit() <= LOG_MAX;
        limit.recovery() <= RECOVERY_MAX && !matches!(limit, Limit::SlidingLog(log) if !fits(log))
    }

    /// Within the deadline, or not at all.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let deadline = self.options.deadline;
        let late = |_| Err(StoreError::Unavailable(format!("no answer within {deadline:?}")));
        let result = tokio::time::timeout(deadline, work).await.unwrap_or_else(late);
        if matches!(result, Err(StoreError::Unavailable(_))) {
            self.pool.clear();
        }
        result
    }

    async fn decide(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let keys = keys(groups)?;
        if keys.is_empty() {
            return Ok(plain::acquire(self.clock.now(), groups, &mut States::new(), Source::Custom));
        }
        let mut loan = self.pool.connection().await?;
        for _ in 0..TRIES {
            let (found, now) = self.read(&mut loan.connection, &keys).await?;
            let mut states = plain_states(&found);
            let answer = plain::acquire(now, groups, &mut states, Source::Custom);
            if self.write(&mut loan.connection, now, groups, &found, &states, &answer).await? {
                loan.put_back();
                return Ok(answer);
            }
        }
        Err(outrun())
    }

    async fn look(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        let keys = keys(groups)?;
        if keys.is_empty() {
            return Ok(plain::peek(self.clock.now(), groups, &mut States::new(), Source::Custom));
        }
        let mut loan = self.pool.connection().await?;
        let (found, now) = self.read(&mut loan.connection, &keys).await?;
        loan.put_back();
        Ok(plain::peek(now, groups, &mut plain_states(&found), Source::Custom))
    }

    /// The states of some keys, and the time by which they are to be decided.
    async fn read(
        &self,
        connection: &mut Connection,
        keys: &[KeyHash],
    ) -> Result<(HashMap<KeyHash, Found>, Timestamp), StoreError> {
        let names: Vec<String> = keys.iter().map(|key| self.name(*key)).collect();
        let mut items = connection.gets(&names).await?;
        let (mut found, mut now) = (HashMap::new(), self.clock.now());
        let own = now;
        for (key, name) in keys.iter().zip(&names) {
            let Some(item) = items.remove(name) else { continue };
            let (at, state) = form::read(&item.value).ok_or_else(|| {
                StoreError::Defect(format!("{name} holds what this store did not write; remove it"))
            })?;
            if at.since(own) <= Nanos::from(self.options.skew) {
                now = now.max(at);
            }
            found.insert(*key, Found { state, unique: item.unique });
        }
        Ok((found, now))
    }

    /// Writes what has changed, one key after the other. If one was changed by others meanwhile, gives back what was
    /// taken from those before. Returns whether all was written.
    async fn write(
        &self,
        connection: &mut Connection,
        now: Timestamp,
        groups: &[Group<'_>],
        found: &HashMap<KeyHash, Found>,
        states: &States,
        answer: &Answer,
    ) -> Result<bool, StoreError> {
        let hits: Vec<&Hit<'_>> = groups.iter().flat_map(|group| group.hits).collect();
        let mut written: Vec<KeyHash> = Vec::new();
        let mut changed: Vec<&Hit<'_>> = hits.iter().copied().filter(|hit| hit.limit.is_stateful()).collect();
        changed.sort_by_key(|hit| hit.key);
        changed.dedup_by_key(|hit| hit.key);
        for hit in changed {
            let (was, Some(state)) = (found.get(&hit.key), states.get(&hit.key)) else { continue };
            let is_same = was.map_or(hit.limit.vacant_at(state) <= now, |was| was.state == *state);
            if is_same {
                continue;
            }
            let unique = was.map(|was| was.unique);
            if self.swap(connection, hit.key, hit.limit, unique, (now, state)).await? {
                written.push(hit.key);
                continue;
            }
            for (hit, outcome) in hits.iter().zip(&answer.outcomes) {
                if let (true, Some(grant)) = (written.contains(&hit.key), outcome.grant) {
                    self.give_back(connection, hit.key, hit.limit, grant).await?;
                }
            }
            return Ok(false);
        }
        // Moved to the keys of the new limits: what is there twice counts once, so the new ones come first.
        for key in found.keys().filter(|key| !states.contains_key(key)) {
            connection.delete(&self.name(*key)).await?;
        }
        Ok(true)
    }

    /// Writes a state, if its key still holds what it held. Returns whether it did.
    async fn swap(
        &self,
        connection: &mut Connection,
        key: KeyHash,
        limit: &Limit,
        was: Option<u64>,
        (now, state): (Timestamp, &State),
    ) -> Result<bool, StoreError> {
        let unknown = || StoreError::Defect(format!("{limit} has a state that this store cannot write"));
        let text = form::write(now, state).ok_or_else(unknown)?;
        let expires = self.expires(limit.vacant_at(state).since(now))?;
        connection.swap(&self.name(key), was, &text, expires).await
    }

    async fn give_back(
        &self,
        connection: &mut Connection,
        key: KeyHash,
        limit: &Limit,
        grant: Grant,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let (mut found, now) = self.read(connection, &[key]).await?;
            let Some(Found { mut state, unique }) = found.remove(&key) else { return Ok(()) };
            limit.give_back(&mut state, now, grant);
            if self.swap(connection, key, limit, Some(unique), (now, &state)).await? {
                return Ok(());
            }
        }
        Err(outrun())
    }

    /// When a key expires that matters for so long, as Memcached wants it said.
    fn expires(&self, matters: Nanos) -> Result<u64, StoreError> {
        /// What is longer than 30 days is taken for a moment.
        const LENGTH_MAX: u64 = 30 * 86_400;
        /// Memcached's last moment, of January 2038.
        const MOMENT_MAX: u64 = (1 << 31) - 1;

        let more = self.options.linger.as_secs().saturating_add(self.options.skew.as_secs());
        // Up, and one more, as a second of Memcached's may be nearly over.
        let length = matters.as_secs_ceil().saturating_add(more).saturating_add(1);
        if length <= LENGTH_MAX {
            return Ok(length);
        }
        let present = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Some(present.saturating_add(length)).filter(|moment| *moment <= MOMENT_MAX).ok_or_else(|| {
            StoreError::Defect(format!("memcached cannot keep a key for {length} s: its time ends in 2038"))
        })
    }

    fn name(&self, key: KeyHash) -> String {
        format!("{}{:032x}", self.options.prefix, key.0)
    }
}

/// The keys of a request, each once.
fn keys(groups: &[Group<'_>]) -> Result<Vec<KeyHash>, StoreError> {
    for hit in groups.iter().flat_map(|group| group.hits) {
        fits(hit.limit)?;
    }
    let mut keys: Vec<KeyHash> = plain::keys(groups).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

fn fits(limit: &Limit) -> Result<(), StoreError> {
    if MemcachedStore::<SystemClock>::supports(limit) {
        return Ok(());
    }
    Err(StoreError::Defect(format!(
        "{limit} does not fit memcached: it takes longer than 5 years to recover, or is a log of more than {LOG_MAX}"
    )))
}

fn plain_states(found: &HashMap<KeyHash, Found>) -> States {
    found.iter().map(|(key, found)| (*key, found.state.clone())).collect()
}

fn outrun() -> StoreError {
    StoreError::Unavailable(format!("others changed the key {TRIES} times meanwhile"))
}

impl<C: Clock> Store for MemcachedStore<C> {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.in_time(self.decide(groups)).await
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        self.in_time(self.look(groups)).await
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        self.in_time(async {
            let mut loan = self.pool.connection().await?;
            for refund in refunds.iter().filter(|refund| refund.limit.is_stateful()) {
                fits(refund.limit)?;
                self.give_back(&mut loan.connection, refund.key, refund.limit, refund.grant).await?;
            }
            loan.put_back();
            Ok(())
        })
        .await
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        self.in_time(async {
            let mut loan = self.pool.connection().await?;
            for key in keys {
                loan.connection.delete(&self.name(*key)).await?;
            }
            loan.put_back();
            Ok(())
        })
        .await
    }
}

impl<C: Clock + 'static> Remote for MemcachedStore<C> {
    async fn probe(&self) -> Result<(), StoreError> {
        self.in_time(async {
            let mut loan = self.pool.connection().await?;
            loan.connection.version().await?;
            loan.put_back();
            Ok(())
        })
        .await
    }
}
