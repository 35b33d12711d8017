//! Permits that nodes share: a script counts them, by the server's clock.

use tollgate_core::KeyHash;

use super::RedisStore;
use crate::shared::in_time;
use crate::shared::permits::{SharedPermits, Wish};
use crate::store::StoreError;

impl SharedPermits for RedisStore {
    async fn ask(&self, key: KeyHash, wish: Wish) -> Result<Vec<i64>, StoreError> {
        in_time(self.deadline, self.ask_permits(key, &wish)).await
    }
}
