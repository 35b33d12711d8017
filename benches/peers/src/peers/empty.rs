//! No limiter: what the harness itself costs.

use std::hint::black_box;

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

    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        // Two words that overlap hold all 13 bytes.
        let bytes = key.as_bytes();
        black_box((bytes.first_chunk::<8>().copied(), bytes.last_chunk::<8>().copied()));
        black_box(self.0)
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

    fn check(&self, _scratch: &mut (), _key: &()) -> bool {
        black_box(self.0)
    }
}
