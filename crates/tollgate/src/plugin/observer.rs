//! Code that sees decisions, and changes nothing.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_core::{Answer, Decision, Group, Hit, KeyHash};
#[cfg(feature = "policy")]
use tollgate_policy::{Policy, Verdict};
use tollgate_store::StoreError;

use super::panics::Panics;

/// Sees what is asked, what is decided, and what fails. It changes nothing.
///
/// A check that begins ends in one of the others, unless whoever asked stops waiting. Hooks are called where the check runs, one observer after
/// the other, and no lock is held meanwhile; a check waits for them, so what takes long belongs elsewhere. What a hook itself
/// asks is decided like anything else, and not observed.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tollgate::plugin::{Check, Decided, Observer, Observers};
/// use tollgate::{KeyedLimiter, Quota};
///
/// #[derive(Default)]
/// struct Denials(AtomicU64);
///
/// impl Observer for Denials {
///     fn after(&self, _: &Check<'_>, decided: &Decided<'_>) {
///         self.0.fetch_add(u64::from(!decided.allowed), Ordering::Relaxed);
///     }
/// }
///
/// let denials = Arc::new(Denials::default());
/// let limiter = KeyedLimiter::<str>::new(Quota::per_hour(1)).with_observers(Observers::new(Arc::clone(&denials)));
/// for _ in 0..3 {
///     let _ = limiter.check("203.0.113.7");
/// }
/// assert_eq!(denials.0.load(Ordering::Relaxed), 2);
/// ```
pub trait Observer: Send + Sync {
    /// A check begins.
    fn before(&self, check: &Check<'_>) {
        let _ = check;
    }

    /// It was decided.
    fn after(&self, check: &Check<'_>, decided: &Decided<'_>) {
        let _ = (check, decided);
    }

    /// It could not be decided, as the store is away or refused.
    fn failed(&self, check: &Check<'_>, error: &StoreError) {
        let _ = (check, error);
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn before(&self, check: &Check<'_>) {
        O::before(self, check);
    }

    fn after(&self, check: &Check<'_>, decided: &Decided<'_>) {
        O::after(self, check, decided);
    }

    fn failed(&self, check: &Check<'_>, error: &StoreError) {
        O::failed(self, check, error);
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Check<'c> {
    wanted: Wanted<'c>,
    #[cfg(feature = "policy")]
    policies: &'c [&'c Policy],
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Wanted<'c> {
    /// Of limits.
    Groups(&'c [Group<'c>]),
    /// Of an algorithm of a user's own.
    Custom(KeyHash, u32),
}

impl<'c> Check<'c> {
    /// Of limits.
    pub(crate) const fn of(groups: &'c [Group<'c>]) -> Self {
        Self {
            wanted: Wanted::Groups(groups),
            #[cfg(feature = "policy")]
            policies: &[],
        }
    }

    /// Of an algorithm of a user's own.
    pub(crate) const fn of_custom(key: KeyHash, cost: u32) -> Self {
        Self {
            wanted: Wanted::Custom(key, cost),
            #[cfg(feature = "policy")]
            policies: &[],
        }
    }

    /// The same by these policies.
    #[cfg(feature = "policy")]
    pub(crate) const fn by(mut self, policies: &'c [&'c Policy]) -> Self {
        self.policies = policies;
        self
    }

    /// The limits that apply, in the groups in which they decide: of a gate one for each policy; none of a
    /// [`CustomLimiter`](crate::CustomLimiter), which has no limits.
    pub const fn groups(&self) -> &'c [Group<'c>] {
        match self.wanted {
            Wanted::Groups(groups) => groups,
            Wanted::Custom(..) => &[],
        }
    }

    /// The limits that apply, each with its key and cost.
    pub fn hits(&self) -> impl Iterator<Item = &'c Hit<'c>> + use<'c> {
        self.groups().iter().flat_map(|group| group.hits)
    }

    /// Each key that is asked for, and its cost. A [`Limiter`](crate::Limiter) has the key 0.
    pub fn costs(&self) -> impl Iterator<Item = (KeyHash, u32)> + use<'c> {
        let custom = match self.wanted {
            Wanted::Custom(key, cost) => Some((key, cost)),
            Wanted::Groups(_) => None,
        };
        self.hits().map(|hit| (hit.key, hit.cost)).chain(custom)
    }

    /// The policies that apply, if it is a gate that is asked.
    #[cfg(feature = "policy")]
    pub const fn policies(&self) -> &'c [&'c Policy] {
        self.policies
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Decided<'d> {
    /// Whether the request passes. Of requests that are decided together: whether all do.
    pub allowed: bool,
    /// What there is to say of it.
    pub said: Said<'d>,
    /// How long the caller of a `Shaper` has to wait for its turn; zero elsewhere.
    pub delay: Duration,
    /// How long it took.
    pub took: Duration,
}

