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

/// The most problems that are shown: who has more will mend these first.
const SHOWN_MAX: usize = 100;

/// All that is wrong with one policy file: at least one thing.
///
/// Its [`Display`](fmt::Display) shows each problem with `file:line:column`, the offending line and a hint; of very
/// many, the first hundred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    text: String,
    list: Vec<Problem>,
    /// Where each line of the text starts.
    lines: Vec<usize>,
}

impl Problems {
    pub(crate) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        let lines = [0].into_iter().chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { file: file.to_owned(), text: text.to_owned(), list: problems, lines }
    }

    /// What stands for the file in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none; never, in a value that was returned as an error.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Line and column of a problem, both from 1, the column in characters.
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        let (number, line) = self.line(problem);
        let column = self.text[line.start..floor(&self.text, problem.span.start)].chars().count();
        (number, column + 1)
    }

    /// The number of the line in which a problem starts, from 1, and the line without its end.
    fn line(&self, problem: &Problem) -> (usize, Range<usize>) {
        let number = self.lines.partition_point(|start| *start <= problem.span.start).max(1);
        let start = self.lines.get(number - 1).copied().unwrap_or(0);
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        (number, start..start + line.trim_end_matches('\r').len())
    }

    /// The problems as text for a terminal, with or without colour.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown = self.list.iter().take(SHOWN_MAX);
        let mut blocks: Vec<String> = shown.map(|problem| self.block(problem, &renderer)).collect();
        if let more @ 1.. = self.list.len().saturating_sub(SHOWN_MAX) {
            blocks.push(format!("… and {more} more"));
        }
        blocks.join("\n\n")
    }

    fn block(&self, problem: &Problem, renderer: &Renderer) -> String {
        let (number, line) = self.line(problem);
        // A line of a megabyte helps nobody.
        if line.len() > 400 || self.text.is_empty() {
            let (number, column) = self.position(problem);
            let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
            return format!("error: {}\n --> {}:{number}:{column}{hint}", problem.message, self.file);
        }
        // A span over several lines would show them all: the first says where.
        let text = &self.text[line.clone()];
        let start = floor(text, problem.span.start.saturating_sub(line.start));
        let end = floor(text, problem.span.end.saturating_sub(line.start)).max(start);
        let mut annotation = AnnotationKind::Primary.span(start..end);
        if let Some(hint) = &problem.hint {
            annotation = annotation.label(hint.as_str());
        }
        let snippet =
            Snippet::source(text).line_start(number).path(self.file.as_str()).annotation(annotation);
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
