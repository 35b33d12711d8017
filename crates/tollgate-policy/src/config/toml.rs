//! TOML into a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{DEPTH_MAX, Name, Node, Value};
use crate::problem::Problem;

/// Reads a TOML document.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        Problem::new(error.span().unwrap_or(0..0), format!("this is not valid TOML: {}", error.message()))
    })?;
    let span = table.span();
    Ok(Node { value: map(table.into_inner(), 1)?, span })
}

fn map(table: DeTable<'_>, depth: usize) -> Result<Value, Problem> {
    let mut entries = Vec::with_capacity(table.len());
    for (name, value) in table {
        let name = Name { span: name.span(), text: name.into_inner().into_owned() };
        entries.push((name, node(value, depth)?));
    }
    // The parser sorts by name; people read in the order of the file.
    entries.sort_by_key(|(name, _)| name.span.start);
    Ok(Value::Map(entries))
}

fn node(value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Problem> {
    let span = value.span();
    if depth > DEPTH_MAX {
        return Err(Problem::new(span, format!("this is nested more than {DEPTH_MAX} deep")));
    }
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => return Err(Problem::new(span, "this number is too large")),
        },
        DeValue::Float(number) => Value::Decimal(number.as_str().to_owned()),
        DeValue::Datetime(datetime) => Value::Text(datetime.to_string()),
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| node(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => map(table, depth + 1)?,
    };
    Ok(Node { value, span })
}
