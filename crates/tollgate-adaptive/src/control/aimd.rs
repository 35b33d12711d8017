//! Additive increase, multiplicative decrease.

use std::time::Duration;

use super::{BACKOFF, Bounds, Control, Sample, whole};

/// Additive increase, multiplicative decrease: as long as all goes well, one more in each round of requests; when one fails for
/// want of capacity, or takes too long, a tenth less.
///
/// It needs to be told what too long is, or a service that has time-outs; then it finds the limit from any start, and several
/// of them that share a service come to equal parts: D.-M. Chiu and R. Jain, *Analysis of the increase and decrease algorithms
/// for congestion avoidance in computer networks*, 1989.
///
/// ```
/// use std::time::Duration;
/// use tollgate_adaptive::{Aimd, ConcurrencyLimit};
///
/// let limit = ConcurrencyLimit::new(Aimd::default().slow_above(Duration::from_millis(250)));
/// assert_eq!(limit.limit(), 20);
/// ```
#[derive(Clone, Debug)]
pub struct Aimd {
    bounds: Bounds,
    limit: f64,
    slow_above: Duration,
    /// How many that were under way at the last decrease have not ended yet: they met the same overload, and are no reason to
    /// decrease again.
    recovering: u32,
}

impl Aimd {
    /// Stays within these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, limit: bounds.initial(), slow_above: Duration::MAX, recovering: 0 }
    }

    /// Takes requests that take longer than this for ones that failed.
    #[must_use]
    pub const fn slow_above(mut self, took: Duration) -> Self {
        self.slow_above = took;
        self
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Control for Aimd {
    fn limit(&self) -> u32 {
        whole(self.limit)
    }

    fn observe(&mut self, sample: &Sample) {
        let recovers = self.recovering > 0;
        self.recovering = self.recovering.saturating_sub(1);
        if sample.overloaded || sample.took > self.slow_above {
            if !recovers {
                self.limit = self.bounds.clamp(self.limit * BACKOFF);
                self.recovering = sample.in_flight.saturating_sub(1);
            }
        } else if f64::from(sample.in_flight) * 2.0 >= self.limit {
            // What is hardly used tells nothing of how much more would go well. In as many as the limit this sums up to one.
            self.limit = self.bounds.clamp(self.limit + 1.0 / self.limit);
        }
    }
}
