//! What a layer has asked of what it wraps, and what that said: kept, so that the layer may lose it.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tollgate_http::{Checking, Undecided, Waiting};
use tollgate_policy::{Attributes, Verdict};

/// What is inside of a [`Layer`](super::Layer). It is asked once at most.
pub struct Inner<'i> {
    ask: &'i dyn Fn(&dyn Attributes, Option<u32>) -> Checking,
    asked: &'i mut Asked,
}

impl<'i> Inner<'i> {
    pub(super) fn new(
        ask: &'i dyn Fn(&dyn Attributes, Option<u32>) -> Checking,
        asked: &'i mut Asked,
    ) -> Self {
        Self { ask, asked }
    }

    /// Asks it, at the policies' cost or at another. What the request is need not be what the layer was asked: see
    /// [`Amended`](tollgate_policy::Amended).
    pub fn check(self, request: &dyn Attributes, cost: Option<u32>) -> Checking {
        // Should it panic, that stays.
        *self.asked = Asked::Lost;
        let checking = (self.ask)(request, cost);
        let (asked, checking) = match checking {
            Checking::Passed => (Asked::Passed, Checking::Passed),
            Checking::Done(verdict) => (Asked::Done(verdict.clone()), Checking::Done(verdict)),
            Checking::Waiting(waiting) => {
                let kept = Kept(Arc::new(Mutex::new(Answer::Awaited(waiting))));
                (Asked::Waiting(kept.clone()), Checking::Waiting(Box::pin(kept)))
            }
        };
        *self.asked = asked;
        checking
    }
}

impl fmt::Debug for Inner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// What became of what is inside.
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation for each request")]
pub(super) enum Asked {
    /// It was not asked.
    Not,
    /// It panicked itself.
    Lost,
    /// It said this.
    Passed,
    Done(Verdict),
    /// It says it later.
    Waiting(Kept),
}

impl Asked {
    /// Whether it panicked itself.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Lost => true,
            Self::Waiting(kept) => matches!(*kept.lock(), Answer::Lost),
            Self::Not | Self::Passed | Self::Done(_) => false,
        }
    }

    /// What it said, if it did by now.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Done(verdict) => Some(verdict.clone()),
            Self::Waiting(kept) => match &*kept.lock() {
                Answer::There(said) => said.as_ref().ok().cloned(),
                Answer::Awaited(_) | Answer::Lost => None,
            },
            Self::Not | Self::Lost | Self::Passed => None,
        }
    }
}

/// An answer that is waited for once, by whichever of its clones: all of them get it.
#[derive(Clone)]
pub(super) struct Kept(Arc<Mutex<Answer>>);

#[allow(clippy::large_enum_variant, reason = "a box would be an allocation for each request")]
enum Answer {
    Awaited(Waiting),
    There(Result<Verdict, Undecided>),
    /// Whoever was to give it panicked; or it is being asked for its progress now.
    Lost,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Answer> {
        // Nothing panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Kept {
    type Output = Result<Verdict, Undecided>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Taken out while it is polled: no lock is held meanwhile.
        let answer = mem::replace(&mut *self.lock(), Answer::Lost);
        let (answer, poll) = match answer {
            Answer::Awaited(mut waiting) => match waiting.as_mut().poll(cx) {
                Poll::Pending => (Answer::Awaited(waiting), Poll::Pending),
                Poll::Ready(said) => (Answer::There(said.clone()), Poll::Ready(said)),
            },
            Answer::There(said) => (Answer::There(said.clone()), Poll::Ready(said)),
            Answer::Lost => (Answer::Lost, Poll::Ready(Err(Undecided::new("what decides has panicked")))),
        };
        *self.lock() = answer;
        poll
    }
}
