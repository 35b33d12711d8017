//! Where the server keeps its state: in its own memory, or in a store that many nodes share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use tollgate::guard::{GuardOptions, Guarded, Phase};
use tollgate::lease::{LeaseOptions, Leased};
use tollgate::redis::{RedisOptions, RedisStore};
use tollgate::{
    Answer, Group, KeyHash, KeySeed, Level, MemoryOptions, MemoryStore, Nanos, OnFailure, Policy, Refund,
    Share, Store, StoreConfig, StoreError, SystemClock, random_seed,
};

use crate::cli::{FailureChoice, StoreOptions};

/// How long to wait for a store before saying so again, while its nodes have to agree on a seed.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// How long a node that ends may take to give back what it holds.
const HAND_BACK_MAX: Duration = Duration::from_secs(1);

/// Notes that a request was not decided. A store that is away is known to its guard, which says so once; what the store refuses is a
/// mistake of ours.
pub(super) fn log_failure(error: &StoreError) {
    if let StoreError::Unavailable(_) = error {
        tracing::debug!(target: "tollgate::store", %error, "a request was not decided");
    } else {
        tracing::error!(target: "tollgate::store", %error, "the store refused what it was asked");
    }
}

/// The store of a server.
#[derive(Debug)]
// There is one of it.
#[allow(clippy::large_enum_variant)]
pub(super) enum ServerStore {
    Memory(MemoryStore),
    Redis(Leased<Guarded<RedisStore>>),
}

impl ServerStore {
    /// The store that the options name, or else the policy file; and the seed that its keys are hashed under. A store in memory
    /// uses the one that was saved, if none is given.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) async fn open(
        options: &StoreOptions,
        config: &StoreConfig,
        memory: MemoryOptions,
        clock: SystemClock,
        saved_seed: Option<KeySeed>,
    ) -> Result<(Self, KeySeed), String> {
        let local = MemoryStore::with_clock(clock, memory);
        let seed = options.key_seed.as_deref().or(config.key_seed.as_deref()).map(seed_of).transpose()?;
        let url = options.store.as_deref().or(config.url.as_deref()).unwrap_or("memory");
        if url == "memory" {
            let seed = seed.or(saved_seed).unwrap_or_else(random_seed);
            return Ok((Self::Memory(local), seed));
        }
        let redis = redis_options(url, options, config)?;
        let store = RedisStore::new(&redis).map_err(|error| format!("--store: {error}"))?;
        let (nodes, node) =
            (options.nodes.or(config.nodes).unwrap_or(1), options.node.or(config.node).unwrap_or(0));
        let mut guard = GuardOptions::default();
        guard.share = Share::of(node, nodes)
            .ok_or_else(|| format!("--node {node}: of {nodes} nodes, the last is number {}", nodes - 1))?;
        guard.on_failure = match options.on_store_failure {
            Some(FailureChoice::Local) => OnFailure::Local,
            Some(FailureChoice::Allow) => OnFailure::Allow { grace: options.grace.into() },
            Some(FailureChoice::Deny) => OnFailure::Deny,
            None => config.on_failure.unwrap_or_default(),
        };
        set(&mut guard.pause, config.health_check_interval);
        let mut lease = LeaseOptions::default();
        lease.nodes = nodes;
        lease.capacity = memory.capacity;
        lease.wait = redis.deadline;
        lease.percent = config.lease_percent.unwrap_or(lease.percent);
        lease.consistency =
            options.consistency.map(Into::into).or(config.consistency).unwrap_or(lease.consistency);
        set(&mut lease.idle, config.lease_idle);
        set(&mut lease.sync, config.sync_interval);
        let seed = match seed {
            Some(seed) => seed,
            None => agreed_seed(&store).await?,
        };
        Ok((Self::Redis(Leased::new(Guarded::new(store, local, guard), clock, lease)), seed))
    }

    /// Gives back what this node holds ahead, if that does not take long: it is about to end.
    pub(super) async fn hand_back(&self) {
        if let Self::Redis(store) = self
            && tokio::time::timeout(HAND_BACK_MAX, store.hand_back()).await.is_err()
        {
            tracing::warn!(target: "tollgate::store", "what this node held ahead could not all go back; it recovers by itself");
        }
    }

    /// For how many keys this node holds units ahead, or owes some.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Memory(_) => 0,
            Self::Redis(store) => store.pockets(),
        }
    }

    /// Whether it is in this process, and so always there.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Its name in answers and metrics.
    pub(super) const fn backend(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(_) => "redis",
        }
    }

    /// The state in this process.
    pub(super) fn local(&self) -> &MemoryStore {
        match self {
            Self::Memory(store) => store,
            Self::Redis(store) => store.store().local(),
        }
    }

    /// Who meets the failures of a store that can fail.
    pub(super) fn guard(&self) -> Option<&Guarded<RedisStore>> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store.store()),
        }
    }

    /// Whether the store can be asked, as far as is known; `None` if it is this process.
    pub(super) fn is_available(&self) -> Option<bool> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => {
                let guard = store.store();
                Some(guard.phase() == Phase::Closed && guard.remote().status().is_connected)
            }
        }
    }

    /// How often in a row the store has failed.
    pub(super) fn consecutive_failures(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Redis(store) => store.store().consecutive_failures(),
        }
    }

    /// What is wrong with it, while something is.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => store.store().remote().status().trouble,
        }
    }

    /// The first limit of these policies that the store cannot keep, and why.
    pub(super) fn unfit(&self, policies: &[Arc<Policy>]) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(_) => policies.iter().find_map(|policy| {
                let at = |level| policy.variants().iter().flat_map(move |variant| variant.limits_at(level));
                let limits = Level::ALL.into_iter().flat_map(at);
                let unfit = limits
                    .map(tollgate::PolicyLimit::limit)
                    .find_map(|limit| RedisStore::supports(limit).err())?;
                Some(format!("policy {}: {unfit}", policy.name()))
            }),
        }
    }
}

