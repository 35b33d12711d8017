//! The list of policies.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tollgate_core::quota::parse_length;
use tollgate_core::{Combine, HashedKey, KeyBuilder, KeySeed, Limit, LimitId, Nanos, Sharing};

use super::adaptive;
use super::calendar::zone;
use super::decode::{Decoder, Fields, shortened};
use super::limits::{self, LIMIT_SETTINGS, Manner};
use super::sharing::sharing;
use super::tree::{Name, Node, Value};
use crate::adaptive::HealthRules;
use crate::address::Networks;
use crate::attribute::{ATTRIBUTE_WORDS, Attribute};
use crate::condition::{Condition, Like};
use crate::expression::{Expression, Purpose};
use crate::header::CustomHeader;
use crate::key_part::{EXPRESSION, KeyPart, UnknownKey, key_words};
use crate::path::Pattern;
use crate::policy::{BanRule, Policy, PolicyLimit, RecordBy, TierSource, Tiers, Variant};
use crate::schedule::{Schedule, parse_day, parse_time};

/// The settings of a policy.
pub(super) const KNOWN: [&str; 29] = [
    "name",
    "description",
    "match",
    "key",
    "cost",
    "limits",
    "combine",
    "tiers",
    "priority",
    "enabled",
    "shadow",
    "schedule",
    "replaces",
    "headers",
    "consistency",
    "on_store_failure",
    "ban",
    "adaptive",
    "record",
    "algorithm",
    "limit",
    "burst",
    "capacity",
    "refill",
    "refill_style",
    "initial",
    "leak",
    "calendar",
    "carry_over",
];

/// What stands in `replaces` for all other policies. No policy can have this name.
const EVERY_OTHER: &str = "*";

/// What policies say of others, and of services.
#[derive(Default)]
struct Said {
    replaced: Vec<Replaced>,
    /// The services that they adapt to.
    followed: Vec<(String, Range<usize>)>,
}

/// An item of a policy's `replaces`.
struct Replaced {
    by: String,
    name: String,
    span: Range<usize>,
}

/// All policies of a file that are right, and a note of what is wrong with the others. Those that say what former ones of their
/// name said are these.
pub(super) fn decode(
    decoder: &mut Decoder,
    node: &Node,
    health: &[HealthRules],
    former: &[Arc<Policy>],
) -> Vec<Arc<Policy>> {
    let Value::List(items) = &node.value else {
        decoder.expected(node, "a list of policies");
        return Vec::new();
    };
    let former: HashMap<&str, &Arc<Policy>> = former.iter().map(|policy| (policy.name(), policy)).collect();
    let mut policies = Vec::with_capacity(items.len());
    let mut names = HashSet::with_capacity(items.len());
    let mut said = Said::default();
    for item in items {
        let Some(mut fields) = decoder.fields(item, "a policy: a map with `name:`, `key:` and `limit:`")
        else {
            continue;
        };
        let name_node = fields.take("name");
        match name_node {
            Some(node) => {
                if let Some(name) = name(decoder, node)
                    && !names.insert(name)
                {
                    decoder.problem(&node.span, format!("there are two policies named `{name}`"));
                }
            }
            None => decoder.problem(&fields.span.clone(), "this policy has no `name`"),
        }
        let definition = item.to_json();
        if let Some(Value::Text(name)) = name_node.map(|node| &node.value)
            && let Some(known) = former.get(name.as_str())
            && known.definition.as_deref() == Some(&definition)
            // What one says of others is to be looked at where it is said now.
            && known.replaces.is_empty()
            && known.adaptive.is_none()
        {
            policies.push(Arc::clone(known));
        } else if let Some(policy) = policy(decoder, fields, name_node, &mut said) {
            policies.push(Arc::new(Policy { definition: Some(definition), ..policy }));
        }
    }
    together(decoder, &policies, &names, &said.replaced);
    services(decoder, health, &said.followed);
    policies
}

