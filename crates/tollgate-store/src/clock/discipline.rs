//! How a counter is held to the true time: plain data, driven by pairs of readings.
//!
//! Time as a function of the counter is a chain of straight [`Line`]s. A line is followed for a tenth of a second at
//! most; where it ends, the [`Discipline`] is shown a fresh [`Sample`] and lays the next one so that it begins where the
//! last one stands and meets the true time at its own end. What the counter says after the end of a line is never
//! believed, so no mishap of the counter (a machine that slept, a guest that moved to another host) can carry the time
//! further than that.
//!
//! While the pace of the counter is not known, or no longer believed, there is no line: whoever asks reads the true time.

use std::ops::RangeInclusive;

/// Binary digits behind the point in [`Line::rate`].
const FRACTION: u32 = 32;

/// The true time must have moved this far before a pace is measured by it.
const MEASURE_MIN: u64 = 1_000_000;
/// What lies further back says nothing about the pace of today: the machine may have slept.
const MEASURE_MAX: u64 = 1_000_000_000;
/// The length of the first line, whose pace is known least well; each one after it may be four times as long.
const FIRST_SPAN: u64 = 2_000_000;
/// The length of a line at most. The product of its ticks and its rate then fits 64 bits, whatever the pace.
const LAST_SPAN: u64 = 100_000_000;

/// A sample that took longer than this is none: its two readings do not belong together.
const WIDTH_MAX: u64 = 5_000;
/// A pace is not measured over less than this many times the width of its samples.
const WIDTHS_MIN: u64 = 2_000;
/// A pace that differs from the last one by more than 1/500 (2,000 ppm) is another pace. The kernel steers its clock
/// by 500 ppm either way.
const AGREEMENT: u64 = 500;
/// A line runs at most 1/2,000 (500 ppm) faster or slower than the true time, to meet it again.
const SLEW: u64 = 2_000;
/// An error above this is not worn off but ended.
const ERROR_MAX: i128 = 10_000_000;

/// Nanoseconds per tick that can be: from a counter of 64 GHz to one of 62.5 MHz, whose ticks are still fine enough to
/// measure its pace by.
const RATES: RangeInclusive<u64> = 1 << 26..=1 << 36;

/// A counter that had to be measured anew this often ...
const RESTARTS_MAX: u32 = 16;
/// ... within such a time is given up.
const RESTARTS_WITHIN: u64 = 60_000_000_000;

/// The counter and the true time, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The counter, read just before the true time: a line through both is then never behind that time.
    pub(super) counter: u64,
    /// The true time: nanoseconds since some start.
    pub(super) nanos: u64,
    /// How far the counter went while both were read.
    pub(super) width: u64,
}

/// A straight piece of the way from the counter to the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The counter where it begins.
    pub(super) start: u64,
    /// The time where it begins.
    pub(super) nanos: u64,
    /// Nanoseconds per tick, in units of 2^-32.
    pub(super) rate: u64,
    /// How many ticks it is long. Without any it is no line, and `nanos` is what no later time may be below.
    pub(super) ticks: u64,
}

impl Line {
    /// The time when the counter stands here, if that is on the line.
    #[inline]
    pub(super) fn at(&self, counter: u64) -> Option<u64> {
        // Neither operation wraps for a line that a `Discipline` has laid, but a reader may hold parts of two lines
        // before it notices.
        let ticks = counter.wrapping_sub(self.start);
        (ticks < self.ticks).then(|| self.nanos.wrapping_add(ticks.wrapping_mul(self.rate) >> FRACTION))
    }

    /// As [`at`](Self::at), and where the line begins for a counter that is a little behind it: that of another
    /// processor, or one that was read before the line was there.
    pub(super) fn near(&self, counter: u64) -> Option<u64> {
        let behind = self.start.wrapping_sub(counter);
        self.at(counter).or_else(|| (behind < self.ticks / 8).then_some(self.nanos))
    }

    /// The time at its end: more was never given by it.
    pub(super) fn end(&self) -> u64 {
        self.after(self.ticks)
    }

