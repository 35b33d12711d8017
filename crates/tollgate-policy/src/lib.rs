//! From a policy file to hits, and from a store's answer to a verdict.
//!
//! A request takes one road: its [`Attributes`] are matched with a [`PolicySet`], which gives a [`Plan`] of hits
//! (limit, key, cost) in groups; a store decides them; the plan turns the store's answer into a [`Verdict`], which
//! every face renders in its own way.
//!
//! * [`Config`] is what a file says, checked, with every problem at its place ([`Problems`]).
//! * [`PolicySet`] is a configuration compiled for matching: a look-up by path and attributes, not a scan.
//!
//! ```
//! use tollgate_core::{KeySeed, Timestamp};
//! use tollgate_policy::{Config, PolicySet, Request};
//!
//! let policies = PolicySet::new(Config::example(), KeySeed::new([7; 16]));
//! let login = Request::new("POST", "/api/auth/login").with_ip("203.0.113.7".parse()?);
//! let plan = policies.plan(&login, Timestamp::from_secs(1_800_000_000), None);
//! let names: Vec<&str> = plan.policies().map(|policy| policy.name()).collect();
//! assert_eq!(names, ["login", "burst-guard", "default"]);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! # The policy file
#![doc = include_str!("../policies/REFERENCE.md")]

mod adaptive;
mod address;
mod amended;
mod attribute;
mod calendar;
mod condition;
mod config;
mod descriptors;
mod explain;
mod expression;
mod header;
#[cfg(feature = "expressions")]
mod import;
mod key_part;
mod limitador;
mod path;
mod plan;
mod policy;
mod problem;
mod schedule;
mod set;
mod settlement;
mod single;
mod standing;
mod verdict;

pub use adaptive::{Adaptive, ConcurrencyRules, ControlKind, HealthRules};
pub use address::{NetworkError, Networks, canonical, network};
pub use amended::Amended;
pub use attribute::{
    Attribute, Attributes, Request, UnknownAttribute, bearer_token, cookie_value, host_name, query_value,
};
pub use calendar::{CalendarError, Every, local_time};
pub use condition::{Condition, Like};
pub use config::{Config, ENVIRONMENT_PREFIX, EXAMPLE, Format, LoadError, StoreConfig};
pub use descriptors::{Applied, Applies, Descriptor, DescriptorRules, MetadataValue, Rule, Unit};
pub use explain::Reason;
pub use expression::{Expression, ExpressionError};
pub use header::{CustomHeader, HeaderValues};
#[cfg(feature = "expressions")]
pub use import::{Import, ImportWarning, Origin};
pub use key_part::{KeyPart, UnknownKey};
pub use limitador::{Entries, LimitadorCounter, LimitadorLimit, LimitadorLimits};
pub use plan::{Asked, Plan};
pub use policy::{BanRule, Policy, PolicyLimit, RecordBy, Variant};
pub use problem::{Problem, Problems};
pub use set::PolicySet;
pub use settlement::Settlement;
pub use single::Single;
pub use verdict::{PolicyVerdict, Use, Verdict};
