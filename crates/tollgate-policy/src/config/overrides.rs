//! Settings from the environment in place of those in the file.
//!
//! `TOLLGATE__POLICIES__LOGIN__LIMIT=10/minute` sets `limit` of the policy named `login`. Parts are separated by two
//! underscores; case does not matter, and `_` also stands for `-`. An item of a list is named by its `name`, or by its
//! number from 0.

use super::tree::{Name, Node, Value};

/// What the names of variables begin with.
pub const ENVIRONMENT_PREFIX: &str = "TOLLGATE__";

/// A variable that names no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} names `{part}`, which the policy file does not have there")]
pub(crate) struct UnknownVariable {
    variable: String,
    part: String,
}

/// Puts the value of a variable in the place that its name says.
///
/// Every part but the last must be there; the last may be new, and is checked with the rest of the file.
pub(super) fn apply(root: &mut Node, variable: &str, value: &str) -> Result<(), UnknownVariable> {
    let unknown = |part: &str| UnknownVariable { variable: variable.to_owned(), part: part.to_lowercase() };
    let path = variable.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(variable);
    let (parents, last) = path.rsplit_once("__").unwrap_or(("", path));
    let mut node = root;
    for part in parents.split("__").filter(|part| !part.is_empty()) {
        node = match &mut node.value {
            Value::Map(entries) => {
                entries.iter_mut().find(|(name, _)| same(&name.text, part)).map(|(_, node)| node)
            }
            Value::List(items) => match part.parse::<usize>() {
                Ok(index) => items.get_mut(index),
                Err(_) => items.iter_mut().find(|item| is_named(item, part)),
            },
            _ => None,
        }
        .ok_or_else(|| unknown(part))?;
    }
    // Positions of what the environment says are those of what it stands in for.
    let span = node.span.clone();
    let set = |span| Node { value: Value::from_plain(value.trim().into()), span };
    match &mut node.value {
        Value::Map(entries) => {
            if let Some((_, node)) = entries.iter_mut().find(|(name, _)| same(&name.text, last)) {
                *node = set(node.span.clone());
            } else {
                let name = Name { text: last.to_lowercase(), span: span.start..span.start };
                entries.push((name, set(span.start..span.start)));
            }
        }
        Value::List(items) => {
            let item = last.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            let item = item.ok_or_else(|| unknown(last))?;
            *item = set(item.span.clone());
        }
        _ => return Err(unknown(last)),
    }
    Ok(())
}

fn is_named(item: &Node, part: &str) -> bool {
    let Value::Map(entries) = &item.value else { return false };
    entries.iter().any(|(name, value)| {
        name.text == "name" && matches!(&value.value, Value::Text(text) if same(text, part))
    })
}

fn same(name: &str, part: &str) -> bool {
    let plain = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
    name.chars().map(plain).eq(part.chars().map(plain))
}
