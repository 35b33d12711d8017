//! Calendars against the plain statements of the database of time zones.

use jiff::civil::Weekday;
use jiff::tz::AmbiguousOffset;
use jiff::{ToSpan, Zoned};
use proptest::prelude::*;

use super::*;

/// The first moment that is not before a local date, by the library's own rules.
fn first_moment(date: Date, zone: &TimeZone) -> i64 {
    let midnight = date.at(0, 0, 0, 0);
    let ambiguous = zone.to_ambiguous_zoned(midnight);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(midnight).unwrap().as_second(),
        // The first of the two.
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(midnight).unwrap().as_second(),
        // The moment of the leap.
        AmbiguousOffset::Gap { before, .. } => {
            let after = before.to_timestamp(midnight).unwrap();
            let later = after + 1.nanoseconds();
            zone.preceding(later).next().unwrap().timestamp().as_second()
        }
    }
}

/// The first day of the period in which a date lies, found by going back day by day.
fn first_day(every: Every, mut date: Date) -> Date {
    loop {
        let last = i16::from(date.days_in_month());
        let is_start = match every {
            Every::Day => true,
            Every::Week { from } => date.weekday().to_monday_zero_offset() == from.cast_signed(),
            Every::Month { from } => i16::from(date.day()) == i16::from(from).min(last),
            Every::Year { month, day } => {
                date.month() == month.cast_signed() && i16::from(date.day()) == i16::from(day).min(last)
            }
            Every::Minute | Every::Hour => unreachable!("these are shorter than a day"),
        };
        if is_start {
            return date;
        }
        date = date.yesterday().unwrap();
    }
}

fn next_first_day(every: Every, start: Date) -> Date {
    let mut date = start.tomorrow().unwrap();
    while first_day(every, date) == start {
        date = date.tomorrow().unwrap();
    }
    date
}

/// The period around a moment, walked to by days.
fn walked(every: Every, zone: &TimeZone, now: i64) -> (i64, i64) {
    let zoned = Zoned::new(jiff::Timestamp::from_second(now).unwrap(), zone.clone());
    let mut start = first_day(every, zoned.date());
    let mut next = next_first_day(every, start);
    // A clock that is set back over midnight shows the day before again, which is over.
    while first_moment(next, zone) <= now {
        (start, next) = (next, next_first_day(every, next));
    }
    let from = first_moment(start, zone);
    (from, first_moment(next, zone))
}

fn window(every: Every, zone: &str, now: i64) -> (i64, i64) {
    let now = Timestamp::from_secs(now.unsigned_abs());
    let (start, end) = every.calendar(zone).unwrap().window(now);
    (start.as_secs().cast_signed(), end.as_secs().cast_signed())
}

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// Of the period around a moment: when it begins, in the zone, and how many hours it has.
fn told(every: Every, zone: &str, now: &str) -> (String, f64) {
    let (start, end) = window(every, zone, at(now));
    let zoned = jiff::Timestamp::from_second(start).unwrap().in_tz(zone).unwrap();
    #[allow(clippy::cast_precision_loss)]
    (zoned.strftime("%Y-%m-%dT%H:%M%:z").to_string(), (end - start) as f64 / 3_600.0)
}

#[test]
fn days_have_the_hours_that_the_zone_says() {
    for (zone, now, start, hours) in [
        ("UTC", "2026-03-29T12:00:00Z", "2026-03-29T00:00+00:00", 24.0),
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T00:00+01:00", 23.0),
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T00:00+02:00", 25.0),
        ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T00:00+02:00", 25.0),
        ("Europe/Berlin", "2026-10-25T23:00:00Z", "2026-10-26T00:00+01:00", 24.0),
        ("America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T00:00-05:00", 23.0),
        ("America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T00:00-04:00", 25.0),
        // Half an hour.
        ("Australia/Lord_Howe", "2026-10-03T20:00:00Z", "2026-10-04T00:00+10:30", 23.5),
        ("Australia/Lord_Howe", "2026-04-04T20:00:00Z", "2026-04-05T00:00+11:00", 24.5),
        // Midnight is left out; the day begins at one.
        ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T01:00-02:00", 23.0),
        ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-24T01:00+03:00", 23.0),
        // Midnight is reached once only, the hour before it twice.
        ("America/Sao_Paulo", "2019-02-17T02:30:00Z", "2019-02-16T00:00-02:00", 25.0),
        // Midnight is passed twice: the day begins with the first time, and is a day of 25 hours.
        ("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T00:00-02:30", 25.0),
        // A day that never was.
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T00:00-10:00", 24.0),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T00:00+14:00", 24.0),
    ] {
        assert_eq!(told(Every::Day, zone, now), (start.to_owned(), hours), "{zone} {now}");
    }
}

#[test]
fn hours_are_those_that_the_clock_shows() {
    for (zone, now, start, hours) in [
        ("Asia/Kolkata", "2026-01-01T00:10:00Z", "2026-01-01T05:00+05:30", 1.0),
        // Shown twice, an hour each time.
        ("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T02:00+02:00", 1.0),
        ("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T02:00+01:00", 1.0),
        // Set back by half an hour, in the middle of an hour.
        ("Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-05T01:00+11:00", 1.5),
        ("Australia/Lord_Howe", "2026-10-03T15:40:00Z", "2026-10-04T02:30+11:00", 0.5),
    ] {
        assert_eq!(told(Every::Hour, zone, now), (start.to_owned(), hours), "{zone} {now}");
    }
    assert_eq!(
        told(Every::Minute, "Europe/Berlin", "2026-03-29T01:00:30Z"),
        ("2026-03-29T03:00+02:00".to_owned(), 1.0 / 60.0)
    );
}

