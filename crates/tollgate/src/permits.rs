//! At most so many at once, across tasks and nodes.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::concurrency::{Admission, Concurrency, PermitId, PermitRequest};
use tollgate_core::{Key, KeyBuilder, KeyHash, KeySeed};
use tollgate_store::permits::{MemoryPermits, PermitStore, PermitUsage, acquire_in_turn, permit_id};
use tollgate_store::{StoreError, random_seed};

/// How many permits are held at most in memory, of all keys together, if nothing else is said.
const CAPACITY: usize = 100_000;

/// At most so many at once of each key: jobs of a tenant, calls to a service, connections to a database.
///
/// A [`Permit`] is held until it is dropped. Behind it is a lease, which a task renews while the permit lives; should this process
/// end without a word, the lease lapses and others get the permit. Whoever waits stands in line, and nobody overtakes.
///
/// It must be used within a Tokio runtime with its clock enabled.
///
/// ```
/// use std::time::Duration;
/// use tollgate::Permits;
/// use tollgate::concurrency::Concurrency;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let exports = Permits::<str>::new(Concurrency::new(1, Duration::from_secs(30).into())?);
/// let permit = exports.try_acquire("tenant-7").await?;
/// assert!(exports.try_acquire("tenant-7").await.is_err());
/// assert!(exports.try_acquire("tenant-8").await.is_ok());
/// drop(permit);
/// let permit = exports.acquire("tenant-7", Duration::from_secs(5)).await?;
/// # drop(permit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Nodes that share a `RedisStore` or a `PostgresStore` share its permits: see [`with_store`](Self::with_store).
pub struct Permits<K: ?Sized, S = MemoryPermits> {
    limit: Concurrency,
    store: Arc<S>,
    hasher: KeyBuilder,
    // It takes keys, and holds none.
    keys: PhantomData<fn(&K)>,
}

/// Why there is no permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPermit {
    /// As many are held as may be, or others wait for those that are left.
    #[error("as many permits are held as there may be; those in line before this want {ahead}")]
    Full {
        /// How many units those want who came before.
        ahead: u64,
        /// After how long there will be one at the latest if nobody renews; renewed permits last longer.
        retry_after: Duration,
    },
    /// More units are asked for than there are.
    #[error("{wanted} units are asked for, and there are {most} in all")]
    TooMany {
        /// How many were asked for.
        wanted: u32,
        /// How many there are.
        most: u32,
    },
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<K: Key + ?Sized> Permits<K> {
    /// Permits of this process.
    pub fn new(limit: Concurrency) -> Self {
        Self::with_store(limit, Arc::new(MemoryPermits::new(CAPACITY)), &random_seed())
    }
}

impl<K: Key + ?Sized, S: PermitStore + 'static> Permits<K, S> {
    /// Permits that are kept in this store, whose keys are hashed under this seed: the same on all nodes that share the store. What else
    /// is kept there with the same seed must have other keys.
    pub fn with_store(limit: Concurrency, store: Arc<S>, seed: &KeySeed) -> Self {
        Self { limit, store, hasher: KeyBuilder::new(seed), keys: PhantomData }
    }

    /// How many there may be.
    pub const fn limit(&self) -> &Concurrency {
        &self.limit
    }

    /// A permit, if there is one now.
    ///
    /// # Errors
    /// If there is none, or if the store cannot answer.
    pub async fn try_acquire(&self, key: &K) -> Result<Permit, NoPermit> {
        self.acquire_many(key, NonZeroU32::MIN, Duration::ZERO).await
    }

    /// A permit, waiting in line for so long at most. A caller that stops waiting leaves the line.
    ///
    /// # Errors
    /// If there is none until then, or if the store cannot answer.
    pub async fn acquire(&self, key: &K, most: Duration) -> Result<Permit, NoPermit> {
        self.acquire_many(key, NonZeroU32::MIN, most).await
    }

    /// A permit of several units, all or none, waiting in line for so long at most.
    ///
    /// # Errors
    /// If they are not there until then, or if the store cannot answer.
    pub async fn acquire_many(&self, key: &K, units: NonZeroU32, most: Duration) -> Result<Permit, NoPermit> {
        let key = self.hash(key);
        // Made before the store is asked: whatever becomes of the answer, what may have been granted is given back.
        let claim = Claim { store: Arc::clone(&self.store), key, id: permit_id() };
        let request = PermitRequest { units, ..PermitRequest::new(claim.id) };
        match acquire_in_turn(&*self.store, key, &self.limit, &request, most).await? {
            Admission::Granted { .. } => Ok(Permit::hold(claim, self.limit)),
            Admission::Full { ahead, retry_after: Some(retry_after) } => {
                Err(NoPermit::Full { ahead, retry_after: retry_after.into() })
            }
            Admission::Full { .. } => Err(NoPermit::TooMany { wanted: units.get(), most: self.limit.most() }),
        }
    }

    /// How the permits of a key are used, by all who share the store.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn usage(&self, key: &K) -> Result<PermitUsage, StoreError> {
        self.store.usage(self.hash(key)).await
    }

    fn hash(&self, key: &K) -> KeyHash {
        let mut builder = self.hasher;
        key.write(&mut builder);
        builder.finish()
    }
}

impl<K: ?Sized, S> fmt::Debug for Permits<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What may be held under a name. Given back when it is dropped.
struct Claim<S: PermitStore + 'static> {
    store: Arc<S>,
    key: KeyHash,
    id: PermitId,
}

impl<S: PermitStore + 'static> Drop for Claim<S> {
    fn drop(&mut self) {
        let (store, key, id) = (Arc::clone(&self.store), self.key, self.id);
        // Without a runtime there is nobody to wait for the store: then the lease lapses.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { store.release(key, id).await });
        }
    }
}

/// One of so many at once, until this is dropped.
#[must_use = "once it is dropped, somebody else may have the permit"]
#[derive(Debug)]
pub struct Permit {
    id: PermitId,
    /// Whether the permit was lost; and by whose end the task hears that it is not needed any more.
    lost: watch::Receiver<bool>,
}

impl Permit {
    /// Holds what was granted, by a task of its own.
    fn hold<S: PermitStore + 'static>(claim: Claim<S>, limit: Concurrency) -> Self {
        let (tell, lost) = watch::channel(false);
        let id = claim.id;
        tokio::spawn(async move {
            tokio::select! {
                () = tell.closed() => {}
                () = renew(&claim, &limit) => {
                    let _ = tell.send(true);
                }
            }
        });
        Self { id, lost }
    }

    /// Its name, by which it is known in the store.
    pub const fn id(&self) -> PermitId {
        self.id
    }

    /// Whether the permit was lost though it is held: the store could not be asked for longer than a lease lasts, or has lost what it
    /// knew. Others may have it now.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Ends when the permit [is lost](Self::is_lost), for those who would rather stop then.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // The task ends without a word only with the runtime.
        if lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Renews a lease for as long as that is possible.
async fn renew<S: PermitStore>(claim: &Claim<S>, limit: &Concurrency) {
    let lasts = Duration::from(limit.ttl());
    let mut lapses = tokio::time::Instant::now() + lasts;
    loop {
        // Two attempts may fail.
        tokio::time::sleep(lasts / 3).await;
        let asked = tokio::time::Instant::now();
        match claim.store.renew(claim.key, limit, claim.id).await {
            Ok(Some(_)) => lapses = asked + lasts,
            Ok(None) => return,
            Err(_) if asked >= lapses => return,
            Err(_) => {}
        }
    }
}
