//! Growth: a segment gives half of its keys to a new one.

use super::line::{First, Line, Status};
use super::segment::{LINES, STRETCH, STRETCHES, Segment};
use super::{Place, REACH, Seen, Table};
use crate::memory::census::Census;
use crate::sync::{Ordering, fence, pause};

impl<const W: usize> Table<W> {
    /// Splits a segment by the next bit of the hash, or helps to: first where this key looks for room. Returns whether
    /// there may be room now; if not there, others are to be split off by calling again.
    ///
    /// A split is done before the next begins: else an entry that has to move by both bits could go the wrong way.
    pub(super) fn split(&self, census: &Census, segment: &Segment<W>, place: Place, now: u64) -> bool {
        let bit = segment.settled();
        if bit >= self.depth {
            return false;
        }
        let number = if let Some(number) = segment.child(bit) {
            number
        } else {
            let Some(number) = self.number() else { return false };
            let adopted = segment.adopt(bit, number);
            if adopted != number {
                // Another thread was first. Of two spare numbers one is lost, which leaves room for one segment less.
                self.spare.store(number, Ordering::Relaxed);
            }
            adopted
        };
        let left = segment.stretches_left(bit);
        let reach = [place.home, place.home + REACH - 1].map(|line| 1 << (line % LINES / STRETCH));
        let near = left & (reach[0] | reach[1]);
        // The lowest of all, if these are done.
        self.move_stretches(
            census,
            segment,
            (bit, number),
            if near > 0 { near } else { left & left.wrapping_neg() },
            now,
        );
        true
    }

    /// Does a part of a split that is under way, so that it comes to an end even if nobody needs room there.
    pub(super) fn help(&self, census: &Census, segment: &Segment<W>, now: u64) {
        let bit = segment.settled();
        // Where there is only one stretch, whoever began is at it.
        if STRETCHES > 1
            && let Some(number) = segment.child(bit)
        {
            let left = segment.stretches_left(bit);
            self.move_stretches(census, segment, (bit, number), left & left.wrapping_neg(), now);
        }
    }

    /// Moves what has to move out of some stretches of a segment, to the one with this number that is split off by this
    /// bit.
    fn move_stretches(
        &self,
        census: &Census,
        segment: &Segment<W>,
        (bit, number): (u32, u32),
        stretches: u32,
        now: u64,
    ) {
        let child = self.child(segment, bit, number);
        // The split was announced; what was claimed before is seen from here on. See `join`.
        fence(Ordering::SeqCst);
        for stretch in (0..STRETCHES).filter(|stretch| stretches >> stretch & 1 == 1) {
            let mut complete = true;
            for index in stretch * STRETCH..(stretch + 1) * STRETCH {
                let line = segment.line(index);
                for entry in 0..Line::<W>::ENTRIES {
                    let tag = line.tag(entry);
                    if Place::of_entry(tag, index).bit(bit) {
                        complete &= self.move_entry(census, child, &Seen { line, entry, tag }, index, now);
                    }
                }
            }
            if !complete {
                pause(1);
            } else if segment.finish(bit, stretch) {
                self.announce(number, child);
            }
        }
    }

    /// A number that no segment has.
    fn number(&self) -> Option<u32> {
        // Relaxed: a number is published by whoever adopts it.
        match self.spare.swap(0, Ordering::Relaxed) {
            0 => {
                let next = |made: u32| ((made as usize) < self.segments.len()).then(|| made + 1);
                self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
            }
            spare => Some(spare),
        }
    }

    /// Lets the directory name a segment wherever it does not name one that was split off later.
    fn announce(&self, number: u32, segment: &Segment<W>) {
        let first = segment.prefix() as usize;
        let places = 1 << (self.depth - segment.birth());
        for place in &self.directory[first..first + places] {
            let mut named = place.load(Ordering::Acquire);
            // What the directory names has been made.
            while self.segments[named as usize].get().is_some_and(|other| other.birth() < segment.birth()) {
                match place.compare_exchange(named, number, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break,
                    Err(other) => named = other,
                }
            }
        }
    }

    /// Moves a key's entry, if it has one, to the segment that is split off.
    pub(super) fn move_key(
        &self,
        census: &Census,
        segment: &Segment<W>,
        child: &Segment<W>,
        place: Place,
        now: u64,
    ) {
        // As in `split`.
        fence(Ordering::SeqCst);
        for distance in 0..REACH {
            let line = segment.line(place.home + distance);
            for entry in 0..Line::<W>::ENTRIES {
                let mut turn = 0;
                loop {
                    let tag = line.tag(entry);
                    if tag.status() == Status::Unused {
                        return;
                    }
                    let seen = Seen { line, entry, tag };
                    if !tag.is_of(place.hash, distance)
                        || self.move_entry(census, child, &seen, place.home + distance, now)
                    {
                        break;
                    }
                    turn += 1;
                    pause(turn);
                }
            }
        }
    }

    /// Moves an entry to the segment that is split off. Returns whether the entry is no longer there; it stays while
    /// another thread writes it.
    fn move_entry(
        &self,
        census: &Census,
        child: &Segment<W>,
        seen: &Seen<'_, W>,
        line_index: usize,
        now: u64,
    ) -> bool {
        let leave = || {
            seen.leave(census);
            // Or its owner, another mover or a newcomer has changed it: none of them leaves it to the former key, or
            // brings one that does not look where it belongs.
            true
        };
        match seen.tag.status() {
            Status::Unused | Status::Left => return true,
            Status::Joining => return leave(),
            Status::Member => {}
        }
        loop {
            let first = seen.line.first(seen.entry);
            if first.is_dead() {
                return leave();
            }
            if first.is_locked() {
                return false;
            }
            if first.is_mark() {
                break;
            }
            if !seen.is_unchanged() {
                return true;
            }
            // What is vacant need not move.
            let mark = if first.is_vacant(now) { First::DEAD } else { first.frozen() };
            seen.line.swap_first(seen.entry, first, mark);
        }
        let words = seen.line.frozen_words(seen.entry);
        let place = Place::of_entry(seen.tag, line_index);
        // The new segment has room: it holds some of the keys of one in which they all had room. Were it otherwise, the
        // state would be lost.
        let _ = self.join(census, child, place, words, now, Some(seen));
        leave()
    }
}
