//! Expressions by the crate `cel`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, Program, Value};

use super::uses::{Subject, Uses};
use super::{ExpressionError, Purpose};
use crate::attribute::{Attribute, Attributes};
use crate::set::{cut, value as value_of};

/// The longest expression, in bytes.
pub(super) const BYTES_MAX: usize = 1_000;
/// Room for the parser, which calls itself for each level with much on the stack: twice what the deepest needs in a build for
/// debugging. It is taken of the address space only, as long as it is not used.
const PARSER_STACK_BYTES: usize = 64 << 20;

/// The functions and operators of the language, without its optional values.
pub(super) static LANGUAGE: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// The attributes that are variables.
pub(super) const PLAIN: [(&str, Attribute); 7] = [
    ("method", Attribute::Method),
    ("path", Attribute::Path),
    ("host", Attribute::Host),
    ("route", Attribute::Route),
    ("user", Attribute::User),
    ("api_key", Attribute::ApiKey),
    ("bearer", Attribute::Bearer),
];

/// Makes an attribute of a name.
pub(super) type Named = fn(String) -> Attribute;

/// The attributes that have names: maps from them to values.
pub(super) const NAMED: [(&str, Named); 5] = [
    ("header", |name| Attribute::Header(name.to_ascii_lowercase())),
    ("query", Attribute::Query),
    ("cookie", Attribute::Cookie),
    ("claim", Attribute::Claim),
    ("attribute", Attribute::Custom),
];

/// The client's address, as a text.
pub(super) const IP: &str = "ip";

