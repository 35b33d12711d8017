//! As many requests as the limit: about those that are answered in the time of one.

use super::Sample;

/// Fewer tell too little, however low the limit is.
const SAMPLES_MIN: u32 = 20;

/// The requests of a round, so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    count: u32,
    took_ns: f64,
    in_flight: u32,
    overloaded: bool,
}

/// How a round of requests fared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// How long they took on average, in nanoseconds.
    pub(super) took_ns: f64,
    /// The most that were under way.
    pub(super) in_flight: u32,
    /// Whether any failed for want of capacity.
    pub(super) overloaded: bool,
}

impl Round {
    /// Adds a request. A summary once there are as many as the limit; then a new round begins.
    pub(super) fn add(&mut self, sample: &Sample, limit: u32) -> Option<Summary> {
        self.count += 1;
        // Exact up to 104 days, and near enough beyond.
        #[allow(clippy::cast_precision_loss)]
        let took_ns = sample.took.as_nanos().max(1) as f64;
        self.took_ns += took_ns;
        self.in_flight = self.in_flight.max(sample.in_flight);
        self.overloaded |= sample.overloaded;
        if self.count < limit.max(SAMPLES_MIN) {
            return None;
        }
        let round = std::mem::take(self);
        Some(Summary {
            took_ns: round.took_ns / f64::from(round.count),
            in_flight: round.in_flight,
            overloaded: round.overloaded,
        })
    }
}
