//! The arithmetic that GCRA, the steady token bucket and the leaky bucket share.
//!
//! A meter has a capacity `B` and recovers one unit of cost every `T = period / count`. Its state is one point in
//! time, the *theoretical arrival time* of ITU-T I.371 (annex A, virtual scheduling): the moment at which it is at
//! its fullest again. With `debt = max(0, tat − now)`, a cost `c` is admitted if `debt + c·T ≤ B·T`.
//!
//! `T` is rarely a whole number of nanoseconds. Reduced to lowest terms, `T = p/q` ns, every quantity is a whole
//! number of 1/q ns, and the arithmetic is exact at every rate: nothing is rounded, so nothing drifts. Where `q = 1`
//! (100 a minute, 1,000 an hour, 1,000,000 a second) the fraction is always zero and the state is one 64-bit word.

use std::hint::cold_path;

use crate::decision::{Decision, Grant, Retry};
use crate::packed::{LAST_MOMENT, LONGEST_SPAN};
use crate::quota::{MAX_PERIOD, Quota};
use crate::time::{Nanos, Timestamp};

/// A capacity and a rate of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meter {
    capacity: u64,
    /// p: the time to recover one unit, in units of 1/q ns. At least 1.
    unit_time: u64,
    /// q: how many parts a nanosecond is divided in. At least 1.
    parts: u64,
    /// The time from empty to full in nanoseconds if all arithmetic fits 64 bits, else 0.
    short: u64,
    /// Whether a state that lies farther ahead than this meter could bring it was written by another limit, and holds.
    adopts: bool,
}

/// The moment at which the meter is at its fullest, `nanos + fraction/q` nanoseconds after the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArrivalTime {
    /// The whole nanoseconds.
    pub nanos: u64,
    /// The rest, in units of 1/q ns of the meter that wrote it; below q. Zero for every rate whose interval is whole.
    pub fraction: u64,
}

/// A short meter's answer, in one word: how far from its fullest the meter is afterwards, and whether the request
/// passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordAnswer(u64);

impl WordAnswer {
    /// Whether the request passes.
    #[inline]
    pub const fn is_allowed(self) -> bool {
        self.0 >> 63 == 1
    }
}

impl Meter {
    /// A meter of `capacity` units that recovers `rate.count()` of them in each `rate.period()`.
    ///
    /// Both must be at least 1. Returns `None` if the way from empty to full takes longer than [`MAX_PERIOD`].
    pub(crate) fn new(capacity: u64, rate: Quota) -> Option<Self> {
        let (count, period) = (rate.count().max(1), rate.period().as_nanos().max(1));
        let divisor = gcd(count, period);
        let (unit_time, parts) = (period / divisor, count / divisor);
        let mut meter = Self { capacity: capacity.max(1), unit_time, parts, short: 0, adopts: false };
        if parts == 1 {
            meter.short =
                u64::try_from(meter.full()).ok().filter(|full| *full <= LONGEST_SPAN.as_nanos()).unwrap_or(0);
        }
        (meter.full() <= u128::from(MAX_PERIOD.as_nanos()) * u128::from(meter.parts)).then_some(meter)
    }

    /// The same meter for keys that other limits write to as well.
    ///
    /// An arrival time that lies beyond what the meter can hold is otherwise a clock's mistake, and brought near. Here it
    /// stands, up to [`LONGEST_SPAN`] ahead, which bounds such a mistake in its place.
    #[must_use]
    pub(crate) const fn adopting(mut self) -> Self {
        self.adopts = true;
        self
    }

    /// Whether a state that another limit wrote holds as it is.
    pub const fn adopts(&self) -> bool {
        self.adopts
    }

    /// Whether an arrival time is one word, and [`acquire_word`](Self::acquire_word) can be used.
    #[inline]
    pub const fn is_short(&self) -> bool {
        self.short != 0
    }

