//! Where the server listens, and whom it lets in.

use std::fmt;
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

/// As it is written.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
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
        default_value = "http,grpc,resp,admin"
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
    /// The administration
    Admin,
}

/// The administration.
#[derive(Args, Debug)]
#[command(next_help_heading = "Administration")]
pub(crate) struct AdminOptions {
    /// Where to listen for administrators, who change policies and bans and ask why a request is denied; port 0 takes a free
    /// one, `off` is for nobody. Others than this machine need a token
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_ADMIN", default_value = "127.0.0.1:8082")]
    pub(crate) admin: ListenAddress,

    /// What administrators have to send as `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,

    /// A file that holds that token
    #[arg(long, value_name = "FILE", env = "TOLLGATE_ADMIN_TOKEN_FILE", conflicts_with = "admin_token")]
    pub(crate) admin_token_file: Option<PathBuf>,

    /// Where to keep what administrators change, and bans, so that they hold after a restart. The file is a secret [default:
    /// `changes.json` in the directory of `--data-dir`; else nowhere]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CHANGES")]
    pub(crate) changes: Option<PathBuf>,

    /// Where to log what administrators do, and a share of the decisions, as lines of JSON [default: nowhere; what
    /// administrators do is also in the server's log]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_AUDIT_LOG")]
    pub(crate) audit_log: Option<PathBuf>,

    /// Which share of the decisions the audit log holds, from 0 to 1
    #[arg(long, value_name = "SHARE", env = "TOLLGATE_AUDIT_SAMPLE", default_value = "0.01", value_parser = share)]
    pub(crate) audit_sample: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a number from 0 to 1, as in 0.01 for one in a hundred".to_owned())
}
