//! Response headers that tell a client where it stands.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tollgate_core::Retry;
use tollgate_policy::{HeaderValues, PolicyVerdict, Verdict};

use crate::numbers::{clamped, enforced, is_limited, retry_s, tightest, whole_again_s, window_s};

/// The headers of an answer, of whichever library.
pub trait AnswerHeaders {
    /// Whether there is one of this name.
    fn has(&self, name: &HeaderName) -> bool;

    /// Adds one, beside others of its name.
    fn add(&mut self, name: HeaderName, value: HeaderValue);
}

impl AnswerHeaders for HeaderMap {
    fn has(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.append(name, value);
    }
}

/// A family of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderStyle {
    /// `RateLimit-Policy` and `RateLimit` of the current IETF draft: an item for each policy that applied.
    Ietf,
    /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (in seconds) of the drafts to 07.
    OlderDraft,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset` and `X-RateLimit-Policy`.
    XRateLimit,
    /// `Retry-After`, if the request was denied and waiting helps.
    RetryAfter,
    /// The headers that the policies themselves are configured with.
    Custom,
}

/// What `X-RateLimit-Reset` counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetStyle {
    /// The Unix epoch.
    #[default]
    Epoch,
    /// The moment of the answer.
    Delta,
}

/// Which headers an answer gets.
///
/// By default all but those of the older drafts. `RateLimit` and `RateLimit-Policy` have an item for each policy that
/// applied; the other headers have room for one, and speak of the tightest: the one that denies for the longest, or
/// else has the smallest part left.
///
/// ```
/// use tollgate_http::{HeaderOptions, HeaderStyle, ResetStyle};
///
/// let quiet = HeaderOptions::none().with(HeaderStyle::RetryAfter);
/// let chatty = HeaderOptions::default().with(HeaderStyle::OlderDraft).with_x_reset(ResetStyle::Delta);
/// assert!(chatty.has(HeaderStyle::RetryAfter) && !quiet.has(HeaderStyle::Ietf));
/// ```
///
/// | field | says |
/// |---|---|
/// | `q`, `…-Limit` | how much the limit holds |
/// | `w` | in how many seconds a spent limit is whole again: the policy's period, unless it has a burst apart |
/// | `r`, `…-Remaining` | how much is left |
/// | `t`, `RateLimit-Reset` | if the request was denied: when it would pass; else when the limit is whole again |
/// | `X-RateLimit-Reset` | when the limit is whole again |
/// | `Retry-After` | when the request would pass |
///
/// Lengths are rounded up to seconds. The present is known in whole seconds only, so `X-RateLimit-Reset` as a time of
/// day is exact for windows that end on a second, and up to a second early for others; `Retry-After` never is. What is unlimited has no numbers, and policies in shadow mode are never told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct HeaderOptions {
    /// A bit for each [`HeaderStyle`].
    styles: u8,
    x_reset: ResetStyle,
    hide_policy: bool,
}

impl Default for HeaderOptions {
    fn default() -> Self {
        use HeaderStyle::{Custom, Ietf, RetryAfter, XRateLimit};
        Self::none().with(Ietf).with(XRateLimit).with(RetryAfter).with(Custom)
    }
}

impl HeaderOptions {
    /// No headers at all.
    pub const fn none() -> Self {
        Self { styles: 0, x_reset: ResetStyle::Epoch, hide_policy: false }
    }

    /// With this family too.
    pub const fn with(mut self, style: HeaderStyle) -> Self {
        self.styles |= 1 << style as u8;
        self
    }

    /// Without this family.
    pub const fn without(mut self, style: HeaderStyle) -> Self {
        self.styles &= !(1 << style as u8);
        self
    }

    /// With `X-RateLimit-Reset` counted from there.
    pub const fn with_x_reset(mut self, reset: ResetStyle) -> Self {
        self.x_reset = reset;
        self
    }

