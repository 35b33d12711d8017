//! What `tollgate-core` promises, proven from outside through its public interface.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bounds;
mod clock_steps;
mod drift;
mod history;
mod refunds;
mod retries;
mod text;
mod total;
