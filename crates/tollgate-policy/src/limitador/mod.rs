//! Limits as Limitador has them: what its clients ask about, and what files of its are.
//!
//! A request of theirs names a *namespace* and some *descriptors*, each a set of keys and values. A limit of the namespace
//! applies if all its conditions hold and all its variables have values; it keeps a *counter* for each combination of those
//! values. All limits that apply decide together. The window of a counter starts with its first hit.

mod limit;
#[cfg(all(test, feature = "expressions"))]
mod tests;

use std::collections::HashMap;

use tollgate_core::{KeyBuilder, KeyHash, KeySeed};

use crate::expression::Context;

pub use self::limit::LimitadorLimit;

/// The limits of all namespaces, ready to be asked.
///
/// ```
/// # #[cfg(feature = "expressions")] {
/// use tollgate_core::KeySeed;
/// use tollgate_policy::LimitadorLimits;
///
/// let file = r#"
/// - namespace: shop
///   max_value: 10
///   seconds: 60
///   conditions: ['descriptors[0]["method"] == "POST"']
///   variables: ['descriptors[0]["user"]']
/// "#;
/// let limits = LimitadorLimits::parse("limits.yaml", file, KeySeed::new([7; 16])).unwrap();
/// let counters = limits.find("shop", &[&[("method", "POST"), ("user", "anna")]]);
/// assert_eq!(counters[0].limit.max_value(), 10);
/// assert_eq!(counters[0].values().collect::<Vec<_>>(), [(r#"descriptors[0]["user"]"#, "anna")]);
/// assert!(limits.find("shop", &[&[("method", "GET"), ("user", "anna")]]).is_empty());
/// # }
/// ```
#[derive(Debug)]
pub struct LimitadorLimits {
    /// In the order of the file.
    limits: Vec<LimitadorLimit>,
    /// What the keys of their counters start with.
    keys: Vec<KeyBuilder>,
    /// Their places, by namespace.
    namespaces: HashMap<String, Vec<usize>>,
    hasher: KeyBuilder,
}

/// A descriptor of a request: keys and values. Of several values of one key the last counts.
pub type Entries<'d> = &'d [(&'d str, &'d str)];

/// What a limit that applies to a request counts by.
#[derive(Clone, Debug)]
pub struct LimitadorCounter<'l> {
    /// The limit.
    pub limit: &'l LimitadorLimit,
    /// Its place in the file, from 0.
    pub place: usize,
    /// What is counted.
    pub key: KeyHash,
    /// One for each variable.
    values: Vec<String>,
}

impl LimitadorCounter<'_> {
    /// The limit's variables, as they are written, and their values.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.limit.variables().zip(self.values.iter().map(String::as_str))
    }
}

impl LimitadorLimits {
    pub(crate) fn new(seed: KeySeed) -> Self {
        Self {
            limits: Vec::new(),
            keys: Vec::new(),
            namespaces: HashMap::new(),
            hasher: KeyBuilder::new(&seed),
        }
    }

    /// Adds a limit.
    ///
    /// # Errors
    /// The place of a limit that counts the same.
    pub(crate) fn add(&mut self, limit: LimitadorLimit) -> Result<(), usize> {
        let places = self.namespaces.entry(limit.namespace().to_owned()).or_default();
        if let Some(same) = places.iter().find(|place| self.limits[**place].counts_as(&limit)) {
            return Err(*same);
        }
        places.push(self.limits.len());
        self.keys.push(limit.identity(self.hasher));
        self.limits.push(limit);
        Ok(())
    }

    /// All limits, in the order of the file.
    pub fn limits(&self) -> &[LimitadorLimit] {
        &self.limits
    }

    /// The limits of a namespace, in the order of the file.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &LimitadorLimit> {
        self.places(namespace).iter().map(|place| &self.limits[*place])
    }

    fn places(&self, namespace: &str) -> &[usize] {
        self.namespaces.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// What is counted for a request with these descriptors: a counter for each limit that applies to it, in the order of
    /// the file.
    pub fn find(&self, namespace: &str, descriptors: &[Entries<'_>]) -> Vec<LimitadorCounter<'_>> {
        let places = self.places(namespace);
        if places.is_empty() {
            return Vec::new();
        }
        let context = Context::of_descriptors(descriptors);
        let counter = |place: &usize| {
            let limit = self.limits.get(*place)?;
            let values = limit.values_in(&context)?;
            let mut key = *self.keys.get(*place)?;
            for value in &values {
                key.push(value.as_str());
            }
            Some(LimitadorCounter { limit, place: *place, key: key.finish(), values })
        };
        places.iter().filter_map(counter).collect()
    }
}
