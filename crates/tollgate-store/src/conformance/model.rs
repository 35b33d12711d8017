//! The algorithms once more, written to be obviously right: in 128-bit integers, by levels and counts where the real
//! ones keep a point in time, and with every waiting time found by search instead of by formula.

use tollgate_core::algorithm::{FixedWindow, Refill, Windows};
use tollgate_core::{Decision, Limit, Nanos, Retry, Timestamp};

use super::calendars;

/// What the model remembers of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// A level that drains; in units of cost times the period in nanoseconds, as it was at a moment.
    Level { level: i128, at: i128 },
    /// Missing tokens, and the start of the period under way.
    Missing { missing: i128, since: i128 },
    /// The start of a window of a calendar, or of any of which something is carried over; what was carried over into it, and
    /// what was used in it.
    Period { start: i128, granted: i128, used: i128 },
    /// The number of a window, and the counts of it and of the one before.
    Windows { window: i128, previous: i128, current: i128 },
    /// Every admission: when, and how much.
    Log(Vec<(i128, i128)>),
}

/// Where the model booked something, so that it can be given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Booking {
    stamp: i128,
    cost: i128,
}

/// A limit's numbers, as wide as can be.
struct Numbers {
    capacity: i128,
    initial: i128,
    count: i128,
    period: i128,
}

fn numbers(limit: &Limit) -> Option<Numbers> {
    let quota = limit.quota()?;
    let capacity = i128::from(limit.capacity());
    let initial = match limit {
        Limit::TokenBucket(bucket) => i128::from(bucket.initial()),
        _ => capacity,
    };
    Some(Numbers {
        capacity,
        initial,
        count: i128::from(quota.count()),
        period: i128::from(quota.period().as_nanos()),
    })
}

/// Fixed windows that are more than a count in windows of one length.
fn periodic(limit: &Limit) -> Option<&FixedWindow> {
    match limit {
        Limit::FixedWindow(window)
            if window.carry_over() > 0 || matches!(window.windows(), Windows::Calendar(_)) =>
        {
            Some(window)
        }
        _ => None,
    }
}

/// Where the window starts and ends in which a moment lies.
fn edges(window: &FixedWindow, now: i128) -> (i128, i128) {
    match window.windows() {
        Windows::Calendar(calendar) => {
            // Histories end before the calendars do.
            calendars::window(calendar, now).unwrap_or((0, i128::MAX))
        }
        windows => {
            let length = i128::from(windows.period().as_nanos());
            let number = now.div_euclid(length);
            (number * length, (number + 1) * length)
        }
    }
}

fn nanos(now: Timestamp) -> i128 {
    i128::from(now.as_nanos())
}

fn ceil(a: i128, b: i128) -> i128 {
    (a + b - 1).div_euclid(b)
}

impl Model {
    /// The state of a new key with this much left; `None` for a limit that needs no state.
    pub(super) fn with_available(limit: &Limit, available: Option<i128>, now: Timestamp) -> Option<Self> {
        let n = numbers(limit)?;
        let missing = n.capacity - available.unwrap_or(n.initial).min(n.capacity);
        let now = nanos(now);
        if let Some(window) = periodic(limit) {
            let carry = i128::from(window.carry_over());
            let granted = carry - missing.min(carry);
            let used = missing - (carry - granted);
            return Some(Self::Period { start: edges(window, now).0, granted, used });
        }
        Some(match limit {
            Limit::TokenBucket(bucket) if bucket.style() == Refill::Interval => {
                Self::Missing { missing, since: now }
            }
            Limit::Gcra(_) | Limit::LeakyBucket(_) | Limit::TokenBucket(_) => {
                Self::Level { level: missing * n.period, at: now }
            }
            Limit::SlidingLog(_) if missing == 0 => Self::Log(Vec::new()),
            Limit::SlidingLog(_) => Self::Log(vec![(now, missing)]),
            _ => Self::Windows { window: now.div_euclid(n.period), previous: 0, current: missing },
        })
    }

