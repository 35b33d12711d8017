//! States as words: what a table of fixed-size entries keeps.
//!
//! A packed state is one word or three. The first is a point in time in nanoseconds, not before the moment from which
//! on the state decides as a new one ([`Limit::vacant_at`]). So a table can tell that an entry is free again
//! without knowing whose it is: it is if its first word is not after the present.
//!
//! | limit | first word | second | third |
//! |---|---|---|---|
//! | GCRA, leaky bucket, greedy token bucket at a whole interval | the moment of the fullest | | |
//! | the same at any other rate | the first moment after it | nanoseconds | fraction |
//! | token bucket refilled by the batch | the moment of the fullest | start of the period | missing |
//! | fixed window whose count fits | the window's end, with the count in its low bits | | |
//! | other fixed windows | the window's end | start | count |
//! | fixed window that carries over | the moment of the fullest | missing before | count |
//! | sliding window whose counts fit | the end of the window after, with both counts in its low bits | | |
//! | other sliding windows | the end of the window after | last count | count |
//!
//! An end and a count share a word without loss: ends of windows lie a whole window apart, so the low bits, as long as
//! they count to less than a window, say nothing that the window's length does not. The end is rounded up to make
//! room, and rounded down to the end of a window when it is read: a multiple of the length, or what the calendar says.

use crate::algorithm::fixed_window::WindowCount;
use crate::algorithm::meter::{ArrivalTime, Meter};
use crate::algorithm::sliding_window::WindowPair;
use crate::algorithm::token_bucket::{Bucket, Deficit};
use crate::algorithm::{Algorithm, FixedWindow, Refill, SlidingWindow, TokenBucket};
use crate::decision::{Decision, Grant};
use crate::limit::{Limit, State, Step};
use crate::time::{Nanos, Timestamp};

/// The last moment that packed states count by, in the year 2097. A table's time stands still there, so that a clock
/// gone mad grants nothing.
pub const LAST_MOMENT: Timestamp = Timestamp::from_nanos((1 << 62) - (1 << 59));

/// The longest time, about nine years, that a packed state may take to become as new.
pub const LONGEST_SPAN: Nanos = Nanos::new(1 << 58);

/// All packed first words are below this, so that a table can use the two bits above for marks of its own.
pub const WORD_END: u64 = (1 << 62) - 2;

/// What a store must keep of a limit's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Footprint {
    /// Nothing: the limit needs no memory.
    None,
    /// One word.
    Word,
    /// Three words.
    Words,
    /// A [`State`], whose size varies, or whose times pass [`LONGEST_SPAN`].
    State,
}

