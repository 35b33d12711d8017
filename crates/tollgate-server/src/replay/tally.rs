//! What each key of each policy asked for.

use hashbrown::HashMap;
use tollgate::{KeyHash, Timestamp};

/// All keys of one policy, or of one of its tiers.
#[derive(Debug, Default)]
pub(super) struct KeyTallies(pub(super) HashMap<KeyHash, KeyTally>);

/// One key.
#[derive(Debug, Default)]
pub(super) struct KeyTally {
    pub(super) matched: u64,
    pub(super) denied: u64,
    pub(super) first_denied: Timestamp,
    pub(super) last_denied: Timestamp,
    /// What people call it; known once it was denied.
    pub(super) name: Option<Box<str>>,
    pub(super) arrivals: Arrivals,
}

/// When a key's requests came, in about as many bytes as there is news: the difference to the one before in a
/// variable-length number, so a request of the same second takes one byte.
///
/// The first byte of a number holds six bits of it, its sign and whether more bytes follow; each further one holds seven
/// bits. Low bits come first.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    bytes: Vec<u8>,
    last: u64,
}

/// The requests of a key that came at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    /// Whether another log began since the moment before.
    pub(super) restarted: bool,
    pub(super) requests: u32,
}

/// More bytes follow.
const MORE: u8 = 0x80;
/// The difference goes back.
const BACK: u8 = 0x40;

impl Arrivals {
    /// Notes a request. Times that do not go back belong to one log.
    pub(super) fn push(&mut self, at: Timestamp) {
        let at = at.as_nanos();
        let sign = if at < self.last { BACK } else { 0 };
        let difference = at.abs_diff(self.last);
        self.last = at;
        let more = |rest: u64| if rest > 0 { MORE } else { 0 };
        let mut rest = difference >> 6;
        self.bytes.push(low_bits(difference, 0x3f) | sign | more(rest));
        while rest > 0 {
            let byte = low_bits(rest, 0x7f);
            rest >>= 7;
            self.bytes.push(byte | more(rest));
        }
    }

    /// The requests, those of one moment together.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arrival> + '_ {
        let mut bytes = self.bytes.iter().copied().peekable();
        let mut at = 0_u64;
        std::iter::from_fn(move || {
            let first = bytes.next()?;
            let (mut byte, mut difference, mut shift) = (first, u64::from(first & 0x3f), 6);
            while byte & MORE != 0 {
                byte = bytes.next()?;
                difference |= u64::from(byte & 0x7f) << shift;
                shift += 7;
            }
            let restarted = first & BACK != 0;
            at = if restarted { at.wrapping_sub(difference) } else { at.wrapping_add(difference) };
            let mut requests = 1;
            // A difference of nothing is a byte of zero.
            while requests < u32::MAX && bytes.next_if_eq(&0).is_some() {
                requests += 1;
            }
            Some(Arrival { at: Timestamp::from_nanos(at), restarted, requests })
        })
    }
}

/// The bits of a number that a mask of at most a byte keeps.
fn low_bits(number: u64, mask: u8) -> u8 {
    // The mask leaves a byte.
    #[allow(clippy::cast_possible_truncation)]
    let low = number as u8;
    low & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_back_as_they_were() {
        let times = [5, 5, 1_431_857_103_000_000_000, 1_431_857_103_000_000_000, 7, u64::MAX, 0, u64::MAX];
        let mut arrivals = Arrivals::default();
        for at in times {
            arrivals.push(Timestamp::from_nanos(at));
        }
        let back: Vec<_> = arrivals
            .iter()
            .map(|arrival| (arrival.at.as_nanos(), arrival.restarted, arrival.requests))
            .collect();
        let (day, max) = (1_431_857_103_000_000_000, u64::MAX);
        let expected =
            [(5, false, 2), (day, false, 2), (7, true, 1), (max, false, 1), (0, true, 1), (max, false, 1)];
        assert_eq!(back, expected);
    }
}
