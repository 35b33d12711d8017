//! Code of a program's own around decisions: observers, which see them, and layers, which change them.
//!
//! | you want to | use |
//! |---|---|
//! | see what is asked, what is decided, and what fails | an [`Observer`], in [`Observers`], by the `with_observers` of what decides |
//! | see what a store is asked, and when it is away | the same, in an [`ObservedStore`] |
//! | let some pass, deny others, change a cost, or what comes out | a `Layer` around a gate, by `Layered` (feature `tower`) |
//!
//! # What is observed
//! Checks: what asks and takes in one step, on [`Limiter`](crate::Limiter), [`KeyedLimiter`](crate::KeyedLimiter),
//! [`CustomLimiter`](crate::CustomLimiter), `Shaper` and `Gate`, and so behind every middleware. Looking (`peek`), giving back and
//! charging afterwards are not. What is asked of a store by itself, as by `check_descriptors` and `check_counters`, is
//! observed with an [`ObservedStore`]; that is also where a store is seen to fail that a guard stands in for.
//!
//! Where nobody observes, this is one look at a pointer; `Limiter` does without, for the limits that are one word.
//!
//! # Panics
//! A hook or a layer that panics changes no decision: an observer is as if it had returned, and where a layer panics what it wraps
//! decides, which is never asked twice. Panics are counted ([`Observers::panics`], `Layered::panics`) and, with the feature
//! `policy`, said in the log at the first, the second, the fourth and so on. Who panics goes on being called: otherwise whoever can bring about a panic could switch
//! it off.
//!
//! That needs unwinding. In a program that is built with `panic = "abort"` a panic ends the process, in a plugin as anywhere.

#[cfg(feature = "tower")]
mod asked;
#[cfg(feature = "tower")]
mod layer;
mod observer;
mod panics;
mod store;

#[cfg(feature = "tower")]
pub use self::asked::Inner;
#[cfg(feature = "tower")]
pub use self::layer::{Layer, Layered};
pub use self::observer::{Check, Decided, Observer, Observers, Said};
pub use self::store::ObservedStore;

#[cfg(feature = "policy")]
pub(crate) use self::observer::Watch;