    /// The state of a key that goes on from one of a limit before: with what was used where both count in the same windows of a
    /// calendar, else with what was left.
    pub(super) fn carried(&self, limit: &Limit, former: &Limit, now: Timestamp) -> Option<Self> {
        if let (Some(own), Some(was)) = (periodic(limit), periodic(former))
            && let (Windows::Calendar(own_calendar), Windows::Calendar(calendar)) =
                (own.windows(), was.windows())
            && own_calendar == calendar
            && let Self::Period { start, granted, used } = self.seen(former, nanos(now))
        {
            let granted = granted.min(own.carry_over().into());
            return Some(Self::Period { start, granted, used: used.min(i128::from(own.limit()) + granted) });
        }
        let left = self.decide(former, now, 0, false).remaining;
        Self::with_available(limit, Some(left.into()), now)
    }

    /// The same state as seen at `now`: what time has brought since is counted, and what lies in the future because
    /// the clock stepped back is brought near.
    fn seen(&self, limit: &Limit, now: i128) -> Self {
        let Some(n) = numbers(limit) else { return self.clone() };
        match self {
            Self::Level { level, at } => {
                let drained = level - n.count * (now - at);
                Self::Level { level: drained.clamp(0, n.capacity * n.period), at: now }
            }
            Self::Missing { missing, since } => {
                if now < *since {
                    return Self::Missing { missing: *missing, since: now };
                }
                let periods = (now - since).div_euclid(n.period);
                Self::Missing {
                    missing: (missing - periods * n.count).max(0),
                    since: since + periods * n.period,
                }
            }
            Self::Period { start, granted, used } => {
                let Some(window) = periodic(limit) else { return self.clone() };
                let (present, next) = edges(window, now);
                let carry = i128::from(window.carry_over());
                let (mut start, mut granted, mut used) = ((*start).min(next), *granted, *used);
                while start < present {
                    let left = i128::from(window.limit()) + granted - used;
                    (granted, used) = (left.clamp(0, carry), 0);
                    // Once everything is carried over, nothing changes any more.
                    start = if granted == carry { present } else { edges(window, start).1 };
                }
                Self::Period { start, granted, used }
            }
            Self::Windows { window, previous, current } => {
                let present = now.div_euclid(n.period);
                let (previous, current) = match present - window {
                    ..=0 => (*previous, *current),
                    1 => (*current, 0),
                    _ => (0, 0),
                };
                Self::Windows { window: (*window).clamp(present, present + 1), previous, current }
            }
            Self::Log(entries) => {
                let near = entries.iter().map(|(at, cost)| ((*at).min(now), *cost));
                Self::Log(near.filter(|(at, _)| at + n.period > now).collect())
            }
        }
    }

    /// Whether a state, seen at `now`, admits a cost.
    fn admits(&self, limit: &Limit, now: i128, cost: i128) -> bool {
        let Some(n) = numbers(limit) else { return matches!(limit, Limit::Unlimited) };
        match self {
            Self::Level { level, .. } => level + cost * n.period <= n.capacity * n.period,
            Self::Missing { missing, .. } => missing + cost <= n.capacity,
            Self::Period { .. } => self.left(limit, now) >= cost * n.period,
            Self::Windows { .. } => cost == 0 || self.left(limit, now) >= cost * n.period,
            Self::Log(entries) => {
                cost == 0 || entries.iter().map(|(_, cost)| cost).sum::<i128>() + cost <= n.capacity
            }
        }
    }

    /// What a state, seen at `now`, has left; in units of cost times the period.
    fn left(&self, limit: &Limit, now: i128) -> i128 {
        let Some(n) = numbers(limit) else { return 0 };
        let used = match self {
            Self::Level { level, .. } => *level,
            Self::Missing { missing, .. } => missing * n.period,
            Self::Period { granted, used, .. } => {
                let carry = periodic(limit).map_or(0, |window| i128::from(window.carry_over()));
                (carry - granted + used) * n.period
            }
            Self::Windows { window, previous, current } => {
                let sliding = matches!(limit, Limit::SlidingWindow(_));
                let elapsed = (now - window * n.period).max(0);
                let fading = if sliding { previous * (n.period - elapsed) } else { 0 };
                current * n.period + fading
            }
            Self::Log(entries) => entries.iter().map(|(_, cost)| cost * n.period).sum(),
        };
        n.capacity * n.period - used
    }

