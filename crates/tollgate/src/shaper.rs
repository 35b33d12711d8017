//! Waiting for one's turn.

use std::fmt;
use std::time::Duration;

use tollgate_core::{Decision, Key, LimitError, Quota, Retry};
use tollgate_store::{LocalStore, MemoryStore};

use crate::keyed::KeyedLimiter;
use crate::line::Line;
use crate::plugin::Observers;
use crate::reservation::Reservation;

/// Makes callers wait in place of denying them: a leaky bucket as a queue, for each key by itself.
///
/// Who asks is given a moment at which to go on: at once while there is a burst left, and after that one after the other, as
/// fast as the quota says. They go in the order in which they asked. When the queue is full, callers are denied.
///
/// A queue is nothing but one more state of a limit: who waits for nobody costs nothing, and no task runs.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Quota, Shaper};
///
/// // Ten a second, of which ten may come at once; a hundred may wait.
/// let shaper = Shaper::<str>::new(Quota::per_second(10), 100)?;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// for _ in 0..12 {
///     // The eleventh waits for a tenth of a second, the twelfth for two.
///     shaper.until_ready("example.com").await.expect("the queue is not full");
/// }
/// # });
/// # Ok::<(), tollgate::LimitError>(())
/// ```
#[derive(Debug)]
pub struct Shaper<K: ?Sized, S = MemoryStore> {
    /// Of a limit that holds the burst and the queue.
    limiter: KeyedLimiter<K, S>,
    line: Line,
}

impl<K: Key + ?Sized> Shaper<K> {
    /// Lets callers through at this rate, as many at once as it counts, and lets so many wait beyond, in memory.
    ///
    /// # Errors
    /// If burst and queue together are more than a limit can hold.
    pub fn new(quota: Quota, queue: u64) -> Result<Self, LimitError> {
        Self::with_store(quota, quota.count(), queue, MemoryStore::default())
    }
}

impl<K: Key + ?Sized, S> Shaper<K, S> {
    /// Lets callers through at this rate, `burst` at once, and lets so many wait beyond, on this store, which should serve
    /// nothing else.
    ///
    /// # Errors
    /// If the burst is zero, or burst and queue together are more than a limit can hold.
    pub fn with_store(quota: Quota, burst: u64, queue: u64, store: S) -> Result<Self, LimitError> {
        let (line, limit) = Line::new(quota, burst, queue)?;
        Ok(Self { limiter: KeyedLimiter::with_store(limit, store), line })
    }

    /// The same shaper, whose callers these [observers](crate::plugin) see as they take their places: with how long each has to
    /// wait.
    #[must_use]
    pub fn with_observers(mut self, observers: Observers) -> Self {
        self.limiter = self.limiter.with_observers(observers);
        self
    }
}

impl<K: Key + ?Sized, S: LocalStore> Shaper<K, S> {
    /// Takes a place in the queue.
    ///
    /// # Errors
    /// The decision, if the queue is full: it says when there will be room.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate::{Quota, Shaper};
    ///
    /// let shaper = Shaper::<str>::new(Quota::per_hour(1), 1)?;
    /// let first = shaper.turn("job", 1).unwrap();
    /// assert_eq!(first.delay(), Duration::ZERO);
    /// first.take();
    /// let second = shaper.turn("job", 1).unwrap();
    /// assert!(second.delay() > Duration::from_secs(3_590));
    /// assert!(shaper.turn("job", 1).is_err());
    /// // Who does not come gives the place back.
    /// drop(second);
    /// assert!(shaper.turn("job", 1).is_ok());
    /// # Ok::<(), tollgate::LimitError>(())
    /// ```
    pub fn turn(&self, key: &K, cost: u32) -> Result<Turn<'_, K, S>, Decision> {
        let (reservation, delay) =
            self.limiter.reserve_decided(key, cost, |decision| self.line.delay(decision))?;
        Ok(Turn { shaper: self, reservation: Some(reservation), delay })
    }

    /// Waits until it is one's turn. Dropped before, it gives its place back.
    ///
    /// # Errors
    /// The decision, at once, if the queue is full: it says when there will be room.
    pub async fn until_ready(&self, key: &K) -> Result<(), Decision> {
        self.until_ready_n(key, 1).await
    }

    /// Waits until it is one's turn with so many units.
    ///
    /// # Errors
    /// The decision, at once, if the queue is full, or if it could never hold so many.
    pub async fn until_ready_n(&self, key: &K, cost: u32) -> Result<(), Decision> {
        self.turn(key, cost)?.wait().await;
        Ok(())
    }

    /// Waits until it is one's turn, if that comes within `patience`.
    ///
    /// # Errors
    /// The decision, at once, if the queue is full or the turn would come later than that: its `retry_after` says by when one
    /// could go.
    pub async fn until_ready_within(&self, key: &K, patience: Duration) -> Result<(), Decision> {
        let turn = self.turn(key, 1)?;
        if turn.delay() > patience {
            let delay = turn.delay();
            drop(turn);
            let mut denied = self.limiter.status(key);
            denied.allowed = false;
            denied.retry_after = Retry::After(delay.into());
            return Err(denied);
        }
        turn.wait().await;
        Ok(())
    }
}

