//! Policy files made of what other rate limiters are told.
//!
//! What proxies ask about, descriptors, are requests of their own to policies: entries are attributes of the application's, and
//! the domain or namespace is the attribute `domain`. So a policy file that is made here answers the same clients.
//!
//! * `descriptors`: from rules of envoyproxy/ratelimit's.
//! * `limitador`: from limits of Limitador's; `cel` turns their expressions.
//! * `draft`: a policy on its way to the file.

mod cel;
mod descriptors;
mod draft;
mod limitador;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::fmt::Write;

use self::draft::{Draft, comment};
use crate::config::{Config, Format};
use crate::descriptors::DescriptorRules;
use crate::limitador::LimitadorLimits;

/// What a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A policy file of Tollgate's.
    Tollgate,
    /// Rules for descriptors, of envoyproxy/ratelimit.
    Envoy,
    /// Limits of Limitador.
    Limitador,
}

impl Origin {
    /// What a text in YAML is meant as; `None` if it is nothing of these.
    ///
    /// ```
    /// use tollgate_policy::Origin;
    ///
    /// assert_eq!(Origin::of("domain: edge\ndescriptors: []"), Some(Origin::Envoy));
    /// assert_eq!(Origin::of("- namespace: edge"), Some(Origin::Limitador));
    /// assert_eq!(Origin::of("policies: []"), Some(Origin::Tollgate));
    /// assert_eq!(Origin::of("hello"), None);
    /// ```
    pub fn of(text: &str) -> Option<Self> {
        if DescriptorRules::are_in(text) {
            return Some(Self::Envoy);
        }
        if LimitadorLimits::are_in(text) {
            return Some(Self::Limitador);
        }
        Config::is_in(text).then_some(Self::Tollgate)
    }
}

/// Something that a policy file cannot say, or not as it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportWarning {
    /// Which file, and where in it.
    pub place: String,
    /// What cannot be said, and what stands in the policy file instead.
    pub message: String,
}

impl fmt::Display for ImportWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A policy file in the making.
///
/// ```
/// use tollgate_core::KeySeed;
/// use tollgate_policy::{Config, Format, Import, LimitadorLimits};
///
/// let file = r#"- { namespace: shop, max_value: 10, seconds: 60, variables: ['descriptors[0]["user"]'] }"#;
/// let limits = LimitadorLimits::parse("limits.yaml", file, KeySeed::new([7; 16])).unwrap();
/// let mut import = Import::default();
/// import.add_limitador("limits.yaml", file, &limits);
/// assert!(import.warnings().is_empty());
/// let config = Config::parse("policy.yaml", &import.text(), Format::Yaml, &[]).unwrap();
/// assert_eq!(config.policies[0].key().collect::<Vec<_>>(), ["attribute:user"]);
/// ```
#[derive(Debug, Default)]
pub struct Import {
    sources: Vec<String>,
    /// The names that policies have.
    names: HashSet<String>,
    items: Vec<Item>,
    warnings: Vec<ImportWarning>,
}

#[derive(Debug)]
enum Item {
    Policy(Draft),
    /// What could not be said: a comment stands in its place.
    Left(String),
}

/// What the file says of itself.
const HEAD: &str = "
Each descriptor of a request is a request of its own to these policies. Its entries are attributes, `attribute:KEY`, and
the domain or namespace is `attribute:domain`. Over gRPC, and by POST /json, that is how descriptors come; over HTTP ask

  POST /v1/check {\"attributes\": {\"domain\": \"…\", \"KEY\": \"…\"}}

What differs:
* An entry whose value is empty counts as none.
* The order of entries does not matter, nor do entries with keys that stand nowhere here.
* What limits every request of a domain limits every descriptor of it.
";

impl Import {
    /// What could not be said, or not as it was said.
    pub fn warnings(&self) -> &[ImportWarning] {
        &self.warnings
    }

    /// How many policies there are.
    pub fn policies(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Policy(_))).count()
    }

    /// The policy file, in YAML.
    pub fn text(&self) -> String {
        let mut text = comment(&format!("Made by `tollgate import` of {}.", self.sources.join(", ")), "");
        text.push_str(&comment(HEAD.trim_end(), ""));
        text.push_str("version: 1\n\n");
        text.push_str(if self.policies() == 0 { "policies: []\n" } else { "policies:\n" });
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            // Writing to a string cannot fail.
            let _ = match item {
                Item::Policy(draft) => write!(text, "{draft}"),
                Item::Left(message) => write!(text, "{}", comment(message, "  ")),
            };
        }
        text
    }

    /// Whether the file can be loaded. It always can, unless this is mistaken: then this says how.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn check(&self) -> Result<(), crate::problem::Problems> {
        Config::parse("the imported policies", &self.text(), Format::Yaml, &[]).map(drop)
    }

    fn source(&mut self, name: &str) {
        self.sources.push(name.chars().map(|c| if c.is_control() { '?' } else { c }).collect());
    }

    /// Notes what is to be looked at.
    fn warn(&mut self, place: &str, message: &str) {
        self.warnings.push(ImportWarning { place: place.to_owned(), message: message.to_owned() });
    }

    /// Notes that something is left out.
    fn leave(&mut self, place: &str, message: &str) {
        self.warn(place, &format!("not imported: {message}"));
        self.items.push(Item::Left(format!("{place}: not imported: {message}")));
    }

    /// A name for a policy that none has yet, as much like this as may be.
    fn name(&mut self, wanted: &str) -> String {
        let fine = |c: char| if c.is_ascii_alphanumeric() || "-_./".contains(c) { c } else { '-' };
        // Room for a number behind it.
        let mut base: String = wanted.chars().map(fine).take(90).collect();
        if base.is_empty() {
            base.push_str("limit");
        }
        let mut name = base.clone();
        let mut number = 2_usize;
        while !self.names.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }
}
