//! governor: GCRA in a word that is compared and swapped, in a sharded map.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::QuantaUpkeepClock;
use governor::state::keyed::DashMapStateStore;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::Peer;
use crate::error::Error;
use crate::setup::{Allowance, Setup};
use crate::workload::{NoKeys, Numbers, Texts};

fn quota(allowance: Allowance) -> Result<Quota, Error> {
    let quota = Quota::with_period(allowance.interval());
    let burst = NonZeroU32::new(allowance.burst);
    match (quota, burst) {
        (Some(quota), Some(burst)) => Ok(quota.allow_burst(burst)),
        _ => Err(Error::refused("governor", allowance)),
    }
}

/// As its guide begins: a map of texts with the default hash and the default clock. It wants to see a `&String`, so each
/// thread writes its keys into a buffer.
#[derive(Debug)]
pub(crate) struct Governor(DefaultKeyedRateLimiter<String>);

impl Peer for Governor {
    type Stream = Texts;
    type Scratch = String;

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(RateLimiter::dashmap(quota(setup.allowance)?)))
    }

    #[inline(always)]
    fn check(&self, scratch: &mut String, key: &str) -> bool {
        scratch.clear();
        scratch.push_str(key);
        self.0.check_key(scratch).is_ok()
    }
}

type QuickHash = ahash::RandomState;

/// With what it offers to those who want more speed: a hash that is quick instead of strong, and a clock that a thread
/// advances each millisecond, so that asking the time is a read.
#[derive(Debug)]
pub(crate) struct GovernorTuned(RateLimiter<String, DashMapStateStore<String, QuickHash>, QuantaUpkeepClock>);

impl Peer for GovernorTuned {
    type Stream = Texts;
    type Scratch = String;

    fn new(setup: &Setup) -> Result<Self, Error> {
        const TICK: Duration = Duration::from_millis(1);
        let clock =
            QuantaUpkeepClock::from_interval(TICK).map_err(|error| Error::refused("governor", error))?;
        let quota = quota(setup.allowance)?;
        Ok(Self(RateLimiter::dashmap_with_clock_and_hasher(quota, clock, QuickHash::new())))
    }

    #[inline(always)]
    fn check(&self, scratch: &mut String, key: &str) -> bool {
        scratch.clear();
        scratch.push_str(key);
        self.0.check_key(scratch).is_ok()
    }
}

/// A map of numbers.
#[derive(Debug)]
pub(crate) struct GovernorNumbers(DefaultKeyedRateLimiter<u64>);

impl Peer for GovernorNumbers {
    type Stream = Numbers;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(RateLimiter::dashmap(quota(setup.allowance)?)))
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &u64) -> bool {
        self.0.check_key(key).is_ok()
    }
}

/// One limiter without keys.
#[derive(Debug)]
pub(crate) struct GovernorDirect(DefaultDirectRateLimiter);

impl Peer for GovernorDirect {
    type Stream = NoKeys;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(RateLimiter::direct(quota(setup.allowance)?)))
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), _key: &()) -> bool {
        self.0.check().is_ok()
    }
}
