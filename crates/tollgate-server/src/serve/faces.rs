//! Which listeners there are, as the options say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::net::{Limits, Listener, Protocol, Settings, Tls, TlsFiles};
use super::resp;
use crate::cli::{Face, ListenAddress, ServeOptions, TlsOptions};

/// How many connections each listener holds, if nobody says otherwise. Those of HTTP cost memory for buffers even while they
/// are idle, and of HTTP/2 each carries many requests.
const HTTP_CONNECTIONS: usize = 4_096;
const GRPC_CONNECTIONS: usize = 1_024;
const RESP_CONNECTIONS: usize = 10_000;

/// What one address may hold at least, however few there may be.
const OF_EACH_MIN: usize = 100;

/// For how long clients of HTTP may be silent. Longer than theirs keep connections, so that it is them who close.
const HTTP_IDLE: Duration = Duration::from_mins(5);

/// All listeners, with nobody let in yet.
#[derive(Debug)]
pub(super) struct Faces {
    pub(super) http: Listener,
    pub(super) grpc: Option<Listener>,
    pub(super) resp: Option<Listener>,
    /// The certificates, if there are any.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Faces {
    /// # Errors
    /// If an address cannot be had, or a certificate not be used: what to do.
    pub(super) fn bind(options: &ServeOptions) -> Result<Self, String> {
        let tls = tls(&options.tls)?;
        let settings = |face| settings(options, tls.as_ref(), face);
        let at = |address| match address {
            ListenAddress::At(address) => Some(address),
            ListenAddress::Off => None,
        };
        let http = Listener::bind(options.listen, settings(Face::Http))?;
        let grpc = match at(options.grpc) {
            Some(address) => Some(Listener::bind(address, settings(Face::Grpc))?),
            None => None,
        };
        let resp = match at(options.resp.resp) {
            Some(address) => Some(Listener::bind(address, settings(Face::Resp))?),
            None => None,
        };
        Ok(Self { http, grpc, resp, tls })
    }

    /// Where HTTP, gRPC and the Redis protocol are spoken, for people.
    pub(super) fn urls(&self) -> (String, String, String) {
        let at = |listener: Option<&Listener>, plain: &str, tls: &str| {
            listener.map_or_else(
                || "off".to_owned(),
                |listener| {
                    format!("{}://{}", if listener.has_tls() { tls } else { plain }, listener.address())
                },
            )
        };
        (
            at(Some(&self.http), "http", "https"),
            at(self.grpc.as_ref(), "http", "https"),
            at(self.resp.as_ref(), "redis", "rediss"),
        )
    }

    /// Says in the log which of them strangers can use.
    pub(super) fn warn(&self) {
        let is_open = |listener: &&Listener| {
            let is_mutual = listener.has_tls() && self.tls.as_ref().is_some_and(|tls| tls.is_mutual());
            !listener.address().ip().is_loopback() && !is_mutual
        };
        let keep = "keep it private, or let only clients with certificates in (--tls-client-ca)";
        for address in
            [Some(&self.http), self.resp.as_ref()].into_iter().flatten().filter(is_open).map(address)
        {
            tracing::warn!(%address, "anyone who can reach this address can ask, and can reset keys: {keep}");
        }
        if let Some(address) = self.grpc.as_ref().filter(is_open).map(address) {
            tracing::warn!(%address, "anyone who can reach this address can ask over gRPC: {keep}");
        }
    }
}

fn address(listener: &Listener) -> SocketAddr {
    listener.address()
}

/// The certificates, if there are any.
fn tls(options: &TlsOptions) -> Result<Option<Arc<Tls>>, String> {
    let (Some(cert), Some(key)) = (&options.cert, &options.key) else { return Ok(None) };
    let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: options.client_ca.clone() };
    Tls::load(files).map(|tls| Some(Arc::new(tls)))
}

fn settings(options: &ServeOptions, tls: Option<&Arc<Tls>>, face: Face) -> Settings {
    let at_most = |number: Option<u32>, default: usize| {
        number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
    };
    let limits = |default: usize, idle: Duration| {
        let most = at_most(options.connections.max_connections, default);
        let of_each = (most / 2).max(OF_EACH_MIN);
        Limits { most, of_each: at_most(options.connections.max_connections_per_address, of_each), idle }
    };
    let tls = tls.filter(|_| options.tls.on.contains(&face)).map(Arc::clone);
    match face {
        Face::Http => Settings {
            name: "HTTP",
            option: "--listen",
            off: None,
            limits: limits(HTTP_CONNECTIONS, HTTP_IDLE),
            tls,
            protocol: Protocol::Http,
            full: b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        },
        Face::Grpc => Settings {
            name: "gRPC",
            option: "--grpc",
            off: Some("--grpc off"),
            limits: limits(GRPC_CONNECTIONS, HTTP_IDLE),
            tls,
            protocol: Protocol::Http2,
            full: b"",
        },
        Face::Resp => Settings {
            name: "the Redis protocol",
            option: "--resp",
            off: Some("--resp off"),
            limits: limits(RESP_CONNECTIONS, options.resp.resp_idle),
            tls,
            protocol: Protocol::Other,
            full: resp::FULL,
        },
    }
}
