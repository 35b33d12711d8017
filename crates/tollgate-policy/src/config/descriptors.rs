//! Files of envoyproxy/ratelimit.

use std::collections::HashSet;

use tollgate_core::KeySeed;

use super::decode::{Decoder, Fields, shortened};
use super::tree::{Node, Value};
use super::yaml;
use crate::descriptors::{DescriptorRules, Level, MetadataValue, Mode, Rule, ToldApart, Unit};
use crate::problem::{Problem, Problems};

/// The settings of a file, of a descriptor in it, and of its limit.
const FILE: [&str; 2] = ["domain", "descriptors"];
const DESCRIPTOR: [&str; 10] = [
    "key",
    "value",
    "rate_limit",
    "shadow_mode",
    "quota_mode",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
    "descriptors",
];
const RATE_LIMIT: [&str; 5] = ["name", "replaces", "unit", "requests_per_unit", "unlimited"];

impl DescriptorRules {
    /// Whether a text is meant as a file of rules for descriptors: a map with a `domain`, and without `policies`.
    pub fn are_in(text: &str) -> bool {
        // Policy files may be large, and say so early.
        if yaml::has_name(text, "policies") {
            return false;
        }
        let Ok(Node { value: Value::Map(entries), .. }) = yaml::parse(text) else { return false };
        entries.iter().any(|(name, _)| name.text == "domain")
    }

    /// Reads files of rules: their names and texts. `merges` allows several files for one domain. Counts are kept under keys that
    /// are hashed under `seed`.
    ///
    /// # Errors
    /// All that is wrong with each of the files.
    pub fn parse(files: &[(&str, &str)], merges: bool, seed: KeySeed) -> Result<Self, Vec<Problems>> {
        let (mut rules, mut wrong) = (Self::new(seed), Vec::new());
        for (name, text) in files {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            if let Err(problems) = read(&mut rules, text, merges) {
                wrong.push(Problems::new(name, text, problems));
            }
        }
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }
}

fn read(rules: &mut DescriptorRules, text: &str, merges: bool) -> Result<(), Vec<Problem>> {
    let root = yaml::parse(text).map_err(|problem| vec![problem])?;
    let mut decoder = Decoder::default();
    if let Some((domain, level)) = file(&mut decoder, &root)
        && !decoder.has_problems()
        && let Some(name) = decoder.text(domain)
        && let Err(problem) = rules.add(name, level, merges)
    {
        decoder.problem(&domain.span, problem);
    }
    if decoder.has_problems() { Err(decoder.into_problems()) } else { Ok(()) }
}

fn file<'n>(decoder: &mut Decoder, root: &'n Node) -> Option<(&'n Node, Level)> {
    let mut fields = decoder.fields(root, "a map with `domain:` and `descriptors:`")?;
    let domain = fields.take("domain");
    let level = fields.take("descriptors").map(|node| level(decoder, node)).unwrap_or_default();
    let start = fields.span.clone();
    decoder.finish(fields, &FILE);
    let Some(domain) = domain else {
        decoder.hinted(&start, "the file has no `domain`", "write `domain: …`, as requests name it");
        return None;
    };
    if decoder.text(domain)?.is_empty() {
        decoder.problem(&domain.span, "a domain has a name");
    }
    Some((domain, level))
}

/// The rules of a list of descriptors.
fn level(decoder: &mut Decoder, node: &Node) -> Level {
    let mut level = Level::default();
    let Value::List(items) = &node.value else {
        decoder.expected(node, "a list of descriptors");
        return level;
    };
    for item in items {
        let Some(fields) = decoder.fields(item, "a descriptor: a map with `key:`") else { continue };
        let Some(rule) = descriptor(decoder, fields) else { continue };
        let what = match &rule.value {
            Some(value) => format!("`{}` with the value `{}`", shortened(&rule.key), shortened(value)),
            None => format!("`{}` without a value", shortened(&rule.key)),
        };
        if level.add(rule).is_err() {
            decoder.problem(&item.span, format!("there is a descriptor for {what} here already"));
        }
    }
    level
}

