//! What expressions ask for, and what they must not do.

use cel::Program;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use super::ExpressionError;
use super::compiled::{IP, NAMED, PLAIN};

/// How deep an expression may be nested.
const DEPTH_MAX: usize = 48;
/// What every expression may call, beside operators: each takes time by the length of what it is given, no more.
const FUNCTIONS: [&str; 8] = ["size", "contains", "startsWith", "endsWith", "int", "double", "string", "has"];

/// What an expression asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The attributes of a request.
    Request,
    /// The descriptors of a request, and the limit that the expression is a part of.
    Descriptors,
}

/// The variables of expressions over descriptors: a list of maps, and the limit's name and id.
pub(super) const DESCRIPTORS: &str = "descriptors";
pub(super) const LIMIT: &str = "limit";
/// What a limit says of itself.
const OF_LIMIT: [&str; 2] = ["name", "id"];

impl Subject {
    /// Whether a variable is a map that is asked by names known when the expression is read.
    fn is_named(self, variable: &str) -> bool {
        match self {
            Self::Request => NAMED.iter().any(|(known, _)| *known == variable),
            Self::Descriptors => variable == LIMIT,
        }
    }
}

/// Collects what an expression asks for, and refuses what it must not do.
pub(super) struct Uses<'p> {
    text: &'p str,
    program: &'p Program,
    subject: Subject,
    /// Variables, and names of those that have them; of descriptors that are asked one by one, the number.
    pub(super) found: Vec<(&'p str, Option<String>)>,
    /// The texts in it and the names of fields: what keys of maps may be, for who has to make some up.
    pub(super) words: Vec<&'p str>,
}

impl<'p> Uses<'p> {
    /// What an expression asks of its subject.
    pub(super) fn of(text: &'p str, program: &'p Program, subject: Subject) -> Result<Self, ExpressionError> {
        let mut uses = Self { text, program, subject, found: Vec::new(), words: Vec::new() };
        uses.look(program.expression(), 0)?;
        Ok(uses)
    }

    fn look(&mut self, part: &'p IdedExpr, depth: usize) -> Result<(), ExpressionError> {
        if depth > DEPTH_MAX {
            return Err(self.error(part, format!("an expression is nested at most {DEPTH_MAX} deep")));
        }
        match &part.expr {
            Expr::Literal(literal) => {
                if let LiteralValue::String(text) = literal {
                    self.words.push(text.inner());
                }
                Ok(())
            }
            Expr::Ident(variable) => self.variable(part, variable),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(variable) if self.subject.is_named(variable) => {
                    self.named(part, variable, &select.field)
                }
                Expr::Ident(variable) if self.is_list(variable) => {
                    let field = &select.field;
                    Err(self.error(part, format!("which descriptor is meant? write `{variable}[0].{field}`")))
                }
                _ => {
                    self.words.push(&select.field);
                    self.look(&select.operand, depth + 1)
                }
            },
            Expr::Call(call) => self.call(part, call, depth),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.look(element, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.look(&entry.key, depth + 1)?;
                    self.look(&entry.value, depth + 1)
                }
                EntryExpr::StructField(field) => self.look(&field.value, depth + 1),
            }),
            Expr::Comprehension(_) => {
                Err(self
                    .error(part, "`all`, `exists`, `map` and `filter` cannot be used: nothing here repeats"))
            }
            Expr::Struct(_) | Expr::Unspecified => Err(self.error(part, "no such thing can be made here")),
        }
    }

    fn call(&mut self, part: &'p IdedExpr, call: &'p CallExpr, depth: usize) -> Result<(), ExpressionError> {
        let function = call.func_name.as_str();
        let is_operator = function == "@in" || function.contains('_');
        if !is_operator && !FUNCTIONS.contains(&function) {
            return Err(self.error(
                part,
                format!("there is no function `{function}`; there are {}", quoted(FUNCTIONS.into_iter())),
            ));
        }
        // `header["x"]`, and `"x" in header`.
        let (map, name) = match (function, call.args.as_slice()) {
            ("_[_]", [map, name]) | ("@in", [name, map]) => (map, name),
            (_, arguments) => {
                let target = call.target.as_deref();
                return target.into_iter().chain(arguments).try_for_each(|part| self.look(part, depth + 1));
            }
        };
        match (&map.expr, &name.expr) {
            (Expr::Ident(variable), Expr::Literal(LiteralValue::String(name)))
                if self.subject.is_named(variable) =>
            {
                self.named(part, variable, name.inner())
            }
            (Expr::Ident(variable), _) if self.subject.is_named(variable) => {
                Err(self.error(name, format!("the name of a {variable} is a text in quotes")))
            }
            (Expr::Ident(variable), Expr::Literal(LiteralValue::Int(number))) if self.is_list(variable) => {
                self.found.push((variable, Some(number.inner().to_string())));
                Ok(())
            }
            _ => {
                self.look(map, depth + 1)?;
                self.look(name, depth + 1)
            }
        }
    }

    /// A value of a map, by its name.
    fn named(&mut self, part: &IdedExpr, variable: &'p str, name: &str) -> Result<(), ExpressionError> {
        if self.subject == Subject::Descriptors && !OF_LIMIT.contains(&name) {
            let all = quoted(OF_LIMIT.into_iter());
            return Err(self.error(part, format!("a limit has no `{name}` to be asked; it has {all}")));
        }
        self.found.push((variable, Some(name.to_owned())));
        Ok(())
    }

    fn is_list(&self, variable: &str) -> bool {
        self.subject == Subject::Descriptors && variable == DESCRIPTORS
    }

    fn variable(&mut self, part: &IdedExpr, variable: &'p str) -> Result<(), ExpressionError> {
        if self.subject == Subject::Descriptors {
            return match variable {
                DESCRIPTORS => {
                    self.found.push((variable, None));
                    Ok(())
                }
                LIMIT => Err(self.error(part, "write `limit.name` or `limit.id`")),
                _ => Err(self.error(
                    part,
                    format!("there is no `{variable}` by itself; write `descriptors[0][\"{variable}\"]`"),
                )),
            };
        }
        if self.subject.is_named(variable) {
            let message = format!("which {variable} is meant? write `{variable}[\"name\"]`");
            return Err(self.error(part, message));
        }
        let plain = || PLAIN.iter().map(|(name, _)| *name).chain([IP]);
        if plain().any(|known| known == variable) {
            self.found.push((variable, None));
            return Ok(());
        }
        let all = plain().chain(NAMED.iter().map(|(name, _)| *name));
        Err(self.error(part, format!("a request has no `{variable}`; it has {}", quoted(all))))
    }

    fn error(&self, part: &IdedExpr, message: impl Into<String>) -> ExpressionError {
        let start = self.program.source_info().offset_for(part.id);
        let characters = start.map(|(start, _)| self.text.chars().take(start as usize).count().max(1));
        ExpressionError::at(characters, message)
    }
}

fn quoted<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