    /// The whole step on a state that is one word: the nanosecond at which the meter is at its fullest. Returns the
    /// [answer](Self::decision) and the state after it.
    ///
    /// It comes to what [`Limit::acquire`](crate::Limit::acquire) does, in 64-bit arithmetic. It is for meters that are
    /// [short](Self::is_short), up to [`LAST_MOMENT`].
    #[inline]
    pub fn acquire_word(&self, full_at: u64, now: Timestamp, cost: u32) -> (WordAnswer, u64) {
        // The span is at most 2^58 and the time below 2^62: no sum can pass 2^63.
        let (mut now, full) = (now.as_nanos(), self.short);
        // Branches that are hardly ever taken, so that nothing waits for what they compare.
        if now > LAST_MOMENT.as_nanos() {
            cold_path();
            now = LAST_MOMENT.as_nanos();
        }
        let mut debt = full_at.saturating_sub(now);
        if debt > full {
            cold_path();
            debt = if self.adopts { debt.min(LONGEST_SPAN.as_nanos()) } else { full };
        }
        // What the meter cannot hold at all is longer than its span; no product of what it can hold is.
        let asked = if u64::from(cost) <= self.capacity { self.asked(cost) } else { full + 1 };
        let after = debt + asked;
        let allowed = after <= full;
        let settled = if allowed { after } else { debt };
        // Also where nothing was taken: a moment that has passed becomes the present, and one that lies too far ahead,
        // because the clock stepped back, is brought near.
        (WordAnswer(settled | u64::from(allowed) << 63), now + settled)
    }

    const fn asked(&self, cost: u32) -> u64 {
        (cost as u64).wrapping_mul(self.unit_time)
    }

    /// What a short meter's answer to a request of this cost says.
    #[inline]
    pub fn decision(&self, answer: WordAnswer, cost: u32) -> Decision {
        let (allowed, settled) = (answer.is_allowed(), answer.0 & !(1 << 63));
        Decision {
            allowed,
            limit: self.capacity,
            // Less than nothing is left where another limit has taken more than this one holds.
            remaining: self.short.saturating_sub(settled) / self.unit_time,
            retry_after: if allowed {
                Retry::Now
            } else if u64::from(cost) <= self.capacity {
                Retry::After(Nanos::new(settled + self.asked(cost) - self.short))
            } else {
                Retry::Never
            },
            reset_after: Nanos::new(settled),
        }
    }

    /// How many units the meter holds at its fullest.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The time in which one unit comes back, in the parts that a nanosecond is divided in.
    pub const fn unit_time(&self) -> u64 {
        self.unit_time
    }

    /// How many parts a nanosecond is divided in: 1 where an arrival time is a whole number of nanoseconds.
    pub const fn parts(&self) -> u64 {
        self.parts
    }

    // Sizes: a time is below 2^64 ns and q below 2^53, so a moment is below 2^117 parts. A span of the meter is at
    // most 100 years (2^62 ns), so below 2^115; a cost of u32::MAX at p < 2^62 is below 2^94. No sum here can
    // reach 2^128.

    /// The time from empty to full, in parts.
    fn full(&self) -> u128 {
        u128::from(self.capacity) * u128::from(self.unit_time)
    }

    /// How far ahead of the present a state may lie, in parts.
    fn farthest(&self) -> u128 {
        if self.adopts { u128::from(LONGEST_SPAN.as_nanos()) * u128::from(self.parts) } else { self.full() }
    }

    fn parts_of(&self, now: Timestamp) -> u128 {
        u128::from(now.as_nanos()) * u128::from(self.parts)
    }

    fn load(&self, state: ArrivalTime) -> u128 {
        // A fraction written under another rate may be too large for this one: it is less than a nanosecond anyway.
        u128::from(state.nanos) * u128::from(self.parts) + u128::from(state.fraction.min(self.parts - 1))
    }

    fn save(&self, moment: u128) -> ArrivalTime {
        let nanos = divide(moment, self.parts);
        match u64::try_from(nanos) {
            Ok(whole) => {
                // Below q, which is a u64.
                #[allow(clippy::cast_possible_truncation)]
                let fraction = (moment - nanos * u128::from(self.parts)) as u64;
                ArrivalTime { nanos: whole, fraction }
            }
            Err(_) => ArrivalTime { nanos: u64::MAX, fraction: self.parts - 1 },
        }
    }

    /// A length of parts as nanoseconds, rounded up: the first moment at which it has passed.
    fn length(&self, parts: u128) -> Nanos {
        let floor = divide(parts, self.parts);
        let up = u128::from(floor * u128::from(self.parts) < parts);
        Nanos::new(u64::try_from(floor + up).unwrap_or(u64::MAX))
    }

