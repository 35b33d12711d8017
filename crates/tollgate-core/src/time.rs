//! Points in time, lengths of time, and where they come from.
//!
//! All of Tollgate counts time in whole nanoseconds held in a `u64`: a [`Timestamp`] is a point (nanoseconds since
//! the Unix epoch, good until the year 2554), a [`Nanos`] is a length. Both saturate instead of overflowing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A length of time in nanoseconds, from 0 to about 584 years.
///
/// ```
/// use std::time::Duration;
/// use tollgate_core::Nanos;
///
/// let second = Nanos::from_secs(1);
/// assert_eq!(Duration::from(second), Duration::from_secs(1));
/// assert_eq!(Nanos::from(Duration::MAX), Nanos::MAX);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest length that can be said.
    pub const MAX: Self = Self(u64::MAX);

    /// A length of `nanos` nanoseconds.
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A length of `secs` seconds; saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// A length of `millis` milliseconds; saturates.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The length in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The length in whole seconds, rounded up: what `Retry-After` needs.
    ///
    /// ```
    /// # use tollgate_core::Nanos;
    /// assert_eq!(Nanos::new(1).as_secs_ceil(), 1);
    /// assert_eq!(Nanos::ZERO.as_secs_ceil(), 0);
    /// ```
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000_000)
    }

    /// Whether this is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Duration> for Nanos {
    /// Saturates at [`Nanos::MAX`].
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(nanos: Nanos) -> Self {
        Duration::from_nanos(nanos.0)
    }
}

/// Writes the length as a person would say it: `1.5s`, `20ms`, `2h`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] =
            [(86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "min")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{:?}", Duration::from(*self)),
        }
    }
}

/// A point in time: nanoseconds since the Unix epoch.
///
/// ```
/// use tollgate_core::{Nanos, Timestamp};
///
/// let noon = Timestamp::from_secs(43_200);
/// let later = noon.saturating_add(Nanos::from_secs(5));
/// assert_eq!(later.since(noon), Nanos::from_secs(5));
/// assert_eq!(noon.since(later), Nanos::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last point that can be said.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point `secs` seconds after the Unix epoch; saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// The point `length` later, or the last one that can be said.
    #[must_use]
    pub const fn saturating_add(self, length: Nanos) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The point `length` earlier, or the Unix epoch.
    #[must_use]
    pub const fn saturating_sub(self, length: Nanos) -> Self {
        Self(self.0.saturating_sub(length.0))
    }

    /// How long after `earlier` this point lies; zero if it does not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where a store reads the time.
///
/// A clock that steps backwards never grants anything: see the crate's front page. Implementations should be
/// monotonic all the same.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// A clock that moves only when it is told to: for tests, simulations and replays. Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use tollgate_core::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_secs(10));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Timestamp::from_secs(12));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(start.0)))
    }

    /// Sets the time, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        // Relaxed: the time is one word, and nothing else is published with it.
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Moves the time forward; saturates.
    pub fn advance(&self, by: Duration) {
        let by = Nanos::from(by).0;
        // Relaxed: as in `set`. The closure always returns a value, so this cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_add(by)));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_like_speech() {
        for (nanos, text) in [
            (0, "0ns"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1min"),
            (90_000_000_000, "90s"),
            (7_200_000_000_000, "2h"),
            (86_400_000_000_000, "1d"),
        ] {
            assert_eq!(Nanos::new(nanos).to_string(), text);
        }
    }

    #[test]
    fn a_manual_clock_saturates() {
        let clock = ManualClock::new(Timestamp::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
