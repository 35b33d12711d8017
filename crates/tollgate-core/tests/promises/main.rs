//! What `tollgate-core` promises, proven from outside through its public interface.

mod bounds;
mod clock_steps;
mod drift;
mod history;
mod refunds;
mod retries;
mod text;
mod total;
