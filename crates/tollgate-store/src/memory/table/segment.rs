//! A part of the table that grows by itself: lines, and the record of what was split off.

use super::DEPTH_MAX;
use super::line::Line;
use crate::sync::{AtomicU32, Ordering};

/// How many lines a segment has: 32 KiB of entries. Splitting one takes a few microseconds.
///
/// Fewer where each step is slow, under the model checker and the interpreter.
pub(super) const LINES: usize = if cfg!(loom) {
    1
} else if cfg!(miri) {
    16
} else {
    512
};

#[derive(Debug)]
pub(super) struct Segment<const W: usize> {
    lines: [Line<W>; LINES],
    /// How many bits of the hash told its keys apart when it was made.
    birth: u32,
    /// The first of the directory's places that are the segment's.
    prefix: u32,
    /// Up to which bit its splits are done.
    settled: AtomicU32,
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
            settled: AtomicU32::new(birth),
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
        self.settled.load(Ordering::Acquire)
    }

    /// Whether entries may still have to move to the segment that was split off by this bit.
    pub(super) fn is_splitting(&self, bit: u32) -> bool {
        self.settled() <= bit
    }

    /// Notes that all entries have moved.
    pub(super) fn settle(&self, bit: u32) {
        self.settled.fetch_max(bit + 1, Ordering::AcqRel);
    }
}
