//! By which names metrics count descriptors.

use super::rule::ToldApart;
use super::{Descriptor, DescriptorRules, Rule};

impl DescriptorRules {
    /// How metrics name what limits a descriptor: a name for each entry, `key` or `key_value`. `None` if the domain is not
    /// known or no rule is led to.
    ///
    /// The value is that of the rule, if it asks for one. What a request has sent itself is only in there where the rules say
    /// so, by `detailed_metric` or `value_to_metric`, or where the request brings its own limit along: whoever keeps these
    /// names has to bound them.
    ///
    /// ```
    /// use tollgate_core::KeySeed;
    /// use tollgate_policy::{Descriptor, DescriptorRules};
    ///
    /// let file = "
    /// domain: edge
    /// descriptors:
    ///   - key: route
    ///     value_to_metric: true
    ///     descriptors:
    ///       - key: user
    ///         rate_limit: { unit: day, requests_per_unit: 5 }
    /// ";
    /// let rules = DescriptorRules::parse(&[("rules.yaml", file)], false, KeySeed::new([7; 16])).unwrap();
    /// let entries = [("route", "search"), ("user", "anna")];
    /// assert_eq!(rules.series("edge", &Descriptor::new(&entries)).unwrap(), ["route_search", "user"]);
    /// ```
    pub fn series(&self, domain: &str, descriptor: &Descriptor<'_>) -> Option<Vec<String>> {
        let mut level = self.domains.get(domain)?;
        let all = || descriptor.entries.iter().map(|(key, value)| name(key, value));
        if descriptor.limit.is_some() {
            return Some(all().collect());
        }
        let (mut names, mut rules): (Vec<String>, Vec<&Rule>) = (Vec::new(), Vec::new());
        for (key, value) in descriptor.entries {
            let rule = level.find(key, value)?;
            names.push(match &rule.value {
                // All values by the pattern are one.
                Some(asked) if rule.shares_threshold => name(key, asked),
                _ if rule.told_apart == ToldApart::Own => name(key, value),
                Some(asked) => name(key, asked),
                None => (*key).to_owned(),
            });
            rules.push(rule);
            level = &rule.children;
        }
        if rules.last()?.told_apart == ToldApart::All {
            for ((name, whole), rule) in names.iter_mut().zip(all()).zip(&rules) {
                if !rule.shares_threshold {
                    *name = whole;
                }
            }
        }
        Some(names)
    }
}

fn name(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key}_{value}") }
}

#[cfg(test)]
mod tests {
    use tollgate_core::KeySeed;

    use super::*;
    use crate::descriptors::Unit;

    const RULES: &str = "domain: edge
descriptors:
  - key: plain
    rate_limit: { unit: day, requests_per_unit: 5 }
  - key: plain
    value: known
    rate_limit: { unit: day, requests_per_unit: 5 }
  - key: like
    value: a*
    rate_limit: { unit: day, requests_per_unit: 5 }
  - key: like
    value: b*
    value_to_metric: true
    rate_limit: { unit: day, requests_per_unit: 5 }
  - key: like
    value: c*
    value_to_metric: true
    share_threshold: true
    rate_limit: { unit: day, requests_per_unit: 5 }
  - key: route
    value_to_metric: true
    descriptors:
      - key: user
        rate_limit: { unit: day, requests_per_unit: 5 }
      - key: detailed
        detailed_metric: true
        rate_limit: { unit: day, requests_per_unit: 5 }
  - key: files
    value: f*
    share_threshold: true
    descriptors:
      - key: detailed
        detailed_metric: true
        rate_limit: { unit: day, requests_per_unit: 5 }
";

    #[test]
    fn values_are_told_apart_where_the_rules_say_so() {
        let rules = DescriptorRules::parse(&[("rules.yaml", RULES)], false, KeySeed::new([7; 16])).unwrap();
        let told = |entries: &[(&str, &str)]| {
            rules.series("edge", &Descriptor::new(entries)).map(|names| names.join(" "))
        };
        for (entries, names) in [
            (&[("plain", "anna")][..], "plain"),
            (&[("plain", "known")], "plain_known"),
            (&[("like", "a1")], "like_a*"),
            (&[("like", "b1")], "like_b1"),
            (&[("like", "c1")], "like_c*"),
            (&[("route", "api"), ("user", "anna")], "route_api user"),
            (&[("route", "api"), ("detailed", "anna")], "route_api detailed_anna"),
            (&[("files", "f1"), ("detailed", "x")], "files_f* detailed_x"),
        ] {
            assert_eq!(told(entries).as_deref(), Some(names));
        }
        assert_eq!(told(&[("other", "x")]), None);
        assert_eq!(told(&[]), None);
        let entries = [("other", "x"), ("empty", "")];
        let own = Descriptor { limit: Some((9, Unit::Hour)), ..Descriptor::new(&entries) };
        assert_eq!(rules.series("edge", &own).unwrap(), ["other_x", "empty"]);
        assert_eq!(rules.series("elsewhere", &own), None);
    }
}
