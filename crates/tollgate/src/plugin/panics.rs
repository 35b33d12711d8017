//! Code that may panic, and must take nothing along.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a panic leaves.
pub(super) type Payload = Box<dyn Any + Send>;

/// How often a plugin has panicked.
pub(super) struct Panics {
    /// The plugin's type.
    of: &'static str,
    count: AtomicU64,
}

impl Panics {
    /// None yet, of a plugin of this type.
    pub(super) fn of<P>() -> Self {
        Self { of: std::any::type_name::<P>(), count: AtomicU64::new(0) }
    }

    pub(super) fn count(&self) -> u64 {
        // Relaxed: it stands for itself.
        self.count.load(Ordering::Relaxed)
    }

    /// Runs the plugin's code. A panic ends here: `None`.
    pub(super) fn contain<R>(&self, run: impl FnOnce() -> R) -> Option<R> {
        caught(run).map_err(|payload| self.note(payload)).ok()
    }

    /// Counts a panic, and says so: each time that there are twice as many, as there may be one at each request.
    #[cold]
    pub(super) fn note(&self, payload: Payload) {
        let count = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        #[cfg(feature = "policy")]
        if count.is_power_of_two() {
            tracing::error!(
                target: "tollgate::plugin", plugin = self.of, panics = count, panic = message(&payload),
                "a plugin panicked: decided without it"
            );
        }
        #[cfg(not(feature = "policy"))]
        let _ = count;
        // What was thrown may panic once more when it is dropped.
        if let Err(another) = caught(|| drop(payload)) {
            std::mem::forget(another);
        }
    }
}

/// Runs code up to its end, or to a panic.
///
/// What the code has seen of our own is whole then: it is lent shared references, and our states change by atomics or under locks
/// that nobody holds meanwhile.
pub(super) fn caught<R>(run: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(run))
}

#[cfg(feature = "policy")]
fn message(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it left no message")
}

impl fmt::Debug for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panics").field("of", &self.of).field("count", &self.count()).finish()
    }
}