    /// The moment from which on the state is as new.
    pub(super) fn vacant_at(&self, limit: &Limit) -> i128 {
        let Some(n) = numbers(limit) else { return 0 };
        let (full, refill) = match self {
            Self::Level { level, at } => (at + ceil(*level, n.count), ceil(n.capacity * n.period, n.count)),
            Self::Missing { missing, since } => {
                (since + ceil(*missing, n.count) * n.period, ceil(n.capacity, n.count) * n.period)
            }
            Self::Period { start, granted, used } => {
                let Some(window) = periodic(limit) else { return 0 };
                let carry = i128::from(window.carry_over());
                let (mut at, mut state) = (*start, self.clone());
                while !matches!(state, Self::Period { granted, used: 0, .. } if granted == carry) {
                    at = edges(window, at).1;
                    state = self.seen(limit, at);
                }
                (if (*granted, *used) == (carry, 0) { 0 } else { at }, 0)
            }
            Self::Windows { previous: 0, current: 0, .. } => (0, 0),
            Self::Windows { window, current, .. } => {
                let sliding = matches!(limit, Limit::SlidingWindow(_)) && *current > 0;
                ((window + 1 + i128::from(sliding)) * n.period, 0)
            }
            Self::Log(entries) => (entries.last().map_or(0, |(at, _)| at + n.period), 0),
        };
        if n.initial < n.capacity { full + refill } else { full }
    }

    /// Brings a state that lies in the future near, and changes nothing else.
    pub(super) fn settle(&mut self, limit: &Limit, now: Timestamp) {
        let Some(n) = numbers(limit) else { return };
        let now = nanos(now);
        match self {
            Self::Level { level, at } if *level - n.count * (now - *at) > n.capacity * n.period => {
                *self = Self::Level { level: n.capacity * n.period, at: now };
            }
            Self::Missing { since, .. } if *since > now => *since = now,
            Self::Period { start, .. } => {
                if let Some(window) = periodic(limit) {
                    *start = (*start).min(edges(window, now).1);
                }
            }
            Self::Windows { window, .. } => *window = (*window).min(now.div_euclid(n.period) + 1),
            Self::Log(entries) => entries.iter_mut().for_each(|(at, _)| *at = (*at).min(now)),
            Self::Level { .. } | Self::Missing { .. } => {}
        }
    }

    /// What the limit says of a cost. `taken`: whether the numbers are to tell of the time after it.
    pub(super) fn decide(&self, limit: &Limit, now: Timestamp, cost: u32, taken: bool) -> Decision {
        let (at, cost) = (nanos(now), i128::from(cost));
        // Asking again later starts from what this request settles.
        let mut settled = self.clone();
        settled.settle(limit, now);
        let seen = settled.seen(limit, at);
        let Some(n) = numbers(limit) else { return Decision::deny_all() };
        let allowed = seen.admits(limit, at, cost);
        let retry_after = if allowed {
            Retry::Now
        } else if cost > n.capacity {
            Retry::Never
        } else {
            Retry::After(wait(|wait| settled.seen(limit, at + wait).admits(limit, at + wait, cost)))
        };
        let mut after = seen;
        if allowed && taken {
            after.book(limit, at, cost);
        }
        let whole = match (&after, periodic(limit)) {
            // Of a period, what it has got.
            (Self::Period { granted, .. }, Some(window)) => {
                window.limit() + u64::try_from(*granted).unwrap_or(0)
            }
            _ => limit.capacity(),
        };
        Decision {
            allowed,
            limit: whole,
            remaining: u64::try_from(after.left(limit, at).max(0) / n.period).unwrap_or(u64::MAX),
            retry_after,
            reset_after: wait(|wait| {
                let later = after.seen(limit, at + wait);
                match (&later, limit) {
                    // A window is whole again when it has ended, not when its counts have faded.
                    (Self::Windows { previous, current, .. }, Limit::SlidingWindow(_)) => {
                        previous + current == 0
                    }
                    _ => later.left(limit, at + wait) >= n.capacity * n.period,
                }
            }),
        }
    }

