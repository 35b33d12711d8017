//! How many keys there are, and may be.

use crate::sync::{AtomicUsize, Ordering};

/// A count that never passes its bound.
#[derive(Debug)]
pub(super) struct Census {
    present: AtomicUsize,
    capacity: usize,
}

impl Census {
    pub(super) fn new(capacity: usize) -> Self {
        Self { present: AtomicUsize::new(0), capacity }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many are present.
    pub(super) fn present(&self) -> usize {
        // Relaxed, here and below: the count guards nothing but itself.
        self.present.load(Ordering::Relaxed)
    }

    /// Whether no more may come.
    pub(super) fn is_full(&self) -> bool {
        self.present() >= self.capacity
    }

    /// Counts one more, if there may be one more.
    pub(super) fn enter(&self) -> bool {
        let enter = |present: usize| (present < self.capacity).then(|| present + 1);
        self.present.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    /// Counts one more, whatever the bound: one that only moves is counted twice for a moment.
    pub(super) fn enter_anyway(&self) {
        self.present.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less.
    pub(super) fn leave(&self) {
        self.present.fetch_sub(1, Ordering::Relaxed);
    }
}
