//! From limits of Limitador's.

use super::cel::{is_attribute, is_equality, over_attributes};
use super::draft::Draft;
use super::{Import, Item};
use crate::expression::{Expression, Purpose};
use crate::limitador::{LimitadorLimit, LimitadorLimits};
use crate::problem::{Problem, Problems};

impl Import {
    /// Adds the limits of a file of Limitador's, which has this name and this text.
    pub fn add_limitador(&mut self, name: &str, text: &str, limits: &LimitadorLimits) {
        self.source(name);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let short = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let lines = Problems::new(name, text, Vec::new());
        for (index, limit) in limits.limits().iter().enumerate() {
            let (line, column) = lines.position(&Problem::new(limit.span.clone(), ""));
            let place = format!("{name}:{line}:{column}");
            match draft(limit) {
                Ok(mut draft) => {
                    let by_number = || format!("{}-{}", limit.namespace(), index + 1);
                    draft.name =
                        self.name(&limit.name().or(limit.id()).map_or_else(by_number, str::to_owned));
                    draft.description = format!("Limit {} of {short}", index + 1);
                    self.items.push(Item::Policy(draft));
                }
                Err(message) => self.leave(&place, &message),
            }
        }
    }
}

/// The policy of a limit, but for its name.
fn draft(limit: &LimitadorLimit) -> Result<Draft, String> {
    let mut draft = Draft { values: vec![(domain(), limit.namespace().to_owned())], ..Draft::default() };
    let of_limit = (limit.name(), limit.id());
    for condition in limit.conditions() {
        let turned =
            over_attributes(condition, of_limit).map_err(|error| format!("`{condition}`: {error}"))?;
        if let Some((name, value)) = is_equality(&turned).filter(|(name, _)| is_fit(name)) {
            draft
                .with_value(format!("attribute:{name}"), &value)
                .ok_or_else(|| format!("`{condition}` contradicts another condition, so it never applies"))?;
            continue;
        }
        checked(condition, &turned, Purpose::Condition)?;
        draft.when.push(turned);
    }
    if let Some(all) = draft.condition() {
        checked(&all, &all, Purpose::Condition)?;
    }
    for variable in limit.variables() {
        let turned = over_attributes(variable, of_limit).map_err(|error| format!("`{variable}`: {error}"))?;
        if let Some(name) = is_attribute(&turned).filter(|name| is_fit(name)) {
            draft.key.push(format!("attribute:{name}"));
            continue;
        }
        checked(variable, &turned, Purpose::Key)?;
        draft.key.push(format!("expression: {turned}"));
    }
    let (max_value, seconds) = (limit.max_value(), limit.seconds());
    draft.settings = if max_value == 0 {
        vec![("limit", format!("0/{seconds}s"))]
    } else {
        vec![
            ("algorithm", "token_bucket".to_owned()),
            ("capacity", max_value.to_string()),
            ("refill", format!("{max_value}/{seconds}s")),
            ("refill_style", "interval".to_owned()),
        ]
    };
    Ok(draft)
}

/// Sees to it that policies take an expression.
fn checked(written: &str, turned: &str, purpose: Purpose) -> Result<(), String> {
    if names_domain(turned) {
        return Err(format!("`{written}` asks for an entry `domain`, which is the namespace to policies"));
    }
    Expression::parse_for(turned, purpose).map(drop).map_err(|error| format!("`{written}`: {error}"))
}

/// Whether an expression asks for what is the namespace.
fn names_domain(turned: &str) -> bool {
    let spaceless: String = turned.chars().filter(|c| !c.is_whitespace()).collect();
    ["attribute.domain", "attribute[\"domain\"]", "attribute['domain']"]
        .iter()
        .any(|asked| spaceless.contains(asked))
}

/// The attribute that is the domain, or namespace.
pub(super) fn domain() -> String {
    "attribute:domain".to_owned()
}

/// Whether an attribute of this name can stand in a policy by itself, and is that of an entry.
pub(super) fn is_fit(name: &str) -> bool {
    let is_plain = !name.is_empty() && name.trim() == name && name.len() <= 256 && !name.contains('|');
    is_plain && name != "domain"
}
