//! Who is connected: how many there may be, who has been silent for too long, and how much all of them hold.
//!
//! A connection has no timers of its own. It leaves word in its [`Life`] of what it does, and once a second all are looked at.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::life::Life;

/// What all connections of a listener together may hold: requests that are not all there, and answers that nobody fetches.
const HELD_MAX: usize = 12 << 20;

/// What each may hold however much the others do: half a command, and a few requests of HTTP.
const HELD_FREE: usize = 2 << 10;
const SHARED_FREE: usize = 16 << 10;

/// How many may be connected before those that are silent keep no buffers.
const CROWD: usize = 256;

/// How long a client may leave answers where they are.
const STUCK: Duration = Duration::from_secs(10);

/// How long it may take to end what it has begun to say: a handshake, or the head of a request.
const BEGUN_MAX: Duration = Duration::from_secs(10);

/// How long somebody who has asked something must have been silent to make room for another.
const SILENT_MIN: Duration = Duration::from_secs(1);

/// How many of the silent are looked through for one of a given address.
const LOOK_MAX: usize = 256;

/// How often those are counted in the log for whom there was no room.
const TELL_EVERY: u32 = 10;

/// How many connections there may be, and for how long one may be silent.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct Limits {
    /// At once.
    pub(in crate::serve) most: usize,
    /// Of one address.
    pub(in crate::serve) of_each: usize,
    pub(in crate::serve) idle: Duration,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Told {
    /// The server stops: what has come is answered.
    Draining,
    /// Nothing has come for too long, or others need the place. What is under way nevertheless is answered.
    Idle,
    /// Something takes too long: the connection is cut.
    Late,
}

/// All connections of a listener.
#[derive(Debug)]
pub(in crate::serve) struct Seats {
    limits: Limits,
    started: Instant,
    /// Seconds since then, as last looked at: connections need no clock of their own.
    second: AtomicU32,
    held: AtomicUsize,
    /// How many there are, as known without a lock.
    crowd: AtomicUsize,
    next: AtomicU64,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    entries: HashMap<u64, Entry>,
    of_each: HashMap<IpAddr, usize>,
    /// Those who have asked once at most, and came first, in front. Some may have asked more since, or have left.
    new: VecDeque<u64>,
    /// Those who have been silent since, who has been so longest at the end.
    silent: Vec<u64>,
    /// For how many there was none since that was last told, and when that was.
    refused: u64,
    told: u32,
}

#[derive(Debug)]
struct Entry {
    life: Arc<Life>,
    from: IpAddr,
    tell: Option<oneshot::Sender<Told>>,
}

/// A connection's place, given up when it is dropped.
#[derive(Debug)]
pub(in crate::serve) struct Seat {
    pub(in crate::serve) number: u64,
    /// By which it is told to end, once; and what was told.
    tell: oneshot::Receiver<Told>,
    was_told: Option<Told>,
    pub(in crate::serve) life: Arc<Life>,
    seats: Arc<Seats>,
    /// What it was last said to hold.
    held: usize,
}

/// By what a connection sees whether it may rest.
#[derive(Debug)]
pub(super) struct Rest {
    seats: Arc<Seats>,
    life: Arc<Life>,
    /// How many requests there had been.
    turns: u32,
}

/// What a part of a connection holds. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    seats: Arc<Seats>,
    life: Arc<Life>,
    amount: AtomicUsize,
}

