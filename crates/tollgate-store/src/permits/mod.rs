//! Where permits are kept: who holds them, and who waits.
//!
//! A [`PermitStore`] counts by [`Concurrency`], in one step at a time for each key. What a permit is, and who comes first, is said there.

mod memory;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::concurrency::{Admission, Concurrency, PermitId, PermitRequest};
use tollgate_core::{KeyHash, Nanos};

pub use self::memory::MemoryPermits;

use crate::seed::random_seed;
use crate::store::StoreError;

/// How permits of a key are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermitUsage {
    /// Units that are held.
    pub in_use: u64,
    /// Units that are waited for in line.
    pub awaited: u64,
}

/// Where permits are kept. It has its own clock, and may have to be waited for.
pub trait PermitStore: Send + Sync {
    /// Grants a permit, or a place in line: see [`Concurrency::acquire`].
    ///
    /// # Errors
    /// If the store cannot answer. Then a permit may be held all the same: to ask again under the same name tells, and to release it
    /// does no harm.
    fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// Holds a permit for as long again: see [`Concurrency::renew`].
    ///
    /// # Errors
    /// If the store cannot answer.
    fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> impl Future<Output = Result<Option<Nanos>, StoreError>> + Send;

    /// Gives a permit back, or a place in line up. False if there was none: it lapsed before.
    ///
    /// # Errors
    /// If the store cannot answer.
    fn release(&self, key: KeyHash, id: PermitId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How the permits of a key are used.
    ///
    /// # Errors
    /// If the store cannot answer.
    fn usage(&self, key: KeyHash) -> impl Future<Output = Result<PermitUsage, StoreError>> + Send;

    /// Ends when it is the turn of somebody in line, if the store can tell. Otherwise, as here, never.
    fn turn(&self, key: KeyHash, id: PermitId) -> impl Future<Output = ()> + Send {
        let _ = (key, id);
        std::future::pending()
    }
}

/// How long a place in line is kept after it was last asked for: others wait so long behind whoever is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often somebody in line asks again, where the store does not say whose turn it is: at least, and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// A name for a permit, that nobody can guess.
pub fn permit_id() -> PermitId {
    PermitId(u128::from_be_bytes(random_seed().to_bytes()))
}

/// Asks for a permit, and stands in line until there is one, for so long at most. Whoever drops this leaves the line within two seconds.
///
/// # Errors
/// If the store cannot answer.
pub async fn acquire_in_turn(
    store: &impl PermitStore,
    key: KeyHash,
    limit: &Concurrency,
    request: &PermitRequest,
    most: Duration,
) -> Result<Admission, StoreError> {
    let started = Instant::now();
    let mut pause = ASK_AGAIN.0;
    loop {
        let left = most.saturating_sub(started.elapsed());
        let patience = if left.is_zero() { Nanos::ZERO } else { PATIENCE.into() };
        let admission = store.acquire(key, limit, &PermitRequest { patience, ..*request }).await?;
        let Admission::Full { retry_after: Some(retry_after), .. } = admission else { return Ok(admission) };
        if left.is_zero() {
            return Ok(admission);
        }
        let wait = pause.min(retry_after.into()).max(ASK_AGAIN.0).min(left);
        // Whichever comes first; the place in line is kept by asking again well before it would be given up.
        let _ = tokio::time::timeout(wait, store.turn(key, request.id)).await;
        pause = (pause * 2).min(ASK_AGAIN.1);
    }
}
