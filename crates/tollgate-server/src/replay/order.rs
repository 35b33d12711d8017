//! Requests in the order of time, from any number of logs.
//!
//! The logs are merged by the times of their next lines. What comes out is nearly in order: servers write a line when a
//! response ends, and stamp it with when the request began. A buffer of a fixed length of time puts such lines back
//! in order. A line that is older than the buffer reaches is *late*: it is decided at the time that the replay has
//! reached. A line that is older by more than [`RESTART_GAP`] cannot be merely late: there another log begins (files
//! were put one after another), and the replay starts again with it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tollgate::{Nanos, Timestamp};

use super::log::{LogError, Tally};
use super::plan::{Planned, PlannedBatch};
use super::source::Source;

/// How far back a line must lie to be the start of another log.
pub(super) const RESTART_GAP: Nanos = Nanos::from_secs(3_600);

/// The most requests that wait to be put in order; beyond, the oldest goes on.
const WAITING_MAX: usize = 1 << 20;

/// A request, and when it is decided.
#[derive(Debug)]
pub(super) struct Event<'o> {
    pub(super) request: Planned<'o>,
    pub(super) now: Timestamp,
    /// Whether another log begins here.
    pub(super) restarted: bool,
}

/// What was counted while reading.
#[derive(Debug)]
pub(super) struct OrderTally {
    pub(super) lines: Tally,
    /// Requests that were put back in order.
    pub(super) out_of_order: u64,
    /// Requests that were too old for that.
    pub(super) late: u64,
    /// How often another log began.
    pub(super) restarts: u64,
}

/// Merges logs.
#[derive(Debug)]
pub(super) struct Order {
    lanes: Vec<Lane>,
    window: Nanos,
    batches: Batches,
    /// Waiting requests that came in order.
    run: VecDeque<Waiting>,
    /// Waiting requests that came after younger ones.
    strays: BinaryHeap<Reverse<Waiting>>,
    sequence: u64,
    /// The youngest time seen, and the time of what was handed out last.
    newest: Timestamp,
    reached: Timestamp,
    /// The first request of another log, which waits until this one is through.
    restart: Option<Waiting>,
    /// The batch of what was handed out last.
    handed_out: Option<usize>,
    tally: OrderTally,
    failures: Vec<LogError>,
}

/// A log, and how far it has been read.
#[derive(Debug)]
struct Lane {
    source: Source,
    /// The next request.
    head: Option<Head>,
}

/// The next request of a log: when it came, its batch, its number in it.
type Head = (Timestamp, usize, usize);

/// Where a request is that waits for its turn. Ordered by time, then as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Timestamp,
    sequence: u64,
    batch: usize,
    entry: usize,
}

impl Order {
    pub(super) fn new(sources: Vec<Source>, window: Nanos) -> Self {
        let mut order = Self {
            lanes: Vec::new(),
            window,
            batches: Batches::default(),
            run: VecDeque::new(),
            strays: BinaryHeap::new(),
            sequence: 0,
            newest: Timestamp::EPOCH,
            reached: Timestamp::EPOCH,
            restart: None,
            handed_out: None,
            tally: OrderTally { lines: Tally::new(10), out_of_order: 0, late: 0, restarts: 0 },
            failures: Vec::new(),
        };
        for source in sources {
            order.lanes.push(Lane { source, head: None });
            order.refill(order.lanes.len() - 1);
        }
        order
    }

