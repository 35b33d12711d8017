//! Calendars in time zones: minutes, hours, days, weeks, months and years as the clock on the wall shows them.
//!
//! A zone's clock runs evenly between the moments at which it is set forward or back. So for each such stretch of time the
//! starts are found by arithmetic on what the clock shows, and written down as the moments that they are; the
//! [`Calendar`] that is made of them knows no zones any more.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollgate_core::algorithm::calendar::Starts;
use tollgate_core::algorithm::{Calendar, Windows};
use tollgate_core::{Limit, Nanos, Timestamp};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Until when a calendar is worked out: the end of the year 2100, in seconds. Later than stores count.
const END: i64 = 4_133_980_800;

/// How often a period begins anew.
///
/// ```
/// use tollgate_core::{Limit, Timestamp, algorithm::FixedWindow};
/// use tollgate_policy::Every;
///
/// let months = Every::Month { from: 15 }.calendar("Europe/Berlin")?;
/// let limit = Limit::from(FixedWindow::by_calendar(10_000, months)?);
/// assert_eq!(limit.to_string(), "10000/calendar month from day 15 (Europe/Berlin)");
///
/// // The 22nd of November 2026: midnight in Berlin is an hour before that of UTC.
/// let (start, end) = months.window(Timestamp::from_secs(1_795_305_600));
/// assert_eq!((start, end), (Timestamp::from_secs(1_794_697_200), Timestamp::from_secs(1_797_289_200)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Every {
    /// With each minute.
    Minute,
    /// With each hour that the clock shows. One that it shows twice, because it is set back by a whole hour, is two.
    Hour,
    /// At midnight, or at the first moment of a day that has none.
    Day,
    /// With the first moment of one day of the week.
    Week {
        /// Monday is 0, Sunday 6.
        from: u8,
    },
    /// With the first moment of one day of the month; in months that are too short, with their last day.
    Month {
        /// 1 to 31.
        from: u8,
    },
    /// With the first moment of one day of the year; where the month is too short, with its last day.
    Year {
        /// 1 to 12.
        month: u8,
        /// 1 to 31.
        day: u8,
    },
}

/// Why there is no such calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// There is no time zone of this name.
    #[error("unknown time zone `{0}`; write an IANA name such as `Europe/Berlin`")]
    Zone(String),
    /// There is no such day or month.
    #[error("{what} {number} is not between {least} and {most}")]
    Number {
        /// A day or a month.
        what: &'static str,
        /// Its number.
        number: u8,
        /// The first that there is.
        least: u8,
        /// The last that there is.
        most: u8,
    },
}

impl Every {
    /// The periods as they are in a time zone, from 1970 to 2100.
    ///
    /// Days on which the clock is set forward or back have 23 or 25 hours, or whatever the zone says; a day that a zone left out
    /// is none. It is made once for a process, in well under a millisecond, and kept.
    ///
    /// # Errors
    /// If the zone is none of the IANA's, or a day or month is out of range.
    pub fn calendar(self, zone: &str) -> Result<Calendar, CalendarError> {
        let within = |what, number: u8, least, most| {
            let is_within = (least..=most).contains(&number);
            if is_within { Ok(()) } else { Err(CalendarError::Number { what, number, least, most }) }
        };
        match self {
            Self::Week { from } => within("weekday", from, 0, 6)?,
            Self::Month { from } => within("day", from, 1, 31)?,
            Self::Year { month, day } => {
                within("month", month, 1, 12)?;
                within("day", day, 1, 31)?;
            }
            Self::Minute | Self::Hour | Self::Day => {}
        }
        let unknown = || CalendarError::Zone(zone.chars().take(60).collect());
        let zone = TimeZone::get(zone).map_err(|_| unknown())?;
        let name = format!("calendar {self} ({})", zone.iana_name().ok_or_else(unknown)?);
        Ok(Calendar::named(&name, self.period(), || self.starts(&zone)))
    }

    /// How long a period is said to be: a month is 30 days, a year 365.
    pub const fn period(self) -> Nanos {
        const DAY_SECS: u64 = DAY.unsigned_abs();
        Nanos::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => DAY_SECS,
            Self::Week { .. } => 7 * DAY_SECS,
            Self::Month { .. } => 30 * DAY_SECS,
            Self::Year { .. } => 365 * DAY_SECS,
        })
    }

    /// What the clock shows when a period begins.
    fn rhythm(self) -> Rhythm {
        match self {
            Self::Minute => Rhythm::Even { step: 60, shift: 0 },
            Self::Hour => Rhythm::Even { step: HOUR, shift: 0 },
            Self::Day => Rhythm::Even { step: DAY, shift: 0 },
            // The epoch was a Thursday.
            Self::Week { from } => Rhythm::Even { step: 7 * DAY, shift: (i64::from(from) - 3) * DAY },
            Self::Month { from } => Rhythm::dates(1..=12, from),
            Self::Year { month, day } => Rhythm::dates(month..=month, day),
        }
    }

    fn starts(self, zone: &TimeZone) -> Vec<Starts> {
        let rhythm = self.rhythm();
        // Days begin once, though a clock that is set back at midnight shows that twice.
        let repeats = matches!(self, Self::Minute | Self::Hour);
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        let mut changes = zone
            .following(epoch)
            .map(|change| (change.timestamp().as_second(), i64::from(change.offset().seconds())))
            .take_while(|(at, _)| *at < END)
            .peekable();
        let (mut from, mut offset) = (0, i64::from(zone.to_offset(epoch).seconds()));
        // What the clock has shown so far, and then some.
        let mut shown = i64::MIN;
        let mut starts = Vec::new();
        loop {
            let until = changes.peek().map_or(END, |(at, _)| *at);
            let first = if repeats { from + offset } else { shown.max(from + offset) };
            rhythm.between(first, until + offset, |first, step, count| {
                starts.push(started(first - offset, step, count));
            });
            shown = shown.max(until + offset);
            let Some((at, next)) = changes.next() else { return starts };
            // What the clock leaps over begins at that moment.
            let mut is_passed = false;
            rhythm.between(until + offset, at + next, |_, _, _| is_passed = true);
            if is_passed {
                starts.push(started(at, 0, 1));
            }
            (from, offset) = (at, next);
        }
    }
}

