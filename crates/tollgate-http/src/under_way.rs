//! Requests that are under way: the places that they take, and who learns how they fare.

use std::sync::Arc;
use std::time::Instant;

use tollgate_adaptive::{ConcurrencyLimit, Full, Outcome, Outcomes};
use tollgate_policy::Attributes;

use crate::in_flight::{InFlight, Permit, TooMany};

/// What middleware heeds besides its gatekeeper: how many may be under way, and who learns how they fare.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// How many of each client's.
    pub in_flight: Vec<Arc<InFlight>>,
    /// How many the service can bear.
    pub concurrency: Option<Arc<ConcurrencyLimit>>,
    /// Who is told how they fare.
    pub outcomes: Option<Arc<Outcomes>>,
}

/// Why a request is not let in, whatever the gatekeeper might say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// Its client has as many under way as may be.
    #[error(transparent)]
    Client(#[from] TooMany),
    /// The service has as many under way as it can bear.
    #[error(transparent)]
    Service(#[from] Full),
}

/// A request under way, until this is dropped. Nearly always there is nothing to it, and it takes no memory.
#[derive(Debug, Default)]
#[must_use = "once it is dropped, the request is not counted any more"]
pub struct UnderWay {
    places: Vec<Permit>,
    place: Option<tollgate_adaptive::Permit>,
    fares: Option<(Arc<Outcomes>, Instant)>,
}

impl Entrance {
    /// Lets a request in everywhere, or nowhere.
    ///
    /// # Errors
    /// If somewhere as many are under way as may be.
    #[inline]
    pub fn enter(&self, request: &(impl Attributes + ?Sized)) -> Result<UnderWay, Busy> {
        let places = InFlight::enter_all(&self.in_flight, request)?;
        let place = self.concurrency.as_ref().map(ConcurrencyLimit::enter).transpose()?;
        let fares = self.outcomes.as_ref().map(|outcomes| (Arc::clone(outcomes), Instant::now()));
        Ok(UnderWay { places, place, fares })
    }
}

impl UnderWay {
    /// Whether nobody counts it, and nobody wants to know how it fares.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.place.is_none() && self.fares.is_none()
    }

    /// It is passed on now: what it waited for until here is not the service's time.
    pub fn pass_on(&mut self) {
        if let Some(place) = &mut self.place {
            place.restart();
        }
        if let Some((_, began)) = &mut self.fares {
            *began = Instant::now();
        }
    }

    /// It was answered now, or failed without an answer. The places are kept until the answer has been sent.
    pub fn answered(&self, outcome: Outcome, failed: bool) {
        if let Some(place) = &self.place {
            place.tell(outcome);
        }
        if let Some((outcomes, began)) = &self.fares {
            outcomes.note(began.elapsed(), failed || outcome == Outcome::Overloaded);
        }
    }
}

/// What an answer usually says of the service's capacity: it is overloaded if the status is 503 or 504, or the `grpc-status` is
/// `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED` or `UNAVAILABLE`. Other errors of the service, and 429, come too quickly or
/// too late to tell anything.
pub fn usual_outcome(status: u16, grpc_status: Option<&[u8]>) -> Outcome {
    match (status, grpc_status) {
        (503 | 504, _) | (_, Some(b"4" | b"8" | b"14")) => Outcome::Overloaded,
        (429 | 500.., _) => Outcome::Ignored,
        _ => Outcome::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_a_service_is_overloaded() {
        for (status, grpc_status, outcome) in [
            (200, None, Outcome::Answered),
            (404, None, Outcome::Answered),
            (429, None, Outcome::Ignored),
            (500, None, Outcome::Ignored),
            (503, None, Outcome::Overloaded),
            (504, None, Outcome::Overloaded),
            (200, Some(&b"0"[..]), Outcome::Answered),
            (200, Some(b"14"), Outcome::Overloaded),
        ] {
            assert_eq!(usual_outcome(status, grpc_status), outcome, "{status} {grpc_status:?}");
        }
    }
}
