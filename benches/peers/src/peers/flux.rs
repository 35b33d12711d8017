//! flux-limiter: GCRA in a sharded map. It takes its keys by value.

use std::hash::Hash;

use flux_limiter::{FluxLimiter, FluxLimiterConfig, SystemClock};

use super::Peer;
use crate::error::Error;
use crate::setup::{Allowance, Setup};
use crate::workload::{Numbers, Texts};

fn limiter<K: Hash + Eq + Clone>(allowance: Allowance) -> Result<FluxLimiter<K>, Error> {
    // Its burst is what goes beyond the one that may always come.
    let config = FluxLimiterConfig::new(allowance.per_second(), f64::from(allowance.burst) - 1.0);
    FluxLimiter::with_config(config, SystemClock).map_err(|error| Error::refused("flux-limiter", error))
}

/// Texts as keys: each decision needs a new one.
#[derive(Debug)]
pub(crate) struct Flux(FluxLimiter<String>);

impl Peer for Flux {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        limiter(setup.allowance).map(Self)
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        self.0.check_request(key.to_owned()).is_ok_and(|decision| decision.allowed)
    }
}

/// Numbers as keys.
#[derive(Debug)]
pub(crate) struct FluxNumbers(FluxLimiter<u64>);

impl Peer for FluxNumbers {
    type Stream = Numbers;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        limiter(setup.allowance).map(Self)
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &u64) -> bool {
        self.0.check_request(*key).is_ok_and(|decision| decision.allowed)
    }
}
