//! The lines of a [`Discipline`] as all threads read them.
//!
//! A reader takes no lock and waits for nobody. It loads the line between two looks at a sequence number, which is odd
//! while a line is being written and differs once another one was. Where that fails, or the counter has left the line,
//! the first reader to notice lays the next one under a lock; whoever finds that lock taken reads the true time instead.
//!
//! Why no thread ever sees the time go backwards: a line gives at most its [`end`](Line::end), and the next begins no
//! lower; what is given besides lines is entered into `floor` before it is given, and no line gives less than that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, TryLockError};

use super::discipline::{Discipline, Line, Sample};

/// A counter that costs little to read, and a time that is true.
pub(super) trait Hardware {
    /// The ticks counted.
    fn counter(&self) -> u64;
    /// The true time: nanoseconds since some start. Never goes backwards.
    fn nanos(&self) -> u64;
}

/// The time by a counter that is held to the true time.
#[derive(Debug)]
pub(super) struct Timeline<H> {
    published: Published,
    hardware: H,
    discipline: Mutex<Discipline>,
    /// Whether there will never be a line again.
    retired: AtomicBool,
}

/// What readers load: together in one line of the cache.
#[derive(Debug)]
#[repr(align(64))]
struct Published {
    /// Odd while the four below are being written.
    sequence: AtomicU64,
    start: AtomicU64,
    nanos: AtomicU64,
    rate: AtomicU64,
    ticks: AtomicU64,
    /// No time below this may be given any more.
    floor: AtomicU64,
}

impl Published {
    /// No line.
    fn new(start: u64) -> Self {
        Self {
            sequence: AtomicU64::new(0),
            start: AtomicU64::new(start),
            nanos: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            floor: AtomicU64::new(0),
        }
    }

