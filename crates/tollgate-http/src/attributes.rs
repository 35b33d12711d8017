//! An HTTP request as policies see it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, Method, Request, Uri, header};
use tollgate_policy::{Attribute, Attributes, bearer_token, canonical, cookie_value, host_name, query_value};

/// The header that holds the API key, unless another is chosen.
pub static API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// The address that a request came from: an extension that a server puts into its requests.
///
/// With the feature `axum`, axum's own `ConnectInfo<SocketAddr>` will do as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(pub SocketAddr);

/// The pattern by which the application found who answers a request: an extension that a router puts into its requests.
///
/// With the feature `axum`, axum's own `MatchedPath` will do as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route(pub String);

/// What the application knows of a request: an extension that its authentication puts in before the limits are asked.
///
/// ```
/// use tollgate_http::RequestContext;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(
///     RequestContext::new().user("u-17").claim("tenant", "acme").attribute("plan", "premium"),
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RequestContext {
    user: Option<String>,
    claims: Vec<(String, String)>,
    attributes: Vec<(String, String)>,
}

impl RequestContext {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self { user: None, claims: Vec::new(), attributes: Vec::new() }
    }

    /// The request is by this user, who has been authenticated.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The request bears this claim, which has been verified. The first of a name counts.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.push((name.into(), value.into()));
        self
    }

    /// What is known of an attribute: of the user, a claim, or one of the application's own.
    pub fn get(&self, attribute: &Attribute) -> Option<&str> {
        match attribute {
            Attribute::User => self.user.as_deref(),
            Attribute::Claim(name) => find(&self.claims, name),
            Attribute::Custom(name) => find(&self.attributes, name),
            _ => None,
        }
    }

    /// The request has this attribute, such as a plan. The first of a name counts.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }
}

/// A request as policies see it; borrows everything.
///
/// The user, claims and custom attributes come from [`RequestContext`], all else from the request itself. Values are
/// bytes: a header that is not UTF-8 is a key like any other.
///
/// ```
/// use tollgate_http::HttpAttributes;
/// use tollgate_policy::{Attribute, Attributes};
///
/// let request = http::Request::get("/search?q=toll").header("x-api-key", "k-123").body(())?;
/// let seen = HttpAttributes::of(&request).with_ip(Some("203.0.113.7".parse().unwrap()));
/// assert_eq!(seen.get(&Attribute::ApiKey).as_deref(), Some(&b"k-123"[..]));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct HttpAttributes<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    ip: Option<IpAddr>,
    api_key: &'a HeaderName,
}

impl<'a> HttpAttributes<'a> {
    /// A request in its parts; of no address yet.
    pub fn new(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap, extensions: &'a Extensions) -> Self {
        Self { method, uri, headers, extensions, ip: None, api_key: &API_KEY_HEADER }
    }

    /// A request; of no address yet.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self::new(request.method(), request.uri(), request.headers(), request.extensions())
    }

    /// The head of a request; of no address yet.
    pub fn of_parts(parts: &'a Parts) -> Self {
        Self::new(&parts.method, &parts.uri, &parts.headers, &parts.extensions)
    }

    /// From this client. See [`client_address`](crate::client_address) for how to find it from [`peer`](Self::peer).
    pub const fn with_ip(mut self, ip: Option<IpAddr>) -> Self {
        self.ip = ip;
        self
    }

    /// With the API key in this header.
    pub const fn with_api_key_header(mut self, name: &'a HeaderName) -> Self {
        self.api_key = name;
        self
    }

    /// The address that the request came from, if the server says so: see [`Peer`].
    pub fn peer(&self) -> Option<IpAddr> {
        let own = self.extensions.get::<Peer>().map(|peer| peer.0);
        own.or_else(|| axum_peer(self.extensions)).map(|address| canonical(address.ip()))
    }

    /// The method.
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The URI. In an axum router that is nested, with the feature `axum`, this is the whole one.
    pub fn uri(&self) -> &'a Uri {
        full_uri(self.extensions).unwrap_or(self.uri)
    }

    /// The headers.
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions.
    pub const fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    fn context(&self) -> Option<&'a RequestContext> {
        self.extensions.get()
    }

    fn header(&self, name: impl header::AsHeaderName) -> Option<&'a [u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes)
    }

    fn host(&self) -> Option<Cow<'a, [u8]>> {
        // A URI with an authority, as HTTP/2 always has it, counts more than the header (RFC 9112, 3.2.2).
        let host = self.uri().host().map(str::as_bytes);
        host.or_else(|| self.header(header::HOST)).map(host_name)
    }
}

