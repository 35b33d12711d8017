//! The times of log lines, as nanoseconds since the Unix epoch.
//!
//! Done by hand because it is done for every line, and because a log's time needs neither a calendar nor a
//! time-zone database: the offset stands in the line.

use super::tally::Flaw;

/// The first day after the last year that is accepted. Nanoseconds in a `u64` would reach the year 2554.
const END_S: i64 = days_from_civil(2501, 1, 1) * DAY_S;

const DAY_S: i64 = 86_400;

/// Reads the time of line after line, and remembers the day and zone of the last one: neighbours in a log share
/// them, so that for most lines only the time of day is read.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// `17/May/2015` and ` +0000` of the last common log time.
    day: [u8; 11],
    zone: [u8; 6],
    /// The start of that day in that zone, in seconds since the epoch. Below zero east of Greenwich on the first day.
    midnight_s: i64,
}

impl Times {
    /// A time in any of the accepted spellings: of the common log format, RFC 3339, or a number since the epoch.
    pub(super) fn any(&mut self, text: &[u8]) -> Result<u64, Flaw> {
        match text {
            [b'[', inside @ .., b']'] => self.text(inside),
            [_, _, b'/', ..] | [_, _, _, _, b'-', ..] => self.text(text),
            _ => epoch(text),
        }
    }

    /// A time in words: `17/May/2015:10:05:03 +0000` or `2015-05-17T10:05:03.5+00:00`.
    pub(super) fn text(&mut self, text: &[u8]) -> Result<u64, Flaw> {
        if let Ok(text) = <&[u8; 26]>::try_from(text)
            && text[..11] == self.day
            && text[20..] == self.zone
            && text[11] == b':'
        {
            return nanos(self.midnight_s + time_of_day(&text[12..20])?, 0);
        }
        if text.get(4) == Some(&b'-') { rfc3339(text) } else { self.common(text) }
    }

    /// `17/May/2015:10:05:03 +0000`, with an optional fraction of a second, and remembers its day and zone.
    fn common(&mut self, text: &[u8]) -> Result<u64, Flaw> {
        let (date, rest) = text.split_at_checked(12).ok_or(Flaw::TimeSyntax)?;
        let &[d1, d2, b'/', m1, m2, m3, b'/', ref year @ .., b':'] = date else {
            return Err(Flaw::TimeSyntax);
        };
        let day = number(&[d1, d2]).ok_or(Flaw::TimeSyntax)?;
        let month = month([m1, m2, m3]).ok_or(Flaw::Date)?;
        let year = number(year).ok_or(Flaw::TimeSyntax)?;

        let (clock, rest) = rest.split_at_checked(8).ok_or(Flaw::TimeSyntax)?;
        let second = time_of_day(clock)?;
        let (fraction_ns, zone) = fraction(rest)?;
        let midnight_s = midnight(year, month, day)? - offset(zone)?;
        let time = nanos(midnight_s + second, fraction_ns)?;

        if let (Ok(day), Ok(zone)) = (text[..11].try_into(), zone.try_into()) {
            *self = Self { day, zone, midnight_s };
        }
        Ok(time)
    }
}

impl Default for Times {
    /// Remembers the first day of all, as if it had been read: a day that cannot be one would need care.
    fn default() -> Self {
        Self { day: *b"01/Jan/1970", zone: *b" +0000", midnight_s: 0 }
    }
}

/// `2015-05-17T10:05:03.5+00:00`; also with a space for the `T`, a comma for the point, and before the offset.
fn rfc3339(text: &[u8]) -> Result<u64, Flaw> {
    let (moment, rest) = text.split_at_checked(19).ok_or(Flaw::TimeSyntax)?;
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't' | b' ', ref clock @ ..] = moment else {
        return Err(Flaw::TimeSyntax);
    };
    let year = number(&[y1, y2, y3, y4]).ok_or(Flaw::TimeSyntax)?;
    let month = number(&[m1, m2]).ok_or(Flaw::TimeSyntax)?;
    let day = number(&[d1, d2]).ok_or(Flaw::TimeSyntax)?;
    let second = time_of_day(clock)?;
    let (fraction_ns, zone) = fraction(rest)?;
    nanos(midnight(year, month, day)? - offset(zone)? + second, fraction_ns)
}

/// A number since the epoch, in the unit that its size tells: below 10¹¹ seconds, below 10¹⁴ milliseconds, below
/// 10¹⁷ microseconds, else nanoseconds. So all four mean the same for every time from 1973 to the end.
///
/// Worked out on the digits: a `f64` of nanoseconds would be off by up to 256 of them.
fn epoch(text: &[u8]) -> Result<u64, Flaw> {
    const DIGITS_MAX: usize = 64;

    let (text, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        _ => (text, false),
    };
    if text.len() > DIGITS_MAX {
        return Err(Flaw::TimeSyntax);
    }
    let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', text) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, part) = match memchr::memchr(b'.', mantissa) {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.is_empty() || !whole.iter().chain(part).all(u8::is_ascii_digit) {
        return Err(Flaw::TimeSyntax);
    }

    let mut digits = whole.iter().chain(part).skip_while(|digit| **digit == b'0').peekable();
    if digits.peek().is_none() {
        return Ok(0);
    }
    if negative {
        return Err(Flaw::Year);
    }
    let zeros = whole.iter().chain(part).take_while(|digit| **digit == b'0').count();
    // How many digits stand before the point once it is moved by the exponent.
    let whole_digits = whole.len().cast_signed() - zeros.cast_signed() + exponent;
    let unit_digits = match whole_digits {
        ..=11 => 9,
        12..=14 => 6,
        15..=17 => 3,
        18..=20 => 0,
        _ => return Err(Flaw::Year),
    };
    // At most 20 digits: no overflow. What lies below a nanosecond is cut off.
    let time = (0..whole_digits + unit_digits)
        .fold(0u128, |time, _| time * 10 + digits.next().map_or(0, |digit| u128::from(digit - b'0')));
    match u64::try_from(time) {
        Ok(time) if time / 1_000_000_000 < END_S.cast_unsigned() => Ok(time),
        _ => Err(Flaw::Year),
    }
}

