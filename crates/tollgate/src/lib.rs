//! Rate limiting for Rust: in a program, in front of a service, by a policy file.
//!
//! | you want to | use |
//! |---|---|
//! | limit one thing | [`Limiter`] |
//! | limit each of many: addresses, users, jobs | [`KeyedLimiter`] |
//! | limit by a rule of your own | [`CustomLimiter`] |
//! | stay under the limits of others | `outgoing::OutgoingLayer`, `outgoing::Outgoing` (feature `outgoing`; for reqwest, feature `reqwest`) |
//! | count by days and months of a calendar | [`algorithm::FixedWindow::by_calendar`], with `Every` for the calendar; `usage` reads and records what was used |
//! | make callers wait in place of denying them | `Shaper`, or `queue::Queue` with priorities (feature `shaping`) |
//! | have at most so many at once, across tasks and nodes | `Permits` (feature `permits`) |
//! | limit by a policy file | `Gate` (feature `policy`, on by default) |
//! | limit an axum, hyper or tonic service | `http::RateLimitLayer` (feature `tower`; with axum, feature `axum`) |
//! | limit an Actix Web app | `actix::RateLimit` (feature `actix`) |
//! | keep a service from doing more at once than does it good | `adaptive::ConcurrencyLimit`, alone or as `http::RateLimitLayer::concurrency` |
//! | let limits follow the health of a service | `Services`, `Gate::set_level` |
//! | count over many nodes | `redis::RedisStore` or `postgres::PostgresStore`, with `guard::Guarded` for when it is away (features `redis`, `postgres`) |
//! | keep state across restarts | `durable::DurableStore` with `KeyedLimiter::with_seed` or `Gate::with_seed` (feature `durable`) |
//! | keep state in a store of your own | [`Store`], [`plain`], and [`conformance`] to try it |
//! | see decisions, or change them, by code of your own | [`plugin`] |
//! | see decisions in traces | spans of [`tracing`](https://docs.rs/tracing), at `debug`, of a `Gate`'s methods that end in `_async` and of stores over the network |
//! | test code that is limited | [`ManualClock`] |
//!
//! # Three lines
//! ```
//! use tollgate::{KeyedLimiter, Quota};
//!
//! let limiter = KeyedLimiter::<str>::new(Quota::per_minute(100));
//! assert!(limiter.check("203.0.113.7").is_allowed());
//! ```
//!
//! # Why was I denied, and until when?
//! ```
//! use tollgate::{Limiter, Limit, Quota};
//!
//! let limiter = Limiter::new(Limit::fixed_window(Quota::per_hour(1)));
//! assert!(limiter.check().is_allowed());
//! let denied = limiter.check();
//! assert!(!denied.is_allowed());
//! assert!(denied.retry_after.duration() <= Some(std::time::Duration::from_secs(3_600)));
//! ```
//!
//! # A policy file
//! ```
//! # #[cfg(feature = "policy")] {
//! use tollgate::{Config, Format, Gate, Request};
//!
//! let config = Config::parse("inline", "
//!     policies:
//!       - { name: login, match: { method: POST, path: /login }, key: ip, limit: 5/minute }
//! ", Format::Yaml, &[])?;
//! let gate = Gate::new(config);
//! let login = Request::new("POST", "/login").with_ip("203.0.113.7".parse()?);
//! for _ in 0..5 {
//!     assert!(gate.check(&login).is_allowed());
//! }
//! let verdict = gate.check(&login);
//! assert_eq!(verdict.deciding().map(|policy| policy.policy.name()), Some("login"));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which algorithm?
//! See [`algorithm`]: GCRA is the default and rarely wrong. All of them compute with whole numbers, never drift, and say
//! exactly when to retry.
//!
//! # What a decision costs
//! No decision spawns threads, reads files or talks to the network (a store that was chosen for it does). Memory is bounded: see [`MemoryOptions`].