    /// Whether the names of policies are kept from clients: they are `default`, `2`, `3` then, and there is no
    /// `X-RateLimit-Policy`.
    pub const fn hide_policy(mut self, hide: bool) -> Self {
        self.hide_policy = hide;
        self
    }

    /// Whether this family is among them.
    pub const fn has(&self, style: HeaderStyle) -> bool {
        self.styles & (1 << style as u8) != 0
    }

    /// Whether the names of policies are kept from clients.
    pub const fn hides_policy(&self) -> bool {
        self.hide_policy
    }

    /// Whether no headers are added.
    pub const fn is_none(&self) -> bool {
        self.styles == 0
    }

    /// Whether a header tells the time of day, so that [`write`](Self::write) has to be told it.
    pub fn tells_time(&self) -> bool {
        self.has(HeaderStyle::XRateLimit) && self.x_reset == ResetStyle::Epoch
    }

    /// Adds the headers for a verdict that was given `now_unix_s` seconds after the Unix epoch.
    ///
    /// A header that is there already stays, as an inner layer or the handler knows better; the lists `RateLimit` and
    /// `RateLimit-Policy` get further items.
    pub fn write(&self, verdict: &Verdict, now_unix_s: u64, headers: &mut impl AnswerHeaders) {
        if self.is_none() {
            return;
        }
        if self.has(HeaderStyle::RetryAfter)
            && !verdict.is_allowed()
            && let Some(seconds) = retry_s(verdict.retry_after())
        {
            set(headers, header::RETRY_AFTER, seconds);
        }
        if self.has(HeaderStyle::Custom) {
            self.write_custom(verdict, headers);
        }
        if self.has(HeaderStyle::Ietf) {
            self.write_ietf(verdict, headers);
        }
        if self.styles & (1 << HeaderStyle::OlderDraft as u8 | 1 << HeaderStyle::XRateLimit as u8) != 0
            && let Some(tightest) = tightest(verdict)
        {
            self.write_single(verdict, &tightest, now_unix_s, headers);
        }
    }

    fn write_ietf(self, verdict: &Verdict, headers: &mut impl AnswerHeaders) {
        const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
        const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
        let (mut quotas, mut states) = (String::new(), String::new());
        for (index, policy) in enforced(verdict).enumerate().filter(|(_, policy)| is_limited(policy)) {
            let alias = Alias::new(index);
            let name = if self.hide_policy { alias.as_str() } else { policy.policy.name() };
            for list in [&mut quotas, &mut states] {
                if list.is_empty() {
                    // Enough for two policies of usual names.
                    list.reserve(64);
                } else {
                    list.push_str(", ");
                }
                push_string(list, name);
            }
            // Writing to a string cannot fail.
            let _ = write!(quotas, ";q={}", clamped(policy.limit()));
            if let Some(window) = window_s(&policy) {
                let _ = write!(quotas, ";w={window}");
            }
            let _ = write!(states, ";r={}", clamped(policy.remaining()));
            let wait = match policy.retry_after {
                // `Retry-After` must not be below any `t`. One that admits needs no waiting for: it has no `t` then.
                Retry::Now if !verdict.is_allowed() => None,
                Retry::Now => Some(whole_again_s(&policy)),
                denied => retry_s(denied),
            };
            if let Some(wait) = wait {
                let _ = write!(states, ";t={wait}");
            }
        }
        for (name, list) in [(RATELIMIT_POLICY, quotas), (RATELIMIT, states)] {
            if let Some(value) = text(list) {
                headers.add(name, value);
            }
        }
    }

