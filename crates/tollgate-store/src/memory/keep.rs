//! What of the store's states has changed since it was last asked, and putting states back: for who keeps them elsewhere.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tollgate_core::{Clock, KeyHash, State, Timestamp};

use super::room::lock;
use super::states::States;
use super::table::{Place, Prints, moment};
use super::{Full, MemoryStore};

/// One key's state as it is kept. Later ones of the same key stand in place of earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'e> {
    /// A state of one word, and whose it is.
    Word(u64, [u64; 1]),
    /// A state of three words.
    Triple(u64, [u64; 3]),
    /// The key has no state of words.
    NoWords(u64),
    /// A state of no fixed size, from when on it is vacant, and the state as it is written.
    State(KeyHash, Timestamp, &'e [u8]),
    /// The key has none.
    NoState(KeyHash),
}

/// Whose states: of keys, or those that keys share for which there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Own,
    Shared,
}

/// What a reader remembers of a store, so that it is told what has changed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    own: SeenStates,
    shared: SeenStates,
}

#[derive(Debug, Default)]
struct SeenStates {
    words: Prints,
    triples: Prints,
    has_read_room: bool,
}

/// Keys of words whose states remember less than before. Their entries may be another's by the time that somebody looks.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    /// Whether anybody wants to know.
    wanted: AtomicBool,
    /// In parts, so that refunds of many threads seldom meet.
    places: [Mutex<HashSet<u64>>; 16],
}

impl Lowered {
    pub(super) fn note(&self, place: Place) {
        // Relaxed: set before anybody's changes have to be known.
        if self.wanted.load(Ordering::Relaxed) {
            let word = place.to_word();
            // By the top bits.
            #[allow(clippy::cast_possible_truncation)]
            let part = (word >> 60) as usize & 15;
            lock(&self.places[part]).insert(word);
        }
    }

    fn take(&self) -> Vec<u64> {
        self.places.iter().flat_map(|places| std::mem::take(&mut *lock(places))).collect()
    }
}

impl<C: Clock> MemoryStore<C> {
    /// Begins to note what [`changes`](Self::changes) cannot see by itself, and forgets what was noted before: for who has not changed
    /// anything since, or is about to read everything.
    pub(crate) fn note_changes(&self) {
        self.own.note_changes();
        self.shared.note_changes();
    }

    /// Tells `each` what has changed since the last call with what was seen then, and some of what has not; everything, the first time. What was changed
    /// before the call is told; each state is one that the key had during the call.
    pub(crate) fn changes(&self, seen: &mut Seen, mut each: impl FnMut(Part, Entry<'_>)) {
        let now = self.clock.now();
        self.own.changes(&mut seen.own, now, |entry| each(Part::Own, entry));
        self.shared.changes(&mut seen.shared, now, |entry| each(Part::Shared, entry));
    }

    /// Tells `each` all states of one part of the store, out of `parts` of about the same size.
    pub(crate) fn part(&self, part: usize, parts: usize, mut each: impl FnMut(Part, Entry<'_>)) {
        let now = self.clock.now();
        self.own.part(part, parts, now, |entry| each(Part::Own, entry));
        if part == 0 {
            self.shared.part(0, 1, now, |entry| each(Part::Shared, entry));
        }
    }

    /// Puts back what was told. Returns whether there was room for it.
    pub(crate) fn put(&self, part: Part, entry: Entry<'_>, now: Timestamp) -> bool {
        let states = match part {
            Part::Own => &self.own,
            Part::Shared => &self.shared,
        };
        states.put(entry, now).is_ok()
    }
}

impl States {
    fn note_changes(&self) {
        // Relaxed: see above.
        self.lowered.wanted.store(true, Ordering::Relaxed);
        self.lowered.take();
        self.room.note_changes();
    }

    fn changes(&self, seen: &mut SeenStates, now: Timestamp, mut each: impl FnMut(Entry<'_>)) {
        let at = moment(now);
        // Taken before the tables are read and looked up after: whoever is noted later is told next time.
        let lowered = self.lowered.take();
        self.words.changes(&mut seen.words, |place, words| tell_word(place, words, at, &mut each));
        self.triples.changes(&mut seen.triples, |place, words| tell_triple(place, words, at, &mut each));
        for word in lowered {
            each(Entry::NoWords(word));
            let place = Place::of_word(word);
            if let Some(words) = self.words.look(&self.census, place, at) {
                tell_word(word, words, at, &mut each);
            }
            if let Some(words) = self.triples.look(&self.census, place, at) {
                tell_triple(word, words, at, &mut each);
            }
        }
        let mut written = Vec::new();
        self.room.changes(|key, state| tell_state(key, state, &mut written, &mut each));
        if !std::mem::replace(&mut seen.has_read_room, true) {
            self.room.part(0, 1, |key, state| tell_state(key, state, &mut written, &mut each));
        }
    }

    fn part(&self, part: usize, parts: usize, now: Timestamp, mut each: impl FnMut(Entry<'_>)) {
        let at = moment(now);
        self.words.part(part, parts, |place, words| tell_word(place, words, at, &mut each));
        self.triples.part(part, parts, |place, words| tell_triple(place, words, at, &mut each));
        let mut written = Vec::new();
        self.room.part(part, parts, |key, state| tell_state(key, state, &mut written, &mut each));
    }

    fn put(&self, entry: Entry<'_>, now: Timestamp) -> Result<(), Full> {
        let at = moment(now);
        match entry {
            Entry::Word(word, words) => self.words.put(&self.census, Place::of_word(word), words, at),
            Entry::Triple(word, words) => self.triples.put(&self.census, Place::of_word(word), words, at),
            Entry::NoWords(word) => {
                self.words.give_up(&self.census, Place::of_word(word), at, u64::MAX);
                self.triples.give_up(&self.census, Place::of_word(word), at, u64::MAX);
                Ok(())
            }
            Entry::State(key, vacant_at, written) => match State::read(written) {
                Some(state) => self.room.put(&self.census, key, state, vacant_at, now),
                // Of a kind that this version does not know: as good as none.
                None => Ok(()),
            },
            Entry::NoState(key) => {
                self.room.forget(&self.census, key);
                Ok(())
            }
        }
    }
}

/// What is vacant need not be told: whoever puts back what was told before finds it vacant too.
fn tell_word(place: u64, words: [u64; 1], at: u64, each: &mut impl FnMut(Entry<'_>)) {
    if words[0] > at {
        each(Entry::Word(place, words));
    }
}

fn tell_triple(place: u64, words: [u64; 3], at: u64, each: &mut impl FnMut(Entry<'_>)) {
    if words[0] > at {
        each(Entry::Triple(place, words));
    }
}

fn tell_state(
    key: KeyHash,
    state: Option<(State, Timestamp)>,
    written: &mut Vec<u8>,
    each: &mut impl FnMut(Entry<'_>),
) {
    match state {
        Some((state, vacant_at)) => {
            written.clear();
            state.write(written);
            each(Entry::State(key, vacant_at, written));
        }
        None => each(Entry::NoState(key)),
    }
}
