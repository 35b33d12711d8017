//! What envoyproxy/ratelimit counts, by its names, so that dashboards go on working: how many hits each rule has had, and how
//! near to the limit they were.
//!
//! Labels are the domain and, as `key1`, `key2` and so on, the entries by which a rule is found. With `detailed_metric` and
//! `value_to_metric` they have values of requests in them: so there are at most so many series, each of bounded length.

use std::collections::HashMap;
use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tollgate::{Applies, Descriptor, DescriptorRules, DescriptorStatus};

/// The most series of one metric; what comes later is counted as `other`.
const SERIES_MAX: usize = 1_000;
/// The longest value of a label, in characters.
const VALUE_MAX: usize = 128;
/// What stands for all that there is no room for.
const OTHER: &str = "other";

/// The metrics: a name, what it says, and where it is found.
const METRICS: [(&str, &str, Count); 5] = [
    ("total_hits", "Hits of a rule for descriptors.", |counts| &counts.total),
    ("within_limit", "Hits within the limit.", |counts| &counts.within),
    ("near_limit", "Hits within the limit of which 80 % were spent.", |counts| &counts.near),
    ("over_limit", "Hits over the limit.", |counts| &counts.over),
    ("shadow_mode", "Hits over the limit of a rule that only watches.", |counts| &counts.shadow),
];

type Count = fn(&Counts) -> &AtomicU64;

/// What is counted of one rule.
#[derive(Debug, Default)]
struct Counts {
    total: AtomicU64,
    within: AtomicU64,
    near: AtomicU64,
    over: AtomicU64,
    shadow: AtomicU64,
}

/// The counts of all rules that were asked for.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct DescriptorMetrics(Arc<RwLock<HashMap<Vec<String>, Arc<Counts>>>>);

impl DescriptorMetrics {
    pub(in crate::serve) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// Counts hits of a descriptor that a rule applies to. `took` says whether they were booked, if they were within the limit:
    /// of a request that another descriptor denies, nothing is.
    pub(in crate::serve) fn count(
        &self,
        rules: &DescriptorRules,
        domain: &str,
        (descriptor, applies): (&Descriptor<'_>, &Applies<'_>),
        (status, hits, took): (&DescriptorStatus, u32, bool),
    ) {
        let Applies::Limited(applied) = applies else { return };
        if hits == 0 {
            return;
        }
        let Some(names) = rules.series(domain, descriptor) else { return };
        let counts = self.counts(domain, names);
        let limit = u64::from(applied.requests_per_unit);
        let spent = limit.saturating_sub(status.remaining.into());
        let split = Split::of(limit, spent, hits.into(), (status.is_exceeded, took));
        // Relaxed: each count stands for itself.
        let add = |count: &AtomicU64, hits: u64| count.fetch_add(hits, Ordering::Relaxed);
        add(&counts.total, hits.into());
        add(&counts.within, split.within);
        add(&counts.near, split.near);
        add(&counts.over, split.over);
        if status.is_exceeded && applied.is_shadow() {
            add(&counts.shadow, hits.into());
        }
    }

    fn counts(&self, domain: &str, names: Vec<String>) -> Arc<Counts> {
        let shortened =
            |text: String| if text.len() > VALUE_MAX { text.chars().take(VALUE_MAX).collect() } else { text };
        let labels: Vec<String> = [domain.to_owned()].into_iter().chain(names).map(shortened).collect();
        // A count is whole after every step.
        if let Some(counts) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            return Arc::clone(counts);
        }
        let mut series = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let has_room = series.len() + 1 < SERIES_MAX || series.contains_key(&labels);
        let labels = if has_room { labels } else { vec![OTHER.to_owned(); 2] };
        Arc::clone(series.entry(labels).or_default())
    }
}

/// How hits are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split {
    within: u64,
    near: u64,
    over: u64,
}

impl Split {
    /// Hits of a limit of which so much is spent; whether they exceeded it, and else whether they are among what is spent.
    fn of(limit: u64, spent: u64, hits: u64, (exceeded, took): (bool, bool)) -> Self {
        // Four fifths: then a limit is nearly reached.
        let nearly = u64::try_from(u128::from(limit) * 4 / 5).unwrap_or(limit);
        if exceeded {
            // Some of them would have fitted.
            let room = limit.saturating_sub(spent).min(hits);
            let near = (spent + room).saturating_sub(nearly.max(spent));
            return Self { within: 0, near, over: hits - room };
        }
        let before = if took { spent.saturating_sub(hits) } else { spent };
        let near = (before + hits).saturating_sub(nearly.max(before)).min(hits);
        Self { within: hits, near, over: 0 }
    }
}

impl Collector for DescriptorMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let series = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return Ok(());
        }
        let mut series: Vec<(&Vec<String>, &Arc<Counts>)> = series.iter().collect();
        series.sort_unstable_by_key(|(labels, _)| *labels);
        let key = |index: usize| if index == 0 { "domain".to_owned() } else { format!("key{index}") };
        for (name, help, count) in METRICS {
            let name = format!("ratelimit_service_rate_limit_{name}");
            // A counter's name would have to end in `_total`, which theirs do not.
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Unknown)?;
            for (labels, counts) in &series {
                let labels: Vec<(String, &str)> =
                    labels.iter().enumerate().map(|(index, label)| (key(index), label.as_str())).collect();
                let value = i64::try_from(count(counts).load(Ordering::Relaxed)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn hits_are_within_near_and_over() {
        let split = |spent, hits, outcome| {
            let Split { within, near, over } = Split::of(10, spent, hits, outcome);
            (within, near, over)
        };
        let (passed, held_back, over) = ((false, true), (false, false), (true, false));
        assert_eq!(split(8, 8, passed), (8, 0, 0));
        assert_eq!(split(9, 1, passed), (1, 1, 0));
        assert_eq!(split(10, 10, passed), (10, 2, 0));
        assert_eq!(split(8, 1, held_back), (1, 1, 0));
        assert_eq!(split(0, 1, held_back), (1, 0, 0));
        assert_eq!(split(10, 3, over), (0, 0, 3));
        assert_eq!(split(7, 5, over), (0, 2, 2));
        assert_eq!(split(9, 5, over), (0, 1, 4));
        assert_eq!(Split::of(0, 0, 1, over), Split { over: 1, ..Split::default() });
    }

    #[test]
    fn whatever_comes_there_are_not_too_many_series_nor_too_long_ones() {
        let mut registry = Registry::default();
        let metrics = DescriptorMetrics::new(&mut registry);
        for number in 0..SERIES_MAX as u64 * 3 {
            let long = format!("user_{number}{}", "ä".repeat(1_000));
            metrics.counts("edge", vec![long]).total.fetch_add(1, Ordering::Relaxed);
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let totals =
            || text.lines().filter(|line| line.starts_with("ratelimit_service_rate_limit_total_hits{"));
        assert_eq!(totals().count(), SERIES_MAX);
        let other = r#"ratelimit_service_rate_limit_total_hits{domain="other",key1="other"} 2001"#;
        assert!(totals().any(|line| line == other), "{text}");
        assert!(totals().all(|line| line.chars().count() < 300));
        assert!(text.contains("# TYPE ratelimit_service_rate_limit_total_hits unknown"));
    }
}
