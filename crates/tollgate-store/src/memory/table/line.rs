//! One cache line of entries, and the words that they are made of.
//!
//! An entry is a *tag*, which says whose it is, and one or three *state words*. Each is an atomic of its own:
//!
//! * A tag is, from the top, 55 bits of the key's hash, 3 bits for how many lines the entry lies behind the key's home,
//!   2 bits for the [`Status`], 4 bits that count the entry's owners.
//! * The first state word is a moment (see [`tollgate_core::packed`]): an entry whose moment has come is *vacant*. Words
//!   with the top bit set are marks: [`DEAD`] for an entry that was given up, [`LOCKED`] for one whose three words are
//!   being written, and any moment under [`FROZEN`] for one that moves to another segment.
//!
//! The rules that keep it right:
//!
//! * A tag changes owners only while the state is dead or frozen, and both are final: no owner can use the entry
//!   again. So a tag that is the same before and after the state was read says whose state it was.
//! * An owner's state changes only by compare-and-swap from what was decided on.

use std::hint::cold_path;

use tollgate_core::packed::WORD_END;

use crate::sync::{AtomicU64, Ordering, pause};

/// The bit of a state word that moves.
pub(super) const FROZEN: u64 = 1 << 63;
/// The first state word of an entry that was given up.
pub(super) const DEAD: u64 = u64::MAX;
/// The first state word of an entry that one thread writes to.
pub(super) const LOCKED: u64 = u64::MAX - 1;

// No frozen moment looks like another mark.
const _: () = assert!((WORD_END - 1) | FROZEN < LOCKED);

/// The bits of a tag below the hash.
pub(super) const TAG_LOW_BITS: u32 = 9;
const DISTANCE_SHIFT: u32 = 6;
const STATUS_SHIFT: u32 = 4;
const OWNERS: u64 = (1 << STATUS_SHIFT) - 1;

/// What an entry is, by its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nobody's, and never was anybody's: the tag is 0. Whoever looks for a key needs look no further.
    Unused,
    /// Claimed for a key, and not yet its entry: there may be another.
    Joining,
    /// The key's entry.
    Member,
    /// Nobody's any more.
    Left,
}

/// A tag as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// The tag of a key's entry `distance` lines behind its home, for the owner that comes after `before`.
    fn new(hash: u64, distance: usize, status: Status, before: Self) -> Self {
        let owner = before.0.wrapping_add(1) & OWNERS;
        Self(hash | (distance as u64) << DISTANCE_SHIFT | (status as u64) << STATUS_SHIFT | owner)
    }

    pub(super) fn joining(hash: u64, distance: usize, before: Self) -> Self {
        Self::new(hash, distance, Status::Joining, before)
    }

    /// The same owner's tag once it has joined.
    pub(super) const fn joined(self) -> Self {
        Self(self.0 & !(3 << STATUS_SHIFT) | (Status::Member as u64) << STATUS_SHIFT)
    }

    /// The tag after this owner has left.
    pub(super) fn left(self) -> Self {
        Self::new(0, 0, Status::Left, self)
    }

    pub(super) const fn status(self) -> Status {
        match self.0 >> STATUS_SHIFT & 3 {
            0 => Status::Unused,
            1 => Status::Joining,
            2 => Status::Member,
            _ => Status::Left,
        }
    }

    /// The part of the hash that the tag holds, in its place.
    pub(super) const fn hash(self) -> u64 {
        self.0 >> TAG_LOW_BITS << TAG_LOW_BITS
    }

    /// How many lines the entry lies behind its home.
    pub(super) const fn distance(self) -> usize {
        (self.0 >> DISTANCE_SHIFT & 7) as usize
    }

    /// Whether this is an entry of the key with this hash, which lies that far from home.
    pub(super) const fn is_of(self, hash: u64, distance: usize) -> bool {
        (self.0 ^ (hash | (distance as u64) << DISTANCE_SHIFT)) < 1 << DISTANCE_SHIFT
            && !matches!(self.status(), Status::Unused | Status::Left)
    }
}

/// A cache line of entries with `W` state words each: four of one word, or two of three.
///
/// The tags come first, so that all are compared before any state is looked at.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Line<const W: usize>([AtomicU64; 8]);

impl<const W: usize> Line<W> {
    /// How many entries a line holds.
    pub(super) const ENTRIES: usize = 8 / (1 + W);

    fn word(&self, entry: usize, word: usize) -> &AtomicU64 {
        &self.0[(1 + word) * Self::ENTRIES + entry & 7]
    }

    // Acquire and release: the state of a member was written before it became one. Where two threads must see each
    // other, they put a fence between their writing and their reading (`Table::join`).

    #[inline]
    pub(super) fn tag(&self, entry: usize) -> Tag {
        Tag(self.0[entry & 7].load(Ordering::Acquire))
    }