pub(super) struct Compiled {
    program: Program,
    /// The attributes that are variables, of those that it asks for.
    plain: Vec<(&'static str, Attribute)>,
    /// The others, by their variable and their name as it is written.
    named: Vec<(&'static str, Vec<(String, Attribute)>)>,
    asks_for_ip: bool,
}

impl Compiled {
    pub(super) fn new(text: &str) -> Result<Self, ExpressionError> {
        let mut compiled =
            Self { program: parsed(text)?, plain: Vec::new(), named: Vec::new(), asks_for_ip: false };
        for (variable, name) in Uses::of(text, &compiled.program, Subject::Request)?.found {
            match name {
                None if variable == IP => compiled.asks_for_ip = true,
                None => {
                    let known = PLAIN.into_iter().filter(|(known, _)| *known == variable);
                    compiled.plain.extend(known);
                }
                Some(name) => {
                    for (known, attribute) in NAMED.into_iter().filter(|(known, _)| *known == variable) {
                        let place = compiled.named.iter().position(|(of, _)| *of == known);
                        let place = place.unwrap_or_else(|| {
                            compiled.named.push((known, Vec::new()));
                            compiled.named.len() - 1
                        });
                        compiled.named[place].1.push((name.clone(), attribute(name.clone())));
                    }
                }
            }
        }
        Ok(compiled)
    }

    /// Tries it on a request that has all that it asks for, to find what could never work.
    pub(super) fn check(&self, purpose: Purpose) -> Result<(), ExpressionError> {
        // A text that is a number too, as some are read as one.
        let given = self.evaluate(|_| Some("1".to_owned()), || Some("192.0.2.1".to_owned()));
        let wanted = match purpose {
            Purpose::Condition => "true or false",
            Purpose::Key => "a text",
            Purpose::Cost => "a whole number",
        };
        let found = match given {
            Err(error @ (ExecutionError::NoSuchOverload(_) | ExecutionError::UndeclaredReference(_))) => {
                return Err(ExpressionError::new(format!("the expression cannot be computed: {error}")));
            }
            // It may well work on other values.
            Err(_) => return Ok(()),
            Ok(value) => value,
        };
        let fits = match purpose {
            Purpose::Condition => matches!(found, Value::Bool(_)),
            Purpose::Key => text_of(&found).is_some(),
            Purpose::Cost => matches!(found, Value::Int(_)),
        };
        if fits {
            return Ok(());
        }
        let found = found.type_of();
        Err(ExpressionError::new(format!("the expression gives a {found} where {wanted} is wanted")))
    }

    pub(super) fn condition(&self, request: &(impl Attributes + ?Sized), path: &str) -> Option<bool> {
        match self.ask(request, path)? {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self, request: &(impl Attributes + ?Sized), path: &str) -> Option<String> {
        text_of(&self.ask(request, path)?)
    }

    pub(super) fn number(&self, request: &(impl Attributes + ?Sized), path: &str) -> Option<i64> {
        match self.ask(request, path)? {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn reads_path(&self) -> bool {
        self.plain.iter().any(|(_, attribute)| *attribute == Attribute::Path)
    }

    pub(super) fn is_secret(&self) -> bool {
        let named = self.named.iter().flat_map(|(_, names)| names).map(|(_, attribute)| attribute);
        self.plain.iter().map(|(_, attribute)| attribute).chain(named).any(Attribute::is_secret)
    }

    /// What it gives for a request.
    fn ask(&self, request: &(impl Attributes + ?Sized), path: &str) -> Option<Value> {
        // As conditions and keys see it: a host without capitals, port and final dot.
        let value = |attribute: &Attribute| {
            let value = value_of(request, attribute, path)?;
            Some(String::from_utf8_lossy(cut(&value)).into_owned())
        };
        let ip = || request.ip().map(|ip| crate::address::canonical(ip).to_string());
        self.evaluate(value, ip).ok()
    }

    fn evaluate(
        &self,
        value: impl Fn(&Attribute) -> Option<String>,
        ip: impl FnOnce() -> Option<String>,
    ) -> Result<Value, ExecutionError> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        for (variable, attribute) in &self.plain {
            context.add_variable_from_value(*variable, value(attribute).map_or(Value::Null, Value::from));
        }
        for (variable, names) in &self.named {
            let found = names.iter().filter_map(|(name, attribute)| Some((name.clone(), value(attribute)?)));
            context.add_variable_from_value(*variable, found.collect::<HashMap<String, String>>());
        }
        if self.asks_for_ip {
            context.add_variable_from_value(IP, ip().map_or(Value::Null, Value::from));
        }
        self.program.execute(&context)
    }
}

pub(super) fn parsed(text: &str) -> Result<Program, ExpressionError> {
    if text.len() > BYTES_MAX {
        return Err(ExpressionError::new(format!("an expression has at most {BYTES_MAX} bytes")));
    }
    let compile = || LANGUAGE.compile(text);
    let compiled = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("tollgate-expression".to_owned());
        Some(builder.stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, compile).ok()?.join())
    });
    let errors = match compiled {
        Some(Ok(Ok(program))) => return Ok(program),
        Some(Ok(Err(errors))) => errors.errors,
        // Neither is known to happen: the parser limits its own depth.
        Some(Err(_)) | None => return Err(ExpressionError::new("the expression cannot be read")),
    };
    // The first that says what is wrong; others follow from it.
    let error = errors.iter().find(|error| error.msg.starts_with(SYNTAX)).or(errors.first());
    let Some(error) = error else { return Err(ExpressionError::new("the expression cannot be read")) };
    let message = error.msg.strip_prefix(SYNTAX).unwrap_or(&error.msg);
    // Not the list of everything that could stand there.
    let message = message.split(" expecting {").next().unwrap_or(message);
    let message = message.replace("'<EOF>'", "the end").replace("mismatched input", "did not expect");
    Err(ExpressionError::at(usize::try_from(error.pos.1).ok(), message))
}

const SYNTAX: &str = "Syntax error: ";

pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expression;
    use super::*;
    use crate::attribute::Request;

    fn request() -> Request {
        Request::new("GET", "/a//b?n=3&text=x%20y")
            .with_ip("::ffff:203.0.113.7".parse().unwrap())
            .with_header("X-Tenant", "acme")
            .with_api_key("k-1")
    }