/// What a check is answered with, by what is asked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Said<'d> {
    /// By a limiter.
    Decision(&'d Decision),
    /// By a store.
    Answer(&'d Answer),
    /// By a gate.
    #[cfg(feature = "policy")]
    Verdict(&'d Verdict),
}

#[cfg(feature = "policy")]
impl<'d> Said<'d> {
    /// The verdict, if a gate was asked.
    pub const fn verdict(&self) -> Option<&'d Verdict> {
        match self {
            Self::Verdict(verdict) => Some(verdict),
            _ => None,
        }
    }
}

impl Said<'_> {
    fn is_allowed(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.allowed,
            Self::Answer(answer) => answer.allowed,
            #[cfg(feature = "policy")]
            Self::Verdict(verdict) => verdict.is_allowed(),
        }
    }
}

/// The observers of what decides, called in the order in which they were added. Clones share them; none by default.
///
/// ```
/// use tollgate::plugin::{Check, Observer, Observers};
/// use tollgate::{Limiter, Quota};
///
/// struct Broken;
///
/// impl Observer for Broken {
///     fn before(&self, _: &Check<'_>) {
///         panic!("a mistake in here takes no decision down");
///     }
/// }
///
/// let observers = Observers::new(Broken);
/// let limiter = Limiter::new(Quota::per_second(10)).with_observers(observers.clone());
/// assert!(limiter.check().is_allowed());
/// assert_eq!(observers.panics(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Observers {
    /// Nothing where there are none: one look tells.
    all: Option<Arc<[Arc<Registered>]>>,
}

/// An observer, and how often it has panicked.
struct Registered {
    panics: Panics,
    observer: Box<dyn Observer>,
}

thread_local! {
    /// Whether a hook runs on this thread: what it asks is not observed, as that would have no end.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Observers {
    /// One observer.
    pub fn new(observer: impl Observer + 'static) -> Self {
        Self::default().with(observer)
    }

    /// These, and another after them. Clones that were made before keep theirs.
    #[must_use]
    pub fn with<O: Observer + 'static>(self, observer: O) -> Self {
        let last = Arc::new(Registered { panics: Panics::of::<O>(), observer: Box::new(observer) });
        let all = self.all.iter().flat_map(|all| all.iter().cloned());
        Self { all: Some(all.chain([last]).collect()) }
    }

    /// How often these observers have panicked, wherever they are.
    pub fn panics(&self) -> u64 {
        self.all.iter().flat_map(|all| all.iter()).fold(0, |sum, one| sum.saturating_add(one.panics.count()))
    }

    /// Whether nobody observes.
    #[inline(always)]
    pub(crate) const fn are_none(&self) -> bool {
        self.all.is_none()
    }

    /// Tells that a check begins. Nothing if nobody observes it.
    #[inline]
    pub(crate) fn begin(&self, check: &Check<'_>) -> Option<Watch<'_>> {
        let observers = self.all.as_deref().filter(|_| !INSIDE.get())?;
        tell(observers, |observer| observer.before(check));
        Some(Watch { observers, began: Instant::now() })
    }

    /// Observes a check that a decision answers.
    pub(crate) fn watch<R>(
        &self,
        check: &Check<'_>,
        decide: impl FnOnce() -> R,
        said: impl FnOnce(&R) -> Decision,
    ) -> R {
        let watch = self.begin(check);
        let answer = decide();
        if let Some(watch) = watch {
            watch.decided(check, Said::Decision(&said(&answer)));
        }
        answer
    }

    /// The same on a store that has to be waited for.
    pub(crate) async fn watch_async<R>(
        &self,
        check: &Check<'_>,
        decide: impl Future<Output = Result<R, StoreError>>,
        said: impl FnOnce(&R) -> Decision,
    ) -> Result<R, StoreError> {
        let watch = self.begin(check);
        let answer = decide.await;
        if let Some(watch) = watch {
            match &answer {
                Ok(answer) => watch.decided(check, Said::Decision(&said(answer))),
                Err(error) => watch.failed(check, error),
            }
        }
        answer
    }
}

/// A check under way, and who hears how it ends.
#[must_use = "who heard of a check hears how it ends"]
pub(crate) struct Watch<'o> {
    observers: &'o [Arc<Registered>],
    began: Instant,
}

impl Watch<'_> {
    pub(crate) fn decided(&self, check: &Check<'_>, said: Said<'_>) {
        self.decided_with(check, said, said.is_allowed(), Duration::ZERO);
    }

    /// The same of a request that passes or not because of others, or with a delay.
    pub(crate) fn decided_with(&self, check: &Check<'_>, said: Said<'_>, allowed: bool, delay: Duration) {
        let decided = Decided { allowed, said, delay, took: self.began.elapsed() };
        tell(self.observers, |observer| observer.after(check, &decided));
    }

    pub(crate) fn failed(&self, check: &Check<'_>, error: &StoreError) {
        tell(self.observers, |observer| observer.failed(check, error));
    }
}

/// Calls a hook of each observer. None of them panics here.
fn tell(observers: &[Arc<Registered>], hook: impl Fn(&dyn Observer)) {
    let was_inside = INSIDE.replace(true);
    for one in observers {
        one.panics.contain(|| hook(&*one.observer));
    }
    INSIDE.set(was_inside);
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all.iter().flat_map(|all| all.iter());
        f.debug_list().entries(all.map(|one| &one.panics)).finish()
    }
}
