//! The limiters that are compared, each behind the same few functions.

mod empty;
mod flux;
mod governor;
mod leaky_bucket;
mod naive;
mod ratelimit;
mod skp;
mod throttlecrab;
mod tollgate;

use crate::arguments::Arguments;
use crate::error::Error;
use crate::line::Line;
use crate::measure;
use crate::setup::Setup;
use crate::workload::KeyStream;

/// One limiter, used as its documentation advises.
pub(crate) trait Peer: Sync + Sized {
    /// How its keys arrive.
    type Stream: KeyStream;
    /// What each thread keeps for itself: a buffer, where a limiter wants to see a key of a certain type.
    type Scratch: Default;
    /// Whether it can decide several keys in one call.
    const BATCHES: bool = false;

    /// A limiter that knows no keys yet.
    fn new(setup: &Setup) -> Result<Self, Error>;

    /// Asks for 1; whether it passes.
    fn check(&self, scratch: &mut Self::Scratch, key: &KeyOf<Self>) -> bool;

    /// Asks for 1 of each key; how many pass.
    fn check_many(&self, scratch: &mut Self::Scratch, keys: &[&KeyOf<Self>]) -> usize {
        keys.iter().filter(|key| self.check(scratch, key)).count()
    }

    /// Finishes what it put off while keys were inserted.
    fn settle(&self) {}
}

/// What a peer takes for a key.
pub(crate) type KeyOf<P> = <<P as Peer>::Stream as KeyStream>::Key;

/// A measurement of one peer.
pub(crate) type Measure = fn(&Arguments) -> Result<Line, Error>;

/// All peers, by the names that the command line takes.
const PEERS: [(&str, Measure); 28] = [
    ("empty", measure::run::<empty::Empty>),
    ("empty-memory", measure::run::<empty::EmptyMemory>),
    ("empty-direct", measure::run::<empty::EmptyDirect>),
    ("governor", measure::run::<governor::Governor>),
    ("governor-tuned", measure::run::<governor::GovernorTuned>),
    ("governor-u64", measure::run::<governor::GovernorNumbers>),
    ("governor-direct", measure::run::<governor::GovernorDirect>),
    ("flux-limiter", measure::run::<flux::Flux>),
    ("flux-limiter-u64", measure::run::<flux::FluxNumbers>),
    ("skp-ratelimit", measure::run::<skp::Skp>),
    ("throttlecrab-periodic", measure::run::<throttlecrab::Periodic>),
    ("throttlecrab-adaptive", measure::run::<throttlecrab::Adaptive>),
    ("throttlecrab-probabilistic", measure::run::<throttlecrab::Probabilistic>),
    ("ratelimit-dashmap", measure::run::<ratelimit::RatelimitMap>),
    ("ratelimit-direct", measure::run::<ratelimit::RatelimitDirect>),
    ("leaky-bucket-dashmap", measure::run::<leaky_bucket::LeakyBucketMap>),
    ("leaky-bucket-direct", measure::run::<leaky_bucket::LeakyBucketDirect>),
    ("naive-dashmap", measure::run::<naive::NaiveMap>),
    ("naive-moka", measure::run::<naive::NaiveCache>),
    ("tollgate", measure::run::<tollgate::Tollgate<tollgate::Gcra>>),
    ("tollgate-u64", measure::run::<tollgate::TollgateNumbers>),
    ("tollgate-direct", measure::run::<tollgate::TollgateDirect>),
    ("tollgate-odd-rate", measure::run::<tollgate::Tollgate<tollgate::OddGcra>>),
    ("tollgate-fixed-window", measure::run::<tollgate::Tollgate<tollgate::FixedWindow>>),
    ("tollgate-sliding-window", measure::run::<tollgate::Tollgate<tollgate::SlidingWindow>>),
    ("tollgate-token-bucket", measure::run::<tollgate::Tollgate<tollgate::TokenBucket>>),
    ("tollgate-store-one", measure::run::<tollgate::TollgateStore<1>>),
    ("tollgate-store-three", measure::run::<tollgate::TollgateStore<3>>),
];

/// The names of all peers.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PEERS.iter().map(|(name, _)| *name)
}

/// How the peer of this name is measured.
pub(crate) fn find(name: &str) -> Result<Measure, Error> {
    PEERS.iter().find(|(own, _)| *own == name).map(|(_, measure)| *measure).ok_or_else(|| {
        let names: Vec<&str> = names().collect();
        Error::Usage(format!("there is no peer `{name}`; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests;
