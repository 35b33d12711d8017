//! Policies compiled for matching.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;
use tollgate_core::{
    Combine, HashedKey, Key, KeyBuilder, KeyHash, KeySeed, Level, NthKey, Sharing, Timestamp,
};

use crate::address::network;
use crate::attribute::{Attribute, Attributes, host};
use crate::condition::Condition;
use crate::config::Config;
use crate::key_part::KeyPart;
use crate::path::{PathTree, Pattern, normalized};
use crate::plan::Plan;
use crate::policy::{Policy, RecordBy, TierSource, Variant};
use crate::single::Single;
use crate::standing::Standing;

/// A configuration, ready to be asked which of its policies apply.
///
/// It never changes: a new configuration makes a new set, which [remembers](Self::succeed) what it follows.
#[derive(Debug)]
pub struct PolicySet {
    policies: Vec<Compiled>,
    names: Names,
    /// Those that are for every path.
    everywhere: Candidates,
    /// The others, by their patterns.
    paths: PathTree<Candidates>,
    /// Whether anything is asked of the path, so that it has to be brought into its normal spelling.
    reads_path: bool,
    /// Whether any policy replaces others.
    has_replacements: bool,
    /// The only policy that can apply to a request, if it has a single limit.
    single: Option<Candidate>,
    seed: KeySeed,
    /// A key without parts yet.
    hasher: KeyBuilder,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
    shadow: bool,
    /// How the services fare that policies adapt to; those that are not here are well.
    levels: Levels,
}

/// Levels by the names of services.
type Levels = BTreeMap<String, Level>;

/// What matching needs of a policy, in one piece, and the policy itself apart from it: where thousands of policies are in
/// use, each further piece is a further miss of the processor's cache.
#[derive(Debug)]
// Each is an answer of its own.
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Compiled {
    /// Whether the policy asks for more than it was found by: then it must be looked at itself.
    is_conditional: bool,
    pub(crate) shadow: bool,
    pub(crate) combine: Combine,
    pub(crate) sharing: Sharing,
    /// What a request costs, unless the policy computes it.
    cost: Option<u32>,
    /// Whether what requests use is recorded.
    keeps_record: bool,
    key: SmallVec<[KeyPart; 1]>,
    variants: SmallVec<[CompiledVariant; 1]>,
    /// The indexes of the policies that this one replaces.
    pub(crate) replaces: Box<[u32]>,
    /// Whether it replaces all policies but those that do so too.
    pub(crate) replaces_all: bool,
    /// How the service fares that it adapts to.
    pub(crate) level: Level,
    pub(crate) policy: Arc<Policy>,
}

#[derive(Debug)]
struct CompiledVariant {
    /// Its number, whatever its limits are, among all that count by the same identity: any, but no other's.
    number: u64,
    limits: SmallVec<[Standing; 1]>,
}

impl Compiled {
    fn new(policy: Arc<Policy>, replaces: Box<[u32]>, level: Level, seed: KeySeed) -> Self {
        let compiled = |variant: &Variant| CompiledVariant {
            number: number(&policy, variant, seed),
            limits: variant.limits_at(level).iter().map(|limit| Standing::new(limit, seed)).collect(),
        };
        Self {
            // The first value, or else the method, is what the policy was found by: see `Candidates::add`.
            is_conditional: policy.conditions.len() + usize::from(!policy.methods.is_empty()) > 1
                || policy.conditions.iter().any(|condition| !matches!(condition, Condition::Is { .. }))
                || policy.schedule.is_some()
                || policy.tiers.is_some(),
            shadow: policy.shadow,
            combine: policy.combine,
            sharing: policy.sharing,
            cost: policy.cost_by.is_none().then_some(policy.cost),
            keeps_record: policy.record.is_some(),
            key: policy.key.iter().cloned().collect(),
            variants: policy.variants.iter().map(compiled).collect(),
            replaces,
            replaces_all: policy.replaces_all,
            level,
            policy,
        }
    }

    /// What a request costs.
    #[inline]
    fn cost(&self, request: &(impl Attributes + ?Sized), path: &str) -> u32 {
        self.cost.unwrap_or_else(|| {
            let computed = self.policy.cost_by.as_ref().and_then(|expression| expression.cost(request, path));
            computed.unwrap_or(self.policy.cost)
        })
    }

