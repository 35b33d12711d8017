//! Places for what is under way elsewhere: leases with an id, which end by themselves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::Serialize;
use tollgate::ConcurrencyRules;
use tollgate::adaptive::{ConcurrencyLimit, Full, Outcome, Permit};
use tollgate::concurrency::PermitId;
use tollgate::permit_store::permit_id;

/// All services of which only so much at once may be under way.
#[derive(Debug)]
pub(super) struct Places(ArcSwap<Vec<Arc<Service>>>);

#[derive(Debug)]
struct Service {
    rules: ConcurrencyRules,
    limit: Arc<ConcurrencyLimit>,
    held: Arc<Mutex<Held>>,
    expired: Arc<AtomicU64>,
}

/// Permits by their names, and when each ends by itself.
type Held = HashMap<PermitId, (Permit, Instant)>;

/// How much of a service is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::serve) struct PlacesSeen {
    #[serde(rename = "service")]
    pub(in crate::serve) name: String,
    pub(in crate::serve) limit: u32,
    pub(in crate::serve) in_flight: u32,
    pub(in crate::serve) refused: u64,
    /// Places that nobody gave back.
    pub(in crate::serve) expired: u64,
}

/// A place, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: String,
    pub(super) ttl: Duration,
    pub(super) limit: u32,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nothing is said of a service of this name.
    Unknown,
    /// As many are under way as may be.
    Full(Full),
}

impl Places {
    pub(super) fn new(rules: &[ConcurrencyRules]) -> Self {
        Self(ArcSwap::from_pointee(rules.iter().map(|rules| Arc::new(Service::new(rules))).collect()))
    }

    /// Follows other rules. A service of which the same is said goes on as it was; of another, the limit begins anew, and what is under way
    /// can still be given back.
    pub(super) fn succeed(&self, rules: &[ConcurrencyRules]) {
        let former = self.0.load();
        let following =
            |rules: &ConcurrencyRules| match former.iter().find(|service| service.rules.name == rules.name) {
                Some(same) if same.rules == *rules => Arc::clone(same),
                Some(other) => Arc::new(Service {
                    held: Arc::clone(&other.held),
                    expired: Arc::clone(&other.expired),
                    ..Service::new(rules)
                }),
                None => Arc::new(Service::new(rules)),
            };
        self.0.store(Arc::new(rules.iter().map(following).collect()));
    }

    /// Takes a place.
    ///
    /// # Errors
    /// If there is none, or no such service.
    pub(super) fn acquire(&self, name: &str) -> Result<Lease, Refused> {
        let services = self.0.load();
        let service = services.iter().find(|service| service.rules.name == name).ok_or(Refused::Unknown)?;
        let permit = match service.limit.enter() {
            Ok(permit) => permit,
            // Some may have ended since somebody swept.
            Err(full) if service.sweep() == 0 => return Err(Refused::Full(full)),
            Err(_) => service.limit.enter().map_err(Refused::Full)?,
        };
        // Nobody can give back what is another's by guessing.
        let id = permit_id();
        service.held().insert(id, (permit, service.end()));
        let ttl = service.rules.ttl.into();
        Ok(Lease { id: format!("{name}:{id}"), ttl, limit: service.limit.limit() })
    }

    /// Gives back a place, and says how what it was for has ended: after so long, or after as long as the place was held. Returns whether
    /// there was such a one.
    pub(super) fn release(&self, id: &str, outcome: Outcome, took: Option<Duration>) -> bool {
        let held = self.named(id).and_then(|(service, id)| service.held().remove(&id));
        let Some((permit, _)) = held else { return false };
        match took {
            Some(took) => permit.end_after(outcome, took),
            None => permit.end(outcome),
        }
        true
    }

    /// Keeps a place for as long again. Says for how long that is; `None` if it is not held: it was given back, or its time was over.
    pub(super) fn renew(&self, id: &str) -> Option<Duration> {
        let (service, id) = self.named(id)?;
        // What is over may have been given to another.
        service.sweep();
        service.held().get_mut(&id)?.1 = service.end();
        Some(service.rules.ttl.into())
    }

    /// The service of a place, and the place's name there.
    fn named(&self, id: &str) -> Option<(Arc<Service>, PermitId)> {
        let (name, id) = id.rsplit_once(':')?;
        let services = self.0.load();
        let service = services.iter().find(|service| service.rules.name == name)?;
        Some((Arc::clone(service), id.parse().ok()?))
    }

