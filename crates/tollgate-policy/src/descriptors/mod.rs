//! Rules for descriptors: what proxies ask that know a rate-limit service of Envoy's.
//!
//! A request of theirs names a *domain* and some *descriptors*, lists of keys and values. The rules of a domain form a tree
//! by keys and values, and a descriptor is limited by the rule that its entries lead to. How they lead there, and what a
//! rule says, is as envoyproxy/ratelimit has it, whose files are read as they are.

mod rule;
mod series;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tollgate_core::{HashedKey, KeyBuilder, KeyHash, KeySeed, Limit, LimitId, Nanos, Quota};

use crate::condition::Like;

pub use self::rule::{MetadataValue, Rule, Unit};
pub(crate) use self::rule::{Mode, ToldApart};

/// The rules of all domains, ready to be asked.
///
/// ```
/// use tollgate_core::KeySeed;
/// use tollgate_policy::{Applies, Descriptor, DescriptorRules};
///
/// let file = "
/// domain: messaging
/// descriptors:
///   - key: message_type
///     value: marketing
///     descriptors:
///       - key: to_number
///         rate_limit: { unit: day, requests_per_unit: 5 }
/// ";
/// let rules = DescriptorRules::parse(&[("rules.yaml", file)], false, KeySeed::new([7; 16])).unwrap();
/// let entries = [("message_type", "marketing"), ("to_number", "2061111111")];
/// let found = rules.find("messaging", &[Descriptor::new(&entries)]);
/// let Applies::Limited(applied) = &found[0] else { panic!("a rule applies") };
/// assert_eq!(applied.requests_per_unit, 5);
/// ```
#[derive(Debug)]
pub struct DescriptorRules {
    domains: HashMap<String, Level>,
    hasher: KeyBuilder,
}

/// A descriptor of a request.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'d> {
    /// Keys and values, in their order.
    pub entries: &'d [(&'d str, &'d str)],
    /// A limit that the request brings along: it stands in for that of the rules.
    pub limit: Option<(u32, Unit)>,
}

impl<'d> Descriptor<'d> {
    /// A descriptor that brings no limit along.
    pub const fn new(entries: &'d [(&'d str, &'d str)]) -> Self {
        Self { entries, limit: None }
    }
}

/// What becomes of a descriptor.
#[derive(Clone, Debug)]
pub enum Applies<'r> {
    /// No rule limits it, or another descriptor's rule replaces the one that does.
    Nothing,
    /// A rule says that nothing limits it.
    Unlimited(&'r Rule),
    /// It is limited.
    Limited(Applied<'r>),
}

impl Applies<'_> {
    /// Whether nothing is said of the descriptor.
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// The limit of a descriptor.
#[derive(Clone, Debug)]
pub struct Applied<'r> {
    /// The rule, unless the request has brought the limit along.
    pub rule: Option<&'r Rule>,
    /// How many requests there may be in each unit.
    pub requests_per_unit: u32,
    /// The unit.
    pub unit: Unit,
    /// The same as a limit.
    pub limit: Limit,
    /// Which limit it is, whatever the values.
    pub id: LimitId,
    /// What is counted: the domain, the keys and the values, and the unit.
    pub key: KeyHash,
}

impl Applied<'_> {
    /// Whether it decides, counts and is told of, but never denies.
    pub fn is_shadow(&self) -> bool {
        self.rule.is_some_and(Rule::is_shadow)
    }

    /// Whether it denies only if all rules of which this holds do.
    pub fn is_quota(&self) -> bool {
        self.rule.is_some_and(Rule::is_quota)
    }
}

/// The rules at one place of the tree, by what leads to them.
#[derive(Debug, Default)]
pub(crate) struct Level {
    rules: Vec<Rule>,
    exact: HashMap<String, HashMap<String, usize>>,
    /// In the order of the file.
    wildcards: Vec<(String, Like, usize)>,
    by_key: HashMap<String, usize>,
}

/// Two rules of one level that the same entry leads to.
#[derive(Debug)]
pub(crate) struct Duplicate;

