//! `CL.THROTTLE`, `THROTTLE` and `GCRA`: a limit that comes with each call, in three dialects.
//!
//! | | `CL.THROTTLE` (redis-cell) | `THROTTLE` (throttlecrab) | `GCRA` (Redis) |
//! |---|---|---|---|
//! | first number | 1 if limited | 1 if allowed | 1 if limited |
//! | `max_burst` | how many more than one at once | how many at once | how many more than one at once |
//! | second to fifth | limit, remaining, retry, full | limit, remaining, full, retry | limit, available, retry, full |
//! | retry if allowed | −1 | 0 | −1 |
//! | the period | whole seconds | whole seconds | seconds, also parts of them |
//!
//! The time of one unit is rounded up to whole nanoseconds, so that never more passes than the limit says, and states are
//! points in time that mean the same under every limit.

use std::borrow::Cow;

use tollgate::algorithm::Gcra;
use tollgate::{Decision, KeyBuilder, KeyHash, Limit, LimitId, Nanos, Retry};

use super::parse::Command;

/// The kind of the keys of these commands. Policies' keys are made of other kinds of parts, so they never meet.
const KEY_TAG: u8 = 32;

/// The most bytes of a word that are shown to whoever sent it.
const SHOWN_MAX: usize = 64;

/// Whose dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Cell,
    Crab,
    Redis,
}

/// What a call asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    dialect: Dialect,
    pub(super) key: KeyHash,
    pub(super) limit: Limit,
    pub(super) id: LimitId,
    pub(super) cost: u32,
}

/// Why a call cannot be answered, as its sender is told.
pub(super) type Refusal = Cow<'static, str>;

/// The numbers of a call.
struct Numbers {
    max_burst: i64,
    count: i64,
    /// In nanoseconds.
    period: u128,
    quantity: i64,
}

impl Throttle {
    /// Reads a call. Its key is hashed after what `keys` holds already.
    ///
    /// # Errors
    /// What is wrong with it, in the words of its dialect.
    #[inline]
    pub(super) fn read(dialect: Dialect, command: Command<'_>, keys: &KeyBuilder) -> Result<Self, Refusal> {
        let numbers = match dialect {
            Dialect::Cell => cell(command)?,
            Dialect::Crab => crab(command)?,
            Dialect::Redis => redis(command)?,
        };
        let more = u64::from(dialect != Dialect::Crab);
        let burst = u64::try_from(numbers.max_burst).unwrap_or(0).saturating_add(more);
        let count = u128::try_from(numbers.count).unwrap_or(1).max(1);
        let interval = match (u64::try_from(numbers.period), u64::try_from(count)) {
            (Ok(period), Ok(count)) => u128::from(period.div_ceil(count)),
            _ => numbers.period.div_ceil(count),
        };
        let gcra =
            u64::try_from(interval).ok().and_then(|interval| Gcra::of_call(Nanos::new(interval), burst));
        let Some(gcra) = gcra else {
            return Err(dialect.error("the burst is too large, or takes longer than nine years to come back"));
        };
        let cost = match u32::try_from(numbers.quantity) {
            Ok(cost) => cost,
            // More than the limit holds is never there, however much more.
            Err(_)
                if u64::try_from(numbers.quantity).is_ok_and(|asked| asked > burst)
                    && burst < u64::from(u32::MAX) =>
            {
                u32::MAX
            }
            Err(_) => return Err(dialect.error("quantities above 4294967295 are not supported")),
        };
        let mut key = *keys;
        key.bytes(KEY_TAG, command.word(1));
        // Which limit it is matters to a full store only, which may count new keys of one limit together.
        let id = burst.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ gcra.meter().unit_time().rotate_left(32);
        Ok(Self { dialect, key: key.finish(), limit: gcra.into(), id: LimitId(id), cost })
    }

    /// The numbers to answer with.
    #[inline]
    pub(super) fn answer(&self, decision: &Decision) -> [i64; 5] {
        let allowed = decision.allowed;
        let (limit, remaining) = (count(self.limit.capacity()), count(decision.remaining));
        let full = seconds(decision.reset_after);
        let retry = match decision.retry_after {
            Retry::After(wait) => seconds(wait),
            Retry::Now if self.dialect == Dialect::Crab => 0,
            Retry::Now | Retry::Never => -1,
        };
        match self.dialect {
            Dialect::Cell | Dialect::Redis => [i64::from(!allowed), limit, remaining, retry, full],
            Dialect::Crab => [i64::from(allowed), limit, remaining, full, retry],
        }
    }
}