    /// The time so many ticks after the start, also beyond the end.
    fn after(&self, ticks: u64) -> u64 {
        let nanos = (u128::from(ticks) * u128::from(self.rate)) >> FRACTION;
        self.nanos.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The pace of the counter between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// As in [`Line::rate`].
    Measured(u64),
    /// The samples are too wide, or too close to each other, to tell.
    Vague,
    /// The counter stood still, went backwards, or ran as no counter runs.
    Absurd,
}

impl Pace {
    fn between(earlier: &Sample, later: &Sample) -> Self {
        let ticks = later.counter.wrapping_sub(earlier.counter);
        let Some(nanos) = later.nanos.checked_sub(earlier.nanos) else { return Self::Absurd };
        if ticks == 0 || ticks > u64::MAX / 2 {
            return Self::Absurd;
        }
        let widths = earlier.width.saturating_add(later.width);
        if widths.saturating_mul(WIDTHS_MIN) > ticks {
            return Self::Vague;
        }
        let exact = (u128::from(nanos) << FRACTION) / u128::from(ticks);
        match u64::try_from(exact) {
            Ok(rate) if RATES.contains(&rate) => {
                let vague = (u128::from(widths) * u128::from(rate)) >> FRACTION > u128::from(WIDTH_MAX);
                if vague { Self::Vague } else { Self::Measured(rate) }
            }
            _ => Self::Absurd,
        }
    }
}

/// Lays the lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Discipline {
    line: Line,
    /// The sample from which the next pace is measured.
    reference: Sample,
    /// The pace as last measured; unknown where there is no line.
    rate: u64,
    /// How long the next line will be, in nanoseconds.
    span: u64,
    restarts: u32,
    /// When the restarts began to be counted.
    restarts_from: u64,
    retired: bool,
}

impl Discipline {
    /// Begins to measure.
    pub(super) fn new(first: Sample) -> Self {
        Self {
            line: Line { start: first.counter, ..Line::default() },
            reference: first,
            rate: 0,
            span: FIRST_SPAN,
            restarts: 0,
            restarts_from: first.nanos,
            retired: false,
        }
    }

    /// The line that is to be followed.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Whether the counter surprised too often to be believed again.
    pub(super) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Is shown a sample that was taken while the counter was not on the line. Says whether there is a new line.
    pub(super) fn observe(&mut self, sample: Sample) -> bool {
        if self.retired {
            false
        } else if self.line.ticks == 0 {
            self.measure(sample)
        } else {
            self.follow(sample)
        }
    }

    /// Lays a first line, if the pace is known by now.
    fn measure(&mut self, sample: Sample) -> bool {
        let waited = sample.nanos.saturating_sub(self.reference.nanos);
        if waited > MEASURE_MAX {
            self.reference = sample;
            return false;
        }
        match Pace::between(&self.reference, &sample) {
            // A time that is ahead waits for the true one.
            Pace::Measured(rate) if waited >= MEASURE_MIN && sample.nanos >= self.line.nanos => {
                self.lay(sample, sample.nanos, rate);
                true
            }
            _ => false,
        }
    }

    /// Lays the next line, if the counter still keeps its pace.
    fn follow(&mut self, sample: Sample) -> bool {
        let rate = match Pace::between(&self.reference, &sample) {
            Pace::Measured(rate) if rate.abs_diff(self.rate) <= self.rate / AGREEMENT => rate,
            // Until a better sample comes, the true time is read.
            Pace::Vague => return false,
            Pace::Measured(_) | Pace::Absurd => return self.restart(sample),
        };
        // Soon after its end the line is taken a little further. Later on, nobody can tell whether it was.
        let ticks = sample.counter.wrapping_sub(self.line.start);
        let now = if ticks.saturating_sub(self.line.ticks) <= self.line.ticks / 8 {
            self.line.after(ticks)
        } else {
            sample.nanos
        };
        let now = now.max(self.line.end());
        if (i128::from(sample.nanos) - i128::from(now)).abs() > ERROR_MAX {
            return self.restart(sample);
        }
        self.lay(sample, now, rate);
        true
    }

    /// Lays a line that begins at `now` and meets the true time at its end, if it can.
    fn lay(&mut self, sample: Sample, now: u64, rate: u64) {
        let ticks = (u128::from(self.span) << FRACTION) / u128::from(rate).max(1);
        let error = i128::from(sample.nanos) - i128::from(now);
        let correction = (error << FRACTION) / i128::try_from(ticks).unwrap_or(i128::MAX).max(1);
        let most = i128::from(rate / SLEW);
        let slewed = i128::from(rate) + correction.clamp(-most, most);
        self.line = Line {
            start: sample.counter,
            nanos: now,
            rate: u64::try_from(slewed).unwrap_or(rate),
            ticks: u64::try_from(ticks).unwrap_or(u64::MAX),
        };
        self.reference = sample;
        self.rate = rate;
        self.span = self.span.saturating_mul(4).min(LAST_SPAN);
    }