impl Level {
    /// Adds a rule for a key, and for one value, for values by a pattern, or for all values.
    pub(crate) fn add(&mut self, rule: Rule) -> Result<(), Duplicate> {
        let index = self.rules.len();
        let key = rule.key.clone();
        match &rule.value {
            None if self.by_key.contains_key(&key) => return Err(Duplicate),
            None => {
                self.by_key.insert(key, index);
            }
            Some(value) if rule.is_wildcard() => {
                let like = Like::spelt(value);
                if self.wildcards.iter().any(|(known, other, _)| *known == key && *other == like) {
                    return Err(Duplicate);
                }
                self.wildcards.push((key, like, index));
            }
            Some(value) => {
                let values = self.exact.entry(key).or_default();
                if values.contains_key(value) {
                    return Err(Duplicate);
                }
                values.insert(value.clone(), index);
            }
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Adds the rules of another level. Returns the key and value of the first that both have.
    fn merge(&mut self, other: Self) -> Result<(), (String, Option<String>)> {
        for rule in other.rules {
            let place = (rule.key.clone(), rule.value.clone());
            self.add(rule).map_err(|Duplicate| place)?;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Its rules, in the order of the file.
    #[cfg(feature = "expressions")]
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that an entry leads to: by its value, else by the first pattern of the file that this is like, else by the
    /// key alone.
    fn find(&self, key: &str, value: &str) -> Option<&Rule> {
        let exact = || self.exact.get(key)?.get(value).copied();
        let pattern = || {
            let mut wildcards = self.wildcards.iter();
            let found = wildcards.find(|(known, like, _)| known == key && like.matches(value.as_bytes()));
            found.map(|(_, _, index)| *index)
        };
        let index = exact().or_else(pattern).or_else(|| self.by_key.get(key).copied());
        index.and_then(|index| self.rules.get(index))
    }

    fn walk<'r>(&'r self, path: &str, tell: &mut dyn FnMut(String, &'r Rule)) {
        for rule in &self.rules {
            let value = rule.value.as_ref().map_or_else(String::new, |value| format!("_{value}"));
            let path = format!("{path}.{}{value}", rule.key);
            if rule.limits() || rule.is_unlimited() {
                tell(path.clone(), rule);
            }
            rule.children.walk(&path, tell);
        }
    }
}

impl DescriptorRules {
    pub(crate) fn new(seed: KeySeed) -> Self {
        Self { domains: HashMap::new(), hasher: KeyBuilder::new(&seed) }
    }

    /// Adds the rules of a domain. `merges` allows several sets of rules for one.
    ///
    /// # Errors
    /// What contradicts the rules that are there.
    pub(crate) fn add(&mut self, domain: &str, rules: Level, merges: bool) -> Result<(), String> {
        match self.domains.get_mut(domain) {
            None => {
                self.domains.insert(domain.to_owned(), rules);
                Ok(())
            }
            Some(known) if merges => known.merge(rules).map_err(|(key, value)| {
                let value = value.map_or_else(String::new, |value| format!(" with the value `{value}`"));
                format!("the domain `{domain}` has a rule for `{key}`{value} in another file already")
            }),
            Some(_) => Err(format!("the domain `{domain}` is in another file already")),
        }
    }

    /// The domains, in the order of their names.
    pub fn domains(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.domains.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The domains, in the order of their names, and their rules.
    #[cfg(feature = "expressions")]
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&str, &Level)> {
        self.domains().into_iter().map(|domain| (domain, &self.domains[domain]))
    }

    /// Every rule that says something about its descriptors, with the way to it: `domain.key_value.key`.
    pub fn rules(&self) -> Vec<(String, &Rule)> {
        let mut rules = Vec::new();
        for domain in self.domains() {
            self.domains[domain].walk(domain, &mut |path, rule| rules.push((path, rule)));
        }
        rules
    }

    /// What becomes of each descriptor of a request.
    pub fn find<'r>(&'r self, domain: &str, descriptors: &[Descriptor<'_>]) -> Vec<Applies<'r>> {
        let Some(level) = self.domains.get(domain) else {
            return descriptors.iter().map(|_| Applies::Nothing).collect();
        };
        let mut found: Vec<Applies<'r>> =
            descriptors.iter().map(|descriptor| self.apply(domain, level, descriptor)).collect();
        let replaced: Vec<&str> = found
            .iter()
            .filter_map(|applies| match applies {
                Applies::Limited(applied) => applied.rule,
                Applies::Unlimited(rule) => Some(*rule),
                Applies::Nothing => None,
            })
            .flat_map(|rule| rule.replaces.iter().map(String::as_str))
            .collect();
        for applies in &mut found {
            if let Applies::Limited(Applied { rule: Some(rule), .. }) = applies
                && rule.name.as_deref().is_some_and(|name| replaced.contains(&name))
            {
                *applies = Applies::Nothing;
            }
        }
        found
    }

    fn apply<'r>(&'r self, domain: &str, level: &'r Level, descriptor: &Descriptor<'_>) -> Applies<'r> {
        let mut identity = Identity::new(self.hasher, domain);
        if let Some((requests_per_unit, unit)) = descriptor.limit {
            for (key, value) in descriptor.entries {
                identity.push(key, Some(value), value);
            }
            return Applies::Limited(identity.applied(None, requests_per_unit, unit));
        }
        let (mut level, mut found) = (level, None);
        for (index, (key, value)) in descriptor.entries.iter().enumerate() {
            let Some(rule) = level.find(key, value) else { return Applies::Nothing };
            let shared = rule.value.as_deref().filter(|_| rule.shares_threshold);
            identity.push(key, rule.value.as_deref(), shared.unwrap_or(value));
            let is_last = index + 1 == descriptor.entries.len();
            if is_last {
                found = Some(rule);
            } else if rule.children.is_empty() {
                return Applies::Nothing;
            }
            level = &rule.children;
        }
        match found {
            Some(rule) if rule.is_unlimited() => Applies::Unlimited(rule),
            Some(rule) => match rule.rate {
                Some((requests_per_unit, unit)) => {
                    Applies::Limited(identity.applied(Some(rule), requests_per_unit, unit))
                }
                None => Applies::Nothing,
            },
            None => Applies::Nothing,
        }
    }
}

/// Whose count it is, and which limit's.
struct Identity {
    key: KeyBuilder,
    id: KeyBuilder,
}

impl Identity {
    fn new(hasher: KeyBuilder, domain: &str) -> Self {
        // The same in every process, as it names a limit of the configuration.
        let (mut key, mut id) = (hasher, KeyBuilder::new(&KeySeed::new([0; 16])));
        for builder in [&mut key, &mut id] {
            // So that no policy's key is one of a descriptor.
            builder.push("descriptor");
            builder.push(domain);
        }
        Self { key, id }
    }

    /// An entry: its key, what the rule asks of the value, and the value that is counted.
    fn push(&mut self, key: &str, asked: Option<&str>, counted: &str) {
        self.key.push(key);
        self.key.push(counted);
        self.id.push(key);
        self.id.push(&asked);
    }

    /// What is counted in other units is counted apart.
    fn applied(mut self, rule: Option<&Rule>, requests_per_unit: u32, unit: Unit) -> Applied<'_> {
        let period = unit.period();
        self.key.push(&period.as_nanos());
        self.id.push(&period.as_nanos());
        Applied {
            rule,
            requests_per_unit,
            unit,
            limit: limit(requests_per_unit, period),
            // Half of the hash is enough to tell a configuration's limits apart.
            id: LimitId(self.id.low()),
            key: self.key.finish(),
        }
    }
}

fn limit(requests_per_unit: u32, period: Nanos) -> Limit {
    match Quota::new(requests_per_unit.into(), period) {
        Ok(quota) if requests_per_unit > 0 => Limit::fixed_window(quota),
        // None at all: every length that a unit has makes a quota.
        _ => Limit::DenyAll,
    }
}