    /// The limits of this variant; none if there is no such one.
    pub(crate) fn limits(&self, variant: u32) -> &[Standing] {
        self.variants.get(variant as usize).map_or(&[], |variant| &variant.limits)
    }

    /// What is banned where the key of the first limit of this variant is denied. It does not change with the limits.
    pub(crate) fn ban_key(&self, variant: u32, first: KeyHash) -> Option<KeyHash> {
        let variant = self.variants.get(variant as usize)?;
        Some(first.renumbered(variant.limits.first()?.number(), variant.number))
    }

    /// Takes note of what the policy of this name was up to now.
    fn succeed(&mut self, former: &Self, now: Timestamp) {
        for variant in &mut self.variants {
            let Some(former) = former.variants.iter().find(|former| former.number == variant.number) else {
                continue;
            };
            for limit in &mut variant.limits {
                if let Some(former) = former.limits.iter().find(|former| former.id() == limit.id()) {
                    limit.succeed(former, now);
                }
            }
        }
    }

    /// The index of the limits that a request gets; `None` if the policy does not apply to it.
    fn variant_for(&self, request: &(impl Attributes + ?Sized), path: &str, now: Timestamp) -> Option<usize> {
        if !self.is_conditional {
            return Some(0);
        }
        let is_active = self.policy.schedule.as_ref().is_none_or(|schedule| schedule.is_active(now));
        (self.policy.matches(request, path) && is_active).then(|| self.policy.variant_for(request, path))
    }
}

/// Where policies stand, by their names. The names themselves are the policies'.
#[derive(Debug)]
struct Names {
    indexes: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    fn of(policies: &[Arc<Policy>]) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut indexes = HashTable::with_capacity(policies.len());
        for (index, policy) in (0_u32..).zip(policies) {
            let hash = |index: &u32| hasher.hash_one(policies[*index as usize].name());
            // Of several of a name, which a file cannot have, the first is meant.
            let is_same = |other: &u32| policies[*other as usize].name == policy.name;
            indexes.entry(hash(&index), is_same, hash).or_insert(index);
        }
        Self { indexes, hasher }
    }

    fn find<'n>(&self, name: &str, name_of: impl Fn(u32) -> &'n str) -> Option<u32> {
        self.indexes.find(self.hasher.hash_one(name), |index| name_of(*index) == name).copied()
    }
}

/// Policies by the value that they ask for.
type ByValue = hashbrown::HashMap<Box<[u8]>, SmallVec<[Candidate; 1]>>;

/// The policies of one path pattern. Those that ask for the value of an attribute are found by that value.
#[derive(Clone, Debug, Default)]
struct Candidates {
    always: SmallVec<[Candidate; 2]>,
    by_value: Vec<(Attribute, ByValue)>,
}

/// A policy, and which of its path patterns led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    policy: u32,
    pattern: u32,
}

impl PolicySet {
    /// Compiles a configuration. Keys are hashed under `seed`.
    #[must_use]
    pub fn new(config: Config, seed: KeySeed) -> Self {
        Self::compile(config, seed, Levels::new())
    }

    fn compile(config: Config, seed: KeySeed, levels: Levels) -> Self {
        let names = Names::of(&config.policies);
        let (mut everywhere, mut paths) = (Candidates::default(), PathTree::<Candidates>::default());
        for (index, policy) in (0_u32..).zip(&config.policies).filter(|(_, policy)| policy.enabled) {
            if policy.paths.is_empty() {
                everywhere.add(policy, Candidate { policy: index, pattern: 0 });
            }
            for (pattern, path) in (0_u32..).zip(&policy.paths) {
                paths.entry(path).add(policy, Candidate { policy: index, pattern });
            }
        }
        let reads_path = config.policies.iter().any(|policy| policy.reads_path());
        let index_of = |name: &str| names.find(name, |index| config.policies[index as usize].name());
        let replaced =
            |policy: &Arc<Policy>| policy.replaces.iter().filter_map(|name| index_of(name)).collect();
        let replaced: Vec<Box<[u32]>> = config.policies.iter().map(replaced).collect();
        let compiled = |(policy, replaces): (Arc<Policy>, _)| {
            let level = policy.adaptive().and_then(|adaptive| levels.get(adaptive.to()).copied());
            Compiled::new(policy, replaces, level.unwrap_or_default(), seed)
        };
        let policies: Vec<Compiled> = config.policies.into_iter().zip(replaced).map(compiled).collect();
        let has_one_limit = |candidate: &Candidate| {
            let variants = &policies[candidate.policy as usize].variants;
            let keeps_record = policies[candidate.policy as usize].policy.record.is_some();
            !keeps_record && variants.iter().all(|variant| variant.limits.len() == 1)
        };
        let single = match everywhere.always.as_slice() {
            [only] if everywhere.by_value.is_empty() && paths.is_empty() => Some(*only),
            _ => None,
        };
        Self {
            has_replacements: policies
                .iter()
                .any(|policy| policy.replaces_all || !policy.replaces.is_empty()),
            single: single.filter(has_one_limit),
            policies,
            names,
            everywhere,
            paths,
            reads_path,
            hasher: KeyBuilder::new(&seed),
            seed,
            ipv4_prefix: config.ipv4_prefix,
            ipv6_prefix: config.ipv6_prefix,
            shadow: config.shadow,
            levels,
        }
    }