    /// Frees places whose holders have said nothing for too long.
    pub(super) fn sweep(&self) {
        for service in self.0.load().iter() {
            service.sweep();
        }
    }

    pub(super) fn seen(&self) -> Vec<PlacesSeen> {
        let seen = |service: &Arc<Service>| PlacesSeen {
            name: service.rules.name.clone(),
            limit: service.limit.limit(),
            in_flight: service.limit.in_flight(),
            refused: service.limit.refused(),
            expired: service.expired.load(Ordering::Relaxed),
        };
        self.0.load().iter().map(seen).collect()
    }
}

impl Service {
    fn new(rules: &ConcurrencyRules) -> Self {
        Self {
            rules: rules.clone(),
            limit: Arc::new(rules.control.limit()),
            held: Arc::default(),
            expired: Arc::default(),
        }
    }

    /// When a place ends that is taken or renewed now.
    fn end(&self) -> Instant {
        let now = Instant::now();
        // A length from a file is at most a hundred years.
        now.checked_add(self.rules.ttl.into()).unwrap_or(now)
    }

    /// Also after a panic elsewhere: each change is one of the map's own.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what has ended by itself: how many places that were.
    fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut held = self.held();
        let before = held.len();
        held.retain(|_, (_, until)| now < *until);
        let freed = before - held.len();
        // Statistics.
        self.expired.fetch_add(freed as u64, Ordering::Relaxed);
        freed
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tollgate::{Config, Format};

    use super::*;

    fn rules(text: &str) -> Vec<ConcurrencyRules> {
        let text = format!("{{ policies: [], concurrency: {{ {text} }} }}");
        Config::parse("inline", &text, Format::Yaml, &[]).unwrap().concurrency
    }

    #[test]
    fn a_place_is_given_back_once_and_only_by_its_number() {
        let places = Places::new(&rules("orders: { limit: 1 }"));
        let lease = places.acquire("orders").unwrap();
        assert!(matches!(places.acquire("orders"), Err(Refused::Full(Full { limit: 1 }))));
        assert!(matches!(places.acquire("others"), Err(Refused::Unknown)));
        for wrong in ["", ":", "orders:", "orders:0", "orders:xyz", "others:0", &lease.id[1..]] {
            assert!(!places.release(wrong, Outcome::Answered, None), "{wrong}");
        }
        assert!(places.release(&lease.id, Outcome::Answered, Some(Duration::from_millis(5))));
        assert!(!places.release(&lease.id, Outcome::Answered, None), "twice");
        assert!(places.acquire("orders").is_ok());
    }

    #[test]
    fn a_place_that_nobody_gives_back_ends_by_itself() {
        let places = Places::new(&rules("orders: { limit: 1, ttl: 1ns }"));
        let lease = places.acquire("orders").unwrap();
        while Instant::now().elapsed().is_zero() {}
        assert!(places.acquire("orders").is_ok(), "its time is over");
        assert!(!places.release(&lease.id, Outcome::Answered, None));
        assert_eq!(places.seen()[0].expired, 1);
    }

    #[test]
    fn a_place_is_kept_for_as_long_again() {
        let places = Places::new(&rules("orders: { limit: 1, ttl: 1h }"));
        let lease = places.acquire("orders").unwrap();
        places.succeed(&rules("orders: { limit: 1, ttl: 2h }"));
        assert_eq!(places.renew(&lease.id), Some(Duration::from_hours(2)));
        // What it was for the first time would be over by now.
        places.succeed(&rules("orders: { limit: 1, ttl: 1ns }"));
        assert_eq!(places.renew(&lease.id), Some(Duration::from_nanos(1)));
        while Instant::now().elapsed().is_zero() {}
        assert_eq!(places.renew(&lease.id), None);
        for wrong in ["", ":", "orders:", "orders:0", "others:00000000000000000000000000000000"] {
            assert_eq!(places.renew(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rules_that_change_leave_what_is_under_way_its_way_out() {
        let places = Places::new(&rules("orders: { limit: 1 }, same: { limit: vegas }"));
        let (old, same) = (places.acquire("orders").unwrap(), places.acquire("same").unwrap());
        places.succeed(&rules("orders: { limit: 2 }, same: { limit: vegas }"));
        let limit = NonZeroU32::new(2).unwrap().get();
        assert_eq!(places.acquire("orders").unwrap().limit, limit);
        assert_eq!(places.seen()[1].in_flight, 1);
        assert!(places.release(&old.id, Outcome::Overloaded, None));
        assert!(places.release(&same.id, Outcome::Answered, None));
    }
}
