//! The client's address: the peer's, or what trusted proxies say of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use ipnet::IpNet;
use tollgate_policy::{NetworkError, Networks, canonical};

/// The header in which a proxy says for whom it forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: a list of addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list of `for=…` with further parameters.
    Forwarded,
}

/// Which proxies are believed, and which header they write.
///
/// By default there are none, so a request comes from whoever sent it. Only one header is ever read: a proxy that
/// writes the one passes the other through as the client wrote it.
///
/// ```
/// use tollgate_http::{ForwardingHeader, TrustedProxies};
///
/// let proxies = TrustedProxies::parse(["10.0.0.0/8", "fd00::/8", "192.0.2.1"])?
///     .with_header(ForwardingHeader::Forwarded);
/// assert!(proxies.contains("10.1.2.3".parse().unwrap()));
/// # Ok::<(), tollgate_http::ProxyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Networks,
    header: ForwardingHeader,
}

/// A text that names no proxies to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It is neither an address nor a network.
    #[error(transparent)]
    Syntax(#[from] NetworkError),
    /// It holds every address.
    #[error(
        "`{0}` trusts everyone, so that each client could choose its own address; name the networks of your proxies"
    )]
    Everyone(String),
}

impl ForwardingHeader {
    /// Its name, in small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl TrustedProxies {
    /// Nobody is believed.
    pub const fn none() -> Self {
        Self { networks: Networks::none(), header: ForwardingHeader::XForwardedFor }
    }

    /// These networks are believed.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { networks: Networks::new(networks), header: ForwardingHeader::default() }
    }

    /// The networks and addresses of these texts are believed.
    ///
    /// # Errors
    /// If one of them is no network, or holds every address.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, ProxyError> {
        let networks = Networks::parse(texts)?;
        let everyone = networks.iter().find(|network| network.prefix_len() == 0);
        match everyone {
            Some(everyone) => Err(ProxyError::Everyone(everyone.to_string())),
            None => Ok(Self { networks, header: ForwardingHeader::default() }),
        }
    }

    /// They write this header.
    #[must_use]
    pub const fn with_header(mut self, header: ForwardingHeader) -> Self {
        self.header = header;
        self
    }

    /// The header that they write.
    pub const fn header(&self) -> ForwardingHeader {
        self.header
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether this address is believed.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }
}

/// The most entries of forwarding headers that are looked at, from the right.
const HOPS_MAX: usize = 32;
/// The most bytes of forwarding headers that are looked at, from the right.
const BYTES_MAX: usize = 4_096;

/// The address of the client: the peer's, unless the peer is a trusted proxy and says for whom it forwards.
///
/// The header is read from its end, where each proxy adds whom it heard from, past those that are trusted. The first
/// that is not is the client; what stands before it, the client may have made up, and it is not even looked at. A
/// client that a proxy hides (`unknown`, `_name`) is counted as that proxy. If an entry cannot be read, or there is no
/// end to trusted ones in 32 entries or 4 KiB, it is the peer's address.
///
/// ```
/// use http::HeaderMap;
/// use tollgate_http::{TrustedProxies, client_address};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "127.0.0.1, 203.0.113.7, 10.0.0.2".parse().unwrap());
/// let proxy = "10.0.0.1".parse().unwrap();
///
/// let trusting = TrustedProxies::parse(["10.0.0.0/8"])?;
/// assert_eq!(client_address(proxy, &headers, &trusting).to_string(), "203.0.113.7");
/// assert_eq!(client_address(proxy, &headers, &TrustedProxies::none()), proxy);
/// # Ok::<(), tollgate_http::ProxyError>(())
/// ```
#[inline]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &TrustedProxies) -> IpAddr {
    let values = || headers.get_all(proxies.header.name()).iter().map(http::HeaderValue::as_bytes);
    client_address_by(peer, proxies, values)
}

/// Like [`client_address`], for headers of another library: `values` are those of the [header](TrustedProxies::header) that
/// the proxies write, in their order. It is asked only if the peer is one of them.
#[inline]
pub fn client_address_by<'h, V: DoubleEndedIterator<Item = &'h [u8]>>(
    peer: IpAddr,
    proxies: &TrustedProxies,
    values: impl FnOnce() -> V,
) -> IpAddr {
    let peer = canonical(peer);
    if !proxies.is_empty() && proxies.contains(peer) {
        forwarded(peer, values(), proxies).unwrap_or(peer)
    } else {
        peer
    }
}

