//! The atomics of the table: those of the standard library, or of the model checker when it looks at all
//! interleavings.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Waits a moment for another thread that works on the same key; `turn` counts the waits.
pub(crate) fn pause(turn: u32) {
    #[cfg(loom)]
    {
        let _ = turn;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    if turn.is_multiple_of(32) {
        // It may not be running: let it.
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}
