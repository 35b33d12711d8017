//! ratelimit: a token bucket in words that are compared and swapped. It limits one thing; for many, a sharded map of
//! them.

use dashmap::DashMap;
use ratelimit::Ratelimiter;

use super::Peer;
use crate::error::Error;
use crate::setup::{Allowance, Setup};
use crate::workload::{NoKeys, Texts};

fn bucket(allowance: Allowance) -> Result<Ratelimiter, Error> {
    Ratelimiter::builder(u64::from(allowance.count))
        .period(allowance.period)
        .max_tokens(u64::from(allowance.burst))
        .initial_available(u64::from(allowance.burst))
        .build()
        .map_err(|error| Error::refused("ratelimit", error))
}

/// One for each key.
#[derive(Debug)]
pub(crate) struct RatelimitMap {
    buckets: DashMap<String, Ratelimiter>,
    allowance: Allowance,
}

impl Peer for RatelimitMap {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self { buckets: DashMap::new(), allowance: setup.allowance })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        if let Some(bucket) = self.buckets.get(key) {
            return bucket.try_wait().is_ok();
        }
        let bucket = self.buckets.entry(key.to_owned()).or_try_insert_with(|| bucket(self.allowance));
        bucket.is_ok_and(|bucket| bucket.try_wait().is_ok())
    }
}

/// Only one.
#[derive(Debug)]
pub(crate) struct RatelimitDirect(Ratelimiter);

impl Peer for RatelimitDirect {
    type Stream = NoKeys;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        bucket(setup.allowance).map(Self)
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), _key: &()) -> bool {
        self.0.try_wait().is_ok()
    }
}
