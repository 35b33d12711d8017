//! What people write who need no crate for it: a token bucket of a double and an instant, in a map that threads can
//! share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use moka::sync::Cache;

use super::Peer;
use crate::error::Error;
use crate::setup::{Allowance, Setup};
use crate::workload::Texts;

/// The bucket of one key.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    refilled: Instant,
}

impl Bucket {
    fn full(rule: Rule) -> Self {
        Self { tokens: rule.burst, refilled: Instant::now() }
    }

    fn take(&mut self, rule: Rule) -> bool {
        let now = Instant::now();
        let since = now.duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + since * rule.per_second).min(rule.burst);
        self.refilled = now;
        let passes = self.tokens >= 1.0;
        if passes {
            self.tokens -= 1.0;
        }
        passes
    }
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    per_second: f64,
    burst: f64,
}

impl From<Allowance> for Rule {
    fn from(allowance: Allowance) -> Self {
        Self { per_second: allowance.per_second(), burst: f64::from(allowance.burst) }
    }
}

/// Buckets in a sharded map.
#[derive(Debug)]
pub(crate) struct NaiveMap {
    buckets: DashMap<String, Bucket>,
    rule: Rule,
}

impl Peer for NaiveMap {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self { buckets: DashMap::new(), rule: setup.allowance.into() })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        if let Some(mut bucket) = self.buckets.get_mut(key) {
            return bucket.take(self.rule);
        }
        self.buckets.entry(key.to_owned()).or_insert_with(|| Bucket::full(self.rule)).take(self.rule)
    }
}

/// Buckets in a cache that would drop the least useful ones if there were too many.
#[derive(Debug)]
pub(crate) struct NaiveCache {
    buckets: Cache<String, Arc<Mutex<Bucket>>>,
    rule: Rule,
}

impl Peer for NaiveCache {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        // As much room to spare as the other limiter of bounded size is given: what is measured is not what a full one does.
        let room = setup.keys + setup.keys / 4;
        Ok(Self { buckets: Cache::new(room as u64), rule: setup.allowance.into() })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        let bucket = self.buckets.get_with_by_ref(key, || Arc::new(Mutex::new(Bucket::full(self.rule))));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(self.rule)
    }

    fn settle(&self) {
        self.buckets.run_pending_tasks();
    }
}