#[test]
fn months_start_on_any_day_and_short_ones_on_their_last() {
    let last = Every::Month { from: 31 };
    for (every, now, start, days) in [
        (Every::Month { from: 1 }, "2028-02-10T00:00:00Z", "2028-02-01T00:00+00:00", 29.0),
        (Every::Month { from: 1 }, "2026-02-10T00:00:00Z", "2026-02-01T00:00+00:00", 28.0),
        (Every::Month { from: 15 }, "2026-03-14T23:59:59Z", "2026-02-15T00:00+00:00", 28.0),
        (last, "2026-02-27T23:59:59Z", "2026-01-31T00:00+00:00", 28.0),
        (last, "2026-02-28T00:00:00Z", "2026-02-28T00:00+00:00", 31.0),
        (last, "2028-02-29T00:00:00Z", "2028-02-29T00:00+00:00", 31.0),
        (last, "2026-04-30T00:00:00Z", "2026-04-30T00:00+00:00", 31.0),
        (Every::Week { from: 0 }, "2026-11-22T00:00:00Z", "2026-11-16T00:00+00:00", 7.0),
        (Every::Week { from: 6 }, "2026-11-22T00:00:00Z", "2026-11-22T00:00+00:00", 7.0),
        (Every::Year { month: 4, day: 6 }, "2026-04-05T23:00:00Z", "2025-04-06T00:00+00:00", 365.0),
        (Every::Year { month: 2, day: 29 }, "2027-03-01T00:00:00Z", "2027-02-28T00:00+00:00", 366.0),
        (Every::Year { month: 1, day: 1 }, "2096-06-01T00:00:00Z", "2096-01-01T00:00+00:00", 366.0),
    ] {
        assert_eq!(told(every, "UTC", now), (start.to_owned(), days * 24.0), "{every} {now}");
    }
    assert_eq!(
        first_day(Every::Week { from: 2 }, Date::constant(2026, 11, 22)).weekday(),
        Weekday::Wednesday
    );
}

#[test]
fn what_is_no_calendar_is_told() {
    assert_eq!(Every::Day.calendar("Europe/Nowhere"), Err(CalendarError::Zone("Europe/Nowhere".to_owned())));
    for every in [
        Every::Week { from: 7 },
        Every::Month { from: 0 },
        Every::Month { from: 32 },
        Every::Year { month: 13, day: 1 },
        Every::Year { month: 1, day: 0 },
    ] {
        assert!(every.calendar("UTC").is_err(), "{every:?}");
    }
    // One calendar, however it is spelt.
    assert_eq!(Every::Day.calendar("europe/berlin"), Every::Day.calendar("Europe/Berlin"));
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "Europe/London",
        "Europe/Dublin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/St_Johns",
        "America/Havana",
        "Africa/Cairo",
        "Africa/Casablanca",
        "Africa/Monrovia",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Asia/Tehran",
        "Asia/Gaza",
        "Asia/Beirut",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "Pacific/Apia",
        "Pacific/Kwajalein",
        "Pacific/Chatham",
    ])
}

fn longer() -> impl Strategy<Value = Every> {
    prop_oneof![
        Just(Every::Day),
        (0..7_u8).prop_map(|from| Every::Week { from }),
        (1..=31_u8).prop_map(|from| Every::Month { from }),
        (1..=12_u8, 1..=31_u8).prop_map(|(month, day)| Every::Year { month, day }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn periods_are_those_of_a_walk_by_days(
        zone in zones(),
        every in longer(),
        // From 1972, as windows begin anew at the epoch, to 2097.
        now in 63_072_000_i64..4_007_750_400,
        near in prop::option::of(-90_000_i64..90_000),
    ) {
        let tz = TimeZone::get(zone).unwrap();
        // Every other time near a change of the clock.
        let change = near.and_then(|near| {
            let change = tz.following(jiff::Timestamp::from_second(now).unwrap()).next()?;
            Some(change.timestamp().as_second() + near)
        });
        let now = change.filter(|change| *change < 4_007_750_400).unwrap_or(now);
        prop_assert_eq!(window(every, zone, now), walked(every, &tz, now), "{} {} {}", every, zone, now);
    }

    #[test]
    fn hours_begin_when_the_clock_says_so(zone in zones(), now in 0_i64..4_007_750_400, near in prop::option::of(-9_000_i64..9_000)) {
        let tz = TimeZone::get(zone).unwrap();
        let change = near.and_then(|near| {
            let change = tz.following(jiff::Timestamp::from_second(now).unwrap()).next()?;
            Some(change.timestamp().as_second() + near)
        });
        let now = change.unwrap_or(now).clamp(7_200, 4_007_750_400);
        let shown = |at: i64| i64::from(tz.to_offset(jiff::Timestamp::from_second(at).unwrap()).seconds()) + at;
        // Second by second: a start is where the clock shows a whole hour, or leaps over one.
        let starts = |at: i64| shown(at).rem_euclid(HOUR) == 0 || shown(at).div_euclid(HOUR) > shown(at - 1).div_euclid(HOUR);
        let start = (0..i64::MAX).map(|back| now - back).find(|at| starts(*at)).unwrap();
        let end = (1..i64::MAX).map(|ahead| now + ahead).find(|at| starts(*at)).unwrap();
        prop_assert_eq!(window(Every::Hour, zone, now), (start, end));
    }
}
