//! Expressions over descriptors, by the crate `cel`.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{ExecutionError, Program, Value};

use super::compiled::{LANGUAGE, parsed, text_of};
use super::uses::{DESCRIPTORS, LIMIT, Subject, Uses};
use super::{ExpressionError, Purpose};

pub(super) struct CompiledOver {
    program: Program,
    /// The places of the descriptors that it looks at, if they are known.
    looks_at: Option<Vec<usize>>,
}

/// The most descriptors that are made up to try an expression: no request has more.
const TRIED_MAX: usize = 128;

impl CompiledOver {
    pub(super) fn new(text: &str, purpose: Purpose) -> Result<Self, ExpressionError> {
        let mut compiled = Self { program: parsed(text)?, looks_at: None };
        let uses = Uses::of(text, &compiled.program, Subject::Descriptors)?;
        let of_descriptors = || uses.found.iter().filter(|(variable, _)| *variable == DESCRIPTORS);
        let places = of_descriptors().map(|(_, place)| place.as_ref()?.parse().ok());
        let looks_at: Option<Vec<usize>> = places.collect();
        try_on(&compiled.program, &uses.words, looks_at.as_deref().unwrap_or_default(), purpose)?;
        compiled.looks_at = looks_at;
        Ok(compiled)
    }

    pub(super) fn condition(&self, context: &Context<'_>) -> Option<bool> {
        match self.program.execute(&context.0) {
            Ok(Value::Bool(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self, context: &Context<'_>) -> Option<String> {
        written(&self.program.execute(&context.0).ok()?)
    }

    pub(super) fn looks_at(&self) -> Option<&[usize]> {
        self.looks_at.as_deref()
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

/// What expressions are computed in.
pub(crate) struct Context<'c>(cel::Context<'c, 'c>);

impl Context<'_> {
    /// The descriptors of a request, in their order. Of the values of one key the last counts.
    pub(crate) fn of_descriptors(descriptors: &[&[(&str, &str)]]) -> Self {
        let map = |entries: &&[(&str, &str)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Value::from(entries.collect::<HashMap<String, String>>())
        };
        let mut context = cel::Context::with_env(Arc::clone(&LANGUAGE));
        let list: Vec<Value> = descriptors.iter().map(map).collect();
        context.add_variable_from_value(DESCRIPTORS, list);
        Self(context)
    }

    /// The same for the expressions of a limit.
    pub(crate) fn of_limit(&self, name: Option<&str>, id: Option<&str>) -> Context<'_> {
        let mut context = self.0.new_inner_scope();
        let value = |text: Option<&str>| text.map_or(Value::Null, Value::from);
        let limit = HashMap::from([("name", value(name)), ("id", value(id))]);
        context.add_variable_from_value(LIMIT, limit);
        Context(context)
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
    let descriptors = Context::of_descriptors(&vec![entries.as_slice(); count]);
    let found = match program.execute(&descriptors.of_limit(Some("1"), Some("1")).0) {
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