impl Dialect {
    /// An error in its own form.
    fn error(self, text: &str) -> Refusal {
        let kind = if self == Self::Cell { "Cell error:" } else { "ERR" };
        format!("{kind} {text}").into()
    }
}

fn count(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// Whole seconds, rounded up from a millisecond on.
fn seconds(length: Nanos) -> i64 {
    const SECOND: u64 = 1_000_000_000;
    let (whole, rest) = (length.as_nanos() / SECOND, length.as_nanos() % SECOND);
    count(whole + u64::from(rest >= 1_000_000))
}

fn nanos(seconds: i64) -> u128 {
    u128::try_from(seconds).unwrap_or(0) * 1_000_000_000
}

fn cell(command: Command<'_>) -> Result<Numbers, Refusal> {
    if !(5..=6).contains(&command.len()) {
        return Err(
            "Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]"
                .into(),
        );
    }
    let number = |index: usize| {
        whole(command.word(index)).ok_or_else(|| {
            Dialect::Cell.error(&format!("Couldn't parse as integer: {}", shown(command.word(index))))
        })
    };
    let (max_burst, count, period) = (number(2)?, number(3)?, number(4)?);
    let quantity = if command.len() == 6 { number(5)? } else { 1 };
    if count == 0 || period == 0 {
        return Err("Cell error: Zero rates are not supported".into());
    }
    if max_burst < 0 || count < 0 || period < 0 || quantity < 0 {
        return Err("Cell error: Negative numbers are not supported".into());
    }
    Ok(Numbers { max_burst, count, period: nanos(period), quantity })
}

fn crab(command: Command<'_>) -> Result<Numbers, Refusal> {
    if !(5..=6).contains(&command.len()) {
        return Err("ERR wrong number of arguments for 'throttle' command".into());
    }
    let number = |index: usize, name: &str, least: i64| {
        let number = whole(command.word(index)).filter(|number| *number >= least);
        number.ok_or_else(|| Refusal::from(format!("ERR invalid {name}")))
    };
    Ok(Numbers {
        max_burst: number(2, "max_burst", 1)?,
        count: number(3, "count_per_period", 1)?,
        period: nanos(number(4, "period", 1)?),
        quantity: if command.len() == 6 { number(5, "quantity", 0)? } else { 1 },
    })
}

fn redis(command: Command<'_>) -> Result<Numbers, Refusal> {
    if command.len() < 5 {
        return Err("ERR wrong number of arguments for 'gcra' command".into());
    }
    if command.len() != 5 && !(command.len() == 7 && command.word(5).eq_ignore_ascii_case(b"TOKENS")) {
        return Err("ERR syntax error".into());
    }
    let number = |index: usize, least: i64| {
        let number = whole(command.word(index)).filter(|number| *number >= least);
        number.ok_or(Refusal::from("ERR value is not an integer or out of range"))
    };
    let period = match whole(command.word(4)) {
        Some(seconds) => (seconds > 0).then(|| nanos(seconds)),
        None => fraction(command.word(4)),
    };
    Ok(Numbers {
        max_burst: number(2, 0)?,
        count: number(3, 1)?,
        period: period.ok_or("ERR value is not a valid float or out of range")?,
        quantity: if command.len() == 7 { number(6, 0)? } else { 1 },
    })
}

/// A whole number with or without a sign.
#[inline]
fn whole(word: &[u8]) -> Option<i64> {
    // Nearly all are a few digits.
    if (1..=18).contains(&word.len()) && word.iter().all(u8::is_ascii_digit) {
        return Some(word.iter().fold(0, |value, byte| value * 10 + i64::from(byte - b'0')));
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Seconds with a fraction, in nanoseconds; `None` if they are none, or not above nothing.
// Up to a hundred years, which a double holds to the microsecond.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fraction(word: &[u8]) -> Option<u128> {
    let seconds: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    let nanos = (seconds * 1e9).round();
    (nanos >= 1.0 && seconds <= 3.2e9).then_some(nanos as u128)
}

/// What somebody sent, as it can be shown to them.
fn shown(word: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&word[..word.len().min(SHOWN_MAX)])
}

#[cfg(test)]
mod tests;
