//! A kit against which any rule can be run: the laws that every [`Algorithm`] keeps, tried on random histories.
//!
//! | law | what it says |
//! |---|---|
//! | looks | deciding changes nothing, and says the same twice; a look says what a request then meets |
//! | books | what is decided is what is taken: after it exactly what was said remains |
//! | remaining | what remains can be taken at once, and not one unit more |
//! | retry | a denial says when to come back: denied one nanosecond before, admitted at it; `Never` is never |
//! | whole | after `reset_after` the limit is at its fullest |
//! | vacancy | from `vacant_at` on a fresh state grants no more than the old one, so that it may be forgotten |
//! | clock | a step back of the clock grants nothing, denies for at most one refill, and is settled once |
//! | refund | what is given back is at most what was taken, never more than the limit holds, and not what has come back by itself |
//! | available | `with_available` leaves what it is told to leave, or all that the limit holds |
//! | panic | no cost, time or state panics |
//!
//! Each history asks, waits, comes back when it was told to, gives back and sets the clock back, around the sizes that the
//! rule itself tells: what it holds, and how long it takes to recover. A history that breaks a law is cut down to the steps
//! that matter. Panics are caught, and reported as such; what they print meanwhile is of no account.
//!
//! ```
//! use tollgate_core::{Limit, Quota};
//! use tollgate_store::conformance::algorithm::{Options, run};
//!
//! let summary = run(&Limit::sliding_window(Quota::per_minute(5)), Options::new(1, 100))?;
//! assert_eq!(summary.cases, 100);
//! # Ok::<(), tollgate_store::conformance::algorithm::Violation>(())
//! ```

mod history;
mod laws;
mod player;

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tollgate_core::algorithm::Algorithm;

use self::history::{History, Scale};
use self::laws::Broken;
use super::Summary;
use super::random::Random;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Names the histories: the same seed gives the same ones.
    pub seed: u64,
    /// How many histories to run.
    pub cases: u64,
}

impl Options {
    /// `cases` histories.
    pub const fn new(seed: u64, cases: u64) -> Self {
        Self { seed, cases }
    }
}

/// A history that breaks a law, cut down to the steps that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// Which history of the run it was, from 0.
    pub case: u64,
    /// The law: a word of the [table](self).
    pub law: &'static str,
    /// The steps, each in a line, the last of which breaks it.
    pub steps: Vec<String>,
    /// How.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the rule breaks the law of {} in case {} of seed {}:", self.law, self.case, self.seed)?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Violation {}

/// Runs the kit on a rule.
///
/// # Errors
/// The first history that breaks a law.
pub fn run<A>(rule: &A, options: Options) -> Result<Summary, Violation>
where
    A: Algorithm,
    A::State: Clone + PartialEq + fmt::Debug,
{
    let Options { seed, cases } = options;
    let violation = |case, Broken { law, detail }, steps| Violation { seed, case, law, steps, detail };
    let scale = caught(|| Ok(Scale::of(rule))).map_err(|broken| violation(0, broken, Vec::new()))?;
    let (mut random, mut summary) = (Random::new(seed), Summary::default());
    for case in 0..cases {
        let history = History::generate(&mut random, scale);
        let Err((step, broken)) = replay(rule, &history, &mut summary) else {
            summary.cases += 1;
            continue;
        };
        let (history, broken) = shrink(rule, history, step, broken);
        let mut steps = vec![format!("start at {:?}", history.start)];
        steps.extend(history.steps.iter().map(|step| format!("{step:?}")));
        return Err(violation(case, broken, steps));
    }
    Ok(summary)
}

/// Plays a history. What breaks a law comes with the index of its step.
fn replay<A>(rule: &A, history: &History, summary: &mut Summary) -> Result<(), (usize, Broken)>
where
    A: Algorithm,
    A::State: Clone + PartialEq + fmt::Debug,
{
    let at = Cell::new(0);
    caught(|| player::play(rule, history, summary, &at)).map_err(|broken| (at.get(), broken))
}

/// Leaves out steps, last first, as long as the same law is broken.
fn shrink<A>(rule: &A, mut history: History, step: usize, mut broken: Broken) -> (History, Broken)
where
    A: Algorithm,
    A::State: Clone + PartialEq + fmt::Debug,
{
    history.steps.truncate(step + 1);
    let mut index = history.steps.len();
    while index > 0 {
        index -= 1;
        let mut shorter = history.clone();
        shorter.steps.remove(index);
        if let Err((step, found)) = replay(rule, &shorter, &mut Summary::default())
            && found.law == broken.law
        {
            shorter.steps.truncate(step + 1);
            index = index.min(shorter.steps.len());
            (history, broken) = (shorter, found);
        }
    }
    (history, broken)
}

/// Does some work; a panic in it breaks a law.
fn caught<T>(work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    // Nothing that a panic leaves half-done is looked at again, but the rule itself, which is its own to keep whole.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Broken { law: "panic", detail: format!("panicked: {}", text.as_deref().unwrap_or("no message")) })
    })
}