impl Limit {
    /// What a store must keep of this limit's states.
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota, packed::Footprint};
    ///
    /// assert_eq!(Limit::gcra(Quota::per_minute(100)).footprint(), Footprint::Word);
    /// // A seventh of a second is no whole number of nanoseconds.
    /// assert_eq!(Limit::gcra(Quota::per_second(7)).footprint(), Footprint::Words);
    /// ```
    pub fn footprint(&self) -> Footprint {
        let table = |span: Nanos, fits: bool| match (span <= LONGEST_SPAN, fits) {
            (true, true) => Footprint::Word,
            (true, false) => Footprint::Words,
            (false, _) => Footprint::State,
        };
        match self {
            Self::Unlimited | Self::DenyAll => Footprint::None,
            Self::Gcra(a) => table(a.meter().time_to_fill(), a.meter().is_short()),
            Self::LeakyBucket(a) => table(a.meter().time_to_fill(), a.meter().is_short()),
            Self::TokenBucket(a) => {
                let fits = a.style() == Refill::Greedy && a.meter().is_short();
                table(Nanos::new(a.time_to_fill().as_nanos().saturating_add(a.rest().as_nanos())), fits)
            }
            Self::FixedWindow(a) => table(a.recovery(), a.packing().is_some()),
            Self::SlidingWindow(a) => {
                table(Nanos::new(a.length().as_nanos().saturating_mul(2)), a.packing().is_some())
            }
            Self::SlidingLog(_) => Footprint::State,
        }
    }

    /// The meter behind the limit, if its states are one word that is the meter's own.
    #[inline]
    pub fn word_meter(&self) -> Option<&Meter> {
        let meter = match self {
            Self::Gcra(a) => a.meter(),
            Self::LeakyBucket(a) => a.meter(),
            Self::TokenBucket(a) => a.whole_meter()?,
            _ => return None,
        };
        meter.is_short().then_some(meter)
    }

    /// A state of this limit as words. Only the first counts where the [footprint](Self::footprint) is one word.
    ///
    /// A state of another kind of limit, or of a limit that packs none, is as new.
    pub fn pack(&self, state: &State) -> [u64; 3] {
        let vacant_at = self.vacant_at(state).as_nanos();
        let words = match (self, state) {
            _ if vacant_at == 0 => [0; 3],
            (Self::FixedWindow(a), State::Window(count)) => a.pack(*count, vacant_at),
            (Self::SlidingWindow(a), State::Pair(pair)) => a.pack(*pair),
            (_, State::Arrival(at) | State::Bucket(Bucket::Greedy(at))) => [vacant_at, at.nanos, at.fraction],
            (_, State::Bucket(Bucket::Interval(deficit))) => {
                [vacant_at, deficit.since.as_nanos(), deficit.missing]
            }
            _ => [0; 3],
        };
        [words[0].min(WORD_END - 1), words[1], words[2]]
    }

    /// The state that these words stand for.
    pub fn unpack(&self, words: [u64; 3]) -> State {
        let [vacant_at, second, third] = words;
        let word = self.footprint() == Footprint::Word;
        let arrival = || {
            let (nanos, fraction) = if word { (vacant_at, 0) } else { (second, third) };
            ArrivalTime { nanos, fraction }
        };
        match self {
            Self::Gcra(_) | Self::LeakyBucket(_) => State::Arrival(arrival()),
            Self::TokenBucket(a) if a.style() == Refill::Greedy => {
                let at = arrival();
                // As one word, the state is the moment of vacancy: the fullest, and the rest after it.
                let nanos = if word { at.nanos.saturating_sub(a.rest().as_nanos()) } else { at.nanos };
                State::Bucket(Bucket::Greedy(ArrivalTime { nanos, ..at }))
            }
            Self::TokenBucket(_) => State::Bucket(Bucket::Interval(Deficit {
                missing: third,
                since: Timestamp::from_nanos(second),
            })),
            Self::FixedWindow(a) => State::Window(a.unpack(words)),
            Self::SlidingWindow(a) => State::Pair(a.unpack(words)),
            Self::SlidingLog(_) => State::Log(crate::algorithm::sliding_log::Log::default()),
            Self::Unlimited | Self::DenyAll => State::Nothing,
        }
    }
}

/// A window as the words of its states know it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    start: Timestamp,
    /// The word of a state of this window without its counts.
    word: u64,
    /// How many low bits are the counts'.
    bits: u32,
}

impl Window {
    /// The counts in a word, if it is of this window.
    #[inline]
    fn counts(self, word: u64) -> Option<u64> {
        word.checked_sub(self.word).filter(|counts| counts >> self.bits == 0)
    }

    /// Two counts.
    #[inline]
    fn pair(self, counts: u64) -> WindowPair {
        let each = self.bits / 2;
        WindowPair { start: self.start, previous: counts >> each, current: counts & ((1 << each) - 1) }
    }
}

/// An algorithm whose states are one word, if its numbers [fit](Self::fits).
pub trait OneWord: Algorithm {
    /// Whether a state is one word.
    fn fits(&self) -> bool;

    /// The word of a state.
    fn pack_word(&self, state: &Self::State) -> u64;

    /// The state of a word.
    fn unpack_word(&self, word: u64) -> Self::State;

    /// The window in which `now` lies.
    fn window(&self, now: Timestamp) -> Window;

    /// Whether counts of this window, the one in which `now` lies, admit a cost.
    fn admits(&self, window: Window, counts: u64, now: Timestamp, cost: u32) -> bool;

    /// What counts of this window, the one in which `now` lies, say to a cost.
    fn decide_counts(&self, window: Window, counts: u64, now: Timestamp, cost: u32) -> Decision;

    // The step is taken in two halves, the word first, so that a table which swaps words need not carry a decision.

