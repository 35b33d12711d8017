//! What limits adapt to: how services fare, and how much they can do at once.

use std::ops::Range;
use std::time::Duration;

use tollgate_adaptive::{Bounds, Thresholds};
use tollgate_core::quota::parse_length;
use tollgate_core::{Level, Nanos, Percent, Scaling};

use super::decode::{Decoder, Fields, shortened};
use super::policies::checked_name;
use super::store::length;
use super::tree::{Node, Value};
use crate::adaptive::{Adaptive, ConcurrencyRules, ControlKind, HealthRules};

/// The most services, of either kind: each is a series in metrics.
const SERVICES_MAX: usize = 100;

/// `orders`, or `{ to: orders, degraded: 70%, bad: 30% }`; and where the service is named.
pub(super) fn adaptive(decoder: &mut Decoder, node: &Node) -> Option<(Adaptive, Range<usize>)> {
    if let Value::Text(to) = &node.value {
        return Some((Adaptive { to: to.clone(), scaling: Scaling::default() }, node.span.clone()));
    }
    let mut fields = decoder.fields(node, "the name of a service, or a map with `to:`")?;
    let usual = Scaling::default();
    let mut percent = |name: &str| fields.take(name).map(|node| percent(decoder, node));
    let (degraded, bad) = (percent("degraded"), percent("bad"));
    let to = fields.take("to");
    if to.is_none() {
        decoder.hinted(
            &fields.span.clone(),
            "it is not said what the policy adapts to",
            "write `adaptive: { to: … }`, with the name of a service under `health:`",
        );
    }
    decoder.finish(fields, &["to", "degraded", "bad"]);
    let (degraded, bad) = (degraded.unwrap_or(Some(usual.degraded))?, bad.unwrap_or(Some(usual.bad))?);
    if bad > degraded {
        decoder.hinted(
            &node.span,
            format!("{bad} while it is bad would be more than the {degraded} while it is degraded"),
            "write `degraded: 70%, bad: 30%`",
        );
        return None;
    }
    let to = to?;
    Some((Adaptive { to: decoder.text(to)?.to_owned(), scaling: Scaling { degraded, bad } }, to.span.clone()))
}

/// The services whose health is looked at.
pub(super) fn health(decoder: &mut Decoder, node: &Node) -> Vec<HealthRules> {
    services(decoder, node, "health", |decoder, name, node| {
        let mut fields = decoder.fields(node, "a map with `errors:`, `latency:`, `cpu:` or `store:`")?;
        let errors = fields.take("errors").and_then(|node| thresholds(decoder, node, share));
        let latency = fields.take("latency").and_then(|node| latency(decoder, node));
        let cpu = fields.take("cpu").and_then(|node| thresholds(decoder, node, share));
        let store = fields.take("store").and_then(|node| {
            decoder.choice(node, "level", &[("degraded", Level::Degraded), ("bad", Level::Bad)])
        });
        let dwell = length(decoder, &mut fields, "dwell").unwrap_or(Nanos::from_secs(10));
        decoder.finish(fields, &["errors", "latency", "cpu", "store", "dwell"]);
        Some(HealthRules { name, errors, latency, cpu, store, dwell })
    })
}

/// The services of which so much at once may be under way.
pub(super) fn concurrency(decoder: &mut Decoder, node: &Node) -> Vec<ConcurrencyRules> {
    services(decoder, node, "concurrency", |decoder, name, node| {
        let mut fields = decoder.fields(node, "a map with `limit:`")?;
        let Some(limit) = fields.take("limit") else {
            decoder.hinted(
                &fields.span.clone(),
                "it is not said how many may be under way",
                "write `limit: 32`, or `limit: vegas` to let it be found out",
            );
            return None;
        };
        let ttl = length(decoder, &mut fields, "ttl").unwrap_or(Nanos::from_secs(30));
        if let Value::Integer(_) = limit.value {
            let most = i128::from(tollgate_adaptive::control::LIMIT_MAX);
            let limit = decoder.number(limit, 1, most).and_then(|number| u32::try_from(number).ok());
            decoder.finish(fields, &["limit", "ttl"]);
            let limit = std::num::NonZeroU32::new(limit?)?;
            return Some(ConcurrencyRules { name, control: ControlKind::Fixed(limit), ttl });
        }
        let bounds = bounds(decoder, &mut fields, limit);
        let slow_above = length(decoder, &mut fields, "slow_above");
        let tolerance = fields.take("tolerance").and_then(|node| factor(decoder, node));
        let known = ["limit", "ttl", "initial", "least", "most", "slow_above", "tolerance"];
        decoder.finish(fields, &known);
        let text = decoder.text(limit)?;
        let for_others = |decoder: &mut Decoder, is_set: bool, setting: &str, of: &str| {
            if is_set && text != of {
                decoder.problem(&limit.span, format!("`{setting}` is for `limit: {of}`"));
            }
        };
        for_others(decoder, slow_above.is_some(), "slow_above", "aimd");
        for_others(decoder, tolerance.is_some(), "tolerance", "gradient");
        let bounds = bounds?;
        let control = match text {
            "aimd" => {
                let slow_above = slow_above.map_or(Duration::MAX, Into::into);
                ControlKind::Aimd { bounds, slow_above }
            }
            "vegas" => ControlKind::Vegas { bounds },
            "gradient" => ControlKind::Gradient { bounds, tolerance },
            other => {
                decoder.unknown(&limit.span, "limit", other, &["aimd", "vegas", "gradient"]);
                return None;
            }
        };
        Some(ConcurrencyRules { name, control, ttl })
    })
}

