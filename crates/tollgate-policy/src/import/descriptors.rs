//! From rules of envoyproxy/ratelimit's.
//!
//! There a descriptor leads to one rule, by its entries one after the other; policies apply by conditions, all that hold. So a
//! rule's policy demands that the descriptor has no entry of the keys that would lead on, or elsewhere; and where one rule
//! comes before another of the same key, its policies replace those of the other.

use std::collections::BTreeSet;

use super::cel::in_cel;
use super::draft::Draft;
use super::limitador::{domain, is_fit};
use super::{Import, Item};
use crate::condition::Like;
use crate::descriptors::{DescriptorRules, Level, Rule};
use crate::expression::{Expression, Purpose};

/// A rule and where it stands.
struct Place<'r> {
    rule: &'r Rule,
    /// The rules that lead to it, and itself.
    path: Vec<&'r Rule>,
    /// It in words: `domain.key_value.key`.
    label: String,
    /// The name of its policy, if it says anything.
    name: Option<String>,
    /// The places behind it.
    below: Vec<usize>,
    /// The places of the rules of the same level that come after it for some of its values.
    lower: Vec<usize>,
}

/// The rules of a domain.
struct Domain<'r> {
    name: &'r str,
    places: Vec<Place<'r>>,
    keys: BTreeSet<&'r str>,
}

impl Import {
    /// Adds the rules of files of envoyproxy/ratelimit's, which have these names.
    pub fn add_descriptors(&mut self, names: &[&str], rules: &DescriptorRules) {
        for name in names {
            self.source(name);
        }
        for (name, level) in rules.levels() {
            let mut domain = Domain { name, places: Vec::new(), keys: BTreeSet::new() };
            domain.collect(self, level, &[], name);
            for place in 0..domain.places.len() {
                self.add_rule(&domain, place);
            }
        }
    }

    fn add_rule(&mut self, domain: &Domain<'_>, index: usize) {
        let place = &domain.places[index];
        let label = place.label.clone();
        if let Some(reason) = place.cannot_be_said() {
            if place.name.is_some() {
                self.leave(&label, &reason);
            }
            return;
        }
        let mut notes = Vec::new();
        let (first, others): (Vec<String>, Vec<String>) = domain.after(place);
        let base = domain.conditions(place, &mut notes);
        // What only watches replaces nothing.
        let replaces = place.name.is_some() && !place.rule.is_shadow();
        if let Some(name) = &place.name {
            let mut draft = Draft { name: name.clone(), ..base.clone() };
            draft.description = format!("The rule {label} of envoyproxy/ratelimit");
            draft.key = place.key();
            if replaces {
                draft.replaces.clone_from(&first);
            }
            settings(place.rule, &mut draft, &mut notes);
            domain.exclude_others(place, &mut draft, &mut notes);
            for note in &notes {
                self.warn(&label, note);
            }
            draft.notes.clone_from(&notes);
            self.items.push(Item::Policy(draft));
        }
        // What this rule comes before is not tried for its values, even where it leads to nothing.
        let hidden: Vec<String> = if replaces { others } else { [first, others].concat() };
        if !hidden.is_empty() {
            let mut draft = Draft { name: self.name(&format!("{label}/before")), ..base };
            draft.description = format!("{label} comes before other rules for the same key");
            draft.when.extend(place.presence());
            draft.settings = vec![("limit", "unlimited".to_owned())];
            draft.replaces = hidden;
            self.items.push(Item::Policy(draft));
        }
    }
}

