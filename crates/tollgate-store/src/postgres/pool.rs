//! Some connections, of which each call has one to itself, laid again when they are lost.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio_postgres::Error;

use super::error::{did_nothing, is_lost, told};
use super::session::{Maker, Session};
use crate::seed::random_below;
use crate::shared::RemoteStatus;
use crate::store::StoreError;

/// The first pause between two attempts to connect, and the longest. The actual one is drawn between nothing and that.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// How often a call is made again of which the server said that it did nothing.
const AGAIN_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct Pool {
    maker: Maker,
    /// How many connections there should be.
    size: usize,
    /// How many there are, those with calls on them too.
    open: AtomicUsize,
    idle: Mutex<Vec<Arc<Session>>>,
    /// As many permits as there are idle connections.
    free: Semaphore,
    /// After how long without an answer a connection is given up.
    silence: Duration,
    /// Whether somebody is laying connections.
    is_laying: AtomicBool,
    failures: AtomicU32,
    trouble: Mutex<Option<StoreError>>,
}

impl Pool {
    /// A pool that begins to connect.
    pub(super) fn new(maker: Maker, size: usize, silence: Duration) -> Arc<Self> {
        let pool = Arc::new(Self {
            maker,
            size: size.max(1),
            open: AtomicUsize::new(0),
            idle: Mutex::default(),
            free: Semaphore::new(0),
            silence,
            is_laying: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            trouble: Mutex::default(),
        });
        pool.lay();
        pool
    }

    pub(super) fn status(&self) -> RemoteStatus {
        self.discard_closed();
        // Relaxed: statistics.
        let consecutive_failures = self.failures.load(Ordering::Relaxed);
        let trouble =
            lock(&self.trouble).as_ref().filter(|_| consecutive_failures > 0).map(ToString::to_string);
        RemoteStatus { is_connected: self.open.load(Ordering::Relaxed) > 0, consecutive_failures, trouble }
    }

    /// Makes a call on a connection of its own, for which it waits as long as whoever asks does.
    ///
    /// It goes on to its end even if nobody waits for it any more, so that its answer is never taken for that of another. It is
    /// made again only where the server said that it did nothing.
    pub(super) async fn call<T, F>(
        self: &Arc<Self>,
        call: impl Fn(Arc<Session>) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let session = self.session().await?;
        let pool = Arc::clone(self);
        let done = tokio::spawn(async move {
            let mut tries = 0;
            let result = loop {
                tries += 1;
                match tokio::time::timeout(pool.silence, call(Arc::clone(&session))).await {
                    Ok(Err(error)) if did_nothing(&error) && tries <= AGAIN_MAX => {}
                    result => break result,
                }
            };
            pool.finish(session, result)
        });
        done.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the program is ending".to_owned())))
    }

    /// Takes a connection back after a call, if it is still of use.
    fn finish<T>(
        self: &Arc<Self>,
        session: Arc<Session>,
        result: Result<Result<T, Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        let (told, lost) = match result {
            Ok(Ok(done)) => {
                self.failures.store(0, Ordering::Relaxed);
                self.put_back(session);
                return Ok(done);
            }
            Ok(Err(error)) => (told(&error, &self.maker.schema), is_lost(&error)),
            Err(_) => (StoreError::Unavailable(format!("nothing was heard for {:?}", self.silence)), true),
        };
        self.failed(told.clone());
        if lost {
            drop(session);
            self.one_less();
        } else {
            self.put_back(session);
        }
        Err(told)
    }

    /// A connection for one call.
    async fn session(self: &Arc<Self>) -> Result<Arc<Session>, StoreError> {
        loop {
            if self.open.load(Ordering::Acquire) == 0 {
                self.lay();
                let unknown = || StoreError::Unavailable("it was not reached yet".to_owned());
                return Err(lock(&self.trouble).clone().unwrap_or_else(unknown));
            }
            // It is never closed.
            if let Ok(permit) = self.free.acquire().await {
                permit.forget();
            }
            match lock(&self.idle).pop() {
                Some(session) if session.client.is_closed() => {}
                Some(session) => return Ok(session),
                None => continue,
            }
            self.one_less();
        }
    }

    fn put_back(self: &Arc<Self>, session: Arc<Session>) {
        lock(&self.idle).push(session);
        self.free.add_permits(1);
    }

    fn one_less(self: &Arc<Self>) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.lay();
    }

    /// Forgets idle connections that have ended.
    fn discard_closed(&self) {
        let mut idle = lock(&self.idle);
        let before = idle.len();
        idle.retain(|session| !session.client.is_closed());
        let ended = before - idle.len();
        // Whoever has a permit for one of them finds nothing, and comes again.
        self.free.forget_permits(ended);
        self.open.fetch_sub(ended, Ordering::AcqRel);
    }

    /// Lays missing connections in the background, one after the other, unless somebody is at it.
    fn lay(self: &Arc<Self>) {
        if self.is_laying.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = PAUSE_FIRST;
            // Whoever is gone needs no connection.
            while let Some(pool) = pool.upgrade() {
                pool.discard_closed();
                if pool.open.load(Ordering::Acquire) >= pool.size {
                    pool.is_laying.store(false, Ordering::Release);
                    // One may have ended just now, and who noticed found somebody at it.
                    if pool.open.load(Ordering::Acquire) < pool.size {
                        pool.lay();
                    }
                    return;
                }
                let of = Arc::downgrade(&pool);
                let ended = move || {
                    if let Some(pool) = of.upgrade() {
                        pool.discard_closed();
                        pool.lay();
                    }
                };
                match pool.maker.session(ended).await {
                    Ok(session) => {
                        pause = PAUSE_FIRST;
                        pool.failures.store(0, Ordering::Relaxed);
                        pool.open.fetch_add(1, Ordering::AcqRel);
                        pool.put_back(Arc::new(session));
                        continue;
                    }
                    Err(error) => pool.failed(error),
                }
                drop(pool);
                tokio::time::sleep(random_below(pause)).await;
                pause = (pause * 2).min(PAUSE_LAST);
            }
        });
    }

    fn failed(&self, error: StoreError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *lock(&self.trouble) = Some(error);
    }
}

/// No holder of these locks panics, but a store must go on anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
