//! A part of the table that grows by itself: lines, and the record of what was split off.

use super::DEPTH_MAX;
use super::line::Line;
use crate::sync::{AtomicU32, Ordering};

/// How many lines a segment has: 32 KiB of entries.
///
/// Fewer where each step is slow, under the model checker and the interpreter.
pub(super) const LINES: usize = if cfg!(loom) {
    1
} else if cfg!(miri) {
    16
} else {
    512
};

/// In how many stretches a segment is split, so that nobody who needs room waits for more than one or two: each takes
/// a few microseconds.
pub(super) const STRETCHES: usize = if LINES < 16 { 1 } else { 16 };

/// How many lines that is.
pub(super) const STRETCH: usize = LINES / STRETCHES;

const ALL_STRETCHES: u32 = (1 << STRETCHES) - 1;

// Both parts of the progress fit a word.
const _: () = assert!(DEPTH_MAX < 1 << (32 - STRETCHES));

#[derive(Debug)]
pub(super) struct Segment<const W: usize> {
    lines: [Line<W>; LINES],
    /// How many bits of the hash told its keys apart when it was made.
    birth: u32,
    /// The first of the directory's places that are the segment's.
    prefix: u32,
    /// By which bit it is being split, or will be next, and below that a bit for each stretch that is done.
    progress: AtomicU32,
    /// For each bit of the hash the number of the segment to which the keys belong where it is set; 0 where the segment
    /// was not split by it. From the birth on without a gap.
    children: [AtomicU32; DEPTH_MAX as usize],
}

impl<const W: usize> Segment<W> {
    pub(super) fn new(birth: u32, prefix: u32) -> Self {
        Self {
            lines: std::array::from_fn(|_| Line::default()),
            birth,
            prefix,
            progress: AtomicU32::new(birth << STRETCHES),
            children: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// A line, counted around.
    #[inline]
    pub(super) fn line(&self, index: usize) -> &Line<W> {
        &self.lines[index & (LINES - 1)]
    }

    pub(super) const fn birth(&self) -> u32 {
        self.birth
    }

    pub(super) const fn prefix(&self) -> u32 {
        self.prefix
    }

    /// The number of the segment that was split off by this bit.
    pub(super) fn child(&self, bit: u32) -> Option<u32> {
        let number = self.children.get(bit as usize)?.load(Ordering::Acquire);
        (number != 0).then_some(number)
    }

    /// Names the segment that is split off by this bit. Returns the one that has been named.
    pub(super) fn adopt(&self, bit: u32, number: u32) -> u32 {
        let child = &self.children[bit as usize];
        match child.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => number,
            Err(earlier) => earlier,
        }
    }

    /// Up to which bit its splits are done: the next one is by this bit, or is under way.
    pub(super) fn settled(&self) -> u32 {
        self.progress.load(Ordering::Acquire) >> STRETCHES
    }

    /// Whether entries may still have to move to the segment that was split off by this bit.
    pub(super) fn is_splitting(&self, bit: u32) -> bool {
        self.settled() <= bit
    }

    /// The stretches from which entries may still have to move, a bit for each; none if the split by this bit is done.
    pub(super) fn stretches_left(&self, bit: u32) -> u32 {
        let progress = self.progress.load(Ordering::Acquire);
        if progress >> STRETCHES == bit { !progress & ALL_STRETCHES } else { 0 }
    }

    /// Notes that all entries of a stretch that had to move have moved. Returns whether that was the last one, so that the
    /// split by this bit is done.
    pub(super) fn finish(&self, bit: u32, stretch: usize) -> bool {
        let finish = |progress: u32| {
            if progress >> STRETCHES != bit {
                return None;
            }
            let progress = progress | 1 << stretch;
            let is_last = progress & ALL_STRETCHES == ALL_STRETCHES;
            Some(if is_last { (bit + 1) << STRETCHES } else { progress })
        };
        self.progress
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, finish)
            .is_ok_and(|before| finish(before) == Some((bit + 1) << STRETCHES))
    }
}
