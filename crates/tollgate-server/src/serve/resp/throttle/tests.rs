//! The arithmetic against a model in plain integers.

use proptest::prelude::*;
use tollgate::{Hit, KeySeed, LocalStore, ManualClock, MemoryOptions, MemoryStore, Timestamp};

use super::*;
use crate::serve::resp::parse::{Bounds, Spans};

const SECOND: i128 = 1_000_000_000;

/// A call of these words, at this time, as a server answers it.
fn call(store: &MemoryStore<ManualClock>, line: &str) -> Result<[i64; 5], String> {
    let (mut spans, line) = (Spans::default(), format!("{line}\n"));
    spans.read(line.as_bytes(), Bounds::ALL).unwrap();
    let command = spans.command(line.as_bytes());
    let dialect = match command.word(0) {
        b"CL.THROTTLE" => Dialect::Cell,
        b"THROTTLE" => Dialect::Crab,
        _ => Dialect::Redis,
    };
    let keys = KeyBuilder::new(&KeySeed::new([7; 16]));
    let throttle = Throttle::read(dialect, command, &keys).map_err(Cow::into_owned)?;
    let hit = Hit::new(throttle.id, throttle.key, &throttle.limit).with_cost(throttle.cost);
    Ok(throttle.answer(&store.acquire_one(&hit).decision))
}

fn store() -> (ManualClock, MemoryStore<ManualClock>) {
    let clock = ManualClock::default();
    clock.set(Timestamp::from_secs(1_800_000_000));
    (clock.clone(), MemoryStore::with_clock(clock, MemoryOptions::default()))
}

#[test]
fn the_examples_of_the_dialects() {
    let (clock, store) = store();
    let ask = |line| call(&store, line).unwrap();
    assert_eq!(ask("CL.THROTTLE user123 15 30 60"), [0, 16, 15, -1, 2]);
    assert_eq!(ask("CL.THROTTLE slow 0 1 2"), [0, 1, 0, -1, 2]);
    assert_eq!(ask("CL.THROTTLE slow 0 1 2"), [1, 1, 0, 2, 2]);
    clock.advance(std::time::Duration::from_millis(500));
    assert_eq!(ask("CL.THROTTLE slow 0 1 2"), [1, 1, 0, 2, 2]);
    clock.advance(std::time::Duration::from_micros(500_999));
    // 0.999001 s.
    assert_eq!(ask("CL.THROTTLE slow 0 1 2"), [1, 1, 0, 1, 1]);
    clock.advance(std::time::Duration::from_micros(998_500));
    // Half a millisecond is nothing.
    assert_eq!(ask("CL.THROTTLE slow 0 1 2"), [1, 1, 0, 0, 0]);
    // A quantity of nothing looks; more than there ever is can never pass.
    assert_eq!(ask("CL.THROTTLE new 4 5 10 0"), [0, 5, 5, -1, 0]);
    assert_eq!(ask("CL.THROTTLE new 4 5 10 6"), [1, 5, 5, -1, 0]);
    assert_eq!(ask("CL.THROTTLE new 4 5 10 9223372036854775807"), [1, 5, 5, -1, 0]);
    assert_eq!(ask("CL.THROTTLE new 4 5 10 5"), [0, 5, 0, -1, 10]);

    assert_eq!(ask("THROTTLE crab 2 2 2"), [1, 2, 1, 1, 0]);
    assert_eq!(ask("THROTTLE crab 2 2 2"), [1, 2, 0, 2, 0]);
    assert_eq!(ask("THROTTLE crab 2 2 2"), [0, 2, 0, 2, 1]);
    assert_eq!(ask("THROTTLE crab 2 2 2 3"), [0, 2, 0, 2, -1]);

    assert_eq!(ask("GCRA redis 1 1 1.5 TOKENS 2"), [0, 2, 0, -1, 3]);
    assert_eq!(ask("GCRA redis 1 1 1.5"), [1, 2, 0, 2, 3]);
    assert_eq!(ask("gcra redis 1 1 1.5 tokens 0"), [0, 2, 0, -1, 3]);
}

