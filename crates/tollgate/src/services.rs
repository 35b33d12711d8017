//! The services that a policy file looks after: how they fare, and what policies have of that.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tollgate_adaptive::{Cpu, CpuError, ErrorRate, Latency, Monitor, Outcomes};
use tollgate_core::Level;
use tollgate_policy::{Config, HealthRules};

/// How the services fare that stand under `health` in a policy file.
///
/// Whoever knows how requests to a service end [notes](Self::note) it, or has middleware do so; a service that checks itself
/// [tells](Self::tell) its level. Once a second or so somebody [looks](Self::look) at all of them, and tells the gate.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Config, Format, Gate, Level, Services};
///
/// let config = Config::parse("inline", "
///     health: { orders: { errors: { degraded: 5%, bad: 25% } } }
///     policies: [{ name: api, key: ip, limit: 100/minute, adaptive: orders }]
/// ", Format::Yaml, &[])?;
/// let services = Services::new(&config, || true)?;
/// let gate = Gate::new(config);
/// for _ in 0..20 {
///     services.note("orders", Duration::from_millis(30), true, 1)?;
/// }
/// // In a loop of a thread or a task of yours:
/// for service in services.look() {
///     gate.set_level(&service.name, service.level);
/// }
/// assert_eq!(gate.policies().level_of("orders"), Level::Bad);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Services {
    all: Vec<Service>,
    began: Instant,
}

struct Service {
    rules: HealthRules,
    outcomes: Arc<Outcomes>,
    told: Arc<Mutex<Told>>,
    monitor: Mutex<Monitor>,
}

/// What a service has said of itself, and until when that holds.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    level: Level,
    until: Option<Instant>,
}

/// How a service fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceHealth {
    /// The service.
    pub name: String,
    /// How it fares.
    pub level: Level,
    /// What that is owed to: `errors`, `latency`, `cpu`, `store`, or `told`; `None` while all is well.
    pub blamed: Option<String>,
}

/// Nobody looks after a service of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no service `{0}`; services are named under `health:` in the policy file")]
pub struct UnknownService(pub String);

impl Services {
    /// Those of this configuration. `is_store_there` says whether the store that nodes share can be asked, for those that heed it.
    ///
    /// # Errors
    /// If a service goes by the processor's time, and that cannot be known on this system.
    pub fn new(
        config: &Config,
        is_store_there: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Self, CpuError> {
        Self::following(config, None, is_store_there)
    }

    /// Those of the configuration that follows. Services of which the same is said go on as they were.
    ///
    /// # Errors
    /// As [`new`](Self::new); then all may go on as it was.
    pub fn succeed(
        self: &Arc<Self>,
        config: &Config,
        is_store_there: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Arc<Self>, CpuError> {
        if self.all.iter().map(|service| &service.rules).eq(&config.health) {
            return Ok(Arc::clone(self));
        }
        Ok(Arc::new(Self::following(config, Some(self), is_store_there)?))
    }

    /// What services have said goes on being heard; how they are judged begins anew.
    fn following(
        config: &Config,
        former: Option<&Self>,
        is_store_there: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Self, CpuError> {
        let service = |rules: &HealthRules| {
            let former = former.and_then(|former| former.find(&rules.name).ok());
            let told = former.map_or_else(Arc::default, |former| Arc::clone(&former.told));
            Service::new(rules.clone(), told, is_store_there.clone())
        };
        let all = config.health.iter().map(service).collect::<Result<_, _>>()?;
        Ok(Self { all, began: former.map_or_else(Instant::now, |former| former.began) })
    }

    /// Notes requests to a service that have ended, each of which took so long.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn note(&self, name: &str, took: Duration, failed: bool, count: u32) -> Result<(), UnknownService> {
        self.find(name)?.outcomes.note_many(took, failed, count);
        Ok(())
    }

    /// What counts the requests to a service: for middleware.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn outcomes(&self, name: &str) -> Result<Arc<Outcomes>, UnknownService> {
        Ok(Arc::clone(&self.find(name)?.outcomes))
    }

    /// Hears from a service how it is, which holds for so long unless it says so again.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn tell(&self, name: &str, level: Level, holds: Duration) -> Result<(), UnknownService> {
        let told = Told { level, until: Instant::now().checked_add(holds) };
        *lock(&self.find(name)?.told) = told;
        Ok(())
    }

    /// Looks at all services: in even intervals, once a second or so.
    pub fn look(&self) -> Vec<ServiceHealth> {
        let now = self.began.elapsed();
        let look = |service: &Service| {
            let mut monitor = lock(&service.monitor);
            monitor.sample(now);
            service.health(&monitor)
        };
        self.all.iter().map(look).collect()
    }

    /// What was seen when somebody looked last.
    pub fn seen(&self) -> Vec<ServiceHealth> {
        self.all.iter().map(|service| service.health(&lock(&service.monitor))).collect()
    }

    fn find(&self, name: &str) -> Result<&Service, UnknownService> {
        let service = self.all.iter().find(|service| service.rules.name == name);
        service.ok_or_else(|| UnknownService(name.to_owned()))
    }
}

impl Service {
    fn new(
        rules: HealthRules,
        told: Arc<Mutex<Told>>,
        is_store_there: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, CpuError> {
        let outcomes = Arc::new(Outcomes::new());
        let heard = Arc::clone(&told);
        let mut monitor =
            Monitor::default().dwell(rules.dwell.into()).signal("told", move || lock(&heard).now());
        if let Some(thresholds) = rules.errors {
            monitor = monitor.signal("errors", ErrorRate::new(Arc::clone(&outcomes), thresholds));
        }
        if let Some((percentile, thresholds)) = rules.latency {
            let latency = Latency::new(Arc::clone(&outcomes), percentile, thresholds);
            monitor = monitor.signal("latency", latency);
        }
        if let Some(thresholds) = rules.cpu {
            monitor = monitor.signal("cpu", Cpu::new(thresholds)?);
        }
        if let Some(level) = rules.store {
            let without = move || if is_store_there() { Level::Good } else { level };
            monitor = monitor.signal("store", without);
        }
        Ok(Self { rules, outcomes, told, monitor: Mutex::new(monitor) })
    }

    fn health(&self, monitor: &Monitor) -> ServiceHealth {
        let blamed = monitor.blamed().map(str::to_owned);
        ServiceHealth { name: self.rules.name.clone(), level: monitor.level(), blamed }
    }
}

impl Told {
    fn now(self) -> Level {
        if self.until.is_some_and(|until| Instant::now() < until) { self.level } else { Level::Good }
    }
}

/// Locks, also after a panic elsewhere: nothing is ever left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("rules", &self.rules).finish_non_exhaustive()
    }
}
