//! A service that gets slower for everybody the more it does at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

/// How much longer all takes for each time that the cores are overbooked: switching, locks, memory.
const THRASHING: f64 = 0.1;
/// What is left of the cores at least.
const LEFT: f64 = 0.8;

/// A service with some cores. Up to as many requests run side by side, each as if alone; beyond that they share the cores evenly,
/// and lose some of their time to each other. It notices when a client has gone, and drops the request.
///
/// Times are in nanoseconds.
#[derive(Debug)]
pub(super) struct Backend {
    cores: f64,
    now: f64,
    /// How much work a request has got that was there from the beginning: all get the same, so one sum does for all.
    done: f64,
    /// At how much of that each is finished, and which it is.
    jobs: BinaryHeap<Reverse<(u64, usize)>>,
    dropped: HashSet<usize>,
}

impl Backend {
    pub(super) fn new(cores: u32) -> Self {
        Self { cores: cores.into(), now: 0.0, done: 0.0, jobs: BinaryHeap::new(), dropped: HashSet::new() }
    }

    /// What a request gets of a core.
    // There are never so many requests that a double could not count them.
    #[allow(clippy::cast_precision_loss)]
    fn share(&self) -> f64 {
        let booked = (self.jobs.len() - self.dropped.len()) as f64 / self.cores;
        if booked <= 1.0 { 1.0 } else { (1.0 / (1.0 + THRASHING * (booked - 1.0))).max(LEFT) / booked }
    }

    /// When the next request will be finished, if nothing else happens.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn next(&mut self) -> Option<f64> {
        while let Some(Reverse((_, request))) = self.jobs.peek()
            && self.dropped.remove(request)
        {
            self.jobs.pop();
        }
        let Reverse((finished, _)) = self.jobs.peek()?;
        Some(self.now + (*finished as f64 - self.done).max(0.0) / self.share())
    }

    /// Lets time go by, up to the next request's end at most.
    pub(super) fn advance(&mut self, now: f64) {
        self.done += (now - self.now) * self.share();
        self.now = now;
    }

    /// Takes the request that is finished now.
    pub(super) fn finish(&mut self) -> Option<usize> {
        self.jobs.pop().map(|Reverse((_, request))| request)
    }

    /// Begins a request that needs so much of a core.
    // Times are of a minute or so.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn begin(&mut self, request: usize, work: f64) {
        self.jobs.push(Reverse(((self.done + work) as u64, request)));
    }

    /// Drops a request that is not finished.
    pub(super) fn drop(&mut self, request: usize) {
        self.dropped.insert(request);
    }

    pub(super) fn set_cores(&mut self, cores: u32) {
        self.cores = cores.into();
    }
}