    #[test]
    fn expressions_ask_requests() {
        for (text, holds) in [
            ("method == 'GET' && path == '/a/b'", true),
            (r#"header["X-Tenant"] == "acme""#, true),
            (r#"header["x-other"] == "acme""#, false),
            (r#"header["x-other"] != "acme""#, false),
            (r#"!("x-other" in header) && "x-tenant" in header"#, true),
            ("has(header.host) || has(query.n)", true),
            (r#"header["x-other"] == "a" || true"#, true),
            ("int(query.n) * 2 + 1 == 7", true),
            ("int(query.text) == 7", false),
            ("query.text.startsWith('x ') && size(query.text) == 3", true),
            ("ip == '203.0.113.7'", true),
            ("user == null && user != 'anna'", true),
            ("method in ['GET', 'HEAD']", true),
            ("api_key == 'k-1' ? true : false", true),
            ("1 / 0 == 1", false),
            ("path", false),
        ] {
            assert_eq!(Expression::parse(text).unwrap().is_true(&request()), holds, "{text}");
        }
    }

    #[test]
    fn what_it_gives_is_a_key_or_a_cost() {
        let text = |text: &str| Expression::parse(text).unwrap().text(&request(), "/a/b");
        assert_eq!(text("header['x-tenant'] + '/' + query.n").as_deref(), Some("acme/3"));
        assert_eq!(text("size(path)").as_deref(), Some("4"));
        assert_eq!(text("header['x-none']"), None);
        assert_eq!(text("''"), None);
        let cost = |text: &str| Expression::parse(text).unwrap().cost(&request(), "/a/b");
        assert_eq!(cost("int(query.n) * 10"), Some(30));
        assert_eq!(cost("1 - int(query.n)"), None);
        assert_eq!(cost("int(query.missing)"), None);
        assert_eq!(cost("9223372036854775807"), Some(u32::MAX));
        assert_eq!(cost("9223372036854775807 + 1"), None);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (text, message) in [
            ("", "did not expect the end"),
            ("path ==", "at character 8 of the expression: did not expect the end"),
            ("pfad == '/'", "a request has no `pfad`; it has `method`"),
            ("header == 'a'", "which header is meant?"),
            ("header[path] == 'a'", "the name of a header is a text in quotes"),
            ("path.matches('a+')", "there is no function `matches`"),
            ("[1, 2].all(x, x > 0)", "nothing here repeats"),
            ("a{b: 1}", "no such thing"),
        ] {
            let error = Expression::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        for (text, purpose, message) in [
            ("path > 5", Purpose::Condition, "cannot be computed"),
            ("path", Purpose::Condition, "gives a string where true or false is wanted"),
            ("[path]", Purpose::Key, "where a text is wanted"),
            ("path", Purpose::Cost, "where a whole number is wanted"),
        ] {
            let error = Expression::parse_for(text, purpose).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = [
            format!("{}true{}", "(".repeat(400), ")".repeat(400)),
            format!("{}true", "!".repeat(900)),
            format!("{}1 == 1", "-".repeat(900)),
            format!("1{} == 1", " + 1".repeat(200)),
            format!("path{} == 1", ".a".repeat(400)),
            format!("{}1{}", "[".repeat(400), "]".repeat(400)),
            format!("'{}' == path", "a".repeat(1_000)),
        ];
        for text in deep {
            // Whether it is read or refused, nothing falls over; a small stack is enough for who asks.
            let ask = move || Expression::parse(&text).map(|expression| expression.is_true(&request()));
            let asked = std::thread::Builder::new().stack_size(2 << 20).spawn(ask).unwrap().join();
            assert!(asked.is_ok());
        }
    }

    #[test]
    fn secrets_are_known() {
        for (text, is_secret) in
            [("api_key", true), ("cookie.sid", true), ("header.authorization", true), ("path", false)]
        {
            assert_eq!(Expression::parse(text).unwrap().is_secret(), is_secret, "{text}");
        }
    }
}
