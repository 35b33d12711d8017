//! Expressions over descriptors, turned into expressions over attributes.

use std::fmt::Write;

/// An expression of a limit's, over the attributes of what was its first descriptor.
///
/// # Errors
/// What attributes cannot say.
pub(super) fn over_attributes(
    text: &str,
    (name, id): (Option<&str>, Option<&str>),
) -> Result<String, String> {
    let mut turned = String::with_capacity(text.len());
    let mut rest = text;
    // Whether what came last is a name or ends with a dot: what follows is then no variable.
    let mut is_field = false;
    while let Some(first) = rest.chars().next() {
        if let Some(literal) = literal(rest) {
            turned.push_str(literal);
            rest = &rest[literal.len()..];
            is_field = false;
            continue;
        }
        let word = word(rest);
        if word.is_empty() {
            turned.push(first);
            rest = &rest[first.len_utf8()..];
            is_field = first == '.' || (is_field && first.is_whitespace());
            continue;
        }
        rest = &rest[word.len()..];
        match word {
            "descriptors" if !is_field => {
                rest = first_descriptor(rest)?;
                turned.push_str("attribute");
            }
            "limit" if !is_field => {
                let (asked, after) = of_limit(rest)?;
                rest = after;
                let value = if asked == "name" { name } else { id };
                turned.push_str(&value.map_or_else(|| "null".to_owned(), in_cel));
            }
            word => turned.push_str(word),
        }
        is_field = false;
    }
    Ok(turned)
}

/// An attribute that an expression is, and no more: `attribute["user"]`, `attribute.user`.
pub(super) fn is_attribute(text: &str) -> Option<String> {
    let (name, rest) = attribute(text.trim())?;
    rest.is_empty().then_some(name)
}

/// An attribute and the value that an expression says it has, and no more: `attribute["method"] == "GET"`.
pub(super) fn is_equality(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let equals =
        |rest: &'_ str| rest.trim_start().strip_prefix("==").map(|rest| rest.trim_start().to_owned());
    let found = if let Some((name, rest)) = attribute(text) {
        let rest = equals(rest)?;
        let (value, rest) = plain(&rest)?;
        rest.is_empty().then_some((name, value))
    } else {
        let (value, rest) = plain(text)?;
        Some((is_attribute(&equals(rest)?)?, value))
    };
    // An empty value is none to a policy.
    found.filter(|(_, value)| !value.is_empty())
}

/// A text as a literal.
pub(super) fn in_cel(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c.is_control() => drop(write!(literal, "\\U{:08x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// The word at the start of a text: letters, digits and `_`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// The literal in quotes at the start of a text, with what stands before its quotes.
fn literal(text: &str) -> Option<&str> {
    let prefix = word(text);
    let is_raw = prefix.contains(['r', 'R']);
    if !prefix.chars().all(|c| "rRbB".contains(c)) || prefix.len() > 2 {
        return None;
    }
    let rest = &text[prefix.len()..];
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| rest.starts_with(quote))?;
    let mut at = prefix.len() + quote.len();
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with(quote) {
            return Some(&text[..at + quote.len()]);
        }
        at += c.len_utf8();
        if c == '\\' && !is_raw {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    None
}

/// What follows `[0]`.
fn first_descriptor(text: &str) -> Result<&str, String> {
    let all =
        || "it looks at several descriptors at once, and each is a request of its own to policies".to_owned();
    let inside = text.trim_start().strip_prefix('[').ok_or_else(all)?.trim_start();
    let number = word(inside);
    let rest = inside[number.len()..].trim_start().strip_prefix(']').ok_or_else(all)?;
    match number.parse::<u64>() {
        Ok(0) => Ok(rest),
        Ok(number) => Err(format!(
            "it looks at descriptor {number}, and policies do not know the place of a descriptor"
        )),
        Err(_) => Err(all()),
    }
}

/// Which of its own a limit asks for, and what follows.
fn of_limit(text: &str) -> Result<(&str, &str), String> {
    let wrong = || "it asks a limit for more than its name or id".to_owned();
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('.') {
        let rest = rest.trim_start();
        let name = word(rest);
        return Ok((name, &rest[name.len()..]));
    }
    let inside = text.strip_prefix('[').ok_or_else(wrong)?.trim_start();
    let name = literal(inside).ok_or_else(wrong)?;
    let rest = inside[name.len()..].trim_start().strip_prefix(']').ok_or_else(wrong)?;
    Ok((name.trim_matches(['"', '\'']), rest))
}

/// The attribute at the start of a text.
fn attribute(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix("attribute")?.trim_start();
    if let Some(rest) = rest.strip_prefix('.') {
        let rest = rest.trim_start();
        let name = word(rest);
        let after = &rest[name.len()..];
        let is_call = after.trim_start().starts_with('(');
        return (!name.is_empty() && !is_call).then(|| (name.to_owned(), after));
    }
    let (name, rest) = plain(rest.strip_prefix('[')?.trim_start())?;
    Some((name, rest.trim_start().strip_prefix(']')?))
}

/// The text of a plain literal at the start: without escapes, in single quotes or double ones.
fn plain(text: &str) -> Option<(String, &str)> {
    let literal = literal(text)?;
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    // Three quotes, or what stands for something else.
    if inner.contains(quote) || inner.contains('\\') {
        return None;
    }
    Some((inner.to_owned(), &text[literal.len()..]))
}
