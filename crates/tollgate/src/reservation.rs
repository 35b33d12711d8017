//! What was taken and may be given back.

use tollgate_core::{Grant, KeyHash, Limit, Source};
use tollgate_store::Refund;

/// What a request took from its limits. Giving it back consumes it, so that it counts once.
///
/// Dropping it keeps what was taken.
#[derive(Debug)]
#[must_use = "dropped, a reservation stays taken"]
pub struct Reservation {
    items: Vec<Item>,
}

/// What was taken from one limit, and what decided it.
pub(crate) type Item = (KeyHash, Limit, Grant, Source);

impl Reservation {
    pub(crate) fn new(items: impl IntoIterator<Item = Item>) -> Self {
        Self { items: items.into_iter().collect() }
    }

    /// What was taken, summed over all limits; saturates.
    pub fn cost(&self) -> u64 {
        self.items.iter().fold(0, |sum, (_, _, grant, _)| sum.saturating_add(grant.cost.into()))
    }

    /// Gives it back by `give_back`. It cannot be used again.
    pub(crate) fn give_back(self, give_back: impl FnOnce(&[Refund<'_>])) {
        give_back(&self.refunds());
    }

    pub(crate) fn refunds(&self) -> Vec<Refund<'_>> {
        self.items
            .iter()
            .map(|(key, limit, grant, source)| Refund { key: *key, limit, grant: *grant, source: *source })
            .collect()
    }
}
