//! The headers of one answer, of whichever library.

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

/// The name of a header that tells a client where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldName {
    /// `Retry-After`.
    RetryAfter,
    /// `RateLimit-Policy`, a list.
    RateLimitPolicy,
    /// `RateLimit`, a list.
    RateLimit,
    /// `RateLimit-Limit`.
    Limit,
    /// `RateLimit-Remaining`.
    Remaining,
    /// `RateLimit-Reset`.
    Reset,
    /// `X-RateLimit-Limit`.
    XLimit,
    /// `X-RateLimit-Remaining`.
    XRemaining,
    /// `X-RateLimit-Reset`.
    XReset,
    /// `X-RateLimit-Policy`.
    XPolicy,
    /// One that a policy is configured with.
    Custom(HeaderName),
}

impl FieldName {
    /// Whether it may stand beside others of its name. Else one that is there already stays alone, as an inner layer or the
    /// handler knows better.
    pub const fn is_list(&self) -> bool {
        matches!(self, Self::RateLimitPolicy | Self::RateLimit)
    }
}

impl From<FieldName> for HeaderName {
    fn from(name: FieldName) -> Self {
        match name {
            FieldName::RetryAfter => header::RETRY_AFTER,
            FieldName::RateLimitPolicy => const { Self::from_static("ratelimit-policy") },
            FieldName::RateLimit => const { Self::from_static("ratelimit") },
            FieldName::Limit => const { Self::from_static("ratelimit-limit") },
            FieldName::Remaining => const { Self::from_static("ratelimit-remaining") },
            FieldName::Reset => const { Self::from_static("ratelimit-reset") },
            FieldName::XLimit => const { Self::from_static("x-ratelimit-limit") },
            FieldName::XRemaining => const { Self::from_static("x-ratelimit-remaining") },
            FieldName::XReset => const { Self::from_static("x-ratelimit-reset") },
            FieldName::XPolicy => const { Self::from_static("x-ratelimit-policy") },
            FieldName::Custom(name) => name,
        }
    }
}

/// Where an answer's headers go.
pub trait AnswerHeaders {
    /// Adds a header, unless there is one of its name already and it is no [list](FieldName::is_list).
    fn add(&mut self, name: FieldName, value: Bytes);
}

impl AnswerHeaders for HeaderMap {
    fn add(&mut self, name: FieldName, value: Bytes) {
        let is_list = name.is_list();
        let Ok(value) = HeaderValue::from_maybe_shared(value) else { return };
        match self.try_entry(HeaderName::from(name)) {
            Ok(Entry::Vacant(place)) => {
                let _ = place.try_insert(value);
            }
            Ok(Entry::Occupied(mut others)) if is_list => others.append(value),
            Ok(Entry::Occupied(_)) | Err(_) => {}
        }
    }
}

/// The headers of one answer, ready to be written.
///
/// They are made when a request is decided, so that nothing else of the verdict has to be kept until it is answered.
#[derive(Clone, Debug, Default)]
#[must_use = "headers that are not written tell nobody anything"]
pub struct Fields(SmallVec<[(FieldName, Bytes); 6]>);

impl Fields {
    pub(crate) fn number(&mut self, name: FieldName, number: u64) {
        self.0.push((name, digits(number)));
    }

    /// Adds a text, unless it is empty.
    pub(crate) fn text(&mut self, name: FieldName, text: impl Into<Bytes>) {
        let text = text.into();
        if !text.is_empty() {
            self.0.push((name, text));
        }
    }

    /// Adds them to an answer's other headers, once.
    pub fn write(&mut self, headers: &mut impl AnswerHeaders) {
        for (name, value) in self.0.drain(..) {
            headers.add(name, value);
        }
    }
}

/// A number's digits. Small ones, which most are, take no memory.
fn digits(number: u64) -> Bytes {
    match usize::try_from(number) {
        Ok(small @ 0..10) => Bytes::from_static(&THREE_DIGITS[small][2..]),
        Ok(small @ 10..100) => Bytes::from_static(&THREE_DIGITS[small][1..]),
        Ok(small @ 100..1_000) => Bytes::from_static(&THREE_DIGITS[small]),
        _ => Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// The numbers below a thousand, with zeros in front.
static THREE_DIGITS: [[u8; 3]; 1_000] = {
    let (mut all, mut number) = ([[0; 3]; 1_000], 0_usize);
    while number < all.len() {
        // All are digits.
        #[allow(clippy::cast_possible_truncation)]
        let digits = [(number / 100) as u8, (number / 10 % 10) as u8, (number % 10) as u8];
        all[number] = [b'0' + digits[0], b'0' + digits[1], b'0' + digits[2]];
        number += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in (0..1_100).chain([u64::MAX, 999_999_999_999_999]) {
            assert_eq!(digits(number), number.to_string());
        }
    }

    #[test]
    fn what_is_there_stays_and_lists_grow() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-limit", HeaderValue::from_static("7"));
        headers.insert("ratelimit", HeaderValue::from_static("\"a\";r=1"));
        let mut fields = Fields::default();
        fields.number(FieldName::XLimit, 9);
        fields.number(FieldName::XRemaining, 9);
        fields.text(FieldName::RateLimit, "\"b\";r=2");
        fields.text(FieldName::Custom(HeaderName::from_static("x-empty")), "");
        fields.text(FieldName::Custom(HeaderName::from_static("x-bad")), "a\nb");
        fields.write(&mut headers);
        let all =
            |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-ratelimit-limit"), ["7"]);
        assert_eq!(all("x-ratelimit-remaining"), ["9"]);
        assert_eq!(all("ratelimit"), ["\"a\";r=1", "\"b\";r=2"]);
        assert_eq!(headers.len(), 4);
    }
}