    /// Compiles the configuration that follows this one from `now` on. What a key has spent under a limit of the same policy,
    /// tier and place in the list stays spent: of a changed limit, what was left is carried over, at most what the new one
    /// holds.
    ///
    /// ```
    /// use tollgate_core::{KeySeed, Limit, Quota, Timestamp};
    /// use tollgate_policy::{Config, KeyPart, PolicySet, Request};
    ///
    /// let hourly = |count| Config::single([KeyPart::Ip], Limit::gcra(Quota::per_hour(count)));
    /// let policies = PolicySet::new(hourly(100), KeySeed::new([7; 16]));
    /// let now = Timestamp::from_secs(1_800_000_000);
    /// let policies = policies.succeed(hourly(10), now);
    /// let request = Request::default().with_ip("203.0.113.7".parse()?);
    /// assert_eq!(policies.plan(&request, now, None).hits()[0].formers.len(), 1);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn succeed(&self, config: Config, now: Timestamp) -> Self {
        self.followed_by(Self::compile(config, self.seed, self.levels.clone()), now)
    }

    /// Lets a set know what it follows.
    fn followed_by(&self, mut set: Self, now: Timestamp) -> Self {
        for compiled in &mut set.policies {
            if let Some(former) = self.index_of(compiled.policy.name()) {
                compiled.succeed(&self.policies[former], now);
            }
        }
        set
    }

    /// The same policies from `now` on, while this service fares like that: those that adapt to it have so much less, or all that
    /// they were written with. What keys have spent is carried over as by [`succeed`](Self::succeed).
    ///
    /// ```
    /// use tollgate_core::{KeySeed, Level, Timestamp};
    /// use tollgate_policy::{Config, Format, PolicySet, Request};
    ///
    /// let config = Config::parse("inline", "
    ///     health: { orders: { errors: { degraded: 5%, bad: 25% } } }
    ///     policies: [{ name: api, key: ip, limit: 100/minute, adaptive: orders }]
    /// ", Format::Yaml, &[])?;
    /// let now = Timestamp::from_secs(1_800_000_000);
    /// let policies = PolicySet::new(config, KeySeed::new([7; 16])).at_level("orders", Level::Bad, now);
    /// let request = Request::default().with_ip("203.0.113.7".parse()?);
    /// assert_eq!(policies.plan(&request, now, None).hits()[0].limit.capacity(), 30);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn at_level(&self, service: &str, level: Level, now: Timestamp) -> Self {
        let mut levels = self.levels.clone();
        levels.insert(service.to_owned(), level);
        let policies = self.policies.iter().map(|compiled| Arc::clone(&compiled.policy)).collect();
        let (ipv4_prefix, ipv6_prefix, shadow) = (self.ipv4_prefix, self.ipv6_prefix, self.shadow);
        let config = Config { policies, shadow, ipv4_prefix, ipv6_prefix, ..Config::empty() };
        self.followed_by(Self::compile(config, self.seed, levels), now)
    }

    /// How this service fares, as far as it was told.
    pub fn level_of(&self, service: &str) -> Level {
        self.levels.get(service).copied().unwrap_or_default()
    }

    /// All policies, in the order of the configuration, also those that are switched off.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.policies.iter().map(|compiled| &*compiled.policy)
    }

    /// The policy of this index in [`policies`](Self::policies).
    pub fn policy(&self, index: usize) -> Option<&Policy> {
        self.policies.get(index).map(|compiled| &*compiled.policy)
    }

    pub(crate) fn compiled(&self, index: u32) -> &Compiled {
        &self.policies[index as usize]
    }

    /// The index of the policy of this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        let index = self.names.find(name, |index| self.policies[index as usize].policy.name());
        index.map(|index| index as usize)
    }

    /// Whether every policy only watches.
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Which policies apply to a request at `now`, and what each asks of the store.
    ///
    /// A policy applies if it is active, the request matches it, the request has all that the policy counts by, and no
    /// other policy that applies replaces it. `cost` stands in for what the policies say that a request costs.
    pub fn plan(&self, request: &(impl Attributes + ?Sized), now: Timestamp, cost: Option<u32>) -> Plan<'_> {
        let mut plan = self.matching(request, now, cost);
        if self.has_replacements {
            plan.drop_replaced();
        }
        plan
    }

    /// The same with the policies that others replace.
    pub(crate) fn matching(
        &self,
        request: &(impl Attributes + ?Sized),
        now: Timestamp,
        cost: Option<u32>,
    ) -> Plan<'_> {
        let path = self.path_of(request);
        let mut plan = Plan::new(self);
        if self.paths.is_empty() && self.everywhere.by_value.is_empty() {
            // They are in order, and each is there once.
            for candidate in &self.everywhere.always {
                self.apply(&mut plan, *candidate, request, &path, now, cost);
            }
        } else {
            let mut candidates: SmallVec<[Candidate; 16]> = SmallVec::new();
            self.everywhere.collect(request, &path, &mut candidates);
            self.paths.matches(&path, &mut |found| found.collect(request, &path, &mut candidates));
            candidates.sort_unstable();
            candidates.dedup_by_key(|candidate| candidate.policy);
            for candidate in candidates {
                self.apply(&mut plan, candidate, request, &path, now, cost);
            }
        }
        plan
    }

    /// What a request asks of the store, if a single limit is all that can apply to any request: what
    /// [`plan`](Self::plan) says, at less cost. `None` if there may be more to say, and also if nothing applies.
    #[inline(always)]
    pub fn single(
        &self,
        request: &(impl Attributes + ?Sized),
        now: Timestamp,
        cost: Option<u32>,
    ) -> Option<Single<'_>> {
        let candidate = self.single?;
        let compiled = &self.policies[candidate.policy as usize];
        let path = self.path_of(request);
        let (variant, identity) = self.identify(compiled, candidate, request, &path, now)?;
        let [limit] = compiled.variants[variant].limits.as_slice() else { return None };
        let hit = limit.hit(NthKey::new(identity, limit.number()), now);
        let hit = hit.with_cost(cost.unwrap_or_else(|| compiled.cost(request, &path)));
        Some(Single::new(candidate.policy, variant, self.shadow || compiled.shadow, hit))
    }

    /// The path as policies see it, if any of them looks at it.
    #[inline]
    fn path_of<'r>(&self, request: &'r (impl Attributes + ?Sized)) -> Cow<'r, str> {
        if self.reads_path { normalized(request.path()) } else { Cow::Borrowed("") }
    }

    /// Adds a policy's hits to a plan, if the policy applies.
    fn apply<'s>(
        &'s self,
        plan: &mut Plan<'s>,
        candidate: Candidate,
        request: &(impl Attributes + ?Sized),
        path: &str,
        now: Timestamp,
        cost: Option<u32>,
    ) {
        let compiled = &self.policies[candidate.policy as usize];
        let Some((variant, identity)) = self.identify(compiled, candidate, request, path, now) else {
            return;
        };
        let identity = identity.finish();
        let cost = cost.unwrap_or_else(|| compiled.cost(request, path));
        let hit = |limit: &'s Standing| limit.hit(identity.nth(limit.number()), now).with_cost(cost);
        let hits = compiled.variants[variant].limits.iter().map(hit);
        plan.add(candidate.policy, variant, self.shadow || compiled.shadow, hits);
        if compiled.keeps_record
            && let Some(name) = self.recorded_as(candidate, request, path)
        {
            plan.record(candidate.policy, name);
        }
    }

    /// The index of the limits that a request gets from a policy, and what it is counted by; `None` if the policy does not
    /// apply to it.
    #[inline(always)]
    fn identify(
        &self,
        compiled: &Compiled,
        candidate: Candidate,
        request: &(impl Attributes + ?Sized),
        path: &str,
        now: Timestamp,
    ) -> Option<(usize, KeyBuilder)> {
        let variant = compiled.variant_for(request, path, now)?;
        let mut builder = self.hasher;
        for part in &compiled.key {
            // Without what it counts by, a policy does not apply: there is no shared bucket for the anonymous.
            match part {
                // What most count by: the others are told the builder as a value, so that it need not be in memory here.
                KeyPart::Ip => self.client(request)?.write(&mut builder),
                part => builder = self.with_part(builder, part, candidate, request, path)?,
            }
        }
        Some((variant, builder))
    }

    /// The network of the client's address.
    #[inline]
    fn client(&self, request: &(impl Attributes + ?Sized)) -> Option<IpAddr> {
        request.ip().map(|ip| network(ip, self.ipv4_prefix, self.ipv6_prefix))
    }

    /// A key with a further part; `None` if the request lacks it.
    #[inline(never)]
    fn with_part(
        &self,
        mut builder: KeyBuilder,
        part: &KeyPart,
        candidate: Candidate,
        request: &(impl Attributes + ?Sized),
        path: &str,
    ) -> Option<KeyBuilder> {
        match part {
            KeyPart::Ip => self.client(request)?.write(&mut builder),
            KeyPart::Identity => {
                let named = [(0_u64, Attribute::ApiKey), (1, Attribute::User)]
                    .iter()
                    .find_map(|(kind, attribute)| Some((*kind, value(request, attribute, path)?)));
                if let Some((kind, value)) = named {
                    builder.push(&kind);
                    push_value(&mut builder, &value);
                } else {
                    let ip = self.client(request)?;
                    builder.push(&2_u64);
                    ip.write(&mut builder);
                }
            }
            KeyPart::Endpoint => {
                push_value(&mut builder, &request.get(&Attribute::Method).unwrap_or_default());
                let policy = &self.policies[candidate.policy as usize].policy;
                let pattern = policy.paths.get(candidate.pattern as usize);
                builder.push(pattern.map_or(path, Pattern::as_str));
            }
            KeyPart::Global => {}
            KeyPart::Static(word) => builder.push(word.as_str()),
            KeyPart::Attribute(attribute) => push_value(&mut builder, &value(request, attribute, path)?),
            KeyPart::Expression(expression) => {
                push_value(&mut builder, expression.text(request, path)?.as_bytes());
            }
            KeyPart::FirstOf(parts) => {
                return (0_u64..).zip(parts).find_map(|(kind, part)| {
                    let mut own = builder;
                    own.push(&kind);
                    self.with_part(own, part, candidate, request, path)
                });
            }
        }
        Some(builder)
    }

    /// What a request is counted by under a policy, for people: `203.0.113.7`, or `GET /api · 203.0.113.7`. Secrets in it
    /// (API keys, cookies) are shown by their first characters only. `None` if the request lacks it.
    pub fn describe_key(&self, policy: usize, request: &(impl Attributes + ?Sized)) -> Option<String> {
        let path = normalized(request.path());
        let parts =
            self.policy(policy)?.key.iter().map(|part| self.describe_part(part, request, &path, veiled));
        Some(parts.collect::<Option<Vec<_>>>()?.join(" · "))
    }

    /// The first part of a policy's key that a request lacks.
    pub(crate) fn lacking(
        &self,
        policy: &Policy,
        request: &(impl Attributes + ?Sized),
        path: &str,
    ) -> Option<String> {
        let lacking =
            policy.key.iter().find(|part| self.describe_part(part, request, path, veiled).is_none());
        lacking.map(ToString::to_string)
    }

    fn describe_part(
        &self,
        part: &KeyPart,
        request: &(impl Attributes + ?Sized),
        path: &str,
        secret: impl Fn(&str) -> String + Copy,
    ) -> Option<String> {
        let text = |value: Cow<'_, [u8]>| String::from_utf8_lossy(&value).into_owned();
        let ip = || Some(network(request.ip()?, self.ipv4_prefix, self.ipv6_prefix).to_string());
        Some(match part {
            KeyPart::Ip => ip()?,
            KeyPart::Identity => match value(request, &Attribute::ApiKey, path) {
                Some(key) => secret(&text(key)),
                None => value(request, &Attribute::User, path).map(text).or_else(ip)?,
            },
            KeyPart::Endpoint => {
                let method = request.get(&Attribute::Method).map(text).unwrap_or_default();
                format!("{method} {path}")
            }
            KeyPart::Global => "everyone".to_owned(),
            KeyPart::Static(word) => word.clone(),
            KeyPart::Attribute(attribute) if attribute.is_secret() => {
                secret(&text(value(request, attribute, path)?))
            }
            KeyPart::Attribute(attribute) => text(value(request, attribute, path)?),
            KeyPart::Expression(expression) => {
                let given = expression.text(request, path)?;
                if expression.is_secret() { secret(&given) } else { given }
            }
            KeyPart::FirstOf(parts) => {
                parts.iter().find_map(|part| self.describe_part(part, request, path, secret))?
            }
        })
    }

    /// The name by which a policy that keeps a record notes what a request uses. Secrets are hashed; what is longer than
    /// [`NAME_BYTES_MAX`] is cut, and a hash of the whole added.
    fn recorded_as(
        &self,
        candidate: Candidate,
        request: &(impl Attributes + ?Sized),
        path: &str,
    ) -> Option<Box<str>> {
        let policy = &self.policies[candidate.policy as usize].policy;
        let text = match policy.record.as_ref()? {
            RecordBy::Key => None,
            RecordBy::Attribute(attribute) => {
                self.describe_part(&KeyPart::Attribute(attribute.clone()), request, path, |secret| {
                    self.fingerprint(secret)
                })
            }
        };
        let text = match (text, policy.key.as_slice()) {
            (Some(text), _) => text,
            // A single value needs no name.
            (None, [KeyPart::Attribute(_) | KeyPart::Ip | KeyPart::Global | KeyPart::Static(_)]) => {
                self.named_part(policy.key.first()?, candidate, request, path)?.1
            }
            (None, parts) => {
                let named = |part: &KeyPart| {
                    let (name, value) = self.named_part(part, candidate, request, path)?;
                    // So that no value can look like two.
                    Some(format!("{name}={}", value.replace('%', "%25").replace('&', "%26")))
                };
                parts.iter().map(named).collect::<Option<Vec<_>>>()?.join("&")
            }
        };
        if text.len() <= NAME_BYTES_MAX {
            return Some(text.into());
        }
        Some(
            format!("{}…{}", &text[..text.floor_char_boundary(NAME_BYTES_MAX)], self.fingerprint(&text))
                .into(),
        )
    }

    /// A part of a key as a record names it, and its value.
    fn named_part(
        &self,
        part: &KeyPart,
        candidate: Candidate,
        request: &(impl Attributes + ?Sized),
        path: &str,
    ) -> Option<(String, String)> {
        let value = |part: &KeyPart| {
            // An endpoint is counted by the pattern, not by the path.
            let policy = &self.policies[candidate.policy as usize].policy;
            let path = match part {
                KeyPart::Endpoint => {
                    policy.paths.get(candidate.pattern as usize).map_or(path, Pattern::as_str)
                }
                _ => path,
            };
            self.describe_part(part, request, path, |secret| self.fingerprint(secret))
        };
        match part {
            KeyPart::Identity => {
                [KeyPart::Attribute(Attribute::ApiKey), KeyPart::Attribute(Attribute::User), KeyPart::Ip]
                    .iter()
                    .find_map(|part| Some((part.to_string(), value(part)?)))
            }
            KeyPart::FirstOf(parts) => {
                parts.iter().find_map(|part| self.named_part(part, candidate, request, path))
            }
            part => Some((part.to_string(), value(part)?)),
        }
    }

    /// A hash of a secret, by which it can be told from others, and which only who knows the seed can compute.
    fn fingerprint(&self, secret: &str) -> String {
        let mut builder = KeyBuilder::new(&self.seed);
        builder.push("recorded as");
        builder.push(secret);
        format!("#{:032x}", builder.finish().0)
    }
}