/// A place in the queue of a [`Shaper`]. Dropped before it was [taken](Self::take), it is given back.
#[must_use = "dropped, the place is given back"]
pub struct Turn<'s, K: Key + ?Sized, S: LocalStore = MemoryStore> {
    shaper: &'s Shaper<K, S>,
    /// Nothing once it was taken.
    reservation: Option<Reservation>,
    delay: Duration,
}

impl<K: Key + ?Sized, S: LocalStore> Turn<'_, K, S> {
    /// How long after it was asked for it comes.
    pub const fn delay(&self) -> Duration {
        self.delay
    }

    /// Takes it, without waiting here.
    pub fn take(mut self) {
        self.reservation = None;
    }

    /// Waits for it, on Tokio's clock, and takes it.
    pub async fn wait(self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.take();
    }
}

impl<K: Key + ?Sized, S: LocalStore> Drop for Turn<'_, K, S> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.shaper.limiter.refund(reservation);
        }
    }
}

impl<K: Key + ?Sized, S: LocalStore> fmt::Debug for Turn<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("delay", &self.delay).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use tollgate_core::{Clock, Nanos, Timestamp};
    use tollgate_store::MemoryOptions;

    use super::*;

    /// Tokio's clock, which tests wind forward.
    struct TokioClock(tokio::time::Instant);

    impl Clock for TokioClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(1_800_000_000).saturating_add(Nanos::from(self.0.elapsed()))
        }
    }

    type Tested = Shaper<str, MemoryStore<TokioClock>>;

    fn shaper(quota: Quota, burst: u64, queue: u64) -> Tested {
        let clock = TokioClock(tokio::time::Instant::now());
        let store = MemoryStore::with_clock(clock, MemoryOptions::default());
        Shaper::with_store(quota, burst, queue, store).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn places_come_one_after_the_other_until_the_queue_is_full() {
        let shaper = shaper(Quota::per_second(1), 2, 3);
        let delays: Vec<u64> = (0..5)
            .map(|_| {
                let turn = shaper.turn("a", 1).unwrap();
                let delay = turn.delay().as_secs();
                turn.take();
                delay
            })
            .collect();
        assert_eq!(delays, [0, 0, 1, 2, 3]);
        let full = shaper.turn("a", 1).unwrap_err();
        assert_eq!(full.retry_after.duration(), Some(Duration::from_secs(1)));
        // Another key has a queue of its own.
        assert_eq!(shaper.turn("b", 2).unwrap().delay(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(shaper.turn("a", 1).unwrap().delay(), Duration::from_secs(3));
        assert!(shaper.turn("a", 9).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn many_go_in_order_and_at_the_rate() {
        let shaper = Arc::new(shaper(Quota::per_second(100), 1, 1_000));
        let began = tokio::time::Instant::now();
        let tasks: Vec<_> = (0..200_u64)
            .map(|number| {
                let shaper = Arc::clone(&shaper);
                tokio::spawn(async move {
                    shaper.until_ready("a").await.unwrap();
                    (number, began.elapsed())
                })
            })
            .collect();
        let mut went = Vec::new();
        for task in tasks {
            went.push(task.await.unwrap());
        }
        for (number, at) in went {
            let due = Duration::from_millis(10 * number);
            // Tokio's timers count in milliseconds, and round up.
            assert!(at >= due && at <= due + Duration::from_millis(2), "{number}: {at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_gives_the_place_back() {
        let shaper = shaper(Quota::per_second(1), 1, 1);
        shaper.until_ready("a").await.unwrap();
        for _ in 0..10 {
            let waiting = shaper.until_ready("a");
            assert!(tokio::time::timeout(Duration::from_millis(1), waiting).await.is_err());
        }
        assert!(shaper.turn("a", 1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_patience_is_told_at_once() {
        let shaper = shaper(Quota::per_second(1), 1, 10);
        shaper.until_ready("a").await.unwrap();
        let began = tokio::time::Instant::now();
        let denied = shaper.until_ready_within("a", Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(denied.retry_after.duration(), Some(Duration::from_secs(1)));
        assert!(!denied.allowed && began.elapsed().is_zero());
        shaper.until_ready_within("a", Duration::from_secs(1)).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 1);
    }

    #[test]
    fn a_queue_that_no_limit_can_hold_is_refused() {
        assert!(Shaper::<str>::new(Quota::per_second(1), u64::MAX).is_err());
        let no_burst = Shaper::<str, _>::with_store(Quota::per_second(1), 0, 5, MemoryStore::default());
        assert!(no_burst.is_err());
    }
}
