//! A policy on its way to the file.

use std::fmt::{self, Write};

/// A policy as it will be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    /// What a person should look at.
    pub(super) notes: Vec<String>,
    pub(super) name: String,
    pub(super) description: String,
    /// Attributes and the values that they must have.
    pub(super) values: Vec<(String, String)>,
    /// Expressions that must hold.
    pub(super) when: Vec<String>,
    /// What is counted by; nothing is all requests together.
    pub(super) key: Vec<String>,
    /// Settings and their values, as they are written.
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) replaces: Vec<String>,
}

impl Draft {
    /// The condition that an attribute has a value. `None` if an attribute has another already: both at once never hold.
    pub(super) fn with_value(&mut self, attribute: String, value: &str) -> Option<()> {
        if let Some((_, known)) = self.values.iter().find(|(known, _)| *known == attribute) {
            return (known == value).then_some(());
        }
        self.values.push((attribute, value.to_owned()));
        Some(())
    }

    /// The expressions as one.
    pub(super) fn condition(&self) -> Option<String> {
        match self.when.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(several.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" && ")),
        }
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            f.write_str(&comment(&format!("Look at this: {note}"), "  "))?;
        }
        writeln!(f, "  - name: {}", quoted(&self.name))?;
        writeln!(f, "    description: {}", quoted(&self.description))?;
        let condition = self.condition();
        if !self.values.is_empty() || condition.is_some() {
            writeln!(f, "    match:")?;
        }
        if !self.values.is_empty() {
            writeln!(f, "      where:")?;
        }
        for (attribute, value) in &self.values {
            writeln!(f, "        {}: {}", quoted(attribute), quoted(value))?;
        }
        if let Some(condition) = condition {
            writeln!(f, "      when: {}", quoted(&condition))?;
        }
        match self.key.as_slice() {
            [] => writeln!(f, "    key: global")?,
            [one] => writeln!(f, "    key: {}", quoted(one))?,
            several => writeln!(f, "    key: [{}]", listed(several))?,
        }
        for (setting, value) in &self.settings {
            writeln!(f, "    {setting}: {value}")?;
        }
        if !self.replaces.is_empty() {
            writeln!(f, "    replaces: [{}]", listed(&self.replaces))?;
        }
        Ok(())
    }
}

fn listed(texts: &[String]) -> String {
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")
}

/// A text that YAML reads as just this: in single quotes where all of it can be seen, else in double quotes with escapes.
pub(super) fn quoted(text: &str) -> String {
    let is_seen = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace() || is_odd(c));
    if text.chars().all(is_seen) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_seen(c) => quoted.push(c),
            // Writing to a string cannot fail.
            c => drop(write!(quoted, "\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether YAML may not have a character, or takes it for something else: marks of order, and what is no character.
fn is_odd(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
}

/// Lines of a comment. What is in the text cannot leave it.
pub(super) fn comment(text: &str, indent: &str) -> String {
    let line = |line: &str| {
        let line: String = line.chars().map(|c| if c.is_control() || is_odd(c) { ' ' } else { c }).collect();
        format!("{indent}# {line}").trim_end().to_owned() + "\n"
    };
    text.split('\n').map(line).collect()
}