impl Seats {
    pub(in crate::serve) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            started: Instant::now(),
            second: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            crowd: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            places: Mutex::default(),
        })
    }

    /// How many there may be.
    pub(in crate::serve) fn most(&self) -> usize {
        self.limits.most
    }

    /// How many there are.
    pub(in crate::serve) fn taken(&self) -> usize {
        self.lock().entries.len()
    }

    /// A place for one more, if there is any or somebody silent makes room.
    pub(in crate::serve) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let from = counted_as(from);
        let mut places = self.lock();
        let mut is_free = places.of_each.get(&from).is_none_or(|taken| *taken < self.limits.of_each)
            || places.make_room(Some(from));
        is_free = is_free && (places.entries.len() < self.limits.most || places.make_room(None));
        if !is_free {
            places.refused += 1;
            return None;
        }
        let (tell, told) = oneshot::channel();
        let life = Arc::new(Life::new(self.now()));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        places.new.push_back(number);
        places.entries.insert(number, Entry { life: Arc::clone(&life), from, tell: Some(tell) });
        *places.of_each.entry(from).or_default() += 1;
        self.crowd.store(places.entries.len(), Ordering::Relaxed);
        drop(places);
        Some(Seat { number, tell: told, was_told: None, life, seats: Arc::clone(self), held: 0 })
    }

    /// Tells those to end who have been silent for too long. To be called about once a second.
    pub(in crate::serve) fn sweep(&self) {
        self.sweep_at(u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX));
    }

    fn sweep_at(&self, now: u32) {
        self.second.store(now, Ordering::Relaxed);
        let is_past = |since: u32, most: Duration| now.saturating_sub(since) > seconds(most);
        let mut places = self.lock();
        let mut silent = Vec::new();
        for (number, entry) in &mut places.entries {
            let life = &entry.life;
            let since = life.second.load(Ordering::Relaxed);
            let begun = life.begun.load(Ordering::Relaxed).checked_sub(1);
            let is_stuck = life.is_owed.load(Ordering::Relaxed) && is_past(since, STUCK)
                || life.untaken.load(Ordering::Relaxed) > 0
                    && is_past(life.taken.load(Ordering::Relaxed), STUCK);
            if is_stuck || begun.is_some_and(|begun| is_past(begun, BEGUN_MAX)) {
                entry.say(Told::Late);
            } else if life.busy.load(Ordering::Relaxed) == 0 {
                if is_past(since, self.limits.idle) {
                    entry.say(Told::Idle);
                } else if is_past(since, SILENT_MIN) && entry.tell.is_some() {
                    silent.push((since, *number));
                }
            }
        }
        let Places { entries, new, .. } = &mut *places;
        new.retain(|number| entries.get(number).is_some_and(|entry| entry.life.is_new()));
        places.silent.clear();
        // Only where it may be needed.
        if places.entries.len() >= self.limits.of_each.min(self.limits.most) {
            silent.sort_unstable_by(|one, other| other.cmp(one));
            places.silent.extend(silent.into_iter().map(|(_, number)| number));
        }
        if places.refused > 0 && now.saturating_sub(places.told) >= TELL_EVERY {
            tracing::warn!(
                target: "tollgate::connections",
                connections = places.refused,
                "there was no room for new connections: see --max-connections and --max-connections-per-address"
            );
            places.refused = 0;
            places.told = now;
        }
    }

    /// Tells all that the server stops.
    pub(in crate::serve) fn drain(&self) {
        for entry in self.lock().entries.values_mut() {
            entry.say(Told::Draining);
        }
    }

    fn now(&self) -> u32 {
        // Relaxed, here and below: times and counts, which order nothing else.
        self.second.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // A list of places is whole after every step.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Has somebody leave who is not served just now: of this address, if one is given. True if there is such a one. First of
    /// all who came first and has asked once at most; so whoever only holds connections holds none for long, and who asks as
    /// soon as he has come does so before it is his turn to leave.
    fn make_room(&mut self, from: Option<IpAddr>) -> bool {
        let is_of = |entry: &Entry| from.is_none_or(|from| from == entry.from);
        let mut place = 0;
        while place < LOOK_MAX.min(self.new.len()) {
            let number = self.new[place];
            match self.entries.get(&number) {
                Some(entry) if entry.life.is_new() && !is_of(entry) => place += 1,
                found => {
                    let is_new = found.is_some_and(|entry| entry.life.is_new());
                    self.new.remove(place);
                    if is_new && self.dismiss(number) {
                        return true;
                    }
                }
            }
        }
        for place in (0..self.silent.len()).rev().take(LOOK_MAX) {
            let number = self.silent[place];
            if self.entries.get(&number).is_some_and(|entry| !is_of(entry)) {
                continue;
            }
            self.silent.remove(place);
            if self.dismiss(number) {
                return true;
            }
        }
        false
    }

    /// Has one leave, unless it is served just now, or leaves already.
    fn dismiss(&mut self, number: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else { return false };
        if entry.life.busy.load(Ordering::Relaxed) > 0 || entry.tell.is_none() {
            return false;
        }
        entry.say(Told::Idle);
        // It ends by itself, but the place is free at once.
        self.leave(number);
        true
    }

    fn leave(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else { return };
        if let Some(taken) = self.of_each.get_mut(&entry.from) {
            *taken -= 1;
            if *taken == 0 {
                self.of_each.remove(&entry.from);
            }
        }
    }
}

impl Entry {
    fn say(&mut self, what: Told) {
        if let Some(tell) = self.tell.take() {
            // It may have ended by itself.
            let _ = tell.send(what);
        }
    }
}

impl Seat {
    /// Told, once, that the connection is to end.
    pub(in crate::serve) async fn told(&mut self) -> Told {
        std::future::poll_fn(|context| self.poll_told(context)).await
    }

