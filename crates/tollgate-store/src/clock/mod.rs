//! The time of this machine.
//!
//! * [`trust`]: whether the processor's counter can be believed.
//! * [`discipline`]: how the counter is held to the true time.
//! * [`timeline`]: the same for many threads at once.

mod discipline;
// They walk through hours by the microsecond, for which Miri would need days.
#[cfg(all(test, not(miri)))]
mod tests;
mod timeline;
mod trust;

use std::fmt;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use tollgate_core::{Clock, Nanos, Timestamp};

use self::timeline::{Hardware, Timeline, rarely};
use crate::machine::cpu;

/// What a [`SystemClock`] reads to know how much time has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClockSource {
    /// The counter where it can be believed, the monotonic clock everywhere else.
    #[default]
    Auto,
    /// The time-stamp counter of an x86-64 processor under Linux, held to the monotonic clock.
    Counter,
    /// The monotonic clock of the operating system, each time: [`Instant`].
    Monotonic,
}

/// Writes the source as one word: `auto`, `counter`, `monotonic`.
impl fmt::Display for ClockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Counter => "counter",
            Self::Monotonic => "monotonic",
        })
    }
}

/// Why the processor's counter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// There is no counter that this program can read: it is not on x86-64 under Linux.
    #[error("the processor's counter is only read on x86-64 under Linux: choose `auto` or `monotonic`")]
    NoCounter,
    /// The kernel keeps its own time by something else, which is named.
    #[error(
        "the kernel keeps its time by `{0}`, not by the processor's counter (`tsc`): choose `auto` or `monotonic`; or, \
         where the counter is known to be sound, let the kernel use it (`clocksource=tsc` when it boots, or `tsc` \
         written to {path})",
        path = trust::KERNELS_CHOICE
    )]
    KernelDoubts(String),
    /// The kernel does not say by what it keeps its time: the reason why its answer could not be read.
    #[error(
        "whether the kernel trusts the processor's counter cannot be read from {path} ({0}): choose `auto` or \
         `monotonic`",
        path = trust::KERNELS_CHOICE
    )]
    KernelUnknown(String),
    /// The processor does not promise that its counter runs at one pace.
    #[error(
        "the counter of this processor changes its pace with the power that it is given: choose `auto` or `monotonic`"
    )]
    Unsteady,
}

/// The time of day as it was when the clock was made, carried on by a clock that never goes backwards.
///
/// When the machine's time of day is set, this clock keeps its own course, so that nobody gains or loses budget.
/// Windows stay aligned to the time of day as it was at the start. Like the monotonic clock of the system, it may stand
/// still while the machine sleeps.
///
/// ```
/// use tollgate_core::Clock;
/// use tollgate_store::{ClockSource, SystemClock};
///
/// let clock = SystemClock::new();
/// assert!(clock.now() <= clock.now());
///
/// let clock = SystemClock::with_source(ClockSource::Monotonic)?;
/// assert_eq!(clock.source(), ClockSource::Monotonic);
/// # Ok::<(), tollgate_store::ClockError>(())
/// ```
///
/// # Where it reads the time
/// Asking the system for the time first waits for all memory that was asked for. A store with millions of keys feels
/// that, for its decisions could otherwise overlap. Where an x86-64 processor under Linux has a time-stamp counter that
/// the kernel keeps its own time by, this clock reads that counter itself, and does not wait: in a loop that takes 11
/// ns instead of 33, and among accesses to distant memory 50 ns instead of 200. Everywhere else it asks the system
/// ([`Instant`]), also on aarch64, whose counter cannot be read without risk on all processors.
/// [`with_source`](Self::with_source) lets you choose, and [`source`](Self::source) says what is in use.
///
/// The counter carries the time for a tenth of a second at most; then it is compared with the monotonic clock, and led
/// back to it by running up to 500 ppm faster or slower. After that tenth it is not believed: a counter that leapt, or
/// changed its pace, is measured anew while the monotonic clock is read, and one that does so again and again is given
/// up for that clock.
///
/// # How exact it is
/// By the counter, the time is within a microsecond of the monotonic clock's (0.2 µs was the most in minutes on a busy
/// virtual machine), and within about 50 µs while that clock is steered as hard as the kernel does it (500 ppm). It
/// does not go backwards for a thread when the counter is compared. What remains is the processor's own doing:
///
/// * It may read the counter some tens of nanoseconds earlier than the program says, and the counters of its cores need
///   not be quite equal. A time that one thread hands to another may be that much ahead of what the other reads.
/// * Should the counter itself leap, forwards or backwards, the time may be wrong by a tenth of a second for as long, and
///   go back by as much.
///
/// Limits bear both: a time that steps back grants nothing.
///
/// # What it costs
/// A clock may be made at any time, and copied. The first one of a process reads one file of the kernel
/// (`/sys/devices/system/clocksource/clocksource0/current_clocksource`), which takes about 50 µs; all that read the
/// counter share what is known about it. Nothing waits: the counter is measured while the first millisecond passes, and
/// until then the monotonic clock is read.
#[derive(Clone, Copy)]
pub struct SystemClock(Carrier);

