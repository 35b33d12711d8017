//! Calendars whose windows are written down one by one, so that the model finds them in a list.

use std::sync::LazyLock;

use tollgate_core::algorithm::Calendar;
use tollgate_core::algorithm::calendar::Starts;
use tollgate_core::{Nanos, Timestamp};

use super::random::Random;

/// A calendar, and the starts of its windows in nanoseconds, in order.
pub(super) struct Known {
    pub(super) calendar: Calendar,
    pub(super) starts: Vec<i128>,
}

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// Later than any history comes.
const END: i128 = 131 * 366 * DAY;

/// Months, days on which clocks are set, and windows that have nothing in common.
pub(super) static CALENDARS: LazyLock<[Known; 3]> = LazyLock::new(|| {
    let months = (1970..2101).flat_map(|year| {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if leap { 29 } else { 28 };
        [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].map(|days| days * DAY)
    });
    // One of 23 hours and one of 25 in each 365.
    let days = (0..).map(|day| match day % 365 {
        87 => DAY - 3_600 * SECOND,
        297 => DAY + 3_600 * SECOND,
        _ => DAY,
    });
    let mut random = Random::new(7);
    let uneven = std::iter::repeat_with(move || i128::from(random.below(300_000) + 1) * SECOND);
    [
        known("conformance: months", 30 * DAY, months),
        known("conformance: days", DAY, days),
        known("conformance: uneven windows", 2 * DAY, uneven),
    ]
});

fn known(name: &str, period: i128, lengths: impl Iterator<Item = i128>) -> Known {
    let ends = lengths.scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    let starts: Vec<i128> = std::iter::once(0).chain(ends).take_while(|start| *start < END).collect();
    let nanos = |number: i128| u64::try_from(number).unwrap_or(u64::MAX);
    let calendar = Calendar::named(name, Nanos::new(nanos(period)), || {
        let start =
            |at: &i128| Starts { first: Timestamp::from_nanos(nanos(*at)), step: Nanos::ZERO, count: 1 };
        starts.iter().map(start).collect()
    });
    Known { calendar, starts }
}

/// The window of a calendar in which a moment lies.
pub(super) fn window(calendar: Calendar, now: i128) -> Option<(i128, i128)> {
    let known = CALENDARS.iter().find(|known| known.calendar == calendar)?;
    let next = known.starts.partition_point(|start| *start <= now);
    Some((*known.starts.get(next.checked_sub(1)?)?, *known.starts.get(next)?))
}
