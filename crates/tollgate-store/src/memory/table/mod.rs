//! A concurrent table of packed states, made for rate limiting: nothing in it is locked for another key's sake.
//!
//! ```text
//! hash of the key ──▶ directory ──▶ segment ──▶ home line, and up to seven lines after it
//!                     (top bits)    (grows by   (low bits)
//!                                    splitting)
//! ```
//!
//! * **Finding** a key reads the directory, then, nearly always, one cache line, where tag and state lie together.
//! * **Deciding** is one compare-and-swap of the state; three-word states are locked for the few instructions of
//!   writing them, against others of the same key only.
//! * **Joining**: a new key takes the first entry in its lines that is vacant or unused. An entry is vacant from the moment
//!   that its own state names, so what is idle needs no sweeping: it is reused in place. Two threads that bring the
//!   same key at once see each other (see [`join`]), so that a key never has two entries.
//! * **Growth**: when a key's lines hold no room, its segment splits by the next bit of the hash: the entries where it is
//!   set move to a new segment. This is done in stretches of a few microseconds, each by whoever needs room there or does
//!   not find its key; others decide in both halves meanwhile, and move the entry that they need. Nothing else in the
//!   table notices.
//!
//! Segments are never freed, only filled anew, so there is nothing to reclaim, and all of this is safe code.

mod join;
#[cfg(feature = "durable")]
mod keep;
mod line;
mod marks;
#[cfg(all(test, loom))]
mod models;
mod segment;
mod split;
mod sweep;
#[cfg(all(test, not(loom)))]
mod tests;

use std::hint::cold_path;

use tollgate_core::HashedKey;
use tollgate_core::packed::LAST_MOMENT;

use self::join::Joined;
#[cfg(feature = "durable")]
pub(super) use self::keep::Prints;
use self::line::{First, Line, Status, TAG_LOW_BITS, Tag};
use self::marks::Marks;
use self::segment::{LINES, Segment};
use self::sweep::Sweeper;
use super::Full;
use super::census::Census;
use crate::machine::cpu;
use crate::machine::pages::{Housed, Pages};
use crate::sync::{AtomicU32, Ordering, Slot, pause};

/// How many lines a key may lie in: its home and those after it.
const REACH: usize = if LINES < 8 { LINES } else { 8 };

/// The most bits of the hash that tell segments apart: enough for three billion keys.
const DEPTH_MAX: u32 = 21;

/// Entries with states of `W` words: 1 or 3.
#[derive(Debug)]
pub(super) struct Table<const W: usize> {
    /// For each value of the hash's top bits the number of a segment: its own, or one from which its own was split off.
    directory: Box<[AtomicU32]>,
    /// How many bits that is.
    depth: u32,
    /// By how much the hash is shifted to leave them.
    shift: u32,
    segments: Box<[Slot<Housed<Segment<W>>>]>,
    pages: Pages,
    /// How many segments were made; numbers from here on are free.
    made: AtomicU32,
    /// The number of a segment that was made and not needed; 0 if there is none.
    spare: AtomicU32,
    sweeper: Sweeper,
    /// A mark for each place of the directory.
    marks: Marks,
}

/// What the table knows of a key: the lower 64 bits of its hash, of which 9 choose the line and the others are kept in
/// the tag. Not the upper ones, so that whoever decides at once need not have computed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The bits of the tag, in their place; the top ones choose the segment.
    hash: u64,
    /// The home line.
    home: usize,
}

impl Place {
    #[inline(always)]
    // A line is chosen by the lowest bits.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn of(key: &impl HashedKey) -> Self {
        let low = key.low();
        // Hashed keys need no more mixing; but small numbers that someone passes for hashes must not all share a
        // segment. The factor is odd, so different numbers differ in what the tag takes from the top, or in the line.
        let mixed = low.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { hash: mixed >> TAG_LOW_BITS << TAG_LOW_BITS, home: low as usize & (LINES - 1) }
    }

    /// The place of the entry with this tag in this line.
    const fn of_entry(tag: Tag, line: usize) -> Self {
        Self { hash: tag.hash(), home: line.wrapping_sub(tag.distance()) & (LINES - 1) }
    }

    /// A bit of the hash, counted from the top.
    const fn bit(self, index: u32) -> bool {
        self.hash << index >> 63 == 1
    }
}

/// A key's place, and its home line if there is one.
#[derive(Clone, Copy)]
pub(super) struct Home<'s, const W: usize> {
    place: Place,
    line: Option<&'s Line<W>>,
}

impl<const W: usize> Home<'_, W> {
    /// Brings the line near, for who will soon need it.
    #[inline]
    pub(super) fn prefetch(&self) {
        if let Some(line) = self.line {
            cpu::prefetch(line);
        }
    }
}

/// An entry, where and whose it was when it was seen.
#[derive(Clone, Copy)]
struct Seen<'s, const W: usize> {
    line: &'s Line<W>,
    entry: usize,
    tag: Tag,
}