/// What carries the time on from the start.
#[derive(Clone, Copy)]
enum Carrier {
    Counter {
        timeline: &'static Timeline<Machine>,
        /// The time of day at which the timeline began, as far as it was known when the clock was made.
        origin: Timestamp,
    },
    Monotonic {
        started: Instant,
        started_at: Timestamp,
    },
}

impl SystemClock {
    /// A clock that starts now and reads the best source there is: [`ClockSource::Auto`].
    pub fn new() -> Self {
        trusted_timeline().map_or_else(|_| Self::monotonic(), Self::counting)
    }

    /// A clock that starts now and reads this source.
    ///
    /// # Errors
    /// [`ClockSource::Counter`] where the counter cannot be believed: why, and what to do.
    pub fn with_source(source: ClockSource) -> Result<Self, ClockError> {
        match source {
            ClockSource::Auto => Ok(Self::new()),
            ClockSource::Counter => trusted_timeline().map(Self::counting).map_err(Clone::clone),
            ClockSource::Monotonic => Ok(Self::monotonic()),
        }
    }

    /// The source in use: [`Counter`](ClockSource::Counter) or [`Monotonic`](ClockSource::Monotonic). It can change from
    /// the one to the other when the counter is given up.
    pub fn source(&self) -> ClockSource {
        match self.0 {
            Carrier::Counter { timeline, .. } if !timeline.is_retired() => ClockSource::Counter,
            Carrier::Counter { .. } | Carrier::Monotonic { .. } => ClockSource::Monotonic,
        }
    }

    fn counting(timeline: &'static Timeline<Machine>) -> Self {
        let origin = time_of_day().saturating_sub(Nanos::new(timeline.nanos()));
        Self(Carrier::Counter { timeline, origin })
    }

    fn monotonic() -> Self {
        Self(Carrier::Monotonic { started: Instant::now(), started_at: time_of_day() })
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Timestamp {
        match self.0 {
            Carrier::Counter { timeline, origin } => {
                let (nanos, is_too_late) = origin.as_nanos().overflowing_add(timeline.nanos());
                Timestamp::from_nanos(if is_too_late { rarely(u64::MAX) } else { nanos })
            }
            Carrier::Monotonic { started, started_at } => started_at.saturating_add(elapsed(started)),
        }
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemClock").field("source", &self.source()).finish_non_exhaustive()
    }
}

/// Not inlined: its registers and its stack would be a burden to a clock that reads the counter.
#[inline(never)]
fn elapsed(started: Instant) -> Nanos {
    Nanos::from(started.elapsed())
}

fn time_of_day() -> Timestamp {
    // A machine whose time of day lies before 1970 counts from 1970.
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(Nanos::from(since_epoch).as_nanos())
}

/// The timeline of this process, if the counter can be believed.
fn trusted_timeline() -> Result<&'static Timeline<Machine>, &'static ClockError> {
    static TIMELINE: OnceLock<Result<Timeline<Machine>, ClockError>> = OnceLock::new();
    TIMELINE
        .get_or_init(|| {
            trust::counter_is_trusted()?;
            Ok(Timeline::new(Machine { origin: Instant::now() }))
        })
        .as_ref()
}

/// This machine: the processor's counter, and the monotonic clock.
#[derive(Debug)]
struct Machine {
    origin: Instant,
}

impl Hardware for Machine {
    #[inline]
    fn counter(&self) -> u64 {
        cpu::counter()
    }

    fn nanos(&self) -> u64 {
        Nanos::from(self.origin.elapsed()).as_nanos()
    }
}
