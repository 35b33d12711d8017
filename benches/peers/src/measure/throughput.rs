//! Decisions in a second.

use std::ops::Range;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::{heading, on_threads, share, steady};
use crate::arguments::Arguments;
use crate::error::Error;
use crate::line::Line;
use crate::peers::{KeyOf, Peer};
use crate::process;
use crate::workload::{KeyStream, streams};

/// What one thread measured.
struct Lap {
    started: Instant,
    ended: Instant,
    allowed: usize,
    switches: u64,
    on_processor: Option<Duration>,
}

/// The time from when the first thread starts to when the last one ends, divided by the decisions of one thread.
pub(super) fn run<P: Peer>(arguments: &Arguments) -> Result<Line, Error> {
    // One part in sixteen of each stream warms up.
    let warm = arguments.operations / 16;
    let length = warm + arguments.operations;
    let streams = streams::<P::Stream>(arguments, length);
    let peer = steady::<P>(arguments)?;
    let laps =
        on_threads(&streams, |stream, barrier| lap(&peer, stream, warm..length, arguments.batch, barrier))?;
    let (Some(started), Some(ended)) =
        (laps.iter().map(|lap| lap.started).min(), laps.iter().map(|lap| lap.ended).max())
    else {
        return Err(Error::Thread);
    };
    let total = (arguments.operations * laps.len()) as u64;
    let allowed: usize = laps.iter().map(|lap| lap.allowed).sum();
    // A number for people.
    #[allow(clippy::cast_precision_loss)]
    let nanos = ended.duration_since(started).as_nanos() as f64 / arguments.operations as f64;
    let line = heading(arguments)
        .decimal("ns", nanos)
        .decimal("allowed", share(allowed as u64, total))
        .whole("switches", laps.iter().map(|lap| lap.switches).sum());
    Ok(match on_processor(&laps) {
        Some(share) => line.decimal("on_processor", share),
        None => line,
    })
}

/// Of the time that was measured, the share in which the threads had a processor: less than 1 if they had to share it with
/// something else.
fn on_processor(laps: &[Lap]) -> Option<f64> {
    let had: Duration = laps.iter().map(|lap| lap.on_processor).sum::<Option<_>>()?;
    let wanted: Duration = laps.iter().map(|lap| lap.ended.duration_since(lap.started)).sum();
    (!wanted.is_zero()).then(|| had.div_duration_f64(wanted).min(1.0))
}

/// One thread's part: warms up with what comes before `timed`, waits for the others, then measures.
fn lap<P: Peer>(
    peer: &P,
    stream: &P::Stream,
    timed: Range<usize>,
    batch: usize,
    barrier: &Barrier,
) -> Result<Lap, Error> {
    let mut scratch = P::Scratch::default();
    decide(peer, &mut scratch, stream, 0..timed.start, batch);
    let before = process::involuntary_switches()?;
    barrier.wait();
    let on_processor = process::time_on_processor();
    let started = Instant::now();
    let allowed = decide(peer, &mut scratch, stream, timed, batch);
    let ended = Instant::now();
    let on_processor =
        process::time_on_processor().zip(on_processor).map(|(after, before)| after.saturating_sub(before));
    let switches = process::involuntary_switches()?.saturating_sub(before);
    Ok(Lap { started, ended, allowed, switches, on_processor })
}

/// Decides a part of a stream; how many passed.
pub(super) fn decide<P: Peer>(
    peer: &P,
    scratch: &mut P::Scratch,
    stream: &P::Stream,
    range: Range<usize>,
    batch: usize,
) -> usize {
    if batch > 1 {
        return decide_batches(peer, scratch, stream, range, batch);
    }
    let mut allowed = 0;
    for position in range {
        allowed += usize::from(peer.check(scratch, stream.at(position)));
    }
    allowed
}

fn decide_batches<P: Peer>(
    peer: &P,
    scratch: &mut P::Scratch,
    stream: &P::Stream,
    range: Range<usize>,
    batch: usize,
) -> usize {
    let mut keys: Vec<&KeyOf<P>> = Vec::with_capacity(batch);
    let mut allowed = 0;
    for start in range.clone().step_by(batch) {
        keys.clear();
        keys.extend((start..range.end.min(start + batch)).map(|position| stream.at(position)));
        allowed += peer.check_many(scratch, &keys);
    }
    allowed
}