fn descriptor(decoder: &mut Decoder, mut fields: Fields<'_>) -> Option<Rule> {
    let span = fields.span.clone();
    let mut rule = Rule::default();
    match fields.take("key") {
        Some(node) => {
            rule.key = decoder.word(node)?;
            if rule.key.is_empty() {
                decoder.problem(&node.span, "a descriptor's key is not empty");
            }
        }
        None => decoder.problem(&span, "the descriptor has no `key`"),
    }
    // An empty value is as none.
    let value = fields.take("value").and_then(|node| decoder.word(node));
    rule.value = value.filter(|value| !value.is_empty());
    let mut flag = |name: &str| fields.take(name).and_then(|node| decoder.flag(node)).unwrap_or(false);
    rule.mode = match (flag("shadow_mode"), flag("quota_mode")) {
        (true, _) => Mode::Shadow,
        (false, true) => Mode::Quota,
        (false, false) => Mode::Enforced,
    };
    rule.told_apart = match (flag("detailed_metric"), flag("value_to_metric")) {
        (true, _) => ToldApart::All,
        (false, true) => ToldApart::Own,
        (false, false) => ToldApart::Asked,
    };
    let share_threshold = fields.take("share_threshold");
    rule.shares_threshold = share_threshold.and_then(|node| decoder.flag(node)).unwrap_or(false);
    if let Some(node) = share_threshold.filter(|_| rule.shares_threshold && !rule.is_wildcard()) {
        decoder.hinted(
            &node.span,
            "only values by a pattern can share a threshold",
            "put a `*` into `value`, or leave `share_threshold` out",
        );
    }
    rule.metadata = fields.take("metadata").map(metadata);
    if let Some(node) = fields.take("rate_limit") {
        rate_limit(decoder, node, &mut rule);
    }
    if let Some(node) = fields.take("descriptors") {
        rule.children = level(decoder, node);
    }
    decoder.finish(fields, &DESCRIPTOR);
    Some(rule)
}

fn rate_limit(decoder: &mut Decoder, node: &Node, rule: &mut Rule) {
    let Some(mut fields) = decoder.fields(node, "a map with `unit:` and `requests_per_unit:`") else {
        return;
    };
    let span = fields.span.clone();
    let name = fields.take("name").and_then(|node| decoder.word(node));
    rule.name = name.filter(|name| !name.is_empty());
    rule.is_unlimited = fields.take("unlimited").and_then(|node| decoder.flag(node)).unwrap_or(false);
    if let Some(node) = fields.take("replaces") {
        replaces(decoder, node, rule);
    }
    let unit = fields.take("unit");
    let requests = fields.take("requests_per_unit");
    match (unit, rule.is_unlimited) {
        (Some(node), true) => decoder.hinted(
            &node.span,
            "what is unlimited has no unit",
            "leave out either `unlimited` or `unit` and `requests_per_unit`",
        ),
        (None, false) => {
            decoder.hinted(&span, "the limit has no `unit`", "write `unit: minute`, or `unlimited: true`");
        }
        (None, true) => {}
        (Some(node), false) => {
            let units = unit_of(decoder, node);
            let requests = requests.map_or(Some(0), |node| decoder.number(node, 0, u32::MAX.into()));
            if let (Some(unit), Some(requests)) = (units, requests) {
                rule.rate = u32::try_from(requests).ok().map(|requests| (requests, unit));
            }
        }
    }
    decoder.finish(fields, &RATE_LIMIT);
}

/// A unit, in capitals or not.
fn unit_of(decoder: &mut Decoder, node: &Node) -> Option<Unit> {
    let text = decoder.text(node)?;
    let found = Unit::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, unit)| *unit);
    if found.is_none() {
        decoder.unknown(&node.span, "unit", text, &Unit::ALL.map(|(name, _)| name));
    }
    found
}

fn replaces(decoder: &mut Decoder, node: &Node, rule: &mut Rule) {
    let mut seen = HashSet::new();
    for item in decoder.list(node) {
        let Some(mut fields) = decoder.fields(item, "a map with `name:`") else { continue };
        let name = fields.take("name");
        decoder.finish(fields, &["name"]);
        let text = name.and_then(|name| decoder.word(name)).unwrap_or_default();
        if text.is_empty() {
            decoder.problem(&item.span, "what is replaced has a name");
        } else if Some(&text) == rule.name.as_ref() {
            decoder.problem(&item.span, "a limit cannot replace itself");
        } else if seen.insert(text.clone()) {
            rule.replaces.push(text);
        }
    }
}

fn metadata(node: &Node) -> MetadataValue {
    match &node.value {
        Value::Null => MetadataValue::Null,
        Value::Bool(value) => MetadataValue::Bool(*value),
        // As its readers have it: a double.
        #[allow(clippy::cast_precision_loss)]
        Value::Integer(number) => MetadataValue::Number(*number as f64),
        Value::Decimal(text) => {
            text.parse().map_or_else(|_| MetadataValue::Text(text.clone()), MetadataValue::Number)
        }
        Value::Text(text) => MetadataValue::Text(text.clone()),
        Value::List(items) => MetadataValue::List(items.iter().map(metadata).collect()),
        Value::Map(entries) => MetadataValue::Map(
            entries.iter().map(|(name, node)| (name.text.clone(), metadata(node))).collect(),
        ),
    }
}
