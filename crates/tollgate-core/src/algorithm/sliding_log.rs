//! The sliding log: every admission is remembered for one window's length, so the limit is exact.
//!
//! A request at `t` counts in `[t, t + W)`. Memory is one entry for each moment at which something was admitted, at
//! most the limit; what is rejected is not remembered.

use std::collections::VecDeque;

use super::Algorithm;
use crate::decision::{Decision, Grant, Retry};
use crate::limit::LimitError;
use crate::quota::Quota;
use crate::time::{Nanos, Timestamp};

/// The largest limit of a log: it bounds what one key can hold in memory (16 bytes an entry).
pub const MAX_LOG_LIMIT: u64 = 1_000_000;

/// Exactly so many in any window's length.
///
/// ```
/// use tollgate_core::{Limit, Quota, algorithm::SlidingLog};
///
/// let limit = Limit::from(SlidingLog::new("100/10s".parse()?)?);
/// assert_eq!(limit.to_string(), "100/10s sliding log");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlidingLog {
    limit: u64,
    length: Nanos,
}

/// The admissions of about one window's length, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Moments in order, each once, with what was admitted at it, at least 1.
    entries: VecDeque<(Timestamp, u64)>,
}

impl Log {
    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The moments, oldest first, with what was admitted at each.
    pub fn entries(&self) -> impl Iterator<Item = (Timestamp, u64)> {
        self.entries.iter().copied()
    }
}

/// A log of moments in order, each once, with what was admitted at it, at least 1.
impl FromIterator<(Timestamp, u64)> for Log {
    fn from_iter<I: IntoIterator<Item = (Timestamp, u64)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

impl SlidingLog {
    /// `quota.count()` in any `quota.period()`.
    ///
    /// # Errors
    /// If the count is zero, or above [`MAX_LOG_LIMIT`].
    pub fn new(quota: Quota) -> Result<Self, LimitError> {
        match quota.count() {
            0 => Err(LimitError::Zero { what: "limit" }),
            count if count > MAX_LOG_LIMIT => Err(LimitError::LogTooLarge { value: count }),
            limit => Ok(Self { limit, length: quota.period() }),
        }
    }

    /// How much a window's length admits.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How long a window is.
    pub const fn length(&self) -> Nanos {
        self.length
    }

    /// The entries that still count at `now`, each with the moment at which it stops counting.
    fn live<'a>(&self, log: &'a Log, now: Timestamp) -> impl Iterator<Item = (Timestamp, u64)> + use<'a> {
        let length = self.length;
        // After a backward step of the clock an entry may lie in the future: it counts as if it came now.
        log.entries
            .iter()
            .map(move |(at, cost)| ((*at).min(now).saturating_add(length), *cost))
            .skip_while(move |(ends, _)| *ends <= now)
    }
}

impl Algorithm for SlidingLog {
    type State = Log;

    fn fresh(&self, _now: Timestamp) -> Log {
        Log::default()
    }

    fn settle(&self, log: &mut Log, now: Timestamp) -> bool {
        if log.entries.back().is_none_or(|(at, _)| *at <= now) {
            return false;
        }
        // What lies in the future came now, together with what did come now: one entry for each moment.
        let mut sum = 0;
        while let Some((_, cost)) = log.entries.pop_back_if(|(at, _)| *at >= now) {
            sum += cost;
        }
        log.entries.push_back((now, sum));
        true
    }

    fn decide(&self, log: &Log, now: Timestamp, cost: u32) -> Decision {
        let cost = u64::from(cost);
        let used: u64 = self.live(log, now).map(|(_, cost)| cost).sum();
        let allowed = cost == 0 || used.saturating_add(cost) <= self.limit;
        let retry_after = if allowed {
            Retry::Now
        } else if cost > self.limit {
            Retry::Never
        } else {
            // The oldest entries must end until enough is free.
            let mut missing = used.saturating_add(cost).saturating_sub(self.limit);
            let ends = self.live(log, now).find_map(|(ends, cost)| {
                missing = missing.saturating_sub(cost);
                (missing == 0).then_some(ends)
            });
            ends.map_or(Retry::Never, |ends| Retry::After(ends.since(now)))
        };
        let newest = if allowed && cost > 0 {
            self.length
        } else {
            self.live(log, now).last().map_or(Nanos::ZERO, |(ends, _)| ends.since(now))
        };
        let used = if allowed { used + cost } else { used };
        Decision {
            allowed,
            limit: self.limit,
            remaining: self.limit.saturating_sub(used),
            retry_after,
            reset_after: newest,
        }
    }

    fn take(&self, log: &mut Log, now: Timestamp, cost: u32) -> Grant {
        if cost > 0 {
            while log.entries.front().is_some_and(|(at, _)| at.saturating_add(self.length) <= now) {
                log.entries.pop_front();
            }
            match log.entries.back_mut() {
                // `>=`: an unsettled entry in the future keeps the order.
                Some((at, sum)) if *at >= now => *sum += u64::from(cost),
                _ => log.entries.push_back((now, u64::from(cost))),
            }
        }
        Grant { stamp: now, cost }
    }

    fn give_back(&self, log: &mut Log, _now: Timestamp, grant: Grant) {
        let Ok(index) = log.entries.binary_search_by_key(&grant.stamp, |(at, _)| *at) else { return };
        let Some((_, sum)) = log.entries.get_mut(index) else { return };
        *sum = sum.saturating_sub(u64::from(grant.cost));
        if *sum == 0 {
            log.entries.remove(index);
        }
    }

    fn vacant_at(&self, log: &Log) -> Timestamp {
        log.entries.back().map_or(Timestamp::EPOCH, |(at, _)| at.saturating_add(self.length))
    }

    fn with_available(&self, available: u64, now: Timestamp) -> Log {
        let used = self.limit.saturating_sub(available);
        Log { entries: (used > 0).then_some((now, used)).into_iter().collect() }
    }
}
