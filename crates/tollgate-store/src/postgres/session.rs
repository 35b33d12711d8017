//! A connection to the database, with all that is asked on it prepared.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config};

use super::call::Statements;
use super::error::{read_only, told};
use super::{PostgresOptions, schema};
use crate::store::StoreError;

/// After so long without a word the other side is asked whether it is there.
const QUIET: Duration = Duration::from_secs(15);

/// What is not acknowledged for so long never will be.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

/// How sessions are made.
#[derive(Debug)]
pub(super) struct Maker {
    config: Config,
    pub(super) schema: String,
    connect_timeout: Duration,
    /// How long a statement may take on the server.
    statement_timeout: Duration,
    #[cfg(feature = "postgres-tls")]
    tls: super::tls::Connector,
}

impl Maker {
    /// # Errors
    /// What is wrong with the options.
    pub(super) fn new(options: &PostgresOptions, statement_timeout: Duration) -> Result<Self, String> {
        if !schema::is_name(&options.schema) {
            return Err(format!(
                "`{}` cannot be the schema's name: it is a word of at most 63 of a-z, 0-9 and _, not beginning with a digit",
                options.schema
            ));
        }
        let (url, mode) = mode_of(&options.url)?;
        let mut config: Config =
            url.parse().map_err(|error: tokio_postgres::Error| super::error::text(&error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("the host is missing".to_owned());
        }
        if config.get_user().is_none() {
            return Err("the user is missing".to_owned());
        }
        #[cfg(feature = "postgres-tls")]
        let (mode, tls) = {
            let wanted = options.tls.authorities.is_some() || options.tls.client.is_some();
            let mode = mode.unwrap_or(if wanted { SslMode::Require } else { SslMode::Disable });
            (mode, super::tls::Connector::new(&options.tls, mode == SslMode::Require)?)
        };
        #[cfg(not(feature = "postgres-tls"))]
        let mode = match mode {
            Some(SslMode::Require) => {
                return Err("this program was built without the feature `postgres-tls`".to_owned());
            }
            _ => SslMode::Disable,
        };
        config
            .ssl_mode(mode)
            // Of several servers, the one that takes changes.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(options.connect_timeout)
            .keepalives_idle(QUIET)
            .tcp_user_timeout(UNACKNOWLEDGED);
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        Ok(Self {
            config,
            schema: options.schema.clone(),
            connect_timeout: options.connect_timeout,
            statement_timeout,
            #[cfg(feature = "postgres-tls")]
            tls,
        })
    }

    /// Connects, and gets everything ready. `ended` is run when the connection has ended, however that came.
    pub(super) async fn session(&self, ended: impl FnOnce() + Send + 'static) -> Result<Session, StoreError> {
        let timeout = self.connect_timeout;
        let late = |_| StoreError::Unavailable(format!("no connection within {timeout:?}"));
        #[cfg(feature = "postgres-tls")]
        let tls = self.tls.clone();
        #[cfg(not(feature = "postgres-tls"))]
        let tls = tokio_postgres::NoTls;
        let connected = tokio::time::timeout(timeout, self.config.connect(tls)).await.map_err(late)?;
        let (mut client, connection) = connected.map_err(|error| self.refused(&error))?;
        // Dropped with the session that it becomes part of, or here.
        let connection = Connection(tokio::spawn(async move {
            // Whoever asked something is told what was wrong.
            let _ = connection.await;
            ended();
        }));
        let prepare = async {
            schema::ready(&mut client, &self.schema).await?;
            let told = |error| told(&error, &self.schema);
            client.batch_execute(&self.settings()).await.map_err(told)?;
            Statements::prepare(&client, &self.schema).await.map_err(told)
        };
        let late = |_| StoreError::Unavailable(format!("the database was not ready within {READY_MAX:?}"));
        let statements = tokio::time::timeout(READY_MAX, prepare).await.map_err(late)??;
        Ok(Session { client, statements, _connection: connection })
    }

    /// The settings of a session. Plans are made once, and without statistics, which a table that has just been made does not have.
    fn settings(&self) -> String {
        format!(
            "set default_transaction_isolation to 'read committed'; set plan_cache_mode to force_generic_plan; \
             set enable_seqscan to off; set jit to off; set statement_timeout to {}",
            self.statement_timeout.as_millis().max(1)
        )
    }

    /// Why there is no connection.
    fn refused(&self, error: &tokio_postgres::Error) -> StoreError {
        let text = super::error::text(error);
        // The library's words for a server that is not what it was to look for.
        if text.contains("does not allow writes") {
            return StoreError::Unavailable(read_only(&text));
        }
        told(error, &self.schema)
    }
}

/// How long the tables may take to be made, while other nodes are at it too.
const READY_MAX: Duration = Duration::from_secs(10);

/// A connection that is ready to be asked.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    _connection: Connection,
}

/// The task of a connection, which ends with it: a server that hangs would keep it for ever.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An address without its `sslmode`, and what that says.
fn mode_of(url: &str) -> Result<(String, Option<SslMode>), String> {
    let Some((address, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let (modes, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|setting| setting.starts_with("sslmode="));
    let mode = match modes.last().map(|setting| &setting["sslmode=".len()..]) {
        None => None,
        Some("disable") => Some(SslMode::Disable),
        // Who the server is, is always verified.
        Some("require" | "verify-full") => Some(SslMode::Require),
        Some(other) => {
            return Err(format!(
                "sslmode={other} would leave open who the server is; write sslmode=verify-full, or sslmode=disable"
            ));
        }
    };
    Ok((format!("{address}?{}", others.join("&")), mode))
}