impl Place<'_> {
    /// Why no policy can be like a rule, if none can.
    fn cannot_be_said(&self) -> Option<String> {
        let keys: Vec<&str> = self.path.iter().map(|rule| rule.key.as_str()).collect();
        if let Some(key) = keys.iter().find(|key| !is_fit(key)) {
            return Some(format!("no policy can ask for an entry `{key}`"));
        }
        let repeated = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key));
        repeated.map(|(_, key)| format!("a policy cannot ask for two entries of the same key, `{key}`"))
    }

    /// The entries that have to be there, whatever their values.
    fn presence(&self) -> Vec<String> {
        let any = self.path.iter().filter(|rule| rule.value.is_none());
        any.map(|rule| format!("{} in attribute", in_cel(&rule.key))).collect()
    }

    /// What a rule counts by.
    fn key(&self) -> Vec<String> {
        let counted = |rule: &&&Rule| rule.value.is_none() || (rule.is_wildcard() && !rule.shares_threshold);
        let limited = self.rule.rate().is_some();
        let counted = self.path.iter().filter(counted).filter(|rule| limited || rule.value.is_none());
        counted.map(|rule| format!("attribute:{}", rule.key)).collect()
    }
}

impl<'r> Domain<'r> {
    /// Takes in the rules of a level and below. Returns their places.
    fn collect(
        &mut self,
        import: &mut Import,
        level: &'r Level,
        path: &[&'r Rule],
        label: &str,
    ) -> Vec<usize> {
        let mut level_places = Vec::new();
        for rule in level.rules() {
            let value = rule.value.as_ref().map_or_else(String::new, |value| format!("_{value}"));
            let label = format!("{label}.{}{value}", rule.key);
            let path: Vec<&Rule> = path.iter().copied().chain([rule]).collect();
            let says = rule.rate().is_some() || rule.is_unlimited();
            let name = says.then(|| import.name(rule.name().unwrap_or(&label)));
            // What is the domain is there always.
            if is_fit(&rule.key) {
                self.keys.insert(&rule.key);
            }
            let index = self.places.len();
            let (below, lower) = (Vec::new(), Vec::new());
            self.places.push(Place { rule, path: path.clone(), label: label.clone(), name, below, lower });
            self.places[index].below = self.collect(import, &rule.children, &path, &label);
            level_places.push(index);
        }
        for place in &level_places {
            let lower = level_places.iter().copied();
            let lower = lower.filter(|other| {
                let (rule, other) = (&self.places[*place], &self.places[*other]);
                comes_before(rule.rule, other.rule)
            });
            let lower: Vec<usize> = lower.filter(|other| is_later(&self.places, *place, *other)).collect();
            self.places[*place].lower = lower;
        }
        let deeper: Vec<usize> =
            level_places.iter().flat_map(|place| self.places[*place].below.clone()).collect();
        level_places.into_iter().chain(deeper).collect()
    }

    /// The policies of the rules that a rule comes before: of those that end where it does, and of those that lead on.
    fn after(&self, place: &Place<'_>) -> (Vec<String>, Vec<String>) {
        let said = |place: &&usize| self.places[**place].cannot_be_said().is_none();
        let name = |place: &usize| self.places[*place].name.clone();
        let first = place.lower.iter().filter(said).filter_map(name).collect();
        let below = place.lower.iter().flat_map(|lower| &self.places[*lower].below);
        (first, below.filter(said).filter_map(name).collect())
    }

    /// The conditions of the entries that lead to a rule, but for entries that only have to be there.
    fn conditions(&self, place: &Place<'_>, notes: &mut Vec<String>) -> Draft {
        let mut draft = Draft { values: vec![(domain(), self.name.to_owned())], ..Draft::default() };
        for rule in &place.path {
            match &rule.value {
                None => {}
                Some(value) if rule.is_wildcard() => draft.when.push(like(&rule.key, value, notes)),
                Some(value) => draft.values.push((format!("attribute:{}", rule.key), value.clone())),
            }
        }
        draft
    }

    /// Adds that a descriptor has no entries but those that lead to a rule.
    fn exclude_others(&self, place: &Place<'_>, draft: &mut Draft, notes: &mut Vec<String>) {
        let on_path: BTreeSet<&str> = place.path.iter().map(|rule| rule.key.as_str()).collect();
        let others: Vec<&str> = self.keys.difference(&on_path).copied().collect();
        if others.is_empty() {
            return;
        }
        let absent = |keys: &[&str]| {
            let any: Vec<String> = keys.iter().map(|key| format!("{} in attribute", in_cel(key))).collect();
            format!("!({})", any.join(" || "))
        };
        draft.when.push(absent(&others));
        if draft.condition().is_some_and(|all| Expression::parse_for(&all, Purpose::Condition).is_ok()) {
            return;
        }
        draft.when.pop();
        let children: BTreeSet<&str> =
            place.rule.children.rules().iter().map(|rule| rule.key.as_str()).collect();
        if !children.is_empty() {
            draft.when.push(absent(&children.into_iter().collect::<Vec<_>>()));
        }
        if draft.condition().is_some_and(|all| Expression::parse_for(&all, Purpose::Condition).is_err()) {
            draft.when.pop();
        }
        notes.push(format!(
            "the domain has so many keys that a condition cannot name all: it also applies to descriptors that have these \
             entries and more ({} keys)",
            others.len()
        ));
    }
}

/// Whether a rule is tried before another, for a value that both know.
fn comes_before(rule: &Rule, other: &Rule) -> bool {
    if rule.key != other.key {
        return false;
    }
    match (&rule.value, &other.value) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(value), Some(pattern)) if !rule.is_wildcard() => {
            other.is_wildcard() && Like::spelt(pattern).matches(value.as_bytes())
        }
        (Some(_), Some(_)) => other.is_wildcard(),
    }
}