    /// The word after a request, in the window in which `now` lies. There is no word before it where a key is new.
    #[inline]
    fn next_word(&self, window: Window, word: Option<u64>, now: Timestamp, cost: u32) -> u64 {
        // Nearly always the window is the present one, which is known without taking the word apart.
        if let Some(word) = word
            && let Some(counts) = window.counts(word)
        {
            let taken = if self.admits(window, counts, now, cost) { u64::from(cost) } else { 0 };
            return (word + taken).min(WORD_END - 1);
        }
        self.acquire_any(word, now, cost).1
    }

    /// The step from this word to the [next](Self::next_word): what [`Limit::acquire`] does, for one algorithm alone.
    #[inline]
    fn step_from(&self, window: Window, word: Option<u64>, now: Timestamp, cost: u32) -> Step {
        match word.and_then(|word| window.counts(word)) {
            Some(counts) => {
                let decision = self.decide_counts(window, counts, now, cost);
                Step { decision, grant: decision.allowed.then_some(Grant { stamp: window.start, cost }) }
            }
            None => self.acquire_any(word, now, cost).0,
        }
    }

    /// The step on any word, or none, and the word after it.
    #[inline(never)]
    fn acquire_any(&self, word: Option<u64>, now: Timestamp, cost: u32) -> (Step, u64) {
        let mut state = match word.map(|word| self.unpack_word(word)) {
            Some(state) if self.vacant_at(&state) > now => state,
            _ => self.fresh(now),
        };
        self.settle(&mut state, now);
        let decision = self.decide(&state, now, cost);
        let grant = decision.allowed.then(|| self.take(&mut state, now, cost));
        (Step { decision, grant }, self.pack_word(&state).min(WORD_END - 1))
    }
}

impl OneWord for FixedWindow {
    #[inline]
    fn fits(&self) -> bool {
        self.packing().is_some() && self.recovery() <= LONGEST_SPAN
    }

    #[inline]
    fn pack_word(&self, state: &WindowCount) -> u64 {
        let vacant_at = self.vacant_at(state).as_nanos();
        if vacant_at == 0 { 0 } else { self.pack(*state, vacant_at)[0] }
    }

    #[inline]
    fn unpack_word(&self, word: u64) -> WindowCount {
        self.unpack([word, 0, 0])
    }

    #[inline]
    fn window(&self, now: Timestamp) -> Window {
        let ((start, end), bits) = (self.windows().window(now), self.packing().unwrap_or(0));
        Window { start, word: rounded_up(end.as_nanos(), bits), bits }
    }

    #[inline]
    fn admits(&self, _: Window, used: u64, _: Timestamp, cost: u32) -> bool {
        used + u64::from(cost) <= self.limit()
    }

    #[inline]
    fn decide_counts(&self, window: Window, used: u64, now: Timestamp, cost: u32) -> Decision {
        self.decide_rolled(WindowCount { start: window.start, before: 0, used }, now, cost)
    }
}

impl OneWord for SlidingWindow {
    #[inline]
    fn fits(&self) -> bool {
        self.packing().is_some() && self.length().as_nanos() <= LONGEST_SPAN.as_nanos() / 2
    }

    #[inline]
    fn pack_word(&self, state: &WindowPair) -> u64 {
        if self.vacant_at(state) == Timestamp::EPOCH { 0 } else { self.pack(*state)[0] }
    }

    #[inline]
    fn unpack_word(&self, word: u64) -> WindowPair {
        self.unpack([word, 0, 0])
    }

    #[inline]
    fn window(&self, now: Timestamp) -> Window {
        let (start, bits) = (self.window_start(now), 2 * self.packing().unwrap_or(0));
        let end = start.saturating_add(self.length()).saturating_add(self.length());
        Window { start, word: rounded_up(end.as_nanos(), bits), bits }
    }

    #[inline]
    fn admits(&self, window: Window, counts: u64, now: Timestamp, cost: u32) -> bool {
        self.admits_rolled(window.pair(counts), now, cost)
    }

    #[inline]
    fn decide_counts(&self, window: Window, counts: u64, now: Timestamp, cost: u32) -> Decision {
        self.decide_rolled(window.pair(counts), now, cost)
    }
}

/// How many bits a number up to `most` takes.
const fn bits(most: u64) -> u32 {
    u64::BITS - most.leading_zeros()
}

