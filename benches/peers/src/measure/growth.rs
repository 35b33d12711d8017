//! How long a decision may take because a limiter grows.

use hdrhistogram::Histogram;

use super::heading;
use super::timer::{Timer, histogram};
use crate::arguments::Arguments;
use crate::error::Error;
use crate::line::Line;
use crate::peers::Peer;
use crate::process;
use crate::setup::Setup;
use crate::workload::KeyStream;

/// What counts as long, in nanoseconds.
const LONG: u64 = 100_000;

/// The times of decisions on new keys, and which of the long ones the system may have had a part in.
struct Waits {
    ticks: Histogram<u64>,
    timer: Timer,
    /// From this many ticks on, it is worth asking the system.
    suspicious: u64,
    /// How often the thread was taken off its processor, as far as known.
    switches: u64,
    long: u64,
    long_undisturbed: u64,
    longest_undisturbed_ticks: u64,
}

/// Inserts every key into a limiter that starts empty, and times each insertion.
pub(super) fn run<P: Peer>(arguments: &Arguments) -> Result<Line, Error> {
    /// How many insertions may pass before the system is asked whether it interrupted one.
    const LOOK_EVERY: u32 = 1_024;
    let mut key = P::Stream::with_capacity(1);
    let mut scratch = P::Scratch::default();
    let mut waits = Waits::new()?;
    let peer = P::new(&Setup::new(arguments, P::Stream::KEYED))?;
    let before = waits.switches;
    for index in 0..arguments.keys {
        key.clear();
        key.push(index);
        let started = waits.timer.ticks();
        peer.check(&mut scratch, key.at(0));
        let ended = waits.timer.ticks();
        waits.record(ended.saturating_sub(started))?;
        if index % LOOK_EVERY == 0 {
            waits.was_interrupted()?;
        }
    }
    Ok(waits.told(heading(arguments), before))
}

impl Waits {
    fn new() -> Result<Self, Error> {
        /// In nanoseconds: less than what the system's interruptions take, and more than nearly every decision.
        const SUSPICIOUS: u64 = 20_000;
        let timer = Timer::new();
        Ok(Self {
            ticks: histogram()?,
            suspicious: ticks_of(&timer, SUSPICIOUS),
            switches: process::involuntary_switches()?,
            long: 0,
            long_undisturbed: 0,
            longest_undisturbed_ticks: 0,
            timer,
        })
    }

    fn record(&mut self, ticks: u64) -> Result<(), Error> {
        self.ticks.saturating_record(ticks);
        let suspicious = ticks >= self.suspicious;
        let long = u64::from(suspicious && self.timer.nanos(ticks) > LONG);
        self.long += long;
        if !suspicious || !self.was_interrupted()? {
            self.long_undisturbed += long;
            self.longest_undisturbed_ticks = self.longest_undisturbed_ticks.max(ticks);
        }
        Ok(())
    }

    /// Whether the thread was taken off its processor since this was last asked.
    fn was_interrupted(&mut self) -> Result<bool, Error> {
        let switches = process::involuntary_switches()?;
        Ok(std::mem::replace(&mut self.switches, switches) != switches)
    }

    fn told(&self, heading: Line, switches_before: u64) -> Line {
        let nanos = |quantile: f64| self.timer.nanos(self.ticks.value_at_quantile(quantile));
        heading
            .whole("p50", nanos(0.5))
            .whole("p99", nanos(0.99))
            .whole("p9999", nanos(0.9999))
            .whole("max", self.timer.nanos(self.ticks.max()))
            .whole("max_undisturbed", self.timer.nanos(self.longest_undisturbed_ticks))
            .whole("long", self.long)
            .whole("long_undisturbed", self.long_undisturbed)
            .decimal("timer", self.timer.own_cost())
            .whole("switches", self.switches.saturating_sub(switches_before))
    }
}

/// How many ticks make so many nanoseconds.
fn ticks_of(timer: &Timer, nanos: u64) -> u64 {
    const SPAN: u64 = 1 << 30;
    let span_nanos = timer.nanos(SPAN).max(1);
    u64::try_from(u128::from(nanos) * u128::from(SPAN) / u128::from(span_nanos)).unwrap_or(u64::MAX)
}