/// The longest name of a record.
const NAME_BYTES_MAX: usize = 256;

/// The longest value that is part of a key as it is; what is longer is cut here and its length noted.
const VALUE_BYTES_MAX: usize = 4_096;

/// A value as far as it is looked at.
pub(crate) fn cut(value: &[u8]) -> &[u8] {
    &value[..value.len().min(VALUE_BYTES_MAX)]
}

/// Adds a value of any length in bounded time.
fn push_value(builder: &mut KeyBuilder, value: &[u8]) {
    builder.push(cut(value));
    if value.len() > VALUE_BYTES_MAX {
        builder.push(&value.len());
    }
}

/// The start of a secret.
fn veiled(secret: &str) -> String {
    format!("{}…", secret.chars().take(4.min(secret.chars().count() / 3)).collect::<String>())
}

/// An attribute's value; the path is the normalised one. An empty value is none.
pub(crate) fn value<'r>(
    request: &'r (impl Attributes + ?Sized),
    attribute: &Attribute,
    path: &'r str,
) -> Option<Cow<'r, [u8]>> {
    match attribute {
        Attribute::Path => Some(Cow::Borrowed(path.as_bytes())),
        Attribute::Host => request.get(attribute).map(host).filter(|value| !value.is_empty()),
        _ => request.get(attribute).filter(|value| !value.is_empty()),
    }
}

