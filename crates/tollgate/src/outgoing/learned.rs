//! What the answers of services say of their limits.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};
use sfv::{BareItem, List, ListEntry, Parser};
use tokio::time::Instant;

/// How many services are remembered that are not to be asked.
const KEYS_MAX: usize = 10_000;

/// The longest that a service is believed about.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// For how long a service is left alone that denies without saying for how long: at first, and at most.
const UNTOLD_FIRST: Duration = Duration::from_secs(1);
const UNTOLD_LAST: Duration = Duration::from_mins(1);

/// Numbers of seconds above this are moments, not lengths.
const MOMENT_MIN: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<HashMap<Box<str>, Told>>);

/// What is known of a service.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Not to be asked before.
    until: Instant,
    /// How often in a row it denied without saying for how long.
    untold: u32,
}

impl Learned {
    /// Until when a service is not to be asked; `None` if it may be.
    pub(super) fn until(&self, key: &str) -> Option<Instant> {
        let told = *self.lock().get(key)?;
        (told.until > Instant::now()).then_some(told.until)
    }

    /// Heeds an answer.
    pub(super) fn learn(&self, key: &str, status: StatusCode, headers: &HeaderMap) {
        let is_denied = is_denied(status, headers);
        let wait = wait(status, is_denied, headers);
        let now = Instant::now();
        let mut known = self.lock();
        let before = known.get(key).copied();
        let (wait, untold) = match wait {
            Some(wait) => (wait, 0),
            None if is_denied => {
                let untold = before.map_or(0, |told| told.untold);
                let wait = UNTOLD_FIRST * 2_u32.saturating_pow(untold.min(10));
                (wait.min(UNTOLD_LAST), untold.saturating_add(1))
            }
            // All is well. What was said before of a later moment stays.
            None => {
                if let Some(told) = known.get_mut(key) {
                    told.untold = 0;
                }
                return;
            }
        };
        let until = now + wait.min(WAIT_MAX);
        if known.len() >= KEYS_MAX && before.is_none() {
            known.retain(|_, told| told.until > now);
            if known.len() >= KEYS_MAX {
                return;
            }
        }
        let until = before.map_or(until, |told| told.until.max(until));
        known.insert(key.into(), Told { until, untold });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Told>> {
        // No holder panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the answer is a denial for the sake of a limit, of HTTP or of gRPC.
fn is_denied(status: StatusCode, headers: &HeaderMap) -> bool {
    /// `RESOURCE_EXHAUSTED`.
    const EXHAUSTED: &[u8] = b"8";

    status == StatusCode::TOO_MANY_REQUESTS
        || headers.get("grpc-status").is_some_and(|status| status.as_bytes() == EXHAUSTED)
}

/// For how long the service is not to be asked, by what the answer says.
fn wait(status: StatusCode, is_denied: bool, headers: &HeaderMap) -> Option<Duration> {
    // In other answers it says something else: when to look for a result, say.
    let speaks_of_limits = is_denied || status == StatusCode::SERVICE_UNAVAILABLE;
    let retry_after = if speaks_of_limits { retry_after(headers) } else { None };
    let waits = [
        retry_after,
        rate_limit(headers),
        remaining_and_reset(headers, "ratelimit-remaining", "ratelimit-reset"),
        remaining_and_reset(headers, "x-ratelimit-remaining", "x-ratelimit-reset"),
    ];
    waits.into_iter().flatten().max()
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(value).ok()?;
    Some(moment.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The longest wait of those items of `RateLimit` of which nothing is left.
fn rate_limit(headers: &HeaderMap) -> Option<Duration> {
    let of_item = |entry: &ListEntry| {
        let ListEntry::Item(item) = entry else { return None };
        let number = |name: &str| match item.params.get(name) {
            Some(BareItem::Integer(number)) => u64::try_from(i64::from(*number)).ok(),
            _ => None,
        };
        (number("r")? == 0).then(|| number("t").map(Duration::from_secs)).flatten()
    };
    let of_value = |value: &http::HeaderValue| {
        let list: List = Parser::new(value.as_bytes()).parse().ok()?;
        list.iter().filter_map(of_item).max()
    };
    headers.get_all("ratelimit").iter().filter_map(of_value).max()
}

/// The headers of the older drafts and their relatives: if nothing remains, the time of the reset, which some give as a
/// moment.
fn remaining_and_reset(headers: &HeaderMap, remaining: &str, reset: &str) -> Option<Duration> {
    let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    if number(remaining)? > 0 {
        return None;
    }
    let reset = number(reset)?;
    if reset < MOMENT_MIN {
        return Some(Duration::from_secs(reset));
    }
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(reset))?;
    Some(moment.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn waits(status: u16, lines: &[(&'static str, &str)]) -> Option<u64> {
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), headers(lines));
        wait(status, is_denied(status, &headers), &headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn services_are_understood() {
        let in_an_hour = SystemTime::now() + Duration::from_hours(1);
        let epoch = in_an_hour.duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
        let date = httpdate::fmt_http_date(in_an_hour);
        assert_eq!(waits(429, &[("retry-after", "7")]), Some(7));
        assert_eq!(waits(503, &[("retry-after", "7")]), Some(7));
        assert_eq!(waits(202, &[("retry-after", "7")]), None);
        assert_eq!(waits(200, &[("grpc-status", "8"), ("retry-after", "3")]), Some(3));
        assert!((3_590..=3_600).contains(&waits(429, &[("retry-after", &date)]).unwrap()));
        assert_eq!(waits(429, &[("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")]), Some(0));
        assert_eq!(waits(200, &[("ratelimit", r#""a";r=0;t=5, "b";r=0;t=9, "c";r=3;t=99"#)]), Some(9));
        assert_eq!(waits(200, &[("ratelimit", r#""a";r=1;t=5"#)]), None);
        assert_eq!(waits(200, &[("ratelimit-remaining", "0"), ("ratelimit-reset", "4")]), Some(4));
        assert_eq!(waits(200, &[("ratelimit-remaining", "1"), ("ratelimit-reset", "4")]), None);
        let moment = waits(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &epoch)]);
        assert!((3_590..=3_600).contains(&moment.unwrap()));
        assert_eq!(waits(429, &[("retry-after", "3"), ("ratelimit", r#""a";r=0;t=8"#)]), Some(8));
    }

    #[test]
    fn nonsense_is_not_heeded() {
        for (name, value) in [
            ("retry-after", "-1"),
            ("retry-after", ""),
            ("retry-after", "soon"),
            ("ratelimit", "\"a;r=0"),
            ("ratelimit", "a;r=0;t=5, ("),
            ("ratelimit", r#""a";r=0;t=-5"#),
            ("ratelimit", r#""a";r=0;t="5""#),
            ("x-ratelimit-remaining", "0"),
        ] {
            assert_eq!(waits(429, &[(name, value)]), None, "{name}: {value}");
        }
        let huge = waits(429, &[("retry-after", &u64::MAX.to_string())]);
        assert_eq!(huge, Some(u64::MAX));
        assert_eq!(
            waits(429, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &u64::MAX.to_string())]),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_say_is_left_alone_for_longer_and_longer() {
        let (learned, none) = (Learned::default(), HeaderMap::new());
        let wait = || learned.until("a").map_or(0, |until| (until - Instant::now()).as_secs());
        let mut waited = Vec::new();
        for _ in 0..8 {
            learned.learn("a", StatusCode::TOO_MANY_REQUESTS, &none);
            waited.push(wait());
            tokio::time::advance(Duration::from_secs(wait())).await;
            assert_eq!(learned.until("a"), None);
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
        learned.learn("a", StatusCode::OK, &none);
        learned.learn("a", StatusCode::TOO_MANY_REQUESTS, &none);
        assert_eq!(wait(), 1);
        assert_eq!(learned.until("b"), None);
        // However long a service asks for, and a later word does not shorten an earlier one.
        learned.learn(
            "a",
            StatusCode::TOO_MANY_REQUESTS,
            &headers(&[("retry-after", "18446744073709551615")]),
        );
        learned.learn("a", StatusCode::TOO_MANY_REQUESTS, &headers(&[("retry-after", "1")]));
        assert_eq!(wait(), WAIT_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let learned = Learned::default();
        let told = headers(&[("retry-after", "10")]);
        for key in 0..KEYS_MAX + 10 {
            learned.learn(&key.to_string(), StatusCode::TOO_MANY_REQUESTS, &told);
        }
        assert_eq!(learned.lock().len(), KEYS_MAX);
        tokio::time::advance(Duration::from_secs(11)).await;
        learned.learn("new", StatusCode::TOO_MANY_REQUESTS, &told);
        assert!(learned.until("new").is_some());
        assert_eq!(learned.lock().len(), 1);
    }
}
