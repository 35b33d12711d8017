//! What the limiters are to allow.

use std::time::Duration;

use crate::arguments::{Arguments, Mode};

/// What becomes of the measured decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All pass.
    Allowed,
    /// All are denied: what they ask for was spent before.
    Denied,
}

impl Outcome {
    /// The name in arguments and results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// A rate with a burst, for each limiter to say in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// So many …
    pub(crate) count: u32,
    /// … in so long.
    pub(crate) period: Duration,
    /// At most so many at once.
    pub(crate) burst: u32,
}

const HOUR: Duration = Duration::from_hours(1);

impl Allowance {
    /// For each of many keys.
    ///
    /// What always passes has a large burst and a slow rate. A fast rate would do as well, but then a key would be as
    /// new again within a microsecond: limiters that forget such keys would be measured at inserting them anew, and those
    /// that look for them at throwing them out. Here a key that came once is under way for three minutes, longer than any
    /// measurement lasts. Nor is the rate as slow as it might be: the whole burst takes 5.7 years to come back, and Tollgate
    /// keeps states of up to nine in a word, as it does for all limits that people set.
    pub(crate) const fn keyed(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allowed => Self { count: 20, period: HOUR, burst: 1_000_000 },
            Outcome::Denied => Self { count: 1, period: HOUR, burst: 1 },
        }
    }

    /// For one limiter that all decisions meet: no burst would outlast them, so the rate is above what a machine can
    /// ask.
    pub(crate) const fn direct(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allowed => {
                Self { count: 1_000_000_000, period: Duration::from_secs(1), burst: 1_000_000_000 }
            }
            Outcome::Denied => Self::keyed(Outcome::Denied),
        }
    }

    /// The rate in units a second.
    pub(crate) fn per_second(self) -> f64 {
        f64::from(self.count) / self.period.as_secs_f64()
    }

    /// The time in which one unit comes back.
    pub(crate) fn interval(self) -> Duration {
        self.period / self.count
    }
}

/// What a peer is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// How many keys there will be.
    pub(crate) keys: usize,
    /// Whether a limiter may make room for them at once, if its documentation says how. Not where its growth is measured.
    pub(crate) presized: bool,
    /// What becomes of the decisions.
    pub(crate) outcome: Outcome,
    /// What each key, or the only limiter, is to allow.
    pub(crate) allowance: Allowance,
}

impl Setup {
    /// What the arguments ask for, from a limiter with keys or without.
    pub(crate) fn new(arguments: &Arguments, keyed: bool) -> Self {
        let outcome = arguments.outcome;
        Self {
            keys: arguments.keys as usize,
            presized: !matches!(arguments.mode, Mode::Memory | Mode::Growth),
            outcome,
            allowance: if keyed { Allowance::keyed(outcome) } else { Allowance::direct(outcome) },
        }
    }
}
