//! How busy the processor is.

use std::fs;
use std::io;

use tollgate_core::Level;

use super::{Health, Thresholds};

const STAT: &str = "/proc/stat";

/// The share of all processors' time that was spent on work since the last sample: from 0 to 1.
///
/// It is the machine's, as the kernel tells in `/proc/stat`, whether or not a container may use all of it. Time that a
/// hypervisor gave to others counts as busy.
#[derive(Debug)]
pub struct Cpu {
    thresholds: Thresholds,
    last: Times,
    level: Level,
}

/// Why it cannot be known.
#[derive(Debug, thiserror::Error)]
#[error("how busy the processor is cannot be read from {STAT}, which only Linux has")]
pub struct CpuError(#[source] io::Error);

/// Ticks of the kernel's clock since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    busy: u64,
    all: u64,
}

impl Cpu {
    /// By these thresholds; 0.9 stands for ninety percent.
    ///
    /// # Errors
    /// Where there is no `/proc/stat`: anywhere but on Linux.
    pub fn new(thresholds: Thresholds) -> Result<Self, CpuError> {
        let last = Times::read().map_err(CpuError)?;
        Ok(Self { thresholds, last, level: Level::Good })
    }
}

impl Health for Cpu {
    fn level(&mut self) -> Level {
        // A reading that fails once is none; the next one covers its time too.
        if let Ok(now) = Times::read()
            && now.all > self.last.all
        {
            self.level = self.thresholds.level(now.busy_since(self.last), self.level);
            self.last = now;
        }
        self.level
    }
}

impl Times {
    fn read() -> io::Result<Self> {
        Self::parse(&fs::read_to_string(STAT)?).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// The first line is `cpu user nice system idle iowait irq softirq steal guest guest_nice`; user and nice contain guest and
    /// guest_nice (proc_stat(5)).
    fn parse(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
        let mut ticks = [0_u64; 8];
        for (slot, number) in ticks.iter_mut().zip(numbers.split_ascii_whitespace()) {
            *slot = number.parse().ok()?;
        }
        let all = ticks.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        let idle = ticks[3].saturating_add(ticks[4]);
        (all > 0).then_some(Self { busy: all.saturating_sub(idle), all })
    }

    // Ticks of a second or so.
    #[allow(clippy::cast_precision_loss)]
    fn busy_since(self, then: Self) -> f64 {
        self.busy.saturating_sub(then.busy) as f64 / self.all.saturating_sub(then.all).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_work_since_the_last_reading() {
        let then = Times::parse("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!(then, Times { busy: 200, all: 1_000 });
        let now = Times::parse("cpu  175 0 100 720 105 0 0 0 60 0\n").unwrap();
        assert!((now.busy_since(then) - 0.75).abs() < 1e-9);
        for wrong in ["", "cpu", "cpu  a b", "intr 1 2 3", "cpu  0 0 0 0"] {
            assert_eq!(Times::parse(wrong), None, "{wrong}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_known_on_linux() {
        let mut cpu = Cpu::new(Thresholds::new(1.5, 2.0).unwrap()).unwrap();
        assert_eq!(cpu.level(), Level::Good, "no processor is busier than busy");
    }
}