impl<const W: usize> Seen<'_, W> {
    fn retag(&self, to: Tag) -> bool {
        self.line.retag(self.entry, self.tag, to)
    }

    /// The first state word, if the entry is still whose it was.
    fn first(&self) -> Option<First> {
        let first = self.line.first(self.entry);
        self.is_unchanged().then_some(first)
    }

    fn is_unchanged(&self) -> bool {
        self.line.tag(self.entry) == self.tag
    }

    /// Takes the entry from its owner.
    fn leave(&self, census: &Census) -> bool {
        let left = self.retag(self.tag.left());
        if left {
            census.leave();
        }
        left
    }

    /// Gives the entry up, if its first state word is still this. Returns whether it did.
    fn give_up(&self, census: &Census, first: First) -> bool {
        let dead = self.line.swap_first(self.entry, first, First::DEAD);
        if dead {
            self.leave(census);
        }
        dead
    }
}

impl<const W: usize> Table<W> {
    /// A table for up to `capacity` keys. It takes memory for its directory, and for segments as keys come.
    pub(super) fn new(capacity: usize) -> Self {
        // A segment is full at about seven eighths; and they do not fill quite evenly, so there may be twice as many.
        let each = (LINES * Line::<W>::ENTRIES / 8 * 7).max(1);
        let segments = capacity.div_ceil(each).min(1 << DEPTH_MAX);
        let depth = (segments.next_power_of_two().ilog2() + 1).min(DEPTH_MAX);
        Self {
            directory: (0..1_usize << depth).map(|_| AtomicU32::new(0)).collect(),
            depth,
            shift: 64 - depth,
            segments: (0..1_usize << depth).map(|_| Slot::empty()).collect(),
            pages: Pages::default(),
            made: AtomicU32::new(1),
            spare: AtomicU32::new(0),
            sweeper: Sweeper::default(),
            marks: Marks::new(1 << depth),
        }
    }

