//! `tollgate serve`: the gate behind HTTP, gRPC and the Redis protocol.
//!
//! * [`api`]: the routes of HTTP.
//! * [`body`]: the bodies of requests; [`decode`]: JSON as it is meant.
//! * [`openapi`]: what there is to be asked, for programs.
//! * [`ready`]: whether requests should be sent here.
//! * [`grpc`]: Envoy's rate limit service.
//! * [`live`]: the dashboard.
//! * [`logs`]: what is told to standard error.
//! * [`wire`]: the JSON of questions and answers.
//! * [`metrics`]: what Prometheus reads, and [`exposition`] in which form; of it [`process`] says what the program takes,
//!   [`connections`] who is connected, [`store_metrics`] how the store fares, [`descriptor_metrics`] what rules for
//!   descriptors decide.
//! * [`resp`]: the Redis protocol.
//! * [`store`]: memory, or a store that nodes share.

mod api;
mod body;
mod connections;
mod decode;
mod descriptor_metrics;
mod exposition;
mod grpc;
mod live;
mod logs;
mod metrics;
mod openapi;
mod process;
mod ready;
mod resp;
mod store;
mod store_metrics;
mod wire;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tollgate::{ClockSource, Gate, MemoryOptions, SystemClock};

use self::api::App;
use self::connections::Counted;
use self::grpc::GrpcListener;
use self::live::Live;
use self::metrics::Metrics;
use self::store::ServerStore;
use crate::cli::{
    GrpcAddress, Loaded, RespAddress, RespOptions, ServeOptions, count, fail, load, print_out, show,
};

/// How long requests under way may take once the server is told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// Runs the server until it is told to stop.
pub(crate) fn run(options: &ServeOptions) -> ExitCode {
    if let Err(error) = logs::start(&options.logs) {
        return fail(error);
    }
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
    let listener = match TcpListener::bind(options.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            return fail(format_args!(
                "cannot listen on {}: {error}; choose another address with --listen",
                options.listen
            ));
        }
    };
    let address = listener.local_addr().unwrap_or(options.listen);
    let resp = match redis_protocol(&options.resp).await {
        Ok(resp) => resp,
        Err(error) => return fail(error),
    };
    let resp_address = resp.as_ref().and_then(|face| face.address().ok());
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
    let grpc = match grpc(options, &app).await {
        Ok(grpc) => grpc,
        Err(error) => return fail(error),
    };
    let grpc_address = grpc.as_ref().map(GrpcListener::address);
    let told = told_to_stop();
    let also = (grpc_address, resp_address);
    announce(&format!("{policy_name} ({})", decided_by(&app)), &keeps, clock.source(), address, also);
    tracing::info!(target: "tollgate::policy", file = %policy_name, by = %decided_by(&app), "loaded");
    warn_of_strangers(address, also);
    // It is told to stop when HTTP is.
    let grpc = grpc.map(|listener| tokio::spawn(listener.serve()));

    // Without TCP_NODELAY an answer can wait 40 ms for the client's acknowledgement.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(target: "tollgate::http", %error, "cannot set TCP_NODELAY");
        }
    });
    let listener = Counted::new(listener, &connections::HTTP);
    let watched = Arc::clone(&app);
    tokio::spawn(async move { watched.live.run(&watched).await });
    let stopped = app.draining.subscribe();
    let stopping = Arc::clone(&app);
    let server = axum::serve(listener, api::routes(Arc::clone(&app), options.grpc_headers.clone()))
        .with_graceful_shutdown(async move { wait_for_stop(told, &stopping).await });
    let resp = async {
        if let Some(face) = resp {
            face.serve(Arc::clone(&app)).await;
        }
        Ok(())
    };
    let ended = async {
        let result = tokio::try_join!(server.into_future(), resp);
        // It ends well or not at all: then the time for draining ends it.
        if let (Ok(_), Some(grpc)) = (&result, grpc) {
            let _ = grpc.await;
        }
        result
    };
    let code = tokio::select! {
        result = ended => match result {
            Ok(((), ())) => {
                tracing::info!(target: "tollgate::serve", "stopped");
                ExitCode::SUCCESS
            }
            Err(error) => fail(format_args!("the server failed: {error}")),
        },
        () = drain_ended(stopped) => {
            tracing::warn!(target: "tollgate::serve", "some connections did not end in {} s, and were cut", DRAIN_MAX.as_secs());
            ExitCode::SUCCESS
        }
    };
    app.gate.store().hand_back().await;
    code
}

