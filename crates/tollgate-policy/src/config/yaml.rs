//! YAML into a tree.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::tree::{DEPTH_MAX, NODES_MAX, Name, Node, Value};
use crate::problem::Problem;

/// Reads one YAML document. Anchors and aliases work, within the bounds of the tree; tags other than `!!str`, `!!seq`
/// and `!!map`, and merge keys, are refused.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut builder =
        Builder { offsets: Offsets::of(text), open: Vec::new(), anchors: HashMap::new(), nodes: 0 };
    let mut root: Option<Node> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = builder.offsets.byte(error.marker().index());
            Problem::new(at..at, format!("this is not valid YAML: {}", error.info()))
        })?;
        let at = builder.offsets.range(span);
        if let Event::DocumentStart(_) = event
            && root.is_some()
        {
            return Err(Problem::new(at, "a second document starts here; a policy file holds one"));
        }
        if let Some(done) = builder.event(event, at)? {
            root = Some(done);
        }
    }
    Ok(root.unwrap_or(Node { value: Value::Null, span: 0..0 }))
}

/// Whether the text is a list. It is not read to its end, and may turn out to be no YAML.
pub(super) fn begins_list(text: &str) -> bool {
    let mut events = Parser::new_from_str(text).map_while(Result::ok).map(|(event, _)| event);
    let root =
        events.find(|event| !matches!(event, Event::StreamStart | Event::DocumentStart(_) | Event::Nothing));
    matches!(root, Some(Event::SequenceStart(..)))
}

/// Whether the text is a map that has this name. It is read no further than up to there, and may turn out to be no YAML.
pub(super) fn has_name(text: &str, name: &str) -> bool {
    let (mut depth, mut is_map, mut is_name) = (0_usize, false, false);
    for (event, _) in Parser::new_from_str(text).map_while(Result::ok) {
        match event {
            Event::Scalar(word, ..) if depth == 1 && is_map && is_name && word == name => return true,
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                if depth == 0 {
                    (is_map, is_name) = (matches!(event, Event::MappingStart(..)), false);
                }
                depth += 1;
            }
            Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
            Event::Scalar(..) | Event::Alias(_) => {}
            _ => continue,
        }
        // Names and values take turns; what begins the map is followed by a name.
        if depth == 1 {
            is_name = !is_name;
        }
    }
    false
}

/// A list or map whose end has not come yet.
enum Open {
    List { items: Vec<Node>, start: usize, anchor: usize },
    Map { entries: Vec<(Name, Node)>, key: Option<Name>, start: usize, anchor: usize },
}

struct Builder {
    offsets: Offsets,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    /// Takes one event; returns the root when it is complete.
    fn event(&mut self, event: Event<'_>, at: Range<usize>) -> Result<Option<Node>, Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = match tag {
                    Some(tag) if is_core(&tag, "str") => Value::Text(text.into_owned()),
                    Some(tag) => return Err(meaningless(&tag, at)),
                    None if style == ScalarStyle::Plain => Value::from_plain(text),
                    None => Value::Text(text.into_owned()),
                };
                self.complete(Node { value, span: at }, anchor)
            }
            Event::SequenceStart(_, Some(tag)) if !is_core(&tag, "seq") => Err(meaningless(&tag, at)),
            Event::MappingStart(_, Some(tag)) if !is_core(&tag, "map") => Err(meaningless(&tag, at)),
            Event::SequenceStart(anchor, _) => {
                self.enter(Open::List { items: Vec::new(), start: at.start, anchor }, at)
            }
            Event::MappingStart(anchor, _) => {
                self.enter(Open::Map { entries: Vec::new(), key: None, start: at.start, anchor }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { items, start, anchor }) => {
                    let end = items.last().map_or(at.end, |last| last.span.end).max(start);
                    self.complete(Node { value: Value::List(items), span: start..end }, anchor)
                }
                Some(Open::Map { entries, start, anchor, .. }) => {
                    let end = entries.last().map_or(at.end, |(_, last)| last.span.end).max(start);
                    self.complete(Node { value: Value::Map(entries), span: start..end }, anchor)
                }
                None => Ok(None),
            },
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    return Err(Problem::new(at, "this alias refers to something that contains it"));
                };
                let copy = Node { value: target.value.clone(), span: at };
                self.nodes += count(&copy);
                self.complete(copy, 0)
            }
            _ => Ok(None),
        }
    }

    fn enter(&mut self, open: Open, at: Range<usize>) -> Result<Option<Node>, Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::new(at, format!("this is nested more than {DEPTH_MAX} deep")));
        }
        self.open.push(open);
        Ok(None)
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, Problem> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Problem::new(node.span, format!("the file holds more than {NODES_MAX} values")));
        }
        if anchor > 0 {
            self.nodes += count(&node);
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => return Ok(Some(node)),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(name) => entries.push((name, node)),
                None => *key = Some(name(node)?),
            },
        }
        Ok(None)
    }
}

/// A map's key: any single value, as the text that it was written as.
fn name(node: Node) -> Result<Name, Problem> {
    let text = match node.value {
        Value::Text(text) | Value::Decimal(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::List(_) | Value::Map(_) => {
            return Err(Problem::new(node.span, "this cannot be the name of a setting"));
        }
    };
    if text == "<<" {
        return Err(Problem::new(node.span, "merge keys are not supported; write the settings out"));
    }
    Ok(Name { text, span: node.span })
}

/// Whether a tag is `!!name`.
fn is_core(tag: &Tag, name: &str) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == name
}

fn meaningless(tag: &Tag, at: Range<usize>) -> Problem {
    Problem::new(at, format!("the tag {tag} means nothing here"))
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}

/// From the parser's positions, which count characters, to bytes.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn of(text: &str) -> Self {
        // In ASCII they are the same.
        Self((!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()))
    }

    fn byte(&self, character: usize) -> usize {
        match &self.0 {
            None => character,
            Some(bytes) => bytes.get(character).or(bytes.last()).copied().unwrap_or(0),
        }
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}