// Half of the hash will do.
fn number(policy: &Policy, variant: &Variant, seed: KeySeed) -> u64 {
    let mut builder = KeyBuilder::new(&seed);
    builder.push(policy.name.as_str());
    builder.push(&variant.tier.as_deref());
    builder.low()
}

impl Candidates {
    fn add(&mut self, policy: &Policy, candidate: Candidate) {
        let condition = policy.conditions.iter().find_map(|condition| match condition {
            Condition::Is { attribute, values } => Some((attribute, values.clone())),
            _ => None,
        });
        let method = (!policy.methods.is_empty()).then(|| (&Attribute::Method, policy.methods.clone()));
        let Some((attribute, values)) = condition.or(method) else {
            return self.always.push(candidate);
        };
        let known = self.by_value.iter().position(|(known, _)| known == attribute);
        let index = known.unwrap_or_else(|| {
            self.by_value.push((attribute.clone(), ByValue::new()));
            self.by_value.len() - 1
        });
        for value in values {
            self.by_value[index].1.entry(value.into_bytes().into()).or_default().push(candidate);
        }
    }

    fn collect(
        &self,
        request: &(impl Attributes + ?Sized),
        path: &str,
        found: &mut SmallVec<[Candidate; 16]>,
    ) {
        found.extend_from_slice(&self.always);
        for (attribute, values) in &self.by_value {
            if let Some(value) = value(request, attribute, path)
                && let Some(candidates) = values.get(&*value)
            {
                found.extend_from_slice(candidates);
            }
        }
    }
}

