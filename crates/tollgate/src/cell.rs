//! The state of one limit, shared by threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_core::algorithm::meter::Meter;
use tollgate_core::packed::Footprint;
use tollgate_core::{Limit, State, Timestamp};

/// A state: a word that is changed by compare-and-swap, or anything under a lock.
///
/// It has cache lines of its own: what lies beside it is read at each decision, and must not move from core to core with
/// it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) enum Cell {
    /// The limit's own meter lies beside the word, so that what most limits are is found at the first look.
    Metered(Meter, AtomicU64),
    Word(AtomicU64),
    State(Mutex<State>),
}

impl Cell {
    pub(crate) fn new(limit: &Limit, now: Timestamp) -> Self {
        let fresh = limit.fresh(now);
        let word = || AtomicU64::new(limit.pack(&fresh)[0]);
        if let Some(meter) = limit.word_meter() {
            return Self::Metered(*meter, word());
        }
        match limit.footprint() {
            Footprint::Word => Self::Word(word()),
            Footprint::None | Footprint::Words | Footprint::State => Self::State(Mutex::new(fresh)),
        }
    }

    /// The same state without the meter beside it.
    pub(crate) fn unmetered(self) -> Self {
        match self {
            Self::Metered(_, word) => Self::Word(word),
            other => other,
        }
    }

    /// Runs a step on a state that is a word. It may be run several times; the last run counts.
    #[inline(always)]
    pub(crate) fn update_word<R>(word: &AtomicU64, step: impl Fn(u64) -> (R, u64)) -> R {
        // Relaxed: the word is all there is, and nothing else is published with it.
        let mut before = word.load(Ordering::Relaxed);
        loop {
            let (result, after) = step(before);
            if after == before {
                return result;
            }
            match word.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return result,
                Err(other) => before = other,
            }
        }
    }

    /// Runs a step on the state. It may be run several times; the last run counts.
    pub(crate) fn update<R>(&self, limit: &Limit, step: impl Fn(&mut State) -> R) -> R {
        match self {
            Self::Metered(_, word) | Self::Word(word) => Self::update_word(word, |word| {
                let mut state = limit.unpack([word, 0, 0]);
                let result = step(&mut state);
                (result, limit.pack(&state)[0])
            }),
            Self::State(state) => step(&mut lock(state)),
        }
    }

    pub(crate) fn read(&self, limit: &Limit) -> State {
        match self {
            Self::Metered(_, word) | Self::Word(word) => limit.unpack([word.load(Ordering::Relaxed), 0, 0]),
            Self::State(state) => lock(state).clone(),
        }
    }
}

/// Locks, also after a panic elsewhere: no step leaves a state half-changed.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
