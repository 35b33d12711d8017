//! A policy's limits.

use std::ops::Range;

use tollgate_core::algorithm::{Refill, TokenBucket};
use tollgate_core::{Limit, LimitError, LimitId, ParseQuotaError, Quota};

use super::calendar::{self, Carry, Wall};
use super::decode::{Decoder, Fields};
use super::tree::{Node, Value};
use crate::policy::PolicyLimit;

/// The algorithms by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Gcra,
    TokenBucket,
    LeakyBucket,
    FixedWindow,
    Quota,
    SlidingWindow,
    SlidingLog,
}

pub(super) const KINDS: [(&str, Kind); 7] = [
    ("gcra", Kind::Gcra),
    ("token_bucket", Kind::TokenBucket),
    ("leaky_bucket", Kind::LeakyBucket),
    ("fixed_window", Kind::FixedWindow),
    ("quota", Kind::Quota),
    ("sliding_window", Kind::SlidingWindow),
    ("sliding_log", Kind::SlidingLog),
];

/// The settings that make a limit, all but its name.
pub(super) const LIMIT_SETTINGS: [&str; 10] = [
    "algorithm",
    "limit",
    "burst",
    "capacity",
    "refill",
    "refill_style",
    "initial",
    "leak",
    "calendar",
    "carry_over",
];

/// How limits are counted that do not say it themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    kind: Kind,
    calendar: Option<Wall>,
    carry: Option<Carry>,
}

impl Manner {
    /// What some settings of a map say of it; the rest as it was.
    pub(super) fn take(&self, decoder: &mut Decoder, fields: &mut Fields<'_>) -> Option<Self> {
        let kind = match fields.take("algorithm") {
            Some(node) => decoder.choice(node, "algorithm", &KINDS)?,
            None => self.kind,
        };
        if !matches!(kind, Kind::FixedWindow | Kind::Quota) {
            return Some(Self { kind, calendar: None, carry: None });
        }
        let calendar = match fields.take("calendar") {
            Some(node) => Some(Wall::decode(decoder, node)?),
            None => self.calendar.clone().or_else(|| (kind == Kind::Quota).then(Wall::utc)),
        };
        let carry = match fields.take("carry_over") {
            Some(node) => Some(Carry::decode(decoder, node)?),
            None => self.carry.clone(),
        };
        Some(Self { kind, calendar, carry })
    }
}

/// A limit that is written as a text (`100/minute`) or as a map.
pub(super) fn decode(decoder: &mut Decoder, node: &Node, default: &Manner) -> Option<PolicyLimit> {
    let Value::Map(_) = node.value else {
        let limit = simple(decoder, node, default)?;
        return Some(PolicyLimit { id: LimitId::default(), name: None, limit });
    };
    let mut fields = decoder.fields(node, "a limit such as `100/minute`, or a map")?;
    let name = fields.take("name").and_then(|node| super::policies::name(decoder, node)).map(str::to_owned);
    let limit = from_fields(decoder, &mut fields, default);
    if limit.is_none() {
        // What is wrong has been said; settings that were not looked at because of it are not unknown.
        for setting in LIMIT_SETTINGS {
            fields.take(setting);
        }
    }
    let known: Vec<&str> = ["name"].into_iter().chain(LIMIT_SETTINGS).collect();
    decoder.finish(fields, &known);
    Some(PolicyLimit { id: LimitId::default(), name, limit: limit? })
}

/// The limit that some settings of a map make.
pub(super) fn from_fields(decoder: &mut Decoder, fields: &mut Fields<'_>, default: &Manner) -> Option<Limit> {
    let manner = default.take(decoder, fields)?;
    let kind = manner.kind;
    let span = fields.span.clone();
    let limit_node = fields.take("limit");
    let limit = match kind {
        Kind::TokenBucket => token_bucket(decoder, fields, limit_node)?,
        Kind::LeakyBucket => {
            let capacity = fields.take("capacity");
            match (capacity, fields.take("leak"), limit_node) {
                (Some(capacity), Some(leak), None) => {
                    let (size, rate) = (count(decoder, capacity), quota(decoder, leak));
                    built(decoder, &capacity.span, Limit::leaky_bucket(size?, rate?))?
                }
                (None, None, Some(node)) => simple(decoder, node, &manner)?,
                _ => return shape(decoder, &span, "a leaky bucket", "`capacity` and `leak`"),
            }
        }
        Kind::Gcra => {
            let Some(node) = limit_node else {
                return shape(decoder, &span, "a limit", "`limit`, as in `limit: 100/minute`");
            };
            match fields.take("burst") {
                Some(burst) => {
                    let (size, rate) = (count(decoder, burst), quota(decoder, node));
                    built(decoder, &burst.span, Limit::gcra_with_burst(rate?, size?))?
                }
                None => simple(decoder, node, &manner)?,
            }
        }
        Kind::FixedWindow | Kind::Quota | Kind::SlidingWindow | Kind::SlidingLog => match limit_node {
            Some(node) => simple(decoder, node, &manner)?,
            None => return shape(decoder, &span, "a window", "`limit`, as in `limit: 100/minute`"),
        },
    };
    for setting in LIMIT_SETTINGS {
        if let Some(node) = fields.take_left(setting) {
            let (word, _) = KINDS.iter().find(|(_, known)| *known == kind)?;
            decoder.problem(&node.span, format!("`{setting}` means nothing for `{word}`"));
        }
    }
    Some(limit)
}