#[cfg(feature = "tower")]
mod async_gate;
#[cfg(feature = "policy")]
mod bans;
mod cell;
#[cfg(feature = "policy")]
mod charge;
mod custom;
#[cfg(feature = "policy")]
mod descriptors;
#[cfg(feature = "policy")]
mod gate;
mod keyed;
#[cfg(feature = "policy")]
mod limitador;
mod limiter;
#[cfg(any(feature = "outgoing", feature = "shaping"))]
mod line;
#[cfg(feature = "outgoing")]
pub mod outgoing;
#[cfg(feature = "permits")]
mod permits;
pub mod plugin;
#[cfg(feature = "shaping")]
pub mod queue;
mod reservation;
#[cfg(feature = "policy")]
mod services;
#[cfg(feature = "shaping")]
mod shaper;
#[cfg(feature = "policy")]
mod statistics;
#[cfg(feature = "policy")]
pub mod usage;

pub use custom::{CustomLimiter, CustomReservation};
pub use keyed::{Decisions, KeyedLimiter};
pub use limiter::{LimitOrQuota, Limiter};
pub use reservation::Reservation;
pub use tollgate_core::{
    Answer, Clock, Combine, Consistency, Decision, Grant, Group, Hit, Key, KeyBuilder, KeyHash, KeySeed,
    Level, Limit, LimitError, LimitId, ManualClock, Nanos, OnFailure, Outcome, ParseQuotaError, Percent,
    Quota, QuotaError, Retry, Scaling, Share, Sharing, Source, State, Timestamp, algorithm, quota,
};
pub use tollgate_store::{
    AlgorithmStore, ClockError, ClockSource, LocalStore, MemoryOptions, MemoryStore, Overflow, Refund, Store,
    StoreError, SystemClock, conformance, plain, random_seed,
};

#[cfg(feature = "permits")]
pub use permits::{NoPermit, Permit, Permits};
#[cfg(feature = "permits")]
pub use tollgate_core::concurrency;
#[cfg(feature = "permits")]
pub use tollgate_store::permits as permit_store;

#[cfg(feature = "shaping")]
pub use shaper::{Shaper, Turn};

#[cfg(feature = "durable")]
pub use tollgate_store::durable;
#[cfg(feature = "postgres")]
pub use tollgate_store::postgres;
#[cfg(feature = "redis")]
pub use tollgate_store::redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use tollgate_store::shared;
#[cfg(feature = "shared")]
pub use tollgate_store::{guard, lease};

#[cfg(feature = "policy")]
pub use bans::Ban;
#[cfg(feature = "policy")]
pub use descriptors::{
    DescriptorAnswer, DescriptorStatus, charge_descriptors, check_descriptors, give_back_descriptor,
    peek_descriptors,
};
#[cfg(feature = "policy")]
pub use gate::{Ask, Changes, Gate};
#[cfg(feature = "policy")]
pub use limitador::{CounterStatus, CountersAnswer, check_counters, peek_counters, report_counters};
#[cfg(feature = "policy")]
pub use statistics::{PolicyStatistics, Statistics};
#[cfg(feature = "policy")]
pub use tollgate_policy::{
    Adaptive, Amended, Applied, Applies, Asked, Attribute, Attributes, BanRule, CalendarError,
    ConcurrencyRules, Condition, Config, ControlKind, CustomHeader, Descriptor, DescriptorRules,
    ENVIRONMENT_PREFIX, EXAMPLE, Entries, Every, Expression, ExpressionError, Format, HeaderValues,
    HealthRules, KeyPart, Like, LimitadorCounter, LimitadorLimit, LimitadorLimits, LoadError, MetadataValue,
    NetworkError, Networks, Plan, Policy, PolicyLimit, PolicySet, PolicyVerdict, Problem, Problems, Reason,
    RecordBy, Request, Rule, Settlement, StoreConfig, Unit, UnknownKey, Use, Variant, Verdict, bearer_token,
    cookie_value, host_name, local_time, query_value,
};

#[cfg(feature = "expressions")]
pub use tollgate_policy::{Import, ImportWarning, Origin};

#[cfg(feature = "policy")]
pub use services::{ServiceHealth, Services, UnknownService};
#[cfg(feature = "policy")]
pub use tollgate_adaptive as adaptive;

#[cfg(feature = "tower")]
pub use async_gate::AsyncGate;
#[cfg(feature = "actix")]
pub use tollgate_actix as actix;
#[cfg(feature = "tower")]
pub use tollgate_http as http;
