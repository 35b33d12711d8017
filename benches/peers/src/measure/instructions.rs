//! A loop whose instructions can be counted from outside.

use super::throughput::decide;
use super::{heading, share, steady};
use crate::arguments::Arguments;
use crate::error::Error;
use crate::line::Line;
use crate::peers::Peer;
use crate::workload::streams;

/// The longest stream: what goes beyond repeats it. So a run with more operations differs from one with fewer in its
/// decisions only, not in what comes before them.
const STREAM: usize = 1 << 16;

/// Decides, and does not look at any clock.
pub(super) fn run<P: Peer>(arguments: &Arguments) -> Result<Line, Error> {
    let length = arguments.operations.min(STREAM);
    let streams = streams::<P::Stream>(arguments, length);
    let peer = steady::<P>(arguments)?;
    let mut scratch = P::Scratch::default();
    let (mut rest, mut allowed) = (arguments.operations, 0);
    while rest > 0 {
        let part = rest.min(length);
        for stream in &streams {
            allowed += decide(&peer, &mut scratch, stream, 0..part, arguments.batch);
        }
        rest -= part;
    }
    Ok(heading(arguments).decimal("allowed", share(allowed as u64, arguments.operations as u64)))
}
