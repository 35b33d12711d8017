//! What holds of permits, whoever asks and whenever.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;
use tollgate_core::concurrency::{
    Admission, Concurrency, ConcurrencyError, Holders, MAX_HOLDERS, MAX_TTL, PermitId, PermitRequest,
};
use tollgate_core::{Nanos, Timestamp};

fn request(id: u128, units: u32, patience: u64) -> PermitRequest {
    let units = NonZeroU32::new(units).unwrap();
    PermitRequest { id: PermitId(id), units, patience: Nanos::from_secs(patience) }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_secs(second)
}

#[test]
fn nobody_overtakes_the_line() {
    let limit = Concurrency::new(2, Nanos::from_secs(100)).unwrap();
    let mut holders = Holders::default();
    assert!(limit.acquire(&mut holders, at(0), &request(1, 1, 0)).is_granted());
    // Wants both, and stands in line for ten seconds.
    let waits = Admission::Full { ahead: 0, retry_after: Some(Nanos::from_secs(100)) };
    assert_eq!(limit.acquire(&mut holders, at(0), &request(2, 2, 10)), waits);
    // One is free, but it is not for those who came later, whether they stand in line or not.
    let later = |patience| request(3, 1, patience);
    let behind = Admission::Full { ahead: 2, retry_after: Some(Nanos::from_secs(99)) };
    assert_eq!(limit.acquire(&mut holders, at(1), &later(0)), behind);
    assert_eq!(limit.acquire(&mut holders, at(1), &later(20)), behind);
    assert_eq!(holders.awaited(at(1)), 3);
    // Whoever is not heard of again has left the line.
    assert!(limit.acquire(&mut holders, at(10), &later(20)).is_granted());
    assert_eq!((holders.in_use(at(10)), holders.awaited(at(10))), (2, 0));
    // In their order, as permits come back.
    for id in 4..7 {
        assert!(!limit.acquire(&mut holders, at(11), &request(id, 1, 60)).is_granted());
    }
    assert_eq!(limit.due(&holders).count(), 0);
    assert!(holders.release(at(12), PermitId(3)));
    assert_eq!(limit.due(&holders).collect::<Vec<_>>(), [PermitId(4)]);
    assert!(!limit.acquire(&mut holders, at(12), &request(5, 1, 60)).is_granted());
    assert!(limit.acquire(&mut holders, at(12), &request(4, 1, 60)).is_granted());
}

#[test]
fn a_lease_lapses_unless_it_is_renewed() {
    let limit = Concurrency::new(1, Nanos::from_secs(10)).unwrap();
    let mut holders = Holders::default();
    assert!(limit.acquire(&mut holders, at(0), &request(1, 1, 0)).is_granted());
    assert_eq!(limit.renew(&mut holders, at(9), PermitId(1)), Some(Nanos::from_secs(10)));
    assert!(!limit.acquire(&mut holders, at(18), &request(2, 1, 0)).is_granted());
    assert!(limit.acquire(&mut holders, at(19), &request(2, 1, 0)).is_granted());
    assert_eq!(limit.renew(&mut holders, at(19), PermitId(1)), None);
    assert!(!holders.release(at(19), PermitId(1)));
    // To ask again is no second permit, and no longer lease.
    let again = limit.acquire(&mut holders, at(25), &request(2, 1, 0));
    assert_eq!(again, Admission::Granted { lasts: Nanos::from_secs(4) });
    assert_eq!(holders.in_use(at(25)), 1);
}

#[test]
fn what_cannot_be_is_said() {
    assert_eq!(Concurrency::new(1, Nanos::ZERO), Err(ConcurrencyError::NoTime));
    let long = Nanos::new(MAX_TTL.as_nanos() + 1);
    assert_eq!(Concurrency::new(1, long), Err(ConcurrencyError::TooLong(long)));
    for wrong in
        ["", "1", "+0000000000000000000000000000001", "ééééééééééééééééé", "0000000000000000000000000000000g"]
    {
        assert!(wrong.parse::<PermitId>().is_err(), "{wrong}");
    }
    let id = PermitId(0xab);
    assert_eq!(id.to_string().parse(), Ok(id));
    let limit = Concurrency::new(3, MAX_TTL).unwrap();
    let mut holders = Holders::default();
    let never = Admission::Full { ahead: 0, retry_after: None };
    assert_eq!(limit.acquire(&mut holders, at(0), &request(1, 4, 10)), never);
    assert!(holders.is_empty());
}

