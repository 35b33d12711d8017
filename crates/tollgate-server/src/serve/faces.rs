//! Which listeners there are, as the options say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::metrics::connections;
use super::net::{Limits, Listener, Protocol, Settings, Tls, TlsFiles};
use super::resp;
use crate::cli::{Face, ListenAddress, ServeOptions, TlsOptions};

/// How many connections each listener holds, if nobody says otherwise. Those of HTTP cost memory for buffers even while they
/// are idle, and of HTTP/2 each carries many requests.
const HTTP_CONNECTIONS: usize = 4_096;
const GRPC_CONNECTIONS: usize = 1_024;
const RESP_CONNECTIONS: usize = 10_000;
const ADMIN_CONNECTIONS: usize = 64;

/// What one address may hold at least, however few there may be.
const OF_EACH_MIN: usize = 100;

/// For how long clients of HTTP may be silent. Longer than theirs keep connections, so that it is them who close.
const HTTP_IDLE: Duration = Duration::from_mins(5);

/// What a client of HTTP reads for whom there is no place.
const HTTP_FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// All listeners, with nobody let in yet.
#[derive(Debug)]
pub(super) struct Faces {
    pub(super) http: Listener,
    pub(super) grpc: Option<Listener>,
    pub(super) resp: Option<Listener>,
    pub(super) admin: Option<Listener>,
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
        let admin = match at(options.admin.admin) {
            Some(address) => Some(Listener::bind(address, settings(Face::Admin))?),
            None => None,
        };
        Ok(Self { http, grpc, resp, admin, tls })
    }

    /// Where HTTP, gRPC, the Redis protocol and the administration are, for people.
    pub(super) fn urls(&self) -> [String; 4] {
        let at = |listener: Option<&Listener>, plain: &str, tls: &str| {
            listener.map_or_else(
                || "off".to_owned(),
                |listener| {
                    format!("{}://{}", if listener.has_tls() { tls } else { plain }, listener.address())
                },
            )
        };
        [
            at(Some(&self.http), "http", "https"),
            at(self.grpc.as_ref(), "http", "https"),
            at(self.resp.as_ref(), "redis", "rediss"),
            at(self.admin.as_ref(), "http", "https"),
        ]
    }

    /// Whether clients of a listener have to show a certificate.
    pub(super) fn is_mutual(&self, listener: &Listener) -> bool {
        listener.has_tls() && self.tls.as_ref().is_some_and(|tls| tls.is_mutual())
    }

    /// Says in the log which of them strangers can use.
    pub(super) fn warn(&self) {
        let is_open =
            |listener: &&Listener| !listener.address().ip().is_loopback() && !self.is_mutual(listener);
        let keep = "keep it private, or let only clients with certificates in (--tls-client-ca)";
        for address in
            [Some(&self.http), self.resp.as_ref()].into_iter().flatten().filter(is_open).map(address)
        {
            tracing::warn!(target: "tollgate::serve", %address, "anyone who can reach this address can ask, and can reset keys: {keep}");
        }
        if let Some(address) = self.grpc.as_ref().filter(is_open).map(address) {
            tracing::warn!(target: "tollgate::serve", %address, "anyone who can reach this address can ask over gRPC: {keep}");
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
            counts: &connections::HTTP,
            option: "--listen",
            off: None,
            limits: limits(HTTP_CONNECTIONS, HTTP_IDLE),
            tls,
            protocol: Protocol::Http,
            full: HTTP_FULL,
        },
        Face::Grpc => Settings {
            name: "gRPC",
            counts: &connections::GRPC,
            option: "--grpc",
            off: Some("--grpc off"),
            limits: limits(GRPC_CONNECTIONS, HTTP_IDLE),
            tls,
            protocol: Protocol::Http2,
            full: b"",
        },
        Face::Resp => Settings {
            name: "the Redis protocol",
            counts: &connections::RESP,
            option: "--resp",
            off: Some("--resp off"),
            limits: limits(RESP_CONNECTIONS, options.resp.resp_idle),
            tls,
            protocol: Protocol::Other,
            full: resp::FULL,
        },
        Face::Admin => Settings {
            name: "administration",
            counts: &connections::ADMIN,
            option: "--admin",
            off: Some("--admin off"),
            limits: Limits { most: ADMIN_CONNECTIONS, of_each: ADMIN_CONNECTIONS, idle: HTTP_IDLE },
            tls,
            protocol: Protocol::Http,
            full: HTTP_FULL,
        },
    }
}