/// How many low bits of a window's end can be given to counts that take `bits` bits, if they can.
fn room_for(bits: u32, length: Nanos) -> Option<u32> {
    // The span of the rounding must not be longer than the window.
    (bits < 63 && 1 << bits <= length.as_nanos()).then_some(bits)
}

/// `end` rounded up to a multiple of `2^bits`.
const fn rounded_up(end: u64, bits: u32) -> u64 {
    let low = (1 << bits) - 1;
    end.saturating_add(low) & !low
}

/// The multiple of `length` that was rounded up to the high bits of `word`.
const fn end_in(word: u64, bits: u32, length: Nanos) -> u64 {
    let high = word & !((1 << bits) - 1);
    high - high % length.as_nanos()
}

impl FixedWindow {
    /// The number of bits for the count, if window and count fit a word.
    #[inline]
    fn packing(&self) -> Option<u32> {
        if self.carry_over() > 0 { None } else { room_for(bits(self.limit()), self.windows().shortest()) }
    }

    #[inline]
    fn pack(&self, count: WindowCount, vacant_at: u64) -> [u64; 3] {
        match self.packing() {
            // No more than the limit is ever taken.
            Some(bits) => [rounded_up(vacant_at, bits) | count.used.min(self.limit()), 0, 0],
            None if self.carry_over() > 0 => [vacant_at, count.before, count.used],
            None => [vacant_at, count.start.as_nanos(), count.used],
        }
    }

    #[inline]
    fn unpack(&self, words: [u64; 3]) -> WindowCount {
        let [vacant_at, second, third] = words;
        let windows = self.windows();
        match self.packing() {
            Some(bits) => {
                // No window is shorter than what the rounding added.
                let end = windows.start(Timestamp::from_nanos(vacant_at & !((1 << bits) - 1)));
                WindowCount { start: windows.previous(end), before: 0, used: vacant_at & ((1 << bits) - 1) }
            }
            None if self.carry_over() > 0 => {
                let last = windows.previous(Timestamp::from_nanos(vacant_at));
                let is_short = second.saturating_add(third) <= self.limit();
                WindowCount {
                    start: if is_short { last } else { windows.previous(last) },
                    before: second,
                    used: third,
                }
            }
            None => WindowCount { start: Timestamp::from_nanos(second), before: 0, used: third },
        }
    }
}

impl SlidingWindow {
    /// The number of bits for each count, if window and counts fit a word.
    #[inline]
    fn packing(&self) -> Option<u32> {
        let each = bits(self.limit());
        room_for(2 * each, self.length()).map(|_| each)
    }

    #[inline]
    fn pack(&self, pair: WindowPair) -> [u64; 3] {
        let end = pair.start.saturating_add(self.length()).saturating_add(self.length()).as_nanos();
        let (previous, current) = (pair.previous.min(self.limit()), pair.current.min(self.limit()));
        match self.packing() {
            Some(bits) => [rounded_up(end, 2 * bits) | previous << bits | current, 0, 0],
            None => [end, previous, current],
        }
    }

    #[inline]
    fn unpack(&self, words: [u64; 3]) -> WindowPair {
        let (end, previous, current) = match self.packing() {
            Some(bits) => {
                let low = (1 << bits) - 1;
                (end_in(words[0], 2 * bits, self.length()), words[0] >> bits & low, words[0] & low)
            }
            None => (words[0], words[1], words[2]),
        };
        let start = Timestamp::from_nanos(end).saturating_sub(self.length()).saturating_sub(self.length());
        WindowPair { start, previous, current }
    }
}

