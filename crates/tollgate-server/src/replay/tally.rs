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
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    bytes: Vec<u8>,
    last: u64,
}

/// A request of a key, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    /// Whether another log began since the one before.
    pub(super) restarted: bool,
}

impl Arrivals {
    /// Notes a request. Times that do not go back belong to one log.
    pub(super) fn push(&mut self, at: Timestamp) {
        let at = at.as_nanos();
        // Forwards is even, backwards odd.
        let (difference, sign) = if at >= self.last { (at - self.last, 0) } else { (self.last - at, 1) };
        self.last = at;
        let mut rest = u128::from(difference) << 1 | sign;
        while rest >= 0x80 {
            // The low seven bits, and a mark that more follow.
            self.bytes.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        self.bytes.push(u8::try_from(rest).unwrap_or(0));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Arrival> + '_ {
        let mut bytes = self.bytes.iter();
        let mut at = 0_u64;
        std::iter::from_fn(move || {
            let (mut number, mut shift) = (0_u128, 0);
            loop {
                let byte = *bytes.next()?;
                number |= u128::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let difference = u64::try_from(number >> 1).unwrap_or(u64::MAX);
            let restarted = number & 1 == 1;
            at = if restarted { at.wrapping_sub(difference) } else { at.wrapping_add(difference) };
            Some(Arrival { at: Timestamp::from_nanos(at), restarted })
        })
    }
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
        let back: Vec<_> =
            arrivals.iter().map(|arrival| (arrival.at.as_nanos(), arrival.restarted)).collect();
        let restarts = [false, false, false, false, true, false, true, false];
        assert_eq!(back, times.into_iter().zip(restarts).collect::<Vec<_>>());
    }
}