    fn write_single(
        self,
        verdict: &Verdict,
        policy: &PolicyVerdict<'_>,
        now_unix_s: u64,
        headers: &mut impl AnswerHeaders,
    ) {
        const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
        const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
        const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
        const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
        const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
        const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
        const X_POLICY: HeaderName = HeaderName::from_static("x-ratelimit-policy");
        let (limit, remaining) = (clamped(policy.limit()), clamped(policy.remaining()));
        let whole_again = whole_again_s(policy);
        if self.has(HeaderStyle::OlderDraft) {
            // The drafts want it to be the moment that `Retry-After` says, if there is one.
            let retry = if verdict.is_allowed() { None } else { retry_s(verdict.retry_after()) };
            set(headers, LIMIT, limit);
            set(headers, REMAINING, remaining);
            set(headers, RESET, retry.unwrap_or(whole_again));
        }
        if self.has(HeaderStyle::XRateLimit) {
            let reset = match self.x_reset {
                ResetStyle::Epoch => clamped(now_unix_s.saturating_add(whole_again)),
                ResetStyle::Delta => whole_again,
            };
            set(headers, X_LIMIT, limit);
            set(headers, X_REMAINING, remaining);
            set(headers, X_RESET, reset);
            if !self.hide_policy
                && !headers.has(&X_POLICY)
                && let Ok(name) = HeaderValue::from_str(policy.policy.name())
            {
                headers.add(X_POLICY, name);
            }
        }
    }

    /// The policies' own headers. If two policies set the same one, the tighter wins.
    fn write_custom(self, verdict: &Verdict, headers: &mut impl AnswerHeaders) {
        if enforced(verdict).all(|policy| policy.policy.headers().is_empty()) {
            return;
        }
        let deciding = verdict.deciding().map(|policy| policy.index);
        let all = || enforced(verdict).enumerate();
        let first = all().filter(|(_, policy)| Some(policy.index) == deciding);
        for (index, policy) in first.chain(all().filter(|(_, policy)| Some(policy.index) != deciding)) {
            let alias = Alias::new(index);
            let name = if self.hide_policy { alias.as_str() } else { policy.policy.name() };
            write_own(&policy, name, headers);
        }
    }
}

fn write_own(policy: &PolicyVerdict<'_>, name: &str, headers: &mut impl AnswerHeaders) {
    const UNLIMITED: &str = "18446744073709551615";
    let number = |number| if is_limited(policy) { clamped(number) } else { u64::MAX };
    let retry_after_s = match policy.retry_after {
        Retry::Now => 0,
        denied => retry_s(denied).unwrap_or(clamped(u64::MAX)),
    };
    for own in policy.policy.headers() {
        let value = own.value(HeaderValues {
            limit: number(policy.limit()),
            remaining: number(policy.remaining()),
            reset_s: whole_again_s(policy),
            retry_after_s,
            policy: name,
        });
        // A fixed text can be said of an unlimited policy, its numbers cannot.
        if !is_limited(policy) && value.contains(UNLIMITED) {
            continue;
        }
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(own.name().as_bytes()), text(value))
            && !headers.has(&name)
        {
            headers.add(name, value);
        }
    }
}

/// What a policy is called whose name is kept secret: `default`, `2`, `3`.
pub(crate) struct Alias {
    digits: [u8; 20],
    start: usize,
}

impl Alias {
    pub(crate) fn new(index: usize) -> Self {
        let (mut digits, mut start, mut rest) = ([b'0'; 20], 20, index + 1);
        while rest > 0 && start > 0 {
            start -= 1;
            digits[start] += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        Self { digits, start }
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.digits[self.start..] {
            b"1" => "default",
            digits => std::str::from_utf8(digits).unwrap_or_default(),
        }
    }
}

/// Adds a structured field's string (RFC 9651, 3.3.3).
fn push_string(list: &mut String, text: &str) {
    list.push('"');
    for byte in text.chars().filter(|char| matches!(char, ' '..='~')) {
        if matches!(byte, '"' | '\\') {
            list.push('\\');
        }
        list.push(byte);
    }
    list.push('"');
}

fn set(headers: &mut impl AnswerHeaders, name: HeaderName, number: u64) {
    if !headers.has(&name) {
        headers.add(name, HeaderValue::from(number));
    }
}

/// A value of a text that is not empty, without copying it.
fn text(text: String) -> Option<HeaderValue> {
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}
