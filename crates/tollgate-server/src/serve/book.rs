//! What the server decides by: loaded from files, changed at run time, and loaded again when the files change.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tollgate::{Clock, Config, DescriptorRules, KeySeed, LimitadorLimits, Policy};

use super::api::App;
use super::changes::{Changes, ChangesFile};
use super::limitador::Limitador;
use super::store::ServerStore;
use crate::load::{Failure, Loaded};

/// What the server decides by, and where that comes from.
#[derive(Debug)]
pub(super) struct Book {
    /// The file or directory; none is the example.
    path: Option<PathBuf>,
    /// How the files were just before they were loaded first.
    trace: Trace,
    merges: bool,
    seed: KeySeed,
    /// Where changes at run time are kept, if they are.
    kept_in: Option<ChangesFile>,
    /// Held while it changes, so that one change comes after the other.
    page: Mutex<Page>,
    last: Mutex<LastReload>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// What was loaded first, and from where.
#[derive(Debug)]
pub(super) struct Source {
    path: Option<PathBuf>,
    trace: Trace,
    merges: bool,
    pub(super) loaded: Loaded,
}

impl Source {
    pub(super) fn load(path: Option<&Path>, merges: bool) -> Result<Self, Failure> {
        let trace = path.map(trace).unwrap_or_default();
        Ok(Self { path: path.map(Path::to_owned), trace, merges, loaded: Loaded::from(path, merges)? })
    }

    /// The rules for descriptors, if there are any.
    pub(super) fn rules(&self, seed: KeySeed) -> Result<Option<DescriptorRules>, Failure> {
        self.loaded.rules(self.merges, seed)
    }

    /// Limitador's limits, if there are any.
    pub(super) fn limits(&self, seed: KeySeed) -> Result<Option<LimitadorLimits>, Failure> {
        self.loaded.limits(seed)
    }
}

/// What is in force.
#[derive(Debug)]
struct Page {
    loaded: Loaded,
    changes: Changes,
}

/// How it went when the files were loaded last.
#[derive(Clone, Debug)]
pub(super) struct LastReload {
    /// When what is in force was loaded.
    pub(super) loaded_at: SystemTime,
    /// When they were found to be wrong, and why, if they were since.
    pub(super) failure: Option<(SystemTime, String)>,
}

/// Why a change was not made. Then all is as it was.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no such policy.
    Unknown,
    /// The server decides by the files of another system, which say all there is to say.
    ByRules,
    /// What would be in force then cannot be.
    Wrong(Failure),
    /// It cannot be kept.
    NotKept(String),
}

/// Where a policy is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File,
    Runtime,
}

/// Reloads since the server was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reloads {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

