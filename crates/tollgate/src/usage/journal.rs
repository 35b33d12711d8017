//! A thread that brings lines to the disk: all that have come meanwhile at once, so that many decisions share one wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use super::book::Book;
use super::file::Lines;

/// How long to wait before what could not be written is tried again.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Journal {
    desk: Arc<Desk>,
    writes_through: bool,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    tray: Mutex<Tray>,
    /// There is something to write, or to end.
    work: Condvar,
    /// Something was written, or could not be.
    done: Condvar,
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Tray {
    lines: Vec<u8>,
    /// How many lines have come, and how many of them are on the disk.
    come: u64,
    written: u64,
    /// Up to which line an attempt failed: nobody waits for those any more.
    given_up: u64,
    trouble: Option<String>,
    waiting: Vec<Waker>,
    is_closing: bool,
}

impl Tray {
    /// Whether nobody has to wait for this line.
    const fn is_done(&self, line: u64) -> bool {
        self.written >= line || self.given_up >= line
    }
}

impl Journal {
    pub(super) fn start(lines: Lines, book: Arc<Mutex<Book>>, every: Option<Duration>) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let own = Arc::clone(&desk);
        let thread = thread::Builder::new().name("tollgate-use".to_owned());
        let thread = thread.spawn(move || own.run(lines, &book, every))?;
        Ok(Self { desk, writes_through: every.is_none(), thread: Some(thread) })
    }

    /// Takes a line, and says which it is if its writer wants to wait for it.
    pub(super) fn append(&self, line: &str) -> Option<u64> {
        let mut tray = self.desk.tray();
        tray.lines.extend_from_slice(line.as_bytes());
        tray.come += 1;
        if self.writes_through {
            self.desk.work.notify_one();
        }
        self.writes_through.then_some(tray.come)
    }

    pub(super) fn wait(&self, line: u64) {
        let waiting = self.desk.done.wait_while(self.desk.tray(), |tray| !tray.is_done(line));
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn poll(&self, line: u64, context: &Context<'_>) -> Poll<()> {
        let mut tray = self.desk.tray();
        if tray.is_done(line) {
            return Poll::Ready(());
        }
        tray.waiting.push(context.waker().clone());
        Poll::Pending
    }

    pub(super) const fn writes_through(&self) -> bool {
        self.writes_through
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.desk.tray().trouble.clone()
    }
}

/// Writes what is left.
impl Drop for Journal {
    fn drop(&mut self) {
        self.desk.tray().is_closing = true;
        self.desk.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn tray(&self) -> MutexGuard<'_, Tray> {
        // Each change of it is whole.
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut file: Lines, book: &Mutex<Book>, every: Option<Duration>) {
        loop {
            let tray = self.tray();
            let tray = match every {
                None => self.work.wait_while(tray, |tray| tray.lines.is_empty() && !tray.is_closing),
                Some(every) => self
                    .work
                    .wait_timeout_while(tray, every, |tray| !tray.is_closing)
                    .map(|(tray, _)| tray)
                    .map_err(|error| PoisonError::new(error.into_inner().0)),
            };
            let mut tray = tray.unwrap_or_else(PoisonError::into_inner);
            let (lines, come, is_closing) = (std::mem::take(&mut tray.lines), tray.come, tray.is_closing);
            drop(tray);
            let written = if lines.is_empty() { Ok(()) } else { file.add(&lines) };
            let failed = written.is_err();
            self.tell(written, come, lines);
            if is_closing {
                return;
            }
            if failed {
                thread::sleep(AGAIN);
            }
            if file.is_stale() {
                self.rewrite(&mut file, book);
            }
        }
    }

    /// Says what came of writing all lines up to this one.
    fn tell(&self, written: io::Result<()>, come: u64, lines: Vec<u8>) {
        let mut tray = self.tray();
        match written {
            Ok(()) => {
                tray.written = come;
                tray.trouble = None;
            }
            Err(error) => {
                let later = std::mem::replace(&mut tray.lines, lines);
                tray.lines.extend(later);
                tray.given_up = come;
                tray.trouble = Some(error.to_string());
            }
        }
        for waker in std::mem::take(&mut tray.waiting) {
            waker.wake();
        }
        drop(tray);
        self.done.notify_all();
    }

    /// Writes a file anew.
    fn rewrite(&self, file: &mut Lines, book: &Mutex<Book>) {
        // The book first, as everywhere: while it is held nothing can change, and what waits is in it.
        let held = book.lock().unwrap_or_else(PoisonError::into_inner);
        let all = held.lines();
        let mut tray = self.tray();
        let (waiting, come) = (std::mem::take(&mut tray.lines), tray.come);
        drop(tray);
        drop(held);
        let written = file.rewrite(&all);
        self.tell(written, come, waiting);
    }
}
