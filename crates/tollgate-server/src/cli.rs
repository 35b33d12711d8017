//! The command line.

mod listen;
mod otlp;
mod usage;

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tollgate::{ClockSource, Consistency, Overflow};

pub(crate) use self::listen::{AdminOptions, ConnectionOptions, Face, ListenAddress, TlsOptions};
pub(crate) use self::otlp::OtlpOptions;
pub(crate) use self::usage::{Flush, UsageOptions};
use crate::client::{CheckOptions, ExplainOptions, TopOptions, UsageOptions as UsageAskOptions};
use crate::replay::ReplayOptions;

/// Rate limiting for services and for everything behind a proxy.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer rate-limit questions over HTTP, gRPC and the Redis protocol
    Serve(Box<ServeOptions>),
    /// Try a policy file on access logs: what would have been denied?
    Replay(Box<ReplayOptions>),
    /// Check policy files and show every problem
    Validate(ValidateOptions),
    /// Make a policy file of rules of envoyproxy/ratelimit, or of Limitador's limits
    Import(ImportOptions),
    /// Ask a running server whether a request would pass (the exit code of a denial is 3)
    Check(Box<CheckOptions>),
    /// Ask a running server why a request passes, or why it does not (the exit code of a denial is 3)
    Explain(Box<ExplainOptions>),
    /// Print what identities have used, as a running server has recorded it, for billing
    Usage(Box<UsageAskOptions>),
    /// Watch a running server
    Top(Box<TopOptions>),
    /// Ask a running server whether it is ready, as a container's health check does
    Health(HealthOptions),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ServeOptions {
    /// The policy file (YAML or TOML); or a file of envoyproxy/ratelimit's, or a directory of those; or Limitador's limits
    /// file; without one the built-in example is used
    #[arg(long, value_name = "FILE|DIR", env = "TOLLGATE_POLICY")]
    pub(crate) policy: Option<PathBuf>,

    /// Let several files of envoyproxy/ratelimit's have rules for one domain
    #[arg(long, env = "TOLLGATE_MERGE_DOMAINS")]
    pub(crate) merge_domains: bool,

    /// How often to look whether the policy files have changed, to load them again; `off` is for never. SIGHUP loads them too
    #[arg(long, value_name = "LENGTH", env = "TOLLGATE_WATCH", default_value = "1s")]
    pub(crate) watch: Interval,

    /// Where to listen for HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Where to listen for gRPC, as Envoy asks; port 0 takes a free one, `off` is for nobody
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_GRPC", default_value = "127.0.0.1:8081")]
    pub(crate) grpc: ListenAddress,

    /// Have Envoy add headers to answers: those of the limit that has the least left. Their names can be given, as in
    /// `--grpc-headers=X-Limit,X-Remaining,X-Reset` [default names: RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset]
    #[arg(long, value_name = "NAMES", env = "TOLLGATE_GRPC_HEADERS", num_args = 0..=1, require_equals = true,
          default_missing_value = "RateLimit-Limit,RateLimit-Remaining,RateLimit-Reset")]
    pub(crate) grpc_headers: Option<HeaderNames>,

    /// How many keys to remember at once
    #[arg(long, value_name = "KEYS", env = "TOLLGATE_CAPACITY", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) capacity: u32,

    /// What to do with a new key when that many are under way
    #[arg(long, value_name = "RULE", env = "TOLLGATE_OVERFLOW", value_enum, default_value_t = OverflowRule::Shared)]
    pub(crate) overflow: OverflowRule,

    /// What to tell the time by
    #[arg(long, value_name = "SOURCE", env = "TOLLGATE_CLOCK", value_enum, default_value_t = ClockChoice::Auto)]
    pub(crate) clock: ClockChoice,

    #[command(flatten)]
    pub(crate) logs: LogOptions,

    #[command(flatten)]
    pub(crate) otlp: OtlpOptions,

    #[command(flatten)]
    pub(crate) resp: RespOptions,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    #[command(flatten)]
    pub(crate) connections: ConnectionOptions,

    #[command(flatten)]
    pub(crate) admin: AdminOptions,

    #[command(flatten)]
    pub(crate) disk: DiskOptions,

    #[command(flatten)]
    pub(crate) store: StoreOptions,

    #[command(flatten)]
    pub(crate) usage: UsageOptions,
}

/// What is told to standard error.
#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    /// What to log: a level, or levels by part as in `info,tollgate::grpc=debug`; the parts are tollgate::serve, ::policy,
    /// ::store, ::http, ::grpc, ::resp, ::otlp and ::audit
    #[arg(long, value_name = "FILTER", env = "TOLLGATE_LOG", default_value = "info")]
    pub(crate) log: String,

    /// How to write it
    #[arg(long, value_name = "FORMAT", env = "TOLLGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people
    Text,
    /// A line of JSON for programs
    Json,
}

