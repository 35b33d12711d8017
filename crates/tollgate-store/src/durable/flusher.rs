//! The thread that writes what has changed.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tollgate_core::{Clock, Timestamp};

use super::journal::Journal;
use crate::memory::MemoryStore;

/// How long to wait at most between attempts to write, where one has failed; or the interval, if that is longer.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How the files of a store fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durability {
    /// All that was changed before this moment of the store's clock is on the disk.
    pub safe_as_of: Timestamp,
    /// How often what had changed was written, or nothing had.
    pub flushes: u64,
    /// How often that failed.
    pub failures: u64,
    /// How many bytes were written.
    pub bytes_written: u64,
    /// How long the file is.
    pub file_bytes: u64,
    /// How long writing has taken, in all and the last time.
    pub flush_time: Duration,
    /// See [`flush_time`](Self::flush_time).
    pub last_flush_time: Duration,
    /// Why it cannot be written, while that is so.
    pub trouble: Option<String>,
}

/// The thread, for whoever tells it what to do.
#[derive(Debug)]
pub(super) struct Flusher {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// Where the thread and others leave word.
#[derive(Debug)]
struct Desk {
    orders: Mutex<Orders>,
    /// There is an order, or a flush has ended.
    news: Condvar,
}

#[derive(Debug)]
struct Orders {
    stop: bool,
    /// How many flushes were asked for, and up to which request they are done.
    wanted: u64,
    done: u64,
    has_ended: bool,
    durability: Durability,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no room for another.
    pub(super) fn start<C: Clock + Send + Sync + 'static>(
        store: Arc<MemoryStore<C>>,
        journal: Journal,
        interval: Duration,
    ) -> io::Result<Self> {
        let durability = Durability {
            safe_as_of: store.clock().now(),
            file_bytes: journal.bytes(),
            ..Durability::default()
        };
        let orders = Orders { stop: false, wanted: 0, done: 0, has_ended: false, durability };
        let desk = Arc::new(Desk { orders: Mutex::new(orders), news: Condvar::new() });
        let own = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("tollgate-flush".to_owned())
            .spawn(move || own.run(&store, journal, interval))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    pub(super) fn durability(&self) -> Durability {
        self.desk.orders().durability.clone()
    }

    /// Has everything written that was changed before, and waits for it.
    pub(super) fn flush(&self) -> Result<(), String> {
        let mut orders = self.desk.orders();
        orders.wanted += 1;
        let own = orders.wanted;
        self.desk.news.notify_all();
        while orders.done < own && !orders.has_ended {
            orders = self.desk.news.wait(orders).unwrap_or_else(PoisonError::into_inner);
        }
        match &orders.durability.trouble {
            Some(trouble) => Err(trouble.clone()),
            None if orders.done < own => Err("the thread that writes has ended".to_owned()),
            None => Ok(()),
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.desk.orders().stop = true;
        self.desk.news.notify_all();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, that was said.
            let _ = thread.join();
        }
    }
}

/// Tells those who wait when the thread ends, however it ends.
struct Ending<'d>(&'d Desk);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut orders = self.0.orders();
        orders.has_ended = true;
        if std::thread::panicking() {
            orders.durability.trouble = Some("the thread that writes has panicked".to_owned());
        }
        drop(orders);
        self.0.news.notify_all();
    }
}

impl Desk {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<C: Clock>(&self, store: &MemoryStore<C>, mut journal: Journal, interval: Duration) {
        let _ending = Ending(self);
        let mut pause = interval;
        let mut is_stuck = false;
        loop {
            let (wanted, stop) = self.wait(pause);
            let (began, as_of) = (Instant::now(), store.clock().now());
            let flushed = journal.flush(store);
            let took = began.elapsed();

            let mut orders = self.orders();
            let durability = &mut orders.durability;
            durability.flush_time += took;
            durability.last_flush_time = took;
            durability.file_bytes = journal.bytes();
            let trouble = match flushed {
                Ok(flushed) => {
                    durability.flushes += 1;
                    durability.bytes_written += flushed.bytes;
                    durability.safe_as_of = as_of;
                    // The next begins one interval after this one did; or, if this one took long, half an interval after its end.
                    pause = interval.saturating_sub(took.min(interval / 2));
                    if let Some(why) = flushed.trouble {
                        durability.failures += 1;
                        if !std::mem::replace(&mut is_stuck, true) {
                            tracing::warn!(
                                target: "tollgate::store",
                                %why,
                                "the file of states goes on growing, as a new one cannot be written"
                            );
                        }
                    } else if !journal.is_waiting() {
                        is_stuck = false;
                    }
                    None
                }
                Err(error) => {
                    durability.failures += 1;
                    pause = (2 * pause).clamp(interval, RETRY_MAX.max(interval));
                    Some(error.to_string())
                }
            };
            say(durability.trouble.as_deref(), trouble.as_deref());
            durability.trouble = trouble;
            orders.done = wanted;
            drop(orders);
            self.news.notify_all();
            if stop {
                return;
            }
        }
    }

    /// Waits until it is time, or somebody wants it. Returns what is wanted.
    fn wait(&self, pause: Duration) -> (u64, bool) {
        let idle = |orders: &mut Orders| orders.wanted == orders.done && !orders.stop;
        let (orders, _) =
            self.news.wait_timeout_while(self.orders(), pause, idle).unwrap_or_else(PoisonError::into_inner);
        (orders.wanted, orders.stop)
    }
}

/// Says when writing begins to fail, and when it no longer does.
fn say(before: Option<&str>, trouble: Option<&str>) {
    match (before, trouble) {
        (None, Some(why)) => tracing::error!(
            target: "tollgate::store",
            %why,
            "states cannot be written: decisions go on from memory, and what changes from now on is lost if the process ends"
        ),
        (Some(_), None) => tracing::info!(target: "tollgate::store", "states are written again"),
        _ => {}
    }
}
