//! Where the state of limits lives.
//!
//! A store keeps one state for each key and applies the rules of `tollgate-core` to it. This crate holds
//!
//! * [`LocalStore`]: a store in this process, which answers at once, and [`Store`]: any store, which may have to be
//!   waited for. Every local store is a store.
//! * [`MemoryStore`]: the store that needs nothing else, and [`AlgorithmStore`]: the same for a rule of one's own.
//! * `DurableStore` (with the feature `durable`): the same, kept in files.
//! * `RedisStore` (with the feature `redis`) and `PostgresStore` (with the feature `postgres`): stores that many nodes share.
//! * [`plain`]: decisions on states that a store has read, for stores of one's own.
//! * [`conformance`]: a model of every algorithm and a generator of histories, against which any store can be run; and
//!   [`conformance::algorithm`], for rules of one's own.
//!
//! A store never reads configuration: it is given hits (a limit, a key, a cost), in groups that decide together.
//!
//! ```
//! use tollgate_core::{Group, Hit, Key, KeyBuilder, KeySeed, Limit, LimitId, Quota};
//! use tollgate_store::{LocalStore, MemoryStore};
//!
//! let store = MemoryStore::default();
//! let limit = Limit::gcra(Quota::per_second(1));
//! let mut key = KeyBuilder::new(&KeySeed::new([7; 16]));
//! key.push("203.0.113.7");
//!
//! let hits = [Hit::new(LimitId(1), key.finish(), &limit)];
//! assert!(store.acquire(&[Group::all(&hits)]).allowed);
//! assert!(!store.acquire(&[Group::all(&hits)]).allowed);
//! ```

mod clock;
pub mod conformance;
#[cfg(feature = "durable")]
pub mod durable;
#[cfg(feature = "shared")]
pub mod guard;
#[cfg(feature = "shared")]
pub mod lease;
mod machine;
mod memory;
#[cfg(feature = "permits")]
pub mod permits;
pub mod plain;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "shared")]
mod regroup;
mod seed;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub mod shared;
mod store;
mod sync;
mod together;

pub use clock::{ClockError, ClockSource, SystemClock};
pub use memory::{AlgorithmStore, MemoryOptions, MemoryStore, Overflow};
pub use seed::random_seed;
pub use store::{LocalStore, Refund, Store, StoreError};
