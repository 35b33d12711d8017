//! The hours in which a policy is active.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use tollgate_core::Timestamp;

use crate::calendar::WEEKDAYS;

/// Days and hours of a time zone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// By Monday-based number.
    pub(crate) days: [bool; 7],
    /// From the first to before the second; over midnight if the second is not later. `None` is the whole day.
    pub(crate) hours: Option<(Time, Time)>,
    pub(crate) zone: TimeZone,
}

impl Schedule {
    /// Whether the policy is active at `now`. Hours after midnight belong to the day on which they began.
    pub(crate) fn is_active(&self, now: Timestamp) -> bool {
        let instant =
            jiff::Timestamp::from_nanosecond(i128::from(now.as_nanos())).unwrap_or(jiff::Timestamp::MAX);
        let local = instant.to_zoned(self.zone.clone());
        let on = |day: Weekday| self.days[usize::from(day.to_monday_zero_offset().unsigned_abs())];
        let (today, time) = (local.weekday(), local.time());
        match self.hours {
            None => on(today),
            Some((from, to)) if from < to => on(today) && (from..to).contains(&time),
            Some((from, to)) => (on(today) && time >= from) || (on(today.previous()) && time < to),
        }
    }
}

/// Reads `09:00`.
pub(crate) fn parse_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |digits: &str| {
        ((1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse::<i8>().ok())
            .flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

/// Reads `mon` or `monday`.
pub(crate) fn parse_day(text: &str) -> Option<usize> {
    let text = text.trim();
    let is_meant = |day: &&str| day.eq_ignore_ascii_case(text) || day[..3].eq_ignore_ascii_case(text);
    WEEKDAYS.iter().position(is_meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(days: &[&str], hours: Option<(&str, &str)>, zone: &str, at: &str) -> bool {
        let mut on = [days.is_empty(); 7];
        for day in days {
            on[parse_day(day).unwrap()] = true;
        }
        let hours = hours.map(|(from, to)| (parse_time(from).unwrap(), parse_time(to).unwrap()));
        let schedule = Schedule { days: on, hours, zone: TimeZone::get(zone).unwrap() };
        let at: jiff::Timestamp = at.parse().unwrap();
        schedule.is_active(Timestamp::from_secs(at.as_second().unsigned_abs()))
    }

    #[test]
    fn hours_are_local_and_may_pass_midnight() {
        let day = Some(("09:00", "17:00"));
        assert!(active(&["mon"], day, "UTC", "2026-11-23T09:00:00Z"));
        assert!(!active(&["mon"], day, "UTC", "2026-11-23T17:00:00Z"));
        assert!(!active(&["tuesday"], day, "UTC", "2026-11-23T09:00:00Z"));
        // Berlin is two hours ahead in summer, one in winter.
        assert!(active(&[], day, "Europe/Berlin", "2026-07-01T07:00:00Z"));
        assert!(!active(&[], day, "Europe/Berlin", "2026-12-01T07:00:00Z"));
        let night = Some(("22:00", "06:00"));
        assert!(active(&["fri"], night, "UTC", "2026-11-27T23:00:00Z"));
        assert!(active(&["fri"], night, "UTC", "2026-11-28T05:59:00Z"));
        assert!(!active(&["fri"], night, "UTC", "2026-11-28T22:00:00Z"));
        assert!(!active(&["fri"], night, "UTC", "2026-11-27T05:00:00Z"));
    }

    #[test]
    fn only_times_are_times() {
        for text in ["", "9", "24:00", "09:60", "-1:00", "+9:00", "009:00", "9:0:0", "９:00"] {
            assert!(parse_time(text).is_none(), "{text}");
        }
        assert!(parse_day("funday").is_none() && parse_day("mo").is_none());
    }
}
