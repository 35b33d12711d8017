//! Bytes for each key.

use super::heading;
use crate::arguments::Arguments;
use crate::error::Error;
use crate::line::Line;
use crate::peers::Peer;
use crate::process::Memory;
use crate::setup::Setup;
use crate::workload::KeyStream;

/// What is resident more than before the limiter was made, once it has met every key; and the most that ever was. Keys
/// are made one at a time, so that nothing but the limiter grows.
pub(super) fn run<P: Peer>(arguments: &Arguments) -> Result<Line, Error> {
    let mut key = P::Stream::with_capacity(1);
    let mut scratch = P::Scratch::default();
    let before = Memory::now()?;
    let peer = P::new(&Setup::new(arguments, P::Stream::KEYED))?;
    for index in 0..arguments.keys {
        key.clear();
        key.push(index);
        peer.check(&mut scratch, key.at(0));
    }
    peer.settle();
    let after = Memory::now()?;
    drop(peer);
    let each = |bytes: u64| {
        // A number for people.
        #[allow(clippy::cast_precision_loss)]
        let bytes = bytes.saturating_sub(before.resident) as f64;
        bytes / f64::from(arguments.keys)
    };
    Ok(heading(arguments)
        .decimal("bytes", each(after.resident))
        .decimal("peak_bytes", each(after.peak))
        .whole("peak", after.peak))
}