    /// The line as it is now; none while it is being changed.
    #[inline]
    fn line(&self) -> Option<Line> {
        let sequence = self.sequence.load(Ordering::Acquire);
        // Relaxed: they are used only if the sequence says that they belong together. The fence keeps them before the
        // second look at it.
        let line = Line {
            start: self.start.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
            rate: self.rate.load(Ordering::Relaxed),
            ticks: self.ticks.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        // An odd number is never equal to the even one below it, because it only grows: one comparison says both.
        (self.sequence.load(Ordering::Relaxed) == sequence & !1).then_some(line)
    }

    /// Puts another line in place; one caller at a time.
    fn publish(&self, line: &Line) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        // Release: whoever sees that a line is being written sees the floor that was set before. The fence keeps the
        // line after it.
        self.sequence.store(sequence.wrapping_add(1), Ordering::Release);
        fence(Ordering::Release);
        self.start.store(line.start, Ordering::Relaxed);
        self.nanos.store(line.nanos, Ordering::Relaxed);
        self.rate.store(line.rate, Ordering::Relaxed);
        self.ticks.store(line.ticks, Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// This time, or the floor where it is below that.
    #[inline]
    fn floored(&self, nanos: u64) -> u64 {
        // Relaxed: a thread sees at least what it entered itself, or what it was told of.
        let floor = self.floor.load(Ordering::Relaxed);
        if nanos < floor { rarely(floor) } else { nanos }
    }
}

/// The same. Out of the way, so that choosing between this and something else is a branch that is foretold, and not
/// an instruction that waits for both.
#[cold]
#[inline(never)]
pub(super) const fn rarely(nanos: u64) -> u64 {
    nanos
}

impl<H: Hardware> Timeline<H> {
    /// A timeline that is still to measure its counter: for the first millisecond it reads the true time.
    pub(super) fn new(hardware: H) -> Self {
        let discipline = Discipline::new(sample(&hardware));
        let published = Published::new(discipline.line().start);
        Self { published, hardware, discipline: Mutex::new(discipline), retired: AtomicBool::new(false) }
    }

    /// Nanoseconds since the start of the hardware's true time.
    #[inline]
    pub(super) fn nanos(&self) -> u64 {
        let counter = self.hardware.counter();
        match self.published.line().and_then(|line| line.at(counter)) {
            Some(nanos) => self.published.floored(nanos),
            None => self.nanos_off_the_line(),
        }
    }

    /// Whether the counter was given up, and each reading is one of the true time.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// [`nanos`](Self::nanos) where the line has ended, or there is none.
    #[cold]
    #[inline(never)]
    fn nanos_off_the_line(&self) -> u64 {
        let retired = self.is_retired();
        if !retired {
            self.renew();
        }
        let end = if let Some(line) = self.published.line() {
            // Read again: a thread may rest for long between two readings.
            if let Some(nanos) = line.near(self.hardware.counter()) {
                return self.published.floored(nanos);
            }
            line.end()
        } else {
            // The end of the former line is in the floor by now. The fence lets it be seen.
            fence(Ordering::Acquire);
            0
        };
        let nanos = self.hardware.nanos().max(end);
        if !retired && self.published.floor.load(Ordering::Relaxed) < nanos {
            // Once there are no more lines, the true time needs no floor to go forwards.
            self.published.floor.fetch_max(nanos, Ordering::Relaxed);
        }
        self.published.floored(nanos)
    }

    /// Lays the next line, unless another thread is at it.
    ///
    /// Nobody waits for the one that is: it may have been interrupted, or, in the child of a `fork`, not exist.
    fn renew(&self) {
        let mut discipline = match self.discipline.try_lock() {
            Ok(discipline) => discipline,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let line = discipline.line();
        if line.near(self.hardware.counter()).is_some() {
            // Another thread was faster.
            return;
        }
        self.published.floor.fetch_max(line.end(), Ordering::Relaxed);
        if discipline.observe(sample(&self.hardware)) {
            self.published.publish(discipline.line());
        }
        self.retired.store(discipline.is_retired(), Ordering::Relaxed);
    }
}

/// The narrowest of a few samples: any may be interrupted.
fn sample(hardware: &impl Hardware) -> Sample {
    let take = || {
        let counter = hardware.counter();
        let nanos = hardware.nanos();
        Sample { counter, nanos, width: hardware.counter().wrapping_sub(counter) }
    };
    let (first, second, third) = (take(), take(), take());
    let best = if second.width < first.width { second } else { first };
    if third.width < best.width { third } else { best }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A counter that all threads share, and that each reading moves on: so each is later than all before it.
    #[derive(Debug, Default)]
    struct Crowd {
        counter: AtomicU64,
        /// How often the true time was read.
        asked: AtomicU64,
    }

    impl Crowd {
        fn pass(&self, ticks: u64) -> u64 {
            self.counter.fetch_add(ticks, Ordering::Relaxed)
        }

        /// The true time: the counter runs at 2 ticks a nanosecond, and 200 ppm faster every other 70 ms: no multiple
        /// of a line's length, so that lines end ahead of it and behind.
        fn time(counter: u64) -> u64 {
            const HALF: u64 = 140_000_000;
            const SLOW: u64 = 70_000_000;
            const FAST: u64 = SLOW - 14_000;
            let (halves, rest) = (counter / HALF, counter % HALF);
            let whole = halves / 2 * (SLOW + FAST);
            if halves.is_multiple_of(2) { whole + rest / 2 } else { whole + SLOW + rest * FAST / HALF }
        }

        /// How far the clock is from the true time.
        fn error(&self, timeline: &Timeline<&Self>) -> u64 {
            timeline.nanos().abs_diff(Self::time(self.counter.load(Ordering::Relaxed)))
        }
    }

    impl Hardware for &Crowd {
        fn counter(&self) -> u64 {
            self.pass(100)
        }

        fn nanos(&self) -> u64 {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Crowd::time(self.pass(100))
        }
    }

    #[test]
    fn no_thread_sees_the_time_go_backwards() {
        let (threads, reads, rest) = if cfg!(miri) { (3, 400, 50_000) } else { (8, 400_000, 4_000) };
        let crowd = Crowd::default();
        let timeline = Timeline::new(&crowd);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut last = 0;
                    for _ in 0..reads {
                        let nanos = timeline.nanos();
                        assert!(nanos >= last, "{} ns backwards", last - nanos);
                        last = nanos;
                        crowd.pass(rest);
                    }
                });
            }
        });
        assert!(crowd.error(&timeline) < 100_000);
        assert!(!timeline.is_retired());
        assert!(crowd.asked.load(Ordering::Relaxed) < threads * reads, "there were no lines");
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many readings for it")]
    fn whoever_finds_another_at_work_reads_the_true_time() {
        let crowd = Crowd::default();
        let timeline = Timeline::new(&crowd);
        let mut last = 0;
        let mut read = |times: u64| {
            let asked = crowd.asked.load(Ordering::Relaxed);
            for _ in 0..times {
                crowd.pass(40_000);
                let nanos = timeline.nanos();
                assert!(nanos >= last, "{} ns backwards", last - nanos);
                last = nanos;
            }
            assert!(crowd.error(&timeline) < 100_000);
            crowd.asked.load(Ordering::Relaxed) - asked
        };
        read(10_000);
        // As in the child of a fork, if another thread was laying a line: the lock is taken, and nobody will free it.
        let held = timeline.discipline.lock();
        let asked = read(20_000);
        assert!((15_000..=20_001).contains(&asked), "{asked}");
        drop(held);
        let asked = read(20_000);
        assert!(asked < 100, "{asked}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many readings for it")]
    fn the_true_time_is_not_taken_back_by_the_next_line() {
        let crowd = Crowd::default();
        let timeline = Timeline::new(&crowd);
        let mut last = 0;
        let mut read = || {
            let before = crowd.asked.load(Ordering::Relaxed);
            crowd.pass(2_003);
            let nanos = timeline.nanos();
            assert!(nanos >= last, "{} ns backwards", last - nanos);
            last = nanos;
            crowd.asked.load(Ordering::Relaxed) > before
        };
        for _ in 0..100 {
            // Another thread is at work where the line ends, until this one has read the true time.
            let held = timeline.discipline.lock();
            while !read() {}
            drop(held);
            // The line may have been ahead of it, or behind.
            for _ in 0..1_000 {
                read();
            }
        }
    }

    #[test]
    fn what_a_line_gave_is_in_the_floor_before_another_takes_its_place() {
        let crowd = Crowd::default();
        let timeline = Timeline::new(&crowd);
        let floor = || timeline.published.floor.load(Ordering::Relaxed);
        let mut end = 0;
        for _ in 0..2_000 {
            crowd.pass(100_000);
            timeline.nanos();
            let line = timeline.published.line().unwrap_or_default();
            if line.end() != end {
                assert!(floor() >= end);
                end = line.end();
            }
        }
        assert!(end > 90_000_000);
    }

    // Miri shows it surely; a processor only now and then.
    #[test]
    fn no_reader_holds_parts_of_two_lines() {
        let reads = if cfg!(miri) { 200 } else { 2_000_000 };
        let of = |number: u64| Line { start: number, nanos: number << 8, rate: !number, ticks: number << 16 };
        let published = Published::new(0);
        published.publish(&of(0));
        thread::scope(|scope| {
            let readers = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut last = 0;
                    for line in (0..reads).filter_map(|_| published.line()) {
                        assert_eq!(line, of(line.start));
                        assert!(line.start >= last, "an older line than before");
                        last = line.start;
                    }
                })
            });
            let mut number = 0;
            while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
                number += 1;
                published.publish(&of(number));
            }
        });
    }
}
