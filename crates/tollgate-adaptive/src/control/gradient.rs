//! The gradient of latency.

use super::delay::Delay;
use super::{Bounds, Control, Sample};

/// Scales the limit by how much longer requests take than with few others.
///
/// After each round of requests, `limit × gradient + √limit` is aimed at, where the gradient is `tolerance × base ÷ took`, between ½
/// and 1: `took` is how long requests take, `base` how long with few others. The limit goes a fifth of the way
/// there. It is the rule of Netflix's `concurrency-limits` (`GradientLimit`) and of Envoy's adaptive concurrency
/// filter. It falls faster than [`Vegas`](super::Vegas) when a service suddenly becomes slow. When requests fail for want of
/// capacity, a tenth less may be under way.
///
/// ```
/// use tollgate_adaptive::{ConcurrencyLimit, Gradient};
///
/// // For a service that takes twice as long with some others than alone, and is well.
/// let limit = ConcurrencyLimit::new(Gradient::default().tolerance(2.0));
/// assert!(limit.limit() <= 20);
/// ```
#[derive(Clone, Debug)]
pub struct Gradient {
    delay: Delay,
    tolerance: f64,
}

/// How much of the way to the limit that is aimed at is gone in a round.
const STEP: f64 = 0.2;

impl Gradient {
    /// Stays within these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { delay: Delay::new(bounds), tolerance: 1.1 }
    }

    /// How many times as long as with few others requests may take before the limit falls: 1 to 10, by default 1.1. What is
    /// outside is taken for the nearest of these.
    #[must_use]
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = if tolerance.is_nan() { 1.0 } else { tolerance.clamp(1.0, 10.0) };
        self
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Control for Gradient {
    fn limit(&self) -> u32 {
        self.delay.limit()
    }

    fn observe(&mut self, sample: &Sample) {
        let tolerance = self.tolerance;
        self.delay.observe(sample, |limit, share| {
            let gradient = (tolerance * share).clamp(0.5, 1.0);
            let aim = limit * gradient + limit.sqrt();
            limit + (aim - limit) * STEP
        });
    }
}