    /// The next request.
    pub(super) fn next(&mut self) -> Option<Event<'_>> {
        if let Some(batch) = self.handed_out.take() {
            self.batches.release(batch, &self.lanes);
        }
        self.read_on();
        let mut restarted = false;
        if self.oldest().is_none()
            && let Some(first) = self.restart.take()
        {
            // The log before is through; this one is put in order like any other.
            self.tally.restarts += 1;
            restarted = true;
            (self.newest, self.reached) = (first.at, Timestamp::EPOCH);
            self.run.push_back(first);
            self.read_on();
        }
        let waiting = self.take_oldest()?;
        self.reached = waiting.at;
        self.handed_out = Some(waiting.batch);
        let request = self.batches.request(waiting)?;
        Some(Event { request, now: waiting.at, restarted })
    }

    /// What was counted, and which logs could not be read to their end.
    pub(super) fn finish(self) -> (OrderTally, Vec<LogError>) {
        (self.tally, self.failures)
    }

    /// Reads until the oldest that waits can no longer be overtaken, or another log begins, or there is no more.
    fn read_on(&mut self) {
        while self.restart.is_none() {
            let too_many = self.run.len() + self.strays.len() > WAITING_MAX;
            let due = |oldest: Waiting| self.newest.since(oldest.at) > self.window || too_many;
            if self.oldest().is_some_and(due) || !self.read_one() {
                break;
            }
        }
    }

    fn oldest(&self) -> Option<Waiting> {
        match (self.run.front(), self.strays.peek()) {
            (Some(run), Some(Reverse(stray))) => Some(*run.min(stray)),
            (Some(waiting), None) | (None, Some(Reverse(waiting))) => Some(*waiting),
            (None, None) => None,
        }
    }

    fn take_oldest(&mut self) -> Option<Waiting> {
        match (self.run.front(), self.strays.peek()) {
            (Some(run), Some(Reverse(stray))) if stray < run => self.strays.pop().map(|Reverse(stray)| stray),
            (None, _) => self.strays.pop().map(|Reverse(stray)| stray),
            _ => self.run.pop_front(),
        }
    }

    /// Moves one request from the logs to those that wait. Returns whether there was one.
    fn read_one(&mut self) -> bool {
        let heads = self.lanes.iter().enumerate().filter_map(|(lane, state)| Some((state.head?, lane)));
        let Some(((mut at, batch, entry), lane)) = heads.min() else { return false };
        self.advance(lane, batch, entry);
        self.sequence += 1;
        let waiting = |at| Waiting { at, sequence: self.sequence, batch, entry };
        if self.newest.since(at) > RESTART_GAP.max(self.window) {
            self.restart = Some(waiting(at));
            return true;
        }
        if at < self.reached {
            self.tally.late += 1;
            at = self.reached;
        } else if at < self.newest {
            self.tally.out_of_order += 1;
        }
        self.newest = self.newest.max(at);
        let waiting = waiting(at);
        if self.run.back().is_none_or(|last| *last < waiting) {
            self.run.push_back(waiting);
        } else {
            self.strays.push(Reverse(waiting));
        }
        true
    }

    fn advance(&mut self, lane: usize, batch: usize, entry: usize) {
        match self.batches.time(batch, entry + 1) {
            Some(at) => self.lanes[lane].head = Some((at, batch, entry + 1)),
            None => self.refill(lane),
        }
    }

    fn refill(&mut self, lane: usize) {
        let next = self.lanes[lane].source.next_batch(&mut self.tally.lines, &mut self.failures);
        self.lanes[lane].head = next.and_then(|batch| {
            let batch = self.batches.hold(batch, lane);
            Some((self.batches.time(batch, 0)?, batch, 0))
        });
    }
}

/// The batches that still hold requests to be handed out.
#[derive(Debug, Default)]
struct Batches {
    held: Vec<Option<Held>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Held {
    batch: PlannedBatch,
    lane: usize,
    /// Requests in it that were not handed out yet.
    left: usize,
}

impl Batches {
    fn hold(&mut self, batch: PlannedBatch, lane: usize) -> usize {
        let held = Some(Held { left: batch.batch.len(), batch, lane });
        if let Some(index) = self.free.pop() {
            self.held[index] = held;
            return index;
        }
        self.held.push(held);
        self.held.len() - 1
    }

    fn time(&self, batch: usize, entry: usize) -> Option<Timestamp> {
        self.held.get(batch)?.as_ref()?.batch.time(entry)
    }

    fn request(&self, waiting: Waiting) -> Option<Planned<'_>> {
        self.held.get(waiting.batch)?.as_ref()?.batch.get(waiting.entry)
    }

    /// Notes that one request of a batch is through; hands the batch back with the last of them.
    fn release(&mut self, batch: usize, lanes: &[Lane]) {
        let Some(held) = self.held[batch].as_mut() else { return };
        held.left -= 1;
        if held.left == 0
            && let Some(held) = self.held[batch].take()
        {
            self.free.push(batch);
            lanes[held.lane].source.give_back(held.batch);
        }
    }
}
