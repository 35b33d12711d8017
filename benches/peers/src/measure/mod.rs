//! Measuring a peer.

mod growth;
mod instructions;
mod latency;
mod memory;
mod throughput;
mod timer;

use std::sync::Barrier;

use crate::arguments::{Arguments, Mode};
use crate::error::Error;
use crate::line::Line;
use crate::peers::Peer;
use crate::setup::{Outcome, Setup};
use crate::workload::{KeyStream, Random, shuffled};

/// Measures a peer as the arguments say.
pub(crate) fn run<P: Peer>(arguments: &Arguments) -> Result<Line, Error> {
    if arguments.batch > 1 && !P::BATCHES {
        return Err(Error::Usage(format!("the peer {} decides no batches", arguments.peer)));
    }
    if !P::Stream::KEYED && matches!(arguments.mode, Mode::Memory | Mode::Growth) {
        return Err(Error::Usage(format!("the peer {} has no keys", arguments.peer)));
    }
    match arguments.mode {
        Mode::Throughput => throughput::run::<P>(arguments),
        Mode::Latency => latency::run::<P>(arguments),
        Mode::Memory => memory::run::<P>(arguments),
        Mode::Growth => growth::run::<P>(arguments),
        Mode::Instructions => instructions::run::<P>(arguments),
    }
}

/// The start of a result: what was asked for.
fn heading(arguments: &Arguments) -> Line {
    Line::default()
        .text("peer", &arguments.peer)
        .text("mode", arguments.mode.name())
        .whole("keys", arguments.keys.into())
        .text("distribution", arguments.distribution.name())
        .whole("threads", arguments.threads as u64)
        .text("outcome", arguments.outcome.name())
        .whole("batch", arguments.batch as u64)
        .whole("operations", arguments.operations as u64)
        .whole("seed", arguments.seed)
}

/// A limiter that has met every key, in random order, and where that is wanted, has nothing left for any of them.
fn steady<P: Peer>(arguments: &Arguments) -> Result<P, Error> {
    // A burst that a limiter counts otherwise than the others is spent all the same.
    const TRIES: usize = 4;
    let peer = P::new(&Setup::new(arguments, P::Stream::KEYED))?;
    let mut scratch = P::Scratch::default();
    let mut key = P::Stream::with_capacity(1);
    let keys = if P::Stream::KEYED { arguments.keys } else { 1 };
    for index in shuffled(keys, &mut Random::new(!arguments.seed)) {
        key.clear();
        key.push(index);
        for _ in 0..TRIES {
            if !peer.check(&mut scratch, key.at(0)) || arguments.outcome == Outcome::Allowed {
                break;
            }
        }
    }
    peer.settle();
    Ok(peer)
}

/// Runs `work` on each stream in a thread of its own. The barrier opens when all have come to it.
fn on_threads<S: Sync, T: Send>(
    streams: &[S],
    work: impl Fn(&S, &Barrier) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let barrier = Barrier::new(streams.len());
    std::thread::scope(|scope| {
        let (work, barrier) = (&work, &barrier);
        let threads: Vec<_> =
            streams.iter().map(|stream| scope.spawn(move || work(stream, barrier))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| Error::Thread)?).collect()
    })
}

/// A part of a whole, or nothing of nothing.
// Both are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
