//! How many requests of a client are under way at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate_core::{HashedKey, KeyHash, KeySeed, Limit, Timestamp};
use tollgate_policy::{Attributes, Config, KeyPart, PolicySet};

/// At most so many requests under way at once, for each client or whatever they are counted by.
///
/// Middleware asks it by [`RateLimitLayer::in_flight`](crate::RateLimitLayer::in_flight); it can be used by hand as well:
///
/// ```
/// use std::num::NonZeroU32;
/// use std::sync::Arc;
///
/// use tollgate_http::InFlight;
/// use tollgate_policy::{KeyPart, Request};
///
/// let downloads = Arc::new(InFlight::new(KeyPart::Ip, NonZeroU32::MIN));
/// let request = Request::new("GET", "/file").with_ip("203.0.113.7".parse()?);
/// let first = downloads.enter(&request)?;
/// assert!(downloads.enter(&request).is_err());
/// drop(first);
/// assert!(downloads.enter(&request).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The count is this process's own. What is counted leaves no trace once nothing of it is under way.
pub struct InFlight {
    /// A single policy, asked only for the key that a request has under it.
    key: PolicySet,
    most: NonZeroU32,
    /// How many are under way, of each key. In several parts, so that clients do not wait for each other.
    counts: [Mutex<HashMap<KeyHash, u32>>; SHARDS],
}

const SHARDS: usize = 16;

/// As many requests of a client are under way as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} requests are under way, as many as may be at once")]
pub struct TooMany(pub NonZeroU32);

/// A request under way, until this is dropped.
#[must_use = "once it is dropped, the request is not counted any more"]
pub struct Permit {
    of: Arc<InFlight>,
    key: KeyHash,
}

/// A request's permits. Nearly always there are none, which takes no memory.
pub type Permits = Vec<Permit>;

impl InFlight {
    /// At most so many for each of these keys.
    pub fn new(key: impl Into<KeyPart>, most: NonZeroU32) -> Self {
        // Secret, so that nobody can make two clients count as one.
        let random = RandomState::new();
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&random.hash_one(0).to_le_bytes());
        seed[8..].copy_from_slice(&random.hash_one(1).to_le_bytes());
        let config = Config::single([key.into()], Limit::Unlimited);
        let counts = std::array::from_fn(|_| Mutex::default());
        Self { key: PolicySet::new(config, KeySeed::new(seed)), most, counts }
    }

    /// Lets a request in, and counts it until the permit is dropped; `None` stands for a request that lacks what is counted,
    /// which is not limited.
    ///
    /// # Errors
    /// If as many are under way as may be.
    pub fn enter(self: &Arc<Self>, request: &(impl Attributes + ?Sized)) -> Result<Option<Permit>, TooMany> {
        let Some(single) = self.key.single(request, Timestamp::EPOCH, None) else { return Ok(None) };
        let key = single.hit().key.hash();
        let mut counts = self.shard(key);
        let count = counts.entry(key).or_insert(0);
        if *count >= self.most.get() {
            return Err(TooMany(self.most));
        }
        *count += 1;
        Ok(Some(Permit { of: Arc::clone(self), key }))
    }

    /// Lets a request in under all of these, or under none.
    ///
    /// # Errors
    /// If under one of them as many are under way as may be.
    pub fn enter_all(all: &[Arc<Self>], request: &(impl Attributes + ?Sized)) -> Result<Permits, TooMany> {
        all.iter().filter_map(|limit| limit.enter(request).transpose()).collect()
    }

    fn leave(&self, key: KeyHash) {
        if let Entry::Occupied(mut count) = self.shard(key).entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// How many requests are under way.
    pub fn len(&self) -> usize {
        self.counts
            .iter()
            .map(|counts| lock(counts).values().map(|count| *count as usize).sum::<usize>())
            .sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // A key is as good as random, so any of its bits will do.
    #[allow(clippy::cast_possible_truncation)]
    fn shard(&self, key: KeyHash) -> MutexGuard<'_, HashMap<KeyHash, u32>> {
        lock(&self.counts[key.0 as usize % SHARDS])
    }
}

/// Locks, also after a panic elsewhere: no change leaves a count half-changed.
fn lock(counts: &Mutex<HashMap<KeyHash, u32>>) -> MutexGuard<'_, HashMap<KeyHash, u32>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.leave(self.key);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("most", &self.most).field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_policy::Request;

    fn from(ip: &str) -> Request {
        Request::new("GET", "/").with_ip(ip.parse().unwrap())
    }

    #[test]
    fn each_client_has_as_many_as_may_be() {
        let limit = Arc::new(InFlight::new(KeyPart::Ip, NonZeroU32::new(2).unwrap()));
        let (one, other) = (from("203.0.113.7"), from("203.0.113.8"));
        let held = [limit.enter(&one).unwrap(), limit.enter(&one).unwrap()];
        assert_eq!(
            limit.enter(&one).unwrap_err().to_string(),
            "2 requests are under way, as many as may be at once"
        );
        let third = limit.enter(&other).unwrap();
        assert_eq!(limit.len(), 3);
        drop(held);
        let again = limit.enter(&one).unwrap();
        drop((third, again));
        assert!(limit.is_empty());
        assert!(limit.counts.iter().all(|counts| lock(counts).is_empty()), "nothing is remembered");
        // Who has no address is not counted.
        assert!(limit.enter(&Request::new("GET", "/")).unwrap().is_none());
    }

    #[test]
    fn threads_never_hold_more_than_may_be() {
        let limit = Arc::new(InFlight::new(KeyPart::Global, NonZeroU32::new(3).unwrap()));
        let most = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(_permit) = limit.enter(&Request::default()) {
                            most.fetch_max(limit.len(), std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert!(limit.is_empty());
    }
}