    /// Takes a cost from a state.
    pub(super) fn take(&mut self, limit: &Limit, now: Timestamp, cost: u32) -> Booking {
        let (at, cost) = (nanos(now), i128::from(cost));
        if cost > 0 {
            *self = self.seen(limit, at);
            self.book(limit, at, cost);
        }
        let stamp = match self.seen(limit, at) {
            Self::Windows { window, .. } => window,
            Self::Period { start, .. } => start,
            _ => at,
        };
        Booking { stamp, cost }
    }

    /// Adds a cost to a state seen at `now`.
    fn book(&mut self, limit: &Limit, now: i128, cost: i128) {
        let Some(n) = numbers(limit) else { return };
        match self {
            _ if cost == 0 => {}
            Self::Level { level, .. } => *level += cost * n.period,
            Self::Missing { missing: missing @ 0, since } => (*missing, *since) = (cost, now),
            Self::Missing { missing, .. } => *missing += cost,
            Self::Windows { current: used, .. } | Self::Period { used, .. } => *used += cost,
            Self::Log(entries) => entries.push((now, cost)),
        }
    }

    /// Gives back a cost.
    pub(super) fn give_back(&mut self, limit: &Limit, now: Timestamp, booking: Booking) {
        let at = nanos(now);
        if self.vacant_at(limit) <= at {
            return;
        }
        self.settle(limit, now);
        let Some(n) = numbers(limit) else { return };
        let Booking { stamp, mut cost } = booking;
        match self {
            Self::Level { .. } | Self::Missing { .. } => {
                *self = self.seen(limit, at);
                match self {
                    Self::Level { level, .. } => *level = (*level - cost * n.period).max(0),
                    Self::Missing { missing, .. } => *missing = (*missing - cost).max(0),
                    _ => {}
                }
            }
            Self::Period { .. } => {
                let mut seen = self.seen(limit, at);
                match &mut seen {
                    Self::Period { start, used, .. } if *start == stamp => *used = (*used - cost).max(0),
                    _ => return,
                }
                *self = seen;
            }
            Self::Windows { .. } => {
                let mut seen = self.seen(limit, at);
                if let Self::Windows { window, previous, current } = &mut seen {
                    if *window == stamp {
                        *current = (*current - cost).max(0);
                    } else if *window == stamp + 1 && matches!(limit, Limit::SlidingWindow(_)) {
                        *previous = (*previous - cost).max(0);
                    } else {
                        return;
                    }
                }
                *self = seen;
            }
            Self::Log(entries) => {
                for (at, held) in entries.iter_mut().rev() {
                    if *at == stamp {
                        let returned = cost.min(*held);
                        *held -= returned;
                        cost -= returned;
                    }
                }
                entries.retain(|(_, held)| *held > 0);
            }
        }
    }
}

/// The least wait after which something holds that stays true once it is; found by doubling, then halving.
fn wait(holds: impl Fn(i128) -> bool) -> Nanos {
    if holds(0) {
        return Nanos::ZERO;
    }
    let (mut below, mut above) = (0, 1);
    while !holds(above) {
        (below, above) = (above, above * 2);
        if above > i128::from(u64::MAX) {
            return Nanos::MAX;
        }
    }
    while above - below > 1 {
        let middle = i128::midpoint(below, above);
        if holds(middle) { above = middle } else { below = middle }
    }
    Nanos::new(u64::try_from(above).unwrap_or(u64::MAX))
}

impl Booking {
    /// What a limit without a state books.
    pub(super) const fn nothing() -> Self {
        Self { stamp: 0, cost: 0 }
    }
}
