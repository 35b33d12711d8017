//! `tollgate serve`: the gate behind HTTP, gRPC and the Redis protocol.
//!
//! * [`api`]: the routes of HTTP.
//! * [`grpc`]: Envoy's rate limit service.
//! * [`http`]: how HTTP is served; [`net`]: connections of all kinds, and TLS; [`faces`]: which listeners there are.
//! * [`live`]: the dashboard.
//! * [`wire`]: the JSON of questions and answers.
//! * [`metrics`]: what Prometheus reads.
//! * [`notify`]: what systemd is told.
//! * [`resp`]: the Redis protocol.
//! * [`store`]: memory, or a store that nodes share.

mod api;
mod faces;
mod grpc;
mod http;
mod live;
mod metrics;
mod net;
mod notify;
mod resp;
mod store;
mod wire;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tollgate::{ClockSource, Gate, MemoryOptions, SystemClock};
use tracing_subscriber::EnvFilter;

use self::api::App;
use self::faces::Faces;
use self::grpc::GrpcFace;
use self::live::Live;
use self::metrics::Metrics;
use self::store::ServerStore;
use crate::cli::{Loaded, ServeOptions, count, fail, load, print_out, show, stderr_has_colour};

/// How long requests under way may take once the server is told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// Runs the server until it is told to stop.
pub(crate) fn run(options: &ServeOptions) -> ExitCode {
    let filter = match EnvFilter::try_new(&options.log) {
        Ok(filter) => filter,
        Err(error) => {
            return fail(format_args!("--log: {error}; write a level, or `info,tollgate::serve=debug`"));
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr_has_colour())
        .with_writer(std::io::stderr)
        .init();
    let loaded = match load(options.policy.as_deref(), options.merge_domains) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let store_options = MemoryOptions {
        capacity: usize::try_from(options.capacity).unwrap_or(usize::MAX),
        overflow: options.overflow.into(),
    };
    let clock = match SystemClock::with_source(options.clock.into()) {
        Ok(clock) => clock,
        // Only the counter can be missing.
        Err(error) => return fail(format_args!("--clock counter: {error}")),
    };

    more_descriptors();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start: {error}")),
    };
    let code = runtime.block_on(serve(options, loaded, store_options, clock));
    // Whatever still runs has had its time.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

async fn serve(
    options: &ServeOptions,
    loaded: Loaded,
    memory: MemoryOptions,
    clock: SystemClock,
) -> ExitCode {
    let (store, seed) = match ServerStore::open(&options.store, &loaded.config.store, memory, clock).await {
        Ok(opened) => opened,
        Err(error) => return fail(error),
    };
    let rules = match loaded.rules(options.merge_domains, seed) {
        Ok(rules) => rules,
        Err(wrong) => return show(&wrong),
    };
    let Loaded { name: policy_name, config, .. } = loaded;
    let gate = Gate::with_seed(config, store, seed);
    if let Some(unfit) = gate.store().unfit(gate.policies()) {
        return fail(format_args!("{policy_name}: {unfit}"));
    }
    let faces = match Faces::bind(options) {
        Ok(faces) => faces,
        Err(error) => return fail(error),
    };
    let app = Arc::new(App {
        metrics: Metrics::new(gate.policies(), gate.store()),
        gate,
        rules,
        seed,
        clock,
        live: Live::new(),
        started: Instant::now(),
        capacity: memory.capacity,
        draining: watch::channel(false).0,
    });
    let keeps = match app.gate.store() {
        ServerStore::Memory(_) => format!("memory, at most {}", count(memory.capacity, "key")),
        store @ ServerStore::Redis(_) => store.to_string(),
    };
    announce(&format!("{policy_name} ({})", decided_by(&app)), &keeps, clock.source(), &faces);
    faces.warn();
    let Faces { http, grpc, resp, tls } = faces;
    let grpc = match grpc {
        Some(listener) => match GrpcFace::new(listener, &app, options.grpc_headers.clone()).await {
            Ok(face) => Some(face),
            Err(error) => return fail(error),
        },
        None => None,
    };
    if let Some(tls) = tls {
        tokio::spawn(tls.watch());
    }
    let watched = Arc::clone(&app);
    tokio::spawn(async move { watched.live.run(&watched).await });
    let stopped = app.draining.subscribe();
    let stopping = Arc::clone(&app);
    tokio::spawn(async move { wait_for_stop(&stopping).await });
    // Each on its own, so that none waits for another's turn.
    let mut serving = JoinSet::new();
    let routes = api::routes(Arc::clone(&app), options.grpc_headers.clone());
    serving.spawn(http::serve(http, Arc::clone(&app), routes));
    if let Some(face) = grpc {
        serving.spawn(face.serve());
    }
    if let Some(listener) = resp {
        // An empty variable is no password.
        let password = options.resp.resp_password.clone().filter(|password| !password.is_empty());
        let app = Arc::clone(&app);
        serving.spawn(async move { resp::serve(listener, app, password.as_deref()).await });
    }
    notify::ready();
    let ended = async {
        while let Some(ended) = serving.join_next().await {
            ended?;
        }
        Ok::<_, JoinError>(())
    };
    let code = tokio::select! {
        result = ended => match result {
            Ok(()) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => fail(format_args!("the server failed: {error}")),
        },
        () = drain_ended(stopped) => {
            tracing::warn!("some connections did not end in {} s, and were cut", DRAIN_MAX.as_secs());
            ExitCode::SUCCESS
        }
    };
    app.gate.store().hand_back().await;
    code
}

/// What the server decides by, counted.
fn decided_by(app: &App) -> String {
    if let Some(rules) = &app.rules {
        return format!("{} for descriptors", count(rules.rules().len(), "rule"));
    }
    match app.gate.policies().policies().filter(|policy| policy.is_enabled()).count() {
        1 => "1 policy".to_owned(),
        many => format!("{many} policies"),
    }
}

/// Asks the system for as many descriptors as it grants: the usual 1,024 are for programs that wait by `select`, and fewer
/// than the connections that may come.
#[cfg(unix)]
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let granted = getrlimit(Resource::Nofile);
    let all = Rlimit { current: granted.maximum, maximum: granted.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::debug!(%error, "no more descriptors than usual");
    }
}

#[cfg(not(unix))]
fn more_descriptors() {}

/// Waits for SIGTERM or Ctrl-C, then lets `/readyz` say so.
async fn wait_for_stop(app: &App) {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
    tracing::info!("stopping: no new connections, {} s for requests under way", DRAIN_MAX.as_secs());
    notify::stopping();
    app.draining.send_replace(true);
}

/// Ends when the time for draining is up.
async fn drain_ended(mut draining: watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(DRAIN_MAX).await;
}

/// Says what runs, and how to try it.
fn announce(policies: &str, store: &str, clock: ClockSource, faces: &Faces) {
    let (strong, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let (http, grpc, resp) = faces.urls();

    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = write!(
        text,
        "\
{strong}tollgate {}{plain}
  policies  {policies}
  store     {store}
  clock     {clock}
  HTTP      {http}
  dashboard {http}/
  gRPC      {grpc}
  RESP      {resp}
  metrics   {http}/metrics

Try it:
  curl -i {http}/v1/check -d '{{\"method\":\"POST\",\"path\":\"/api/auth/login\",\"ip\":\"203.0.113.7\"}}'

",
        env!("CARGO_PKG_VERSION"),
    );
    print_out(&text);
}
