//! The token bucket: a capacity of tokens that comes back steadily, or by the batch.
//!
//! The steady refill is GCRA's arithmetic (see [`meter`](super::meter)). The refill by interval adds a whole batch at
//! the end of each period; the first period starts when the first token is taken from a full bucket, so a full
//! bucket and a new one are the same thing.

use super::Algorithm;
use super::gcra::checked_meter;
use super::meter::{ArrivalTime, Meter};
use crate::decision::{Decision, Grant, Retry};
use crate::limit::LimitError;
use crate::quota::{MAX_PERIOD, Quota};
use crate::time::{Nanos, Timestamp};

/// How the tokens come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refill {
    /// One by one, evenly spread over the period.
    #[default]
    Greedy,
    /// All at once at the end of each period.
    Interval,
}

/// A bucket of tokens.
///
/// In any interval of length `t`, at most `capacity + refill·t` is admitted with [`Refill::Greedy`], and at most
/// `capacity + count·(⌊t / period⌋ + 1)` with [`Refill::Interval`].
///
/// ```
/// use tollgate_core::{Limit, Quota, algorithm::TokenBucket};
///
/// // 1,000 tokens, refilled at 100 a second; a new key starts with 50.
/// let bucket = TokenBucket::new(1_000, Quota::per_second(100))?.with_initial(50)?;
/// assert_eq!(Limit::from(bucket).to_string(), "1000 token bucket, refilled 100/second, initially 50");
/// # Ok::<(), tollgate_core::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenBucket {
    refill: Quota,
    style: Refill,
    initial: u64,
    meter: Meter,
}

/// What is remembered of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// A bucket that refills steadily: when it will be full.
    Greedy(ArrivalTime),
    /// A bucket that refills by the batch.
    Interval(Deficit),
}

/// How far a bucket was from full, and since when the next batch is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deficit {
    /// Tokens missing.
    pub missing: u64,
    /// The start of the current period.
    pub since: Timestamp,
}

impl TokenBucket {
    /// A bucket of `capacity` tokens, full at first, into which `refill.count()` tokens come back in each
    /// `refill.period()`, steadily.
    ///
    /// # Errors
    /// If the capacity or the refill is zero, the capacity is above [`MAX_COUNT`](crate::quota::MAX_COUNT), or an
    /// empty bucket would take longer than 100 years to fill.
    pub fn new(capacity: u64, refill: Quota) -> Result<Self, LimitError> {
        let meter = checked_meter(capacity, refill, "capacity")?;
        Ok(Self { refill, style: Refill::Greedy, initial: capacity, meter })
    }

    /// The same bucket refilled in this style.
    ///
    /// # Errors
    /// If an empty bucket would take longer than 100 years to fill.
    pub fn with_refill(mut self, style: Refill) -> Result<Self, LimitError> {
        self.style = style;
        if self.time_to_fill() > MAX_PERIOD {
            return Err(LimitError::TooSlow {
                what: "capacity",
                capacity: self.capacity(),
                rate: self.refill,
            });
        }
        Ok(self)
    }

    /// The same bucket, of which a new key has only `initial` tokens.
    ///
    /// A key is new when it is seen for the first time, and again once it has stood full for as long as an empty
    /// bucket takes to fill.
    ///
    /// # Errors
    /// If `initial` is above the capacity.
    pub fn with_initial(mut self, initial: u64) -> Result<Self, LimitError> {
        if initial > self.capacity() {
            return Err(LimitError::TooLarge { what: "initial", value: initial, most: self.capacity() });
        }
        self.initial = initial;
        Ok(self)
    }

    /// How many tokens the bucket holds.
    pub const fn capacity(&self) -> u64 {
        self.meter.capacity()
    }

    /// How many tokens come back, in how long.
    pub const fn refill(&self) -> Quota {
        self.refill
    }

    /// How they come back.
    pub const fn style(&self) -> Refill {
        self.style
    }

    /// How many tokens a new key has.
    pub const fn initial(&self) -> u64 {
        self.initial
    }

    /// The arithmetic behind a steady refill.
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// How long a full bucket is remembered: until it may start anew.
    pub fn rest(&self) -> Nanos {
        if self.initial == self.capacity() { Nanos::ZERO } else { self.time_to_fill() }
    }

    pub(crate) fn time_to_fill(&self) -> Nanos {
        match self.style {
            Refill::Greedy => self.meter.time_to_fill(),
            Refill::Interval => self.batches(self.capacity()),
        }
    }

