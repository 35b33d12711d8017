//! Tollgate, in the ways in which its library is used.

use std::array;
use std::marker::PhantomData;
use std::time::Duration;

use tollgate::{
    Group, Hit, Key, KeyBuilder, KeyedLimiter, Limit, LimitId, Limiter, LocalStore, MemoryOptions,
    MemoryStore, Quota, random_seed,
};

use super::Peer;
use crate::error::Error;
use crate::setup::{Allowance, Setup};
use crate::workload::{NoKeys, Numbers, Texts};

/// A store for so many keys, with some room to spare, as its documentation asks of a store that is not to be full.
fn store(keys: usize) -> MemoryStore {
    MemoryStore::new(MemoryOptions { capacity: keys + keys / 4, ..MemoryOptions::default() })
}

fn quota(count: u32, period: Duration) -> Result<Quota, Error> {
    Quota::new(u64::from(count), period).map_err(|error| Error::refused("tollgate", error))
}

/// By which rule a limiter decides.
pub(crate) trait Rule: Sync {
    fn limit(allowance: Allowance) -> Result<Limit, Error>;
}

/// The rule that a quota makes by itself.
#[derive(Debug)]
pub(crate) struct Gcra;

impl Rule for Gcra {
    fn limit(allowance: Allowance) -> Result<Limit, Error> {
        let rate = quota(allowance.count, allowance.period)?;
        Limit::gcra_with_burst(rate, u64::from(allowance.burst))
            .map_err(|error| Error::refused("tollgate", error))
    }
}

/// The same rule, but an interval that is no whole number of nanoseconds: what is then kept of a key is more than a word.
#[derive(Debug)]
pub(crate) struct OddGcra;

impl Rule for OddGcra {
    fn limit(allowance: Allowance) -> Result<Limit, Error> {
        // All but the same rate.
        const FACTOR: u32 = 7;
        let period = (allowance.period * FACTOR).saturating_sub(Duration::from_nanos(1));
        let rate = quota(allowance.count * FACTOR, period)?;
        Limit::gcra_with_burst(rate, u64::from(allowance.burst))
            .map_err(|error| Error::refused("tollgate", error))
    }
}

/// A window has no burst of its own: the burst is its count.
#[derive(Debug)]
pub(crate) struct FixedWindow;

impl Rule for FixedWindow {
    fn limit(allowance: Allowance) -> Result<Limit, Error> {
        quota(allowance.burst, allowance.period).map(Limit::fixed_window)
    }
}

#[derive(Debug)]
pub(crate) struct SlidingWindow;

impl Rule for SlidingWindow {
    fn limit(allowance: Allowance) -> Result<Limit, Error> {
        quota(allowance.burst, allowance.period).map(Limit::sliding_window)
    }
}

#[derive(Debug)]
pub(crate) struct TokenBucket;

impl Rule for TokenBucket {
    fn limit(allowance: Allowance) -> Result<Limit, Error> {
        let refill = quota(allowance.count, allowance.period)?;
        Limit::token_bucket(u64::from(allowance.burst), refill)
            .map_err(|error| Error::refused("tollgate", error))
    }
}

fn limiter<K: Key + ?Sized, R: Rule>(setup: &Setup) -> Result<KeyedLimiter<K>, Error> {
    Ok(KeyedLimiter::with_store(R::limit(setup.allowance)?, store(setup.keys)))
}

/// Texts as keys.
#[derive(Debug)]
pub(crate) struct Tollgate<R> {
    limiter: KeyedLimiter<str>,
    rule: PhantomData<R>,
}

impl<R: Rule> Peer for Tollgate<R> {
    type Stream = Texts;
    type Scratch = ();
    const BATCHES: bool = true;

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self { limiter: limiter::<str, R>(setup)?, rule: PhantomData })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        self.limiter.check(key).is_allowed()
    }

    #[inline(always)]
    fn check_many(&self, _scratch: &mut (), keys: &[&str]) -> usize {
        decide_batch(&self.limiter, keys)
    }
}

/// Asks for 1 of each key in one call; how many pass.
fn decide_batch(limiter: &KeyedLimiter<str>, keys: &[&str]) -> usize {
    limiter.check_many(keys).iter().filter(|decision| decision.is_allowed()).count()
}

/// Numbers as keys.
#[derive(Debug)]
pub(crate) struct TollgateNumbers(KeyedLimiter<u64>);

impl Peer for TollgateNumbers {
    type Stream = Numbers;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        limiter::<u64, Gcra>(setup).map(Self)
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &u64) -> bool {
        self.0.check(key).is_allowed()
    }
}

/// One limiter without keys.
#[derive(Debug)]
pub(crate) struct TollgateDirect(Limiter);

impl Peer for TollgateDirect {
    type Stream = NoKeys;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Self(Limiter::new(Gcra::limit(setup.allowance)?)))
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), _key: &()) -> bool {
        self.0.check().is_allowed()
    }
}

/// Several limits of each key that decide together, asked as a policy asks them: through the store. With one limit, what
/// the others are compared with.
#[derive(Debug)]
pub(crate) struct TollgateStore<const LIMITS: usize> {
    store: MemoryStore,
    limits: [Limit; LIMITS],
    hasher: KeyBuilder,
}

impl<const LIMITS: usize> Peer for TollgateStore<LIMITS> {
    type Stream = Texts;
    type Scratch = ();

    fn new(setup: &Setup) -> Result<Self, Error> {
        let mut limits = [Limit::Unlimited; LIMITS];
        // Each of them lets more pass than the one before, so that no two are alike.
        for (limit, factor) in limits.iter_mut().zip(1..) {
            let Allowance { count, period, burst } = setup.allowance;
            *limit = Gcra::limit(Allowance { count: count * factor, period, burst })?;
        }
        Ok(Self { store: store(setup.keys * LIMITS), limits, hasher: KeyBuilder::new(&random_seed()) })
    }

    #[inline(always)]
    fn check(&self, _scratch: &mut (), key: &str) -> bool {
        let mut hasher = self.hasher;
        hasher.push(key);
        let hash = hasher.finish();
        let hits: [Hit<'_>; LIMITS] = array::from_fn(|index| {
            let id = index as u64;
            Hit::new(LimitId(id), hash.nth(id), &self.limits[index])
        });
        self.store.acquire(&[Group::all(&hits)]).allowed
    }
}
