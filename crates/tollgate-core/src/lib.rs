//! The rules of rate limiting, and nothing else.
//!
//! This crate knows no store, no thread, no socket and no clock of its own. It holds
//!
//! * [`Quota`] and [`Limit`]: what is allowed,
//! * [`algorithm`]: how each kind of limit decides, as a pure state machine over integers,
//! * [`Decision`]: what a limit answers,
//! * [`combine`]: how several limits answer as one,
//! * [`sharing`] and [`share`]: how nodes count together, and each alone,
//! * [`level`]: how well a service fares, and how much of a limit holds then,
//! * [`key`]: how the identity that a limit counts by becomes a 128-bit hash,
//! * [`time`]: the two time types and the [`Clock`] trait,
//! * [`written`]: states as bytes.
//!
//! A store (see `tollgate-store`) keeps one [`State`] for each key and applies the rules to it. Most programs
//! use neither directly: the `tollgate` crate is the friendly face.
//!
//! # One limit by hand
//! ```
//! use tollgate_core::{Limit, Quota, Timestamp};
//!
//! let limit = Limit::gcra(Quota::per_minute(2));
//! let now = Timestamp::from_secs(1_000);
//! let mut state = limit.fresh(now);
//!
//! assert!(limit.acquire(&mut state, now, 1).decision.allowed);
//! assert!(limit.acquire(&mut state, now, 1).decision.allowed);
//! let denied = limit.acquire(&mut state, now, 1).decision;
//! assert!(!denied.allowed);
//! assert_eq!(denied.retry_after.duration(), Some(std::time::Duration::from_secs(30)));
//! ```
//!
//! # What holds for every algorithm
//! * Arithmetic is on integers. A rate that does not divide evenly keeps its remainder, so nothing drifts.
//! * No input panics: times, costs and limits at the ends of their ranges saturate.
//! * A denied request leaves the state as it was. (After the clock stepped backwards a denial may pull a stamp
//!   that lies in the future back to the present, so that the step cannot deny for longer than one refill.)
//! * From a known moment on ([`Limit::vacant_at`]) a state decides like a new one, so a store may forget it.

pub mod algorithm;
pub mod answer;
pub mod combine;
pub mod concurrency;
pub mod decision;
pub mod hit;
pub mod key;
pub mod level;
pub mod limit;
pub mod packed;
pub mod quota;
pub mod share;
pub mod sharing;
pub mod time;
pub mod written;

pub use answer::{Answer, Outcome, Outcomes, Source, combined};
pub use combine::Combine;
pub use decision::{Decision, Grant, Retry};
pub use hit::{Former, Group, Hit, LimitId};
pub use key::{HashedKey, Key, KeyBuilder, KeyHash, KeySeed, NthKey};
pub use level::{Level, Percent, Scaling};
pub use limit::{Limit, LimitError, State, Step};
pub use quota::{ParseQuotaError, Quota, QuotaError};
pub use share::Share;
pub use sharing::{Consistency, OnFailure, Sharing};
pub use time::{Clock, ManualClock, Nanos, Timestamp};
