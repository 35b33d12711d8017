//! How much of a limit a node may hold, or owe.

use tollgate_core::{Consistency, Decision, Limit, Nanos, Timestamp};

use super::LeaseOptions;

/// A node that could hold fewer units than these gains nothing by holding any.
const LEAST: u64 = 4;

/// How a node counts a limit of which it has a part ahead, or settles for afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// The limit.
    pub(super) limit: Limit,
    /// What of it the store counts. With what all nodes may hold, that is the limit.
    pub(super) shared: Limit,
    /// The most units that this node holds or owes.
    pub(super) chunk: u32,
    /// Whether it owes: it hands out first and takes from the store afterwards.
    pub(super) owes: bool,
    /// How long it takes at most until what is owed is settled.
    pub(super) sync: Nanos,
    /// Whether what is held lapses when a window ends.
    pub(super) lapses: bool,
}

impl Terms {
    /// `None` where every request has to be decided by the store.
    pub(super) fn of(limit: &Limit, consistency: Consistency, options: &LeaseOptions) -> Option<Self> {
        let lapses = match limit {
            Limit::FixedWindow(_) | Limit::SlidingWindow(_) => true,
            // A log remembers when each unit was used, which is not when it was taken.
            Limit::SlidingLog(_) | Limit::Unlimited | Limit::DenyAll => return None,
            _ => false,
        };
        let nodes = u64::from(options.nodes.max(1));
        let percent = u64::from(options.percent.min(100));
        let part = limit.capacity() / 100 * percent + limit.capacity() % 100 * percent / 100;
        let chunk = u32::try_from(part / nodes).unwrap_or(u32::MAX).min(1 << 30);
        let owes = match consistency {
            Consistency::Strict => return None,
            Consistency::Lease if u64::from(chunk) < LEAST => return None,
            Consistency::Lease => false,
            Consistency::LocalFirst => true,
        };
        let chunk = chunk.max(1);
        // What is held in a window was counted in it. What is held beside a bucket is as if the bucket were as much larger.
        let shared = if owes { *limit } else { limit.lessened(u64::from(chunk) * nodes)? };
        let sync = Nanos::from(options.sync);
        Some(Self { limit: *limit, shared, chunk, owes, sync, lapses })
    }

    /// How long after the decision by which units were taken the window ends that they were counted in.
    pub(super) fn until_end(&self, stamp: Timestamp, decision: &Decision) -> Nanos {
        match &self.limit {
            Limit::FixedWindow(window) => window.until_end(stamp, decision),
            // It is whole a window after the end of the present one.
            Limit::SlidingWindow(window) if decision.reset_after > window.length() => {
                Nanos::new(decision.reset_after.as_nanos() - window.length().as_nanos())
            }
            _ => decision.reset_after,
        }
    }
}
