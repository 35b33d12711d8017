//! What the system knows of this process.

use std::fs;
use std::io;
use std::time::Duration;

use crate::error::Error;

/// How much memory the process has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What is resident now, in bytes.
    pub(crate) resident: u64,
    /// The most that ever was, in bytes.
    pub(crate) peak: u64,
}

impl Memory {
    /// Now.
    pub(crate) fn now() -> Result<Self, Error> {
        let status = read("/proc/self/status")?;
        Ok(Self { resident: kibibytes(&status, "VmRSS:")?, peak: kibibytes(&status, "VmHWM:")? })
    }
}

/// How often the calling thread was taken off its processor against its will.
pub(crate) fn involuntary_switches() -> Result<u64, Error> {
    number(&read("/proc/thread-self/status")?, "nonvoluntary_ctxt_switches:")
}

/// How long the calling thread was on a processor, to within a few milliseconds; nothing where the system does not count
/// it.
pub(crate) fn time_on_processor() -> Option<Duration> {
    let counts = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    counts.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn read(path: &'static str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::System(path, error))
}

fn kibibytes(status: &str, name: &'static str) -> Result<u64, Error> {
    number(status, name).map(|kibibytes| kibibytes * 1_024)
}

/// The number after `name`.
fn number(status: &str, name: &'static str) -> Result<u64, Error> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Error::System(name, io::Error::other("not among what the system says of a process")))
}
