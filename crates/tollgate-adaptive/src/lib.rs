//! Limits that follow what a service can bear.
//!
//! * [`ConcurrencyLimit`] bounds how many requests are under way, by a [`Control`] that learns from how they fare: [`Aimd`],
//!   [`Vegas`] or [`Gradient`]; or [`Fixed`].
//! * [`Monitor`] finds how well a service fares: by a health check of the user's own, by the rate of errors ([`ErrorRate`]), by latency
//!   ([`Latency`]), by the processor ([`Cpu`]). Limits are then scaled by that [`Level`](tollgate_core::Level).
//!
//! Nothing here starts a thread or has a timer. Controls have no clock either: they learn from samples, and the same samples
//! always lead to the same limit.
//!
//! # Which control?
//! | control | goes by | needs to be told | choose it |
//! |---|---|---|---|
//! | [`Vegas`] | how many requests wait in the service | nothing | first |
//! | [`Gradient`] | how much longer requests take than with few others | nothing | where a service becomes slow at once, and not little by little |
//! | [`Aimd`] | failures, and requests that take too long | what too long is | where latency varies widely by itself, or a deadline is what counts |
//!
//! `docs/adaptive.md` compares them before a service that loses most of its capacity and gets it back.

pub mod control;
pub mod health;
mod limiter;

pub use control::{Aimd, Bounds, BoundsError, Control, Fixed, Gradient, Sample, Vegas};
pub use health::{Cpu, CpuError, ErrorRate, Health, Latency, Monitor, Outcomes, Thresholds, ThresholdsError};
pub use limiter::{ConcurrencyLimit, Full, Outcome, Permit};
