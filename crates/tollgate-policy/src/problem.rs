//! What is wrong with a file, where, and the way out.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file, in bytes.
    span: Range<usize>,
    message: String,
    hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong, in lower case.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// All that is wrong with one policy file: at least one thing.
///
/// Its [`Display`](fmt::Display) shows each problem with `file:line:column`, the offending line and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    text: String,
    problems: Vec<Problem>,
}

impl Problems {
    pub(crate) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        Self { file: file.to_owned(), text: text.to_owned(), problems }
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there are none; never, in a value that was returned as an error.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Line and column of a problem, both from 1, the column in characters.
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        let before = self.text.get(..problem.span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The problems as text for a terminal, with or without colour.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let blocks: Vec<String> =
            self.problems.iter().map(|problem| self.block(problem, &renderer)).collect();
        blocks.join("\n\n")
    }

    fn block(&self, problem: &Problem, renderer: &Renderer) -> String {
        // A span over several lines would show them all: the first says where.
        let start = floor(&self.text, problem.span.start);
        let line = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let end = floor(&self.text, problem.span.end.clamp(start, line)).max(start);
        let mut annotation = AnnotationKind::Primary.span(start..end);
        if let Some(hint) = &problem.hint {
            annotation = annotation.label(hint.as_str());
        }
        // A line of a megabyte helps nobody.
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        if line - line_start > 400 || self.text.is_empty() {
            let (line, column) = self.position(problem);
            let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
            return format!("error: {}\n --> {}:{line}:{column}{hint}", problem.message, self.file);
        }
        let snippet = Snippet::source(self.text.as_str()).path(self.file.as_str()).annotation(annotation);
        renderer.render(&[Level::ERROR.primary_title(problem.message.as_str()).element(snippet)])
    }
}

/// The start of the character that a byte belongs to.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
