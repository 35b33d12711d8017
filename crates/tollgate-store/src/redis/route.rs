//! Where the server is: at one address, or wherever sentinels say that the primary is.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, Value,
};

use super::RedisOptions;

/// How addresses of clusters begin: `redis+cluster://[user:password@]host:port[,host:port…]`, and with TLS.
const CLUSTER: [(&str, &str); 2] = [("redis+cluster://", "redis://"), ("rediss+cluster://", "rediss://")];

/// How addresses of sentinels begin: `redis+sentinel://[user:password@]host:port[,host:port…]/service[/database]`, and where they
/// and the servers take TLS only.
const SENTINEL: [(&str, &str); 2] = [("redis+sentinel://", "redis://"), ("rediss+sentinel://", "rediss://")];

#[derive(Clone, Debug)]
pub(super) enum Route {
    Fixed(Client),
    Sentinel(Sentinels),
}

/// Who knows where the primary of a service is, and how to greet it.
#[derive(Clone, Debug)]
pub(super) struct Sentinels {
    clients: Vec<Client>,
    service: String,
    /// `user:password@`, as it stood in the address, for the primary.
    greeting: Secret,
    database: String,
    /// How the address of a server begins, theirs and the primary's.
    scheme: &'static str,
    options: RedisOptions,
}

/// A text that is not shown.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How the servers of a cluster are greeted, all alike.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    scheme: &'static str,
    greeting: Secret,
}

impl Maker {
    /// The maker and the servers that an address of a cluster names; `None` if it is another address.
    pub(super) fn parse(url: &str) -> Option<(Self, Vec<String>)> {
        let (rest, scheme) =
            CLUSTER.iter().find_map(|(prefix, scheme)| Some((url.strip_prefix(prefix)?, *scheme)))?;
        let (greeting, hosts) = greeted(rest);
        let maker = Self { scheme, greeting: Secret(greeting.to_owned()) };
        Some((maker, hosts.split(',').map(str::to_owned).collect()))
    }

    /// The way to a server of the cluster.
    ///
    /// # Errors
    /// What is wrong with its address.
    pub(super) fn route(&self, address: &str, options: &RedisOptions) -> Result<Route, String> {
        Route::parse(&format!("{}{}{address}", self.scheme, self.greeting.0), options)
    }
}

/// What stands in an address up to the `@`, and what behind it.
fn greeted(rest: &str) -> (&str, &str) {
    rest.rfind('@').map_or(("", rest), |end| rest.split_at(end + 1))
}

impl Route {
    /// The way that an address describes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(url: &str, options: &RedisOptions) -> Result<Self, String> {
        let named = |(prefix, scheme): &(&str, &'static str)| Some((url.strip_prefix(prefix)?, *scheme));
        match SENTINEL.iter().find_map(named) {
            Some((rest, scheme)) => Sentinels::parse(rest, scheme, options).map(Self::Sentinel),
            None => client(url, options).map(Self::Fixed).map_err(|error| error.to_string()),
        }
    }

    /// Connects to the server, wherever it is now.
    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        match self {
            Self::Fixed(client) => client.get_multiplexed_async_connection_with_config(config).await,
            Self::Sentinel(sentinels) => sentinels.connect(config).await,
        }
    }
}

/// A client of one server.
#[cfg(not(feature = "redis-tls"))]
fn client(url: &str, _options: &RedisOptions) -> Result<Client, RedisError> {
    Client::open(destination(url)?)
}

/// A client of one server, with TLS if its address says so.
#[cfg(feature = "redis-tls")]
fn client(url: &str, options: &RedisOptions) -> Result<Client, RedisError> {
    let super::TlsOptions { authorities, client } = options.tls.clone();
    if url.starts_with("rediss://") {
        // If the program has chosen another already, that is used.
        let _ = rustls_graviola::default_provider().install_default();
        if client.is_some() || authorities.is_some() {
            let client_tls =
                client.map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
            return Client::build_with_tls(
                destination(url)?,
                redis::TlsCertificates { client_tls, root_cert: authorities },
            );
        }
    }
    Client::open(destination(url)?)
}

/// Where an address leads, and how its socket is set: no call waits for another's acknowledgement, and a server that is gone
/// is noticed though nothing is said.
fn destination(url: &str) -> Result<ConnectionInfo, RedisError> {
    /// After so long without a word the other side is asked whether it is there.
    const QUIET: Duration = Duration::from_secs(15);
    /// What is not acknowledged for so long never will be.
    #[cfg(target_os = "linux")]
    const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

    let settings =
        TcpSettings::default().set_nodelay(true).set_keepalive(TcpKeepalive::new().with_time(QUIET));
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    Ok(url.into_connection_info()?.set_tcp_settings(settings))
}

impl Sentinels {
    fn parse(rest: &str, scheme: &'static str, options: &RedisOptions) -> Result<Self, String> {
        let (greeting, rest) = greeted(rest);
        let mut parts = rest.split('/');
        let (hosts, service) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if service.is_empty() {
            return Err("the name of the service is missing behind the hosts".to_owned());
        }
        let open = |host: &str| {
            client(&format!("{scheme}{host}"), options).map_err(|error| format!("{host}: {error}"))
        };
        Ok(Self {
            clients: hosts.split(',').map(open).collect::<Result<_, _>>()?,
            service: service.to_owned(),
            scheme,
            options: options.clone(),
            greeting: Secret(greeting.to_owned()),
            database: parts.next().unwrap_or_default().to_owned(),
        })
    }

    async fn connect(&self, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
        let mut last = RedisError::from((ErrorKind::Client, "there are no sentinels"));
        for sentinel in &self.clients {
            match self.connect_by(sentinel, config).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks one sentinel, and connects to the server that it names, if that itself says that it is the primary.
    async fn connect_by(
        &self,
        sentinel: &Client,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let mut asked = sentinel.get_multiplexed_async_connection_with_config(config).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.service);
        let address: Option<(String, u16)> = question.query_async(&mut asked).await?;
        let Some((host, port)) = address else {
            let what = "the sentinels know no service of this name";
            return Err(RedisError::from((ErrorKind::Client, what, self.service.clone())));
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let url = format!("{}{}{host}:{port}/{}", self.scheme, self.greeting.0, self.database);
        let server = client(&url, &self.options)?;
        let mut connection = server.get_multiplexed_async_connection_with_config(config).await?;
        let role: Value = redis::cmd("ROLE").query_async(&mut connection).await?;
        let is_primary = matches!(&role, Value::Array(parts)
            if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master"));
        if is_primary {
            Ok(connection)
        } else {
            let what = "the server that the sentinels name is not the primary yet";
            Err(RedisError::from((ErrorKind::Io, what, format!("{host}:{port}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for url in ["redis://ann:secret@host:1/0", "redis+sentinel://ann:secret@host:1/limits"] {
            let options = RedisOptions::new(url);
            let route = Route::parse(url, &options).unwrap();
            let shown = format!("{options:?} {route:?}");
            assert!(shown.contains("host") && !shown.contains("secret"), "{shown}");
        }
        let (maker, _) = Maker::parse("redis+cluster://ann:secret@host:1").unwrap();
        assert!(!format!("{maker:?}").contains("secret"));
    }
}