    /// Changes a tag, if it is still as it was read.
    pub(super) fn retag(&self, entry: usize, from: Tag, to: Tag) -> bool {
        self.0[entry & 7].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The entry of the member with this hash whose home lies `distance` lines before this one.
    #[inline]
    pub(super) fn find(&self, hash: u64, distance: usize) -> Option<(usize, Tag)> {
        let member = hash | (distance as u64) << DISTANCE_SHIFT | (Status::Member as u64) << STATUS_SHIFT;
        let mut found = 0;
        // All are compared, as where the entry is cannot be foretold.
        for entry in 0..Self::ENTRIES {
            let same = (self.tag(entry).0 ^ member) <= OWNERS;
            found |= u32::from(same) << entry;
        }
        let entry = found.trailing_zeros() as usize & (Self::ENTRIES - 1);
        let tag = self.tag(entry);
        // If none was found, this is the first entry, which is not the key's either.
        ((tag.0 ^ member) <= OWNERS).then_some((entry, tag))
    }

    /// Whether an entry was never used, so that no key lies in later lines for want of room in this one.
    pub(super) fn has_unused(&self) -> bool {
        self.tag(Self::ENTRIES - 1).status() == Status::Unused
    }

    /// The first state word, which may be a mark.
    pub(super) fn first(&self, entry: usize) -> u64 {
        self.word(entry, 0).load(Ordering::Acquire)
    }

    /// Changes the first state word, if it is still as it was read.
    pub(super) fn swap_first(&self, entry: usize, from: u64, to: u64) -> bool {
        self.word(entry, 0).compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The words of an entry that is frozen: nobody writes them.
    pub(super) fn frozen_words(&self, entry: usize) -> [u64; W] {
        let mut words = [0; W];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(entry, index).load(Ordering::Acquire);
        }
        words[0] &= !FROZEN;
        words
    }

    /// Writes the state of an entry that was just claimed, whose first word was `before`. Returns whether it could.
    pub(super) fn write_claimed(&self, entry: usize, before: u64, words: [u64; W]) -> bool {
        if W == 1 {
            return self.swap_first(entry, before, words[0]);
        }
        // Whoever else still believes to have claimed the entry cannot get behind the lock.
        if !self.swap_first(entry, before, LOCKED) {
            return false;
        }
        self.write_locked(entry, words);
        true
    }

    fn write_locked(&self, entry: usize, words: [u64; W]) {
        for (index, word) in words.iter().enumerate().skip(1) {
            // Relaxed: published by the first word.
            self.word(entry, index).store(*word, Ordering::Relaxed);
        }
        self.word(entry, 0).store(words[0], Ordering::Release);
    }

    /// Runs a step on the state of a tag's owner: it gets the words, and says what they become if they change. Returns
    /// `None` if the entry is not the owner's any more, or is about to move.
    #[inline]
    pub(super) fn step<R>(
        &self,
        entry: usize,
        tag: Tag,
        step: impl Fn([u64; W]) -> (R, Option<[u64; W]>),
    ) -> Option<R> {
        if W > 1 {
            return self.step_locked(entry, tag, step);
        }
        loop {
            let word = self.first(entry);
            // The tag is looked at again, now that the state was read: if it is the same, the state was its owner's.
            if word >= FROZEN || self.tag(entry) != tag {
                cold_path();
                return None;
            }
            let mut words = [0; W];
            words[0] = word;
            let (result, next) = step(words);
            match next {
                Some(next) if !self.swap_first(entry, word, next[0]) => cold_path(),
                _ => return Some(result),
            }
        }
    }

    fn step_locked<R>(
        &self,
        entry: usize,
        tag: Tag,
        step: impl Fn([u64; W]) -> (R, Option<[u64; W]>),
    ) -> Option<R> {
        let lock = Lock::take(self, entry)?;
        // Under the lock the tag cannot change owners.
        if self.tag(entry) != tag {
            return None;
        }
        let mut words = [lock.first; W];
        for (index, word) in words.iter_mut().enumerate().skip(1) {
            // Relaxed: taking the lock has acquired them.
            *word = self.word(entry, index).load(Ordering::Relaxed);
        }
        let (result, next) = step(words);
        if let Some(next) = next {
            self.write_locked(entry, next);
            std::mem::forget(lock);
        }
        Some(result)
    }
}

/// The right to write an entry's three words; dropped, it leaves them as they were.
struct Lock<'l, const W: usize> {
    line: &'l Line<W>,
    entry: usize,
    first: u64,
}

impl<'l, const W: usize> Lock<'l, W> {
    /// Waits for nobody but another thread that works on the same key. `None` if the entry is dead or moves.
    fn take(line: &'l Line<W>, entry: usize) -> Option<Self> {
        for turn in 1.. {
            let first = line.first(entry);
            if first < FROZEN && line.swap_first(entry, first, LOCKED) {
                return Some(Self { line, entry, first });
            }
            if first >= FROZEN && first != LOCKED {
                return None;
            }
            if first == LOCKED {
                pause(turn);
            }
        }
        None
    }
}

impl<const W: usize> Drop for Lock<'_, W> {
    fn drop(&mut self) {
        self.line.word(self.entry, 0).store(self.first, Ordering::Release);
    }
}