/// Warns of addresses that others than this machine may reach.
fn warn_of_strangers(http: SocketAddr, (grpc, resp): (Option<SocketAddr>, Option<SocketAddr>)) {
    for address in [http].into_iter().chain(resp) {
        if !address.ip().is_loopback() {
            tracing::warn!(
                target: "tollgate::serve",
                %address,
                "anyone who can reach this address can ask, and can reset keys: keep it private"
            );
        }
    }
    if let Some(address) = grpc.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            target: "tollgate::serve",
            %address,
            "anyone who can reach this address can ask over gRPC: keep it private"
        );
    }
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

/// Envoy's face, listening where the options say; `None` if it is switched off.
async fn grpc(options: &ServeOptions, app: &Arc<App>) -> Result<Option<GrpcListener>, String> {
    let GrpcAddress::At(address) = options.grpc else { return Ok(None) };
    GrpcListener::bind(address, app, options.grpc_headers.clone()).await.map(Some)
}

/// The face of the Redis protocol, listening where the options say; `None` if it is switched off.
async fn redis_protocol(options: &RespOptions) -> Result<Option<resp::Face>, String> {
    let RespAddress::At(address) = options.resp else { return Ok(None) };
    let settings = resp::Options {
        // An empty variable is no password.
        password: options.resp_password.clone().filter(|password| !password.is_empty()),
        max_connections: usize::try_from(options.max_connections).unwrap_or(usize::MAX),
        idle: options.resp_idle,
    };
    resp::Face::bind(address, settings).await.map(Some).map_err(|error| {
        format!(
            "cannot listen on {address}: {error}; choose another address with --resp, or switch the Redis protocol off with \
             --resp off"
        )
    })
}

/// Asks the system for as many descriptors as it grants: the usual 1,024 are for programs that wait by `select`, and fewer
/// than the connections that may come.
#[cfg(unix)]
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let granted = getrlimit(Resource::Nofile);
    let all = Rlimit { current: granted.maximum, maximum: granted.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::debug!(target: "tollgate::serve", %error, "no more descriptors than usual");
    }
}

#[cfg(not(unix))]
fn more_descriptors() {}

/// Waits for SIGTERM or Ctrl-C, from this call on: a signal that nobody waits for would end the program at once.
#[cfg(unix)]
fn told_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (interrupted, terminated) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let either = async {
            let (mut interrupted, mut terminated) = (interrupted?, terminated?);
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            Ok::<_, std::io::Error>(())
        };
        // Without signals it runs until it is killed.
        if either.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn told_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until the server is told to stop, then lets `/readyz` say so.
async fn wait_for_stop(told: impl Future<Output = ()>, app: &App) {
    told.await;
    tracing::info!(target: "tollgate::serve", "stopping: no new connections, {} s for requests under way", DRAIN_MAX.as_secs());
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
fn announce(
    policies: &str,
    store: &str,
    clock: ClockSource,
    address: SocketAddr,
    (grpc, resp): (Option<SocketAddr>, Option<SocketAddr>),
) {
    let (strong, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let at = |scheme: &str, address: Option<SocketAddr>| {
        address.map_or_else(|| "off".to_owned(), |address| format!("{scheme}://{address}"))
    };
    let (grpc, resp) = (at("http", grpc), at("redis", resp));

    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = write!(
        text,
        "\
{strong}tollgate {}{plain}
  policies  {policies}
  store     {store}
  clock     {clock}
  HTTP      http://{address}
  dashboard http://{address}/
  gRPC      {grpc}
  RESP      {resp}
  metrics   http://{address}/metrics

Try it:
  curl -i http://{address}/v1/check -d '{{\"method\":\"POST\",\"path\":\"/api/auth/login\",\"ip\":\"203.0.113.7\"}}'

",
        env!("CARGO_PKG_VERSION"),
    );
    print_out(&text);
}
