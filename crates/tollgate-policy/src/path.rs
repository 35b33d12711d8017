//! Paths and the patterns that match them.
//!
//! A pattern is a path whose segments may be
//!
//! * a literal: `login`,
//! * `{name}` or `*`: any one segment,
//! * a segment with `*` in it, such as `*.png`: any characters there,
//! * `**`, as the last one: any number of segments, also none.
//!
//! All patterns together form a tree by segments, so finding those that match takes as many steps as the path has
//! segments, however many patterns there are.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::attribute::escape;

/// The most segments of a pattern.
const SEGMENTS_MAX: usize = 32;

/// A path as patterns see it: without query, doubled slashes, `.` and `..`, a slash at the end, needless percent
/// escapes, and capitals. There are endless spellings of a path, and a limit must hold for all of them.
pub(crate) fn normalized(path: &str) -> Cow<'_, str> {
    let (end, faults) = look_over(path.as_bytes());
    let path = match &path[..end] {
        "/" => return Cow::Borrowed("/"),
        path => path.strip_suffix('/').unwrap_or(path),
    };
    match faults {
        0 if path.starts_with('/') => Cow::Borrowed(path),
        CAPITALS if path.starts_with('/') => Cow::Owned(path.to_ascii_lowercase()),
        _ => Cow::Owned(rebuilt(path)),
    }
}

/// The path has capital letters.
const CAPITALS: u8 = 1;
/// The path has escapes, or slashes that lean the other way.
const ESCAPES: u8 = 2;
/// The path has empty segments, or some that begin with a dot.
const SEGMENTS: u8 = 4;

/// Where the path ends, and how its spelling is not the normal one; in one pass, as every request comes by here.
fn look_over(bytes: &[u8]) -> (usize, u8) {
    let (mut faults, mut after_slash) = (0, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'?' | b'#' => return (at, faults),
            b'/' | b'.' if after_slash => faults |= SEGMENTS,
            b'A'..=b'Z' => faults |= CAPITALS,
            b'%' | b'\\' => faults |= ESCAPES,
            _ => {}
        }
        after_slash = *byte == b'/';
    }
    (bytes.len(), faults)
}

/// The normal spelling of a path that needs more than other letters.
fn rebuilt(path: &str) -> String {
    let unescaped = unescaped(path);
    let mut segments: SmallVec<[&str; 16]> = SmallVec::new();
    for segment in unescaped.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    normal.make_ascii_lowercase();
    normal
}

/// Decodes the escapes of characters that need none (RFC 3986, section 6.2.2.2), and of the slashes and dots that
/// servers are known to decode.
fn unescaped(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    if !path.contains(['%', '\\']) {
        return Cow::Borrowed(path);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (*byte == b'%').then(|| escape(bytes, at)).flatten() {
            Some(byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/')) => {
                plain.push(byte);
                at += 3;
            }
            Some(b'\\') => {
                plain.push(b'/');
                at += 3;
            }
            _ => {
                plain.push(if *byte == b'\\' { b'/' } else { *byte });
                at += 1;
            }
        }
    }
    // Only ASCII was put in place of ASCII, so this changes nothing.
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("a path pattern starts with `/`")]
    NoSlash,
    #[error("`**` stands for the rest of the path, so it comes last")]
    TailNotLast,
    #[error("a path pattern has at most {SEGMENTS_MAX} segments")]
    TooLong,
    #[error("`{{` and `}}` enclose a whole segment, as in `/users/{{id}}`")]
    Braces,
    #[error("a segment of a path pattern is not `..` and holds no `\\` and no escaped `/`")]
    Slash,
    #[error("a path pattern has no query; use `where: {{ query:name: value }}`")]
    Query,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    Glob(Vec<String>),
    Tail,
}