/// The Redis protocol.
#[derive(Args, Debug)]
#[command(next_help_heading = "Redis protocol")]
pub(crate) struct RespOptions {
    /// Where to listen for clients of Redis: they send CL.THROTTLE, THROTTLE, GCRA, or TG.CHECK; port 0 takes a free one,
    /// and `off` switches it off
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_RESP", default_value = "127.0.0.1:6380")]
    pub(crate) resp: ListenAddress,

    /// What clients of Redis have to say by AUTH before they may ask
    #[arg(long, value_name = "PASSWORD", env = "TOLLGATE_RESP_PASSWORD", hide_env_values = true)]
    pub(crate) resp_password: Option<String>,

    /// How long a client of Redis may be silent before it is disconnected
    #[arg(long, value_name = "LENGTH", env = "TOLLGATE_RESP_IDLE", default_value = "5m", value_parser = length)]
    pub(crate) resp_idle: Duration,
}

/// What is kept of memory when the process ends.
#[derive(Args, Debug)]
#[command(next_help_heading = "State on disk")]
pub(crate) struct DiskOptions {
    /// Keep what is in memory in this directory, which is made if it is not there, so that it holds after a restart, however
    /// the process ended. Each process needs one of its own [default: what the policy file says under `store`; else nowhere]
    #[arg(long, value_name = "DIR", env = "TOLLGATE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// How often to write what has changed there, from 10ms to 1h: about so much is lost when the process is killed
    /// [default: 1s]
    #[arg(long, value_name = "LENGTH", env = "TOLLGATE_FLUSH_INTERVAL", value_parser = length)]
    pub(crate) flush_interval: Option<Duration>,
}

/// Where the state is, and what happens when it cannot be reached.
#[derive(Args, Debug)]
#[command(next_help_heading = "Many nodes")]
pub(crate) struct StoreOptions {
    /// Where to keep the state: `memory`, or what nodes can share: redis://[user:password@]host[:port][/database],
    /// rediss:// for TLS, redis+unix:///path, redis+sentinel://host:port,host:port/service, redis+cluster://host:port,host:port,
    /// or postgres://user[:password]@host[:port]/database
    /// [default: what the policy file says under `store`, as for all of these; else memory]
    #[arg(long, value_name = "STORE", env = "TOLLGATE_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    /// What the names of all keys in the store begin with [default: `tollgate:`], or the schema in PostgreSQL [default: `tollgate`]
    #[arg(long, value_name = "TEXT", env = "TOLLGATE_STORE_PREFIX")]
    pub(crate) store_prefix: Option<String>,

    /// The certificates of those who vouch for a store with TLS (PEM); without, those that the system believes
    #[arg(long, value_name = "FILE", env = "TOLLGATE_STORE_CA")]
    pub(crate) store_ca: Option<PathBuf>,

    /// The certificate by which this server says who it is to a store with TLS (PEM)
    #[arg(long, value_name = "FILE", env = "TOLLGATE_STORE_CERT", requires = "store_key")]
    pub(crate) store_cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TOLLGATE_STORE_KEY", requires = "store_cert")]
    pub(crate) store_key: Option<PathBuf>,

    /// How long a decision of the store may take [default: 20ms; PostgreSQL: 50ms]
    #[arg(long, value_name = "LENGTH", env = "TOLLGATE_STORE_DEADLINE", value_parser = length)]
    pub(crate) store_deadline: Option<Duration>,

    /// The secret that keys are hashed under, the same on all nodes: 32 hexadecimal digits. Without one, nodes agree
    /// on one in the store, and have to reach it to start
    #[arg(long, value_name = "DIGITS", env = "TOLLGATE_KEY_SEED", hide_env_values = true)]
    pub(crate) key_seed: Option<String>,

    /// How nodes count together, where a policy does not say it [default: strict]
    #[arg(long, value_name = "WORD", env = "TOLLGATE_CONSISTENCY", value_enum)]
    pub(crate) consistency: Option<ConsistencyChoice>,

    /// Who decides while the store cannot be reached, where a policy does not say it [default: local]
    #[arg(long, value_name = "CHOICE", env = "TOLLGATE_ON_STORE_FAILURE", value_enum)]
    pub(crate) on_store_failure: Option<FailureChoice>,

    /// How many nodes share the store: each decides by one part in so many while it is alone, and holds at most as much
    /// of what may be held ahead [default: 1]
    #[arg(long, value_name = "N", env = "TOLLGATE_NODES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) nodes: Option<u32>,

    /// The number of this node, from 0: what cannot be divided goes to the first [default: 0]
    #[arg(long, value_name = "NUMBER", env = "TOLLGATE_NODE")]
    pub(crate) node: Option<u32>,

    /// With `--on-store-failure allow`: for how long, from the first failure on, as in 30s
    #[arg(long, value_name = "LENGTH", env = "TOLLGATE_GRACE", default_value = "30s", value_parser = length)]
    pub(crate) grace: Duration,
}

