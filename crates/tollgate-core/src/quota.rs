//! How much is allowed in how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::time::Nanos;

/// The largest count that a quota, a burst or a capacity may hold: 2^53 − 1, the largest integer that every store,
/// also one that computes with doubles, counts exactly.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// The longest period, and the longest time a limit may need to recover from empty: 100 years of 365 days.
pub const MAX_PERIOD: Nanos = Nanos::from_secs(100 * 365 * 86_400);

/// `count` units in each `period`: the rate of a limit.
///
/// A count of 0 is allowed and means that nothing passes.
///
/// ```
/// use std::time::Duration;
/// use tollgate_core::Quota;
///
/// assert_eq!(Quota::per_minute(100), "100/minute".parse()?);
/// assert_eq!(Quota::new(5, Duration::from_secs(30))?, "5/30s".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    count: u64,
    period: Nanos,
}

/// Why a quota cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The count is above [`MAX_COUNT`].
    #[error("{0} is above the largest count, {MAX_COUNT}; for no limit at all say `unlimited`")]
    Count(u64),
    /// The period is zero.
    #[error("a period of zero has no rate; say how long it is, as in `100/minute`")]
    ZeroPeriod,
    /// The period is above [`MAX_PERIOD`].
    #[error("a period of {0} is longer than 100 years")]
    Period(Nanos),
}

impl Quota {
    /// `count` units in each `period`.
    ///
    /// # Errors
    /// If `count` is above [`MAX_COUNT`], or `period` is zero or above [`MAX_PERIOD`].
    pub fn new(count: u64, period: impl Into<Nanos>) -> Result<Self, QuotaError> {
        let period = period.into();
        if count > MAX_COUNT {
            Err(QuotaError::Count(count))
        } else if period.is_zero() {
            Err(QuotaError::ZeroPeriod)
        } else if period > MAX_PERIOD {
            Err(QuotaError::Period(period))
        } else {
            Ok(Self { count, period })
        }
    }

    /// `count` units a second.
    pub const fn per_second(count: u32) -> Self {
        Self { count: count as u64, period: Nanos::from_secs(1) }
    }

    /// `count` units a minute.
    pub const fn per_minute(count: u32) -> Self {
        Self { count: count as u64, period: Nanos::from_secs(60) }
    }

    /// `count` units an hour.
    pub const fn per_hour(count: u32) -> Self {
        Self { count: count as u64, period: Nanos::from_secs(3_600) }
    }

    /// `count` units a day of 24 hours.
    pub const fn per_day(count: u32) -> Self {
        Self { count: count as u64, period: Nanos::from_secs(86_400) }
    }

    /// How many units a period allows.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// How long a period is.
    pub const fn period(self) -> Nanos {
        self.period
    }

    /// The same rate's period with another count.
    ///
    /// # Errors
    /// If `count` is above [`MAX_COUNT`].
    pub fn with_count(self, count: u64) -> Result<Self, QuotaError> {
        Self::new(count, self.period)
    }
}

/// The units that a period may be written in, longest spelling first where spellings share a start.
///
/// A month is 30 days and a year 365, as in envoyproxy/ratelimit.
const UNITS: [(&str, u64, &[&str]); 10] = [
    ("ms", 1_000_000, &["millisecond", "milliseconds", "millis"]),
    ("second", 1_000_000_000, &["seconds", "sec", "secs", "s"]),
    ("minute", 60_000_000_000, &["minutes", "min", "mins", "m"]),
    ("hour", 3_600_000_000_000, &["hours", "hr", "hrs", "h"]),
    ("day", 86_400_000_000_000, &["days", "d"]),
    ("week", 604_800_000_000_000, &["weeks", "w"]),
    ("month", 2_592_000_000_000_000, &["months", "mo"]),
    ("year", 31_536_000_000_000_000, &["years", "y"]),
    // The micro sign and the Greek letter: `Duration` writes the one, keyboards the other.
    ("us", 1_000, &["microsecond", "microseconds", "micros", "\u{b5}s", "\u{3bc}s"]),
    ("ns", 1, &["nanosecond", "nanoseconds", "nanos"]),
];

/// What is wrong with the text of a quota or of a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseQuotaError {
    /// There is no `/` between a count and a period.
    #[error("`{0}` is not a rate; write a count and a period, as in `100/minute` or `5/30s`")]
    Shape(String),
    /// The part before the `/` is not a whole number.
    #[error("`{0}` is not a whole number of at most {MAX_COUNT}")]
    Count(String),
    /// The part after the `/` is not a length of time.
    #[error("`{0}` is not a length of time; write one as in `30s`, `5 minutes` or `day`")]
    Period(String),
    /// Both parts are well-formed, but the quota cannot be.
    #[error(transparent)]
    Quota(#[from] QuotaError),
}

impl FromStr for Quota {
    type Err = ParseQuotaError;

