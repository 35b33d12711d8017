//! The way to a server: a connection that many callers share, laid again when it is lost.
//!
//! The client's own retries are not used: a command is sent again only where the server itself said that it was not run.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisError, Value};

use super::route::Route;

use crate::seed::random_below;
use crate::store::StoreError;

/// The first pause between two attempts to connect, and the longest. The actual one is drawn between nothing and that.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// A connection on which nothing was answered for so long, though something was asked, is lost; if callers wait longer than
/// this for an answer, for as long as they do.
const SILENCE_LEAST: Duration = Duration::from_millis(500);

/// … if that was asked more often than this.
const UNHEARD_MAX: u32 = 3;

#[derive(Debug)]
pub(super) struct Link {
    route: Route,
    config: AsyncConnectionConfig,
    silence_max: Duration,
    connection: Mutex<Option<Laid>>,
    /// Whether somebody is laying the connection.
    is_laying: AtomicBool,
    /// Counts connections, so that one is not given up for another's failure.
    laid: AtomicU64,
    failures: AtomicU32,
    trouble: Mutex<Option<String>>,
    began: Instant,
    /// When the first call was made after the last answer, in milliseconds since the beginning; 0 if there was none. Kept
    /// here and not by the call, as that may be given up.
    asked_at: AtomicU64,
    /// How many calls were made since the last answer.
    unheard: AtomicU32,
}

#[derive(Clone)]
struct Laid {
    number: u64,
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Laid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Laid").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Link {
    /// A way that is still to be laid.
    pub(super) fn new(route: Route, connect_timeout: Duration, deadline: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            // Callers have gone by then.
            .set_response_timeout(Some(deadline))
            .set_pipeline_buffer_size(1_024);
        Self {
            route,
            config,
            silence_max: deadline.max(SILENCE_LEAST),
            connection: Mutex::new(None),
            is_laying: AtomicBool::new(false),
            laid: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            trouble: Mutex::new(None),
            began: Instant::now(),
            asked_at: AtomicU64::new(0),
            unheard: AtomicU32::new(0),
        }
    }

    /// Whether there is a connection now.
    pub(super) fn is_up(&self) -> bool {
        lock(&self.connection).is_some()
    }

    /// How many calls and attempts to connect have failed since the last that did not.
    pub(super) fn failures(&self) -> u32 {
        // Relaxed, here and below: statistics, and hints.
        self.failures.load(Ordering::Relaxed)
    }

