//! The requests of a batch with what policies ask of each: worked out on the thread that reads the log, so that the one
//! that decides need not.

use std::sync::Arc;

use tollgate::{Attribute, KeyHash, PolicySet, Timestamp};

use super::log::{Batch, Entry};
use super::request::LogRequest;

/// A batch and the policies that apply to its requests.
#[derive(Debug, Default)]
pub(super) struct PlannedBatch {
    pub(super) batch: Batch,
    /// For each request where its parts and keys begin, and once more for the end.
    starts: Vec<(usize, usize)>,
    parts: Vec<Part>,
    /// A key for each limit of each part.
    keys: Vec<KeyHash>,
}

/// A policy that applies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Its index in the set.
    pub(super) policy: usize,
    /// The index of its limits.
    pub(super) variant: usize,
    /// How many limits those are.
    pub(super) limits: usize,
    /// What it takes from each of them.
    pub(super) cost: u32,
}

/// A request, the policies that apply to it, and the keys of their limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned<'b> {
    batch: &'b Batch,
    index: usize,
    pub(super) parts: &'b [Part],
    pub(super) keys: &'b [KeyHash],
}

impl<'b> Planned<'b> {
    /// The line of the log. Seldom asked for: what decides a request are its keys.
    pub(super) fn entry(&self) -> Option<Entry<'b>> {
        self.batch.get(self.index)
    }
}

/// Plans batches.
#[derive(Clone, Debug)]
pub(super) struct Planner {
    pub(super) policies: Arc<PolicySet>,
    /// What the fields that the user mapped stand for.
    pub(super) attributes: Arc<[Attribute]>,
}

impl Planner {
    /// The request of a log line, as policies see it.
    pub(super) fn request<'e>(&'e self, entry: &'e Entry<'e>) -> LogRequest<'e> {
        LogRequest::new(entry, &self.attributes)
    }

    /// Plans all requests of a parsed batch anew.
    pub(super) fn plan(&self, planned: &mut PlannedBatch) {
        let PlannedBatch { batch, starts, parts, keys } = planned;
        starts.clear();
        parts.clear();
        keys.clear();
        for entry in batch.entries() {
            starts.push((parts.len(), keys.len()));
            let plan = self.policies.plan(&self.request(&entry), Timestamp::from_nanos(entry.time_ns), None);
            for (policy, variant, hits) in plan.parts() {
                let cost = hits.first().map_or(0, |hit| hit.cost);
                parts.push(Part { policy, variant, limits: hits.len(), cost });
                keys.extend(hits.iter().map(|hit| hit.key));
            }
        }
        starts.push((parts.len(), keys.len()));
    }
}

impl PlannedBatch {
    /// The request of this number, from 0.
    pub(super) fn get(&self, index: usize) -> Option<Planned<'_>> {
        let (first, next) = (self.starts.get(index)?, self.starts.get(index + 1)?);
        Some(Planned {
            batch: &self.batch,
            index,
            parts: self.parts.get(first.0..next.0)?,
            keys: self.keys.get(first.1..next.1)?,
        })
    }

    /// When a request came.
    pub(super) fn time(&self, index: usize) -> Option<Timestamp> {
        self.batch.time_ns(index).map(Timestamp::from_nanos)
    }
}