impl TokenBucket {
    /// The meter, if a bucket is as new as soon as it is full.
    #[inline]
    fn whole_meter(&self) -> Option<&Meter> {
        (self.style() == Refill::Greedy && self.initial() == self.capacity()).then_some(self.meter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Gcra;
    use crate::quota::Quota;

    #[test]
    fn the_usual_limits_are_one_word() {
        let per = |count, period: u64| Quota::new(count, Nanos::from_millis(period)).unwrap();
        for limit in [
            Limit::gcra(per(1_000_000, 1_000)),
            Limit::gcra_with_burst(per(1_000, 3_600_000), 100).unwrap(),
            Limit::fixed_window(per(5, 60_000)),
            Limit::fixed_window(per(100_000_000, 1_000)),
            Limit::sliding_window(per(10_000, 1_000)),
            Limit::sliding_window(per(1_000_000, 3_600_000)),
            Limit::from(TokenBucket::new(1_000, per(100, 1_000)).unwrap().with_initial(10).unwrap()),
        ] {
            assert_eq!(limit.footprint(), Footprint::Word, "{limit}");
        }
        assert_eq!(Limit::sliding_window(per(1_000_000, 1_000)).footprint(), Footprint::Words);
        assert_eq!(Limit::gcra(per(1, 100 * 31_536_000_000)).footprint(), Footprint::State);
        assert_eq!(Limit::sliding_log(per(1, 1)).unwrap().footprint(), Footprint::State);
        assert_eq!(Limit::DenyAll.footprint(), Footprint::None);
    }

    #[test]
    fn a_window_beside_its_count_keeps_its_place() {
        // 2^29 nanoseconds is the longest rounding that a second allows.
        let limit = Limit::fixed_window(Quota::new((1 << 29) - 1, Nanos::from_secs(1)).unwrap());
        assert_eq!(limit.footprint(), Footprint::Word);
        for second in [0, 1, 2, 1_763_700_000, 1_763_700_001, 4_000_000_000] {
            for used in [1, 77, (1 << 29) - 1] {
                let state =
                    State::Window(WindowCount { start: Timestamp::from_secs(second), before: 0, used });
                let words = limit.pack(&state);
                assert_eq!(limit.unpack(words), state);
                assert!(words[0] >= limit.vacant_at(&state).as_nanos());
            }
        }
    }

    #[test]
    fn a_step_on_a_word_is_the_step_on_the_state() {
        fn check(algorithm: &impl OneWord, limit: Limit) {
            assert!(algorithm.fits());
            let mut word = None;
            let mut state = limit.fresh(Timestamp::EPOCH);
            for step in 0..2_000_u64 {
                // Mostly forwards, at times a second back, at times over two windows.
                let now = 1_763_700_000_000 + step * 77 - step % 7 / 6 * 1_000 + step / 100 * 2_500;
                let (now, cost) = (Timestamp::from_nanos(now * 1_000_000), (step % 5) as u32);
                let window = algorithm.window(now);
                let short = algorithm.step_from(window, word, now, cost);
                let next = algorithm.next_word(window, word, now, cost);
                assert_eq!(short, limit.acquire(&mut state, now, cost), "{step}");
                assert_eq!(next, limit.pack(&state)[0], "{step}");
                word = Some(next);
            }
        }
        let quota = Quota::per_second(20);
        let (fixed, sliding) = (FixedWindow::new(quota).unwrap(), SlidingWindow::new(quota).unwrap());
        check(&fixed, Limit::from(fixed));
        check(&sliding, Limit::from(sliding));
    }

    #[test]
    fn the_short_step_is_the_long_one() {
        let fixed = Limit::gcra_with_burst(Quota::per_minute(60), 7).unwrap();
        // Which takes what lies too far ahead as it is.
        let of_call = Limit::from(Gcra::of_call(Nanos::from_secs(1), 7).unwrap());
        for limit in [fixed, of_call] {
            short_is_long(&limit);
        }
    }

    fn short_is_long(limit: &Limit) {
        let meter = limit.word_meter().unwrap();
        let base = 1_763_700_000_000_000_000_u64;
        for ahead in [-5_000_000_000_i64, -1, 0, 1, 999_999_999, 6_999_999_999, 7_000_000_000, 90_000_000_000]
        {
            for cost in [0, 1, 2, 6, 7, 8, u32::MAX] {
                let now = Timestamp::from_nanos(base);
                let word = base.saturating_add_signed(ahead);
                let mut state = limit.unpack([word, 0, 0]);
                let long = limit.acquire(&mut state, now, cost).decision;
                let (short, next) = meter.acquire_word(word, now, cost);
                assert_eq!(meter.decision(short, cost), long, "{ahead} {cost}");
                assert_eq!(next, limit.pack(&state)[0], "{ahead} {cost}");
            }
        }
    }
}
