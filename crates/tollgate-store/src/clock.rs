//! The time of this machine.

use std::time::{Instant, SystemTime};

use tollgate_core::{Clock, Nanos, Timestamp};

/// The time of day as it was when the clock was made, carried on by the monotonic clock.
///
/// It never goes backwards and never jumps: when the machine's time of day is set, this clock keeps its own course,
/// so that nobody gains or loses budget. Windows stay aligned to the time of day as it was at the start.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
    started_at: Timestamp,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        // A machine whose time of day lies before 1970 counts from 1970.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_at: Timestamp::from_nanos(Nanos::from(since_epoch).as_nanos()),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.started_at.saturating_add(Nanos::from(self.started.elapsed()))
    }
}