/// A policy by itself, of this name: its text may leave that out. What it says of other policies is not checked.
pub(super) fn decode_one(decoder: &mut Decoder, mut root: Node, own_name: &str) -> Option<Policy> {
    if let Value::Map(fields) = &mut root.value
        && fields.iter().all(|(field, _)| field.text != "name")
    {
        let span = root.span.start..root.span.start;
        let value = Node { value: Value::Text(own_name.to_owned()), span: span.clone() };
        fields.insert(0, (Name { text: "name".to_owned(), span }, value));
    }
    let mut fields = decoder.fields(&root, "a policy: a map with `key:` and `limit:`")?;
    let name_node = fields.take("name");
    if let Some(node) = name_node
        && let Some(name) = name(decoder, node)
        && name != own_name
    {
        decoder.problem(&node.span, format!("this is the policy `{own_name}`, and not `{name}`"));
    }
    let policy = policy(decoder, fields, name_node, &mut Said::default())?;
    Some(Policy { definition: Some(root.to_json()), ..policy })
}

/// Notes what policies say of each other that cannot be.
pub(super) fn check(decoder: &mut Decoder, policies: &[Arc<Policy>], health: &[HealthRules]) {
    let names: HashSet<&str> = policies.iter().map(|policy| policy.name()).collect();
    let steps: Vec<Replaced> = policies
        .iter()
        .flat_map(|policy| {
            let step = |name: &String| Replaced { by: policy.name.clone(), name: name.clone(), span: 0..0 };
            policy.replaces.iter().map(step)
        })
        .collect();
    together(decoder, policies, &names, &steps);
    let followed = policies.iter().filter_map(|policy| policy.adaptive());
    let followed: Vec<_> = followed.map(|adaptive| (adaptive.to.clone(), 0..0)).collect();
    services(decoder, health, &followed);
}

/// Notes which services policies adapt to that nobody looks after.
fn services(decoder: &mut Decoder, health: &[HealthRules], followed: &[(String, Range<usize>)]) {
    let known: Vec<&str> = health.iter().map(|rules| rules.name.as_str()).collect();
    for (name, span) in followed.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        if known.is_empty() {
            decoder.hinted(
                span,
                format!("nothing says how `{}` fares", shortened(name)),
                "name it under `health:`, with what its health is known by",
            );
        } else {
            decoder.unknown(span, "service", name, &known);
        }
    }
}

/// Notes what policies say of each other that cannot be, where it is said.
fn together(decoder: &mut Decoder, policies: &[Arc<Policy>], names: &HashSet<&str>, steps: &[Replaced]) {
    for Replaced { name, span, .. } in steps {
        if !names.contains(name.as_str()) {
            let mut known: Vec<&str> = names.iter().copied().collect();
            known.sort_unstable();
            decoder.unknown(span, "policy", name, &known);
        }
    }
    // Of many thousands hardly any replaces all others.
    let replace_all: BTreeSet<&str> =
        policies.iter().filter(|policy| policy.replaces_all).map(|policy| policy.name()).collect();
    for Replaced { name, span, .. } in steps {
        if replace_all.contains(name.as_str()) {
            decoder.problem(
                span,
                format!("`{name}` replaces all others, and so this one, so that neither would apply"),
            );
        }
    }
    circles(decoder, steps);
}

/// Notes where policies replace each other, directly or by way of others: where all of them match, none would apply.
fn circles(decoder: &mut Decoder, steps: &[Replaced]) {
    let mut steps_by: HashMap<&str, Vec<&Replaced>> = HashMap::new();
    for step in steps.iter().filter(|step| step.by != step.name) {
        steps_by.entry(&step.by).or_default().push(step);
    }
    // Depth first, each policy once. One that is met again on the way down from itself closes a circle.
    let mut is_open: HashMap<&str, bool> = HashMap::new();
    for Replaced { by, .. } in steps {
        let mut way = Vec::new();
        if !is_open.contains_key(by.as_str()) {
            is_open.insert(by, true);
            way.push((by.as_str(), 0));
        }
        while let Some((name, next)) = way.last_mut() {
            let step = steps_by.get(name).and_then(|steps| steps.get(*next));
            *next += 1;
            let Some(step) = step else {
                is_open.insert(name, false);
                way.pop();
                continue;
            };
            match is_open.get(step.name.as_str()) {
                None => {
                    is_open.insert(&step.name, true);
                    way.push((&step.name, 0));
                }
                Some(true) => decoder.problem(
                    &step.span,
                    format!(
                        "`{}` is replaced by what it replaces, so that neither would apply",
                        shortened(&step.by)
                    ),
                ),
                Some(false) => {}
            }
        }
    }
}

