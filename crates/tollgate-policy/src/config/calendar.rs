//! How a limit's windows lie in the calendar: `calendar` and `carry_over`.

use std::ops::Range;

use jiff::tz::TimeZone;
use tollgate_core::Quota;
use tollgate_core::algorithm::{Calendar, FixedWindow};

use super::decode::{Decoder, shortened};
use super::tree::{Node, Value};
use crate::calendar::{Every, parse_month};
use crate::schedule::parse_day;

/// A calendar whose periods are not known yet: the limit says them.
#[derive(Clone, Debug)]
pub(super) struct Wall {
    zone: String,
    day: Option<(Day, Range<usize>)>,
    month: Option<(u8, Range<usize>)>,
}

#[derive(Clone, Copy, Debug)]
enum Day {
    /// Monday is 0.
    OfWeek(u8),
    OfMonth(u8),
}

/// What is carried over from a window to the next, at most.
#[derive(Clone, Debug)]
pub(super) struct Carry {
    amount: Amount,
    span: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Amount {
    Percent(u64),
    Units(u64),
}

impl Wall {
    /// Days and months as they are in UTC, from the first.
    pub(super) fn utc() -> Self {
        Self { zone: "UTC".to_owned(), day: None, month: None }
    }

    /// `{ zone: Europe/Berlin, start_day: 15 }`.
    pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Option<Self> {
        let mut fields = decoder.fields(node, "a map with `zone:`, `start_day:` and `start_month:`")?;
        let (zone_node, day, month) =
            (fields.take("zone"), fields.take("start_day"), fields.take("start_month"));
        decoder.finish(fields, &["zone", "start_day", "start_month"]);
        let zone = match zone_node {
            Some(node) => zone(decoder, node)?.1,
            None => "UTC".to_owned(),
        };
        let day = day.and_then(|node| Some((start_day(decoder, node)?, node.span.clone())));
        let month = month.and_then(|node| Some((start_month(decoder, node)?, node.span.clone())));
        Some(Self { zone, day, month })
    }

    /// The calendar by whose periods a limit counts.
    fn calendar(&self, decoder: &mut Decoder, rate: Quota, node: &Node) -> Option<Calendar> {
        let spelt = match &node.value {
            Value::Text(text) => text.split_once('/').or_else(|| text.split_once(" per ")),
            _ => None,
        };
        let is_one = spelt.is_some_and(|(_, period)| !period.bytes().any(|byte| byte.is_ascii_digit()));
        let day = self.day.as_ref().map(|(day, _)| *day);
        let month = self.month.as_ref().map(|(month, _)| *month);
        let every = match rate.period_name().as_str() {
            _ if !is_one => None,
            "minute" => Some(Every::Minute),
            "hour" => Some(Every::Hour),
            "day" => Some(Every::Day),
            "week" => match day {
                None => Some(Every::Week { from: 0 }),
                Some(Day::OfWeek(from)) => Some(Every::Week { from }),
                Some(Day::OfMonth(_)) => {
                    return self.no_day(decoder, "a week starts on a day such as `monday`");
                }
            },
            "month" => match day {
                None => Some(Every::Month { from: 1 }),
                Some(Day::OfMonth(from)) => Some(Every::Month { from }),
                Some(Day::OfWeek(_)) => return self.no_day(decoder, "a month starts on a day from 1 to 31"),
            },
            "year" => match day {
                None => Some(Every::Year { month: month.unwrap_or(1), day: 1 }),
                Some(Day::OfMonth(day)) => Some(Every::Year { month: month.unwrap_or(1), day }),
                Some(Day::OfWeek(_)) => return self.no_day(decoder, "a year starts on a day from 1 to 31"),
            },
            _ => None,
        };
        let Some(every) = every else {
            decoder.hinted(
                &node.span,
                "a calendar counts by one minute, hour, day, week, month or year",
                "write `10000/month`; for windows of any length use `algorithm: fixed_window` without `calendar`",
            );
            return None;
        };
        let is_short = matches!(every, Every::Minute | Every::Hour | Every::Day);
        let strays = [
            self.day.as_ref().filter(|_| is_short).map(|(_, span)| ("start_day", span)),
            self.month
                .as_ref()
                .filter(|_| !matches!(every, Every::Year { .. }))
                .map(|(_, span)| ("start_month", span)),
        ];
        for (setting, span) in strays.into_iter().flatten() {
            decoder.problem(span, format!("`{setting}` means nothing for `{rate}`"));
        }
        every.calendar(&self.zone).map_err(|error| decoder.problem(&node.span, error.to_string())).ok()
    }

