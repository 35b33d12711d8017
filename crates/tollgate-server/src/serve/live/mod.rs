//! What happens at this moment: the dashboard at `/`, and the stream that it shows.
//!
//! * [`keys`]: which keys ask the most, in fixed memory; [`history`]: what became of each lately.
//! * [`latency`]: how long decisions take.
//! * [`snapshot`]: a second as JSON.
//! * [`routes`]: the page and the stream.
//!
//! Counting is done elsewhere: once a second a task reads the metrics and sends what has changed to all who look. A decision
//! itself leaves its time here and, if nobody else is just at it, its key.

mod history;
mod keys;
mod latency;
mod routes;
mod snapshot;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tollgate::{Attributes, KeyHash, Verdict};

use self::history::History;
use self::keys::TopKeys;
use self::latency::Latency;
use self::snapshot::{HotKeys, Recent, Sampler, Second};
use super::api::App;

pub(super) use self::history::KeyHistory;
pub(super) use self::routes::routes;

/// How many seconds are remembered for who begins to look.
const HISTORY_S: usize = 300;
/// How many decisions are shown one by one, and how many of a second at most.
const RECENT_MAX: usize = 50;
const RECENT_A_SECOND_MAX: usize = 20;
/// After how many seconds a request counts half among the keys that ask the most.
const HALF_LIFE_S: u64 = 60;

/// What the dashboard knows.
#[derive(Debug)]
pub(super) struct Live {
    latency: Latency,
    history_of_keys: History,
    detail: Mutex<Detail>,
    /// The last second.
    last: watch::Sender<Second>,
    history: Mutex<VecDeque<Second>>,
}

/// What is known of single keys and requests.
#[derive(Debug, Default)]
struct Detail {
    busy: TopKeys,
    denied: TopKeys,
    recent: VecDeque<Recent>,
    /// How many decisions of this second are among the recent ones.
    recent_of_second: usize,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            latency: Latency::default(),
            history_of_keys: History::default(),
            detail: Mutex::default(),
            last: watch::channel(Second::default()).0,
            history: Mutex::default(),
        }
    }

    /// Notes a decision. Nobody waits for it: where several threads are at it, some go unnoticed.
    pub(super) fn decided(&self, verdict: &Verdict, request: &impl Attributes, took: Duration) {
        self.latency.add(took);
        let Some(deciding) = verdict.deciding() else { return };
        let Some(key) = verdict.key_of(deciding.index) else { return };
        self.history_of_keys.add(key, verdict.is_allowed(), unix_ms());
        let mut detail = match self.detail.try_lock() {
            Ok(detail) => detail,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // Those by which it was decided, which may have been replaced meanwhile.
        let policies = verdict.asked().policies();
        let describe = || policies.describe_key(deciding.index, request).unwrap_or_default();
        detail.busy.add(key, deciding.policy.name(), describe);
        if !verdict.is_allowed() {
            detail.denied.add(key, deciding.policy.name(), describe);
        }
        // Denials are what people look for: half of the room is theirs.
        let room = if verdict.is_allowed() { RECENT_A_SECOND_MAX / 2 } else { RECENT_A_SECOND_MAX };
        if detail.recent_of_second < room {
            detail.recent_of_second += 1;
            detail.recent.truncate(RECENT_MAX - 1);
            detail.recent.push_front(Recent::new(verdict, &deciding, describe(), unix_ms()));
        }
    }

    /// Notes a decision that no policy had a part in.
    pub(super) fn counted(&self, took: Duration) {
        self.latency.add(took);
    }

    /// What became of a key's requests lately.
    pub(super) fn history(&self, key: KeyHash) -> Option<KeyHistory> {
        self.history_of_keys.of(key, unix_ms())
    }

    /// The keys that ask the most, and those that are denied the most: so many of each.
    pub(super) fn keys(&self, most: usize) -> HotKeys {
        let detail = lock(&self.detail);
        HotKeys::new(&detail.busy, &detail.denied, most)
    }

    /// Reads, every second, what has changed; ends with the server.
    pub(super) async fn run(&self, app: &App) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut draining = app.draining.subscribe();
        let mut sampler = Sampler::new(app);
        for second in 1_u64.. {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
            let mut detail = lock(&self.detail);
            if second.is_multiple_of(HALF_LIFE_S) {
                detail.busy.halve();
                detail.denied.halve();
            }
            detail.recent_of_second = 0;
            let sampled = sampler.sample(app, &detail.busy, &detail.denied, &detail.recent, &self.latency);
            drop(detail);
            let mut history = lock(&self.history);
            if history.len() == HISTORY_S {
                history.pop_front();
            }
            history.push_back(sampled.clone());
            drop(history);
            self.last.send_replace(sampled);
        }
    }

    /// The seconds that are remembered, the oldest first, and those to come.
    fn look(&self) -> (Vec<Second>, watch::Receiver<Second>) {
        let mut next = self.last.subscribe();
        next.mark_unchanged();
        (lock(&self.history).iter().cloned().collect(), next)
    }
}

/// Locks, also after a panic elsewhere: what is shown may then lack something, no more.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
