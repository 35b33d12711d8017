//! Places, by a clock that the test sets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use futures_util::FutureExt;

use super::*;

fn seats(most: usize, of_each: usize) -> Arc<Seats> {
    Seats::new(Limits { most, of_each, idle: Duration::from_mins(5) })
}

fn from(last: u8) -> IpAddr {
    [203, 0, 113, last].into()
}

/// One that has asked, and asked again.
fn asked(seat: Seat) -> Seat {
    seat.life.asked();
    seat.life.asked();
    seat
}

fn told(seat: &mut Seat) -> Option<Told> {
    seat.told().now_or_never()
}

#[test]
fn there_are_so_many_places_and_so_many_of_an_address() {
    let seats = seats(3, 2);
    let one = asked(seats.take(from(1)).unwrap());
    let _other = asked(seats.take(from(1)).unwrap());
    assert!(seats.take(from(1)).is_none());
    let _third = asked(seats.take(from(2)).unwrap());
    assert!(seats.take(from(3)).is_none());
    assert_eq!(seats.taken(), 3);
    drop(one);
    assert_eq!(seats.taken(), 2);
    assert!(seats.take(from(1)).is_some());
}

#[test]
fn a_network_of_ipv6_is_one_address_and_notation_is_none() {
    let seats = seats(10, 1);
    let _one = asked(seats.take("2001:db8::1".parse().unwrap()).unwrap());
    assert!(seats.take("2001:db8::ffff:1".parse().unwrap()).is_none());
    let _next = seats.take("2001:db8:0:1::1".parse().unwrap()).unwrap();
    let _four = asked(seats.take(from(1)).unwrap());
    assert!(seats.take("::ffff:203.0.113.1".parse().unwrap()).is_none());
}

#[test]
fn whoever_was_silent_longest_makes_room() {
    let seats = seats(3, 3);
    let mut all = [1, 2, 3].map(|last| asked(seats.take(from(last)).unwrap()));
    // Nobody has been silent for long.
    seats.sweep_at(1);
    assert!(seats.take(from(4)).is_none());
    all[1].touch();
    seats.sweep_at(3);
    all[2].touch();
    // The third has something under way, the second spoke later than the first.
    all[2].life.busy.store(1, Ordering::Relaxed);
    let new = asked(seats.take(from(4)).unwrap());
    assert_eq!(all.each_mut().map(told), [Some(Told::Idle), None, None]);
    let _newer = asked(seats.take(from(4)).unwrap());
    assert_eq!(told(&mut all[1]), Some(Told::Idle));
    // Those who are here are new, or busy.
    assert!(seats.take(from(5)).is_none());
    // Who has made room has no place to give up.
    drop(all);
    assert_eq!(seats.taken(), 2);
    drop(new);
    assert_eq!(seats.taken(), 1);
}

#[test]
fn who_comes_and_hardly_asks_makes_room_first_and_at_once() {
    let seats = seats(3, 3);
    let mut asks = asked(seats.take(from(1)).unwrap());
    let mut silent = [2, 3].map(|last| seats.take(from(last)).unwrap());
    // Once could be a pretence.
    silent[1].life.asked();
    let mut next = seats.take(from(4)).unwrap();
    assert_eq!(silent.each_mut().map(told), [Some(Told::Idle), None]);
    let _later = asked(seats.take(from(5)).unwrap());
    assert_eq!(told(&mut silent[1]), Some(Told::Idle));
    // It asks before others need its place.
    next = asked(next);
    assert!(seats.take(from(6)).is_none());
    assert_eq!((told(&mut asks), told(&mut next)), (None, None));
}

#[test]
fn an_address_that_has_all_it_may_have_makes_room_by_itself() {
    let seats = seats(10, 2);
    let mut other = seats.take(from(1)).unwrap();
    let mut mine = [(); 2].map(|()| asked(seats.take(from(2)).unwrap()));
    seats.sweep_at(5);
    mine[1].touch();
    let _third = seats.take(from(2)).unwrap();
    assert_eq!(told(&mut mine[0]), Some(Told::Idle));
    assert_eq!((told(&mut mine[1]), told(&mut other)), (None, None));
}

#[test]
fn who_takes_too_long_is_told_so_and_who_is_silent_too() {
    let seats = seats(10, 10);
    let [mut silent, mut begun, mut deaf, mut taking, mut busy] =
        [1, 2, 3, 4, 5].map(|last| seats.take(from(last)).unwrap());
    begun.begin();
    deaf.note(100, 100);
    taking.life.untaken.store(1, Ordering::Relaxed);
    busy.life.busy.store(1, Ordering::Relaxed);
    seats.sweep_at(10);
    // What is begun later is a part of the same.
    begun.begin();
    begun.touch();
    seats.sweep_at(11);
    let all = [&mut silent, &mut begun, &mut deaf, &mut taking, &mut busy];
    assert_eq!(all.map(told), [None, Some(Told::Late), Some(Told::Late), Some(Told::Late), None]);
    seats.sweep_at(300);
    assert_eq!(told(&mut silent), None);
    seats.sweep_at(301);
    assert_eq!((told(&mut silent), told(&mut busy)), (Some(Told::Idle), None));
}

#[test]
fn who_holds_too_much_of_what_is_too_much_is_cut() {
    let seats = seats(10, 10);
    let (large, small) = (seats.take(from(1)).unwrap(), seats.take(from(2)).unwrap());
    let (held, little) = (large.share(), small.share());
    held.add(HELD_MAX);
    little.add(SHARED_FREE);
    assert!(large.life.over.notified().now_or_never().is_none());
    held.add(1);
    little.set(SHARED_FREE - 1);
    assert!(large.life.over.notified().now_or_never().is_some());
    assert!(small.life.over.notified().now_or_never().is_none());
    drop(held);
    little.set(HELD_MAX);
    assert!(small.life.over.notified().now_or_never().is_none());
    drop(little);
    assert_eq!(seats.held.load(Ordering::Relaxed), 0);
}
