//! Expressions over descriptors, by the crate `cel`.
//!
//! Nearly all ask one entry of one descriptor, and whether it has some value. Those are answered without the language.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, LiteralValue};
use cel::{ExecutionError, Program, Value};

use super::compiled::{LANGUAGE, parsed, text_of};
use super::uses::{DESCRIPTORS, LIMIT, Subject, Uses};
use super::{ExpressionError, Purpose};

pub(super) struct CompiledOver {
    program: Program,
    /// What it is, if it is simple.
    simple: Option<Simple>,
    /// The places of the descriptors that it looks at, if they are known.
    looks_at: Option<Vec<usize>>,
}

/// An entry: the descriptor's place, and the key.
type Entry = (usize, String);

/// What most expressions are.
enum Simple {
    /// `descriptors[0]["user"]`
    Value(Entry),
    /// `descriptors[0]["method"] == "GET"`, or `!=`.
    Compared { entry: Entry, with: String, is_equal: bool },
}

/// The most descriptors that are made up to try an expression: no request has more.
const TRIED_MAX: usize = 128;

impl CompiledOver {
    pub(super) fn new(text: &str, purpose: Purpose) -> Result<Self, ExpressionError> {
        let program = parsed(text)?;
        let uses = Uses::of(text, &program, Subject::Descriptors)?;
        let of_descriptors = || uses.found.iter().filter(|(variable, _)| *variable == DESCRIPTORS);
        let places = of_descriptors().map(|(_, place)| place.as_ref()?.parse().ok());
        let looks_at: Option<Vec<usize>> = places.collect();
        try_on(&program, &uses.words, looks_at.as_deref().unwrap_or_default(), purpose)?;
        let simple = simple(program.expression());
        Ok(Self { program, simple, looks_at })
    }

    pub(super) fn condition(&self, context: &OfLimit<'_>) -> Option<bool> {
        match &self.simple {
            Some(Simple::Compared { entry, with, is_equal }) => {
                Some((context.request.value(entry)? == with) == *is_equal)
            }
            Some(Simple::Value(_)) => None,
            None => match self.program.execute(context.scope()) {
                Ok(Value::Bool(value)) => Some(value),
                _ => None,
            },
        }
    }

    pub(super) fn text(&self, context: &OfLimit<'_>) -> Option<String> {
        match &self.simple {
            Some(Simple::Value(entry)) => context.request.value(entry).map(str::to_owned),
            Some(Simple::Compared { .. }) => self.condition(context).map(|value| value.to_string()),
            None => written(&self.program.execute(context.scope()).ok()?),
        }
    }

    pub(super) fn looks_at(&self) -> Option<&[usize]> {
        self.looks_at.as_deref()
    }
}

fn simple(expression: &IdedExpr) -> Option<Simple> {
    if let Some(entry) = entry(expression) {
        return Some(Simple::Value(entry));
    }
    let Expr::Call(call) = &expression.expr else { return None };
    let is_equal = match call.func_name.as_str() {
        "_==_" => true,
        "_!=_" => false,
        _ => return None,
    };
    let [one, other] = call.args.as_slice() else { return None };
    let (entry, with) = match (entry(one), entry(other)) {
        (Some(entry), None) => (entry, text(other)?),
        (None, Some(entry)) => (entry, text(one)?),
        _ => return None,
    };
    Some(Simple::Compared { entry, with: with.to_owned(), is_equal })
}

/// The entry that an expression asks for, and no more.
fn entry(expression: &IdedExpr) -> Option<Entry> {
    let (descriptor, key) = match &expression.expr {
        Expr::Select(select) if !select.test => (&*select.operand, select.field.as_str()),
        Expr::Call(_) => index(expression).and_then(|(descriptor, key)| Some((descriptor, text(key)?)))?,
        _ => return None,
    };
    let (list, place) = index(descriptor)?;
    match (&list.expr, &place.expr) {
        (Expr::Ident(name), Expr::Literal(LiteralValue::Int(place))) if name == DESCRIPTORS => {
            Some((usize::try_from(*place.inner()).ok()?, key.to_owned()))
        }
        _ => None,
    }
}

/// The parts of `a[b]`.
fn index(expression: &IdedExpr) -> Option<(&IdedExpr, &IdedExpr)> {
    let Expr::Call(call) = &expression.expr else { return None };
    match (call.func_name.as_str(), call.args.as_slice()) {
        ("_[_]", [of, at]) => Some((of, at)),
        _ => None,
    }
}

fn text(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// A value as Limitador writes it.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Null => Some("null".to_owned()),
        value => text_of(value),
    }
}

/// What expressions are computed in: the descriptors of a request.
pub(crate) struct Context<'c> {
    descriptors: &'c [&'c [(&'c str, &'c str)]],
    /// The same for the language, made for the first that needs it.
    scope: OnceCell<cel::Context<'static, 'static>>,
}

/// The same for the expressions of one limit.
pub(crate) struct OfLimit<'c> {
    request: &'c Context<'c>,
    name: Option<&'c str>,
    id: Option<&'c str>,
    scope: OnceCell<cel::Context<'c, 'static>>,
}

