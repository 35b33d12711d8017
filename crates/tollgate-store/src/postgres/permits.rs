//! Permits that nodes share: a function counts them, by the database's clock.

use std::sync::Arc;

use tollgate_core::KeyHash;

use super::PostgresStore;
use crate::shared::in_time;
use crate::shared::permits::{SharedPermits, Wish};
use crate::store::StoreError;

impl SharedPermits for PostgresStore {
    async fn ask(&self, key: KeyHash, wish: Wish) -> Result<Vec<i64>, StoreError> {
        let wish = Arc::new(wish);
        let told = self.caller.told_micros();
        let ask = self.caller.pool.call(move |session| {
            let wish = Arc::clone(&wish);
            async move { session.statements.permits(&session.client, key, &wish, told).await }
        });
        in_time(self.deadline, ask).await
    }
}
