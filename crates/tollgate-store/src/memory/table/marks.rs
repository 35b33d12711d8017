//! Which parts of a table were changed, for who keeps it elsewhere.

use std::hint::cold_path;

use crate::sync::{AtomicBool, Ordering, in_order};

/// A mark for each place of the directory: whether the state of a key there was changed since the mark was cleared.
///
/// Whoever changes a state does so first and then looks at the mark, and sets it if it is not set; whoever reads states
/// clears the mark first. All of that is sequentially consistent, so there is one order of it: if the change came too late
/// to be read, the look came after the clearing, and the mark is set again.
///
/// Nobody clears marks where nothing is kept, so there they are only looked at, and not even that where nothing can be; where
/// something is kept, a mark is written twice for each time that the table is read. They lie together, and beside nothing
/// that decisions write.
#[derive(Debug)]
pub(super) struct Marks {
    /// Whether a mark is clear. All are set at first.
    clear: Box<[AtomicBool]>,
}

impl Marks {
    pub(super) fn new(places: usize) -> Self {
        Self { clear: (0..places).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Sets a mark.
    #[inline(always)]
    pub(super) fn mark(&self, place: usize) {
        if !cfg!(feature = "durable") {
            return;
        }
        in_order();
        if self.clear[place].load(Ordering::SeqCst) {
            cold_path();
            self.clear[place].store(false, Ordering::SeqCst);
        }
    }

    /// Clears a mark. Returns whether it was set.
    #[cfg(feature = "durable")]
    pub(super) fn clear(&self, place: usize) -> bool {
        let was_set =
            !self.clear[place].load(Ordering::SeqCst) && !self.clear[place].swap(true, Ordering::SeqCst);
        in_order();
        was_set
    }
}