/// For the line that says what runs.
impl fmt::Display for ServerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("memory"),
            Self::Redis(store) => {
                let redis = store.store().remote();
                write!(f, "{}", redis.address())?;
                if redis.status().is_connected { Ok(()) } else { f.write_str(" (not reached yet)") }
            }
        }
    }
}

/// Futures of the network are boxed: they are of kilobytes, which every request would carry from place to place, also where
/// memory decides at once.
impl Store for ServerStore {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self {
            Self::Memory(store) => Store::acquire(store, groups).await,
            Self::Redis(store) => Box::pin(store.acquire(groups)).await,
        }
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self {
            Self::Memory(store) => Store::peek(store, groups).await,
            Self::Redis(store) => Box::pin(store.peek(groups)).await,
        }
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => Store::refund(store, refunds).await,
            Self::Redis(store) => Box::pin(store.refund(refunds)).await,
        }
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => Store::reset(store, keys).await,
            Self::Redis(store) => Box::pin(store.reset(keys)).await,
        }
    }
}

/// How Redis is reached.
fn redis_options(url: &str, options: &StoreOptions, config: &StoreConfig) -> Result<RedisOptions, String> {
    let mut redis = RedisOptions::new(url);
    if let Some(prefix) = options.store_prefix.as_ref().or(config.prefix.as_ref()) {
        redis.prefix.clone_from(prefix);
    }
    set(&mut redis.deadline, options.store_deadline.map(Into::into).or(config.deadline));
    set(&mut redis.connect_timeout, config.connect_timeout);
    let read = |option: &str, file: Option<&Path>| {
        let read =
            |path: &Path| fs::read(path).map_err(|error| format!("{option} {}: {error}", path.display()));
        file.map(read).transpose()
    };
    let either = |option: &'_ Option<PathBuf>, setting: &'_ Option<String>| {
        option.clone().or_else(|| setting.as_ref().map(PathBuf::from))
    };
    redis.tls.authorities = read("--store-ca", either(&options.store_ca, &config.ca).as_deref())?;
    let certificate = read("--store-cert", either(&options.store_cert, &config.certificate).as_deref())?;
    let key = read("--store-key", either(&options.store_key, &config.key).as_deref())?;
    if certificate.is_some() != key.is_some() {
        return Err("--store-cert, --store-key: a certificate goes with its key".to_owned());
    }
    redis.tls.client = certificate.zip(key);
    Ok(redis)
}

/// Sets a length that was given.
fn set(length: &mut Duration, to: Option<Nanos>) {
    if let Some(to) = to {
        *length = to.into();
    }
}

/// The seed that all nodes of a store use: the first of them has proposed it.
async fn agreed_seed(store: &RedisStore) -> Result<KeySeed, String> {
    let proposal = format!("{:032x}", u128::from_be_bytes(random_seed().to_bytes()));
    loop {
        match store.agree("seed", &proposal).await {
            Ok(agreed) => return seed_of(&agreed),
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(
                    target: "tollgate::store",
                    %why,
                    "waiting for the store, as nodes agree there on the secret that keys are hashed under; with \
                     --key-seed the server starts without it"
                );
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(error) => return Err(format!("--store: {error}")),
        }
    }
}

/// A seed from 32 hexadecimal digits.
/// The seed of these digits.
pub(super) fn seed_of(digits: &str) -> Result<KeySeed, String> {
    let seed = (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok()).flatten();
    seed.map(|seed| KeySeed::new(seed.to_be_bytes())).ok_or_else(|| {
        "--key-seed: write 32 hexadecimal digits, as `openssl rand -hex 16` prints them".to_owned()
    })
}
