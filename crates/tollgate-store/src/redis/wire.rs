//! What the script is sent, and what it answers.
//!
//! | part | packed as |
//! |---|---|
//! | a rule | a letter for its kind, and its [numbers](crate::shared::rule) as doubles |
//! | a request | the number of groups; for each: how many hits must admit, whether it is a shadow, how many hits there are; for each of these: the number of its rule, that of its key, what must be there, what is taken |
//! | a rule of a calendar's windows | the same, with the edges of the windows around the server's time as it was heard last; the script takes the one that it is in, or says that it is elsewhere |
//! | a state | the letter of the kind that wrote it, and its numbers as doubles: 17 or 25 bytes, but for logs |
//!
//! Doubles hold whole numbers below 2^53 exactly, and all of these are.

use tollgate_core::{Group, KeyHash, Limit, Timestamp};

use crate::shared::batch::{Answered, Batch, Reply, rule_of};
use crate::shared::rule::{MICRO, Rule, Value};
use crate::store::StoreError;
use crate::together::asked;

/// The rules and the requests as the script reads them, at about this time.
pub(super) fn pack(batch: &Batch, about: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let (mut rules, mut requests): (Vec<Limit>, _) = (Vec::new(), Vec::new());
    short(&mut requests, batch.orders().len());
    for some in batch.orders().chunk_by(|one, other| one.is_alone() && other.is_alone()) {
        if some[0].is_alone() {
            short(&mut requests, some.len());
            for (_, key, limit, cost) in some.iter().flat_map(|order| &order.hits) {
                pack_state(batch, *key, limit, &mut rules, &mut requests);
                doubles(&mut requests, &rule_of(limit).cost(*cost));
            }
        } else {
            for order in some {
                short(&mut requests, 0);
                order.with_groups(|groups| pack_request(batch, groups, &mut rules, &mut requests));
            }
        }
    }
    let mut packed = Vec::new();
    short(&mut packed, rules.len());
    for limit in &rules {
        let rule = rule_of(limit);
        packed.push(rule.letter());
        doubles(&mut packed, &rule.numbers(about));
    }
    (packed, requests)
}

fn pack_request(batch: &Batch, groups: &[Group<'_>], rules: &mut Vec<Limit>, to: &mut Vec<u8>) {
    short(to, groups.len());
    let mut index = 0;
    for group in groups {
        short(to, group.combine.needed(group.hits.len()));
        to.push(u8::from(group.shadow));
        short(to, group.hits.len());
        for hit in group.hits {
            let rule = rule_of(hit.limit);
            if let Rule::Stateless { admits } = rule {
                short(to, 0);
                to.push(u8::from(admits));
            } else {
                pack_state(batch, hit.key, hit.limit, rules, to);
                doubles(to, &rule.cost(asked(groups, index)));
                doubles(to, &rule.cost(hit.cost));
            }
            index += 1;
        }
    }
}

/// Which rule and which key.
fn pack_state(batch: &Batch, key: KeyHash, limit: &Limit, rules: &mut Vec<Limit>, to: &mut Vec<u8>) {
    let number = rules.iter().position(|other| other == limit).unwrap_or_else(|| {
        rules.push(*limit);
        rules.len() - 1
    });
    short(to, number + 1);
    short(to, batch.number_of(key));
}

/// Appends a number of two bytes.
fn short(to: &mut Vec<u8>, number: usize) {
    to.extend(u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
}

/// Appends numbers as doubles, least significant byte first.
// Below 2^53.
#[allow(clippy::cast_precision_loss)]
fn doubles(to: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        to.extend((*number as f64).to_le_bytes());
    }
}

/// A whole number that a double holds, back.
// Whole, not negative and below 2^53, or what somebody else wrote: then any number does.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(double: [u8; 8]) -> u64 {
    f64::from_le_bytes(double) as u64
}

/// The bytes of a state.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = vec![value.letter];
    doubles(&mut bytes, &value.numbers);
    bytes
}

/// The state that bytes stand for; `None` if nothing of ours wrote them.
fn value(bytes: &[u8]) -> Option<Value> {
    let (letter, numbers) = bytes.split_first()?;
    let (numbers, []) = numbers.as_chunks::<8>() else { return None };
    Some(Value { letter: *letter, numbers: numbers.iter().map(|double| whole(*double)).collect() })
}

/// What the script answers.
///
/// # Errors
/// If it is nothing that the script answers.
pub(super) fn reply(answer: redis::Value) -> Result<Answered, StoreError> {
    use redis::Value::{Array, BulkString, Nil};

    let strange =
        || StoreError::Defect("the script in Redis answered something that it never answers".to_owned());
    let Array(parts) = answer else { return Err(strange()) };
    let is_time_only = parts.len() == 1;
    let mut parts = parts.into_iter().map(|part| match part {
        BulkString(bytes) => Ok(Some(bytes)),
        Nil => Ok(None),
        _ => Err(strange()),
    });
    let mut next = || parts.next().and_then(Result::ok).flatten().ok_or_else(strange);
    let micros =
        String::from_utf8(next()?).ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(strange)?;
    let now = Timestamp::from_nanos(micros.saturating_mul(MICRO));
    if is_time_only {
        return Ok(Answered::Elsewhere(now));
    }
    let passed = next()?;
    let values = parts
        .map(|part| part.map(|bytes| bytes.and_then(|bytes| value(&bytes))))
        .collect::<Result<_, _>>()?;
    Ok(Answered::Decided(Reply { now, passed, values }))
}
