//! No limiter: what the harness itself costs, and what memory does.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Peer;
use crate::error::Error;
use crate::setup::{Outcome, Setup};
use crate::workload::{NoKeys, Texts};

/// Reads each key, and answers what the scenario wants to hear.
#[derive(Debug)]
pub(crate) struct Empty(bool);

impl Peer for Empty {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(setup.outcome == Outcome::Allowed))
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        // Two words that overlap hold all 13 bytes.
        let bytes = key.as_bytes();
        black_box((bytes.first_chunk::<8>().copied(), bytes.last_chunk::<8>().copied()));
        black_box(self.0)
    }
}

/// Writes a word in a cache line that the key chooses, of as many as a table would need. All of them are there from the
/// beginning: what one access to memory costs, and how long one may take on this machine although nothing grows.
#[derive(Debug)]
pub(crate) struct EmptyMemory {
    lines: Vec<[AtomicU64; 8]>,
    answer: bool,
}

impl Peer for EmptyMemory {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        // Two keys for each line. Written to, so that the system gives the memory now.
        let lines = (0..=setup.keys / 2).map(|_| std::array::from_fn(|_| AtomicU64::new(1))).collect();
        Ok(Self { lines, answer: setup.outcome == Outcome::Allowed })
    }

    #[inline(always)]
    // A line is chosen by the upper bits.
    #[allow(clippy::cast_possible_truncation)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        let bytes = key.as_bytes();
        let words = [bytes.first_chunk::<8>(), bytes.last_chunk::<8>()];
        // No good hash, but a quick one.
        let hash = words.into_iter().flatten().fold(0_u64, |hash, word| {
            (hash.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        let line = ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize;
        self.lines[line][0].fetch_add(1, Ordering::Relaxed);
        black_box(self.answer)
    }
}

/// Answers only.
#[derive(Debug)]
pub(crate) struct EmptyDirect(bool);

impl Peer for EmptyDirect {
    type Stream = NoKeys;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(setup.outcome == Outcome::Allowed))
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), _key: &()) -> bool {
        black_box(self.0)
    }
}
