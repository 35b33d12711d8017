//! The states of many keys, each kept where its limit's states belong.

use tollgate_core::packed::Footprint;
use tollgate_core::{Grant, Hit, KeyHash, Limit, State, Timestamp};

use super::Full;
use super::census::Census;
#[cfg(feature = "durable")]
use super::keep::Lowered;
use super::room::Room;
use super::table::{Home, Place, Table, moment};

/// States in three places, with one bound on how many keys there are: a table for states of one word, one for states of
/// three, and a room for those that have no fixed size.
#[derive(Debug)]
pub(super) struct States {
    pub(super) census: Census,
    pub(super) words: Table<1>,
    pub(super) triples: Table<3>,
    pub(super) room: Room<State>,
    #[cfg(feature = "durable")]
    pub(super) lowered: Lowered,
}

impl States {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            census: Census::new(capacity),
            words: Table::new(capacity),
            triples: Table::new(capacity),
            room: Room::new(capacity),
            #[cfg(feature = "durable")]
            lowered: Lowered::default(),
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.census.capacity()
    }

    pub(super) fn len(&self) -> usize {
        self.census.present()
    }

    /// Whether no new key has room, but in place of one that is idle.
    pub(super) fn is_full(&self) -> bool {
        self.census.is_full()
    }

    /// Whether a hit's limit admits it by itself.
    pub(super) fn admits(&self, hit: &Hit<'_>, now: Timestamp) -> bool {
        if let Some(meter) = hit.limit.word_meter() {
            let look = |words: Option<[u64; 1]>| (words, None);
            let words = self.words.update(&self.census, Place::of(&hit.key), moment(now), look);
            // Nothing joins, so there is room.
            let word = words.unwrap_or_default().map_or(0, |[word]| word);
            return meter.acquire_word(word, now, hit.cost).0.is_allowed();
        }
        match self.look(hit.key, hit.limit, now) {
            Some(state) => hit.limit.decide(&state, now, hit.cost).allowed,
            None => hit.limit.decide_settled(&hit.limit.fresh(now), now, hit.cost).allowed,
        }
    }

    /// Where a key's state lies, if it is where most states are.
    #[inline(always)]
    pub(super) fn home(&self, place: Place) -> Home<'_, 1> {
        self.words.home(place)
    }

    /// Runs a step on a key's state that is one word, or on none: the short way.
    #[inline(always)]
    pub(super) fn update_word<R>(
        &self,
        home: Home<'_, 1>,
        now: Timestamp,
        step: impl Fn(Option<u64>) -> (R, u64) + Copy,
    ) -> Result<R, Full> {
        let at = moment(now);
        self.words.update_at(&self.census, home, at, move |words| {
            let word = words.map(|[word]| word);
            let (result, next) = step(word);
            // What is as new needs no entry.
            let changed = word.map_or(next > at, |word| next != word);
            (result, changed.then_some([next]))
        })
    }

    /// Runs a step on a key's state, which may change it. It may be run several times; the last run counts.
    ///
    /// # Errors
    /// If the key is new, the step leaves something to remember, and there is no room; then nothing has changed.
    pub(super) fn update<R>(
        &self,
        key: KeyHash,
        limit: &Limit,
        now: Timestamp,
        step: impl Fn(&mut State) -> R,
    ) -> Result<R, Full> {
        match limit.footprint() {
            Footprint::None => Ok(step(&mut State::Nothing)),
            Footprint::Word => packed(&self.words, &self.census, key, limit, now, step),
            Footprint::Words => packed(&self.triples, &self.census, key, limit, now, step),
            Footprint::State => self.room.update(&self.census, key, limit, now, step),
        }
    }

    /// Gives back what was taken from a key. One that was forgotten has recovered it already.
    pub(super) fn give_back(&self, key: KeyHash, limit: &Limit, now: Timestamp, grant: Grant) {
        let (place, at) = (Place::of(&key), moment(now));
        let give_back = |state: &mut State| limit.give_back(state, now, grant);
        match limit.footprint() {
            Footprint::None => {}
            Footprint::Word => {
                change(&self.words, &self.census, place, limit, at, give_back);
                self.words.give_up(&self.census, place, at, at);
                self.note_lowered(place);
            }
            Footprint::Words => {
                change(&self.triples, &self.census, place, limit, at, give_back);
                self.triples.give_up(&self.census, place, at, at);
                self.note_lowered(place);
            }
            Footprint::State => self.room.change(&self.census, key, limit, now, give_back),
        }
    }

    /// A key's state, if it has one.
    pub(super) fn look(&self, key: KeyHash, limit: &Limit, now: Timestamp) -> Option<State> {
        let (place, at) = (Place::of(&key), moment(now));
        match limit.footprint() {
            Footprint::None => Some(State::Nothing),
            Footprint::Word => self.words.look(&self.census, place, at).map(|words| unpacked(limit, words)),
            Footprint::Words => {
                self.triples.look(&self.census, place, at).map(|words| unpacked(limit, words))
            }
            Footprint::State => self.room.look(key, State::clone),
        }
    }

    /// Forgets a key.
    pub(super) fn forget(&self, key: KeyHash) {
        self.words.give_up(&self.census, Place::of(&key), 0, u64::MAX);
        self.triples.give_up(&self.census, Place::of(&key), 0, u64::MAX);
        self.room.forget(&self.census, key);
        self.note_lowered(Place::of(&key));
    }

    /// Notes that a key's state remembers less than before, or nothing any more. That can be too little to be found later.
    #[inline]
    #[cfg_attr(not(feature = "durable"), allow(clippy::unused_self, reason = "nobody wants to know"))]
    fn note_lowered(&self, place: Place) {
        #[cfg(feature = "durable")]
        self.lowered.note(place);
        #[cfg(not(feature = "durable"))]
        let _ = place;
    }

    /// Whether a new key would find room, if need be that of what is idle; else the first moment, of those known, at
    /// which there may be room.
    pub(super) fn room_for(&self, key: KeyHash, limit: &Limit, now: Timestamp) -> Result<(), Full> {
        let (place, at) = (Place::of(&key), moment(now));
        let mut has_room = match limit.footprint() {
            Footprint::Word => self.words.has_room(&self.census, place, at),
            Footprint::Words => self.triples.has_room(&self.census, place, at),
            Footprint::None => true,
            Footprint::State => !self.census.is_full(),
        };
        let mut soonest = u64::MAX;
        if !has_room {
            (has_room, soonest) = self.sweep(now);
        }
        if has_room { Ok(()) } else { Err(Full { soonest }) }
    }

    /// Makes room by giving up what is idle. Returns whether it found any, and the first moment at which one of those
    /// that it saw will be idle.
    pub(super) fn sweep(&self, now: Timestamp) -> (bool, u64) {
        let at = moment(now);
        let found = [
            self.words.sweep(&self.census, at),
            self.triples.sweep(&self.census, at),
            self.room.sweep(&self.census, now),
        ];
        (
            found.iter().any(|(found, _)| *found),
            found.iter().map(|(_, soonest)| *soonest).min().unwrap_or(u64::MAX),
        )
    }
}

