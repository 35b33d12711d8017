//! States as bytes, for stores that keep them on disk.
//!
//! A form's number, then whole numbers of eight bytes, the lowest first, on every machine:
//!
//! | form | state | numbers |
//! |---|---|---|
//! | 0 | nothing | |
//! | 1 | GCRA, leaky bucket | nanoseconds, fraction |
//! | 2 | token bucket that refills steadily | nanoseconds, fraction |
//! | 3 | token bucket refilled by the batch | missing, start of the period |
//! | 4 | fixed window | start, count |
//! | 5 | sliding window | start, count before, count |
//! | 6 | sliding log | moment and what was admitted at it, for each, the oldest first |
//! | 7 | fixed window into which something was carried over | start, what of that had been spent before, count |
//!
//! A number stands for its form for ever: what is written otherwise gets a new one.

use crate::algorithm::fixed_window::WindowCount;
use crate::algorithm::meter::ArrivalTime;
use crate::algorithm::sliding_log::MAX_LOG_LIMIT;
use crate::algorithm::sliding_window::WindowPair;
use crate::algorithm::token_bucket::{Bucket, Deficit};
use crate::limit::State;
use crate::time::Timestamp;

impl State {
    /// Appends the state to `bytes`.
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota, State, Timestamp};
    ///
    /// let limit = Limit::sliding_log(Quota::per_minute(5))?;
    /// let mut state = limit.fresh(Timestamp::EPOCH);
    /// limit.acquire(&mut state, Timestamp::from_secs(1), 3);
    ///
    /// let mut bytes = Vec::new();
    /// state.write(&mut bytes);
    /// assert_eq!(State::read(&bytes), Some(state));
    /// # Ok::<(), tollgate_core::LimitError>(())
    /// ```
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let mut put = |form: u8, numbers: &[u64]| {
            bytes.push(form);
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        };
        match self {
            Self::Nothing => put(0, &[]),
            Self::Arrival(at) => put(1, &[at.nanos, at.fraction]),
            Self::Bucket(Bucket::Greedy(at)) => put(2, &[at.nanos, at.fraction]),
            Self::Bucket(Bucket::Interval(deficit)) => put(3, &[deficit.missing, deficit.since.as_nanos()]),
            Self::Window(count) if count.before == 0 => put(4, &[count.start.as_nanos(), count.used]),
            Self::Window(count) => put(7, &[count.start.as_nanos(), count.before, count.used]),
            Self::Pair(pair) => put(5, &[pair.start.as_nanos(), pair.previous, pair.current]),
            Self::Log(log) => {
                put(6, &[]);
                for (at, admitted) in log.entries() {
                    bytes.extend(at.as_nanos().to_le_bytes());
                    bytes.extend(admitted.to_le_bytes());
                }
            }
        }
    }

    /// The state that was [written](Self::write) as these bytes; `None` if no state is.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (form, numbers) = bytes.split_first()?;
        let (numbers, []) = numbers.as_chunks::<8>() else { return None };
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next();
        let state = match form {
            0 => Self::Nothing,
            1 => Self::Arrival(ArrivalTime { nanos: next()?, fraction: next()? }),
            2 => Self::Bucket(Bucket::Greedy(ArrivalTime { nanos: next()?, fraction: next()? })),
            3 => {
                let missing = next()?;
                Self::Bucket(Bucket::Interval(Deficit { missing, since: Timestamp::from_nanos(next()?) }))
            }
            4 => {
                let start = Timestamp::from_nanos(next()?);
                Self::Window(WindowCount { start, before: 0, used: next()? })
            }
            5 => {
                let start = Timestamp::from_nanos(next()?);
                Self::Pair(WindowPair { start, previous: next()?, current: next()? })
            }
            6 => Self::Log(log(numbers.by_ref())?),
            7 => {
                let start = Timestamp::from_nanos(next()?);
                Self::Window(WindowCount { start, before: next()?, used: next()? })
            }
            _ => return None,
        };
        numbers.next().is_none().then_some(state)
    }
}

/// A log of what is written in pairs, if it is one: its moments ascend, at each something was admitted, and together no more
/// than a log may hold.
fn log(numbers: &mut impl Iterator<Item = u64>) -> Option<crate::algorithm::sliding_log::Log> {
    let mut entries = Vec::new();
    let (mut last, mut sum) = (None, 0_u64);
    while let Some(at) = numbers.next() {
        let admitted = numbers.next()?;
        sum = sum.checked_add(admitted)?;
        if admitted == 0 || last >= Some(at) || sum > MAX_LOG_LIMIT {
            return None;
        }
        last = Some(at);
        entries.push((Timestamp::from_nanos(at), admitted));
    }
    Some(entries.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::{Refill, TokenBucket};
    use crate::{Limit, Quota};

    fn states() -> Vec<State> {
        let now = Timestamp::from_secs(1_800_000_000);
        let bucket = |style| {
            Limit::from(TokenBucket::new(9, Quota::per_second(7)).unwrap().with_refill(style).unwrap())
        };
        let limits = [
            Limit::Unlimited,
            Limit::gcra(Quota::per_second(7)),
            bucket(Refill::Greedy),
            bucket(Refill::Interval),
            Limit::fixed_window(Quota::per_minute(9)),
            Limit::sliding_window(Quota::per_minute(9)),
            Limit::sliding_log(Quota::per_minute(9)).unwrap(),
        ];
        let state = |limit: Limit| {
            let mut state = limit.fresh(now);
            for step in 0..3 {
                limit.acquire(&mut state, Timestamp::from_nanos(now.as_nanos() + step), 2);
            }
            state
        };
        let carried = State::Window(WindowCount { start: now, before: 1, used: 2 });
        limits.into_iter().map(state).chain([carried]).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for (form, state) in states().into_iter().enumerate() {
            let mut bytes = Vec::new();
            state.write(&mut bytes);
            assert_eq!(usize::from(bytes[0]), form, "each form once");
            assert_eq!(State::read(&bytes), Some(state));
        }
    }

    #[test]
    fn what_is_no_state_is_none() {
        assert_eq!(State::read(&[]), None);
        assert_eq!(State::read(&[77]), None);
        for state in states() {
            let mut bytes = Vec::new();
            state.write(&mut bytes);
            for end in 1..bytes.len() {
                // A log that ends after an entry is a log.
                let is_log = bytes[0] == 6 && (end - 1).is_multiple_of(16);
                assert_eq!(State::read(&bytes[..end]).is_some(), is_log, "{state:?} up to {end}");
            }
            bytes.push(0);
            assert_eq!(State::read(&bytes), None);
        }
        let log = |entries: &[u64]| {
            let bytes: Vec<u8> =
                std::iter::once(6).chain(entries.iter().flat_map(|number| number.to_le_bytes())).collect();
            State::read(&bytes).is_some()
        };
        assert!(log(&[5, 1, 6, 1]));
        assert!(!log(&[6, 1, 5, 1]) && !log(&[5, 1, 5, 1]), "moments ascend");
        assert!(
            !log(&[5, 0]) && !log(&[5, u64::MAX, 6, 1]) && !log(&[5, MAX_LOG_LIMIT + 1]),
            "within bounds"
        );
    }
}
