//! How a state is written: a line of text that says its own version, so that a later one can read it.
//!
//! `1 <moment of writing> <kind> <numbers>`, all times in nanoseconds since the Unix epoch:
//!
//! | kind | numbers |
//! |---|---|
//! | `a` GCRA, leaky bucket | the moment of the fullest, fraction |
//! | `g` token bucket, steady | the moment of the fullest, fraction |
//! | `i` token bucket, by the batch | missing, start of the period |
//! | `w` fixed window | start, count |
//! | `p` sliding window | start, last count, count |
//! | `l` sliding log | for each moment: the moment, how much |

use tollgate::algorithm::fixed_window::WindowCount;
use tollgate::algorithm::meter::ArrivalTime;
use tollgate::algorithm::sliding_log::Log;
use tollgate::algorithm::sliding_window::WindowPair;
use tollgate::algorithm::token_bucket::{Bucket, Deficit};
use tollgate::{State, Timestamp};

/// Writes a state at this moment; `None` if it is of a kind that did not exist when this was written.
pub(crate) fn write(at: Timestamp, state: &State) -> Option<String> {
    let (kind, numbers) = match state {
        State::Arrival(ArrivalTime { nanos, fraction }) => ('a', vec![*nanos, *fraction]),
        State::Bucket(Bucket::Greedy(ArrivalTime { nanos, fraction })) => ('g', vec![*nanos, *fraction]),
        State::Bucket(Bucket::Interval(Deficit { missing, since })) => {
            ('i', vec![*missing, since.as_nanos()])
        }
        State::Window(WindowCount { start, before, used }) => ('w', vec![start.as_nanos(), *before, *used]),
        State::Pair(WindowPair { start, previous, current }) => {
            ('p', vec![start.as_nanos(), *previous, *current])
        }
        State::Log(log) => {
            ('l', log.entries().flat_map(|(moment, taken)| [moment.as_nanos(), taken]).collect())
        }
        _ => return None,
    };
    let mut text = format!("1 {} {kind}", at.as_nanos());
    for number in numbers {
        text.push(' ');
        text.push_str(&number.to_string());
    }
    Some(text)
}

/// Reads what [`write`] wrote: the moment, and the state. `None` if it did not.
pub(crate) fn read(text: &[u8]) -> Option<(Timestamp, State)> {
    let mut words = str::from_utf8(text).ok()?.split(' ');
    if words.next() != Some("1") {
        return None;
    }
    let at = Timestamp::from_nanos(words.next()?.parse().ok()?);
    let kind = words.next()?;
    let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let moment = Timestamp::from_nanos;
    let state = match (kind, numbers.as_slice()) {
        ("a", &[nanos, fraction]) => State::Arrival(ArrivalTime { nanos, fraction }),
        ("g", &[nanos, fraction]) => State::Bucket(Bucket::Greedy(ArrivalTime { nanos, fraction })),
        ("i", &[missing, since]) => {
            State::Bucket(Bucket::Interval(Deficit { missing, since: moment(since) }))
        }
        ("w", &[start, before, used]) => State::Window(WindowCount { start: moment(start), before, used }),
        ("p", &[start, previous, current]) => {
            State::Pair(WindowPair { start: moment(start), previous, current })
        }
        ("l", entries) if entries.len().is_multiple_of(2) => {
            let entry = |pair: &[u64]| (moment(pair[0]), pair[1]);
            State::Log(entries.chunks_exact(2).map(entry).collect::<Log>())
        }
        _ => return None,
    };
    Some((at, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate::algorithm::{Gcra, Refill, TokenBucket};
    use tollgate::{Limit, Quota};

    #[test]
    fn every_kind_of_state_is_read_as_it_was_written() {
        let bucket = TokenBucket::new(5, Quota::per_second(7)).unwrap();
        let limits = [
            Limit::gcra(Quota::per_second(7)),
            Limit::from(Gcra::new(Quota::per_minute(5), 3).unwrap()),
            Limit::leaky_bucket(5, Quota::per_second(7)).unwrap(),
            Limit::from(bucket),
            Limit::from(bucket.with_refill(Refill::Interval).unwrap()),
            Limit::fixed_window(Quota::per_minute(5)),
            Limit::sliding_window(Quota::per_minute(5)),
            Limit::sliding_log(Quota::per_minute(5)).unwrap(),
        ];
        let at = Timestamp::from_secs(1_000_000_007);
        for limit in limits {
            let mut state = limit.fresh(at);
            for _ in 0..3 {
                let text = write(at, &state).unwrap();
                assert_eq!(read(text.as_bytes()), Some((at, state.clone())), "{limit}: {text}");
                assert!(limit.acquire(&mut state, at, 1).decision.allowed);
            }
        }
    }

    #[test]
    fn what_others_wrote_is_not_read() {
        for text in
            ["", "1", "1 5", "1 5 a", "1 5 a 1", "1 5 a 1 2 3", "1 5 l 1", "2 5 a 1 2", "1 5 x", "1 -5 a 1 2"]
        {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(&[0xFF, 0xFE]), None);
    }
}