/// The names of the headers that say how much there is, how much is left, and when it is whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderNames {
    pub(crate) limit: String,
    pub(crate) remaining: String,
    pub(crate) reset: String,
}

impl Default for HeaderNames {
    fn default() -> Self {
        let name = |name: &str| format!("RateLimit-{name}");
        Self { limit: name("Limit"), remaining: name("Remaining"), reset: name("Reset") }
    }
}

impl FromStr for HeaderNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        let is_name = |name: &&str| http::HeaderName::try_from(*name).is_ok();
        match names.as_slice() {
            [limit, remaining, reset] if names.iter().all(is_name) => Ok(Self {
                limit: (*limit).to_owned(),
                remaining: (*remaining).to_owned(),
                reset: (*reset).to_owned(),
            }),
            _ => Err("write three names of headers, as in X-Limit,X-Remaining,X-Reset".to_owned()),
        }
    }
}

/// How nodes count together, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConsistencyChoice {
    /// The store decides every request
    Strict,
    /// Nodes take units ahead and decide by those
    Lease,
    /// Nodes decide at once, and settle with the store afterwards
    #[value(name = "local_first")]
    LocalFirst,
}

impl From<ConsistencyChoice> for Consistency {
    fn from(choice: ConsistencyChoice) -> Self {
        match choice {
            ConsistencyChoice::Strict => Self::Strict,
            ConsistencyChoice::Lease => Self::Lease,
            ConsistencyChoice::LocalFirst => Self::LocalFirst,
        }
    }
}

/// Who decides while the store is away, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailureChoice {
    /// This node, by its share of each limit
    Local,
    /// Everything passes for a while, then as with `deny`
    Allow,
    /// Nobody: requests are answered with an error (503)
    Deny,
}

/// How often something is done, if ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interval {
    Never,
    Every(Duration),
}

/// As it is written.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("off"),
            Self::Every(every) => write!(f, "{every:?}"),
        }
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Never);
        }
        match length(text) {
            Ok(every) if every >= Duration::from_millis(100) => Ok(Self::Every(every)),
            Ok(_) => Err("write 100ms or more, or `off`".to_owned()),
            Err(error) => Err(format!("{error}; or write `off`")),
        }
    }
}

/// A length of time, as policy files write it.
pub(crate) fn length(text: &str) -> Result<Duration, tollgate::ParseQuotaError> {
    tollgate::quota::parse_length(text).map(|length| Duration::from_nanos(length.as_nanos()))
}

/// The rule for a full store, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverflowRule {
    /// New keys share one budget for each limit
    Shared,
    /// New keys are denied
    Deny,
}

impl From<OverflowRule> for Overflow {
    fn from(rule: OverflowRule) -> Self {
        match rule {
            OverflowRule::Shared => Self::Shared,
            OverflowRule::Deny => Self::Deny,
        }
    }
}

/// The source of the time, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClockChoice {
    /// The counter where the kernel trusts it, else the monotonic clock
    Auto,
    /// The time-stamp counter of an x86-64 processor under Linux: faster
    Counter,
    /// The monotonic clock of the operating system
    Monotonic,
}

impl From<ClockChoice> for ClockSource {
    fn from(choice: ClockChoice) -> Self {
        match choice {
            ClockChoice::Auto => Self::Auto,
            ClockChoice::Counter => Self::Counter,
            ClockChoice::Monotonic => Self::Monotonic,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ValidateOptions {
    /// Policy files, or directories whose .yaml, .yml and .toml files are checked
    #[arg(value_name = "FILE|DIR", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// They are those of `serve`, so that a server's environment serves here too.
#[derive(Args, Debug)]
pub(crate) struct HealthOptions {
    /// Where the server listens for HTTP
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// How long it may take to answer
    #[arg(long, value_name = "LENGTH", env = "TOLLGATE_HEALTH_TIMEOUT", default_value = "3s", value_parser = length)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,
}

#[derive(Args, Debug)]
pub(crate) struct ImportOptions {
    /// Files of envoyproxy/ratelimit's rules or of Limitador's limits (YAML); all of them become one policy file
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Where to write the policy file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Whose files they are [default: whose each looks like]
    #[arg(long, value_name = "WHOSE", value_enum)]
    pub(crate) from: Option<ImportFrom>,

    /// Let several files of envoyproxy/ratelimit's have rules for one domain
    #[arg(long)]
    pub(crate) merge_domains: bool,
}

/// Whose files are imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFrom {
    /// Of envoyproxy/ratelimit
    Envoy,
    /// Of Limitador
    Limitador,
}

/// Writes a completion script to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut script);
    print_out(&script)
}

/// Writes to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn print_out(text: &[u8]) -> ExitCode {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(format_args!("cannot write: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says what went wrong, in one line, and gives the exit code for it.
pub(crate) fn fail(message: impl Display) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "tollgate: {message}");
    ExitCode::FAILURE
}

/// Whether errors are shown in colour.
pub(crate) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// `1 problem`, `2 problems`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
