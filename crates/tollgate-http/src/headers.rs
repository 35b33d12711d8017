//! Response headers that tell a client where it stands.

use bytes::Bytes;
use http::HeaderName;
use tollgate_core::Retry;
use tollgate_policy::{HeaderValues, PolicyVerdict, Verdict};

use crate::fields::{AnswerHeaders, FieldName, Fields};
use crate::numbers::{clamped, enforced, is_limited, retry_s, tightest, whole_again_s, window_s};

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
        let mut fields = Fields::default();
        self.add_to(&mut fields, verdict, now_unix_s);
        fields.write(headers);
    }

    /// Makes the headers for a verdict that was given `now_unix_s` seconds after the Unix epoch, to be written later.
    pub fn add_to(&self, fields: &mut Fields, verdict: &Verdict, now_unix_s: u64) {
        if self.has(HeaderStyle::RetryAfter)
            && !verdict.is_allowed()
            && let Some(seconds) = retry_s(verdict.retry_after())
        {
            fields.number(FieldName::RetryAfter, seconds);
        }
        if self.has(HeaderStyle::Custom) {
            self.add_custom(verdict, fields);
        }
        if self.has(HeaderStyle::Ietf) {
            self.add_ietf(verdict, fields);
        }
        if self.styles & (1 << HeaderStyle::OlderDraft as u8 | 1 << HeaderStyle::XRateLimit as u8) != 0
            && let Some(tightest) = tightest(verdict)
        {
            self.add_single(verdict, &tightest, now_unix_s, fields);
        }
    }

    fn add_ietf(self, verdict: &Verdict, fields: &mut Fields) {
        let (mut quotas, mut states, mut digits) = (String::new(), String::new(), itoa::Buffer::new());
        for (index, policy) in enforced(verdict).enumerate().filter(|(_, policy)| is_limited(policy)) {
            let name = if self.hide_policy { alias(index, &mut digits) } else { policy.policy.name() };
            for list in [&mut quotas, &mut states] {
                if list.is_empty() {
                    // Enough for two policies of usual names.
                    list.reserve(64);
                } else {
                    list.push_str(", ");
                }
                push_string(list, name);
            }
            push_number(&mut quotas, ";q=", clamped(policy.limit()));
            if let Some(window) = window_s(&policy) {
                push_number(&mut quotas, ";w=", window);
            }
            push_number(&mut states, ";r=", clamped(policy.remaining()));
            let wait = match policy.retry_after {
                // `Retry-After` must not be below any `t`. One that admits needs no waiting for: it has no `t` then.
                Retry::Now if !verdict.is_allowed() => None,
                Retry::Now => Some(whole_again_s(&policy)),
                denied => retry_s(denied),
            };
            if let Some(wait) = wait {
                push_number(&mut states, ";t=", wait);
            }
        }
        fields.text(FieldName::RateLimitPolicy, quotas);
        fields.text(FieldName::RateLimit, states);
    }

    fn add_single(self, verdict: &Verdict, policy: &PolicyVerdict<'_>, now_unix_s: u64, fields: &mut Fields) {
        let (limit, remaining) = (clamped(policy.limit()), clamped(policy.remaining()));
        let whole_again = whole_again_s(policy);
        if self.has(HeaderStyle::OlderDraft) {
            // The drafts want it to be the moment that `Retry-After` says, if there is one.
            let retry = if verdict.is_allowed() { None } else { retry_s(verdict.retry_after()) };
            fields.number(FieldName::Limit, limit);
            fields.number(FieldName::Remaining, remaining);
            fields.number(FieldName::Reset, retry.unwrap_or(whole_again));
        }
        if self.has(HeaderStyle::XRateLimit) {
            let reset = match self.x_reset {
                ResetStyle::Epoch => clamped(now_unix_s.saturating_add(whole_again)),
                ResetStyle::Delta => whole_again,
            };
            fields.number(FieldName::XLimit, limit);
            fields.number(FieldName::XRemaining, remaining);
            fields.number(FieldName::XReset, reset);
            if !self.hide_policy {
                let name = policy.policy.name();
                fields.text(FieldName::XPolicy, Bytes::copy_from_slice(name.as_bytes()));
            }
        }
    }

    /// The policies' own headers. If two policies set the same one, the tighter wins.
    fn add_custom(self, verdict: &Verdict, fields: &mut Fields) {
        if enforced(verdict).all(|policy| policy.policy.headers().is_empty()) {
            return;
        }
        let deciding = verdict.deciding().map(|policy| policy.index);
        let all = || enforced(verdict).enumerate();
        let mut digits = itoa::Buffer::new();
        let first = all().filter(|(_, policy)| Some(policy.index) == deciding);
        for (index, policy) in first.chain(all().filter(|(_, policy)| Some(policy.index) != deciding)) {
            let name = if self.hide_policy { alias(index, &mut digits) } else { policy.policy.name() };
            add_own(&policy, name, fields);
        }
    }
}

fn add_own(policy: &PolicyVerdict<'_>, name: &str, fields: &mut Fields) {
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
        if let Ok(name) = HeaderName::from_bytes(own.name().as_bytes()) {
            fields.text(FieldName::Custom(name), value);
        }
    }
}

/// What a policy is called whose name is kept secret: `default`, `2`, `3`.
pub(crate) fn alias(index: usize, buffer: &mut itoa::Buffer) -> &str {
    match index {
        0 => "default",
        more => buffer.format(more + 1),
    }
}

/// Adds a parameter that is a number.
fn push_number(list: &mut String, name: &str, number: u64) {
    list.push_str(name);
    list.push_str(itoa::Buffer::new().format(number));
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