#[test]
fn a_changed_limit_takes_effect_on_what_is_stored() {
    let (clock, store) = store();
    let ask = |line| call(&store, line).unwrap();
    assert_eq!(ask("CL.THROTTLE k 99 1 1 100"), [0, 100, 0, -1, 100]);
    // The same hundred seconds are too long for a burst of two, and a denial leaves them as they are.
    assert_eq!(ask("CL.THROTTLE k 1 1 1"), [1, 2, 0, 99, 100]);
    assert_eq!(ask("CL.THROTTLE k 1 1 1 0"), [1, 2, 0, 98, 100]);
    assert_eq!(ask("CL.THROTTLE k 99 1 1"), [1, 100, 0, 1, 100]);
    // A rate that is no whole number of nanoseconds counts by the same state.
    assert_eq!(ask("CL.THROTTLE k 1000 7 1 0"), [0, 1001, 301, -1, 100]);
    clock.advance(std::time::Duration::from_secs(99));
    assert_eq!(ask("CL.THROTTLE k 1 1 1"), [0, 2, 0, -1, 2]);
    assert_eq!(store.len(), 1);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let (_, store) = store();
    let most = i64::MAX;
    for (line, said) in [
        (
            "CL.THROTTLE k 1 1".to_owned(),
            "Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]",
        ),
        ("CL.THROTTLE k 1 0 1".to_owned(), "Cell error: Zero rates are not supported"),
        ("CL.THROTTLE k 1 1 0".to_owned(), "Cell error: Zero rates are not supported"),
        ("CL.THROTTLE k 1.5 1 1".to_owned(), "Cell error: Couldn't parse as integer: 1.5"),
        ("CL.THROTTLE k '' 1 1".to_owned(), "Cell error: Couldn't parse as integer: "),
        ("CL.THROTTLE k 1 1 1 x".to_owned(), "Cell error: Couldn't parse as integer: x"),
        (
            "CL.THROTTLE k 9223372036854775808 1 1".to_owned(),
            "Cell error: Couldn't parse as integer: 9223372036854775808",
        ),
        ("CL.THROTTLE k -1 1 1".to_owned(), "Cell error: Negative numbers are not supported"),
        ("CL.THROTTLE k 1 1 1 -1".to_owned(), "Cell error: Negative numbers are not supported"),
        (
            format!("CL.THROTTLE k {most} 1 1"),
            "Cell error: the burst is too large, or takes longer than nine years to come back",
        ),
        (
            format!("CL.THROTTLE k 1 1 {most}"),
            "Cell error: the burst is too large, or takes longer than nine years to come back",
        ),
        (
            "CL.THROTTLE k 8589934592 1000000000 1 4294967296".to_owned(),
            "Cell error: quantities above 4294967295 are not supported",
        ),
        ("THROTTLE k 0 1 1".to_owned(), "ERR invalid max_burst"),
        ("THROTTLE k 1 1 1 1 1".to_owned(), "ERR wrong number of arguments for 'throttle' command"),
        ("GCRA k 1 1".to_owned(), "ERR wrong number of arguments for 'gcra' command"),
        ("GCRA k 1 1 1 TOKEN 1".to_owned(), "ERR syntax error"),
        ("GCRA k 1 1 nan".to_owned(), "ERR value is not a valid float or out of range"),
        ("GCRA k 1 1 inf".to_owned(), "ERR value is not a valid float or out of range"),
        ("GCRA k 1 1 -1".to_owned(), "ERR value is not a valid float or out of range"),
        ("GCRA k 1 0 1".to_owned(), "ERR value is not an integer or out of range"),
    ] {
        assert_eq!(call(&store, &line), Err(said.to_owned()), "{line}");
    }
    // A count beyond all clocks is one a nanosecond.
    assert_eq!(call(&store, &format!("CL.THROTTLE k 1 {most} 1")), Ok([0, 2, 1, -1, 0]));
    assert!(store.len() <= 1);
}

/// redis-cell's own arithmetic, but for the rounding of the interval.
fn model(
    tat: &mut Option<i128>,
    now: i128,
    max_burst: i64,
    count: i64,
    period: i64,
    quantity: i64,
) -> [i64; 5] {
    let interval = (i128::from(period) * SECOND + i128::from(count) - 1) / i128::from(count);
    let tolerance = interval * i128::from(max_burst + 1);
    let increment = interval * i128::from(quantity);
    let before = tat.unwrap_or(now).max(now);
    let after = before + increment;
    let wait = after - tolerance - now;
    let (limited, retry, left_at) = if wait > 0 {
        (1, if increment <= tolerance { up(wait) } else { -1 }, before)
    } else {
        *tat = Some(after);
        (0, -1, after)
    };
    let remaining = ((tolerance - (left_at - now)) / interval).max(0);
    [limited, max_burst + 1, remaining.try_into().unwrap(), retry, up(left_at - now)]
}

fn up(nanos: i128) -> i64 {
    i64::try_from(nanos / SECOND).unwrap() + i64::from(nanos % SECOND >= 1_000_000)
}

proptest! {
    #[test]
    fn any_history_is_answered_as_by_the_model(
        calls in prop::collection::vec((0_u64..5_000_000_000, 0_i64..12, 1_i64..40, 1_i64..70, 0_i64..15), 1..60)
    ) {
        let (clock, store) = store();
        let mut tat = None;
        for (pause, max_burst, count, period, quantity) in calls {
            clock.advance(std::time::Duration::from_nanos(pause));
            let now = i128::from(clock_now(&store).as_nanos());
            let line = format!("CL.THROTTLE k {max_burst} {count} {period} {quantity}");
            prop_assert_eq!(
                call(&store, &line),
                Ok(model(&mut tat, now, max_burst, count, period, quantity)),
                "{}", line
            );
        }
    }

    #[test]
    fn any_numbers_are_answered_or_refused(words in prop::collection::vec(prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (0_i64..100).prop_map(|number| number.to_string()),
        "[0-9a-zA-Z.+-]{1,22}".prop_map(|word| word),
    ], 0..7), command in prop_oneof![Just("CL.THROTTLE"), Just("THROTTLE"), Just("GCRA")]) {
        let (_, store) = store();
        let _ = call(&store, &format!("{command} {}", words.join(" ")));
    }
}

fn clock_now(store: &MemoryStore<ManualClock>) -> Timestamp {
    LocalStore::now(store)
}
