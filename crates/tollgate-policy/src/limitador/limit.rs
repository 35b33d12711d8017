//! One limit.

use std::ops::Range;

use tollgate_core::algorithm::{Refill, TokenBucket};
use tollgate_core::{HashedKey, KeyBuilder, KeySeed, Limit, LimitId, Nanos, Quota};

use crate::expression::{Context, DescriptorExpression};

/// So many in so many seconds, for some requests.
#[derive(Clone, Debug)]
pub struct LimitadorLimit {
    pub(crate) namespace: String,
    pub(crate) max_value: u64,
    pub(crate) seconds: u64,
    pub(crate) name: Option<String>,
    pub(crate) id: Option<String>,
    /// Each once, in the order of their texts: what order a file has them in means nothing.
    pub(crate) conditions: Vec<DescriptorExpression>,
    pub(crate) variables: Vec<DescriptorExpression>,
    limit: Limit,
    limit_id: LimitId,
    /// Where it stands in its file, in bytes.
    #[cfg_attr(not(feature = "expressions"), expect(dead_code, reason = "who imports limits tells it"))]
    pub(crate) span: Range<usize>,
}

impl LimitadorLimit {
    /// A limit of so many in so many seconds. `None` if no quota is like that.
    pub(crate) fn new(namespace: String, max_value: u64, seconds: u64, span: Range<usize>) -> Option<Self> {
        Some(Self {
            limit: rule(max_value, seconds)?,
            limit_id: LimitId::default(),
            namespace,
            max_value,
            seconds,
            name: None,
            id: None,
            conditions: Vec::new(),
            variables: Vec::new(),
            span,
        })
    }

    /// The same limit with these conditions and variables.
    pub(crate) fn with(
        mut self,
        conditions: Vec<DescriptorExpression>,
        variables: Vec<DescriptorExpression>,
    ) -> Self {
        let once = |mut expressions: Vec<DescriptorExpression>| {
            expressions.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            expressions.dedup_by(|one, other| one.as_str() == other.as_str());
            expressions
        };
        (self.conditions, self.variables) = (once(conditions), once(variables));
        // The same in every process, as it names a limit of the configuration; half of the hash is enough for that.
        self.limit_id = LimitId(self.identity(KeyBuilder::new(&KeySeed::new([0; 16]))).low());
        self
    }

    /// What requests have to name for it to apply.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How much there may be in a window.
    pub const fn max_value(&self) -> u64 {
        self.max_value
    }

    /// How long a window lasts, in seconds.
    pub const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Its name, for people.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its id, for who made the file.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What must hold for it to apply, each once and in the order of their texts.
    pub fn conditions(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().map(DescriptorExpression::as_str)
    }

    /// What it counts by, each once and in the order of their texts.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(DescriptorExpression::as_str)
    }

    /// The same as a rule of a store's.
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Which limit it is, whatever is counted.
    pub const fn limit_id(&self) -> LimitId {
        self.limit_id
    }

    /// Whether it looks at the descriptor of this place: one that looks at none concerns all of them.
    pub fn looks_at(&self, descriptor: usize) -> bool {
        let mut any = false;
        for expression in self.conditions.iter().chain(&self.variables) {
            match expression.looks_at() {
                None => return true,
                Some(places) if places.contains(&descriptor) => return true,
                Some(places) => any |= !places.is_empty(),
            }
        }
        !any
    }

    /// Whether another limit has the same counters. What they are called and how much they allow is not looked at.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.seconds == other.seconds
            && self.conditions().eq(other.conditions())
            && self.variables().eq(other.variables())
    }

    /// The values of its variables, if it applies.
    pub(crate) fn values_in<'c>(&'c self, request: &'c Context<'c>) -> Option<Vec<String>> {
        let context = request.of_limit(self.name(), self.id());
        if !self.conditions.iter().all(|condition| condition.holds(&context)) {
            return None;
        }
        self.variables.iter().map(|variable| variable.value(&context)).collect()
    }

    /// What the keys of all its counters start with.
    pub(crate) fn identity(&self, mut key: KeyBuilder) -> KeyBuilder {
        // So that no key of a policy or of a descriptor is one of these.
        key.push("limitador");
        key.push(self.namespace.as_str());
        key.push(&self.seconds);
        // So that what is a condition here is no variable there.
        key.push(&(self.conditions.len() as u64));
        for expression in self.conditions().chain(self.variables()) {
            key.push(expression);
        }
        key
    }
}

/// A bucket that is filled again as a whole when the time is up which starts with the first token taken: a window that starts
/// with the first hit.
fn rule(max_value: u64, seconds: u64) -> Option<Limit> {
    let nanos = seconds.checked_mul(1_000_000_000)?;
    if max_value == 0 {
        return (seconds > 0).then_some(Limit::DenyAll);
    }
    let quota = Quota::new(max_value, Nanos::new(nanos)).ok()?;
    TokenBucket::new(max_value, quota).ok()?.with_refill(Refill::Interval).ok().map(Limit::from)
}