impl Book {
    pub(super) fn new(source: Source, seed: KeySeed, changes: Changes, kept_in: Option<ChangesFile>) -> Self {
        let Source { path, trace, merges, loaded } = source;
        Self {
            path,
            trace,
            merges,
            seed,
            kept_in,
            page: Mutex::new(Page { loaded, changes }),
            last: Mutex::new(LastReload { loaded_at: SystemTime::now(), failure: None }),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// For people: the name of the file, or of the example.
    pub(super) fn name(&self) -> String {
        lock(&self.page).loaded.name.clone()
    }

    /// Where changes at run time are kept.
    pub(super) fn kept_in(&self) -> Option<&Path> {
        self.kept_in.as_ref().map(ChangesFile::path)
    }

    /// What was changed at run time.
    pub(super) fn changes(&self) -> Changes {
        lock(&self.page).changes.clone()
    }

    pub(super) fn last(&self) -> LastReload {
        lock(&self.last).clone()
    }

    pub(super) fn reloads(&self) -> Reloads {
        // Relaxed: statistics.
        Reloads {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Loads the files again: all that they say is in force then, or nothing of it. It takes the time of reading files: not for
    /// a thread that others wait for.
    pub(super) fn reload(&self, app: &App, cause: &str) -> Result<tollgate::Changes, Failure> {
        let mut page = lock(&self.page);
        let began = Instant::now();
        let result = Loaded::again(self.path.as_deref(), self.merges, &page.loaded).and_then(|loaded| {
            if loaded.config.store != page.loaded.config.store {
                return Err(Failure::Other(format!(
                    "{}: what it says of the store is not what the server was started with; restart it for that",
                    loaded.name
                )));
            }
            let kind = |loaded: &Loaded| (loaded.is_of_policies(), loaded.limits.is_some());
            if kind(&loaded) != kind(&page.loaded) {
                return Err(Failure::Other(format!(
                    "{}: it is a file of another kind than the server was started with; restart it for that",
                    loaded.name
                )));
            }
            let changes = self.put_in_force(app, &loaded, &page.changes)?;
            page.loaded = loaded;
            Ok(changes)
        });
        drop(page);
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut last = lock(&self.last);
        match &result {
            Ok(changes) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                *last = LastReload { loaded_at: SystemTime::now(), failure: None };
                tracing::info!(
                    target: "tollgate::policy",
                    cause,
                    added = changes.added.len(),
                    changed = changes.changed.len(),
                    removed = changes.removed.len(),
                    unchanged = changes.unchanged,
                    took_ms,
                    "the policies were loaded again"
                );
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let why = failure.to_string();
                tracing::error!(target: "tollgate::policy", cause, took_ms,
                    "the policies were not loaded again, and those before stay in force:\n{why}"
                );
                last.failure = Some((SystemTime::now(), why));
            }
        }
        result
    }

    /// Sets a policy, in place of the file's if that has one of its name.
    pub(super) fn set(&self, app: &App, policy: Policy) -> Result<tollgate::Changes, Refused> {
        self.change(app, |_, changes| {
            changes.set(policy);
            true
        })
    }

    /// Takes a policy out, also if it is the file's.
    pub(super) fn remove(&self, app: &App, name: &str) -> Result<tollgate::Changes, Refused> {
        self.change(app, |config, changes| {
            let is_in_file = config.policies.iter().any(|policy| policy.name() == name);
            let is_there = (is_in_file && !changes.removed().contains(name))
                || changes.names().any(|other| other == name);
            changes.remove(name, is_in_file);
            is_there
        })
    }

    /// Withdraws what was changed at run time: of one policy, or everything.
    pub(super) fn withdraw(&self, app: &App, name: Option<&str>) -> Result<tollgate::Changes, Refused> {
        self.change(app, |_, changes| {
            let Some(name) = name else {
                *changes = Changes::default();
                return true;
            };
            changes.withdraw(name)
        })
    }

    /// Where a policy that is in force is from.
    pub(super) fn origin(&self, name: &str) -> Origin {
        let is_set = lock(&self.page).changes.names().any(|other| other == name);
        if is_set { Origin::Runtime } else { Origin::File }
    }

    /// Keeps the bans as they are now, if changes are kept.
    pub(super) fn keep_bans(&self, app: &App) -> Result<(), Refused> {
        self.keep(app, &lock(&self.page).changes)
    }

    fn change(
        &self,
        app: &App,
        change: impl FnOnce(&Config, &mut Changes) -> bool,
    ) -> Result<tollgate::Changes, Refused> {
        let mut page = lock(&self.page);
        if !page.loaded.is_of_policies() {
            return Err(Refused::ByRules);
        }
        let mut changes = page.changes.clone();
        if !change(&page.loaded.config, &mut changes) {
            return Err(Refused::Unknown);
        }
        let config = config_of(app.gate.store(), &page.loaded, &changes).map_err(Refused::Wrong)?;
        self.keep(app, &changes)?;
        page.changes = changes;
        Ok(app.gate.reload_at(app.clock.now(), config))
    }

    fn keep(&self, app: &App, changes: &Changes) -> Result<(), Refused> {
        let Some(file) = &self.kept_in else { return Ok(()) };
        let bans = app.gate.bans_at(app.clock.now());
        file.save(changes, &bans, &self.seed).map_err(Refused::NotKept)
    }

    fn put_in_force(
        &self,
        app: &App,
        loaded: &Loaded,
        changes: &Changes,
    ) -> Result<tollgate::Changes, Failure> {
        let config = config_of(app.gate.store(), loaded, changes)?;
        let rules = loaded.rules(self.merges, self.seed)?;
        let limits = loaded.limits(self.seed)?;
        let services = app.watched.succeeded_by(&config);
        let services = services.map_err(|error| Failure::Other(format!("{}: {error}", loaded.name)))?;
        app.rules.store(rules.map(Arc::new));
        app.watched.put_in_force(services, &config);
        let former = app.limitador.load_full();
        app.limitador.store(limits.map(|limits| Arc::new(Limitador::following(former.as_deref(), limits))));
        Ok(app.gate.reload_at(app.clock.now(), config))
    }

    /// Looks again and again whether the files have changed, and loads them once they have stayed as they are for one look.
    pub(super) async fn watch(app: &Arc<App>, every: Duration) {
        let Some(path) = app.book.path.clone() else { return };
        let mut draining = app.draining.subscribe();
        let mut loaded = app.book.trace.clone();
        let mut seen = loaded.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
            let path = path.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || trace(&path)).await else { continue };
            if now == seen && now != loaded {
                loaded = now;
                Self::reload_aside(app, "the files have changed").await;
            } else {
                seen = now;
            }
        }
    }

    /// [Reloads](Self::reload) without keeping others from their turn.
    pub(super) async fn reload_aside(app: &Arc<App>, cause: &'static str) {
        let app = Arc::clone(app);
        // What went wrong has been said.
        let _ = tokio::task::spawn_blocking(move || app.book.reload(&app, cause).map(drop)).await;
    }
}

/// What is in force on this store if these are the files and the changes.
pub(super) fn config_of(store: &ServerStore, loaded: &Loaded, changes: &Changes) -> Result<Config, Failure> {
    let mut config = loaded.config.clone();
    if !changes.is_empty() {
        changes.apply(&mut config);
        config.check()?;
    }
    match store.unfit(&config.policies) {
        Some(unfit) => Err(Failure::Other(format!("{}: {unfit}", loaded.name))),
        None => Ok(config),
    }
}

/// What tells that files have changed, without reading them: which they really are, their lengths and times. A directory that is
/// swapped by a symbolic link, as Kubernetes does it, leads to other files.
pub(super) type Trace = Vec<(PathBuf, u64, Option<Duration>)>;

pub(super) fn trace(path: &Path) -> Trace {
    let mut files = vec![path.to_owned()];
    if let Ok(entries) = std::fs::read_dir(path) {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        files.sort();
    }
    let trace = |file: PathBuf| {
        let real = std::fs::canonicalize(&file).unwrap_or(file);
        let known = std::fs::metadata(&real).ok();
        let changed = known.as_ref().and_then(|known| known.modified().ok()?.duration_since(UNIX_EPOCH).ok());
        (real, known.map_or(0, |known| known.len()), changed)
    };
    files.into_iter().map(trace).collect()
}

/// Locks, also after a panic elsewhere: each change is made of values that are whole before.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
