//! Where the server keeps its state: in its own memory, which may be kept on disk, or in a store that many nodes share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tollgate::durable::{
    Durability, DurableOptions, DurableStore, FLUSH_INTERVAL_MAX, FLUSH_INTERVAL_MIN, Recovery,
};
use tollgate::guard::{GuardOptions, Guarded, Phase};
use tollgate::lease::{LeaseOptions, Leased};
use tollgate::{
    Answer, Group, KeyHash, KeySeed, Level, MemoryOptions, MemoryStore, OnFailure, Policy, Refund, Share,
    Store, StoreConfig, StoreError, SystemClock, random_seed,
};

use super::shared::SharedStore;
use crate::cli::{DiskOptions, FailureChoice, StoreOptions};

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
    Durable(DurableStore),
    Shared(Leased<Guarded<SharedStore>>),
}

impl ServerStore {
    /// The store that the options name, or else the policy file; and the seed that its keys are hashed under. A store in memory
    /// uses the one that was saved, if none is given.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) async fn open(
        options: &StoreOptions,
        disk: &DiskOptions,
        config: &StoreConfig,
        memory: MemoryOptions,
        clock: SystemClock,
        saved_seed: Option<KeySeed>,
    ) -> Result<(Self, KeySeed), String> {
        let seed = options.key_seed.as_deref().or(config.key_seed.as_deref());
        let seed = seed.map(seed_of).transpose().map_err(|why| format!("--key-seed: {why}"))?;
        let url = options.store.as_deref().or(config.url.as_deref()).unwrap_or("memory");
        let directory = data_dir(disk, config);
        if directory.is_some() && url != "memory" {
            return Err("--data-dir keeps what is in memory, and --store names another place, which keeps its state itself: leave \
                        one of them out"
                .to_owned());
        }
        if let Some(directory) = directory {
            let store = open_durable(&directory, disk, config, memory, clock, seed.or(saved_seed))?;
            let seed = store.seed();
            return Ok((Self::Durable(store), seed));
        }
        if disk.flush_interval.or(config.flush_interval.map(Into::into)).is_some() {
            return Err(
                "--flush-interval says how often the directory of --data-dir is written, and there is none"
                    .to_owned(),
            );
        }
        let local = MemoryStore::with_clock(clock, memory);
        if url == "memory" {
            let seed = seed.or(saved_seed).unwrap_or_else(random_seed);
            return Ok((Self::Memory(local), seed));
        }
        let store = SharedStore::open(url, options, config)?;
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
        set(&mut guard.pause, config.health_check_interval.map(Into::into));
        let mut lease = LeaseOptions::default();
        lease.nodes = nodes;
        lease.capacity = memory.capacity;
        lease.wait = store.deadline();
        lease.percent = config.lease_percent.unwrap_or(lease.percent);
        lease.consistency =
            options.consistency.map(Into::into).or(config.consistency).unwrap_or(lease.consistency);
        set(&mut lease.idle, config.lease_idle.map(Into::into));
        set(&mut lease.sync, config.sync_interval.map(Into::into));
        let seed = match seed {
            Some(seed) => seed,
            None => agreed_seed(&store).await?,
        };
        Ok((Self::Shared(Leased::new(Guarded::new(store, local, guard), clock, lease)), seed))
    }

    /// Leaves everything as the next start should find it, if that does not take long: what this node holds ahead goes back,
    /// and what has changed is written. It is about to end.
    pub(super) async fn leave(&self) {
        if let Self::Durable(store) = self
            && let Err(error) = tokio::task::block_in_place(|| store.flush())
        {
            tracing::error!(target: "tollgate::store", %error, "what has changed since the last flush is lost");
        }
        if let Self::Shared(store) = self
            && tokio::time::timeout(HAND_BACK_MAX, store.hand_back()).await.is_err()
        {
            tracing::warn!(target: "tollgate::store", "what this node held ahead could not all go back; it recovers by itself");
        }
    }

    /// For how many keys this node holds units ahead, or owes some.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Memory(_) | Self::Durable(_) => 0,
            Self::Shared(store) => store.pockets(),
        }
    }

    /// Whether it is in this process, and so always there.
    pub(super) const fn is_local(&self) -> bool {
        !matches!(self, Self::Shared(_))
    }

    /// Its name in answers and metrics.
    pub(super) fn backend(&self) -> &'static str {
        match self {
            Self::Memory(_) | Self::Durable(_) => "memory",
            Self::Shared(store) => store.store().remote().backend(),
        }
    }

    /// The state in this process.
    pub(super) fn local(&self) -> &MemoryStore {
        match self {
            Self::Memory(store) => store,
            Self::Durable(store) => store.memory(),
            Self::Shared(store) => store.store().local(),
        }
    }

    /// Who meets the failures of a store that can fail.
    pub(super) fn guard(&self) -> Option<&Guarded<SharedStore>> {
        match self {
            Self::Memory(_) | Self::Durable(_) => None,
            Self::Shared(store) => Some(store.store()),
        }
    }

    /// Whether the store can be asked, as far as is known; `None` if it is this process.
    pub(super) fn is_available(&self) -> Option<bool> {
        match self {
            Self::Memory(_) | Self::Durable(_) => None,
            Self::Shared(store) => {
                let guard = store.store();
                Some(guard.phase() == Phase::Closed && guard.remote().status().is_connected)
            }
        }
    }

    /// How the files fare that memory is kept in, if it is.
    pub(super) fn durability(&self) -> Option<Durability> {
        match self {
            Self::Durable(store) => Some(store.durability()),
            Self::Memory(_) | Self::Shared(_) => None,
        }
    }

    /// How often in a row the store has failed.
    pub(super) fn consecutive_failures(&self) -> u64 {
        match self {
            Self::Memory(_) | Self::Durable(_) => 0,
            Self::Shared(store) => store.store().consecutive_failures(),
        }
    }

    /// What is wrong with it, while something is.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Durable(store) => store.durability().trouble,
            Self::Shared(store) => store.store().remote().status().trouble,
        }
    }

    /// The first limit of these policies that the store cannot keep, and why.
    pub(super) fn unfit(&self, policies: &[Arc<Policy>]) -> Option<String> {
        match self {
            Self::Memory(_) | Self::Durable(_) => None,
            Self::Shared(store) => policies.iter().find_map(|policy| {
                let at = |level| policy.variants().iter().flat_map(move |variant| variant.limits_at(level));
                let limits = Level::ALL.into_iter().flat_map(at);
                let unfit = limits
                    .map(tollgate::PolicyLimit::limit)
                    .find_map(|limit| store.store().remote().supports(limit).err())?;
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
            Self::Durable(store) => write!(f, "memory, kept in {}", store.directory().display()),
            Self::Shared(store) => {
                let remote = store.store().remote();
                write!(f, "{}", remote.address())?;
                if remote.status().is_connected { Ok(()) } else { f.write_str(" (not reached yet)") }
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
            Self::Durable(store) => Store::acquire(store, groups).await,
            Self::Shared(store) => Box::pin(store.acquire(groups)).await,
        }
    }

    async fn peek(&self, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
        match self {
            Self::Memory(store) => Store::peek(store, groups).await,
            Self::Durable(store) => Store::peek(store, groups).await,
            Self::Shared(store) => Box::pin(store.peek(groups)).await,
        }
    }

    async fn refund(&self, refunds: &[Refund<'_>]) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => Store::refund(store, refunds).await,
            Self::Durable(store) => Store::refund(store, refunds).await,
            Self::Shared(store) => Box::pin(store.refund(refunds)).await,
        }
    }

    async fn reset(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => Store::reset(store, keys).await,
            Self::Durable(store) => Store::reset(store, keys).await,
            Self::Shared(store) => Box::pin(store.reset(keys)).await,
        }
    }
}

/// The directory in which state is kept, if there is one.
pub(super) fn data_dir(disk: &DiskOptions, config: &StoreConfig) -> Option<PathBuf> {
    disk.data_dir.clone().or_else(|| config.data_dir.as_ref().map(PathBuf::from))
}

fn open_durable(
    directory: &Path,
    disk: &DiskOptions,
    config: &StoreConfig,
    memory: MemoryOptions,
    clock: SystemClock,
    seed: Option<KeySeed>,
) -> Result<DurableStore, String> {
    let mut options = DurableOptions::default();
    options.memory = memory;
    options.seed = seed;
    set(&mut options.flush_interval, disk.flush_interval.or(config.flush_interval.map(Into::into)));
    if !(FLUSH_INTERVAL_MIN..=FLUSH_INTERVAL_MAX).contains(&options.flush_interval) {
        return Err("--flush-interval: write a length from 10ms to 1h".to_owned());
    }
    let store = DurableStore::open_with_clock(directory, &options, clock)
        .map_err(|error| format!("--data-dir: {error}"))?;
    report(store.recovery());
    Ok(store)
}

/// Says what was found on disk.
fn report(recovery: &Recovery) {
    if recovery.as_of.is_some() {
        tracing::info!(target: "tollgate::store", keys = recovery.keys, "states are back from disk");
    }
    if recovery.without_room > 0 {
        tracing::warn!(
            target: "tollgate::store",
            states = recovery.without_room,
            "there was no room for all states: those keys are as new; raise --capacity to what it was"
        );
    }
    let Some(cut) = &recovery.cut else { return };
    let (file, at, bytes) = (cut.path.display(), cut.at, cut.bytes);
    if cut.is_damage {
        tracing::error!(
            target: "tollgate::store", %file, at, bytes,
            "the file is damaged: what it holds from there on is not believed; it is set aside as .damaged"
        );
    } else {
        tracing::info!(
            target: "tollgate::store", %file, at, bytes,
            "the end of the file was being written when the process ended, and is left out"
        );
    }
}

/// Sets a length that was given.
pub(super) fn set(length: &mut Duration, to: Option<Duration>) {
    if let Some(to) = to {
        *length = to;
    }
}

/// The seed that all nodes of a store use: the first of them has proposed it.
async fn agreed_seed(store: &SharedStore) -> Result<KeySeed, String> {
    let proposal = digits_of(&random_seed());
    loop {
        match store.agree("seed", &proposal).await {
            Ok(agreed) => {
                return seed_of(&agreed)
                    .map_err(|why| format!("--store: what its nodes agreed on is none: {why}"));
            }
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

/// The seed of these digits.
pub(super) fn seed_of(digits: &str) -> Result<KeySeed, String> {
    let is_hexadecimal = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let seed = is_hexadecimal.then(|| u128::from_str_radix(digits, 16).ok()).flatten();
    seed.map(|seed| KeySeed::new(seed.to_be_bytes()))
        .ok_or_else(|| "a secret has 32 hexadecimal digits, as `openssl rand -hex 16` prints them".to_owned())
}

/// A seed's digits.
pub(super) fn digits_of(seed: &KeySeed) -> String {
    format!("{:032x}", u128::from_be_bytes(seed.to_bytes()))
}