impl<'c> Context<'c> {
    /// The descriptors of a request, in their order. Of the values of one key the last counts.
    pub(crate) const fn of_descriptors(descriptors: &'c [&'c [(&'c str, &'c str)]]) -> Self {
        Self { descriptors, scope: OnceCell::new() }
    }

    pub(crate) const fn of_limit(&'c self, name: Option<&'c str>, id: Option<&'c str>) -> OfLimit<'c> {
        OfLimit { request: self, name, id, scope: OnceCell::new() }
    }

    fn value(&self, (place, key): &Entry) -> Option<&'c str> {
        let entries = self.descriptors.get(*place)?;
        entries.iter().rev().find(|(known, _)| known == key).map(|(_, value)| *value)
    }

    fn scope(&self) -> &cel::Context<'static, 'static> {
        self.scope.get_or_init(|| {
            let map = |entries: &&[(&str, &str)]| {
                let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                Value::from(entries.collect::<HashMap<String, String>>())
            };
            let mut context = cel::Context::with_env(Arc::clone(&LANGUAGE));
            let list: Vec<Value> = self.descriptors.iter().map(map).collect();
            context.add_variable_from_value(DESCRIPTORS, list);
            context
        })
    }
}

impl<'c> OfLimit<'c> {
    fn scope(&self) -> &cel::Context<'c, 'static> {
        self.scope.get_or_init(|| {
            let mut context = self.request.scope().new_inner_scope();
            let value = |text: Option<&str>| text.map_or(Value::Null, Value::from);
            let limit = HashMap::from([("name", value(self.name)), ("id", value(self.id))]);
            context.add_variable_from_value(LIMIT, limit);
            context
        })
    }
}

/// Tries an expression on descriptors that have all that it asks for, to find what could never work.
fn try_on(
    program: &Program,
    words: &[&str],
    places: &[usize],
    purpose: Purpose,
) -> Result<(), ExpressionError> {
    // A text that is a number too, as some are read as one.
    let entries: Vec<(&str, &str)> = words.iter().map(|word| (*word, "1")).collect();
    let count = places.iter().max().map_or(1, |last| last.saturating_add(1)).min(TRIED_MAX);
    let descriptors = vec![entries.as_slice(); count];
    let context = Context::of_descriptors(&descriptors);
    let found = match program.execute(context.of_limit(Some("1"), Some("1")).scope()) {
        Err(error @ (ExecutionError::NoSuchOverload(_) | ExecutionError::UndeclaredReference(_))) => {
            return Err(ExpressionError::new(format!("the expression cannot be computed: {error}")));
        }
        // It may well work on other values.
        Err(_) => return Ok(()),
        Ok(value) => value,
    };
    let (fits, wanted) = match purpose {
        Purpose::Condition => (matches!(found, Value::Bool(_)), "true or false"),
        Purpose::Key | Purpose::Cost => (written(&found).is_some(), "a text"),
    };
    if fits {
        return Ok(());
    }
    let found = found.type_of();
    Err(ExpressionError::new(format!("the expression gives a {found} where {wanted} is wanted")))
}

#[cfg(test)]
mod tests {
    use super::super::DescriptorExpression;
    use super::*;

    /// What is answered without the language is answered as by it.
    #[test]
    fn short_ways_lead_to_the_same_place() {
        let entries: [&[(&str, &str)]; 4] =
            [&[], &[("a", "x")], &[("a", "y"), ("a", "x"), ("b", "")], &[("b", "x")]];
        for (text, is_simple) in [
            ("descriptors[0].a == 'x'", true),
            ("descriptors[0]['a'] == 'x'", true),
            ("'x' == descriptors[1].a", true),
            ("descriptors[0].a != 'x'", true),
            ("descriptors[0].b == ''", true),
            ("descriptors[0].a != descriptors[1].a", false),
            ("descriptors[-1].a == 'x'", false),
            ("has(descriptors[0].a)", false),
            ("descriptors[0].a.size() == 1", false),
            ("descriptors[0].a < 'x'", false),
        ] {
            let one = DescriptorExpression::parse_for(text, Purpose::Condition).unwrap();
            let roundabout =
                DescriptorExpression::parse_for(&format!("({text}) && true"), Purpose::Condition);
            assert_eq!(one.compiled.simple.is_some(), is_simple, "{text}");
            let value = DescriptorExpression::parse_for("descriptors[1].a", Purpose::Key).unwrap();
            let added = DescriptorExpression::parse_for("descriptors[1].a + ''", Purpose::Key).unwrap();
            assert!(value.compiled.simple.is_some() && added.compiled.simple.is_none());
            for first in entries {
                for second in entries {
                    let descriptors = [first, second];
                    let context = Context::of_descriptors(&descriptors);
                    let context = context.of_limit(None, None);
                    let other = roundabout.as_ref().unwrap();
                    assert_eq!(one.holds(&context), other.holds(&context), "{text} {descriptors:?}");
                    let written = one.value(&context);
                    assert_eq!(written, other.value(&context), "{text} {descriptors:?}");
                    assert_eq!(value.value(&context), added.value(&context));
                }
            }
        }
    }
}