/// A pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        let rest = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let mut segments = Vec::new();
        for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
            if segments.last() == Some(&Segment::Tail) {
                return Err(PatternError::TailNotLast);
            }
            let named = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
            segments.push(match segment {
                "**" => Segment::Tail,
                "*" => Segment::Any,
                _ if named.is_some_and(|name| !name.contains(['{', '}'])) => Segment::Any,
                _ if segment.contains(['{', '}']) => return Err(PatternError::Braces),
                // Its parts would go where no segment of a path has them.
                _ if has_slash_or_is_up(&unescaped(segment)) => return Err(PatternError::Slash),
                _ if segment.contains('*') => Segment::Glob(
                    unescaped(segment).to_ascii_lowercase().split('*').map(str::to_owned).collect(),
                ),
                // A literal is spelt as the paths that it is compared with.
                _ => match normalized(&format!("/{segment}")).as_ref() {
                    "/" => continue,
                    normal => Segment::Literal(normal[1..].to_owned()),
                },
            });
        }
        if segments.len() > SEGMENTS_MAX {
            return Err(PatternError::TooLong);
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether what stands for one segment is none, or leads up.
fn has_slash_or_is_up(segment: &str) -> bool {
    segment.contains('/') || segment == ".."
}

/// Whether a segment is these texts with anything between them.
fn glob_matches(texts: &[String], segment: &str) -> bool {
    let [first, middle @ .., last] = texts else { return false };
    let Some(mut rest) = segment.strip_prefix(first.as_str()) else { return false };
    for text in middle {
        let Some(found) = rest.find(text.as_str()) else { return false };
        rest = &rest[found + text.len()..];
    }
    rest.ends_with(last.as_str())
}

/// Patterns as a tree, with something for each.
///
/// Nodes are small and lie side by side, and all literal steps are in one table: where thousands of patterns are in use,
/// what a look-up touches is what it costs.
#[derive(Debug)]
pub(crate) struct PathTree<T> {
    /// The first is the root.
    nodes: Vec<Node>,
    /// The steps by a literal, from all nodes.
    steps: HashTable<Step>,
    hasher: DefaultHashBuilder,
    items: Vec<T>,
}

/// A place in the tree. Numbers are those of nodes and items.
#[derive(Clone, Debug, Default)]
struct Node {
    /// The step by any segment.
    any: Option<NonZeroU32>,
    /// What ends here.
    here: Option<u32>,
    /// What matches whatever follows.
    tail: Option<u32>,
    globs: Vec<(Vec<String>, u32)>,
}

/// A step from a node by a literal.
#[derive(Debug)]
struct Step {
    from: u32,
    to: u32,
    literal: Box<str>,
}

impl<T> Default for PathTree<T> {
    fn default() -> Self {
        let (steps, hasher) = (HashTable::new(), DefaultHashBuilder::default());
        Self { nodes: vec![Node::default()], steps, hasher, items: Vec::new() }
    }
}

impl<T: Default> PathTree<T> {
    /// What belongs to this pattern; made if it is new.
    pub(crate) fn entry(&mut self, pattern: &Pattern) -> &mut T {
        let (mut node, mut is_tail) = (0, false);
        for segment in &pattern.segments {
            match segment {
                Segment::Tail => is_tail = true,
                Segment::Any => node = self.step_by_any(node),
                Segment::Literal(literal) => node = self.step_by_literal(node, literal),
                Segment::Glob(texts) => node = self.step_by_glob(node, texts),
            }
        }
        let next = index(self.items.len());
        let node = &mut self.nodes[node as usize];
        let item = *if is_tail { &mut node.tail } else { &mut node.here }.get_or_insert(next);
        if item == next {
            self.items.push(T::default());
        }
        &mut self.items[item as usize]
    }

    fn add_node(&mut self) -> u32 {
        self.nodes.push(Node::default());
        index(self.nodes.len() - 1)
    }

    fn step_by_any(&mut self, node: u32) -> u32 {
        if let Some(known) = self.nodes[node as usize].any {
            return known.get();
        }
        let new = self.add_node();
        self.nodes[node as usize].any = NonZeroU32::new(new);
        new
    }

    fn step_by_literal(&mut self, node: u32, literal: &str) -> u32 {
        if let Some(known) = self.literal_step(node, literal) {
            return known;
        }
        let new = self.add_node();
        let step = Step { from: node, to: new, literal: literal.into() };
        let hasher = &self.hasher;
        let hash = |step: &Step| hasher.hash_one((step.from, &*step.literal));
        self.steps.insert_unique(hash(&step), step, hash);
        new
    }

    fn step_by_glob(&mut self, node: u32, texts: &[String]) -> u32 {
        let known = self.nodes[node as usize].globs.iter().find(|(glob, _)| glob == texts);
        if let Some((_, known)) = known {
            return *known;
        }
        let new = self.add_node();
        self.nodes[node as usize].globs.push((texts.to_vec(), new));
        new
    }

    /// Whether there are no patterns.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Calls `found` with what belongs to each pattern that matches a normalised path.
    pub(crate) fn matches<'t>(&'t self, path: &str, found: &mut impl FnMut(&'t T)) {
        self.matches_from(0, path, found);
    }

    fn matches_from<'t>(&'t self, node: u32, path: &str, found: &mut impl FnMut(&'t T)) {
        let place = &self.nodes[node as usize];
        if let Some(item) = place.tail {
            found(&self.items[item as usize]);
        }
        let Some(rest) = path.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
            if let Some(item) = place.here {
                found(&self.items[item as usize]);
            }
            return;
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (segment, rest) = rest.split_at(end);
        // Each step down uses up a segment of a pattern, so this ends however long the path is.
        if let Some(child) = self.literal_step(node, segment) {
            self.matches_from(child, rest, found);
        }
        if let Some(child) = place.any {
            self.matches_from(child.get(), rest, found);
        }
        for (texts, child) in &place.globs {
            if glob_matches(texts, segment) {
                self.matches_from(*child, rest, found);
            }
        }
    }

    fn literal_step(&self, node: u32, literal: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((node, literal));
        let same = |step: &Step| step.from == node && *step.literal == *literal;
        self.steps.find(hash, same).map(|step| step.to)
    }
}

/// The number of a node or an item. A policy file is too small to hold more of them than a number can tell.
fn index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_all() {
        for spelling in [
            "/api/auth/login",
            "/api/auth/login/",
            "//api///auth/login",
            "/api/./auth/x/../login",
            "/API/Auth/LOGIN",
            "/api/auth/%6Cogin",
            "/api%2Fauth%2flogin",
            "/api/auth/login?next=/",
            "/api/auth/login#x",
            "api/auth/login",
            "/..//api/auth/login/.",
            "/api\\auth\\login",
            "/api/%2e%2e/api/auth/login",
        ] {
            assert_eq!(normalized(spelling), "/api/auth/login", "{spelling}");
        }
        assert_eq!(normalized(""), "/");
        assert_eq!(normalized("?q"), "/");
        assert_eq!(normalized("/ä/%C3%A4/%zz"), "/ä/%c3%a4/%zz");
        assert!(matches!(normalized("/plain/path.png"), Cow::Borrowed(_)));
    }

    fn matching(patterns: &[&'static str], path: &str) -> Vec<&'static str> {
        let mut tree = PathTree::<Vec<&'static str>>::default();
        for pattern in patterns {
            tree.entry(&Pattern::parse(pattern).unwrap()).push(pattern);
        }
        let mut found = Vec::new();
        tree.matches(&normalized(path), &mut |patterns| found.extend(patterns));
        found.sort_unstable();
        found
    }

    #[test]
    fn all_patterns_that_match_are_found() {
        let patterns = [
            "/",
            "/**",
            "/api/**",
            "/api/{version}/users",
            "/api/v1/*",
            "/api/v1/users",
            "/img/*.png",
            "/img/a*b*c",
            "/api/v1/users/**",
            "/%7Euser*",
        ];
        for (path, expected) in [
            ("/", &["/", "/**"][..]),
            ("/api", &["/**", "/api/**"]),
            (
                "/api/v1/users",
                &["/**", "/api/**", "/api/v1/*", "/api/v1/users", "/api/v1/users/**", "/api/{version}/users"],
            ),
            ("/api/v2/users/", &["/**", "/api/**", "/api/{version}/users"]),
            ("/api/v1/users/7", &["/**", "/api/**", "/api/v1/users/**"]),
            ("/img/x.PNG", &["/**", "/img/*.png"]),
            ("/img/aXbYc", &["/**", "/img/a*b*c"]),
            ("/img/.png/x", &["/**"]),
            ("/img/ab", &["/**"]),
            ("/~Users", &["/%7Euser*", "/**"]),
        ] {
            assert_eq!(matching(&patterns, path), expected, "{path}");
        }
    }

    #[test]
    fn wrong_patterns_say_why() {
        for (text, error) in [
            ("api", PatternError::NoSlash),
            ("", PatternError::NoSlash),
            ("/**/x", PatternError::TailNotLast),
            ("/x{id}", PatternError::Braces),
            ("/{a}{b}", PatternError::Braces),
            ("/a?b=c", PatternError::Query),
            ("/a/../b", PatternError::Slash),
            ("/a/%2e%2E", PatternError::Slash),
            ("/a%2Fb", PatternError::Slash),
            ("/a\\b*", PatternError::Slash),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(Pattern::parse(&"/a".repeat(33)), Err(PatternError::TooLong));
    }

    #[test]
    fn a_long_path_is_no_burden() {
        let path = "/a".repeat(1 << 20);
        assert_eq!(matching(&["/**", "/a/a/**", "/a/*/a"], &path), ["/**", "/a/a/**"]);
        assert_eq!(normalized(&"/..".repeat(1 << 20)), "/");
    }
}
