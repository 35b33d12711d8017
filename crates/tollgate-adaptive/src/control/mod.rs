//! How many requests may be under way, learned from how those fare that were.
//!
//! A control is a state machine over samples: it has no clock, no lock and no thread, so the same samples always lead to the
//! same limit.

mod aimd;
mod delay;
mod gradient;
mod round;
mod vegas;

use std::fmt;
use std::time::Duration;

pub use self::aimd::Aimd;
pub use self::gradient::Gradient;
pub use self::vegas::Vegas;

/// How one request fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How long it took to be answered.
    pub took: Duration,
    /// How many were under way when it ended, itself among them.
    pub in_flight: u32,
    /// Whether it failed for want of capacity: a time-out, a refused connection, status 503.
    pub overloaded: bool,
}

/// Finds a limit on what may be under way.
///
/// To make one's own, implement this; [`ConcurrencyLimit`](crate::ConcurrencyLimit) takes any.
pub trait Control: fmt::Debug + Send {
    /// The most that may be under way now: at least 1.
    fn limit(&self) -> u32;

    /// Learns from a request that has ended.
    fn observe(&mut self, sample: &Sample);
}

/// Always the same limit, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(pub std::num::NonZeroU32);

impl Control for Fixed {
    fn limit(&self) -> u32 {
        self.0.get()
    }

    fn observe(&mut self, _: &Sample) {}
}

/// Between what a limit stays, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    least: u32,
    most: u32,
    initial: u32,
}

/// Why bounds cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a limit cannot begin at {initial} and stay between {least} and {most}; the least is 1, the most {LIMIT_MAX}, and it \
     begins between them"
)]
pub struct BoundsError {
    least: u32,
    most: u32,
    initial: u32,
}

/// What no limit on requests under way needs to be above.
pub const LIMIT_MAX: u32 = 1_000_000;

impl Bounds {
    /// A limit that begins at `initial` and stays between `least` and `most`.
    ///
    /// # Errors
    /// Unless 1 ≤ `least` ≤ `initial` ≤ `most` ≤ [`LIMIT_MAX`].
    pub const fn new(least: u32, initial: u32, most: u32) -> Result<Self, BoundsError> {
        if 1 <= least && least <= initial && initial <= most && most <= LIMIT_MAX {
            Ok(Self { least, most, initial })
        } else {
            Err(BoundsError { least, most, initial })
        }
    }

    fn initial(self) -> f64 {
        self.initial.into()
    }

    fn clamp(self, limit: f64) -> f64 {
        // Not a number is what no formula here gives; were it one, the least would be safe.
        limit.max(self.least.into()).min(self.most.into())
    }
}

/// Between 1 and 1,000, beginning at 20.
impl Default for Bounds {
    fn default() -> Self {
        Self { least: 1, most: 1_000, initial: 20 }
    }
}

/// A limit in whole requests.
// It is within bounds, so far from where a cast would cut anything off.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(limit: f64) -> u32 {
    (limit as u32).max(1)
}

/// What a limit is multiplied by when requests fail for want of capacity.
const BACKOFF: f64 = 0.9;

#[cfg(test)]
mod tests;
