//! What one run of the measuring program printed.

use std::collections::BTreeMap;

/// The numbers of one line of JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample(BTreeMap<String, f64>);

impl Sample {
    /// Reads a flat object. What is no number in it says what was asked for, and is left out.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let inner = line.trim().strip_prefix('{')?.strip_suffix('}')?;
        let mut numbers = BTreeMap::new();
        for field in inner.split(',') {
            let (name, value) = field.split_once(':')?;
            if let Ok(number) = value.parse() {
                numbers.insert(name.trim_matches('"').to_owned(), number);
            }
        }
        Some(Self(numbers))
    }

    /// A sample of one number.
    pub(super) fn of(name: &str, number: f64) -> Self {
        Self(BTreeMap::from([(name.to_owned(), number)]))
    }

    /// The number of this name, if it was told.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn reads_the_numbers_of_a_line() {
        let sample = Sample::parse("{\"peer\":\"governor\",\"keys\":10,\"ns\":1.5}\n").unwrap();
        assert_eq!((sample.get("keys"), sample.get("ns"), sample.get("peer")), (Some(10.0), Some(1.5), None));
        assert_eq!(Sample::parse("error"), None);
        assert_eq!(Sample::parse("{\"ns\"}"), None);
    }
}
