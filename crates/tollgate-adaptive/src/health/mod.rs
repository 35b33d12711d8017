//! How well a service fares, by what can be seen of it.

mod cpu;
mod outcomes;
mod thresholds;

use std::fmt;
use std::time::Duration;

use tollgate_core::Level;

pub use self::cpu::{Cpu, CpuError};
pub use self::outcomes::{ErrorRate, Latency, Outcomes};
pub use self::thresholds::{Thresholds, ThresholdsError};

/// Says how well a service fares: a health check of one's own, or one of the signals of this module.
///
/// A closure will do: `|| if database_is_reachable() { Level::Good } else { Level::Bad }`.
pub trait Health: Send {
    /// How it fares now. Asked again and again, in even intervals, by whoever asks the [`Monitor`].
    fn level(&mut self) -> Level;
}

impl<F: FnMut() -> Level + Send> Health for F {
    fn level(&mut self) -> Level {
        self()
    }
}

/// What several signals say together, without haste to believe that all is well again.
///
/// The worst signal decides. It is believed at once when things get worse; when they get better, the level rises by one step only after
/// all signals have said so for some time, the [`dwell`](Self::dwell). If things get worse again within that time of such a step, the next
/// one is waited for twice as long, up to eight times: a service that cannot bear more is not tried again and again.
///
/// ```
/// use std::time::Duration;
/// use tollgate_adaptive::Monitor;
/// use tollgate_core::Level;
///
/// let mut level = Level::Bad;
/// let mut monitor = Monitor::default().signal("check", move || std::mem::take(&mut level));
/// assert_eq!(monitor.sample(Duration::from_secs(0)), Level::Bad);
/// assert_eq!(monitor.sample(Duration::from_secs(1)), Level::Bad);
/// assert_eq!(monitor.sample(Duration::from_secs(11)), Level::Degraded);
/// assert_eq!(monitor.sample(Duration::from_secs(21)), Level::Good);
/// ```
pub struct Monitor {
    signals: Vec<(String, Box<dyn Health>)>,
    dwell: Duration,
    level: Level,
    /// The worst signal.
    blamed: Option<usize>,
    /// Since when all signals say that it is better than the level.
    better_since: Option<Duration>,
    /// The last step to a better level.
    risen_at: Option<Duration>,
    /// How many times the dwell the next step is waited for.
    patience: u32,
}

/// The most times the dwell that a step is waited for.
const PATIENCE_MAX: u32 = 8;

impl Monitor {
    /// Heeds this signal as well. The name is for people.
    #[must_use]
    pub fn signal(mut self, name: impl Into<String>, signal: impl Health + 'static) -> Self {
        self.signals.push((name.into(), Box::new(signal)));
        self
    }

    /// How long all signals must say that things are better before they are believed: 10 seconds by default.
    #[must_use]
    pub const fn dwell(mut self, dwell: Duration) -> Self {
        self.dwell = dwell;
        self
    }

    /// Asks all signals, at this time of any clock that only goes forwards; once a second does well.
    pub fn sample(&mut self, now: Duration) -> Level {
        let (mut worst, mut blamed) = (Level::Good, None);
        for (index, (_, signal)) in self.signals.iter_mut().enumerate() {
            let level = signal.level();
            if level > worst {
                (worst, blamed) = (level, Some(index));
            }
        }
        if worst >= self.level {
            self.better_since = None;
            self.blamed = blamed;
            if worst > self.level {
                let within = |risen_at| now.saturating_sub(risen_at) <= self.dwell;
                if self.risen_at.is_some_and(within) {
                    self.patience = (self.patience * 2).min(PATIENCE_MAX);
                }
                self.level = worst;
            } else if self.level == Level::Good
                && self.risen_at.is_none_or(|at| now.saturating_sub(at) > self.dwell)
            {
                self.patience = 1;
            }
        } else {
            let since = *self.better_since.get_or_insert(now);
            if now.saturating_sub(since) >= self.dwell.saturating_mul(self.patience) {
                self.level = self.level.better();
                (self.better_since, self.risen_at) = (Some(now), Some(now));
            }
        }
        self.level
    }

    /// What the last sample said.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The name of the signal that the level is owed to; `None` while all is well.
    pub fn blamed(&self) -> Option<&str> {
        let index = self.blamed.filter(|_| self.level > Level::Good)?;
        self.signals.get(index).map(|(name, _)| name.as_str())
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            signals: Vec::new(),
            dwell: Duration::from_secs(10),
            level: Level::Good,
            blamed: None,
            better_since: None,
            risen_at: None,
            patience: 1,
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.signals.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Monitor").field("signals", &names).field("level", &self.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
