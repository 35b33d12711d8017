//! Windows as a calendar cuts them: days of 23 and of 25 hours, months, years that begin in April.
//!
//! A [`Calendar`] knows no time zones. Whoever makes one brings the moments at which its windows begin, for all the years that
//! matter; what is kept are runs of windows of equal length, of which a century of days in a zone that changes its clocks
//! takes some four hundred, and one of minutes no more. To find a window is a look at the run that was used last, and else a search
//! by halves.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::time::{Nanos, Timestamp};

/// How a calendar cuts time. Copies are one pointer; two calendars are equal if they have the same name.
///
/// ```
/// use tollgate_core::algorithm::calendar::{Calendar, Starts};
/// use tollgate_core::{Nanos, Timestamp};
///
/// // A day of 25 hours between days of 24.
/// let day = Nanos::from_secs(86_400);
/// let calendar = Calendar::named("with a long day", day, || {
///     let days = |first: u64, count| Starts { first: Timestamp::from_secs(first * 3_600), step: day, count };
///     vec![days(0, 3), days(73, 1_000)]
/// });
/// let (start, end) = calendar.window(Timestamp::from_secs(50 * 3_600));
/// assert_eq!((start, end.since(start)), (Timestamp::from_secs(48 * 3_600), Nanos::from_secs(25 * 3_600)));
/// ```
#[derive(Clone, Copy)]
pub struct Calendar {
    table: &'static Table,
}

/// Moments at which windows begin: so many, equal steps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The first of them.
    pub first: Timestamp,
    /// From each to the next.
    pub step: Nanos,
    /// How many there are. Of one, the step says nothing.
    pub count: u64,
}

struct Table {
    name: Box<str>,
    period: Nanos,
    /// Each goes on until the next one starts, and the last for ever.
    runs: Box<[Run]>,
    shortest: Nanos,
    longest: Nanos,
    grain: Nanos,
    /// The index of the run that was used last.
    recent: AtomicUsize,
}

/// Windows of one length, in nanoseconds.
#[derive(Clone, Copy)]
struct Run {
    start: u64,
    length: u64,
}

/// All calendars that there are. They stay: a limit that uses one is a plain value, which any thread may hold for ever. As a
/// name stands for one calendar, loading the same policies again makes no more.
static TABLES: Mutex<Option<HashMap<Box<str>, &'static Table>>> = Mutex::new(None);

impl Calendar {
    /// The calendar of this name; if there is none yet, one whose windows begin at these moments.
    ///
    /// The moments are to ascend; those that do not are left out. The first window begins at the Unix epoch in any
    /// case, and after the last moment windows go on by `period`, which is also how long a window is said to be where one number
    /// has to do. A period of nothing counts as a nanosecond.
    pub fn named(name: &str, period: Nanos, starts: impl FnOnce() -> Vec<Starts>) -> Self {
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = tables.get_or_insert_default();
        if let Some(table) = tables.get(name) {
            return Self { table };
        }
        let table: &'static Table = Box::leak(Box::new(Table::new(name, period, &starts())));
        tables.insert(name.into(), table);
        Self { table }
    }

    /// The name, by which it is told from others, also on other machines.
    pub fn name(&self) -> &'static str {
        &self.table.name
    }

    /// How long a window is said to be: a month is 30 days.
    pub const fn period(&self) -> Nanos {
        self.table.period
    }

    /// How long the shortest window is.
    pub const fn shortest(&self) -> Nanos {
        self.table.shortest
    }

    /// How long the longest window is.
    pub const fn longest(&self) -> Nanos {
        self.table.longest
    }

    /// The greatest length of which all windows begin on multiples.
    pub const fn grain(&self) -> Nanos {
        self.table.grain
    }

    /// The window in which `now` lies: its start, and that of the next one.
    #[inline]
    pub fn window(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let table = self.table;
        let now = now.as_nanos();
        // Relaxed: the index is a hint, and all that it leads to never changes.
        let recent = table.recent.load(Ordering::Relaxed);
        if let Some(found) = table.window(recent, now) {
            return found;
        }
        // Where two runs meet, keys are asked for on both sides for a while: those threads shall not write for each other.
        let beside = [recent.saturating_add(1), recent.saturating_sub(1)];
        if let Some(found) = beside.into_iter().find_map(|index| table.window(index, now)) {
            return found;
        }
        let index = table.runs.partition_point(|run| run.start <= now).saturating_sub(1);
        table.recent.store(index, Ordering::Relaxed);
        table.window(index, now).unwrap_or_default()
    }
}

