//! Where the server listens, and whom it lets in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Where to listen, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    At(SocketAddr),
    Off,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong = |_| "write an address and a port, as in 127.0.0.1:8081, or `off`".to_owned();
        text.parse().map(Self::At).map_err(wrong)
    }
}

/// Connections, on each listener.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connections")]
pub(crate) struct ConnectionOptions {
    /// How many connections each listener holds at once [default: 4,096 for HTTP, 1,024 for gRPC, 10,000 for the Redis
    /// protocol]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,

    /// How many of them may be of one address [default: half of them, or 100 if that is more]
    #[arg(long, value_name = "N", env = "TOLLGATE_MAX_CONNECTIONS_PER_ADDRESS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections_per_address: Option<u32>,
}

/// TLS of the server's own listeners.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsOptions {
    /// The server's certificate, and those between it and one that clients believe (PEM). It is read again when it changes,
    /// and on SIGHUP
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        value_name = "FILE",
        env = "TOLLGATE_TLS_CERT",
        requires = "tls_key"
    )]
    pub(crate) cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(
        id = "tls_key",
        long = "tls-key",
        value_name = "FILE",
        env = "TOLLGATE_TLS_KEY",
        requires = "tls_cert"
    )]
    pub(crate) key: Option<PathBuf>,

    /// The certificates of those who vouch for clients (PEM): whoever shows none of theirs is not let in
    #[arg(
        id = "tls_client_ca",
        long = "tls-client-ca",
        value_name = "FILE",
        env = "TOLLGATE_TLS_CLIENT_CA",
        requires = "tls_cert"
    )]
    pub(crate) client_ca: Option<PathBuf>,

    /// Where TLS is spoken, if there is a certificate; the others stay plain
    #[arg(
        id = "tls_on",
        long = "tls-on",
        value_name = "LISTENERS",
        env = "TOLLGATE_TLS_ON",
        value_enum,
        value_delimiter = ',',
        default_value = "http,grpc,resp"
    )]
    pub(crate) on: Vec<Face>,
}

/// What the server speaks, each on a listener of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Face {
    /// HTTP
    Http,
    /// gRPC
    Grpc,
    /// The Redis protocol
    Resp,
}
