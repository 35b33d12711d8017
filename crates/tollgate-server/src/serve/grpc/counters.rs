//! Answers by the limits of Limitador.
//!
//! A limit there is for a whole request, not for one of its descriptors. The status of a descriptor is that of the tightest
//! limit that looks at it; Limitador itself leaves statuses out.

use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use tollgate::{CounterStatus, LimitadorCounter};
use tonic::Status;

use super::messages::{
    Code, CurrentLimit, Descriptor, DescriptorStatus, Duration, HeaderValue, RateLimitRequest,
    RateLimitResponse,
};
use super::request::{bounded, wrong};
use super::service::{Course, undecided};
use super::status::{clamped, code, per_unit};
use crate::cli::HeaderNames;
use crate::serve::api::App;
use crate::serve::limitador::{Asked, Limitador};

type Entries<'m> = SmallVec<[(&'m str, &'m str); 4]>;

/// Answers a message.
pub(super) async fn answer_by_limits(
    limitador: &Limitador,
    app: &App,
    message: &RateLimitRequest,
    course: Course,
    headers: Option<&HeaderNames>,
) -> Result<RateLimitResponse, Status> {
    bounded(message)?;
    // As Limitador answers it, and Envoy lets it pass then.
    if message.domain.is_empty() {
        return Ok(RateLimitResponse { overall_code: Code::Unknown.into(), ..RateLimitResponse::default() });
    }
    let hits = hits(message)?;
    let all: SmallVec<[Entries<'_>; 2]> = message
        .descriptors
        .iter()
        .map(|descriptor| {
            descriptor.entries.iter().map(|entry| (str_of(&entry.key), str_of(&entry.value))).collect()
        })
        .collect();
    let descriptors: SmallVec<[&[(&str, &str)]; 2]> = all.iter().map(SmallVec::as_slice).collect();
    let started = Instant::now();
    let namespace = str_of(&message.domain);
    let asked = match course {
        Course::Decide => limitador.check(app, namespace, &descriptors, hits).await,
        // What it will cost is reported later: is there anything left?
        Course::Look => limitador.peek(app, namespace, &descriptors, 1).await,
        Course::Charge => limitador.report(app, namespace, &descriptors, hits).await,
    };
    let asked = asked.map_err(|error| undecided(&error))?;
    if let Course::Decide = course {
        app.counted(asked.allowed(), started.elapsed());
    }
    Ok(RateLimitResponse {
        overall_code: code(asked.allowed()),
        statuses: (0..message.descriptors.len()).map(|place| status(&asked, place)).collect(),
        response_headers_to_add: headers.map(|names| header_values(names, &asked)).unwrap_or_default(),
    })
}

/// What a request costs. Limits count whole requests, so of the hits that descriptors say the most count.
fn hits(message: &RateLimitRequest) -> Result<u32, Status> {
    if message.descriptors.iter().any(|descriptor| descriptor.is_negative_hits) {
        return Err(wrong("hits cannot be given back to limits of Limitador's: they count whole requests"));
    }
    let own =
        |descriptor: &Descriptor| descriptor.hits_addend.map(|hits| u32::try_from(hits).unwrap_or(u32::MAX));
    let stated = message.descriptors.iter().filter_map(own).max();
    Ok(stated.unwrap_or(message.hits_addend.max(1)))
}

/// A text that was found to be one.
fn str_of(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The status of the descriptor of this place.
fn status(asked: &Asked<'_>, place: usize) -> DescriptorStatus {
    let found = asked.tightest(|counter| counter.limit.looks_at(place));
    let Some((counter, status)) = found else {
        return DescriptorStatus { code: code(true), ..DescriptorStatus::default() };
    };
    DescriptorStatus {
        code: code(status.is_within),
        current_limit: Some(current_limit(counter)),
        limit_remaining: clamped(status.remaining),
        duration_until_reset: Some(Duration { seconds: reset(status) }),
    }
}

fn current_limit(counter: &LimitadorCounter<'_>) -> CurrentLimit {
    let (requests_per_unit, unit) = per_unit(counter.limit.limit().quota());
    let name = counter.limit.name().or(counter.limit.id()).unwrap_or_default();
    CurrentLimit { requests_per_unit, unit: unit.into(), name: Bytes::copy_from_slice(name.as_bytes()) }
}

fn reset(status: &CounterStatus) -> i64 {
    i64::try_from(status.reset_after.as_secs_ceil()).unwrap_or(i64::MAX)
}

fn header_values(names: &HeaderNames, asked: &Asked<'_>) -> Vec<HeaderValue> {
    let Some(values) = asked.header_values() else { return Vec::new() };
    let names = [&names.limit, &names.remaining, &names.reset];
    names.into_iter().zip(values).map(|(key, value)| HeaderValue { key: key.clone(), value }).collect()
}
