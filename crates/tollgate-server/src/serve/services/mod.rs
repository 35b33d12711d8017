//! The services that limits adapt to.
//!
//! * [`Watched`]: how they fare, for policies; looked at once a second.
//! * [`places`]: how much of them may be under way at once.
//! * [`routes`]: where they are told of, and asked for.

mod places;
pub(super) mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tollgate::adaptive::CpuError;
use tollgate::{Clock, Config, Level, ServiceHealth, Services};

use self::places::Places;
use super::api::App;

pub(super) use self::places::PlacesSeen;

/// How often all services are looked at.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// All services of the policy file.
#[derive(Debug)]
pub(super) struct Watched {
    services: ArcSwap<Services>,
    places: Places,
    /// Whether the store could be asked when somebody looked last.
    is_store_there: Arc<AtomicBool>,
}

impl Watched {
    /// Those of this configuration.
    ///
    /// # Errors
    /// If the processor's time is to be heeded and cannot be known.
    pub(super) fn new(config: &Config) -> Result<Self, CpuError> {
        let is_store_there = Arc::new(AtomicBool::new(true));
        let services = Services::new(config, reader(&is_store_there))?;
        let places = Places::new(&config.concurrency);
        Ok(Self { services: ArcSwap::from_pointee(services), places, is_store_there })
    }

    /// What follows if this configuration is put in force: to be [put in force](Self::put_in_force) with it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn succeeded_by(&self, config: &Config) -> Result<Arc<Services>, CpuError> {
        self.services.load().succeed(config, reader(&self.is_store_there))
    }

    pub(super) fn put_in_force(&self, services: Arc<Services>, config: &Config) {
        self.services.store(services);
        self.places.succeed(&config.concurrency);
    }

    /// How they fared when somebody looked last.
    pub(super) fn health(&self) -> Vec<ServiceHealth> {
        self.services.load().seen()
    }

    /// How much of them is under way.
    pub(super) fn places(&self) -> Vec<PlacesSeen> {
        self.places.seen()
    }

    /// Looks at them again and again, and lets policies adapt.
    pub(super) async fn look_after(app: &App) {
        let mut draining = app.draining.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(BETWEEN_LOOKS) => app.watched.look(app),
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    fn look(&self, app: &App) {
        // Nothing else depends on it.
        self.is_store_there.store(app.gate.store().is_available().unwrap_or(true), Ordering::Relaxed);
        for ServiceHealth { name, level, blamed, .. } in self.services.load().look() {
            if !app.gate.set_level_at(app.clock.now(), &name, level) {
                continue;
            }
            if level == Level::Good {
                tracing::info!(target: "tollgate::health", service = name, "the service is well again");
            } else {
                tracing::warn!(target: "tollgate::health", service = name, %level, blamed, "limits are reduced");
            }
        }
        self.places.sweep();
    }
}

fn reader(flag: &Arc<AtomicBool>) -> impl Fn() -> bool + Clone + Send + 'static {
    let flag = Arc::clone(flag);
    move || flag.load(Ordering::Relaxed)
}
