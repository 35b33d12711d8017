//! What the limits have in common that go by how much longer requests take than they would with few others.

use super::round::{Round, Summary};
use super::{BACKOFF, Bounds, Sample, whole};

/// After so many rounds it is measured again how long requests take with few others.
const ROUNDS_BETWEEN_PROBES: u32 = 200;
/// So much of the limit is left while that is measured.
const PROBE_SHARE: f64 = 0.5;
/// Of fewer requests an average is too uncertain to go by for long.
const PROBE_SAMPLES_MIN: u32 = 100;

/// A limit, and how long a request takes at least.
///
/// It is measured at first. But a service can become slower, and the time in a queue that stands for ever looks like the
/// service's own. So from time to time, and whenever the limit has come down by half, the limit is lowered for a moment until the queue
/// is gone, and a round is measured without it. TCP BBR does the same (Cardwell et al., *BBR: Congestion-Based Congestion
/// Control*, 2016: `ProbeRTT`), and so does Envoy's adaptive concurrency filter.
#[derive(Clone, Debug)]
pub(super) struct Delay {
    bounds: Bounds,
    limit: f64,
    /// How long a request takes with few others, on average, in nanoseconds; known once it was measured.
    base_ns: f64,
    round: Round,
    phase: Phase,
    rounds_since_probe: u32,
    limit_at_probe: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Steady,
    /// The limit is lowered, and more than that are under way still.
    Draining,
    /// So many are still to end that began beside more than the lowered limit.
    Settling(u32),
    Measuring,
}

impl Delay {
    pub(super) fn new(bounds: Bounds) -> Self {
        let limit = bounds.initial();
        Self {
            bounds,
            limit,
            base_ns: 0.0,
            round: Round::default(),
            phase: Phase::Draining,
            rounds_since_probe: 0,
            limit_at_probe: limit,
        }
    }

    /// The most that may be under way now.
    pub(super) fn limit(&self) -> u32 {
        if self.phase == Phase::Steady { whole(self.limit) } else { self.probe_limit() }
    }

    fn probe_limit(&self) -> u32 {
        whole(self.bounds.clamp(self.limit * PROBE_SHARE))
    }

    /// Learns from a request. `law` says the next limit by the present one, and by the share of a request's time that it would
    /// take with few others: 1 where nothing waits.
    pub(super) fn observe(&mut self, sample: &Sample, law: impl Fn(f64, f64) -> f64) {
        let limit = self.limit();
        match self.phase {
            Phase::Steady => {
                if let Some(summary) = self.round.add(sample, limit) {
                    self.end_round(summary, law);
                }
            }
            Phase::Draining => {
                if sample.in_flight <= limit {
                    self.phase = Phase::Settling(limit);
                }
            }
            Phase::Settling(0) => self.phase = Phase::Measuring,
            Phase::Settling(left) => self.phase = Phase::Settling(left - 1),
            Phase::Measuring => {
                if let Some(summary) = self.round.add(sample, limit.max(PROBE_SAMPLES_MIN)) {
                    self.base_ns = summary.took_ns;
                    self.phase = Phase::Steady;
                }
            }
        }
    }

    fn end_round(&mut self, summary: Summary, law: impl Fn(f64, f64) -> f64) {
        let next = if summary.overloaded {
            self.limit * BACKOFF
        } else {
            let next = law(self.limit, self.base_ns / summary.took_ns);
            // What is hardly used tells nothing of how much more would go well.
            if f64::from(summary.in_flight) * 2.0 < self.limit { next.min(self.limit) } else { next }
        };
        self.limit = self.bounds.clamp(next);
        self.limit_at_probe = self.limit_at_probe.max(self.limit);
        self.rounds_since_probe += 1;
        if self.rounds_since_probe >= ROUNDS_BETWEEN_PROBES || self.limit * 2.0 <= self.limit_at_probe {
            self.rounds_since_probe = 0;
            self.limit_at_probe = self.limit;
            self.phase = Phase::Draining;
        }
    }
}
