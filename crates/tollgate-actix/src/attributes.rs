//! A request of Actix as policies see it.

use std::borrow::Cow;
use std::net::IpAddr;

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use smallvec::SmallVec;
use tollgate_http::{RequestContext, Route, TrustedProxies, client_address_by};
use tollgate_policy::{Attribute, Attributes, bearer_token, canonical, cookie_value, host_name, query_value};

/// A request as policies see it.
///
/// The user, claims and custom attributes come from the [`RequestContext`] among its extensions, all else from the request
/// itself.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ActixAttributes<'a> {
    request: &'a ServiceRequest,
    ip: Option<IpAddr>,
    api_key: &'a HeaderName,
}

impl<'a> ActixAttributes<'a> {
    /// A request, whose API key is in the header of this name, and whose proxies are believed if they are among these.
    pub fn new(request: &'a ServiceRequest, api_key: &'a HeaderName, proxies: &TrustedProxies) -> Self {
        let values = || {
            let all: SmallVec<[&[u8]; 4]> =
                request.headers().get_all(proxies.header().name()).map(HeaderValue::as_bytes).collect();
            all.into_iter()
        };
        let peer = request.peer_addr().map(|address| canonical(address.ip()));
        let ip = peer.map(|peer| client_address_by(peer, proxies, values));
        Self { request, ip, api_key }
    }

    fn header(&self, name: impl header::AsHeaderName) -> Option<&'a [u8]> {
        self.request.headers().get(name).map(HeaderValue::as_bytes)
    }

    fn context(&self, attribute: &Attribute) -> Option<Cow<'a, [u8]>> {
        let extensions = self.request.extensions();
        let value = extensions.get::<RequestContext>()?.get(attribute)?;
        Some(Cow::Owned(value.as_bytes().to_vec()))
    }

    fn route(&self) -> Option<Cow<'a, [u8]>> {
        let own = self.request.extensions().get::<Route>().map(|route| route.0.clone());
        own.or_else(|| self.request.match_pattern()).map(|route| Cow::Owned(route.into_bytes()))
    }
}

impl Attributes for ActixAttributes<'_> {
    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn path(&self) -> &str {
        self.request.uri().path()
    }

    fn get(&self, attribute: &Attribute) -> Option<Cow<'_, [u8]>> {
        let value = match attribute {
            Attribute::Method => Some(self.request.method().as_str().as_bytes()),
            Attribute::Path => Some(self.path().as_bytes()),
            Attribute::Host => {
                // A URI with an authority, as HTTP/2 always has it, counts more than the header (RFC 9112, 3.2.2).
                let host = self.request.uri().host().map(str::as_bytes);
                return host.or_else(|| self.header(header::HOST)).map(host_name);
            }
            Attribute::Route => return self.route(),
            Attribute::ApiKey => self.header(self.api_key),
            Attribute::Bearer => self.header(header::AUTHORIZATION).and_then(bearer_token),
            Attribute::Header(name) => self.header(name.as_str()),
            Attribute::Query(name) => {
                return query_value(self.request.uri().path_and_query()?.as_str(), name);
            }
            Attribute::Cookie(name) => {
                // HTTP/2 may split cookies over several headers (RFC 9113, 8.2.3).
                let mut all = self.request.headers().get_all(header::COOKIE).map(HeaderValue::as_bytes);
                all.find_map(|header| cookie_value(header, name))
            }
            known => return self.context(known),
        };
        value.map(Cow::Borrowed)
    }
}
