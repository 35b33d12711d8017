//! A configuration file as a tree that remembers where everything stood, whatever it was written in.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

/// The largest file that is read.
pub(crate) const FILE_BYTES_MAX: usize = 16 << 20;
/// The deepest nesting of lists and maps.
pub(crate) const DEPTH_MAX: usize = 32;
/// The most values in a file, aliases counted as often as they are used.
pub(crate) const NODES_MAX: usize = 1 << 20;

/// A value and the bytes of the file that it was written in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    /// A number that is not whole; kept as it was written.
    Decimal(String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(Name, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

impl Node {
    /// What kind of value this is, with an article.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a number",
            Value::Decimal(_) => "a number that is not whole",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The same in JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut json = String::with_capacity(192);
        self.write_json(&mut json);
        json.shrink_to_fit();
        json
    }

    fn write_json(&self, json: &mut String) {
        match &self.value {
            Value::Null => json.push_str("null"),
            Value::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
            Value::Integer(number) => json.push_str(&number.to_string()),
            // A setting that takes one takes it as a text too.
            Value::Decimal(text) | Value::Text(text) => write_text(json, text),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    json.push(if index == 0 { '[' } else { ',' });
                    item.write_json(json);
                }
                json.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Value::Map(entries) => {
                for (index, (name, value)) in entries.iter().enumerate() {
                    json.push(if index == 0 { '{' } else { ',' });
                    write_text(json, &name.text);
                    json.push(':');
                    value.write_json(json);
                }
                json.push_str(if entries.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

fn write_text(json: &mut String, text: &str) {
    json.push('"');
    let is_plain = |byte: u8| byte >= 0x20 && !matches!(byte, b'"' | b'\\' | 0x7f);
    if text.bytes().all(is_plain) {
        json.push_str(text);
        json.push('"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\n' => json.push_str("\\n"),
            control if u32::from(control) < 0x20 || control == '\u{7f}' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

impl Value {
    /// What a word without quotes means: nothing, true or false, a number, or else a text.
    pub(crate) fn from_plain(text: Cow<'_, str>) -> Self {
        match &*text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            word => number(word).unwrap_or_else(|| Self::Text(text.into_owned())),
        }
    }
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i128::from_str_radix(hex, 16).ok().map(Value::Integer);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i128::from_str_radix(octal, 8).ok().map(Value::Integer);
    }
    if let Ok(integer) = text.parse() {
        return Some(Value::Integer(integer));
    }
    text.parse::<f64>().is_ok().then(|| Value::Decimal(text.to_owned()))
}