fn policy(
    decoder: &mut Decoder,
    mut fields: Fields<'_>,
    name_node: Option<&Node>,
    said: &mut Said,
) -> Option<Policy> {
    let name = match name_node.map(|node| &node.value) {
        Some(Value::Text(name)) => name.clone(),
        _ => String::new(),
    };
    let description = fields.take("description").and_then(|node| decoder.text(node)).map(str::to_owned);
    let (methods, paths, conditions) = match fields.take("match") {
        Some(node) => matching(decoder, node),
        None => Default::default(),
    };
    let key = if let Some(node) = fields.take("key") {
        decoder.list(node).iter().filter_map(|item| key_part(decoder, item)).collect()
    } else {
        decoder.hinted(
            &fields.span.clone(),
            format!("the policy `{}` has no `key`", shortened(&name)),
            "say what it counts by: `ip`, `api_key`, `user`, …, or `global` for all requests together",
        );
        Vec::new()
    };
    let flag = |decoder: &mut Decoder, node: Option<&Node>| node.and_then(|node| decoder.flag(node));
    let enabled = flag(decoder, fields.take("enabled")).unwrap_or(true);
    let shadow = flag(decoder, fields.take("shadow")).unwrap_or(false);
    let combine = fields.take("combine").and_then(|node| {
        let rules = [("all", Combine::All), ("any", Combine::Any), ("majority", Combine::Majority)];
        decoder.choice(node, "rule", &rules)
    });
    let (cost, cost_by) = fields.take("cost").map_or((1, None), |node| cost(decoder, node));
    let priority = fields.take("priority").and_then(|node| decoder.number(node, -1_000_000, 1_000_000));
    let sharing = sharing(decoder, &mut fields);
    let ban = fields.take("ban").and_then(|node| ban(decoder, node));
    let adaptive = fields.take("adaptive").and_then(|node| adaptive::adaptive(decoder, node));
    let record_node = fields.take("record");
    let record = record_node.and_then(|node| record(decoder, node));
    let schedule = fields.take("schedule").and_then(|node| schedule(decoder, node));
    let headers = fields.take("headers").map(|node| headers(decoder, node)).unwrap_or_default();
    let (mut replaces, mut replaces_all) = (Vec::new(), false);
    for node in fields.take("replaces").map(|node| decoder.list(node)).unwrap_or_default() {
        let Some(other) = decoder.text(node) else { continue };
        if other == EVERY_OTHER {
            replaces_all = true;
            continue;
        }
        if other == name {
            decoder.problem(&node.span, "a policy cannot replace itself");
        }
        said.replaced.push(Replaced { by: name.clone(), name: other.to_owned(), span: node.span.clone() });
        replaces.push(other.to_owned());
    }
    let variants = variants(decoder, &mut fields, &name);
    if variants.is_none() {
        // What is wrong with the limits has been said; the rest of them may well be right.
        for setting in LIMIT_SETTINGS {
            fields.take(setting);
        }
    }
    decoder.finish(fields, &KNOWN);
    let (mut variants, tiers) = variants?;
    if let Some((adaptive, span)) = &adaptive {
        said.followed.push((adaptive.to.clone(), span.clone()));
        for variant in &mut variants {
            if let Err(error) = variant.reduce(adaptive.scaling) {
                decoder.problem(span, format!("a limit cannot be reduced: {error}"));
            }
        }
    }
    if let (Some(_), Some(node)) = (&record, record_node) {
        let has_periods = |limit: &PolicyLimit| matches!(limit.limit, Limit::FixedWindow(_));
        if !variants.iter().flat_map(|variant| &variant.limits).any(has_periods) {
            decoder.hinted(
                &node.span,
                "a record goes by the periods of a limit, and this policy has no `quota` and no `fixed_window`",
                "write `algorithm: quota`",
            );
        }
    }
    let usual = key.iter().map(KeyPart::priority).max().unwrap_or(0);
    Some(Policy {
        name,
        description,
        priority: priority.and_then(|number| i32::try_from(number).ok()).unwrap_or(usual),
        enabled,
        shadow,
        schedule,
        methods,
        paths,
        conditions,
        key,
        tiers,
        variants,
        combine: combine.unwrap_or_default(),
        cost,
        cost_by,
        sharing,
        adaptive: adaptive.map(|(adaptive, _)| adaptive),
        ban,
        replaces,
        replaces_all,
        headers,
        record,
        definition: None,
    })
}