impl Table {
    fn new(name: &str, period: Nanos, starts: &[Starts]) -> Self {
        let period = period.max(Nanos::new(1));
        let mut runs: Vec<Run> = Vec::new();
        // Windows from one moment on whose length differs from those before.
        let mut add = |start: u64, length: u64| {
            if runs.last().is_none_or(|run| run.length != length) {
                runs.push(Run { start, length });
            }
        };
        // The start of the window of which it is not known yet when it ends.
        let mut open = 0_u64;
        for Starts { first, step, count } in starts {
            let (mut first, step, mut count) = (first.as_nanos(), step.as_nanos().max(1), *count);
            if first <= open {
                let stale = (open - first) / step + 1;
                first = first.saturating_add(stale.saturating_mul(step));
                count = count.saturating_sub(stale);
            }
            if count == 0 {
                continue;
            }
            add(open, first - open);
            if count > 1 {
                add(first, step);
            }
            open = first.saturating_add((count - 1).saturating_mul(step));
        }
        add(open, period.as_nanos());
        let lengths = || runs.iter().map(|run| Nanos::new(run.length));
        Self {
            name: name.into(),
            period,
            shortest: lengths().min().unwrap_or(period),
            longest: lengths().max().unwrap_or(period),
            grain: lengths().fold(Nanos::ZERO, common_part),
            runs: runs.into(),
            recent: AtomicUsize::new(0),
        }
    }

    /// The window in which a moment lies, if it is one of this run's.
    #[inline]
    fn window(&self, index: usize, now: u64) -> Option<(Timestamp, Timestamp)> {
        let Run { start, length } = *self.runs.get(index)?;
        let ahead = now.checked_sub(start)?;
        if self.runs.get(index + 1).is_some_and(|next| next.start <= now) {
            return None;
        }
        let start = now - ahead % length;
        Some((Timestamp::from_nanos(start), Timestamp::from_nanos(start.saturating_add(length))))
    }
}

/// The greatest length of which both are multiples, by Euclid's algorithm.
const fn common_part(one: Nanos, other: Nanos) -> Nanos {
    let (mut one, mut other) = (one.as_nanos(), other.as_nanos());
    while other > 0 {
        (one, other) = (other, one % other);
    }
    Nanos::new(one)
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        // One name, one table.
        std::ptr::eq(self.table, other.table)
    }
}

impl Eq for Calendar {}

impl Hash for Calendar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.table, state);
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({})", self.table.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(first: u64, step: u64, count: u64) -> Starts {
        Starts { first: Timestamp::from_nanos(first), step: Nanos::new(step), count }
    }

    fn window(calendar: Calendar, now: u64) -> (u64, u64) {
        let (start, end) = calendar.window(Timestamp::from_nanos(now));
        (start.as_nanos(), end.as_nanos())
    }

    #[test]
    fn windows_are_those_between_the_starts() {
        let given = vec![starts(5, 10, 3), starts(37, 10, 2), starts(60, 1, 1)];
        let calendar = Calendar::named("between starts", Nanos::new(7), || given);
        let edges = [0, 5, 15, 25, 37, 47, 60, 67, 74];
        for edge in edges.windows(2) {
            for now in edge[0]..edge[1] {
                assert_eq!(window(calendar, now), (edge[0], edge[1]), "{now}");
            }
        }
        assert_eq!((calendar.shortest(), calendar.longest()), (Nanos::new(5), Nanos::new(13)));
        assert_eq!(calendar.grain(), Nanos::new(1));
        let even = Calendar::named("even", Nanos::new(30), || vec![starts(12, 18, 3)]);
        assert_eq!(even.grain(), Nanos::new(6));
        assert_eq!(window(calendar, u64::MAX).1, u64::MAX);
    }

    #[test]
    fn what_does_not_ascend_is_left_out() {
        let given = vec![starts(10, 10, 3), starts(20, 10, 4), starts(0, 0, 1), starts(50, 0, 0)];
        let calendar = Calendar::named("not ascending", Nanos::ZERO, || given);
        assert_eq!(window(calendar, 29), (20, 30));
        assert_eq!(window(calendar, 49), (40, 50));
        assert_eq!(window(calendar, 55), (55, 56));
    }

    #[test]
    fn a_name_is_one_calendar() {
        let first = Calendar::named("twice", Nanos::new(3), Vec::new);
        let second = Calendar::named("twice", Nanos::new(4), || unreachable!("it is there"));
        assert_eq!(first, second);
        assert_eq!(second.period(), Nanos::new(3));
    }
}
