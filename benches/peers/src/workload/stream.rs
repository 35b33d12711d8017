//! Keys in the order of their arrival.

use std::fmt::Write;

/// Keys one after the other in one piece of memory, as they would come off a socket. So the loop that measures reads
/// forward, and hardly shows in what it measures.
pub(crate) trait KeyStream: Send + Sync {
    /// What a limiter is shown.
    type Key: ?Sized;
    /// Whether there are keys at all.
    const KEYED: bool = true;

    /// A stream with room for so many arrivals.
    fn with_capacity(arrivals: usize) -> Self;

    /// Forgets all arrivals.
    fn clear(&mut self);

    /// Appends the `index`-th key.
    fn push(&mut self, index: u32);

    /// The key that arrived at `position`.
    fn at(&self, position: usize) -> &Self::Key;
}

/// The number in the `index`-th key: of at most twelve digits, no two alike, in no order that shows.
fn key_number(index: u32) -> u64 {
    // A factor that shares no divisor with the number of values meets each of them once.
    const VALUES: u64 = 1_000_000_000_000;
    const FACTOR: u64 = 618_033_988_749;
    const START: u64 = 271_828_182_845;
    let number = (u128::from(index) * u128::from(FACTOR) + u128::from(START)) % u128::from(VALUES);
    u64::try_from(number).unwrap_or(0)
}

/// Keys as texts of 13 bytes: `k` and twelve digits.
#[derive(Debug)]
pub(crate) struct Texts(String);

impl Texts {
    const LENGTH: usize = 13;
}

impl KeyStream for Texts {
    type Key = str;

    fn with_capacity(arrivals: usize) -> Self {
        Self(String::with_capacity(arrivals * Self::LENGTH))
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, index: u32) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "k{:012}", key_number(index));
    }

    fn at(&self, position: usize) -> &str {
        let start = position * Self::LENGTH;
        &self.0[start..start + Self::LENGTH]
    }
}

/// Keys as numbers.
#[derive(Debug)]
pub(crate) struct Numbers(Vec<u64>);

impl KeyStream for Numbers {
    type Key = u64;

    fn with_capacity(arrivals: usize) -> Self {
        Self(Vec::with_capacity(arrivals))
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, index: u32) {
        self.0.push(key_number(index));
    }

    fn at(&self, position: usize) -> &u64 {
        &self.0[position]
    }
}

/// No keys: for limiters that limit one thing.
#[derive(Debug)]
pub(crate) struct NoKeys;

impl KeyStream for NoKeys {
    type Key = ();
    const KEYED: bool = false;

    fn with_capacity(_arrivals: usize) -> Self {
        Self
    }

    fn clear(&mut self) {}

    fn push(&mut self, _index: u32) {}

    fn at(&self, _position: usize) -> &() {
        &()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_thirteen_bytes_and_differ() {
        let mut texts = Texts::with_capacity(0);
        for index in 0..10_000 {
            texts.push(index);
        }
        let keys: HashSet<&str> = (0..10_000).map(|position| texts.at(position)).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == 13 && key.starts_with('k')));
        assert!(u128::from(key_number(u32::MAX)) < 1_000_000_000_000);
    }
}