/// A name that may stand in headers, metrics and addresses.
pub(super) fn name<'n>(decoder: &mut Decoder, node: &'n Node) -> Option<&'n str> {
    let text = decoder.text(node)?;
    checked_name(decoder, &node.span, text)
}

/// The same of a name that stands before a colon.
pub(super) fn checked_name<'n>(decoder: &mut Decoder, span: &Range<usize>, text: &'n str) -> Option<&'n str> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if text.is_empty() || text.len() > 100 || !text.bytes().all(fine) {
        decoder.hinted(
            span,
            format!("`{}` is no name", shortened(text)),
            "a name has 1 to 100 letters, digits, `-`, `_`, `.` and `/`",
        );
        return None;
    }
    Some(text)
}

fn matching(decoder: &mut Decoder, node: &Node) -> (Vec<String>, Vec<Pattern>, Vec<Condition>) {
    let (mut methods, mut paths, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    let Some(mut fields) = decoder.fields(node, "a map with `method:`, `path:`, `ip:`, `where:` and `when:`")
    else {
        return (methods, paths, conditions);
    };
    for node in fields.take("method").map(|node| decoder.list(node)).unwrap_or_default() {
        let Some(method) = decoder.text(node) else { continue };
        if method.is_empty() || method.len() > 32 || !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            decoder.hinted(
                &node.span,
                format!("`{}` is no method", shortened(method)),
                "write `GET`, or leave `method` out for any",
            );
        }
        methods.push(method.to_ascii_uppercase());
    }
    for node in fields.take("path").map(|node| decoder.list(node)).unwrap_or_default() {
        let Some(text) = decoder.text(node) else { continue };
        match Pattern::parse(text) {
            Ok(pattern) => paths.push(pattern),
            Err(error) => decoder.problem(&node.span, error.to_string()),
        }
    }
    if let Some(node) = fields.take("where")
        && let Some(mut fields) = decoder.fields(node, "a map from attributes to values")
    {
        for (name, span, node) in fields.rest() {
            let Some(attribute) = attribute(decoder, &span, name) else { continue };
            if let Value::Map(_) = node.value {
                conditions.extend(like(decoder, attribute, node));
                continue;
            }
            let values = decoder.list(node).iter().filter_map(|value| decoder.word(value));
            let values = values.map(|value| attribute.spelt(value)).collect();
            conditions.push(Condition::Is { attribute, values });
        }
    }
    if let Some(node) = fields.take("ip") {
        let mut networks = Vec::new();
        for node in decoder.list(node) {
            let Some(text) = decoder.text(node) else { continue };
            match Networks::parse([text]) {
                Ok(network) => networks.extend(network.iter()),
                Err(error) => decoder.problem(&node.span, error.to_string()),
            }
        }
        conditions.push(Condition::From(Networks::new(networks)));
    }
    if let Some(node) = fields.take("when") {
        let parsed = decoder.text(node).and_then(|text| expression(decoder, node, text, Purpose::Condition));
        conditions.extend(parsed.map(Condition::When));
    }
    decoder.finish(fields, &["method", "path", "ip", "where", "when"]);
    (methods, paths, conditions)
}

