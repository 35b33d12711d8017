//! What limits adapt to.

use std::num::NonZeroU32;
use std::time::Duration;

use tollgate_adaptive::{Aimd, Bounds, ConcurrencyLimit, Gradient, Thresholds, Vegas};
use tollgate_core::{Level, Nanos, Scaling};

/// Whose health a policy's limits follow, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adaptive {
    pub(crate) to: String,
    pub(crate) scaling: Scaling,
}

impl Adaptive {
    /// The service, by its name.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// How much of the limits holds at which level.
    pub const fn scaling(&self) -> Scaling {
        self.scaling
    }
}

/// How it is known how a service fares: an entry of `health` in a policy file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HealthRules {
    /// The service.
    pub name: String,
    /// By the share of its requests that fail, from 0 to 1.
    pub errors: Option<Thresholds>,
    /// By a percentile of how long its requests take, from 0 to 100, in seconds.
    pub latency: Option<(f64, Thresholds)>,
    /// By the share of this machine's processors that is busy, from 0 to 1.
    pub cpu: Option<Thresholds>,
    /// How it fares while the store that nodes share is away.
    pub store: Option<Level>,
    /// How long all must say that things are better before they are believed.
    pub dwell: Nanos,
}

/// How much of a service may be under way at once: an entry of `concurrency` in a policy file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConcurrencyRules {
    /// The service.
    pub name: String,
    /// How the limit is found.
    pub control: ControlKind,
    /// After how long a place is free again whose holder says nothing.
    pub ttl: Nanos,
}

/// How a limit on what is under way is found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ControlKind {
    /// It is said.
    Fixed(NonZeroU32),
    /// See [`Aimd`].
    Aimd {
        /// Between which it stays.
        bounds: Bounds,
        /// What takes longer counts as failed.
        slow_above: Duration,
    },
    /// See [`Vegas`].
    Vegas {
        /// Between which it stays.
        bounds: Bounds,
    },
    /// See [`Gradient`].
    Gradient {
        /// Between which it stays.
        bounds: Bounds,
        /// How many times as long as with few others requests may take, if that is not the usual.
        tolerance: Option<f64>,
    },
}

impl ControlKind {
    /// A limit that is found in this way, as it begins.
    pub fn limit(&self) -> ConcurrencyLimit {
        match *self {
            Self::Fixed(limit) => ConcurrencyLimit::fixed(limit),
            Self::Aimd { bounds, slow_above } => {
                ConcurrencyLimit::new(Aimd::new(bounds).slow_above(slow_above))
            }
            Self::Vegas { bounds } => ConcurrencyLimit::new(Vegas::new(bounds)),
            Self::Gradient { bounds, tolerance } => {
                let control = Gradient::new(bounds);
                ConcurrencyLimit::new(match tolerance {
                    Some(tolerance) => control.tolerance(tolerance),
                    None => control,
                })
            }
        }
    }
}