    /// Ends the line, and begins to measure anew.
    fn restart(&mut self, sample: Sample) -> bool {
        if sample.nanos.saturating_sub(self.restarts_from) > RESTARTS_WITHIN {
            self.restarts = 0;
            self.restarts_from = sample.nanos;
        }
        self.restarts = self.restarts.saturating_add(1);
        self.retired = self.restarts > RESTARTS_MAX;
        self.line = Line { start: sample.counter, nanos: self.line.end(), rate: 0, ticks: 0 };
        self.reference = sample;
        self.span = FIRST_SPAN;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000_000;

    /// A sample of a counter of 2 GHz.
    fn at(nanos: u64) -> Sample {
        Sample { counter: START + 2 * nanos, nanos, width: 60 }
    }

    /// One whose longest line begins at the nanosecond that is given with it.
    fn following() -> (Discipline, u64) {
        let mut discipline = Discipline::new(at(0));
        let mut nanos = MEASURE_MIN;
        while discipline.observe(at(nanos)) && discipline.line.ticks < 2 * LAST_SPAN {
            nanos += discipline.line.ticks / 2;
        }
        assert_eq!(discipline.line, Line { start: START + 2 * nanos, nanos, ..discipline.line });
        (discipline, nanos)
    }

    #[test]
    fn the_next_line_begins_where_the_last_one_stands_and_meets_the_true_time_at_its_end() {
        let (discipline, start) = following();
        for (error, met) in [(0, true), (40_000, true), (-40_000, true), (400_000, false), (-400_000, false)]
        {
            let mut discipline = discipline;
            discipline.line.nanos = start.checked_add_signed(error).unwrap_or_default();
            let last = discipline.line;
            let sample = at(start + LAST_SPAN + 700);
            assert!(discipline.observe(sample));
            let line = discipline.line;
            assert!(line.nanos.abs_diff(last.end() + 700) <= 1);
            // It is a bit steeper or flatter than the counter is fast, by 500 ppm at most.
            let left = line.end().abs_diff(sample.nanos + LAST_SPAN);
            assert_eq!(left <= 1, met, "{left} ns of {error} ns are left");
            assert!(line.rate.abs_diff(discipline.rate) <= discipline.rate / SLEW);
            assert!(met || left.abs_diff(350_000) <= 1, "{left} ns of {error} ns are left");
        }
    }

    #[test]
    fn a_great_error_is_ended_and_not_worn_off() {
        let (discipline, start) = following();
        for error in [-20_000_000, 20_000_000] {
            let mut discipline = discipline;
            discipline.line.nanos = start.checked_add_signed(error).unwrap_or_default();
            let end = discipline.line.end();
            let mut nanos = start + LAST_SPAN;
            assert!(discipline.observe(at(nanos)));
            // There is no line, so the true time is read: but none below what was given.
            assert_eq!((discipline.line.ticks, discipline.line.nanos), (0, end));
            while !discipline.observe(at(nanos)) {
                nanos += 10_000;
            }
            // A clock that was behind is right at once; one that was ahead waited.
            assert_eq!(discipline.line.nanos, nanos);
            assert_eq!(nanos, (start + LAST_SPAN + MEASURE_MIN).max(end));
        }
    }

    #[test]
    fn no_line_begins_below_the_end_of_the_last() {
        let (discipline, start) = following();
        for ahead in [0, 1, 100_000] {
            for tenths in [0, 1, 9, 10, 11, 12, 100, 1_000_000] {
                let mut discipline = discipline;
                discipline.line.nanos += ahead;
                let end = discipline.line.end();
                if discipline.observe(at(start + LAST_SPAN / 10 * tenths)) {
                    assert!(discipline.line.nanos >= end, "{ahead} ns ahead, {tenths} tenths of its length");
                }
            }
        }
    }

    #[test]
    fn what_lies_too_far_back_is_no_measure() {
        let mut discipline = Discipline::new(at(0));
        // The counter went on while the machine slept, and its true time did not.
        let asleep = |nanos| Sample { counter: START + 2 * (nanos + MEASURE_MAX), nanos, width: 60 };
        assert!(!discipline.observe(asleep(MEASURE_MAX + 1)));
        assert!(discipline.observe(asleep(2 * MEASURE_MAX)));
        assert_eq!(discipline.line.rate, 1 << (FRACTION - 1));
    }

    #[test]
    fn a_counter_that_is_a_little_behind_stands_where_the_line_begins() {
        let line = Line { start: 5, nanos: 1_000, rate: 2 << FRACTION, ticks: 80 };
        assert_eq!([5, 6, 84].map(|counter| line.at(counter)), [Some(1_000), Some(1_002), Some(1_158)]);
        assert_eq!([4, 85, u64::MAX, 0].map(|counter| line.at(counter)), [None; 4]);
        let behind = [4, 0, u64::MAX - 3].map(|counter| line.near(counter));
        assert_eq!(behind, [Some(1_000); 3]);
        assert_eq!([85, u64::MAX - 4, u64::MAX / 2].map(|counter| line.near(counter)), [None; 3]);
        assert_eq!(line.end(), 1_160);
    }
}
