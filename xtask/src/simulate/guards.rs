//! What may stand before the service.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tollgate_adaptive::{
    Aimd, ConcurrencyLimit, ErrorRate, Gradient, Latency, Monitor, Outcome, Outcomes, Permit, Thresholds,
    Vegas,
};
use tollgate_core::{Level, Limit, Quota, Scaling, State, Timestamp};

use super::{CAPACITY, CORES, SERVICE};

/// Lets requests pass, or not.
pub(super) enum Guard {
    Nothing,
    InFlight(Arc<ConcurrencyLimit>),
    Health(Box<Health>),
}

/// A rate limit that is scaled by the health of what is behind it.
pub(super) struct Health {
    outcomes: Arc<Outcomes>,
    monitor: Monitor,
    limits: [Limit; 3],
    level: Level,
    state: State,
}

/// How many may come at once.
const BURST: u64 = 12;

/// What a request holds while it is under way.
pub(super) type Held = Option<Permit>;

/// All of them, by what they are called.
pub(super) fn all() -> Result<[(&'static str, Guard); 6], Box<dyn std::error::Error>> {
    let fixed = NonZeroU32::new(CORES).ok_or("a service needs cores")?;
    let in_flight = |limit| Guard::InFlight(Arc::new(limit));
    Ok([
        ("no limit", Guard::Nothing),
        ("fixed for good days", in_flight(ConcurrencyLimit::fixed(fixed))),
        ("AIMD", in_flight(ConcurrencyLimit::new(Aimd::default().slow_above(SERVICE * 2)))),
        ("Vegas", in_flight(ConcurrencyLimit::new(Vegas::default()))),
        ("gradient", in_flight(ConcurrencyLimit::new(Gradient::default()))),
        ("rate, scaled by health", Guard::Health(Box::new(Health::new()?))),
    ])
}

impl Guard {
    /// Whether a request may begin: what it holds then.
    pub(super) fn enter(&mut self, now: Timestamp) -> Option<Held> {
        match self {
            Self::Nothing => Some(None),
            Self::InFlight(limit) => limit.enter().ok().map(Some),
            Self::Health(health) => {
                let limit = &health.limits[health.level as usize];
                limit.acquire(&mut health.state, now, 1).decision.allowed.then_some(None)
            }
        }
    }

    /// A request that passed was answered within the time-out, or was not.
    pub(super) fn leave(&mut self, held: Held, took: Duration, failed: bool) {
        if let Some(permit) = held {
            permit.end_after(if failed { Outcome::Overloaded } else { Outcome::Answered }, took);
        }
        if let Self::Health(health) = self {
            health.outcomes.note(took, failed);
        }
    }

    /// A quarter of a second has gone by.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let Self::Health(health) = self else { return };
        let level = health.monitor.sample(Duration::from_nanos(now.as_nanos()));
        if level != health.level {
            let (former, latter) = (&health.limits[health.level as usize], &health.limits[level as usize]);
            health.state = latter.carried_over(former, &health.state, now);
            health.level = level;
        }
    }
}

impl Health {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let outcomes = Arc::new(Outcomes::new());
        let errors = ErrorRate::new(Arc::clone(&outcomes), Thresholds::new(0.02, 0.2)?);
        let service_s = SERVICE.as_secs_f64();
        let thresholds = Thresholds::new(service_s * 2.0, service_s * 6.0)?;
        let latency = Latency::new(Arc::clone(&outcomes), 90.0, thresholds);
        let monitor = Monitor::default()
            .signal("errors", errors)
            .signal("latency", latency)
            .dwell(Duration::from_secs(4));
        // Nearly what the service can bear on good days.
        let base = Limit::gcra_with_burst(Quota::per_second(CAPACITY * 19 / 20), BURST)?;
        let at = |level| base.scaled(Scaling::default().at(level));
        let limits = [at(Level::Good)?, at(Level::Degraded)?, at(Level::Bad)?];
        let state = base.fresh(Timestamp::EPOCH);
        Ok(Self { outcomes, monitor, limits, level: Level::Good, state })
    }
}
