//! The atomics of the table: those of the standard library, or of the model checker when it looks at all
//! interleavings.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

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

/// Stands between two accesses that are both sequentially consistent, where it matters that all threads see them in this
/// order. The model checker knows that order of fences only, so for it this is one; elsewhere it is nothing.
#[inline(always)]
pub(crate) fn in_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// A place that is filled once.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    value: std::sync::OnceLock<T>,
    /// The model checker does not see the lock: this tells it that who reads the value comes after who made it.
    #[cfg(loom)]
    filled: AtomicU32,
}

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            #[cfg(loom)]
            filled: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        #[cfg(loom)]
        if self.filled.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.value.get()
    }

    /// The value, which is made if it is not there. It is made outside of the place, so that others wait for no more
    /// than its being put there; so it may be made in vain.
    pub(crate) fn get_or_make(&self, make: impl Fn() -> T) -> &T {
        if self.get().is_none() {
            let _made = self.value.set(make()).is_ok();
            #[cfg(loom)]
            if _made {
                self.filled.store(1, Ordering::Release);
            }
        }
        #[cfg(loom)]
        while self.filled.load(Ordering::Acquire) == 0 {
            pause(0);
        }
        self.value.get_or_init(make)
    }
}
