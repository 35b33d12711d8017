//! Permits that nodes share: a script counts them, by the server's clock.

use tollgate_core::concurrency::{Admission, Concurrency, MAX_HOLDERS, PermitId, PermitRequest};
use tollgate_core::{KeyHash, Nanos};

use super::RedisStore;
use super::wire::MICRO;
use crate::permits::{PermitStore, PermitUsage};
use crate::store::StoreError;

impl RedisStore {
    async fn permits<const N: usize>(
        &self,
        key: KeyHash,
        what: &str,
        arguments: &[&str],
    ) -> Result<[i64; N], StoreError> {
        let numbers = self.in_time(self.ask_permits(key, what, arguments)).await?;
        numbers.try_into().map_err(|numbers| StoreError::Defect(format!("permits: {numbers:?}")))
    }
}

/// In whole microseconds: no less than that, so that nothing lasts for no time.
fn micros(length: Nanos) -> String {
    length.as_nanos().div_ceil(MICRO).to_string()
}

fn length(micros: i64) -> Nanos {
    Nanos::new(u64::try_from(micros).unwrap_or(0).saturating_mul(MICRO))
}

fn count(units: i64) -> u64 {
    u64::try_from(units).unwrap_or(0)
}

impl PermitStore for RedisStore {
    async fn acquire(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        request: &PermitRequest,
    ) -> Result<Admission, StoreError> {
        let (id, units, most) = (request.id.to_string(), request.units.to_string(), limit.most().to_string());
        let (ttl, patience, crowd) = (micros(limit.ttl()), micros(request.patience), MAX_HOLDERS.to_string());
        let arguments = [&*id, &units, &most, &ttl, &patience, &crowd];
        let [granted, number, retry] = self.permits(key, "acquire", &arguments).await?;
        Ok(match granted {
            1 => Admission::Granted { lasts: length(number) },
            _ => Admission::Full { ahead: count(number), retry_after: (retry >= 0).then(|| length(retry)) },
        })
    }

    async fn renew(
        &self,
        key: KeyHash,
        limit: &Concurrency,
        id: PermitId,
    ) -> Result<Option<Nanos>, StoreError> {
        let [lasts] = self.permits(key, "renew", &[&id.to_string(), &micros(limit.ttl())]).await?;
        Ok((lasts >= 0).then(|| length(lasts)))
    }

    async fn release(&self, key: KeyHash, id: PermitId) -> Result<bool, StoreError> {
        let [was] = self.permits(key, "release", &[&id.to_string()]).await?;
        Ok(was == 1)
    }

    async fn usage(&self, key: KeyHash) -> Result<PermitUsage, StoreError> {
        let [in_use, awaited] = self.permits(key, "usage", &[]).await?;
        Ok(PermitUsage { in_use: count(in_use), awaited: count(awaited) })
    }
}