/// Whether a rule that is tried before another stands before it in the file, where that matters: among patterns.
fn is_later(places: &[Place<'_>], place: usize, other: usize) -> bool {
    let both = places[place].rule.is_wildcard() && places[other].rule.is_wildcard();
    !both || place < other
}

/// The condition that a value is like a pattern.
fn like(key: &str, pattern: &str, notes: &mut Vec<String>) -> String {
    let attribute = format!("attribute[{}]", in_cel(key));
    let parts: Vec<&str> = pattern.split('*').collect();
    let (first, last) =
        (parts.first().copied().unwrap_or_default(), parts.last().copied().unwrap_or_default());
    let middle: Vec<&str> = parts
        .get(1..parts.len() - 1)
        .unwrap_or_default()
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    let mut all = Vec::new();
    for (part, function) in [(first, "startsWith"), (last, "endsWith")] {
        if !part.is_empty() {
            all.push(format!("{attribute}.{function}({})", in_cel(part)));
        }
    }
    all.extend(middle.iter().map(|part| format!("{attribute}.contains({})", in_cel(part))));
    let ends = usize::from(!first.is_empty()) + usize::from(!last.is_empty());
    let parts = ends + middle.len();
    if parts > 1 {
        // Parts that overlap are no match.
        let length: usize = [first, last].iter().chain(&middle).map(|part| part.chars().count()).sum();
        all.push(format!("size({attribute}) >= {length}"));
    }
    if middle.len() > 1 || (middle.len() == 1 && ends > 0) {
        notes.push(format!(
            "the pattern `{pattern}` is told part by part: a value in which the parts overlap or stand in another order is \
             taken too"
        ));
    }
    if all.is_empty() {
        all.push(format!("{} in attribute", in_cel(key)));
    }
    all.join(" && ")
}

/// The numbers of a rule, and what a policy has no place for.
fn settings(rule: &Rule, draft: &mut Draft, notes: &mut Vec<String>) {
    match rule.rate() {
        Some((requests, unit)) => {
            draft.settings =
                vec![("algorithm", "fixed_window".to_owned()), ("limit", format!("{requests}/{unit}"))];
        }
        None => draft.settings = vec![("limit", "unlimited".to_owned())],
    }
    if rule.is_shadow() {
        draft.settings.push(("shadow", "true".to_owned()));
    }
    if rule.is_quota() {
        notes.push("quota_mode: it denies by itself here, not only if all rules in this mode do".to_owned());
    }
    if !rule.replaces.is_empty() {
        notes.push(format!(
            "replaces: descriptors of one request do not know each other here, so it replaces nothing ({})",
            rule.replaces.join(", ")
        ));
    }
    if rule.tells_values_apart() {
        notes.push("metrics here tell policies apart, not the values of entries".to_owned());
    }
    if rule.metadata().is_some() {
        notes.push("metadata is not handed back".to_owned());
    }
}