impl Attributes for HttpAttributes<'_> {
    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn path(&self) -> &str {
        self.uri().path()
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        let value = match attribute {
            Attribute::Method => Some(self.method.as_str().as_bytes()),
            Attribute::Path => Some(self.uri().path().as_bytes()),
            Attribute::Host => return self.host(),
            Attribute::Route => {
                let own = self.extensions.get::<Route>().map(|route| route.0.as_str());
                own.or_else(|| axum_route(self.extensions)).map(str::as_bytes)
            }
            Attribute::Bearer => self.header(header::AUTHORIZATION).and_then(bearer_token),
            Attribute::ApiKey => self.header(self.api_key),
            Attribute::Header(name) => self.header(name.as_str()),
            Attribute::Query(name) => return query_value(self.uri().path_and_query()?.as_str(), name),
            Attribute::Cookie(name) => {
                // HTTP/2 may split cookies over several headers (RFC 9113, 8.2.3).
                let all = self.headers.get_all(header::COOKIE).iter();
                all.map(http::HeaderValue::as_bytes).find_map(|header| cookie_value(header, name))
            }
            known => self.context()?.get(known).map(str::as_bytes),
        };
        value.map(Cow::Borrowed)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The URI before axum took off the part that a router is nested under.
#[cfg(feature = "axum")]
fn full_uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<axum::extract::OriginalUri>().map(|uri| &uri.0)
}

#[cfg(not(feature = "axum"))]
const fn full_uri(_: &Extensions) -> Option<&Uri> {
    None
}

#[cfg(feature = "axum")]
fn axum_route(extensions: &Extensions) -> Option<&str> {
    extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
const fn axum_route(_: &Extensions) -> Option<&str> {
    None
}

#[cfg(feature = "axum")]
fn axum_peer(extensions: &Extensions) -> Option<SocketAddr> {
    use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
    let real = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    real.or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| info.0))
}

#[cfg(not(feature = "axum"))]
const fn axum_peer(_: &Extensions) -> Option<SocketAddr> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(seen: &HttpAttributes<'_>, name: &str) -> Option<String> {
        let value = seen.get(&name.parse().unwrap())?;
        assert!(matches!(value, Cow::Borrowed(_)) || name == "host" || name.starts_with("query"), "{name}");
        Some(String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn a_request_has_its_attributes() {
        let mut request = Request::builder()
            .method("PATCH")
            .uri("/a%2Fb?q=x%20y&n=1")
            .header("Host", "API.example.com.:8080")
            .header("X-Api-Key", "k")
            .header("X-Api-Key", "second")
            .header("Cookie", "a=1")
            .header("Authorization", "Bearer t-1")
            .header("Cookie", "sid=s; b=2")
            .body(())
            .unwrap();
        request.extensions_mut().insert(
            RequestContext::new()
                .user("u")
                .claim("plan", "gold")
                .claim("plan", "tin")
                .attribute("plan", "free"),
        );
        request.extensions_mut().insert(Route("/users/{id}".to_owned()));
        request.extensions_mut().insert(Peer("[::ffff:203.0.113.7]:80".parse().unwrap()));
        let seen = HttpAttributes::of(&request);
        assert_eq!((seen.path(), seen.ip()), ("/a%2Fb", None));
        assert_eq!(seen.peer(), Some("203.0.113.7".parse().unwrap()));
        for (name, value) in [
            ("method", Some("PATCH")),
            ("path", Some("/a%2Fb")),
            ("host", Some("api.example.com")),
            ("user", Some("u")),
            ("api_key", Some("k")),
            ("header:x-api-key", Some("k")),
            ("header:x-other", None),
            ("header:not a name", None),
            ("query:q", Some("x y")),
            ("query:n", Some("1")),
            ("query:m", None),
            ("cookie:sid", Some("s")),
            ("cookie:b", Some("2")),
            ("cookie:c", None),
            ("claim:plan", Some("gold")),
            ("claim:other", None),
            ("attribute:plan", Some("free")),
            ("bearer", Some("t-1")),
            ("route", Some("/users/{id}")),
        ] {
            assert_eq!(get(&seen, name).as_deref(), value, "{name}");
        }
        let other = HeaderName::from_static("x-tenant-key");
        assert_eq!(get(&seen.with_api_key_header(&other), "api_key"), None);
    }

    #[test]
    fn a_bare_request_has_little() {
        let request = Request::new(());
        let seen = HttpAttributes::of(&request);
        for name in ["host", "user", "api_key", "claim:a", "attribute:a", "cookie:a", "query:a"] {
            assert_eq!(get(&seen, name), None, "{name}");
        }
        assert_eq!((seen.peer(), seen.path()), (None, "/"));
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (uri, header, host) in [
            ("/", "a.example", "a.example"),
            ("/", "A.Example.:80", "a.example"),
            ("/", "[2001:DB8::1]:80", "[2001:db8::1]"),
            ("/", "[::1]", "[::1]"),
            ("http://B.example:81/", "a.example", "b.example"),
        ] {
            let request = Request::get(uri).header("host", header).body(()).unwrap();
            assert_eq!(get(&HttpAttributes::of(&request), "host").as_deref(), Some(host), "{uri} {header}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_a_key_too() {
        let value = http::HeaderValue::from_bytes(b"\xff\xfe").unwrap();
        let request = Request::get("/").header("x-api-key", value).body(()).unwrap();
        let seen = HttpAttributes::of(&request);
        assert_eq!(seen.get(&Attribute::ApiKey).as_deref(), Some(&b"\xff\xfe"[..]));
    }
}
