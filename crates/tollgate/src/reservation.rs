//! What was taken and may be given back.

use tollgate_core::{Grant, KeyHash, Limit};
use tollgate_store::Refund;

/// What a request took from its limits. Giving it back consumes it, so that it counts once.
///
/// Dropping it keeps what was taken.
#[derive(Debug)]
#[must_use = "dropped, a reservation stays taken"]
pub struct Reservation {
    items: Vec<(KeyHash, Limit, Grant)>,
}

impl Reservation {
    pub(crate) fn new(items: impl IntoIterator<Item = (KeyHash, Limit, Grant)>) -> Self {
        Self { items: items.into_iter().collect() }
    }

    /// What was taken, summed over all limits; saturates.
    pub fn cost(&self) -> u64 {
        self.items.iter().fold(0, |sum, (_, _, grant)| sum.saturating_add(grant.cost.into()))
    }

    /// Gives it back by `give_back`. It cannot be used again.
    pub(crate) fn give_back(self, give_back: impl FnOnce(&[Refund<'_>])) {
        give_back(&self.refunds());
    }

    pub(crate) fn refunds(&self) -> Vec<Refund<'_>> {
        self.items.iter().map(|(key, limit, grant)| Refund { key: *key, limit, grant: *grant }).collect()
    }
}
