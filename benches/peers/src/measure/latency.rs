//! How long single decisions take.

use std::sync::Barrier;

use hdrhistogram::Histogram;

use super::timer::{Timer, histogram};
use super::{heading, on_threads, share, steady};
use crate::arguments::Arguments;
use crate::error::Error;
use crate::line::Line;
use crate::peers::Peer;
use crate::process;
use crate::workload::{KeyStream, streams};

/// What one thread measured.
struct Times {
    ticks: Histogram<u64>,
    allowed: u64,
    switches: u64,
}

/// The distribution of the times of all threads' decisions. The timer's own cost is in them, and is told.
pub(super) fn run<P: Peer>(arguments: &Arguments) -> Result<Line, Error> {
    let timer = Timer::new();
    let streams = streams::<P::Stream>(arguments, arguments.operations);
    let peer = steady::<P>(arguments)?;
    let threads =
        on_threads(&streams, |stream, barrier| times(&peer, stream, arguments.operations, &timer, barrier))?;
    let mut all = histogram()?;
    for thread in &threads {
        all.add(&thread.ticks).map_err(|error| Error::refused("the histogram", error))?;
    }
    let nanos = |quantile: f64| timer.nanos(all.value_at_quantile(quantile));
    Ok(heading(arguments)
        .whole("p50", nanos(0.5))
        .whole("p99", nanos(0.99))
        .whole("p999", nanos(0.999))
        .whole("max", timer.nanos(all.max()))
        .decimal("timer", timer.own_cost())
        .decimal("allowed", share(threads.iter().map(|thread| thread.allowed).sum(), all.len()))
        .whole("switches", threads.iter().map(|thread| thread.switches).sum()))
}

fn times<P: Peer>(
    peer: &P,
    stream: &P::Stream,
    operations: usize,
    timer: &Timer,
    barrier: &Barrier,
) -> Result<Times, Error> {
    let mut scratch = P::Scratch::default();
    let mut times = Times { ticks: histogram()?, allowed: 0, switches: 0 };
    let before = process::involuntary_switches()?;
    barrier.wait();
    for position in 0..operations {
        let key = stream.at(position);
        let started = timer.ticks();
        let allowed = peer.check(&mut scratch, key);
        let ended = timer.ticks();
        times.allowed += u64::from(allowed);
        times.ticks.saturating_record(ended.saturating_sub(started));
    }
    times.switches = process::involuntary_switches()?.saturating_sub(before);
    Ok(times)
}
