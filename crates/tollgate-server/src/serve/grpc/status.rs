//! From verdicts to statuses.

use bytes::Bytes;
use tollgate::{PolicyVerdict, Quota, Verdict};

use super::messages::{
    Code, CurrentLimit, Descriptor, DescriptorStatus, Duration, HeaderValue, RateLimitResponse, Unit,
};
use crate::cli::HeaderNames;

/// What an unlimited limit has left.
const UNLIMITED: u32 = u32::MAX;

/// The units by length.
const UNITS: [Unit; 7] =
    [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year];

/// What answers are made with.
#[derive(Debug)]
pub(super) struct Answers {
    /// The headers that Envoy is to add, if it is.
    headers: Option<HeaderNames>,
}

impl Answers {
    pub(super) const fn new(headers: Option<HeaderNames>) -> Self {
        Self { headers }
    }

    /// The names of the headers that Envoy is to add, if it is.
    pub(super) const fn headers(&self) -> Option<&HeaderNames> {
        self.headers.as_ref()
    }

    /// The answer to a request with these descriptors.
    pub(super) fn response(&self, descriptors: &[Descriptor], verdicts: &[Verdict]) -> RateLimitResponse {
        let statuses: Vec<DescriptorStatus> = descriptors
            .iter()
            .zip(verdicts)
            .map(|(descriptor, verdict)| status(descriptor, verdict))
            .collect();
        let overall_code = code(verdicts.iter().all(Verdict::is_allowed));
        self.with_headers(RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() })
    }

    /// The same with the headers that Envoy is to add.
    pub(super) fn with_headers(&self, mut response: RateLimitResponse) -> RateLimitResponse {
        if let Some(names) = &self.headers {
            response.response_headers_to_add = headers(names, &response.statuses);
        }
        response
    }
}

fn status(descriptor: &Descriptor, verdict: &Verdict) -> DescriptorStatus {
    let plain = |limit_remaining| DescriptorStatus {
        code: code(verdict.is_allowed()),
        limit_remaining,
        ..DescriptorStatus::default()
    };
    let enforced = || verdict.policies().filter(|policy| !policy.shadow);
    // An unlimited policy decides if all limits are full; there is still something to say then.
    let is_limited = |policy: &PolicyVerdict<'_>| policy.limit() != u64::MAX;
    let Some(policy) = verdict.deciding().filter(is_limited).or_else(|| enforced().find(is_limited)) else {
        return plain(if enforced().next().is_some() { UNLIMITED } else { 0 });
    };
    let (requests_per_unit, unit) = if let Some(stated) = descriptor.limit {
        (stated.requests_per_unit, stated.unit)
    } else {
        let (count, unit) = per_unit(policy.rule().and_then(tollgate::Limit::quota));
        (count, unit.into())
    };
    DescriptorStatus {
        current_limit: Some(CurrentLimit { requests_per_unit, unit, name: name(&policy) }),
        duration_until_reset: Some(Duration {
            // Rounded up: who asks a little late passes, who asks a little early does not.
            seconds: i64::try_from(policy.reset_after().as_secs_ceil()).unwrap_or(i64::MAX),
        }),
        ..plain(clamped(policy.remaining()))
    }
}

/// The policy's name, and that of its limit behind it if that has one.
fn name(policy: &PolicyVerdict<'_>) -> Bytes {
    match policy.tightest().and_then(|(limit, _)| limit.name()) {
        Some(limit) => format!("{}/{limit}", policy.policy.name()).into(),
        None => Bytes::copy_from_slice(policy.policy.name().as_bytes()),
    }
}

pub(super) const fn code(allowed: bool) -> i32 {
    if allowed { Code::Ok as i32 } else { Code::OverLimit as i32 }
}

/// A count as the message can hold it.
pub(super) fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A rate by one of the units. A period between them is told by the next longer unit, and one beyond a year by the year, as
/// many as the rate gives there, rounded down: 100 in 10 s are 600 a minute. Nothing at all is nothing a second.
pub(super) fn per_unit(quota: Option<Quota>) -> (u32, Unit) {
    let Some(quota) = quota else { return (0, Unit::Second) };
    let nanos = |unit: Unit| unit.length().map_or(1, tollgate::Nanos::as_nanos);
    let period = quota.period().as_nanos();
    let unit = UNITS.into_iter().find(|unit| nanos(*unit) >= period).unwrap_or(Unit::Year);
    let count = u128::from(quota.count()) * u128::from(nanos(unit)) / u128::from(period.max(1));
    // Something now and then is not nothing.
    (u32::try_from(count.max(u128::from(quota.count() > 0))).unwrap_or(u32::MAX), unit)
}

/// The headers of the status that has the least left.
fn headers(names: &HeaderNames, statuses: &[DescriptorStatus]) -> Vec<HeaderValue> {
    let limited = statuses.iter().filter_map(|status| Some((status, status.current_limit.as_ref()?)));
    let Some((status, limit)) = limited.min_by_key(|(status, _)| status.limit_remaining) else {
        return Vec::new();
    };
    let reset = status.duration_until_reset.map_or(0, |reset| reset.seconds);
    let header = |key: &String, value: String| HeaderValue { key: key.clone(), value };
    vec![
        header(&names.limit, limit.requests_per_unit.to_string()),
        header(&names.remaining, status.limit_remaining.to_string()),
        header(&names.reset, reset.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_by_units() {
        for (rate, count, unit) in [
            ("5/minute", 5, Unit::Minute),
            ("100/10s", 600, Unit::Minute),
            ("7/100ms", 70, Unit::Second),
            ("1/second", 1, Unit::Second),
            ("5/7s", 42, Unit::Minute),
            ("10/2 days", 35, Unit::Week),
            ("3/week", 3, Unit::Week),
            ("2/30 days", 2, Unit::Month),
            ("2/month", 2, Unit::Month),
            ("9/year", 9, Unit::Year),
            ("1/10 years", 1, Unit::Year),
            ("0/hour", 0, Unit::Hour),
            ("9007199254740991/second", u32::MAX, Unit::Second),
        ] {
            assert_eq!(per_unit(Some(rate.parse().unwrap())), (count, unit), "{rate}");
        }
        assert_eq!(per_unit(None), (0, Unit::Second));
    }

    #[test]
    fn headers_speak_of_the_least_that_is_left() {
        let names = HeaderNames::default();
        let status = |limit_remaining, limited: bool| DescriptorStatus {
            limit_remaining,
            current_limit: limited.then(|| CurrentLimit { requests_per_unit: 10, ..CurrentLimit::default() }),
            duration_until_reset: Some(Duration { seconds: 7 }),
            ..DescriptorStatus::default()
        };
        let told = |statuses: &[DescriptorStatus]| -> Vec<String> {
            headers(&names, statuses)
                .into_iter()
                .map(|header| format!("{}: {}", header.key, header.value))
                .collect()
        };
        assert_eq!(
            told(&[status(9, true), status(4, true), status(0, false)]),
            ["RateLimit-Limit: 10", "RateLimit-Remaining: 4", "RateLimit-Reset: 7"]
        );
        assert!(told(&[status(0, false)]).is_empty());
    }
}