/// The exponent of a number; one with five digits is far outside of time.
fn exponent(text: &[u8]) -> Result<isize, Flaw> {
    let (digits, sign) = match text {
        [b'-', digits @ ..] => (digits, -1),
        [b'+', digits @ ..] | digits => (digits, 1),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Flaw::TimeSyntax);
    }
    if digits.len() > 4 {
        return Err(Flaw::Year);
    }
    Ok(sign * digits.iter().fold(0, |value, digit| value * 10 + isize::from(digit - b'0')))
}

/// Seconds since the epoch, checked to lie within the accepted years, as nanoseconds.
fn nanos(second: i64, fraction_ns: u64) -> Result<u64, Flaw> {
    match u64::try_from(second) {
        Ok(whole) if second < END_S => Ok(whole * 1_000_000_000 + fraction_ns),
        _ => Err(Flaw::Year),
    }
}

/// The second since the epoch at which a day begins in UTC.
fn midnight(year: i64, month: i64, day: i64) -> Result<i64, Flaw> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(Flaw::Date),
    };
    if !(1..=days).contains(&day) {
        return Err(Flaw::Date);
    }
    // One year more on either side, because a zone can carry a day over the border. `nanos` decides.
    if !(1969..=2501).contains(&year) {
        return Err(Flaw::Year);
    }
    Ok(days_from_civil(year, month, day) * DAY_S)
}

/// Days from 1 January 1970 to a date, for years from 0.
///
/// This is `days_from_civil` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// <https://howardhinnant.github.io/date_algorithms.html>. The year begins in March, so that the leap day is its
/// last day.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `10:05:03` as seconds. Second 60 is accepted, as RFC 3339 has it for leap seconds, and is the next second.
fn time_of_day(text: &[u8]) -> Result<i64, Flaw> {
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = text else {
        return Err(Flaw::TimeSyntax);
    };
    let hour = number(&[h1, h2]).ok_or(Flaw::TimeSyntax)?;
    let minute = number(&[m1, m2]).ok_or(Flaw::TimeSyntax)?;
    let second = number(&[s1, s2]).ok_or(Flaw::TimeSyntax)?;
    if hour > 23 || minute > 59 || second > 60 {
        return Err(Flaw::Clock);
    }
    Ok(hour * 3600 + minute * 60 + second)
}

/// A fraction of a second, if there is one, in nanoseconds, and what follows it.
fn fraction(text: &[u8]) -> Result<(u64, &[u8]), Flaw> {
    let [b'.' | b',', rest @ ..] = text else {
        return Ok((0, text));
    };
    let length = rest.iter().take_while(|digit| digit.is_ascii_digit()).count();
    if length == 0 {
        return Err(Flaw::TimeSyntax);
    }
    let (digits, rest) = rest.split_at(length);
    let digit = |at: usize| digits.get(at).map_or(0, |digit| u64::from(digit - b'0'));
    Ok(((0..9).fold(0, |ns, at| ns * 10 + digit(at)), rest))
}

/// An offset from UTC in seconds: `Z`, `+00`, `+0000` or `+00:00`, after an optional space.
fn offset(text: &[u8]) -> Result<i64, Flaw> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, hours, minutes) = match *text {
        [b'Z' | b'z'] => return Ok(0),
        [sign, h1, h2] => (sign, [h1, h2], [b'0'; 2]),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, [h1, h2], [m1, m2]),
        _ => return Err(Flaw::Zone),
    };
    let hours = number(&hours).ok_or(Flaw::Zone)?;
    let minutes = number(&minutes).ok_or(Flaw::Zone)?;
    if hours > 23 || minutes > 59 {
        return Err(Flaw::Zone);
    }
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        b'+' => Ok(seconds),
        b'-' => Ok(-seconds),
        _ => Err(Flaw::Zone),
    }
}

/// The number of a month by its English short name, in any case.
fn month(name: [u8; 3]) -> Option<i64> {
    match &name.map(|letter| letter.to_ascii_lowercase()) {
        b"jan" => Some(1),
        b"feb" => Some(2),
        b"mar" => Some(3),
        b"apr" => Some(4),
        b"may" => Some(5),
        b"jun" => Some(6),
        b"jul" => Some(7),
        b"aug" => Some(8),
        b"sep" => Some(9),
        b"oct" => Some(10),
        b"nov" => Some(11),
        b"dec" => Some(12),
        _ => None,
    }
}

/// A few decimal digits.
fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}
