//! Numbers, shares, durations and times, as people read them.
//!
//! All of it is integer arithmetic, so that no platform's floating point can change a report.

/// What stands where there is no number to give.
pub(crate) const NOTHING: &str = "–";

/// Names of the months, as the axes and tables abbreviate them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `n` in full, with a comma between each three digits.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `n` for a table: in full below a million million, and with a unit above, where the digits would
/// crowd out the rest of the row.
pub(crate) fn cell(n: u64) -> String {
    if n < 1_000_000_000_000 { count(n) } else { short(u128::from(n)) }
}

/// `n` for an axis, with an SI unit and at most one decimal, rounded down: `2.5k`.
pub(crate) fn short(n: u128) -> String {
    const UNITS: [(u128, &str); 6] = [
        (1_000_000_000_000_000_000, "E"),
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    for (size, unit) in UNITS {
        if n >= size {
            let (whole, tenth) = (n / size, n % size / (size / 10));
            return if tenth == 0 { format!("{whole}{unit}") } else { format!("{whole}.{tenth}{unit}") };
        }
    }
    n.to_string()
}

/// `part` of `whole` in percent, with one decimal: `4.1 %`.
///
/// What is not nothing never reads as `0 %`, and what is not all never as `100 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.to_owned();
    }
    let (part, whole) = (u128::from(part), u128::from(whole));
    let permille = (part * 1_000 + whole / 2) / whole;
    match permille {
        0 if part == 0 => "0 %".to_owned(),
        0 => "<0.1 %".to_owned(),
        1_000 if part == whole => "100 %".to_owned(),
        1_000 if part < whole => ">99.9 %".to_owned(),
        _ => format!("{}.{} %", permille / 10, permille % 10),
    }
}

/// `part` of `whole` as a number from 0 to 1, for machines; `None` of nothing.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more digits than a double holds")]
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// `numerator / denominator` with exactly three decimals, rounded down: a coordinate.
pub(crate) fn decimal(numerator: u128, denominator: u128) -> String {
    let thousandths = numerator.saturating_mul(1_000) / denominator.max(1);
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// A length of time in its two largest units: `3 d 11 h`.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    for (i, (size, unit)) in UNITS.into_iter().enumerate() {
        if seconds < size {
            continue;
        }
        let first = format!("{} {unit}", count(seconds / size));
        return match UNITS.get(i + 1) {
            Some((next, next_unit)) if seconds % size / next > 0 => {
                format!("{first} {} {next_unit}", seconds % size / next)
            }
            _ => first,
        };
    }
    "0 s".to_owned()
}

/// `n` with the word that goes with it: `1 request`, `2 requests`.
pub(crate) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A moment in UTC, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    /// From 1.
    pub(crate) month: u64,
    /// From 1.
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
}

impl Civil {
    /// The moment `seconds` after 1970-01-01 00:00:00 UTC, in the Gregorian calendar.
    ///
    /// `civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"
    /// (howardhinnant.github.io/date_algorithms.html), without its branch for days before the
    /// epoch. Years begin in March there, which puts the leap day at a year's end.
    pub(crate) fn at(seconds: u64) -> Self {
        let day_number = seconds / 86_400 + 719_468; // from 0000-03-01
        let era = day_number / 146_097;
        let day_of_era = day_number % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    fn month_name(self) -> &'static str {
        // `month` is 1 to 12: the other arm is never taken.
        usize::try_from(self.month - 1).ok().and_then(|i| MONTHS.get(i)).copied().unwrap_or(NOTHING)
    }
}

/// A moment in full: `2026-03-02 14:05:09`, in UTC.
pub(crate) fn date_time(unix_seconds: u64) -> String {
    let t = Civil::at(unix_seconds);
    format!("{} {:02}:{:02}:{:02}", date(unix_seconds), t.hour, t.minute, t.second)
}

/// A moment as HTML's `<time datetime>` wants it: `2026-03-02T14:05:09Z`.
pub(crate) fn machine_time(unix_seconds: u64) -> String {
    let t = Civil::at(unix_seconds);
    format!("{}T{:02}:{:02}:{:02}Z", date(unix_seconds), t.hour, t.minute, t.second)
}

/// The day of a moment: `2026-03-02`.
pub(crate) fn date(unix_seconds: u64) -> String {
    let t = Civil::at(unix_seconds);
    format!("{:04}-{:02}-{:02}", t.year, t.month, t.day)
}

/// The day of a moment within a year one knows: `Mar 2`.
pub(crate) fn day(unix_seconds: u64) -> String {
    let t = Civil::at(unix_seconds);
    format!("{} {}", t.month_name(), t.day)
}

/// A moment within a year one knows: `Mar 2 14:05`.
pub(crate) fn moment(unix_seconds: u64) -> String {
    format!("{} {}", day(unix_seconds), hour_minute(unix_seconds))
}

/// The time of day, to the minute: `14:05`.
pub(crate) fn hour_minute(unix_seconds: u64) -> String {
    let t = Civil::at(unix_seconds);
    format!("{:02}:{:02}", t.hour, t.minute)
}

/// The time of day, to the second: `14:05:09`.
pub(crate) fn hour_minute_second(unix_seconds: u64) -> String {
    format!("{}:{:02}", hour_minute(unix_seconds), Civil::at(unix_seconds).second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(cell(999_999_999_999), "999,999,999,999");
        assert_eq!(cell(u64::MAX), "18.4E");
    }

    #[test]
    fn axis_numbers_are_short() {
        assert_eq!(short(0), "0");
        assert_eq!(short(999), "999");
        assert_eq!(short(2_500), "2.5k");
        assert_eq!(short(10_000_000), "10M");
        assert_eq!(short(u128::from(u64::MAX) * 2), "36.8E");
    }

    #[test]
    fn a_share_never_claims_nothing_or_all_wrongly() {
        assert_eq!(percent(0, 0), "–");
        assert_eq!(percent(0, 7), "0 %");
        assert_eq!(percent(1, 1_000_000), "<0.1 %");
        assert_eq!(percent(412, 10_000), "4.1 %");
        assert_eq!(percent(999_999, 1_000_000), ">99.9 %");
        assert_eq!(percent(7, 7), "100 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100 %");
        assert_eq!(share(0, 0), None);
        assert_eq!(share(1, 4), Some(0.25));
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(45), "45 s");
        assert_eq!(duration(125), "2 min 5 s");
        assert_eq!(duration(3_600), "1 h");
        assert_eq!(duration(3 * 86_400 + 11 * 3_600 + 59), "3 d 11 h");
        assert_eq!(duration(86_400 + 59), "1 d");
        assert_eq!(duration(u64::MAX), "213,503,982,334,601 d 7 h");
    }

    #[test]
    fn times_follow_the_calendar() {
        assert_eq!(date_time(0), "1970-01-01 00:00:00");
        assert_eq!(date_time(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(date_time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date_time(4_107_542_400), "2100-03-01 00:00:00");
        assert_eq!(machine_time(1_772_460_309), "2026-03-02T14:05:09Z");
        assert_eq!(moment(1_772_460_309), "Mar 2 14:05");
        assert_eq!(date_time(u64::MAX), "584554051223-11-09 07:00:15");
    }

    #[test]
    fn coordinates_have_three_decimals() {
        assert_eq!(decimal(100, 3), "33.333");
        assert_eq!(decimal(0, 0), "0.000");
        assert_eq!(decimal(u128::MAX, 1), decimal(u128::MAX, 1));
    }
}