    fn no_day(&self, decoder: &mut Decoder, why: &str) -> Option<Calendar> {
        let (_, span) = self.day.as_ref()?;
        decoder.problem(span, why);
        None
    }
}

impl Carry {
    /// `20%`, or `500`.
    pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Option<Self> {
        let amount = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok().map(Amount::Units),
            Value::Text(text) => {
                let percent = text.trim().strip_suffix('%').and_then(|number| number.trim().parse().ok());
                percent.filter(|percent| *percent <= 100).map(Amount::Percent)
            }
            _ => None,
        };
        if amount.is_none() {
            decoder.hinted(
                &node.span,
                "what is carried over is a number of units, or a part of the limit up to 100%",
                "write `500` or `20%`",
            );
        }
        Some(Self { amount: amount?, span: node.span.clone() })
    }

    fn units(&self, limit: u64) -> u64 {
        match self.amount {
            // A hundredth first, as a limit has up to 53 bits.
            Amount::Percent(percent) => limit / 100 * percent + limit % 100 * percent / 100,
            Amount::Units(units) => units,
        }
    }
}

/// The window of a rate, which is not zero.
pub(super) fn window(
    decoder: &mut Decoder,
    node: &Node,
    rate: Quota,
    wall: Option<&Wall>,
    carry: Option<&Carry>,
) -> Option<FixedWindow> {
    let window = match wall {
        Some(wall) => {
            let calendar = wall.calendar(decoder, rate, node)?;
            FixedWindow::by_calendar(rate.count(), calendar)
        }
        None => FixedWindow::new(rate),
    };
    let window = window.map_err(|error| decoder.problem(&node.span, error.to_string())).ok()?;
    let Some(carry) = carry else { return Some(window) };
    let carried = window.with_carry_over(carry.units(rate.count()));
    carried.map_err(|error| decoder.problem(&carry.span, error.to_string())).ok()
}

/// A time zone, and how it is spelt.
pub(super) fn zone(decoder: &mut Decoder, node: &Node) -> Option<(TimeZone, String)> {
    let text = decoder.text(node)?;
    let zone = TimeZone::get(text).ok();
    if zone.is_none() {
        decoder.hinted(
            &node.span,
            format!("unknown time zone `{}`", shortened(text)),
            "write an IANA name such as `Europe/Berlin`",
        );
    }
    Some((zone?, text.to_owned()))
}

fn start_day(decoder: &mut Decoder, node: &Node) -> Option<Day> {
    let day = match &node.value {
        Value::Integer(number) => {
            u8::try_from(*number).ok().filter(|day| (1..=31).contains(day)).map(Day::OfMonth)
        }
        Value::Text(text) => parse_day(text).and_then(|day| u8::try_from(day).ok()).map(Day::OfWeek),
        _ => None,
    };
    if day.is_none() {
        let found = decoder.word(node)?;
        decoder.hinted(
            &node.span,
            format!("`{}` is no day to start on", shortened(&found)),
            "write `monday` for weeks, or a day from 1 to 31 for months and years",
        );
    }
    day
}

fn start_month(decoder: &mut Decoder, node: &Node) -> Option<u8> {
    let month = match &node.value {
        Value::Integer(number) => u8::try_from(*number).ok().filter(|month| (1..=12).contains(month)),
        Value::Text(text) => parse_month(text),
        _ => None,
    };
    if month.is_none() {
        let found = decoder.word(node)?;
        decoder.hinted(
            &node.span,
            format!("`{}` is no month", shortened(&found)),
            "write `april`, or a number from 1 to 12",
        );
    }
    month
}
