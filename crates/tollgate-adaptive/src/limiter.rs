//! Places for requests that are under way.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::{Control, Fixed, Sample};

/// At most so many requests under way at once, where how many is found out by a [`Control`].
///
/// ```
/// use std::sync::Arc;
/// use tollgate_adaptive::{ConcurrencyLimit, Outcome, Vegas};
///
/// let limit = Arc::new(ConcurrencyLimit::new(Vegas::default()));
/// let permit = limit.enter()?;
/// // Ask the service, and say how it went.
/// permit.end(Outcome::Answered);
/// assert_eq!(limit.in_flight(), 0);
/// # Ok::<(), tollgate_adaptive::Full>(())
/// ```
///
/// To enter takes one compare-and-swap and no lock. The count is this process's own.
pub struct ConcurrencyLimit {
    control: Mutex<Box<dyn Control>>,
    /// What the control says, so that nobody has to wait for it.
    limit: AtomicU32,
    in_flight: AtomicU32,
    refused: AtomicU64,
}

/// As many are under way as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} requests are under way, as many as the service can bear at the moment")]
pub struct Full {
    /// How many may be under way now.
    pub limit: u32,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered, in whichever way: how long it took tells something.
    Answered,
    /// It failed for want of capacity: a time-out, a refused connection, status 503.
    Overloaded,
    /// It says nothing of what the service can bear: it was cancelled, or failed before it came there.
    Ignored,
}

/// A request's place, until this is dropped.
///
/// Dropped without a word of how the request ended, it tells the control nothing: a request that was cancelled is no measurement.
#[must_use = "once it is dropped, the request is not counted any more"]
pub struct Permit {
    of: Arc<ConcurrencyLimit>,
    began: Instant,
}

impl ConcurrencyLimit {
    /// As many as this control finds.
    pub fn new(control: impl Control + 'static) -> Self {
        Self {
            limit: AtomicU32::new(control.limit()),
            control: Mutex::new(Box::new(control)),
            in_flight: AtomicU32::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Always as many as this.
    pub fn fixed(limit: std::num::NonZeroU32) -> Self {
        Self::new(Fixed(limit))
    }

    /// Takes a place for a request that begins now.
    ///
    /// # Errors
    /// If as many are under way as may be.
    pub fn enter(self: &Arc<Self>) -> Result<Permit, Full> {
        // The counts guard no other memory, so their order among other accesses does not matter.
        let limit = self.limit.load(Ordering::Relaxed);
        let grown = |count: u32| (count < limit).then(|| count + 1);
        if self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok() {
            return Ok(Permit { of: Arc::clone(self), began: Instant::now() });
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(Full { limit })
    }

    /// How many may be under way now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many are under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn learn(&self, outcome: Outcome, took: Duration) {
        let overloaded = match outcome {
            Outcome::Answered => false,
            Outcome::Overloaded => true,
            Outcome::Ignored => return,
        };
        // Also after a panic in a control of the user's own: it would have to bear what it did.
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.observe(&Sample { took, in_flight: self.in_flight(), overloaded });
        self.limit.store(control.limit().max(1), Ordering::Relaxed);
    }
}

impl Permit {
    /// Counts the time of the request from now on: for those that had to wait for something else first.
    pub fn restart(&mut self) {
        self.began = Instant::now();
    }

    /// Says how the request ended, now, and gives up its place.
    pub fn end(self, outcome: Outcome) {
        self.tell(outcome);
    }

    /// Says how the request ended that took so long, and gives up its place: for those whose time somebody else has measured.
    pub fn end_after(self, outcome: Outcome, took: Duration) {
        self.of.learn(outcome, took);
    }

    /// Says how the request was answered, now, and keeps its place until this is dropped: for as long as the rest of the answer is
    /// on its way. Said twice, it counts twice.
    pub fn tell(&self, outcome: Outcome) {
        self.of.learn(outcome, self.began.elapsed());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Entering has added what is taken here.
        self.of.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("began", &self.began).finish_non_exhaustive()
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimit")
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Aimd;
    use std::num::NonZeroU32;

    const TOOK: Duration = Duration::from_millis(10);

    #[test]
    fn a_place_is_free_again_however_its_request_ends() {
        let limit = Arc::new(ConcurrencyLimit::fixed(NonZeroU32::new(2).unwrap()));
        let (first, second) = (limit.enter().unwrap(), limit.enter().unwrap());
        let full = limit.enter().unwrap_err();
        assert_eq!(
            full.to_string(),
            "2 requests are under way, as many as the service can bear at the moment"
        );
        assert_eq!((limit.in_flight(), limit.refused()), (2, 1));
        first.end(Outcome::Answered);
        drop(second);
        assert_eq!(limit.in_flight(), 0);
        assert!(limit.enter().is_ok());
    }

    #[test]
    fn what_is_dropped_or_ignored_is_no_measurement() {
        let limit = Arc::new(ConcurrencyLimit::new(Aimd::default()));
        drop(limit.enter().unwrap());
        limit.enter().unwrap().end_after(Outcome::Ignored, TOOK);
        assert_eq!(limit.limit(), 20);
        limit.enter().unwrap().end_after(Outcome::Overloaded, TOOK);
        assert_eq!(limit.limit(), 18);
    }

    #[test]
    fn threads_never_hold_more_than_may_be() {
        let limit = Arc::new(ConcurrencyLimit::fixed(NonZeroU32::new(3).unwrap()));
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(permit) = limit.enter() {
                            most.fetch_max(limit.in_flight(), Ordering::Relaxed);
                            permit.end(Outcome::Answered);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(limit.in_flight(), 0);
    }
}
