//! From a tree to values, noting all that is wrong on the way.

use std::ops::Range;

use super::tree::{Node, Value};
use crate::problem::Problem;

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    problems: Vec<Problem>,
}

/// A map whose known settings are taken one by one. What is left at the end is unknown.
pub(super) struct Fields<'n> {
    entries: Vec<(&'n str, Range<usize>, &'n Node, bool)>,
    /// Where the map stands: what is missing is missing there.
    pub(super) span: Range<usize>,
}

impl Decoder {
    pub(super) fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn problem(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.note(Problem::new(span.clone(), message));
    }

    pub(super) fn hinted(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.note(Problem::new(span.clone(), message).with_hint(hint));
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Notes that something else was expected.
    pub(super) fn expected(&mut self, node: &Node, what: &str) {
        self.problem(&node.span, format!("expected {what}, found {}", node.kind()));
    }

    /// The settings of a map, each once.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, what: &str) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, what);
            return None;
        };
        let mut fields: Vec<(&str, Range<usize>, &Node, bool)> = Vec::with_capacity(entries.len());
        // Most maps are so small that to look at all names is quicker than to hash them.
        let mut seen = std::collections::HashSet::new();
        let is_small = entries.len() <= 16;
        for (name, value) in entries {
            let text = name.text.as_str();
            let is_new =
                if is_small { fields.iter().all(|(other, ..)| *other != text) } else { seen.insert(text) };
            if is_new {
                fields.push((&name.text, name.span.clone(), value, false));
            } else {
                self.problem(&name.span, format!("`{}` is set twice", shortened(&name.text)));
            }
        }
        Some(Fields { entries: fields, span: node.span.start..node.span.start })
    }

    /// Notes what was set but not taken.
    pub(super) fn finish(&mut self, fields: Fields<'_>, known: &[&str]) {
        for (name, span, _, taken) in fields.entries {
            if !taken {
                self.unknown(&span, "setting", name, known);
            }
        }
    }

    /// Notes that a word is none of those known, and which may have been meant.
    pub(super) fn unknown(&mut self, span: &Range<usize>, what: &str, word: &str, known: &[&str]) {
        let hint = match closest(word, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.len() <= 20 => format!("it can be {}", listed(known)),
            None if what == "setting" => "see the policy reference".to_owned(),
            None => format!("none of the {} that there are is spelt like it", known.len()),
        };
        self.hinted(span, format!("unknown {what} `{}`", shortened(word)), hint);
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        if let Value::Text(text) = &node.value {
            Some(text)
        } else {
            self.expected(node, "a text");
            None
        }
    }

    /// A value that may be meant as text though it looks like something else: `true`, `5`.
    pub(super) fn word(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) | Value::Decimal(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => {
                self.expected(node, "a text");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, node: &Node) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            Some(value)
        } else {
            self.expected(node, "true or false");
            None
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(&mut self, node: &Node, least: i128, most: i128) -> Option<i128> {
        match node.value {
            Value::Integer(number) if (least..=most).contains(&number) => Some(number),
            Value::Integer(number) => {
                self.problem(&node.span, format!("{number} is not between {least} and {most}"));
                None
            }
            _ => {
                self.expected(node, "a whole number");
                None
            }
        }
    }

    /// The items of a list; a single value is a list of one.
    pub(super) fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => {
                if items.is_empty() {
                    self.problem(&node.span, "an empty list says nothing; leave the setting out");
                }
                items
            }
            _ => std::slice::from_ref(node),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.unknown(&node.span, what, text, &words);
        }
        chosen
    }
}

impl<'n> Fields<'n> {
    /// The value of a setting, if it is set. A value that is empty counts as not set.
    pub(super) fn take(&mut self, name: &str) -> Option<&'n Node> {
        let (_, _, node, taken) = self.entries.iter_mut().find(|(known, ..)| *known == name)?;
        *taken = true;
        (node.value != Value::Null).then_some(*node)
    }

    /// The value of a setting that is set and was not taken yet.
    pub(super) fn take_left(&mut self, name: &str) -> Option<&'n Node> {
        let left = self.entries.iter().any(|(known, _, _, taken)| *known == name && !*taken);
        left.then(|| self.take(name))?
    }

    /// All settings that were not taken yet; takes them.
    pub(super) fn rest(&mut self) -> Vec<(&'n str, Range<usize>, &'n Node)> {
        let untaken = self.entries.iter_mut().filter(|(_, _, _, taken)| !*taken);
        untaken
            .map(|(name, span, node, taken)| {
                *taken = true;
                (*name, span.clone(), *node)
            })
            .collect()
    }
}

/// The known word that one was probably meant to be.
fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Anything longer is no slip of the finger.
    if word.len() > 64 {
        return None;
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&word.to_lowercase(), known);
    let near = known.iter().map(|known| (distance(known), *known)).min()?;
    (near.0 <= 1 + near.1.len() / 4).then_some(near.1)
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// The start of a text, short enough for a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