/// A map from the names of services to what is said of each.
fn services<T>(
    decoder: &mut Decoder,
    node: &Node,
    what: &str,
    decode: impl Fn(&mut Decoder, String, &Node) -> Option<T>,
) -> Vec<T> {
    let Some(mut fields) = decoder.fields(node, "a map from names of services") else { return Vec::new() };
    let entries = fields.rest();
    if entries.len() > SERVICES_MAX {
        decoder.problem(&node.span, format!("`{what}` has at most {SERVICES_MAX} services"));
    }
    let mut services = Vec::new();
    for (name, span, node) in entries {
        if let Some(name) = checked_name(decoder, &span, name) {
            services.extend(decode(decoder, name.to_owned(), node));
        }
    }
    services
}

/// `{ percentile: 95, degraded: 300ms, bad: 1s }`.
fn latency(decoder: &mut Decoder, node: &Node) -> Option<(f64, Thresholds)> {
    let mut fields = decoder.fields(node, "a map with `degraded:` and `bad:`")?;
    let percentile = match fields.take("percentile") {
        Some(node) => {
            let number = decoder.word(node)?.parse().ok().filter(|number| (0.0..=100.0).contains(number));
            if number.is_none() {
                decoder.hinted(
                    &node.span,
                    "this is no percentile",
                    "write a number from 0 to 100, as 95 or 99.9",
                );
            }
            number
        }
        None => Some(95.0),
    };
    let thresholds = steps(decoder, fields, &["percentile", "degraded", "bad"], seconds);
    Some((percentile?, thresholds?))
}

/// `{ degraded: …, bad: … }`, of what `read` reads.
fn thresholds(
    decoder: &mut Decoder,
    node: &Node,
    read: impl Fn(&mut Decoder, &Node) -> Option<f64>,
) -> Option<Thresholds> {
    let fields = decoder.fields(node, "a map with `degraded:` and `bad:`")?;
    steps(decoder, fields, &["degraded", "bad"], read)
}

fn steps(
    decoder: &mut Decoder,
    mut fields: Fields<'_>,
    known: &[&str],
    read: impl Fn(&mut Decoder, &Node) -> Option<f64>,
) -> Option<Thresholds> {
    let span = fields.span.clone();
    let (degraded, bad) = (fields.take("degraded"), fields.take("bad"));
    decoder.finish(fields, known);
    if degraded.is_none() && bad.is_none() {
        decoder.hinted(
            &span,
            "it is not said from where on this is no longer good",
            "write `degraded:`, `bad:`, or both",
        );
        return None;
    }
    let mut value = |node: Option<&Node>| node.map(|node| read(decoder, node));
    let (degraded, bad) = (value(degraded), value(bad));
    // Where only one is said, there is only that level.
    let bad = bad.unwrap_or(Some(f64::INFINITY))?;
    let degraded = degraded.unwrap_or(Some(bad))?;
    Thresholds::new(degraded, bad).map_err(|error| decoder.problem(&span, error.to_string())).ok()
}

fn bounds(decoder: &mut Decoder, fields: &mut Fields<'_>, limit: &Node) -> Option<Bounds> {
    let mut number = |name: &str, usual: u32| {
        let most = i128::from(tollgate_adaptive::control::LIMIT_MAX);
        let number = fields.take(name).map(|node| decoder.number(node, 1, most));
        number.map_or(Some(usual), |number| number.and_then(|number| u32::try_from(number).ok()))
    };
    let (least, most) = (number("least", 1)?, number("most", 1_000)?);
    let initial = number("initial", 20_u32.max(least).min(most))?;
    Bounds::new(least, initial, most).map_err(|error| decoder.problem(&limit.span, error.to_string())).ok()
}

/// A whole number of percent.
fn percent(decoder: &mut Decoder, node: &Node) -> Option<Percent> {
    let text = decoder.word(node)?;
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok()).and_then(Percent::new);
    if percent.is_none() {
        decoder.hinted(
            &node.span,
            format!("`{}` is no share of a limit", shortened(&text)),
            "write a whole number of percent, as in `70%`",
        );
    }
    percent
}

/// Percent, as a number from 0 to 1.
fn share(decoder: &mut Decoder, node: &Node) -> Option<f64> {
    let text = decoder.word(node)?;
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    if number.is_none() {
        decoder.hinted(
            &node.span,
            format!("`{}` is no share", shortened(&text)),
            "write a number of percent, as in `5%` or `0.5%`",
        );
    }
    number.map(|number| number / 100.0)
}

/// A length of time in seconds.
fn seconds(decoder: &mut Decoder, node: &Node) -> Option<f64> {
    let text = decoder.text(node)?;
    match parse_length(text.trim()) {
        Ok(length) => Some(Duration::from(length).as_secs_f64()),
        Err(error) => {
            decoder.hinted(&node.span, error.to_string(), "write a number and a unit, as in `300ms`");
            None
        }
    }
}

/// A number from 1 to 10.
fn factor(decoder: &mut Decoder, node: &Node) -> Option<f64> {
    let number = decoder.word(node)?.parse().ok().filter(|number| (1.0..=10.0).contains(number));
    if number.is_none() {
        decoder.problem(&node.span, "a tolerance is a number from 1 to 10");
    }
    number
}

#[cfg(test)]
mod tests;
