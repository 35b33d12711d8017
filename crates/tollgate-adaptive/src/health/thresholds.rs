//! From a number to a level.

use tollgate_core::Level;

/// From where on a number is no longer good, and where it is bad.
///
/// A level is left only when the number is below 80 % of where it was entered, so that one which stays near a threshold does not
/// change the level again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    degraded: f64,
    bad: f64,
}

/// Why thresholds cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "{degraded} and {bad} are no thresholds: both must be above 0, and what is bad not below what is degraded"
)]
pub struct ThresholdsError {
    degraded: f64,
    bad: f64,
}

/// How far below where it was entered a level is left.
const LEAVE: f64 = 0.8;

impl Thresholds {
    /// Degraded from the one on, bad from the other. To have only one of the levels, pass `f64::INFINITY` for bad, or the same for both.
    ///
    /// # Errors
    /// Unless 0 < `degraded` ≤ `bad`.
    pub fn new(degraded: f64, bad: f64) -> Result<Self, ThresholdsError> {
        if 0.0 < degraded && degraded <= bad {
            Ok(Self { degraded, bad })
        } else {
            Err(ThresholdsError { degraded, bad })
        }
    }

    /// The level of a number that follows one of the level `before`.
    pub(super) fn level(self, value: f64, before: Level) -> Level {
        let from = |threshold: f64, level| if before >= level { threshold * LEAVE } else { threshold };
        if value >= from(self.bad, Level::Bad) {
            Level::Bad
        } else if value >= from(self.degraded, Level::Degraded) {
            Level::Degraded
        } else {
            Level::Good
        }
    }
}