    /// Finds where a key's home line is.
    #[inline(always)]
    pub(super) fn home(&self, place: Place) -> Home<'_, W> {
        Home { place, line: self.nearest(place).map(|segment| segment.line(place.home)) }
    }

    /// Runs a step on a key's state: it gets the words, or `None` if the key has no entry, and says what they become if
    /// they change.
    ///
    /// The step may be run several times; the last run counts. An entry that is vacant may be there or not.
    ///
    /// # Errors
    /// If the key would need an entry and there is no room; then nothing has changed.
    #[inline(always)]
    pub(super) fn update<R>(
        &self,
        census: &Census,
        place: Place,
        now: u64,
        step: impl Fn(Option<[u64; W]>) -> (R, Option<[u64; W]>) + Copy,
    ) -> Result<R, Full> {
        self.update_at(census, self.home(place), now, step)
    }

    /// The same for a key whose home line was found before: entries that have moved meanwhile are found all the same.
    #[inline(always)]
    pub(super) fn update_at<R>(
        &self,
        census: &Census,
        home: Home<'_, W>,
        now: u64,
        step: impl Fn(Option<[u64; W]>) -> (R, Option<[u64; W]>) + Copy,
    ) -> Result<R, Full> {
        if let Some(line) = home.line
            && let Some((entry, tag)) = line.find(home.place.hash, 0)
            && let Some(result) = line.step(
                entry,
                tag,
                move |words| step(Some(words)),
                || self.marks.mark(self.index(home.place)),
            )
        {
            return Ok(result);
        }
        cold_path();
        self.update_far(census, home.place, now, step)
    }

    /// Runs a step on a key's state where it does not lie in its home line.
    fn update_near<R>(
        &self,
        place: Place,
        step: impl Fn(Option<[u64; W]>) -> (R, Option<[u64; W]>) + Copy,
    ) -> Option<R> {
        let segment = self.nearest(place)?;
        for distance in 1..REACH {
            if segment.line(place.home + distance - 1).has_unused() {
                return None;
            }
            let line = segment.line(place.home + distance);
            if let Some((entry, tag)) = line.find(place.hash, distance) {
                let changed = || self.marks.mark(self.index(place));
                return line.step(entry, tag, move |words| step(Some(words)), changed);
            }
        }
        None
    }

    #[inline(never)]
    fn update_far<R>(
        &self,
        census: &Census,
        place: Place,
        now: u64,
        step: impl Fn(Option<[u64; W]>) -> (R, Option<[u64; W]>) + Copy,
    ) -> Result<R, Full> {
        if let Some(result) = self.update_near(place, step) {
            return Ok(result);
        }
        self.help(census, self.root(place), now);
        loop {
            let (segment, _) = self.owner(census, self.root(place), place, now);
            if let Some(seen) = Self::member(segment, place) {
                let changed = || self.marks.mark(self.index(place));
                let step = move |words| step(Some(words));
                if let Some(result) = seen.line.step(seen.entry, seen.tag, step, changed) {
                    return Ok(result);
                }
                // It was given up, or is about to move.
                continue;
            }
            let (result, words) = step(None);
            match words {
                None => return Ok(result),
                Some(words) => {
                    if self.join(census, self.root(place), place, words, now, None)? == Joined::Yes {
                        return Ok(result);
                    }
                }
            }
        }
    }

    /// The words of a key's state, if it has an entry.
    pub(super) fn look(&self, census: &Census, place: Place, now: u64) -> Option<[u64; W]> {
        let keep = |words: Option<[u64; W]>| (words, None);
        // Nothing joins, so there is always room.
        self.update(census, place, now, keep).unwrap_or_default()
    }

    /// Gives a key's entry up if its moment is not after `until`.
    pub(super) fn give_up(&self, census: &Census, place: Place, now: u64, until: u64) {
        loop {
            let (segment, _) = self.owner(census, self.root(place), place, now);
            let Some(seen) = Self::member(segment, place) else { return };
            match seen.first() {
                // It is being written, or is about to move.
                Some(first) if first.is_mark() => pause(1),
                Some(first) if first.moment() > until => return,
                Some(first) if seen.give_up(census, first) => return,
                _ => {}
            }
        }
    }

    /// Whether a key that has no entry would find room for one without growth beyond the census.
    pub(super) fn has_room(&self, census: &Census, place: Place, now: u64) -> bool {
        let (segment, _) = self.owner(census, self.root(place), place, now);
        !census.is_full() || Self::survey(segment, place, now).vacant.is_some()
    }

    /// How many segments there may be.
    fn made(&self) -> usize {
        // Relaxed: who needs one of them finds it or not.
        self.made.load(Ordering::Relaxed) as usize
    }

    /// A key's place in the directory.
    // As many bits as the directory has.
    #[allow(clippy::cast_possible_truncation)]
    #[inline(always)]
    const fn index(&self, place: Place) -> usize {
        place.hash.wrapping_shr(self.shift) as usize
    }

    /// The segment that the directory names: a key's own, or one from which its own was split off.
    #[inline]
    fn nearest(&self, place: Place) -> Option<&Segment<W>> {
        let number = self.directory[self.index(place)].load(Ordering::Acquire);
        self.segments[number as usize].get().map(|segment| &**segment)
    }

    /// The same, which is made if it is the first.
    fn root(&self, place: Place) -> &Segment<W> {
        self.nearest(place).unwrap_or_else(|| self.segment(0, 0, 0))
    }

    /// The segment that was split off another by a bit of the hash.
    fn child(&self, parent: &Segment<W>, bit: u32, number: u32) -> &Segment<W> {
        self.segment(number, bit + 1, parent.prefix() | 1 << (self.depth - 1 - bit))
    }

    /// The segment with this number, which is made if it is not there yet.
    fn segment(&self, number: u32, birth: u32, prefix: u32) -> &Segment<W> {
        self.segments[number as usize].get_or_make(|| self.pages.house(Segment::new(birth, prefix)))
    }

    /// A key's own segment, from one that it was split off from, or that one itself; and how many bits of the hash have
    /// told it apart. Where a split is under way, the key's entry is moved first.
    fn owner<'t>(
        &'t self,
        census: &Census,
        from: &'t Segment<W>,
        place: Place,
        now: u64,
    ) -> (&'t Segment<W>, u32) {
        let (mut segment, mut bits) = (from, from.birth());
        while let Some(number) = segment.child(bits) {
            if place.bit(bits) {
                let child = self.child(segment, bits, number);
                if segment.is_splitting(bits) {
                    self.move_key(census, segment, child, place, now);
                }
                segment = child;
            }
            bits += 1;
        }
        (segment, bits)
    }

    /// A key's member entry within its segment, unless it was given up.
    fn member(segment: &Segment<W>, place: Place) -> Option<Seen<'_, W>> {
        Self::entries(segment, place)
            .take_while(|(_, seen)| seen.tag.status() != Status::Unused)
            .find(|(distance, seen)| {
                seen.tag.is_of(place.hash, *distance)
                    && seen.tag.status() == Status::Member
                    && !seen.line.first(seen.entry).is_dead()
            })
            .map(|(_, seen)| seen)
    }

    /// The entries of a key's lines, from its home on, each as it is when it comes up, and how far from home it lies.
    fn entries(segment: &Segment<W>, place: Place) -> impl Iterator<Item = (usize, Seen<'_, W>)> {
        (0..REACH).flat_map(move |distance| {
            let line = segment.line(place.home + distance);
            (0..Line::<W>::ENTRIES).map(move |entry| (distance, Seen { line, entry, tag: line.tag(entry) }))
        })
    }
}

/// A time as tables count it.
#[inline]
pub(super) fn moment(now: tollgate_core::Timestamp) -> u64 {
    now.as_nanos().min(LAST_MOMENT.as_nanos())
}
