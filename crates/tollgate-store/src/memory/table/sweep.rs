//! Finding room in a full table: entries whose time has come, and whose places nobody has asked for yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

use super::line::{First, Line, Status};
use super::segment::LINES;
use super::{Seen, Table};
use crate::memory::census::Census;
use crate::sync::Slot;

/// How many lines one sweep looks at: a few microseconds' work.
const STRETCH: usize = 512;

/// Where sweeps are.
#[derive(Debug)]
pub(super) struct Sweeper {
    /// No entry becomes vacant before this moment, so that until then a sweep finds nothing.
    quiet_until: AtomicU64,
    round: Mutex<Round>,
}

/// One time around the table.
#[derive(Debug)]
struct Round {
    next_line: usize,
    found: bool,
    /// The first moment at which one of the entries seen becomes vacant.
    soonest: u64,
}

const NEW_ROUND: Round = Round { next_line: 0, found: false, soonest: u64::MAX };

impl Default for Sweeper {
    fn default() -> Self {
        Self { quiet_until: AtomicU64::new(0), round: Mutex::new(NEW_ROUND) }
    }
}

impl Sweeper {
    /// Notes that an entry becomes vacant at this moment, which may be before all others.
    pub(super) fn note(&self, moment: u64) {
        // Relaxed: a hint, which may come late. Nearly always a look is enough.
        if moment < self.quiet_until.load(Ordering::Relaxed) {
            self.quiet_until.fetch_min(moment, Ordering::Relaxed);
        }
    }
}

impl<const W: usize> Table<W> {
    /// Notes that a key's state was changed so that it may become vacant sooner.
    pub(in crate::memory) fn note(&self, moment: u64) {
        self.sweeper.note(moment);
    }

    /// Gives vacant entries up, in a part of the table at each call, so that others have their room. Returns whether it
    /// found any, and the first moment, of those known, at which an entry will be vacant.
    ///
    /// One thread sweeps at a time; others do not wait for it.
    pub(in crate::memory) fn sweep(&self, census: &Census, now: u64) -> (bool, u64) {
        let quiet_until = self.sweeper.quiet_until.load(Ordering::Relaxed);
        if now < quiet_until {
            return (false, quiet_until);
        }
        if self.segments[0].get().is_none() {
            return (false, u64::MAX);
        }
        let mut round = match self.sweeper.round.try_lock() {
            Ok(round) => round,
            Err(TryLockError::Poisoned(round)) => PoisonError::into_inner(round),
            Err(TryLockError::WouldBlock) => return (false, u64::MAX),
        };
        let lines = self.made() * LINES;
        let mut found = false;
        for index in round.next_line..lines.min(round.next_line + STRETCH) {
            if let Some(segment) = self.segments.get(index / LINES).and_then(Slot::get) {
                let (some, soonest) = sweep_line(segment.line(index), census, now);
                found |= some;
                round.soonest = round.soonest.min(soonest);
            }
            round.next_line = index + 1;
        }
        round.found |= found;
        let soonest = round.soonest;
        if round.next_line >= lines {
            // All around, and nothing is vacant: nothing will be before the first is.
            if !round.found {
                self.sweeper.quiet_until.store(soonest, Ordering::Relaxed);
            }
            *round = NEW_ROUND;
        }
        (found, soonest)
    }
}

/// Gives up what is vacant in a line. Returns whether anything was, and the first moment at which something will be.
fn sweep_line<const W: usize>(line: &Line<W>, census: &Census, now: u64) -> (bool, u64) {
    let (mut found, mut soonest) = (false, u64::MAX);
    for entry in 0..Line::<W>::ENTRIES {
        let seen = Seen { line, entry, tag: line.tag(entry) };
        if seen.tag.status() != Status::Member {
            continue;
        }
        match seen.first() {
            // Whoever gave it up for another key did not take it.
            Some(First::DEAD) => found |= seen.leave(census),
            Some(first) if first.is_vacant(now) => found |= seen.give_up(census, first),
            Some(first) => soonest = soonest.min(first.moment()),
            None => {}
        }
    }
    (found, soonest)
}
