//! What was taken and may be given back.

use tollgate_core::{Grant, KeyHash, Limit, Source};
use tollgate_store::Refund;

#[cfg(feature = "policy")]
use crate::usage::Noted;

/// What a request took from its limits. Giving it back consumes it, so that it counts once.
///
/// Dropping it keeps what was taken.
#[derive(Debug)]
#[must_use = "dropped, a reservation stays taken"]
pub struct Reservation {
    items: Vec<Item>,
    /// What was noted of it in a record, and how many units of each.
    #[cfg(feature = "policy")]
    noted: Vec<(Noted, u32)>,
}

/// What was taken from one limit, and what decided it.
pub(crate) type Item = (KeyHash, Limit, Grant, Source);

impl Reservation {
    pub(crate) fn new(items: impl IntoIterator<Item = Item>) -> Self {
        Self {
            items: items.into_iter().collect(),
            #[cfg(feature = "policy")]
            noted: Vec::new(),
        }
    }

    /// The same, of which this was noted in a record.
    #[cfg(feature = "policy")]
    pub(crate) fn with_noted(mut self, noted: impl Iterator<Item = (Noted, u32)>) -> Self {
        self.noted = noted.collect();
        self
    }

    /// What was taken, summed over all limits; saturates.
    pub fn cost(&self) -> u64 {
        self.items.iter().fold(0, |sum, (_, _, grant, _)| sum.saturating_add(grant.cost.into()))
    }

    /// What was noted of it; nothing, if it was asked for before.
    #[cfg(feature = "policy")]
    pub(crate) fn take_noted(&mut self) -> Vec<(Noted, u32)> {
        std::mem::take(&mut self.noted)
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