/// A condition that is written as a map: patterns.
fn like(decoder: &mut Decoder, attribute: Attribute, node: &Node) -> Option<Condition> {
    /// What no pattern needs to be longer than, nor a condition more of.
    const LENGTH_MAX: usize = 256;
    const PATTERNS_MAX: usize = 256;

    let mut fields = decoder.fields(node, "a value, or a map with `like:`")?;
    let list = fields.take("like");
    if list.is_none() {
        decoder.hinted(&fields.span.clone(), "there are no patterns", "write `{ like: ['*bot*'] }`");
    }
    decoder.finish(fields, &["like"]);
    let list = list?;
    let mut patterns = Vec::new();
    for node in decoder.list(list) {
        let Some(text) = decoder.word(node) else { continue };
        if text.len() > LENGTH_MAX {
            decoder.problem(&node.span, format!("a pattern has at most {LENGTH_MAX} bytes"));
        }
        patterns.push(Like::new(&text));
    }
    if patterns.len() > PATTERNS_MAX {
        decoder.problem(&list.span, format!("a condition has at most {PATTERNS_MAX} patterns"));
    }
    Some(Condition::Like { attribute, patterns })
}

fn attribute(decoder: &mut Decoder, span: &Range<usize>, text: &str) -> Option<Attribute> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let known: Vec<&str> = ATTRIBUTE_WORDS.to_vec();
        decoder.unknown(span, "attribute", text, &known);
    }
    parsed
}

/// `{ after: 10/minute, for: 15m }`.
fn ban(decoder: &mut Decoder, node: &Node) -> Option<BanRule> {
    let mut fields = decoder.fields(node, "a map with `after:` and `for:`")?;
    let (after, length) = (fields.take("after"), fields.take("for"));
    decoder.finish(fields, &["after", "for"]);
    let (Some(after), Some(length)) = (after, length) else {
        decoder.hinted(
            &node.span,
            "a ban needs `after`, how many denials are put up with, and `for`, how long it lasts",
            "write `ban: { after: 10/minute, for: 15m }`",
        );
        return None;
    };
    let after = limits::denials(decoder, after);
    let text = decoder.text(length)?;
    match parse_length(text.trim()) {
        Ok(Nanos::ZERO) => {
            decoder.hinted(&length.span, "a ban of no length bans nobody", "leave `ban` out");
            None
        }
        Ok(length) => Some(BanRule { after: after?, length }),
        Err(error) => {
            decoder.hinted(&length.span, error.to_string(), "write `30s`, `15m`, `12h` or `7d`");
            None
        }
    }
}

/// `true`, or the attribute by whose value identities are named.
fn record(decoder: &mut Decoder, node: &Node) -> Option<RecordBy> {
    match &node.value {
        Value::Bool(wanted) => wanted.then_some(RecordBy::Key),
        Value::Text(text) => attribute(decoder, &node.span, text).map(RecordBy::Attribute),
        _ => {
            decoder.expected(node, "true, or an attribute that names who used it, as `claim:customer`");
            None
        }
    }
}

/// What a request costs, and what computes it instead.
fn cost(decoder: &mut Decoder, node: &Node) -> (u32, Option<Expression>) {
    if let Value::Text(text) = &node.value {
        return (1, expression(decoder, node, text, Purpose::Cost));
    }
    let number = decoder.number(node, 0, u32::MAX.into());
    (number.and_then(|number| u32::try_from(number).ok()).unwrap_or(1), None)
}

fn expression(decoder: &mut Decoder, node: &Node, text: &str, purpose: Purpose) -> Option<Expression> {
    let parsed = Expression::parse_for(text.trim(), purpose);
    parsed.map_err(|error| decoder.problem(&node.span, error.to_string())).ok()
}

fn key_part(decoder: &mut Decoder, node: &Node) -> Option<KeyPart> {
    let text = decoder.text(node)?;
    if let Some(text) = text.strip_prefix(EXPRESSION) {
        return expression(decoder, node, text, Purpose::Key).map(KeyPart::Expression);
    }
    match text.parse() {
        Ok(part) => Some(part),
        Err(UnknownKey(wrong)) => {
            decoder.unknown(&node.span, "key", &wrong, &key_words().collect::<Vec<_>>());
            None
        }
    }
}

