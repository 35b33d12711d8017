//! Permits on a store that nodes share: what it is asked, and what its numbers mean.

use std::future::Future;

use tollgate_core::concurrency::{Admission, Concurrency, MAX_HOLDERS, PermitId, PermitRequest};
use tollgate_core::{KeyHash, Nanos};

use super::rule::MICRO;
use crate::permits::{PermitStore, PermitUsage};
use crate::store::StoreError;

/// What a store is to do with the permits of a key. Times are microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) what: &'static str,
    pub(crate) id: PermitId,
    /// To acquire: units, how many there are, for how long it lasts, for how long a place in line is kept, how many holders there
    /// may be. To renew: for how long.
    pub(crate) numbers: Vec<i64>,
}

/// A store whose own program counts permits.
pub(crate) trait SharedPermits: Send + Sync {
    /// Has it done, within the store's deadline.
    fn ask(&self, key: KeyHash, wish: Wish) -> impl Future<Output = Result<Vec<i64>, StoreError>> + Send;
}

/// In whole microseconds: no less than that, so that nothing lasts for no time.
fn micros(length: Nanos) -> i64 {
    i64::try_from(length.as_nanos().div_ceil(MICRO)).unwrap_or(i64::MAX)
}

fn length(micros: i64) -> Nanos {
    Nanos::new(count(micros).saturating_mul(MICRO))
}

fn count(units: i64) -> u64 {
    u64::try_from(units).unwrap_or(0)
}

fn strange(numbers: &[i64]) -> StoreError {
    StoreError::Defect(format!("of permits the store answered {numbers:?}, which it never does"))
}

impl<S: SharedPermits> PermitStore for S {
    async fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> Result<Admission, StoreError> {
        let crowd = i64::try_from(MAX_HOLDERS).unwrap_or(i64::MAX);
        let (units, most) = (request.units.get().into(), limit.most().into());
        let numbers = vec![units, most, micros(limit.ttl()), micros(request.patience), crowd];
        match self.ask(key, Wish { what: "acquire", id: request.id, numbers }).await?[..] {
            [1, lasts, _] => Ok(Admission::Granted { lasts: length(lasts) }),
            [0, ahead, retry] => {
                let retry_after = (retry >= 0).then(|| length(retry));
                Ok(Admission::Full { ahead: count(ahead), retry_after })
            }
            ref other => Err(strange(other)),
        }
    }

    async fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> Result<Option<Nanos>, StoreError> {
        match self.ask(key, Wish { what: "renew", id, numbers: vec![micros(limit.ttl())] }).await?[..] {
            [lasts] => Ok((lasts >= 0).then(|| length(lasts))),
            ref other => Err(strange(other)),
        }
    }

    async fn release(&self, key: KeyHash, id: PermitId) -> Result<bool, StoreError> {
        match self.ask(key, Wish { what: "release", id, numbers: Vec::new() }).await?[..] {
            [was] => Ok(was == 1),
            ref other => Err(strange(other)),
        }
    }

    async fn usage(&self, key: KeyHash) -> Result<PermitUsage, StoreError> {
        match self.ask(key, Wish { what: "usage", id: PermitId(0), numbers: Vec::new() }).await?[..] {
            [in_use, awaited] => Ok(PermitUsage { in_use: count(in_use), awaited: count(awaited) }),
            ref other => Err(strange(other)),
        }
    }
}
