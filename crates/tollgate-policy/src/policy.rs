//! One policy: which requests, counted by what, limited how.

use std::collections::HashMap;

use tollgate_core::{Combine, Level, Limit, LimitError, LimitId, Nanos, Scaling, Sharing};

use crate::adaptive::Adaptive;
use crate::attribute::Attribute;
use crate::condition::Condition;
use crate::expression::Expression;
use crate::header::CustomHeader;
use crate::key_part::KeyPart;
use crate::path::Pattern;
use crate::schedule::Schedule;

/// A policy as it was configured and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) priority: i32,
    pub(crate) enabled: bool,
    pub(crate) shadow: bool,
    pub(crate) schedule: Option<Schedule>,
    /// In capitals; none means any.
    pub(crate) methods: Vec<String>,
    /// None means any.
    pub(crate) paths: Vec<Pattern>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) key: Vec<KeyPart>,
    pub(crate) tiers: Option<Tiers>,
    /// One for each tier, or a single one.
    pub(crate) variants: Vec<Variant>,
    pub(crate) combine: Combine,
    pub(crate) cost: u32,
    /// What a request costs instead, if it can be computed.
    pub(crate) cost_by: Option<Expression>,
    pub(crate) sharing: Sharing,
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) ban: Option<BanRule>,
    pub(crate) replaces: Vec<String>,
    /// Whether it replaces all policies but those that do so too.
    pub(crate) replaces_all: bool,
    pub(crate) headers: Vec<CustomHeader>,
    pub(crate) record: Option<RecordBy>,
    /// As it was written, in JSON; none for one that a program made.
    pub(crate) definition: Option<String>,
}

/// By which name what an identity used is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordBy {
    /// What the policy counts by.
    Key,
    /// The value of an attribute: a customer's number in place of the API key. What the policy counts by, where a request has none.
    Attribute(Attribute),
}

/// For how long a key is denied everything that has overrun its limits too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanRule {
    pub(crate) after: Limit,
    pub(crate) length: Nanos,
}

impl BanRule {
    /// The denials that are put up with: one more, and the key is banned.
    pub const fn after(&self) -> &Limit {
        &self.after
    }

    /// How long a ban lasts.
    pub const fn length(&self) -> Nanos {
        self.length
    }
}

/// How a request's tier is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tiers {
    pub(crate) source: TierSource,
    /// Which variant an unknown tier gets.
    pub(crate) default: usize,
    /// From a tier's name to its variant.
    pub(crate) by_name: HashMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TierSource {
    /// An attribute holds the tier's name.
    Attribute(Attribute),
    /// An attribute's value stands in a list.
    Lookup { by: Attribute, tiers: HashMap<String, usize> },
}

/// A policy's limits, or those of one of its tiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    pub(crate) tier: Option<String>,
    pub(crate) limits: Vec<PolicyLimit>,
    /// The same while a service that the policy adapts to is degraded, and while it is bad.
    pub(crate) reduced: Option<Box<[Vec<PolicyLimit>; 2]>>,
}

/// One limit of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLimit {
    pub(crate) id: LimitId,
    pub(crate) name: Option<String>,
    pub(crate) limit: Limit,
}

impl Policy {
    /// The name; unique in a file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, in the words of whoever wrote it.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Among policies that are equally restrictive, the one of the highest priority is named in the answer.
    pub const fn priority(&self) -> i32 {
        self.priority
    }

    /// Whether it applies at all.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether it counts and reports, but never denies.
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The methods it applies to, in capitals; none means any.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(String::as_str)
    }

    /// The path patterns it applies to; none means any.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(Pattern::as_str)
    }

    /// Whether anything about it depends on the path of a request.
    pub(crate) fn reads_path(&self) -> bool {
        let is_path = |attribute: &Attribute| *attribute == Attribute::Path;
        !self.paths.is_empty()
            || self.conditions.iter().any(Condition::reads_path)
            || self.cost_by.as_ref().is_some_and(Expression::reads_path)
            || self.key.iter().any(KeyPart::reads_path)
            || self.tiers.as_ref().is_some_and(|tiers| match &tiers.source {
                TierSource::Attribute(attribute) | TierSource::Lookup { by: attribute, .. } => {
                    is_path(attribute)
                }
            })
    }

    /// The further conditions, all of which must hold.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What it counts by, as it is written in a policy file.
    pub fn key(&self) -> impl Iterator<Item = String> {
        self.key.iter().map(ToString::to_string)
    }

    /// The limits: one set for each tier, or a single one.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// How the limits decide together.
    pub const fn combine(&self) -> Combine {
        self.combine
    }

    /// What a request costs; where that is [computed](Self::cost_expression), what one costs of which it cannot be.
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// What computes the cost of a request.
    pub const fn cost_expression(&self) -> Option<&Expression> {
        self.cost_by.as_ref()
    }

    /// What it says of the store that nodes share.
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Whose health its limits follow.
    pub const fn adaptive(&self) -> Option<&Adaptive> {
        self.adaptive.as_ref()
    }

    /// What becomes of a key that overruns its limits again and again.
    pub const fn ban(&self) -> Option<&BanRule> {
        self.ban.as_ref()
    }

    /// Whether a record is kept of what each identity used, and by which name.
    pub const fn record(&self) -> Option<&RecordBy> {
        self.record.as_ref()
    }

    /// Whether no policy applies where this one does, but those of which the same is said.
    pub const fn replaces_all(&self) -> bool {
        self.replaces_all
    }

    /// The policies that do not apply where this one does.
    pub fn replaces(&self) -> impl Iterator<Item = &str> {
        self.replaces.iter().map(String::as_str)
    }

    /// The policy as it was written, in JSON, whatever the file was written in: it can be [parsed](Self::parse) again. `None`
    /// for one that a program made.
    pub fn definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    /// The headers that an answer gets if this policy applied.
    pub fn headers(&self) -> &[CustomHeader] {
        &self.headers
    }
}

impl Variant {
    /// The tier's name, if the policy has tiers.
    pub fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }

    /// The limits, as they were written.
    pub fn limits(&self) -> &[PolicyLimit] {
        &self.limits
    }

    /// The limits while a service that the policy adapts to fares like this; those that were written if it adapts to none.
    pub fn limits_at(&self, level: Level) -> &[PolicyLimit] {
        match (&self.reduced, level) {
            (None, _) | (_, Level::Good) => &self.limits,
            (Some(reduced), Level::Degraded) => &reduced[0],
            (Some(reduced), Level::Bad) => &reduced[1],
        }
    }

    /// Works out the limits for when a service does not fare well.
    pub(crate) fn reduce(&mut self, scaling: Scaling) -> Result<(), LimitError> {
        let at = |level| {
            let scaled = |own: &PolicyLimit| {
                let limit = own.limit.scaled(scaling.at(level))?;
                Ok(PolicyLimit { limit, ..own.clone() })
            };
            self.limits.iter().map(scaled).collect::<Result<_, LimitError>>()
        };
        self.reduced = Some(Box::new([at(Level::Degraded)?, at(Level::Bad)?]));
        Ok(())
    }
}

impl PolicyLimit {
    /// The limit's identity.
    pub const fn id(&self) -> LimitId {
        self.id
    }

    /// The limit's own name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The rule.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }
}