    /// The same, for those who poll.
    pub(in crate::serve) fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<Told> {
        if self.was_told.is_some() {
            return Poll::Pending;
        }
        let told = ready!(Pin::new(&mut self.tell).poll(context));
        // Nobody is left to tell: the place was given to another.
        let told = told.unwrap_or(Told::Idle);
        self.was_told = Some(told);
        Poll::Ready(told)
    }

    /// The same, of one that is owed so much until then. It is too late at once for what is too much.
    pub(super) async fn told_while_owed(&mut self, owed: usize) -> Told {
        self.note(owed, owed);
        if self.is_too_much() { Told::Late } else { self.told().await }
    }

    /// Whether it was told that the server stops.
    pub(in crate::serve) fn is_draining(&self) -> bool {
        self.was_told == Some(Told::Draining)
    }

    /// Something came or went; so much is held now, of it so much owed.
    #[inline]
    pub(in crate::serve) fn lives(&mut self, held: usize, owed: usize) {
        self.touch();
        self.life.asked();
        self.note(held, owed);
    }

    /// So much is held now, of it so much owed.
    #[inline]
    pub(in crate::serve) fn note(&mut self, held: usize, owed: usize) {
        self.life.is_owed.store(owed > 0, Ordering::Relaxed);
        if held != self.held {
            self.seats.held.fetch_add(held, Ordering::Relaxed);
            self.seats.held.fetch_sub(self.held, Ordering::Relaxed);
            self.held = held;
        }
    }

    /// Whether all together hold too much, and this one a part that matters.
    pub(in crate::serve) fn is_too_much(&self) -> bool {
        self.held > HELD_FREE && self.seats.held.load(Ordering::Relaxed) > HELD_MAX
    }

    /// Something came or went.
    #[inline]
    pub(in crate::serve) fn touch(&self) {
        self.life.second.store(self.seats.now(), Ordering::Relaxed);
    }

    /// The client has begun to say something that it must end.
    pub(in crate::serve) fn begin(&self) {
        self.life.begin(self.seats.now());
    }

    /// By what is seen whether it may rest after the next request.
    pub(super) fn rest(&self) -> Rest {
        let turns = self.life.turns.load(Ordering::Relaxed);
        Rest { seats: Arc::clone(&self.seats), life: Arc::clone(&self.life), turns }
    }

    /// A share of what this connection holds, of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { seats: Arc::clone(&self.seats), life: Arc::clone(&self.life), amount: AtomicUsize::new(0) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.note(0, 0);
        let mut places = self.seats.lock();
        places.leave(self.number);
        self.seats.crowd.store(places.entries.len(), Ordering::Relaxed);
    }
}

impl Rest {
    /// Whether a request was answered since, and so many are connected that what each keeps ready comes to much.
    pub(super) fn is_due(&self) -> bool {
        self.seats.crowd.load(Ordering::Relaxed) > CROWD && self.life.rests_since(self.turns)
    }
}

impl Share {
    /// Another share of the same connection.
    pub(super) fn another(&self) -> Self {
        Self { seats: Arc::clone(&self.seats), life: Arc::clone(&self.life), amount: AtomicUsize::new(0) }
    }

    /// Counts so much more. If that is too much for all together, and the connection has a part in it that matters, it is cut.
    pub(super) fn add(&self, more: usize) {
        self.amount.fetch_add(more, Ordering::Relaxed);
        self.life.held.fetch_add(more, Ordering::Relaxed);
        self.seats.held.fetch_add(more, Ordering::Relaxed);
        if self.is_too_much() {
            self.life.over.notify_one();
        }
    }

    /// Whether all together hold too much, and the connection a part that matters.
    pub(super) fn is_too_much(&self) -> bool {
        self.life.held.load(Ordering::Relaxed) > SHARED_FREE
            && self.seats.held.load(Ordering::Relaxed) > HELD_MAX
    }

    /// So much is held now.
    pub(super) fn set(&self, amount: usize) {
        let before = self.amount.load(Ordering::Relaxed);
        if amount > before {
            self.add(amount - before);
        } else if amount < before {
            self.amount.fetch_sub(before - amount, Ordering::Relaxed);
            self.life.held.fetch_sub(before - amount, Ordering::Relaxed);
            self.seats.held.fetch_sub(before - amount, Ordering::Relaxed);
        }
    }

    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    /// The second that it is, on the clock of [`Life`].
    pub(super) fn now(&self) -> u32 {
        self.seats.now()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What an address is counted as: a client has a whole network of those of IPv6.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