    /// Reads `100/minute`, `5/30s`, `1_000 / 2 hours`, `10 per day`.
    fn from_str(text: &str) -> Result<Self, ParseQuotaError> {
        let (count, period) = text
            .split_once('/')
            .or_else(|| text.split_once(" per "))
            .ok_or_else(|| ParseQuotaError::Shape(excerpt(text)))?;
        let count = parse_count(count).ok_or_else(|| ParseQuotaError::Count(excerpt(count)))?;
        Ok(Self::new(count, parse_length(period)?)?)
    }
}

/// Reads a length of time such as `30s`, `5 minutes`, `1.5h` or `day`.
///
/// # Errors
/// If the text has no known unit, or its number is not a finite decimal, or the length passes 584 years.
///
/// ```
/// use tollgate_core::{Nanos, quota::parse_length};
/// assert_eq!(parse_length("1.5 s")?, Nanos::from_millis(1_500));
/// # Ok::<(), tollgate_core::ParseQuotaError>(())
/// ```
pub fn parse_length(text: &str) -> Result<Nanos, ParseQuotaError> {
    let wrong = || ParseQuotaError::Period(excerpt(text));
    let trimmed = text.trim();
    let unit_at = trimmed.find(char::is_alphabetic).ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(unit_at);
    let unit = unit.to_ascii_lowercase();
    let scale = UNITS
        .iter()
        .find(|(name, _, others)| *name == unit || others.contains(&unit.as_str()))
        .map(|(_, scale, _)| *scale)
        .ok_or_else(wrong)?;
    let number = number.trim();
    if number.is_empty() {
        return Ok(Nanos::new(scale));
    }
    // Integer arithmetic throughout: `whole.fraction` units, the fraction cut at the nanosecond.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = parse_count(whole).ok_or_else(wrong)?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) || number.ends_with('.') {
        return Err(wrong());
    }
    let fraction_nanos = match fraction.parse::<u64>() {
        Ok(digits) => {
            u128::from(digits) * u128::from(scale) / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(9))
        }
        Err(_) => 0,
    };
    let nanos = u128::from(whole) * u128::from(scale) + fraction_nanos;
    u64::try_from(nanos).map(Nanos::new).map_err(|_| wrong())
}

/// Reads a whole number in which `_` and `,` may group digits.
fn parse_count(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().filter(|c| !matches!(c, '_' | ',')).collect();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The start of a text, short enough for an error message.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.trim().char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text.trim()[..cut]),
        None => text.trim().to_owned(),
    }
}

/// Writes a period as the unit where it is one (`minute`), else as a length (`10s`).
pub(crate) fn write_period(f: &mut fmt::Formatter<'_>, period: Nanos) -> fmt::Result {
    match UNITS.iter().find(|(name, scale, _)| *scale == period.as_nanos() && name.len() > 2) {
        Some((name, ..)) => f.write_str(name),
        None => write!(f, "{period}"),
    }
}

/// Writes the quota as it can be read back: `100/minute`, `5/30s`.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.count)?;
        write_period(f, self.period)
    }
}

impl Quota {
    /// The period as a person would say it: `minute`, `10s`.
    pub fn period_name(self) -> String {
        struct Name(Nanos);
        impl fmt::Display for Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_period(f, self.0)
            }
        }
        Name(self.period).to_string()
    }

    /// The period as a [`Duration`].
    pub fn period_duration(self) -> Duration {
        self.period.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ways_people_write_rates() {
        for (text, count, secs) in [
            ("5/minute", 5, 60),
            ("1_000 / hour", 1_000, 3_600),
            ("1,000/h", 1_000, 3_600),
            ("100/10s", 100, 10),
            ("7 per 2 days", 7, 172_800),
            ("0/s", 0, 1),
            ("1/year", 1, 31_536_000),
        ] {
            assert_eq!(text.parse(), Quota::new(count, Nanos::from_secs(secs)).map_err(Into::into), "{text}");
        }
        assert_eq!("1/1.5ms".parse::<Quota>().unwrap().period(), Nanos::new(1_500_000));
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for text in [
            "",
            "/",
            "5",
            "5/",
            "/minute",
            "-5/minute",
            "5/0s",
            "5/fortnight",
            "1e3/s",
            "5/1.s",
            "5/.5s",
            "9007199254740992/s",
            "99999999999999999999/s",
            "5/101 years",
            "5/99999999999999999 years",
            "5/m/s",
            "٥/minute",
            "5/1.0000000001s",
        ] {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
        let long = "x".repeat(1_000_000);
        assert!(long.parse::<Quota>().unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "5/minute",
            "100/10s",
            "1/year",
            "3/week",
            "1/30d".replace("30d", "month").as_str(),
            "2/1.5ms",
            "2/1.5µs",
            "3/7ns",
        ] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
    }
}
