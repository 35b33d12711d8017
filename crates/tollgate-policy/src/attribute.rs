//! What is known of a request, by name.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::path::normalized;

/// Something that a request may have, which a policy can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Attribute {
    /// The HTTP method, in capitals.
    Method,
    /// The path without the query.
    Path,
    /// The host that the request names, without the port.
    Host,
    /// The pattern by which the application's router found who answers, such as `/users/{id}`.
    Route,
    /// The user that the caller has authenticated.
    User,
    /// The API key.
    ApiKey,
    /// The token of an `Authorization: Bearer …` header.
    Bearer,
    /// The first value of a header; the name in lower case.
    Header(String),
    /// The first value of a query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
    /// A claim of a token that the caller has verified.
    Claim(String),
    /// Something that only the application knows, such as a plan or a tenant.
    Custom(String),
}

impl Attribute {
    /// A value as policies compare it, where many spellings mean one thing.
    pub(crate) fn spelt(&self, value: String) -> String {
        match self {
            Self::Method => value.to_ascii_uppercase(),
            Self::Path => normalized(&value).into_owned(),
            Self::Host => value.trim_end_matches('.').to_ascii_lowercase(),
            _ => value,
        }
    }

    /// Whether the value lets its holder in somewhere, so that it must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        match self {
            Self::ApiKey | Self::Bearer | Self::Cookie(_) => true,
            Self::Header(name) => ["authorization", "cookie", "x-api-key"].contains(&name.as_str()),
            _ => false,
        }
    }
}

/// A text that names no attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an attribute of a request")]
pub struct UnknownAttribute(String);

/// The attributes that are named by a word, and the kinds that are named by `kind:name`.
pub(crate) const ATTRIBUTE_WORDS: [&str; 12] = [
    "method",
    "path",
    "host",
    "route",
    "user",
    "api_key",
    "bearer",
    "header:",
    "query:",
    "cookie:",
    "claim:",
    "attribute:",
];

impl FromStr for Attribute {
    type Err = UnknownAttribute;

    /// Reads `user`, `header:x-tenant`, `claim:plan`.
    fn from_str(text: &str) -> Result<Self, UnknownAttribute> {
        let unknown = || UnknownAttribute(text.chars().take(60).collect());
        Ok(match text {
            "method" => Self::Method,
            "path" => Self::Path,
            "host" => Self::Host,
            "route" => Self::Route,
            "user" => Self::User,
            "api_key" => Self::ApiKey,
            "bearer" => Self::Bearer,
            _ => {
                let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
                let name = name.trim();
                if name.is_empty() || name.len() > 256 {
                    return Err(unknown());
                }
                match kind.trim() {
                    "header" => Self::Header(name.to_ascii_lowercase()),
                    "query" => Self::Query(name.to_owned()),
                    "cookie" => Self::Cookie(name.to_owned()),
                    "claim" => Self::Claim(name.to_owned()),
                    "attribute" => Self::Custom(name.to_owned()),
                    _ => return Err(unknown()),
                }
            }
        })
    }
}

/// Writes the attribute as it can be read back.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
            Self::Host => f.write_str("host"),
            Self::Route => f.write_str("route"),
            Self::User => f.write_str("user"),
            Self::ApiKey => f.write_str("api_key"),
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Custom(name) => write!(f, "attribute:{name}"),
        }
    }
}

/// A request as policies see it.
///
/// Faces implement this over their own wire; [`Request`] is a ready-made one.
pub trait Attributes {
    /// The address of the client, as far as it can be trusted.
    fn ip(&self) -> Option<IpAddr>;

    /// The path, with or without the query; empty if the request has none.
    fn path(&self) -> &str;

    /// The value of an attribute. Bytes: a header need not be text.
    ///
    /// Of [`Attribute::Path`] policies read [`path`](Self::path) instead, normalised.
    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>>;
}

impl<A: Attributes + ?Sized> Attributes for &A {
    fn ip(&self) -> Option<IpAddr> {
        A::ip(self)
    }

    fn path(&self) -> &str {
        A::path(self)
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        A::get(self, attribute)
    }
}

/// A request that is described by hand.
///
/// ```
/// use tollgate_policy::Request;
///
/// let request = Request::new("GET", "/api/search?q=toll")
///     .with_ip("203.0.113.7".parse()?)
///     .with_api_key("k-123")
///     .with_header("X-Tenant", "acme");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Request {
    method: String,
    path: String,
    ip: Option<IpAddr>,
    values: Vec<(Attribute, String)>,
}

impl Request {
    /// A request for a path, with or without a query. Both may be empty.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Self {
        let mut method = method.into();
        method.make_ascii_uppercase();
        Self { method, path: path.into(), ip: None, values: Vec::new() }
    }

    /// From this address.
    pub const fn with_ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// By this authenticated user.
    pub fn with_user(self, user: impl Into<String>) -> Self {
        self.with(Attribute::User, user)
    }

    /// With this API key.
    pub fn with_api_key(self, key: impl Into<String>) -> Self {
        self.with(Attribute::ApiKey, key)
    }

    /// With this header.
    pub fn with_header(self, name: &str, value: impl Into<String>) -> Self {
        self.with(Attribute::Header(name.to_ascii_lowercase()), value)
    }

    /// With this attribute. The first value of each counts.
    pub fn with(mut self, attribute: Attribute, value: impl Into<String>) -> Self {
        self.values.push((attribute, value.into()));
        self
    }
}