    /// What went wrong last, while it does.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone().filter(|_| self.failures() > 0)
    }

    /// Sends a command, once; `asking` for keys that are on their way to this server of a cluster.
    pub(super) async fn call(self: &Arc<Self>, command: &Cmd, asking: bool) -> Result<Value, RedisError> {
        let laid = lock(&self.connection).clone();
        let Some(mut laid) = laid else {
            self.lay();
            let why = self.trouble().unwrap_or_else(|| match self.laid.load(Ordering::Relaxed) {
                0 => "it was not reached yet".to_owned(),
                _ => "the connection was lost and is laid again".to_owned(),
            });
            return Err(RedisError::from((redis::ErrorKind::Io, "not connected", why)));
        };
        // The answer to a call that was given up is not noticed, so one of them is no sign.
        let unheard = self.unheard.fetch_add(1, Ordering::Relaxed);
        if unheard >= UNHEARD_MAX && self.silence() > self.silence_max {
            self.give_up(laid.number);
            let what = format!("nothing was heard for {:?}", self.silence_max);
            return Err(RedisError::from((redis::ErrorKind::Io, "the connection is lost", what)));
        }
        // Relaxed, as all of it: a call more or less does not matter.
        let _ = self.asked_at.compare_exchange(0, self.millis().max(1), Ordering::Relaxed, Ordering::Relaxed);
        let result = if asking {
            let mut both = redis::pipe();
            both.cmd("ASKING").add_command(command.clone());
            let answers = laid.connection.send_packed_commands(&both, 1, 1).await;
            answers.and_then(|mut answers| answers.pop().unwrap_or(Value::Nil).extract_error())
        } else {
            laid.connection.send_packed_command(command).await.and_then(Value::extract_error)
        };
        match &result {
            Ok(_) => {
                self.heard();
                self.failures.store(0, Ordering::Relaxed);
            }
            Err(error) => {
                if error.code().is_some() {
                    self.heard();
                }
                self.failed(error);
                if self.is_lost(error) {
                    self.give_up(laid.number);
                }
            }
        }
        result
    }

    /// Whether a connection is of no more use.
    fn is_lost(&self, error: &RedisError) -> bool {
        match error.code() {
            // A primary that has become a replica, or a password that has changed: another connection may do better.
            Some("READONLY" | "MASTERDOWN" | "NOAUTH") => true,
            Some(_) => false,
            None if error.is_timeout() => self.silence() > self.silence_max,
            None => true,
        }
    }

    fn heard(&self) {
        self.asked_at.store(0, Ordering::Relaxed);
        self.unheard.store(0, Ordering::Relaxed);
    }

    /// For how long nothing was heard though something was asked.
    fn silence(&self) -> Duration {
        match self.asked_at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            asked_at => Duration::from_millis(self.millis().saturating_sub(asked_at)),
        }
    }

    fn give_up(self: &Arc<Self>, number: u64) {
        let mut connection = lock(&self.connection);
        if connection.as_ref().is_some_and(|laid| laid.number == number) {
            *connection = None;
            drop(connection);
            self.lay();
        }
    }

    /// Lays the connection in the background, unless somebody is at it: there is never more than one attempt.
    pub(super) fn lay(self: &Arc<Self>) {
        if self.is_laying.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = PAUSE_FIRST;
            // Whoever is gone needs no connection.
            while let Some(link) = link.upgrade() {
                match link.attempt().await {
                    Ok(()) => {
                        link.is_laying.store(false, Ordering::Release);
                        return;
                    }
                    Err(error) => link.failed(&error),
                }
                drop(link);
                tokio::time::sleep(random_below(pause)).await;
                pause = (pause * 2).min(PAUSE_LAST);
            }
        });
    }

    async fn attempt(&self) -> Result<(), RedisError> {
        let mut connection = self.route.connect(&self.config).await?;
        connection.send_packed_command(&redis::cmd("PING")).await.and_then(Value::extract_error)?;
        let mut memory = redis::cmd("INFO");
        // Whoever may not ask does without the warning.
        if let Ok(Value::BulkString(text)) = connection.send_packed_command(memory.arg("memory")).await
            && let Some(rule) = evicts(&String::from_utf8_lossy(&text))
        {
            tracing::warn!(
                target: "tollgate::store",
                %rule,
                "the server throws keys out when its memory is full, and with them what was spent: set maxmemory-policy \
                 to noeviction"
            );
        }
        let number = self.laid.fetch_add(1, Ordering::Relaxed);

        self.failures.store(0, Ordering::Relaxed);
        self.heard();
        *lock(&self.connection) = Some(Laid { number, connection });
        Ok(())
    }

    fn failed(&self, error: &RedisError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *lock(&self.trouble) = Some(error.to_string());
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The rule by which a server with these numbers throws keys out, if it does.
fn evicts(memory: &str) -> Option<&str> {
    let number = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name));
    // Without a limit it never comes to that.
    number("maxmemory:").filter(|most| *most != "0")?;
    number("maxmemory_policy:").filter(|rule| *rule != "noeviction")
}

/// What a failure means to whoever asked.
pub(super) fn told(error: &RedisError) -> StoreError {
    let text = error.to_string();
    match error.code() {
        // The server said what is wrong, and it will not pass by itself.
        Some("NOPERM" | "WRONGPASS" | "CROSSSLOT" | "ERR" | "WRONGTYPE") => StoreError::Defect(text),
        _ => StoreError::Unavailable(text),
    }
}

/// No holder of these locks panics, but a store must go on anyway.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_throw_keys_out_are_known_by_their_numbers() {
        let told =
            |most: &str, rule: &str| format!("# Memory\r\nmaxmemory:{most}\r\nmaxmemory_policy:{rule}\r\n");
        assert_eq!(evicts(&told("1000000", "allkeys-lru")), Some("allkeys-lru"));
        // Every key of ours has a time to live, so these are no better.
        assert_eq!(evicts(&told("1", "volatile-ttl")), Some("volatile-ttl"));
        assert_eq!(evicts(&told("1", "noeviction")), None);
        assert_eq!(evicts(&told("0", "allkeys-lru")), None);
        assert_eq!(evicts(""), None);
    }
}
