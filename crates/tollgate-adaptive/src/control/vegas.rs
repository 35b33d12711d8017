//! TCP Vegas.

use super::delay::Delay;
use super::{Bounds, Control, Sample};

/// As TCP Vegas: keeps a few requests waiting in the service, no more and no fewer.
///
/// Of `limit` requests that are under way, `limit × (1 − base ÷ took)` wait, where `took` is how long they take, and `base` how long
/// they take with few others. While that is below α, the limit rises by one in each round of requests; above β it
/// falls by one. L. Brakmo and L. Peterson, *TCP Vegas: End to end congestion avoidance on a global internet*, 1995. There α and β are 2 and 4
/// packets; here they are half of the limit's square root and the whole of it, as the queue of many requests also
/// fluctuates by more. When requests fail for want of capacity, a tenth less may be under way.
///
/// It needs nothing to be told, and reacts before anything fails.
///
/// ```
/// use tollgate_adaptive::{Bounds, ConcurrencyLimit, Vegas};
///
/// let limit = ConcurrencyLimit::new(Vegas::new(Bounds::new(4, 50, 500)?));
/// // Half of what it begins with, until it is known how long requests take with few others.
/// assert_eq!(limit.limit(), 25);
/// # Ok::<(), tollgate_adaptive::BoundsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Vegas(Delay);

impl Vegas {
    /// Stays within these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self(Delay::new(bounds))
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Control for Vegas {
    fn limit(&self) -> u32 {
        self.0.limit()
    }

    fn observe(&mut self, sample: &Sample) {
        self.0.observe(sample, next);
    }
}

fn next(limit: f64, share: f64) -> f64 {
    let waiting = limit * (1.0 - share);
    let beta = limit.sqrt().max(2.0);
    let alpha = beta / 2.0;
    if waiting < alpha {
        limit + 1.0
    } else if waiting > beta {
        limit - 1.0
    } else {
        limit
    }
}