impl Attributes for Request {
    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        match attribute {
            Attribute::Method => (!self.method.is_empty()).then_some(Cow::Borrowed(self.method.as_bytes())),
            wanted => {
                let stated = self.values.iter().find(|(attribute, _)| attribute == wanted);
                match (stated, wanted) {
                    (Some((_, value)), _) => Some(Cow::Borrowed(value.as_bytes())),
                    (None, Attribute::Query(name)) => query_value(&self.path, name),
                    (None, Attribute::ApiKey) => self.get(&Attribute::Header("x-api-key".to_owned())),
                    (None, Attribute::Host) => {
                        let Cow::Borrowed(header) = self.get(&Attribute::Header("host".to_owned()))? else {
                            return None;
                        };
                        Some(host_name(header))
                    }
                    (None, Attribute::Bearer) => {
                        let header = Attribute::Header("authorization".to_owned());
                        let Cow::Borrowed(header) = self.get(&header)? else { return None };
                        bearer_token(header).map(Cow::Borrowed)
                    }
                    (None, Attribute::Cookie(name)) => {
                        let Cow::Borrowed(header) = self.get(&Attribute::Header("cookie".to_owned()))? else {
                            return None;
                        };
                        cookie_value(header, name).map(Cow::Borrowed)
                    }
                    _ => None,
                }
            }
        }
    }
}

/// The first value of a query parameter, percent-decoded, of a path with its query.
pub fn query_value<'a>(path_and_query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let (_, query) = path_and_query.split_once('?')?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// The first cookie of this name in a `Cookie` header.
pub fn cookie_value<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    header
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The token of an `Authorization` header of the scheme `Bearer` (RFC 6750), in capitals or not.
pub fn bearer_token(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.trim_ascii().split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// The host of a `Host` header: without the port, in small letters, without the dot of the root. An IPv6 address keeps
/// its brackets.
pub fn host_name(header: &[u8]) -> Cow<'_, [u8]> {
    host(Cow::Borrowed(match header.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !header[colon..].contains(&b']') => &header[..colon],
        _ => header,
    }))
}

/// A host in small letters and without the dot of the root: it has other spellings, and a limit must hold for all.
pub(crate) fn host(mut name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if name.ends_with(b".") || name.iter().any(u8::is_ascii_uppercase) {
        let end = name.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
        let name = name.to_mut();
        name.truncate(end);
        name.make_ascii_lowercase();
    }
    name
}

/// Decodes `%41` and `+` of a query. What is no valid escape stays as it is.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| escape(bytes, at)).flatten();
        decoded.push(match (byte, escaped) {
            (_, Some(escaped)) => escaped,
            (b'+', _) => b' ',
            (other, _) => *other,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    Cow::Owned(decoded)
}

/// The byte that the two hexadecimal digits after `at` stand for.
pub(crate) fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(1)? << 4 | digit(2)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_as_they_are_written() {
        for text in
            ["method", "user", "header:x-tenant", "query:q", "cookie:sid", "claim:a:b", "attribute:plan"]
        {
            assert_eq!(text.parse::<Attribute>().unwrap().to_string(), text);
        }
        for text in ["", "ip:", "header:", "heder:x", "Method", &format!("header:{}", "x".repeat(300))] {
            assert!(text.parse::<Attribute>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_finds_its_attributes() {
        let request = Request::new("get", "/p?a=1&b=x%20y+z&b=2&%63=3&bad=%zz")
            .with_header("Cookie", "a=1; sid=s=1 ;b=2")
            .with_header("HOST", "example.com:8080")
            .with_header("X-Api-Key", "k")
            .with_header("Authorization", "bearer  t.1");
        let get = |name: &str| {
            request.get(&name.parse().unwrap()).map(|value| String::from_utf8(value.into_owned()).unwrap())
        };
        for (name, value) in [
            ("method", Some("GET")),
            ("query:a", Some("1")),
            ("query:b", Some("x y z")),
            ("query:c", Some("3")),
            ("query:bad", Some("%zz")),
            ("query:nothing", None),
            ("cookie:sid", Some("s=1")),
            ("cookie:si", None),
            ("host", Some("example.com")),
            ("api_key", Some("k")),
            ("bearer", Some("t.1")),
            ("route", None),
            ("user", None),
        ] {
            assert_eq!(get(name).as_deref(), value, "{name}");
        }
        for header in ["Bearer", "Bearer ", "Basic abc", "Bearerx y", ""] {
            assert_eq!(bearer_token(header.as_bytes()), None, "{header}");
        }
    }
}
