//! From a message to what the gate is asked.
//!
//! Each descriptor of a message is a request of its own to the policies: its entries are attributes.
//!
//! | entry | is |
//! |---|---|
//! | `remote_address`, `masked_remote_address` | the client's address, if it is one; the mask's length is left out |
//! | `path`, `:path` | the path, with or without a query |
//! | `method`, `:method` | the method |
//! | `host`, `:authority` | the host |
//! | `user`, `api_key` | the same |
//! | any, also these | `attribute:KEY` |
//!
//! The domain is `attribute:domain`, whatever entries say. Of entries with the same key the first counts.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use tollgate::{Ask, Attribute, Attributes, Limit, Nanos, Quota, host_name, query_value};
use tonic::Status;

use super::messages::{Descriptor, Entry, Override, RateLimitRequest, Unit};

/// The most descriptors of a request.
const DESCRIPTORS_MAX: usize = 128;
/// The most entries of a descriptor.
const ENTRIES_MAX: usize = 64;

/// Says what is wrong with a message, if anything is.
pub(super) fn checked(message: &RateLimitRequest) -> Result<(), Status> {
    // These two in the words of Envoy's own service, and with its status: somebody may look for them.
    if message.domain.is_empty() {
        return Err(Status::unknown("rate limit domain must not be empty"));
    }
    if message.descriptors.is_empty() {
        return Err(Status::unknown("rate limit descriptor list must not be empty"));
    }
    bounded(message)?;
    for (index, descriptor) in message.descriptors.iter().enumerate() {
        if let Some(limit) = descriptor.limit
            && limit.limit().is_none()
        {
            return Err(wrong(format!(
                "descriptors[{index}].limit: {} is no unit of time; 1 is a second, 2 a minute, 3 an hour, 4 a day, \
                 5 a month, 6 a year, 7 a week",
                limit.unit
            )));
        }
    }
    Ok(())
}

/// Says what is too much in a message, or no text, if anything is.
pub(super) fn bounded(message: &RateLimitRequest) -> Result<(), Status> {
    let count = message.descriptors.len();
    if count > DESCRIPTORS_MAX {
        return Err(wrong(format!("a request has at most {DESCRIPTORS_MAX} descriptors, not {count}")));
    }
    text(&message.domain).map_err(|()| wrong("the domain is not UTF-8"))?;
    for (index, descriptor) in message.descriptors.iter().enumerate() {
        let count = descriptor.entries.len();
        if count > ENTRIES_MAX {
            return Err(wrong(format!(
                "descriptors[{index}]: a descriptor has at most {ENTRIES_MAX} entries, not {count}"
            )));
        }
        for (place, entry) in descriptor.entries.iter().enumerate() {
            if text(&entry.key).and(text(&entry.value)).is_err() {
                return Err(wrong(format!("descriptors[{index}].entries[{place}] is not UTF-8")));
            }
        }
    }
    Ok(())
}

pub(super) fn wrong(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

fn text(bytes: &Bytes) -> Result<&str, ()> {
    std::str::from_utf8(bytes).map_err(|_| ())
}

impl Unit {
    /// How long it is. A month has 30 days and a year 365, as Envoy's own service has it.
    pub(super) const fn length(self) -> Option<Nanos> {
        Some(Nanos::from_secs(match self {
            Self::Unknown => return None,
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }))
    }
}

impl Override {
    /// The limit that it states: a window of the clock.
    fn limit(self) -> Option<Limit> {
        let unit = Unit::try_from(self.unit).ok()?.length()?;
        Quota::new(self.requests_per_unit.into(), unit).ok().map(Limit::fixed_window)
    }
}

/// A descriptor as policies see it.
#[derive(Debug)]
pub(super) struct Described<'m> {
    domain: &'m [u8],
    entries: &'m [Entry],
    ip: Option<IpAddr>,
    path: &'m str,
}

impl<'m> Described<'m> {
    pub(super) fn new(message: &'m RateLimitRequest, descriptor: &'m Descriptor) -> Self {
        let mut described =
            Self { domain: &message.domain, entries: &descriptor.entries, ip: None, path: "" };
        described.ip = described.first(["remote_address", "masked_remote_address"]).and_then(address);
        let path = described.first(["path", ":path"]);
        described.path = path.and_then(|path| std::str::from_utf8(path).ok()).unwrap_or_default();
        described
    }

    /// The value of the first entry with this key.
    fn entry(&self, key: &str) -> Option<&'m [u8]> {
        self.entries.iter().find(|entry| entry.key == key.as_bytes()).map(|entry| &*entry.value)
    }

    fn first(&self, keys: [&str; 2]) -> Option<&'m [u8]> {
        keys.into_iter().find_map(|key| self.entry(key))
    }
}

/// An address, or that of a network such as `192.0.2.0/24`.
fn address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    text.split_once('/').map_or(text, |(address, _)| address).parse().ok()
}

impl Attributes for Described<'_> {
    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn path(&self) -> &str {
        self.path
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        let value = match attribute {
            Attribute::Custom(name) if name == "domain" => Some(self.domain),
            Attribute::Custom(name) => self.entry(name),
            Attribute::User => self.entry("user"),
            Attribute::ApiKey => self.entry("api_key"),
            Attribute::Path => Some(self.path.as_bytes()),
            Attribute::Query(name) => return query_value(self.path, name),
            Attribute::Host => return self.first(["host", ":authority"]).map(host_name),
            Attribute::Method => {
                let method = self.first(["method", ":method"])?;
                if method.iter().any(u8::is_ascii_lowercase) {
                    return Some(Cow::Owned(method.to_ascii_uppercase()));
                }
                Some(method)
            }
            _ => None,
        };
        value.map(Cow::Borrowed)
    }
}

/// How much a descriptor adds, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hits {
    /// So many; where nothing is said, what the policies say, which is one unless they say otherwise.
    Add(Option<u32>),
    /// So many are given back.
    GiveBack(u32),
}

impl Hits {
    pub(super) fn of(message: &RateLimitRequest, descriptor: &Descriptor) -> Self {
        let stated = (message.hits_addend > 0).then_some(message.hits_addend);
        let own = descriptor.hits_addend.map(|hits| u32::try_from(hits).unwrap_or(u32::MAX));
        let hits = own.or(stated);
        if descriptor.is_negative_hits { Self::GiveBack(hits.unwrap_or(1)) } else { Self::Add(hits) }
    }
}

/// A descriptor as the gate is asked of it. Where hits are to be given back, it is looked at first.
pub(super) fn ask<'d, 'm>(
    described: &'d Described<'m>,
    descriptor: &Descriptor,
    hits: Hits,
) -> Ask<&'d Described<'m>> {
    let mut ask = Ask::new(described);
    ask.cost = match hits {
        Hits::Add(hits) => hits,
        Hits::GiveBack(_) => Some(0),
    };
    ask.limit = descriptor.limit.and_then(Override::limit);
    ask
}