fn schedule(decoder: &mut Decoder, node: &Node) -> Option<Schedule> {
    let mut fields = decoder.fields(node, "a map with `days:`, `hours:` and `zone:`")?;
    let days_node = fields.take("days");
    let mut days = [days_node.is_none(); 7];
    for node in days_node.map(|node| decoder.list(node)).unwrap_or_default() {
        let text = decoder.text(node)?;
        match parse_day(text) {
            Some(day) => days[day] = true,
            None => decoder.hinted(
                &node.span,
                format!("`{}` is no day", shortened(text)),
                "write `mon`, `tue`, …",
            ),
        }
    }
    let hours = fields.take("hours").and_then(|node| {
        let text = decoder.text(node)?;
        let hours = text.split_once('-').and_then(|(from, to)| Some((parse_time(from)?, parse_time(to)?)));
        if hours.is_none_or(|(from, to)| from == to) {
            decoder.hinted(&node.span, format!("`{}` are no hours", shortened(text)), "write `09:00-17:00`");
        }
        hours
    });
    let zone = match fields.take("zone") {
        None => Some(TimeZone::UTC),
        Some(node) => zone(decoder, node).map(|(zone, _)| zone),
    };
    decoder.finish(fields, &["days", "hours", "zone"]);
    Some(Schedule { days, hours, zone: zone? })
}

fn headers(decoder: &mut Decoder, node: &Node) -> Vec<CustomHeader> {
    let Some(mut fields) = decoder.fields(node, "a map from header names to values") else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, span, node) in fields.rest() {
        let Some(value) = decoder.word(node) else { continue };
        match CustomHeader::parse(name, &value) {
            Ok(header) => headers.push(header),
            Err(error) => decoder.problem(&(span.start..node.span.end), error.to_string()),
        }
    }
    headers
}

/// The limits of a policy: `limits:`, `tiers:`, or settings of its own.
fn variants(
    decoder: &mut Decoder,
    fields: &mut Fields<'_>,
    policy: &str,
) -> Option<(Vec<Variant>, Option<Tiers>)> {
    let (list, tiers) = (fields.take("limits"), fields.take("tiers"));
    let mut span = fields.span.clone();
    let mut found = match (list, tiers) {
        (Some(node), None) => {
            span = node.span.clone();
            (
                vec![Variant {
                    tier: None,
                    limits: limit_list(decoder, node, &Manner::default()),
                    reduced: None,
                }],
                None,
            )
        }
        (None, Some(node)) => {
            span = node.span.clone();
            let manner = Manner::default().take(decoder, fields).unwrap_or_default();
            self::tiers(decoder, node, &manner)?
        }
        (Some(_), Some(node)) => {
            decoder.problem(
                &node.span,
                "a policy has either `limits` or `tiers`; put the limits into the tiers",
            );
            return None;
        }
        (None, None) => {
            let limit = limits::from_fields(decoder, fields, &Manner::default())?;
            let limit = PolicyLimit { id: LimitId::default(), name: None, limit };
            (vec![Variant { tier: None, limits: vec![limit], reduced: None }], None)
        }
    };
    for setting in LIMIT_SETTINGS {
        if let Some(node) = fields.take_left(setting) {
            decoder.problem(&node.span, format!("`{setting}` belongs into the items of `limits` or `tiers`"));
        }
    }
    for variant in &mut found.0 {
        if variant.limits.len() > 16 {
            decoder.problem(&span, "a policy has at most 16 limits");
        }
        for index in 0..variant.limits.len() {
            let (before, limit) = variant.limits.split_at_mut(index);
            if let Some(limit) = limit.first_mut() {
                // A limit with a name is known by that, wherever it stands.
                let like = before.iter().filter(|other| other.name == limit.name).count();
                limit.id = limit_id(policy, variant.tier.as_deref(), limit.name.as_deref(), like);
            }
        }
    }
    Some(found)
}