#[test]
fn a_crowd_is_bounded() {
    let limit = Concurrency::new(u32::MAX, MAX_TTL).unwrap();
    let mut holders = Holders::default();
    for id in 0..MAX_HOLDERS {
        assert!(limit.acquire(&mut holders, at(0), &request(id as u128, 1, 0)).is_granted());
    }
    assert!(!limit.acquire(&mut holders, at(0), &request(u128::MAX, 1, 10)).is_granted());
    assert_eq!(holders.len(), MAX_HOLDERS);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_for_longer_than_a_day() {
    let limit = Concurrency::new(1, Nanos::from_secs(10)).unwrap();
    let mut holders = Holders::default();
    let far = at(10_000_000_000);
    assert!(limit.acquire(&mut holders, far, &request(1, 1, 0)).is_granted());
    assert!(!limit.acquire(&mut holders, at(0), &request(2, 1, 0)).is_granted());
    let day = Timestamp::EPOCH.saturating_add(MAX_TTL);
    assert!(limit.acquire(&mut holders, day, &request(2, 1, 0)).is_granted());
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Acquire { id: u128, units: u32, patience: u64 },
    Renew(u128),
    Release(u128),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_u128, 1..4_u32, 0..6_u64).prop_map(|(id, units, patience)| Step::Acquire { id, units, patience }),
        2 => (0..8_u128).prop_map(Step::Renew),
        3 => (0..8_u128).prop_map(Step::Release),
        2 => (0..7_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// A slow model: maps of who holds until when, and a list of who came first.
    #[test]
    fn any_history_is_as_the_model_has_it(most in 0..6_u32, ttl in 1..6_u64, steps in steps()) {
        let limit = Concurrency::new(most, Nanos::from_secs(ttl)).unwrap();
        let (mut holders, mut now) = (Holders::default(), 1_000_u64);
        let mut held: BTreeMap<u128, (u32, u64)> = BTreeMap::new();
        let mut line: Vec<(u128, u32, u64)> = Vec::new();
        for step in steps {
            held.retain(|_, (_, until)| *until > now);
            line.retain(|(_, _, until)| *until > now);
            match step {
                Step::Pass(seconds) => now += seconds,
                Step::Renew(id) => {
                    let lasts = held.get_mut(&id).map(|(_, until)| { *until = now + ttl; Nanos::from_secs(ttl) });
                    prop_assert_eq!(limit.renew(&mut holders, at(now), PermitId(id)), lasts);
                }
                Step::Release(id) => {
                    let was = held.remove(&id).is_some() | line.iter().any(|(waiting, ..)| *waiting == id);
                    line.retain(|(waiting, ..)| *waiting != id);
                    prop_assert_eq!(holders.release(at(now), PermitId(id)), was);
                }
                Step::Acquire { id, units, patience } => {
                    let found = limit.acquire(&mut holders, at(now), &request(id, units, patience));
                    if let Some((_, until)) = held.get(&id) {
                        prop_assert_eq!(found, Admission::Granted { lasts: Nanos::from_secs(until - now) });
                        continue;
                    }
                    let before = line.iter().take_while(|(waiting, ..)| *waiting != id);
                    let ahead: u32 = before.map(|(_, units, _)| units).sum();
                    let in_use: u32 = held.values().map(|(units, _)| units).sum();
                    if units <= most && in_use + ahead + units <= most {
                        prop_assert!(found.is_granted());
                        line.retain(|(waiting, ..)| *waiting != id);
                        held.insert(id, (units, now + ttl));
                        continue;
                    }
                    let Admission::Full { ahead: told, retry_after } = found else { panic!("{found:?}") };
                    prop_assert_eq!(told, u64::from(ahead));
                    prop_assert_eq!(retry_after.is_none(), units > most);
                    if units > most || patience == 0 {
                        line.retain(|(waiting, ..)| *waiting != id);
                    } else if let Some(place) = line.iter_mut().find(|(waiting, ..)| *waiting == id) {
                        *place = (id, units, now + patience);
                    } else {
                        line.push((id, units, now + patience));
                    }
                    // Once all others have left the line, and nobody has renewed, there is one when it was said.
                    if let Some(after) = retry_after {
                        let mut later = holders.clone();
                        let then = at(now).saturating_add(after);
                        for (other, ..) in line.iter().filter(|(other, ..)| *other != id) {
                            later.release(then, PermitId(*other));
                        }
                        prop_assert!(limit.acquire(&mut later, then, &request(id, units, 0)).is_granted());
                    }
                }
            }
            let (now, held_now) = (at(now), held.values().filter(|(_, until)| *until > now));
            prop_assert_eq!(holders.in_use(now), held_now.map(|(units, _)| u64::from(*units)).sum::<u64>());
            prop_assert!(holders.in_use(now) <= u64::from(most));
        }
    }
}
