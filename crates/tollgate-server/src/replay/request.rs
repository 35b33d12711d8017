//! A line of a log, as policies see a request.

use std::borrow::Cow;
use std::net::IpAddr;

use tollgate::{Attribute, Attributes};

use super::log::Entry;

/// What a log line tells of a request.
pub(super) struct LogRequest<'e> {
    entry: &'e Entry<'e>,
    ip: Option<IpAddr>,
    path: Cow<'e, str>,
    /// The attributes that the user mapped fields to, in the order of the entry's.
    attributes: &'e [Attribute],
}

impl<'e> LogRequest<'e> {
    pub(super) fn new(entry: &'e Entry<'e>, attributes: &'e [Attribute]) -> Self {
        let ip = std::str::from_utf8(entry.client).ok().and_then(|client| client.parse().ok());
        let path = match std::str::from_utf8(entry.target) {
            Ok(path) => Cow::Borrowed(path),
            Err(_) => String::from_utf8_lossy(entry.target),
        };
        Self { entry, ip, path, attributes }
    }
}

impl Attributes for LogRequest<'_> {
    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        if let Some(index) = self.attributes.iter().position(|mapped| mapped == attribute) {
            return self.entry.attribute(index).map(Cow::Borrowed);
        }
        match attribute {
            Attribute::Method => Some(Cow::Borrowed(self.entry.method)),
            Attribute::User => self.entry.user.map(Cow::Borrowed),
            Attribute::Header(name) if name == "user-agent" => self.entry.user_agent.map(Cow::Borrowed),
            Attribute::Query(name) => tollgate::query_value(&self.path, name),
            Attribute::Custom(name) if name == "status" => {
                self.entry.status.map(|status| Cow::Owned(status.to_string().into_bytes()))
            }
            Attribute::Custom(name) if name == "bytes" => {
                self.entry.bytes.map(|bytes| Cow::Owned(bytes.to_string().into_bytes()))
            }
            _ => None,
        }
    }
}
