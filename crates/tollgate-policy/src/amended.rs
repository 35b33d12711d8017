//! A request of which something is told otherwise.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::attribute::{Attribute, Attributes};

/// A request of which some attributes are others than it says: for code around a gate that knows better.
///
/// ```
/// use tollgate_policy::{Amended, Attribute, Attributes, Request};
///
/// let request = Request::new("GET", "/orders").with_user("ana");
/// let plan = Attribute::Custom("plan".to_owned());
/// let amended = Amended::new(&request).with(plan.clone(), "gold");
/// assert_eq!(amended.get(&plan).as_deref(), Some(&b"gold"[..]));
/// assert_eq!(amended.get(&Attribute::User).as_deref(), Some(&b"ana"[..]));
/// ```
#[must_use]
pub struct Amended<'r> {
    request: &'r dyn Attributes,
    ip: Option<IpAddr>,
    /// The latest of each attribute counts.
    values: Vec<(Attribute, Option<String>)>,
}

impl<'r> Amended<'r> {
    /// Just this request.
    pub const fn new(request: &'r dyn Attributes) -> Self {
        Self { request, ip: None, values: Vec::new() }
    }

    /// From this address.
    pub const fn with_ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// With this attribute. The path stays what it is: policies read [`Attributes::path`].
    pub fn with(mut self, attribute: Attribute, value: impl Into<String>) -> Self {
        self.values.push((attribute, Some(value.into())));
        self
    }

    /// Without this attribute.
    pub fn without(mut self, attribute: Attribute) -> Self {
        self.values.push((attribute, None));
        self
    }
}

impl Attributes for Amended<'_> {
    fn ip(&self) -> Option<IpAddr> {
        self.ip.or_else(|| self.request.ip())
    }

    fn path(&self) -> &str {
        self.request.path()
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        match self.values.iter().rev().find(|(amended, _)| amended == attribute) {
            Some((_, value)) => value.as_ref().map(|value| Cow::Borrowed(value.as_bytes())),
            None => self.request.get(attribute),
        }
    }
}

impl fmt::Debug for Amended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        let names = self.values.iter().map(|(attribute, _)| attribute.to_string());
        f.debug_struct("Amended").field("amended", &names.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