/// Whom a trusted peer forwards for; `None` if the header cannot be believed.
fn forwarded<'h>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'h [u8]>,
    proxies: &TrustedProxies,
) -> Option<IpAddr> {
    let is_list = proxies.header == ForwardingHeader::XForwardedFor;
    let (mut last, mut hops, mut bytes_left) = (peer, 0, BYTES_MAX);
    // Repeated headers are one list, in their order; it is read backwards.
    for whole in values.rev() {
        let mut rest = &whole[whole.len().saturating_sub(bytes_left)..];
        let is_cut = rest.len() < whole.len();
        bytes_left -= rest.len();
        while !rest.is_empty() {
            let (before, entry) = split_last(rest, b',', !is_list);
            // The first entry of what was cut may be half of one.
            if is_cut && before.is_none() {
                return None;
            }
            rest = before.unwrap_or_default();
            let entry = entry.trim_ascii();
            if entry.is_empty() {
                continue;
            }
            hops += 1;
            if hops > HOPS_MAX {
                return None;
            }
            match if is_list { node(entry) } else { element(entry) }? {
                Node::Hidden => return Some(last),
                Node::Address(address) if !proxies.contains(address) => return Some(address),
                Node::Address(address) => last = address,
            }
        }
        if is_cut {
            return None;
        }
    }
    Some(last)
}

/// Who a proxy says it heard from.
#[derive(Clone, Copy)]
enum Node {
    Address(IpAddr),
    Hidden,
}

/// The node of an entry of `Forwarded`; without `for=` the proxy hides it.
fn element(entry: &[u8]) -> Option<Node> {
    let (mut rest, mut found) = (Some(entry), None);
    while let Some(pairs) = rest {
        let (before, pair) = split_last(pairs, b';', true);
        rest = before;
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        // Half a quoted text is none, whichever parameter it belongs to.
        let value = match value {
            [b'"', inner @ .., b'"'] => inner,
            value if value.contains(&b'"') => return None,
            value => value,
        };
        // A second `for` contradicts the first.
        if name.eq_ignore_ascii_case(b"for") && found.replace(node(value)?).is_some() {
            return None;
        }
    }
    Some(found.unwrap_or(Node::Hidden))
}

/// Reads an address as proxies write it: with or without a port, IPv6 with or without brackets.
fn node(text: &[u8]) -> Option<Node> {
    if text.eq_ignore_ascii_case(b"unknown") || text.starts_with(b"_") {
        return Some(Node::Hidden);
    }
    // Longer than any address with a port that a proxy may have made up, in brackets.
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 100)?;
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(address.parse::<Ipv6Addr>().ok().filter(|_| is_port)?)
    } else {
        match text.split_once(':') {
            Some((address, port)) if is_port(port) => IpAddr::V4(address.parse::<Ipv4Addr>().ok()?),
            _ => text.parse().ok()?,
        }
    };
    Some(Node::Address(canonical(address)))
}

/// A number, or a name that a proxy made up.
fn is_port(text: &str) -> bool {
    let is_name = text.strip_prefix('_').is_some_and(|name| !name.is_empty());
    is_name || (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits at the last `separator`, of those that are not in quotes if texts may be quoted.
///
/// Reading from the end is what keeps a quote that a client has left open from swallowing what a proxy added after it.
fn split_last(text: &[u8], separator: u8, quoting: bool) -> (Option<&[u8]>, &[u8]) {
    let mut in_quotes = false;
    for (at, byte) in text.iter().enumerate().rev() {
        if quoting && *byte == b'"' {
            let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            // In quotes, a quote after an odd number of backslashes is text.
            in_quotes = !in_quotes || backslashes % 2 == 1;
        } else if *byte == separator && !in_quotes {
            return (Some(&text[..at]), &text[at + 1..]);
        }
    }
    (None, text)
}

#[cfg(test)]
mod tests;
