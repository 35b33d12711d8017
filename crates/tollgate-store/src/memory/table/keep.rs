//! Reading a table as a whole while others use it, and filling one: what it takes to keep it elsewhere.

use std::ops::Range;

use super::line::{Line, TAG_LOW_BITS};
use super::segment::{LINES, Segment};
use super::{Place, Table};
use crate::memory::Full;
use crate::memory::census::Census;
use crate::sync::Slot;

/// What a reader remembers of a table so that it notices what has changed: a fingerprint of each line, an eighth of the
/// table's size.
#[derive(Debug, Default)]
pub(in crate::memory) struct Prints {
    /// By the segment's number.
    segments: Vec<Option<Box<[u64; LINES]>>>,
    /// For each place of the directory, whether it was marked in this reading.
    marked: Vec<bool>,
    /// Whether there was a reading before.
    has_read: bool,
}

impl Prints {
    fn of_segment(&mut self, number: u32) -> &mut [u64; LINES] {
        let index = number as usize;
        if self.segments.len() <= index {
            self.segments.resize_with(index + 1, || None);
        }
        self.segments[index].get_or_insert_with(|| Box::new([0; LINES]))
    }
}

impl Place {
    /// The place as a number, another for each key: 55 bits of the hash, and below them those that choose the line.
    pub(in crate::memory) const fn to_word(self) -> u64 {
        self.hash | self.home as u64
    }

    /// The place of this number, whatever the size of the table was that it was written by.
    // A line is chosen by the lowest bits.
    #[allow(clippy::cast_possible_truncation)]
    pub(in crate::memory) const fn of_word(word: u64) -> Self {
        Self { hash: word >> TAG_LOW_BITS << TAG_LOW_BITS, home: word as usize & (LINES - 1) }
    }
}

// The number has room for both.
const _: () = assert!(LINES <= 1 << TAG_LOW_BITS);

impl<const W: usize> Table<W> {
    /// Tells `each` the place and the state of each key that was changed since the last call with these fingerprints, and of
    /// some that were not; of all keys, the first time. Each state is one that the key had during the call. What was changed before the call is told.
    pub(in crate::memory) fn changes(&self, prints: &mut Prints, mut each: impl FnMut(u64, [u64; W])) {
        let mut marked = std::mem::take(&mut prints.marked);
        marked.clear();
        let first = !std::mem::replace(&mut prints.has_read, true);
        marked.extend((0..self.directory.len()).map(|place| self.marks.clear(place) || first));
        self.walk(&|places| marked[places].contains(&true), &mut |number, segment| {
            let prints = prints.of_segment(number);
            for (index, known) in prints.iter_mut().enumerate() {
                let states = kept(segment.line(index), index);
                let print = fingerprint(&states);
                if *known == print {
                    continue;
                }
                *known = print;
                for (place, words) in states.into_iter().flatten() {
                    each(place.to_word(), words);
                }
            }
        });
        prints.marked = marked;
    }

    /// Tells `each` the place and the state of all keys in one part of the table out of `parts` of about the same size. Each
    /// state is one that the key had during the call.
    pub(in crate::memory) fn part(&self, part: usize, parts: usize, mut each: impl FnMut(u64, [u64; W])) {
        let size = self.directory.len().div_ceil(parts.max(1));
        let wanted = size.saturating_mul(part)..size.saturating_mul(part + 1);
        let overlaps = |places: Range<usize>| places.start < wanted.end && wanted.start < places.end;
        self.walk(&overlaps, &mut |_, segment| {
            for index in 0..LINES {
                for (place, words) in kept(segment.line(index), index).into_iter().flatten() {
                    if wanted.contains(&self.index(place)) {
                        each(place.to_word(), words);
                    }
                }
            }
        });
    }

    /// Brings a key's state, in place of any that it has.
    ///
    /// # Errors
    /// If there is no room.
    pub(in crate::memory) fn put(
        &self,
        census: &Census,
        place: Place,
        words: [u64; W],
        now: u64,
    ) -> Result<(), Full> {
        if words[0] <= now {
            self.give_up(census, place, now, u64::MAX);
            return Ok(());
        }
        self.update(census, place, now, move |_| ((), Some(words)))
    }

    /// Runs over all segments in which keys of wanted places of the directory may lie. Each comes before those that were split
    /// off from it: keys move that way only, so one that has left a segment before it was visited is met further on.
    fn walk<'t>(
        &'t self,
        wanted: &impl Fn(Range<usize>) -> bool,
        visit: &mut impl FnMut(u32, &'t Segment<W>),
    ) {
        if let Some(root) = self.segments[0].get() {
            self.walk_from(0, root, wanted, visit);
        }
    }

    fn walk_from<'t>(
        &'t self,
        number: u32,
        segment: &'t Segment<W>,
        wanted: &impl Fn(Range<usize>) -> bool,
        visit: &mut impl FnMut(u32, &'t Segment<W>),
    ) {
        let first = segment.prefix() as usize;
        // What has been split off to the end holds none of its keys any more.
        if wanted(first..first + (1 << (self.depth - segment.settled()))) {
            visit(number, segment);
        }
        let mut bit = segment.birth();
        while let Some(number) = segment.child(bit) {
            // One that is not made yet holds nothing.
            if let Some(child) = self.segments.get(number as usize).and_then(Slot::get) {
                let first = child.prefix() as usize;
                if wanted(first..first + (1 << (self.depth - child.birth()))) {
                    self.walk_from(number, child, wanted, visit);
                }
            }
            bit += 1;
        }
    }
}

/// The keys in a line, and their states. There is room for as many as lie in a line with states of one word.
type Kept<const W: usize> = [Option<(Place, [u64; W])>; 4];

fn kept<const W: usize>(line: &Line<W>, index: usize) -> Kept<W> {
    let mut states = [None; 4];
    for (entry, state) in states.iter_mut().enumerate().take(Line::<W>::ENTRIES) {
        *state = line.kept(entry).map(|(tag, words)| (Place::of_entry(tag, index), words));
    }
    states
}

/// A number that differs where states differ: always if one word does, and else but once in 2^64 times. 0 of a line without
/// any.
fn fingerprint<const W: usize>(states: &Kept<W>) -> u64 {
    // Each step can be undone, so two prints that differ go on differing. The factor is 2^64 divided by the golden ratio.
    let mixed = |print: u64, word: u64| (print ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    states.iter().fold(0, |print, state| match state {
        Some((place, words)) => {
            words.iter().fold(mixed(print, place.to_word()), |print, word| mixed(print, *word))
        }
        None => mixed(print, 0),
    })
}
