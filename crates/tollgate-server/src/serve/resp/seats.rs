//! Who is connected: how many there may be, who has been silent for too long, and how much all of them hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// What all connections together may hold of commands that are not all there and of answers that nobody fetches.
const HELD_MAX: usize = 64 << 20;

/// What each may hold however much the others do.
const HELD_FREE: usize = 16 << 10;

/// How long a client may leave answers where they are.
const STUCK: Duration = Duration::from_secs(10);

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The server stops: what has come is answered.
    Draining,
    /// Nothing has come for too long, or nothing was fetched.
    Idle,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Seats {
    pub(super) most: usize,
    idle: Duration,
    started: Instant,
    /// Seconds since then, as last looked at: connections need no clock of their own.
    second: AtomicU32,
    pub(super) taken: AtomicUsize,
    held: AtomicUsize,
    next: AtomicU64,
    all: Mutex<HashMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    life: Arc<Life>,
    tell: Option<oneshot::Sender<Told>>,
}

/// When a connection was last seen to live.
#[derive(Debug, Default)]
struct Life {
    second: AtomicU32,
    /// Whether there are answers that it has not fetched.
    is_owed: AtomicBool,
}

/// A connection's place, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Seat<'s> {
    pub(super) number: u64,
    /// By which it is told to end.
    pub(super) told: oneshot::Receiver<Told>,
    seats: &'s Seats,
    life: Arc<Life>,
    held: usize,
}

impl Seats {
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        Self {
            most,
            idle,
            started: Instant::now(),
            second: AtomicU32::new(0),
            taken: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            all: Mutex::default(),
        }
    }

    /// A place for one more, if there is any.
    pub(super) fn take(&self) -> Option<Seat<'_>> {
        // Relaxed, here and below: counts, which order nothing else.
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (tell, told) = oneshot::channel();
        let life = Arc::new(Life::default());
        life.second.store(self.second.load(Ordering::Relaxed), Ordering::Relaxed);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Entry { life: Arc::clone(&life), tell: Some(tell) });
        Some(Seat { number, told, seats: self, life, held: 0 })
    }

    /// Tells those to end who have been silent for too long. To be called about once a second.
    pub(super) fn sweep(&self) {
        let now = u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.second.store(now, Ordering::Relaxed);
        for entry in self.lock().values_mut() {
            let silent = now.saturating_sub(entry.life.second.load(Ordering::Relaxed));
            let silent = Duration::from_secs(silent.into());
            let is_stuck = entry.life.is_owed.load(Ordering::Relaxed) && silent > STUCK;
            if is_stuck || silent > self.idle {
                entry.say(Told::Idle);
            }
        }
    }

    /// Tells all that the server stops.
    pub(super) fn drain(&self) {
        for entry in self.lock().values_mut() {
            entry.say(Told::Draining);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Entry>> {
        // A list of places is whole after every step.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Seat<'_> {
    /// Something came or went; so much is held now, of it so much owed.
    #[inline]
    pub(super) fn lives(&mut self, held: usize, owed: usize) {
        self.life.second.store(self.seats.second.load(Ordering::Relaxed), Ordering::Relaxed);
        self.note(held, owed);
    }

    /// So much is held now, of it so much owed.
    #[inline]
    pub(super) fn note(&mut self, held: usize, owed: usize) {
        self.life.is_owed.store(owed > 0, Ordering::Relaxed);
        if held != self.held {
            self.seats.held.fetch_add(held, Ordering::Relaxed);
            self.seats.held.fetch_sub(self.held, Ordering::Relaxed);
            self.held = held;
        }
    }

    /// Whether all together hold too much, and this one a part that matters.
    pub(super) fn is_too_much(&self) -> bool {
        self.held > HELD_FREE && self.seats.held.load(Ordering::Relaxed) > HELD_MAX
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.note(0, 0);
        self.seats.lock().remove(&self.number);
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
