//! Answers by the rules of descriptors, as files of envoyproxy/ratelimit have them.

use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use tollgate::{
    Applies, Descriptor, DescriptorAnswer, DescriptorRules, DescriptorStatus, StoreError, charge_descriptors,
    check_descriptors, give_back_descriptor, peek_descriptors,
};

use super::messages::{
    CurrentLimit, DescriptorStatus as Status, Duration, RateLimitRequest, RateLimitResponse, Unit,
};
use super::request::Hits;
use super::service::Course;
use super::status::code;
use crate::serve::api::App;

type Entries<'m> = SmallVec<[(&'m str, &'m str); 4]>;

/// Answers a message that was checked.
pub(super) async fn answer_by(
    rules: &DescriptorRules,
    app: &App,
    message: &RateLimitRequest,
    course: Course,
) -> Result<RateLimitResponse, StoreError> {
    let all: SmallVec<[Entries<'_>; 2]> = message
        .descriptors
        .iter()
        .map(|descriptor| {
            descriptor.entries.iter().map(|entry| (str_of(&entry.key), str_of(&entry.value))).collect()
        })
        .collect();
    let descriptors: SmallVec<[Descriptor<'_>; 2]> = all
        .iter()
        .zip(&message.descriptors)
        .map(|(entries, descriptor)| {
            let limit =
                descriptor.limit.and_then(|limit| Some((limit.requests_per_unit, of_message(limit.unit)?)));
            Descriptor { entries, limit }
        })
        .collect();
    let hits: SmallVec<[Hits; 2]> =
        message.descriptors.iter().map(|descriptor| Hits::of(message, descriptor)).collect();
    let costs: SmallVec<[u32; 2]> = hits
        .iter()
        .map(|hits| match hits {
            Hits::Add(hits) => hits.unwrap_or(1),
            Hits::GiveBack(_) => 0,
        })
        .collect();
    let started = Instant::now();
    let store = app.gate.store();
    let found = rules.find(str_of(&message.domain), &descriptors);
    let mut answer = match course {
        Course::Decide => check_descriptors(store, &found, &costs).await?,
        Course::Look => peek_descriptors(store, &found, &costs).await?,
        Course::Charge => charge_descriptors(store, &found, &costs).await?,
    };
    if let Course::Decide = course {
        app.counted(answer.allowed, started.elapsed());
        let statuses = answer.statuses.iter().zip(&costs);
        for ((descriptor, applies), (status, hits)) in descriptors.iter().zip(&found).zip(statuses) {
            let outcome = (status, *hits, answer.allowed);
            app.metrics.descriptors.count(rules, str_of(&message.domain), (descriptor, applies), outcome);
        }
    }
    if !matches!(course, Course::Look) {
        give_back(app, &found, &hits, &mut answer).await?;
    }
    let statuses = found.iter().zip(&answer.statuses).map(|(applies, status)| of_status(applies, status));
    Ok(RateLimitResponse {
        overall_code: code(answer.allowed),
        statuses: statuses.collect(),
        ..RateLimitResponse::default()
    })
}

/// Gives back what descriptors say, in a second step, and says what is left then.
async fn give_back(
    app: &App,
    found: &[Applies<'_>],
    hits: &[Hits],
    answer: &mut DescriptorAnswer,
) -> Result<(), StoreError> {
    let store = app.gate.store();
    for (index, (applies, hits)) in found.iter().zip(hits).enumerate() {
        let Hits::GiveBack(units) = hits else { continue };
        give_back_descriptor(store, applies, &answer.statuses[index], *units).await?;
        let after = peek_descriptors(store, std::slice::from_ref(applies), &[0]).await?;
        if let Some(after) = after.statuses.first() {
            answer.statuses[index] = *after;
        }
    }
    Ok(())
}

/// A text that was found to be one.
fn str_of(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn of_status(applies: &Applies<'_>, status: &DescriptorStatus) -> Status {
    let plain =
        Status { code: code(!status.is_over), limit_remaining: status.remaining, ..Status::default() };
    let Applies::Limited(applied) = applies else { return plain };
    let name = applied.rule.and_then(tollgate::Rule::name).unwrap_or_default();
    Status {
        current_limit: Some(CurrentLimit {
            requests_per_unit: applied.requests_per_unit,
            unit: to_message(applied.unit).into(),
            name: Bytes::copy_from_slice(name.as_bytes()),
        }),
        duration_until_reset: Some(Duration {
            seconds: i64::try_from(status.reset_after.as_secs_ceil()).unwrap_or(i64::MAX),
        }),
        ..plain
    }
}

/// Units by their numbers in messages, and in rules.
const UNITS: [(Unit, tollgate::Unit); 7] = [
    (Unit::Second, tollgate::Unit::Second),
    (Unit::Minute, tollgate::Unit::Minute),
    (Unit::Hour, tollgate::Unit::Hour),
    (Unit::Day, tollgate::Unit::Day),
    (Unit::Week, tollgate::Unit::Week),
    (Unit::Month, tollgate::Unit::Month),
    (Unit::Year, tollgate::Unit::Year),
];

fn of_message(number: i32) -> Option<tollgate::Unit> {
    let found = UNITS.iter().find(|(unit, _)| *unit as i32 == number);
    found.map(|(_, unit)| *unit)
}

fn to_message(unit: tollgate::Unit) -> Unit {
    UNITS.iter().find(|(_, known)| *known == unit).map_or(Unit::Unknown, |(unit, _)| *unit)
}