/// Runs a step on a packed state.
fn packed<R, const W: usize>(
    table: &Table<W>,
    census: &Census,
    key: KeyHash,
    limit: &Limit,
    now: Timestamp,
    step: impl Fn(&mut State) -> R,
) -> Result<R, Full> {
    let at = moment(now);
    let step = |words: Option<[u64; W]>| {
        let mut state = match words {
            Some(words) => unpacked(limit, words),
            None => limit.fresh(Timestamp::from_nanos(at)),
        };
        let result = step(&mut state);
        let next = pack(limit, &state);
        // What is as new needs no entry.
        let changed = if words.is_some() { words != Some(next) } else { next[0] > at };
        (result, changed.then_some(next))
    };
    // By reference: what is captured need not be copied.
    let step = &step;
    table.update(census, Place::of(&key), at, step)
}

/// Changes a packed state, if there is one.
fn change<const W: usize>(
    table: &Table<W>,
    census: &Census,
    place: Place,
    limit: &Limit,
    at: u64,
    change: impl Fn(&mut State),
) {
    let step = |words: Option<[u64; W]>| {
        let next = words.map(|words| {
            let mut state = unpacked(limit, words);
            change(&mut state);
            let next = pack(limit, &state);
            table.note(next[0]);
            next
        });
        ((), next)
    };
    let step = &step;
    // What is there has room.
    table.update(census, place, at, step).unwrap_or_default();
}

fn pack<const W: usize>(limit: &Limit, state: &State) -> [u64; W] {
    let mut words = [0; W];
    words.copy_from_slice(&limit.pack(state)[..W]);
    words
}

fn unpacked<const W: usize>(limit: &Limit, words: [u64; W]) -> State {
    let mut three = [0; 3];
    three[..W].copy_from_slice(&words);
    limit.unpack(three)
}
