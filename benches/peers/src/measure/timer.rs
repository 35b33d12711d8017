//! How long something took, from the processor's own counter where there is one.

use std::hint::black_box;

use hdrhistogram::Histogram;
use quanta::Clock;

use crate::error::Error;

/// A clock whose readings are not fenced: the processor may start on a decision before the clock is read and end it
/// after, as it does between two decisions in a program.
#[derive(Clone, Debug)]
pub(super) struct Timer(Clock);

impl Timer {
    pub(super) fn new() -> Self {
        Self(Clock::new())
    }

    /// Now, in ticks.
    pub(super) fn ticks(&self) -> u64 {
        self.0.raw()
    }

    /// So many ticks as nanoseconds.
    pub(super) fn nanos(&self, ticks: u64) -> u64 {
        self.0.delta_as_nanos(0, ticks)
    }

    /// What two readings with nothing between them make of it, in nanoseconds, on average.
    // A number for people.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn own_cost(&self) -> f64 {
        const READINGS: u64 = 100_000;
        let started = self.ticks();
        for _ in 0..READINGS {
            black_box(self.ticks());
        }
        self.nanos(self.ticks() - started) as f64 / READINGS as f64
    }
}

/// Times in ticks, to three digits.
pub(super) fn histogram() -> Result<Histogram<u64>, Error> {
    // No measurement lasts longer than this many ticks: an hour at more than a tick a nanosecond.
    const LONGEST: u64 = 1 << 44;
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| Error::refused("the histogram", error))
}
