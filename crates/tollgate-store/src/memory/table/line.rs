//! One cache line of entries, and the words that they are made of.
//!
//! An entry is a *tag*, which says whose it is, and one or three *state words*. Each is an atomic of its own:
//!
//! * A tag is, from the top, 55 bits of the key's hash, 3 bits for how many lines the entry lies behind the key's home,
//!   2 bits for the [`Status`], 4 bits that count the entry's owners.
//! * The [`First`] state word is a moment (see [`tollgate_core::packed`]): an entry whose moment has come is *vacant*. Or
//!   it is a mark: for an entry that was given up, that is being written, or that moves to another segment.
//!
//! The rules that keep it right:
//!
//! * A tag changes owners only while the state is dead or frozen, and both are final: no owner can use the entry
//!   again. So a tag that is the same before and after the state was read says whose state it was.
//! * An owner's state changes only by compare-and-swap from what was decided on. The word carries a bit of the tag's
//!   count of owners, so that what was decided on one owner's state does not fit the next one's, even if it is the same.

use std::hint::cold_path;

use tollgate_core::packed::WORD_END;

use crate::sync::{AtomicU64, Ordering, pause};

/// The first word of a state: from the top, a bit for marks, a bit of the count of owners, and the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First(u64);

impl First {
    const MARK: u64 = 1 << 63;
    const OWNER: u64 = 1 << 62;
    /// Of an entry that was given up.
    pub(super) const DEAD: Self = Self(u64::MAX);
    /// Of an entry whose three words are being written.
    const LOCKED: Self = Self(u64::MAX - 1);

    /// The word of a state at this moment that belongs to a tag's owner.
    const fn of(moment: u64, tag: Tag) -> Self {
        Self(moment | (tag.0 & 1) << 62)
    }

    /// This owner's word at another moment.
    const fn at(self, moment: u64) -> Self {
        Self(moment | self.0 & Self::OWNER)
    }

    /// The word of the same state once it is about to move.
    pub(super) const fn frozen(self) -> Self {
        Self(self.0 | Self::MARK)
    }

    /// From when on the state is as new. Means nothing where the entry is dead or locked.
    pub(super) const fn moment(self) -> u64 {
        self.0 & (Self::OWNER - 1)
    }

    /// Whether the entry is dead, locked or about to move.
    pub(super) const fn is_mark(self) -> bool {
        self.0 >= Self::MARK
    }

    pub(super) fn is_dead(self) -> bool {
        self == Self::DEAD
    }

    pub(super) fn is_locked(self) -> bool {
        self == Self::LOCKED
    }

    /// Whether the state is as new.
    pub(super) const fn is_vacant(self, now: u64) -> bool {
        !self.is_mark() && self.moment() <= now
    }
}