fn token_bucket(decoder: &mut Decoder, fields: &mut Fields<'_>, limit: Option<&Node>) -> Option<Limit> {
    let (capacity, refill) = (fields.take("capacity"), fields.take("refill"));
    let style = match fields.take("refill_style") {
        Some(node) => decoder.choice(
            node,
            "refill style",
            &[("greedy", Refill::Greedy), ("interval", Refill::Interval)],
        )?,
        None => Refill::Greedy,
    };
    // Looked at before anything can be wrong with the others, so that all that is wrong is said.
    let initial = fields.take("initial").map(|node| (node, count(decoder, node)));
    let (size, rate, span) = match (capacity, refill, limit) {
        (Some(capacity), Some(refill), None) => {
            let (size, rate) = (count(decoder, capacity), quota(decoder, refill));
            (size?, rate?, &capacity.span)
        }
        (None, None, Some(node)) => {
            if unlimited(node) {
                return Some(Limit::Unlimited);
            }
            let rate = quota(decoder, node)?;
            if rate.count() == 0 {
                return Some(Limit::DenyAll);
            }
            (rate.count(), rate, &node.span)
        }
        _ => return shape(decoder, &fields.span.clone(), "a token bucket", "`capacity` and `refill`"),
    };
    let mut bucket =
        built(decoder, span, TokenBucket::new(size, rate).and_then(|bucket| bucket.with_refill(style)))?;
    if let Some((node, initial)) = initial {
        bucket = built(decoder, &node.span, bucket.with_initial(initial?))?;
    }
    Some(Limit::from(bucket))
}

/// A limit that a rate alone makes.
fn simple(decoder: &mut Decoder, node: &Node, manner: &Manner) -> Option<Limit> {
    if unlimited(node) {
        return Some(Limit::Unlimited);
    }
    let quota = quota(decoder, node)?;
    let limit = match manner.kind {
        _ if quota.count() == 0 => Ok(Limit::DenyAll),
        Kind::Gcra => Ok(Limit::gcra(quota)),
        Kind::FixedWindow | Kind::Quota => {
            let (wall, carry) = (manner.calendar.as_ref(), manner.carry.as_ref());
            return calendar::window(decoder, node, quota, wall, carry).map(Limit::from);
        }
        Kind::SlidingWindow => Ok(Limit::sliding_window(quota)),
        Kind::SlidingLog => Limit::sliding_log(quota),
        Kind::TokenBucket => Limit::token_bucket(quota.count(), quota),
        Kind::LeakyBucket => Limit::leaky_bucket(quota.count(), quota),
    };
    built(decoder, &node.span, limit)
}

/// How often something may happen.
pub(super) fn denials(decoder: &mut Decoder, node: &Node) -> Option<Limit> {
    let quota = quota(decoder, node)?;
    Some(if quota.count() == 0 { Limit::DenyAll } else { Limit::gcra(quota) })
}

fn unlimited(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if text == "unlimited")
}

fn quota(decoder: &mut Decoder, node: &Node) -> Option<Quota> {
    match &node.value {
        Value::Text(text) => match text.parse::<Quota>() {
            Ok(quota) => return Some(quota),
            Err(error @ ParseQuotaError::Period(_)) => decoder.hinted(
                &node.span,
                error.to_string(),
                "units are ms, second, minute, hour, day, week, month (30 days) and year (365 days)",
            ),
            Err(error) => decoder.problem(&node.span, error.to_string()),
        },
        Value::Integer(number @ 0..) => {
            decoder.hinted(&node.span, format!("{number} in how long?"), format!("write `{number}/minute`"));
        }
        _ => decoder.expected(node, "a rate such as `100/minute`"),
    }
    None
}

fn count(decoder: &mut Decoder, node: &Node) -> Option<u64> {
    decoder
        .number(node, 0, tollgate_core::quota::MAX_COUNT.into())
        .and_then(|number| u64::try_from(number).ok())
}

fn built<T>(decoder: &mut Decoder, span: &Range<usize>, limit: Result<T, LimitError>) -> Option<T> {
    limit.map_err(|error| decoder.problem(span, error.to_string())).ok()
}

fn shape(decoder: &mut Decoder, span: &Range<usize>, what: &str, needs: &str) -> Option<Limit> {
    decoder.problem(span, format!("{what} needs {needs}"));
    None
}
