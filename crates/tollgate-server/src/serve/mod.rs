//! `tollgate serve`: the gate behind HTTP, gRPC and the Redis protocol.
//!
//! * [`admin`]: the administration; [`audit`]: what is noted of it, and of decisions.
//! * [`api`]: the routes of HTTP.
//! * [`book`]: what it decides by, and how that changes; [`changes`]: what was changed while it ran.
//! * [`body`]: the bodies of requests; [`decode`]: JSON as it is meant.
//! * [`otlp`]: what collectors of OpenTelemetry are sent.
//! * [`openapi`]: what there is to be asked, for programs.
//! * [`ready`]: whether requests should be sent here.
//! * [`grpc`]: Envoy's rate limit service.
//! * [`http`]: how HTTP is served; [`net`]: connections of all kinds, and TLS; [`faces`]: which listeners there are.
//! * [`limitador`]: Limitador's limits, and its API over HTTP.
//! * [`live`]: the dashboard.
//! * [`logs`]: what is told to standard error.
//! * [`wire`]: the JSON of questions and answers.
//! * [`notify`]: what systemd is told.
//! * [`metrics`]: what Prometheus reads.
//! * [`permits`]: at most so many at once, held by whoever asks.
//! * [`resp`]: the Redis protocol.
//! * [`services`]: the services that limits adapt to.
//! * [`signals`]: what the system tells it.
//! * [`store`]: memory, also such as is kept on disk, or what nodes share: [`shared`], on Redis or PostgreSQL.
//! * [`usage`]: what identities have used.

mod admin;
mod api;
mod audit;
mod body;
mod book;
mod changes;
mod decode;
mod direct;
mod faces;
mod grpc;
mod http;
mod limitador;
mod live;
mod logs;
mod metrics;
mod net;
mod notify;
mod openapi;
mod otlp;
mod permits;
mod ready;
mod resp;
mod services;
mod shared;
mod signals;
mod store;
mod usage;
mod wire;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tollgate::{Clock, Gate, MemoryOptions, SystemClock};

use self::admin::Admin;
use self::api::App;
use self::audit::Audit;
use self::book::{Book, Source, config_of};
use self::changes::ChangesFile;
use self::faces::Faces;
use self::grpc::GrpcFace;
use self::limitador::Limitador;
use self::live::Live;
use self::metrics::Metrics;
use self::otlp::Otlp;
use self::services::Watched;
use self::signals::Hangups;
use self::store::{ServerStore, data_dir};
use crate::cli::{Interval, ServeOptions, count, fail, print_out};
use crate::load::Failure;

