//! leaky-bucket: tokens that those who ask refill. It is made for tasks that wait, and is asked here without
//! waiting. It limits one thing; for many, a sharded map of them.

use dashmap::DashMap;
use leaky_bucket::RateLimiter;

use super::Peer;
use crate::error::Error;
use crate::setup::{Allowance, Setup};
use crate::workload::{NoKeys, Texts};

fn bucket(allowance: Allowance) -> RateLimiter {
    RateLimiter::builder()
        .refill(allowance.count as usize)
        .interval(allowance.period)
        .max(allowance.burst as usize)
        .initial(allowance.burst as usize)
        .build()
}

/// One for each key.
#[derive(Debug)]
pub(crate) struct LeakyBucketMap {
    buckets: DashMap<String, RateLimiter>,
    allowance: Allowance,
}

impl Peer for LeakyBucketMap {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self { buckets: DashMap::new(), allowance: setup.allowance })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        if let Some(bucket) = self.buckets.get(key) {
            return bucket.try_acquire(1);
        }
        self.buckets.entry(key.to_owned()).or_insert_with(|| bucket(self.allowance)).try_acquire(1)
    }
}

/// Only one.
#[derive(Debug)]
pub(crate) struct LeakyBucketDirect(RateLimiter);

impl Peer for LeakyBucketDirect {
    type Stream = NoKeys;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(bucket(setup.allowance)))
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), _key: &()) -> bool {
        self.0.try_acquire(1)
    }
}