/// Whether an attribute has one of these values.
fn is_one_of(
    request: &(impl Attributes + ?Sized),
    path: &str,
    attribute: &Attribute,
    values: &[String],
) -> bool {
    value(request, attribute, path).is_some_and(|value| values.iter().any(|one| one.as_bytes() == &*value))
}

impl Condition {
    /// Whether a request meets it.
    pub(crate) fn holds(&self, request: &(impl Attributes + ?Sized), path: &str) -> bool {
        match self {
            Self::Is { attribute, values } => is_one_of(request, path, attribute, values),
            Self::Like { attribute, patterns } => value(request, attribute, path)
                .is_some_and(|value| patterns.iter().any(|like| like.matches(cut(&value)))),
            Self::From(networks) => request.ip().is_some_and(|ip| networks.contains(ip)),
            Self::When(expression) => expression.holds(request, path),
        }
    }
}

impl Policy {
    /// Whether the request meets the conditions that are not the path's.
    fn matches(&self, request: &(impl Attributes + ?Sized), path: &str) -> bool {
        self.takes_method(request, path)
            && self.conditions.iter().all(|condition| condition.holds(request, path))
    }

    pub(crate) fn takes_method(&self, request: &(impl Attributes + ?Sized), path: &str) -> bool {
        self.methods.is_empty() || is_one_of(request, path, &Attribute::Method, &self.methods)
    }

    /// Which set of limits a request gets.
    fn variant_for(&self, request: &(impl Attributes + ?Sized), path: &str) -> usize {
        let Some(tiers) = &self.tiers else { return 0 };
        let (attribute, by_value) = match &tiers.source {
            TierSource::Attribute(attribute) => (attribute, &tiers.by_name),
            TierSource::Lookup { by, tiers } => (by, tiers),
        };
        let value = value(request, attribute, path);
        let known = value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        known.and_then(|value| by_value.get(value).copied()).unwrap_or(tiers.default)
    }
}