/// How long requests under way may take once the server is told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// Runs the server until it is told to stop.
pub(crate) fn run(options: &ServeOptions) -> ExitCode {
    let otlp = match Otlp::start(&options.otlp) {
        Ok(otlp) => otlp,
        Err(error) => return fail(error),
    };
    if let Err(error) = logs::start(&options.logs, otlp.tracer()) {
        return fail(error);
    }
    let source = match Source::load(options.policy.as_deref(), options.merge_domains) {
        Ok(source) => source,
        Err(failure) => return failure.show(),
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
    let code = runtime.block_on(serve(options, source, store_options, clock, &otlp));
    otlp.stop();
    // Whatever still runs has had its time.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

async fn serve(
    options: &ServeOptions,
    source: Source,
    memory: MemoryOptions,
    clock: SystemClock,
    otlp: &Otlp,
) -> ExitCode {
    let app = match open(options, source, memory, clock).await {
        Ok(app) => Arc::new(app),
        Err(failure) => return failure.show(),
    };
    let faces = match Faces::bind(options) {
        Ok(faces) => faces,
        Err(error) => return fail(error),
    };
    let mut serving = JoinSet::new();
    look_after(&app, options.watch);
    otlp.observe(&app);
    announce(&app, &faces);
    faces.warn();
    let admin = faces.admin.as_ref().map(|listener| {
        let is_mutual = faces.is_mutual(listener);
        Admin::new(Arc::clone(&app), options, listener.address(), is_mutual)
    });
    let admin = match admin.transpose() {
        Ok(admin) => admin.zip(faces.admin),
        Err(error) => return fail(error),
    };
    if let Some(listener) = faces.grpc {
        match GrpcFace::new(listener, &app, options.grpc_headers.clone()).await {
            Ok(face) => serving.spawn(face.serve()),
            Err(error) => return fail(error),
        };
    }
    if let Some(tls) = faces.tls {
        tokio::spawn(tls.watch());
    }
    let stopped = app.draining.subscribe();
    // Each on its own, so that none waits for another's turn.
    let routes = api::routes(Arc::clone(&app), options.grpc_headers.clone());
    serving.spawn(http::serve(faces.http, Arc::clone(&app), routes));
    if let Some((admin, listener)) = admin {
        serving.spawn(http::serve(listener, Arc::clone(&app), admin::routes(admin)));
    }
    if let Some(listener) = faces.resp {
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
    app.gate.store().leave().await;
    app.audit.close();
    code
}

/// What all faces share.
async fn open(
    options: &ServeOptions,
    source: Source,
    memory: MemoryOptions,
    clock: SystemClock,
) -> Result<App, Failure> {
    let store = &source.loaded.config.store;
    let kept = match (&options.admin.changes, data_dir(&options.disk, store)) {
        (Some(path), _) => Some(ChangesFile::open(path)?),
        (None, Some(directory)) => Some(ChangesFile::within(&directory)?),
        (None, None) => None,
    };
    let (kept_in, restored) = kept.unzip();
    let restored = restored.unwrap_or_default();
    let audit = Audit::open(options.admin.audit_log.as_deref(), options.admin.audit_sample);
    let audit = audit.map_err(Failure::Other)?;
    let saved_seed = restored.seed.or(usage::saved_seed(&options.usage)?);
    let (store, seed) = ServerStore::open(&options.store, &options.disk, store, memory, clock, saved_seed)
        .await
        .map_err(Failure::Other)?;
    let config = config_of(&store, &source.loaded, &restored.changes)?;
    let (rules, limits) = (source.rules(seed)?, source.limits(seed)?);
    let watched = Watched::new(&config).map_err(|error| Failure::Other(error.to_string()))?;
    let record = usage::open(&options.usage, &seed)?;
    let gate = Gate::with_seed(config, store, seed).with_use_record(record);
    usage::restore(&gate);
    gate.restore_bans_at(clock.now(), restored.bans);
    Ok(App {
        metrics: Metrics::new(gate.store()),
        batches: api::batches(&gate),
        permits: permits::in_memory(clock),
        gate,
        rules: ArcSwapOption::new(rules.map(Arc::new)),
        limitador: ArcSwapOption::new(limits.map(|limits| Arc::new(Limitador::new(limits)))),
        book: Book::new(source, seed, restored.changes, kept_in),
        seed,
        clock,
        live: Live::new(),
        watched,
        audit,
        started: Instant::now(),
        capacity: memory.capacity,
        draining: watch::channel(false).0,
    })
}

/// Starts what goes on beside the faces.
fn look_after(app: &Arc<App>, watch: Interval) {
    let watched = Arc::clone(app);
    tokio::spawn(async move { watched.live.run(&watched).await });
    let looking = Arc::clone(app);
    tokio::spawn(async move { Watched::look_after(&looking).await });
    tokio::spawn(usage::watch(Arc::clone(app)));
    if let Interval::Every(every) = watch {
        let watching = Arc::clone(app);
        tokio::spawn(async move { Book::watch(&watching, every).await });
    }
    let (hanging, mut hangups) = (Arc::clone(app), Hangups::new());
    tokio::spawn(async move {
        loop {
            hangups.next().await;
            hanging.audit.reopen();
            Book::reload_aside(&hanging, "SIGHUP").await;
        }
    });
    let (stopping, told) = (Arc::clone(app), signals::told_to_stop());
    tokio::spawn(async move { wait_for_stop(told, &stopping).await });
}

/// What the server decides by, counted.
fn decided_by(app: &App) -> String {
    if let Some(rules) = &*app.rules.load() {
        return format!("{} for descriptors", count(rules.rules().len(), "rule"));
    }
    if let Some(limitador) = &*app.limitador.load() {
        return format!("{} of Limitador's", count(limitador.limits().limits().len(), "limit"));
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
        tracing::debug!(target: "tollgate::serve", %error, "no more descriptors than usual");
    }
}

#[cfg(not(unix))]
fn more_descriptors() {}

/// Waits until the server is told to stop, then lets `/readyz` say so.
async fn wait_for_stop(told: impl Future<Output = ()>, app: &App) {
    told.await;
    tracing::info!(
        target: "tollgate::serve",
        "stopping: no new connections, {} s for requests under way",
        DRAIN_MAX.as_secs()
    );
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
fn announce(app: &App, faces: &Faces) {
    let policies = format!("{} ({})", app.book.name(), decided_by(app));
    let store = app.gate.store();
    let most =
        if store.is_local() { format!(", at most {}", count(app.capacity, "key")) } else { String::new() };
    let clock = app.clock.source();
    let (strong, plain) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let [http, grpc, resp, admin] = faces.urls();

    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = write!(
        text,
        "\
{strong}tollgate {}{plain}
  policies  {policies}
  store     {store}{most}
  clock     {clock}
  HTTP      {http}
  dashboard {http}/
  gRPC      {grpc}
  RESP      {resp}
  admin     {admin}
  metrics   {http}/metrics

Try it:
  curl -i {http}/v1/check -d '{{\"method\":\"POST\",\"path\":\"/api/auth/login\",\"ip\":\"203.0.113.7\"}}'

",
        env!("CARGO_PKG_VERSION"),
    );
    print_out(&text);
    tracing::info!(target: "tollgate::policy", file = %app.book.name(), by = %decided_by(app), "loaded");
}