    /// How far the meter is from its fullest, in parts; at most empty, whatever a clock did, unless it adopts.
    fn debt(&self, state: ArrivalTime, now: Timestamp) -> u128 {
        self.load(state).saturating_sub(self.parts_of(now)).min(self.farthest())
    }

    fn units(&self, parts: u128) -> u64 {
        // At most the capacity, which is a u64.
        u64::try_from(divide(parts, self.unit_time)).unwrap_or(u64::MAX)
    }

    /// The state at its fullest.
    pub(crate) fn fresh(now: Timestamp) -> ArrivalTime {
        ArrivalTime { nanos: now.as_nanos(), fraction: 0 }
    }

    pub(crate) fn with_available(&self, available: u64, now: Timestamp) -> ArrivalTime {
        let debt = u128::from(self.capacity.saturating_sub(available)) * u128::from(self.unit_time);
        self.save(self.parts_of(now) + debt)
    }

    pub(crate) fn settle(&self, state: &mut ArrivalTime, now: Timestamp) -> bool {
        let latest = self.parts_of(now) + self.farthest();
        let ahead = self.load(*state) > latest;
        if ahead {
            *state = self.save(latest);
        }
        ahead
    }

    pub(crate) fn decide(&self, state: ArrivalTime, now: Timestamp, cost: u32) -> Decision {
        let (full, debt) = (self.full(), self.debt(state, now));
        let after = debt + u128::from(cost) * u128::from(self.unit_time);
        let allowed = after <= full;
        let debt = if allowed { after } else { debt };
        Decision {
            allowed,
            limit: self.capacity,
            remaining: self.units(full.saturating_sub(debt)),
            retry_after: if allowed {
                Retry::Now
            } else if u64::from(cost) > self.capacity {
                Retry::Never
            } else {
                Retry::After(self.length(after - full))
            },
            reset_after: self.length(debt),
        }
    }

    pub(crate) fn take(&self, state: &mut ArrivalTime, now: Timestamp, cost: u32) -> Grant {
        if cost > 0 {
            let debt = self.debt(*state, now) + u128::from(cost) * u128::from(self.unit_time);
            *state = self.save(self.parts_of(now) + debt);
        }
        Grant { stamp: now, cost }
    }

    pub(crate) fn give_back(&self, state: &mut ArrivalTime, now: Timestamp, grant: Grant) {
        let returned = u128::from(grant.cost) * u128::from(self.unit_time);
        *state = self.save(self.parts_of(now) + self.debt(*state, now).saturating_sub(returned));
    }

    /// The first whole nanosecond at which the meter is at its fullest.
    pub(crate) fn full_at(state: ArrivalTime) -> Timestamp {
        Timestamp::from_nanos(state.nanos.saturating_add(u64::from(state.fraction > 0)))
    }

    /// The time from empty to full, rounded up to the nanosecond.
    pub(crate) fn time_to_fill(&self) -> Nanos {
        self.length(self.full())
    }
}

/// Division that takes the short way where both sides fit a word, as they nearly always do.
pub(super) fn divide(dividend: u128, divisor: u64) -> u128 {
    match u64::try_from(dividend) {
        _ if divisor == 1 => dividend,
        Ok(short) => u128::from(short / divisor),
        Err(_) => dividend / u128::from(divisor),
    }
}

/// The greatest common divisor, by Euclid.
const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_rates_are_one_word() {
        for (count, period_s) in
            [(100, 60), (1_000, 3_600), (1_000_000, 1), (10_000_000, 1), (5, 60), (1, 31_536_000)]
        {
            let meter = Meter::new(1, Quota::new(count, Nanos::from_secs(period_s)).unwrap()).unwrap();
            assert_eq!(meter.parts(), 1, "{count} in {period_s} s");
        }
        assert_eq!(Meter::new(1, Quota::per_second(7)).unwrap().parts(), 7);
    }

    #[test]
    fn a_recovery_of_a_century_is_the_longest() {
        assert!(Meter::new(100, Quota::new(1, Nanos::from_secs(365 * 86_400)).unwrap()).is_some());
        assert!(Meter::new(101, Quota::new(1, Nanos::from_secs(365 * 86_400)).unwrap()).is_none());
    }
}