/// The only policy of a configuration that is made in a program: for every request.
pub(super) fn only(key: Vec<KeyPart>, limit: Limit) -> Policy {
    /// It is told to clients, so it says nothing.
    const NAME: &str = "default";

    let limit = PolicyLimit { id: limit_id(NAME, None, None, 0), name: None, limit };
    Policy {
        name: NAME.to_owned(),
        description: None,
        priority: 0,
        enabled: true,
        shadow: false,
        schedule: None,
        methods: Vec::new(),
        paths: Vec::new(),
        conditions: Vec::new(),
        key,
        tiers: None,
        variants: vec![Variant { tier: None, limits: vec![limit], reduced: None }],
        combine: Combine::All,
        cost: 1,
        cost_by: None,
        sharing: Sharing::DEFAULT,
        adaptive: None,
        ban: None,
        replaces: Vec::new(),
        replaces_all: false,
        headers: Vec::new(),
        record: None,
        definition: None,
    }
}

/// The identity of a limit, the same in every process.
fn limit_id(policy: &str, tier: Option<&str>, name: Option<&str>, index: usize) -> LimitId {
    let mut builder = KeyBuilder::new(&KeySeed::new([0; 16]));
    builder.push(policy);
    builder.push(&tier);
    builder.push(&name);
    builder.push(&index);
    // Half of the hash is enough to tell a configuration's limits apart.
    LimitId(builder.low())
}

fn limit_list(decoder: &mut Decoder, node: &Node, manner: &Manner) -> Vec<PolicyLimit> {
    decoder.list(node).iter().filter_map(|item| limits::decode(decoder, item, manner)).collect()
}

fn tiers(decoder: &mut Decoder, node: &Node, manner: &Manner) -> Option<(Vec<Variant>, Option<Tiers>)> {
    let mut fields = decoder.fields(node, "a map with `from:`, `default:` and `limits:`")?;
    let span = fields.span.clone();
    let (from, lookup) = (fields.take("from"), fields.take("lookup"));
    let (default, limits) = (fields.take("default"), fields.take("limits"));
    decoder.finish(fields, &["from", "lookup", "default", "limits"]);
    let Some(limits) = limits else {
        decoder.hinted(&span, "the tiers have no `limits`", "write `limits: { free: 100/hour, … }`");
        return None;
    };
    let mut variants = Vec::new();
    for (tier, _, node) in decoder.fields(limits, "a map from tiers to limits")?.rest() {
        let limits = limit_list(decoder, node, manner);
        variants.push(Variant { tier: Some(tier.to_owned()), limits, reduced: None });
    }
    let names: Vec<&str> = variants.iter().filter_map(Variant::tier).collect();
    let by_name: HashMap<String, usize> =
        names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), index)).collect();
    let tier_of = |decoder: &mut Decoder, node: &Node| {
        let text = decoder.text(node)?;
        let index = by_name.get(text).copied();
        if index.is_none() {
            decoder.unknown(&node.span, "tier", text, &names);
        }
        index
    };
    let default = if let Some(node) = default {
        tier_of(decoder, node)
    } else {
        decoder.hinted(
            &span,
            "the tiers have no `default`",
            "say which tier a request of no known tier gets",
        );
        None
    };
    let source = match (from, lookup) {
        (Some(node), None) => {
            let text = decoder.text(node)?;
            TierSource::Attribute(attribute(decoder, &node.span, text)?)
        }
        (None, Some(node)) => {
            let mut fields = decoder.fields(node, "a map with `by:` and `values:`")?;
            let (by, values) = (fields.take("by"), fields.take("values"));
            decoder.finish(fields, &["by", "values"]);
            let (Some(by), Some(values)) = (by, values) else {
                decoder
                    .problem(&node.span, "a lookup needs `by`, an attribute, and `values`, a map to tiers");
                return None;
            };
            let text = decoder.text(by)?;
            let by = attribute(decoder, &by.span, text)?;
            let entries = decoder.fields(values, "a map from values to tiers")?.rest();
            let tiers = entries
                .into_iter()
                .filter_map(|(value, _, node)| Some((value.to_owned(), tier_of(decoder, node)?)))
                .collect();
            TierSource::Lookup { by, tiers }
        }
        _ => {
            decoder.hinted(
                &span,
                "the tiers need either `from` or `lookup`",
                "write `from: attribute:plan`, or `lookup: { by: api_key, values: { … } }`",
            );
            return None;
        }
    };
    Some((variants, Some(Tiers { source, default: default?, by_name })))
}
