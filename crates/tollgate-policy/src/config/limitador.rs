//! Files of Limitador.

use tollgate_core::KeySeed;
use tollgate_core::quota::{MAX_COUNT, MAX_PERIOD};

use super::decode::{Decoder, shortened};
use super::tree::{Node, Value};
use super::yaml;
use crate::expression::{DescriptorExpression, Purpose};
use crate::limitador::{LimitadorLimit, LimitadorLimits};
use crate::problem::{Problem, Problems};

/// The settings of a limit.
const LIMIT: [&str; 7] = ["namespace", "max_value", "seconds", "conditions", "variables", "name", "id"];

/// What none does without, and what to write.
const NEEDED: [(&str, &str); 3] = [
    ("namespace", "write `namespace: …`, as requests name it"),
    ("max_value", "Limitador would take 0, which denies everything: write `max_value: 0` if that is meant"),
    ("seconds", "write how long its window lasts, such as `seconds: 60`"),
];

/// The longest window: what no quota goes beyond.
const SECONDS_MAX: i128 = MAX_PERIOD.as_nanos() as i128 / 1_000_000_000;

impl LimitadorLimits {
    /// Whether a text is meant as a file of limits: a list, which no other file is.
    pub fn are_in(text: &str) -> bool {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        yaml::begins_list(text) && yaml::parse(text).is_ok()
    }

    /// Reads a file of limits, which has this name. Counts are kept under keys that are hashed under `seed`.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub fn parse(name: &str, text: &str, seed: KeySeed) -> Result<Self, Problems> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        read(text, seed).map_err(|problems| Problems::new(name, text, problems))
    }
}

fn read(text: &str, seed: KeySeed) -> Result<LimitadorLimits, Vec<Problem>> {
    let root = yaml::parse(text).map_err(|problem| vec![problem])?;
    let mut decoder = Decoder::default();
    let mut limits = LimitadorLimits::new(seed);
    let Value::List(items) = &root.value else {
        decoder.expected(&root, "a list of limits");
        return Err(decoder.into_problems());
    };
    for item in items {
        let Some(limit) = limit(&mut decoder, item) else { continue };
        if let Err(same) = limits.add(limit) {
            decoder.hinted(
                &(item.span.start..item.span.start),
                format!("this limit has the same counters as limit {} of the file", same + 1),
                "Limitador would use only the first: `max_value`, `name` and `id` make no other limit; leave one out",
            );
        }
    }
    if decoder.has_problems() { Err(decoder.into_problems()) } else { Ok(limits) }
}

fn limit(decoder: &mut Decoder, node: &Node) -> Option<LimitadorLimit> {
    let mut fields = decoder.fields(node, "a limit: a map with `namespace:`, `max_value:` and `seconds:`")?;
    let start = fields.span.clone();
    let [namespace, max_value, seconds] = NEEDED.map(|(name, hint)| {
        let node = fields.take(name);
        if node.is_none() {
            decoder.hinted(&start, format!("the limit has no `{name}`"), hint);
        }
        node
    });
    let [conditions, variables] =
        [("conditions", Purpose::Condition), ("variables", Purpose::Key)].map(|(name, purpose)| {
            fields.take(name).map_or(Some(Vec::new()), |node| expressions(decoder, node, purpose))
        });
    let [name, id] = ["name", "id"].map(|name| fields.take(name).map(|node| decoder.word(node)));
    decoder.finish(fields, &LIMIT);

    let namespace = namespace.and_then(|node| {
        let name = decoder.word(node)?;
        if name.is_empty() {
            decoder.problem(&node.span, "a namespace has a name");
        }
        Some(name)
    });
    let max_value = max_value.and_then(|node| decoder.number(node, 0, MAX_COUNT.into()));
    let seconds = seconds.and_then(|node| {
        if node.value == Value::Integer(0) {
            let hint = "to deny everything, write `max_value: 0`";
            decoder.hinted(&node.span, "a window lasts at least a second", hint);
            return None;
        }
        decoder.number(node, 1, SECONDS_MAX)
    });
    let (conditions, variables) = (conditions?, variables?);
    let [max_value, seconds] = [max_value?, seconds?].map(|number| u64::try_from(number).ok());
    let mut limit = LimitadorLimit::new(namespace?, max_value?, seconds?, node.span.clone())?;
    (limit.name, limit.id) = (name.flatten(), id.flatten());
    Some(limit.with(conditions, variables))
}

/// The expressions of a list, if nothing is wrong with any. An empty list is usual.
fn expressions(decoder: &mut Decoder, node: &Node, purpose: Purpose) -> Option<Vec<DescriptorExpression>> {
    let Value::List(items) = &node.value else {
        decoder.expected(node, "a list of expressions");
        return None;
    };
    let mut all = Some(Vec::with_capacity(items.len()));
    for item in items {
        let parsed = decoder.text(item).and_then(|text| expression(decoder, item, text, purpose));
        match (parsed, &mut all) {
            (Some(expression), Some(list)) => list.push(expression),
            _ => all = None,
        }
    }
    all
}

fn expression(
    decoder: &mut Decoder,
    node: &Node,
    text: &str,
    purpose: Purpose,
) -> Option<DescriptorExpression> {
    match DescriptorExpression::parse_for(text.trim(), purpose) {
        Ok(expression) => Some(expression),
        Err(error) => {
            let message = format!("{error}");
            match bare_name(text) {
                Some(name) => decoder.hinted(
                    &node.span,
                    message,
                    format!(
                        "a limit that names `{}` by itself applies to nothing since Limitador 2; its descriptors are a list",
                        shortened(name)
                    ),
                ),
                None => decoder.problem(&node.span, message),
            }
            None
        }
    }
}

/// The name in a text such as `req.method == "GET"` or `user_id`, as files had it before descriptors were a list.
fn bare_name(text: &str) -> Option<&str> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let is_old = rest.is_empty() || rest.starts_with("==") || rest.starts_with("!=");
    let is_ours = ["descriptors", "limit"].contains(&name.split('.').next().unwrap_or_default());
    (is_old && !is_ours && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).then_some(name)
}