fn started(first: i64, step: i64, count: i64) -> Starts {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Starts {
        first: Timestamp::from_secs(number(first)),
        step: Nanos::from_secs(number(step)),
        count: number(count),
    }
}

/// What a clock shows when periods begin, in seconds since it showed the first moment of 1970.
enum Rhythm {
    /// Every so many, not counted from zero but from `shift`.
    Even { step: i64, shift: i64 },
    /// These.
    Dates(Vec<i64>),
}

impl Rhythm {
    /// A day of some months of each year.
    fn dates(months: std::ops::RangeInclusive<u8>, day: u8) -> Self {
        let epoch = Date::constant(1970, 1, 1);
        let years = 1969..=2101;
        let dates = years.flat_map(|year| months.clone().map(move |month| (year, month)));
        let moment = |(year, month): (i16, u8)| {
            let first = Date::new(year, month.cast_signed(), 1).ok()?;
            let date =
                Date::new(year, month.cast_signed(), day.cast_signed().min(first.days_in_month())).ok()?;
            let days = epoch.until(date).ok()?.get_days();
            Some(i64::from(days) * DAY)
        };
        Self::Dates(dates.filter_map(moment).collect())
    }

    /// Tells of all that lie from `first` to before `end`: the first, the step, and how many there are.
    fn between(&self, first: i64, end: i64, mut tell: impl FnMut(i64, i64, i64)) {
        match self {
            Self::Even { step, shift } => {
                let ahead = (first - shift).rem_euclid(*step);
                let first = if ahead == 0 { first } else { first - ahead + step };
                if first < end {
                    tell(first, *step, (end - first - 1) / step + 1);
                }
            }
            Self::Dates(dates) => {
                let from = dates.partition_point(|date| *date < first);
                dates[from..].iter().take_while(|date| **date < end).for_each(|date| tell(*date, 0, 1));
            }
        }
    }
}

/// Writes what comes after `each`: `month from day 15`.
impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Minute => f.write_str("minute"),
            Self::Hour => f.write_str("hour"),
            Self::Day => f.write_str("day"),
            Self::Week { from } => {
                write!(f, "week from {}", WEEKDAYS.get(usize::from(from)).unwrap_or(&"no day"))
            }
            Self::Month { from: 1 } => f.write_str("month"),
            Self::Month { from } => write!(f, "month from day {from}"),
            Self::Year { month: 1, day: 1 } => f.write_str("year"),
            Self::Year { month, day } => {
                let name = MONTHS.get(usize::from(month).wrapping_sub(1)).unwrap_or(&"no month");
                write!(f, "year from {name} {day}")
            }
        }
    }
}

/// From Monday on.
pub(crate) const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment as the clock of a limit's calendar shows it, with its distance from UTC, by RFC 3339; of a limit without a calendar,
/// in UTC.
///
/// ```
/// use tollgate_core::{Limit, Timestamp, algorithm::FixedWindow};
/// use tollgate_policy::{Every, local_time};
///
/// let limit = Limit::from(FixedWindow::by_calendar(5, Every::Month { from: 1 }.calendar("Asia/Kolkata")?)?);
/// assert_eq!(local_time(&limit, Timestamp::from_secs(1_795_305_600)), "2026-11-22T05:30:00+05:30");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn local_time(limit: &Limit, at: Timestamp) -> String {
    let zone = match limit {
        Limit::FixedWindow(window) => match window.windows() {
            Windows::Calendar(calendar) => zone_in(calendar.name()),
            _ => None,
        },
        _ => None,
    };
    let zone = zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())).unwrap_or(jiff::Timestamp::MAX);
    at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The zone that stands in a calendar's [name](Every::calendar).
fn zone_in(name: &str) -> Option<&str> {
    name.strip_prefix("calendar ")?.strip_suffix(')')?.rsplit_once(" (").map(|(_, zone)| zone)
}

/// Reads `april` or `apr`.
pub(crate) fn parse_month(text: &str) -> Option<u8> {
    let text = text.trim();
    let is_meant = |month: &&str| month.eq_ignore_ascii_case(text) || month[..3].eq_ignore_ascii_case(text);
    MONTHS.iter().position(is_meant).and_then(|index| u8::try_from(index + 1).ok())
}

#[cfg(test)]
mod tests;
