//! Reading what `/metrics` says, so that both tell the same numbers.

use std::collections::HashMap;

use opentelemetry::KeyValue;

/// One series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) attributes: Vec<KeyValue>,
    pub(super) value: f64,
}

/// Series by the name that their lines begin with.
pub(super) type Samples<'t> = HashMap<&'t str, Vec<Sample>>;

/// The samples of a text in the OpenMetrics format, as this program writes it. Labels become attributes of `tollgate`.
pub(super) fn samples(text: &str) -> Samples<'_> {
    let mut samples = Samples::new();
    for (name, sample) in text.lines().filter_map(sample) {
        samples.entry(name).or_default().push(sample);
    }
    samples
}

/// What is said of the metric of a sample.
pub(super) fn help<'t>(text: &'t str, sample: &str) -> Option<&'t str> {
    let metric = sample.strip_suffix("_total").unwrap_or(sample);
    text.lines().find_map(|line| line.strip_prefix("# HELP ")?.strip_prefix(metric)?.strip_prefix(' '))
}

fn sample(line: &str) -> Option<(&str, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    if name == "#" {
        return None;
    }
    let mut attributes = Vec::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (key, value) = label.split_once("=\"")?;
        let (value, after) = unquoted(value)?;
        attributes.push(KeyValue::new(format!("tollgate.{key}"), value));
        rest = after;
    }
    let value = rest.trim_start_matches('}').split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, Sample { attributes, value }))
}

/// A value up to its closing quote, and what comes after that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_meant() {
        let text = "# HELP a_b Some, of {all}.\n# TYPE a_b counter\na_b_total{x=\"1, } \\\"2\\\"\\\\\",y=\"a\\nb\"} 3\n\
                    a_b_total{x=\"\"} 1e-7\nc 5.5\nbroken{x=\"\n# EOF\n";
        let read = samples(text);
        let of = |pairs: &[(&'static str, &'static str)], value| Sample {
            attributes: pairs.iter().map(|(key, value)| KeyValue::new(*key, *value)).collect(),
            value,
        };
        let first = of(&[("tollgate.x", "1, } \"2\"\\"), ("tollgate.y", "a\nb")], 3.0);
        assert_eq!(read.get("a_b_total"), Some(&vec![first, of(&[("tollgate.x", "")], 1e-7)]));
        assert_eq!(read.get("c"), Some(&vec![of(&[], 5.5)]));
        assert_eq!(read.len(), 2);
        assert_eq!(help(text, "a_b_total"), Some("Some, of {all}."));
        assert_eq!(help(text, "a"), None);
    }
}
