//! Code around what decides, which may change it.

use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tollgate_http::{Checking, Gatekeeper, Undecided, Waiting};
use tollgate_policy::{Attributes, Settlement, Verdict};

use super::asked::{Asked, Inner};
use super::panics::{Panics, caught};

/// Decides in front of a gate: lets some pass or denies others without asking it, asks it for another cost or with other
/// attributes, changes what it says.
///
/// One layer serves gates that answer at once and gates that have to be waited for: [`Checking`] is either, and
/// [`Checking::map`] changes what comes out of both.
///
/// ```
/// use std::sync::Arc;
/// use tollgate::http::{Checking, Gatekeeper};
/// use tollgate::plugin::{Inner, Layer, Layered};
/// use tollgate::{Attributes, Gate, KeyPart, Quota, Request, Retry, Verdict};
///
/// /// Lets what comes from this machine pass; nobody may come from a network for documentation.
/// struct ByAddress;
///
/// impl Layer for ByAddress {
///     fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking {
///         match request.ip() {
///             Some(ip) if ip.is_loopback() => Checking::Passed,
///             Some(ip) if ip.to_string().starts_with("192.0.2.") => Checking::Done(Verdict::refused(Retry::Never)),
///             _ => inner.check(request, cost),
///         }
///     }
/// }
///
/// let gate = Arc::new(Layered::new(Gate::per(KeyPart::Ip, Quota::per_hour(1)), ByAddress));
/// let passes = |ip: &str| gate.check(&Request::default().with_ip(ip.parse().unwrap()), None).is_allowed();
/// assert_eq!([passes("203.0.113.7"), passes("203.0.113.7")], [Some(true), Some(false)]);
/// assert_eq!([passes("127.0.0.1"), passes("127.0.0.1")], [Some(true), Some(true)]);
/// assert_eq!(passes("192.0.2.1"), Some(false));
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Decides a request, at the policies' cost or at another, by asking what is inside or without.
    ///
    /// A request that the inner gate has let pass and this denies gets back what it took. What a layer has to wait for
    /// before it decides it can await in a [`Checking::Waiting`], which it gets from [`Inner::check`]: a gate that has to be waited for takes nothing
    /// until that is awaited.
    fn check(&self, request: &dyn Attributes, cost: Option<u32>, inner: Inner<'_>) -> Checking;
}

/// What decides, with a [`Layer`] around it: a [`Gatekeeper`], as the middleware of Tower and Actix takes it.
///
/// Where the layer panics, what is inside decides: it is asked without the layer, or if it was asked already, what it said
/// holds, or will. Only a layer that waits for something of its own without having asked leaves nothing to fall back on: then
/// the request is [`Undecided`].
pub struct Layered<G, L> {
    inner: Arc<G>,
    layer: L,
    panics: Panics,
}

impl<G: Gatekeeper, L: Layer> Layered<G, L> {
    /// Puts a layer around what decides. To keep that at hand for other uses, pass an `Arc` of it.
    pub fn new(inner: G, layer: L) -> Self {
        Self { inner: Arc::new(inner), layer, panics: Panics::of::<L>() }
    }

    /// Puts another layer around this one: it sees requests first, and what is said of them last.
    #[must_use]
    pub fn layer<M: Layer>(self, outer: M) -> Layered<Self, M> {
        Layered::new(self, outer)
    }

    /// What is inside.
    pub const fn inner(&self) -> &Arc<G> {
        &self.inner
    }

    /// How often this layer has panicked; those inside count for themselves.
    pub fn panics(&self) -> u64 {
        self.panics.count()
    }

    /// Gives back what the inner gate took of a request that is not to pass after all.
    fn give_back(&self, asked: &Asked) {
        if let Some(verdict) = asked.verdict().filter(Verdict::is_allowed) {
            G::settle(&self.inner, &verdict, Settlement::Refund);
        }
    }
}

impl<G: Gatekeeper, L: Layer> Gatekeeper for Layered<G, L> {
    fn check<A: Attributes + ?Sized>(self: &Arc<Self>, request: &A, cost: Option<u32>) -> Checking {
        let mut asked = Asked::Not;
        let ask = |request: &dyn Attributes, cost| G::check(&self.inner, request, cost);
        let inner = Inner::new(&ask, &mut asked);
        match caught(|| self.layer.check(&request, cost, inner)) {
            Ok(Checking::Waiting(own)) => {
                Checking::Waiting(Box::pin(Later { layered: Arc::clone(self), own: Some(own), asked }))
            }
            Ok(Checking::Done(verdict)) => {
                if !verdict.is_allowed() {
                    self.give_back(&asked);
                }
                Checking::Done(verdict)
            }
            Ok(Checking::Passed) => Checking::Passed,
            // It is not the layer that panicked.
            Err(payload) if asked.is_lost() => resume_unwind(payload),
            Err(payload) => {
                self.panics.note(payload);
                match asked {
                    Asked::Done(verdict) => Checking::Done(verdict),
                    Asked::Waiting(waiting) => Checking::Waiting(Box::pin(waiting)),
                    Asked::Passed => Checking::Passed,
                    Asked::Not | Asked::Lost => G::check(&self.inner, request, cost),
                }
            }
        }
    }

    fn settle(self: &Arc<Self>, verdict: &Verdict, settlement: Settlement) {
        G::settle(&self.inner, verdict, settlement);
    }
}

/// What a layer says later; or what is inside, should the layer panic.
struct Later<G: Gatekeeper, L: Layer> {
    layered: Arc<Layered<G, L>>,
    /// Nothing once the layer has panicked.
    own: Option<Waiting>,
    asked: Asked,
}

impl<G: Gatekeeper, L: Layer> Later<G, L> {
    /// Drops what the layer has made, which may panic too.
    fn drop_own(&mut self) {
        if let Some(own) = self.own.take() {
            self.layered.panics.contain(|| drop(own));
        }
    }
}

impl<G: Gatekeeper, L: Layer> Future for Later<G, L> {
    type Output = Result<Verdict, Undecided>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(own) = &mut this.own {
            match caught(|| own.as_mut().poll(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(said)) => {
                    if !said.as_ref().is_ok_and(Verdict::is_allowed) {
                        this.layered.give_back(&this.asked);
                    }
                    this.drop_own();
                    return Poll::Ready(said);
                }
                Err(payload) if this.asked.is_lost() => resume_unwind(payload),
                Err(payload) => {
                    this.layered.panics.note(payload);
                    this.drop_own();
                }
            }
        }
        match &mut this.asked {
            Asked::Done(verdict) => Poll::Ready(Ok(verdict.clone())),
            Asked::Waiting(waiting) => Pin::new(waiting).poll(cx),
            Asked::Passed => Poll::Ready(Ok(Verdict::passed())),
            Asked::Not | Asked::Lost => {
                Poll::Ready(Err(Undecided::new("a layer panicked that had not asked the gate inside")))
            }
        }
    }
}

impl<G: Gatekeeper, L: Layer> Drop for Later<G, L> {
    fn drop(&mut self) {
        self.drop_own();
    }
}

impl<G: fmt::Debug, L> fmt::Debug for Layered<G, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("inner", &self.inner)
            .field("panics", &self.panics)
            .finish_non_exhaustive()
    }
}
