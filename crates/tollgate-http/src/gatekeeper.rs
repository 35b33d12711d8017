//! What decides, as middleware sees it.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tollgate_policy::{Attributes, Settlement, Verdict};

/// What decides: implemented by the `tollgate` crate's gates.
///
/// A gate whose state is in this process answers at once; one that asks over the network answers with a future.
pub trait Gatekeeper: Send + Sync + 'static {
    /// Whether this request may pass, at the policies' cost or at another. Takes its cost if it does.
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking;

    /// Like [`check`](Self::check), for callers who do not look at the verdict on a request that passes:
    /// [`Checking::Passed`] may stand for it, which costs less.
    fn admit<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
        self.check(request, cost)
    }

    /// Charges a request that has passed for what it really cost. Nobody waits for it: a gate over the network does it in the
    /// background.
    fn settle(self: &Arc<Self>, verdict: &Verdict, settlement: Settlement);
}

impl<G: Gatekeeper> Gatekeeper for Arc<G> {
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
        G::check(self, request, cost)
    }

    fn admit<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
        G::admit(self, request, cost)
    }

    fn settle(self: &Arc<Self>, verdict: &Verdict, settlement: Settlement) {
        G::settle(self, verdict, settlement);
    }
}

/// A verdict, or one to come.
#[must_use = "a request that nobody decides about is not limited"]
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation for each request")]
pub enum Checking {
    /// The request passes, and nobody asked for the verdict.
    Passed,
    /// It is there.
    Done(Verdict),
    /// It has to be waited for.
    Waiting(Waiting),
}

impl Checking {
    /// Whether the request passes; `None` if that has to be waited for.
    pub fn is_allowed(&self) -> Option<bool> {
        match self {
            Self::Passed => Some(true),
            Self::Done(verdict) => Some(verdict.is_allowed()),
            Self::Waiting(_) => None,
        }
    }

    /// Changes the verdict, now or when it is there. Where nobody asked for one there is none to be changed.
    pub fn map(self, change: impl FnOnce(Verdict) -> Verdict + Send + 'static) -> Self {
        match self {
            Self::Passed => Self::Passed,
            Self::Done(verdict) => Self::Done(change(verdict)),
            Self::Waiting(waiting) => Self::Waiting(Box::pin(async move { waiting.await.map(change) })),
        }
    }

    /// The verdict, waited for where it has to be. Of a request that [passes](Self::Passed) without one, it is one by no policy.
    ///
    /// # Errors
    /// If the request could not be decided.
    pub async fn verdict(self) -> Result<Verdict, Undecided> {
        match self {
            Self::Passed => Ok(Verdict::passed()),
            Self::Done(verdict) => Ok(verdict),
            Self::Waiting(waiting) => waiting.await,
        }
    }
}

/// A verdict to come.
pub type Waiting = Pin<Box<dyn Future<Output = Result<Verdict, Undecided>> + Send>>;

impl fmt::Debug for Checking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("Passed"),
            Self::Done(verdict) => f.debug_tuple("Done").field(verdict).finish(),
            Self::Waiting(_) => f.debug_tuple("Waiting").finish_non_exhaustive(),
        }
    }
}

/// Why a request was not decided: the store was away, and the policy is not to go on without it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the request was not decided: {0}")]
pub struct Undecided(#[source] Arc<dyn Error + Send + Sync>);

impl Undecided {
    /// For this reason.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into().into())
    }
}
