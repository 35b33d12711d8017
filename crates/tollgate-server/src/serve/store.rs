//! Where the server keeps its state: in its own memory, or in a store that many nodes share.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, fs};

use tollgate::guard::{Guarded, OnFailure, Phase};
use tollgate::redis::{RedisOptions, RedisStore};
use tollgate::{
    Answer, Group, KeyHash, KeySeed, MemoryOptions, MemoryStore, PolicySet, Refund, Share, Store, StoreError,
    SystemClock, random_seed,
};

use crate::cli::{FailureChoice, StoreOptions};

/// How long to wait for a store before saying so again, while its nodes have to agree on a seed.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The store of a server.
#[derive(Debug)]
// There is one of it.
#[allow(clippy::large_enum_variant)]
pub(super) enum ServerStore {
    Memory(MemoryStore),
    Redis(Guarded<RedisStore>),
}

impl ServerStore {
    /// The store that the options name, and the seed that its keys are hashed under.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(super) async fn open(
        options: &StoreOptions,
        memory: MemoryOptions,
        clock: SystemClock,
    ) -> Result<(Self, KeySeed), String> {
        let local = MemoryStore::with_clock(clock, memory);
        let seed = options.key_seed.as_deref().map(seed_of).transpose()?;
        if options.store == "memory" {
            return Ok((Self::Memory(local), seed.unwrap_or_else(random_seed)));
        }
        let mut redis = RedisOptions::new(options.store.as_str());
        redis.prefix.clone_from(&options.store_prefix);
        redis.deadline = options.store_deadline;
        let read = |option: &str, file: &Option<PathBuf>| {
            let read = |path: &PathBuf| {
                fs::read(path).map_err(|error| format!("{option} {}: {error}", path.display()))
            };
            file.as_ref().map(read).transpose()
        };
        redis.tls.authorities = read("--store-ca", &options.store_ca)?;
        let certificate = read("--store-cert", &options.store_cert)?;
        redis.tls.client = certificate.zip(read("--store-key", &options.store_key)?);
        let store = RedisStore::new(&redis).map_err(|error| format!("--store: {error}"))?;
        let share = Share::of(options.node, options.nodes).ok_or_else(|| {
            format!(
                "--node {}: of {} nodes, the last is number {}",
                options.node,
                options.nodes,
                options.nodes - 1
            )
        })?;
        let on_failure = match options.on_store_failure {
            FailureChoice::Local => OnFailure::Local(share),
            FailureChoice::Allow => OnFailure::Allow { grace: options.grace },
            FailureChoice::Deny => OnFailure::Deny,
        };
        let seed = match seed {
            Some(seed) => seed,
            None => agreed_seed(&store).await?,
        };
        Ok((Self::Redis(Guarded::new(store, local, on_failure)), seed))
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
    pub(super) const fn local(&self) -> &MemoryStore {
        match self {
            Self::Memory(store) => store,
            Self::Redis(store) => store.local(),
        }
    }

    /// Whether the store can be asked, as far as is known; `None` if it is this process.
    pub(super) fn is_available(&self) -> Option<bool> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => {
                Some(store.phase() == Phase::Closed && store.remote().status().is_connected)
            }
        }
    }

    /// How often in a row the store has failed.
    pub(super) fn consecutive_failures(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Redis(store) => store.consecutive_failures(),
        }
    }

    /// What is wrong with it, while something is.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => store.remote().status().trouble,
        }
    }

    /// The first limit of these policies that the store cannot keep, and why.
    pub(super) fn unfit(&self, policies: &PolicySet) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(_) => policies.policies().find_map(|policy| {
                let limits = policy.variants().iter().flat_map(tollgate::Variant::limits);
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
                write!(f, "{}", store.remote().address())?;
                if store.remote().status().is_connected { Ok(()) } else { f.write_str(" (not reached yet)") }
            }
        }
    }
}

impl Store for ServerStore {
    async fn acquire(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self {
            Self::Memory(store) => Store::acquire(store, groups).await,
            Self::Redis(store) => store.acquire(groups).await,
        }
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self {
            Self::Memory(store) => Store::peek(store, groups).await,
            Self::Redis(store) => store.peek(groups).await,
        }
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => Store::refund(store, refunds).await,
            Self::Redis(store) => store.refund(refunds).await,
        }
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => Store::reset(store, keys).await,
            Self::Redis(store) => store.reset(keys).await,
        }
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
fn seed_of(digits: &str) -> Result<KeySeed, String> {
    let seed = (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok()).flatten();
    seed.map(|seed| KeySeed::new(seed.to_be_bytes())).ok_or_else(|| {
        "--key-seed: write 32 hexadecimal digits, as `openssl rand -hex 16` prints them".to_owned()
    })
}