// No moment under marks looks like another mark.
const _: () = assert!(WORD_END <= First::OWNER - 2);

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
    /// The tag of a key that claims an entry `distance` lines behind its home, as the next owner after `before`.
    pub(super) const fn joining(hash: u64, distance: usize, before: Self) -> Self {
        let owner = before.0.wrapping_add(1) & OWNERS;
        Self(hash | (distance as u64) << DISTANCE_SHIFT | (Status::Joining as u64) << STATUS_SHIFT | owner)
    }

    /// The same owner's tag once it has joined.
    pub(super) const fn joined(self) -> Self {
        Self(self.0 & !(3 << STATUS_SHIFT) | (Status::Member as u64) << STATUS_SHIFT)
    }

    /// The tag after this owner has left.
    pub(super) const fn left(self) -> Self {
        Self((Status::Left as u64) << STATUS_SHIFT | self.0 & OWNERS)
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
        &self.0[((1 + word) * Self::ENTRIES + entry) & 7]
    }

    // Acquire and release: the state of a member was written before it became one. Where two threads must see each
    // other, they put a fence between their writing and their reading (`join`), or both are sequentially consistent
    // (`marks`), which costs a compare-and-swap nothing.

    #[inline]
    pub(super) fn tag(&self, entry: usize) -> Tag {
        Tag(self.0[entry & 7].load(Ordering::Acquire))
    }

    /// Changes a tag, if it is still as it was read.
    pub(super) fn retag(&self, entry: usize, from: Tag, to: Tag) -> bool {
        self.0[entry & 7].compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
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

    /// The member that an entry is at this moment, and its state; none if it is nobody's, or its owner has given it up.
    ///
    /// Sequentially consistent, for who has cleared a mark before. See [`Marks`](super::marks::Marks).
    #[cfg(feature = "durable")]
    pub(super) fn kept(&self, entry: usize) -> Option<(Tag, [u64; W])> {
        for turn in 1.. {
            let tag = Tag(self.0[entry & 7].load(Ordering::SeqCst));
            let first = First(self.word(entry, 0).load(Ordering::SeqCst));
            if tag.status() != Status::Member || first.is_dead() {
                return None;
            }
            if first.is_locked() {
                pause(turn);
                continue;
            }
            let words = if first.is_mark() {
                self.frozen_words(entry)
            } else if W == 1 {
                [first.moment(); W]
            } else {
                // Without the lock, the words could be of two states.
                let Some(lock) = Lock::take(self, entry) else { continue };
                lock.words()
            };
            if self.tag(entry) == tag {
                return Some((tag, words));
            }
        }
        None
    }

    /// Whether an entry was never used, so that no key lies in later lines for want of room in this one.
    pub(super) fn has_unused(&self) -> bool {
        self.tag(Self::ENTRIES - 1).status() == Status::Unused
    }

    /// The first state word.
    #[inline]
    pub(super) fn first(&self, entry: usize) -> First {
        First(self.word(entry, 0).load(Ordering::Acquire))
    }

    /// Changes the first state word, if it is still as it was read.
    #[inline]
    pub(super) fn swap_first(&self, entry: usize, from: First, to: First) -> bool {
        self.word(entry, 0).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The words of an entry that is frozen: nobody writes them.
    pub(super) fn frozen_words(&self, entry: usize) -> [u64; W] {
        let mut words = [self.first(entry).moment(); W];
        for (index, word) in words.iter_mut().enumerate().skip(1) {
            *word = self.word(entry, index).load(Ordering::Relaxed);
        }
        words
    }

    /// Writes the state of an entry that was just claimed under `tag`, whose first word was `before`. Returns whether it
    /// could.
    pub(super) fn write_claimed(&self, entry: usize, tag: Tag, before: First, words: [u64; W]) -> bool {
        let first = First::of(words[0], tag);
        if W == 1 {
            return self.swap_first(entry, before, first);
        }
        // Whoever else still believes to have claimed the entry cannot get behind the lock.
        if !self.swap_first(entry, before, First::LOCKED) {
            return false;
        }
        self.write_locked(entry, first, words);
        true
    }

    fn write_locked(&self, entry: usize, first: First, words: [u64; W]) {
        for (index, word) in words.iter().enumerate().skip(1) {
            // Relaxed: published by the first word.
            self.word(entry, index).store(*word, Ordering::Relaxed);
        }
        self.word(entry, 0).store(first.0, Ordering::Release);
    }

    /// Runs a step on the state of a tag's owner: it gets the words, and says what they become if they change; then
    /// `changed` is told. Returns `None` if the entry is not the owner's any more, or is about to move.
    #[inline]
    pub(super) fn step<R>(
        &self,
        entry: usize,
        tag: Tag,
        step: impl Fn([u64; W]) -> (R, Option<[u64; W]>),
        changed: impl Fn(),
    ) -> Option<R> {
        if W > 1 {
            return self.step_locked(entry, tag, step, changed);
        }
        loop {
            let first = self.first(entry);
            // The tag is looked at again, now that the state was read: if it is the same, the state was its owner's.
            if first.is_mark() || self.tag(entry) != tag {
                cold_path();
                return None;
            }
            let (result, next) = step([first.moment(); W]);
            match next {
                Some(next) if !self.swap_first(entry, first, first.at(next[0])) => cold_path(),
                Some(_) => {
                    changed();
                    return Some(result);
                }
                None => return Some(result),
            }
        }
    }

    fn step_locked<R>(
        &self,
        entry: usize,
        tag: Tag,
        step: impl Fn([u64; W]) -> (R, Option<[u64; W]>),
        changed: impl Fn(),
    ) -> Option<R> {
        let lock = Lock::take(self, entry)?;
        // Under the lock the tag cannot change owners.
        if self.tag(entry) != tag {
            return None;
        }
        let (result, next) = step(lock.words());
        if let Some(next) = next {
            // Told while the lock is held: who reads the state from here on waits for it.
            changed();
            self.write_locked(entry, lock.first.at(next[0]), next);
            std::mem::forget(lock);
        }
        Some(result)
    }
}

/// The right to write an entry's three words; dropped, it leaves them as they were.
struct Lock<'l, const W: usize> {
    line: &'l Line<W>,
    entry: usize,
    first: First,
}

impl<'l, const W: usize> Lock<'l, W> {
    /// Waits for nobody but another thread that works on the same key. `None` if the entry is dead or moves.
    fn take(line: &'l Line<W>, entry: usize) -> Option<Self> {
        for turn in 1.. {
            let first = line.first(entry);
            if !first.is_mark() {
                if line.swap_first(entry, first, First::LOCKED) {
                    return Some(Self { line, entry, first });
                }
            } else if first.is_locked() {
                pause(turn);
            } else {
                return None;
            }
        }
        None
    }

    /// The state as it was when the lock was taken.
    fn words(&self) -> [u64; W] {
        let mut words = [self.first.moment(); W];
        for (index, word) in words.iter_mut().enumerate().skip(1) {
            // Relaxed: taking the lock has acquired them.
            *word = self.line.word(self.entry, index).load(Ordering::Relaxed);
        }
        words
    }
}

impl<const W: usize> Drop for Lock<'_, W> {
    fn drop(&mut self) {
        self.line.word(self.entry, 0).store(self.first.0, Ordering::Release);
    }
}