    /// The time in which batches bring `tokens`.
    fn batches(&self, tokens: u64) -> Nanos {
        let batches = tokens.div_ceil(self.refill.count());
        Nanos::new(self.refill.period().as_nanos().saturating_mul(batches))
    }

    /// The deficit as it stands at `now`, with every batch that has come since counted.
    fn rolled(&self, state: Deficit, now: Timestamp) -> Deficit {
        let period = self.refill.period().as_nanos();
        let elapsed = now.since(state.since).as_nanos();
        let batches = elapsed / period;
        // A batch count times a batch may pass u64: the product is only compared with the deficit.
        let brought = batches.saturating_mul(self.refill.count());
        Deficit {
            missing: state.missing.min(self.capacity()).saturating_sub(brought),
            // After a backward step of the clock the period starts anew.
            since: Timestamp::from_nanos(now.as_nanos() - elapsed % period),
        }
    }

    fn decide_by_batch(&self, state: Deficit, now: Timestamp, cost: u32) -> Decision {
        let Deficit { missing, since } = self.rolled(state, now);
        let (capacity, cost) = (self.capacity(), u64::from(cost));
        let allowed = missing + cost <= capacity;
        let (after, since) = match allowed {
            true if missing == 0 => (cost, now),
            true => (missing + cost, since),
            false => (missing, since),
        };
        let until = |tokens: u64| match self.batches(tokens) {
            Nanos::ZERO => Nanos::ZERO,
            wait => since.saturating_add(wait).since(now),
        };
        Decision {
            allowed,
            limit: capacity,
            remaining: capacity - after,
            retry_after: if allowed {
                Retry::Now
            } else if cost > capacity {
                Retry::Never
            } else {
                Retry::After(until(missing + cost - capacity))
            },
            reset_after: until(after),
        }
    }
}

impl Algorithm for TokenBucket {
    type State = Bucket;

    fn fresh(&self, now: Timestamp) -> Bucket {
        self.with_available(self.initial, now)
    }

    fn settle(&self, state: &mut Bucket, now: Timestamp) -> bool {
        match state {
            Bucket::Greedy(full_at) => self.meter.settle(full_at, now),
            Bucket::Interval(deficit) => {
                let ahead = deficit.since > now;
                if ahead {
                    deficit.since = now;
                }
                ahead
            }
        }
    }

    fn decide(&self, state: &Bucket, now: Timestamp, cost: u32) -> Decision {
        match state {
            Bucket::Greedy(full_at) => self.meter.decide(*full_at, now, cost),
            Bucket::Interval(deficit) => self.decide_by_batch(*deficit, now, cost),
        }
    }

    fn take(&self, state: &mut Bucket, now: Timestamp, cost: u32) -> Grant {
        match state {
            Bucket::Greedy(full_at) => self.meter.take(full_at, now, cost),
            Bucket::Interval(deficit) => {
                if cost > 0 {
                    let mut rolled = self.rolled(*deficit, now);
                    if rolled.missing == 0 {
                        rolled.since = now;
                    }
                    rolled.missing = rolled.missing.saturating_add(u64::from(cost)).min(self.capacity());
                    *deficit = rolled;
                }
                Grant { stamp: now, cost }
            }
        }
    }

    fn give_back(&self, state: &mut Bucket, now: Timestamp, grant: Grant) {
        match state {
            Bucket::Greedy(full_at) => self.meter.give_back(full_at, now, grant),
            Bucket::Interval(deficit) => {
                let rolled = self.rolled(*deficit, now);
                *deficit =
                    Deficit { missing: rolled.missing.saturating_sub(u64::from(grant.cost)), ..rolled };
            }
        }
    }

    fn vacant_at(&self, state: &Bucket) -> Timestamp {
        let full_at = match state {
            Bucket::Greedy(full_at) => Meter::full_at(*full_at),
            Bucket::Interval(deficit) => deficit.since.saturating_add(self.batches(deficit.missing)),
        };
        full_at.saturating_add(self.rest())
    }

    fn with_available(&self, available: u64, now: Timestamp) -> Bucket {
        match self.style {
            Refill::Greedy => Bucket::Greedy(self.meter.with_available(available, now)),
            Refill::Interval => {
                Bucket::Interval(Deficit { missing: self.capacity().saturating_sub(available), since: now })
            }
        }
    }
}
