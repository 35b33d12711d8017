//! What a connection leaves word of, for those who look after all of them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How often somebody must have asked to be no newcomer any more.
const KNOWN: u32 = 2;

/// What is known of a connection. Times are in seconds of the clock of [`super::seats::Seats`].
#[derive(Debug)]
pub(in crate::serve) struct Life {
    /// When something last came or went.
    pub(super) second: AtomicU32,
    /// Since when the client says something that it must end, and one more; 0 while there is no such thing.
    pub(super) begun: AtomicU32,
    /// Whether there is something to be sent that the network does not take.
    pub(super) is_owed: AtomicBool,
    /// How often it has asked something, up to [`KNOWN`].
    asked: AtomicU32,
    /// How many requests there were, from the start and up to the greatest number again and again.
    pub(super) turns: AtomicU32,
    /// Requests that have not been answered to the end.
    pub(super) busy: AtomicU32,
    /// Answers of which the client has not let anything come yet, and when it last did of one.
    pub(super) untaken: AtomicU32,
    pub(super) taken: AtomicU32,
    /// Whether the server stops: an answer says that it is the last.
    pub(super) is_last: AtomicBool,
    /// What its requests hold.
    pub(super) held: AtomicUsize,
    /// Told when it holds too much.
    pub(super) over: Notify,
}

impl Life {
    pub(super) fn new(now: u32) -> Self {
        Self {
            second: AtomicU32::new(now),
            begun: AtomicU32::new(0),
            is_owed: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            turns: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            untaken: AtomicU32::new(0),
            taken: AtomicU32::new(now),
            is_last: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            over: Notify::new(),
        }
    }

    /// The client has begun, unless it had before.
    // Relaxed, here and elsewhere: one task writes, another looks now and then, and nothing else hangs on it.
    pub(super) fn begin(&self, now: u32) {
        if self.begun.load(Ordering::Relaxed) == 0 {
            self.begun.store(now.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Something was asked.
    pub(super) fn asked(&self) {
        let asked = self.asked.load(Ordering::Relaxed);
        // Mostly it is known: a look is cheaper.
        if asked < KNOWN {
            self.asked.store(asked + 1, Ordering::Relaxed);
        }
    }

    /// Something was asked and answered.
    pub(super) fn answered(&self) {
        self.asked();
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it has shown too little to be more than somebody who holds a connection.
    pub(super) fn is_new(&self) -> bool {
        self.asked.load(Ordering::Relaxed) < KNOWN
    }

    /// Whether nothing is under way, and a request was answered since there had been so many.
    pub(super) fn rests_since(&self, turns: u32) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
            && !self.is_owed.load(Ordering::Relaxed)
            && self.turns.load(Ordering::Relaxed) != turns
    }

    /// It has ended what it had begun.
    pub(super) fn end(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }
}
