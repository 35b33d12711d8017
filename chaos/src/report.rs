//! What came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Event;
use crate::load::{HOT, Record, Source};
use crate::nodes::{BURST, RATE_S};

/// A decision later than this is none.
const IN_TIME: Duration = Duration::from_millis(50);

/// How many decisions in ten thousand must be good.
const GOOD_WANTED: f64 = 9_999.0;

pub(crate) struct Report {
    faults: Vec<FaultReport>,
    asked: usize,
    decided: usize,
    good: usize,
    late: usize,
    shared: usize,
    /// How much more than the rate gives was admitted of the key that was worst, and how much may have been.
    worst: f64,
    bound: f64,
    /// The same if nothing had gone wrong.
    promised: f64,
    denied_wrongly: usize,
    alive: (usize, usize),
}

struct FaultReport {
    name: &'static str,
    at: Duration,
    lasted: Duration,
    /// How long after the fault began the first decision was made without the store, if any was …
    noticed: Option<Duration>,
    /// … and after it was mended, or began where there is nothing to mend, the last.
    back: Option<Duration>,
    alone: usize,
    /// Whether the store decided again before the next fault.
    is_back: bool,
}

impl Report {
    pub(crate) fn new(events: &[Event], records: &[Record], alive: (usize, usize)) -> Self {
        let is_alone = |record: &&Record| record.source != Source::Shared;
        let faults = events.iter().enumerate().map(|(index, event)| {
            let end = records.last().map_or(Duration::ZERO, |record| record.due);
            let until = events.get(index + 1).map_or(end, |next| next.began);
            let own: Vec<&Record> = records
                .iter()
                .filter(|record| (event.began..until).contains(&record.due))
                .filter(is_alone)
                .collect();
            FaultReport {
                name: event.fault.name(),
                at: event.began,
                lasted: event.mended.saturating_sub(event.began),
                noticed: own.first().map(|record| (record.due + record.took).saturating_sub(event.began)),
                back: own.iter().map(|record| record.due.saturating_sub(event.mended)).max(),
                alone: own.len(),
                is_back: is_back(records, event.mended, until),
            }
        });
        let faults: Vec<FaultReport> = faults.collect();
        let count = |is: &dyn Fn(&Record) -> bool| records.iter().filter(|record| is(record)).count();
        let decided = |record: &Record| record.source != Source::Nobody;

        // A bucket's bound on any interval is one on the level of a bucket that leaks at the rate.
        let mut levels: BTreeMap<u32, (f64, Duration, f64)> = BTreeMap::new();
        for record in records.iter().filter(|record| record.allowed) {
            let at = record.due + record.took;
            let (level, since, most) = levels.entry(record.key).or_insert((0.0, at, 0.0));
            let leaked = at.saturating_sub(*since).as_secs_f64() * f64::from(RATE_S);
            *level = (*level - leaked).max(0.0) + 1.0;
            *since = at;
            *most = most.max(*level);
        }
        let worst = levels.values().map(|(_, _, most)| *most).fold(0.0, f64::max);
        // What was forgotten may be admitted again, and what nodes hand out alone comes on top: their shares of a burst in each
        // outage, and of the rate as long as it lasts.
        let burst = f64::from(BURST);
        let mut bound = burst;
        for (event, fault) in events.iter().zip(&faults) {
            bound += if event.fault.loses_state() { burst } else { 0.0 };
            if fault.alone > 0 {
                let alone = fault.lasted + fault.back.unwrap_or_default();
                bound += burst + alone.as_secs_f64() * f64::from(RATE_S);
            }
        }
        Self {
            asked: records.len(),
            decided: count(&decided),
            good: count(&|record| decided(record) && record.took <= IN_TIME),
            late: count(&|record| record.took > IN_TIME),
            shared: count(&|record| record.source == Source::Shared),
            worst,
            bound,
            promised: burst,
            denied_wrongly: count(&|record| decided(record) && !record.allowed && record.key >= HOT),
            alive,
            faults,
        }
    }

    fn of_asked(&self, count: usize) -> f64 {
        // Far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let share = count as f64 / self.asked.max(1) as f64;
        share
    }

    pub(crate) fn passes(&self) -> bool {
        self.alive.0 == self.alive.1
            && self.faults.iter().all(|fault| fault.is_back)
            && self.worst <= self.bound
            && self.denied_wrongly == 0
            && self.of_asked(self.decided) * 10_000.0 >= GOOD_WANTED
    }
}

/// Whether the store decided again before the next fault: nearly everything in the last two seconds, as on a busy machine a
/// deadline is missed now and then. Where the fault was mended later than that, nothing can be said.
fn is_back(records: &[Record], mended: Duration, until: Duration) -> bool {
    let from = until.saturating_sub(Duration::from_secs(2));
    let last = || records.iter().filter(|record| (from..until).contains(&record.due));
    let alone = last().filter(|record| record.source != Source::Shared).count();
    from < mended || alone * 5 <= last().count()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |length: Option<Duration>| {
            length.map_or_else(|| "–".to_owned(), |length| format!("{:.2} s", length.as_secs_f64()))
        };
        writeln!(
            f,
            "\n{:>7}  {:<24} {:>7} {:>9} {:>9} {:>7}",
            "at", "what went wrong", "lasted", "noticed", "back", "alone"
        )?;
        for fault in &self.faults {
            writeln!(
                f,
                "{:>5.0} s  {:<24} {:>7} {:>9} {:>9} {:>7}",
                fault.at.as_secs_f64(),
                fault.name,
                seconds(Some(fault.lasted)),
                seconds(fault.noticed),
                if fault.is_back { seconds(fault.back) } else { "NOT BACK".to_owned() },
                fault.alone,
            )?;
        }
        let percent = |count| 100.0 * self.of_asked(count);
        writeln!(f, "\nasked                {}", self.asked)?;
        writeln!(f, "decided              {:.4} %", percent(self.decided))?;
        writeln!(f, "… within 50 ms       {:.4} % ({} later)", percent(self.good), self.late)?;
        writeln!(f, "… by the store       {:.2} %", percent(self.shared))?;
        writeln!(
            f,
            "worst admission      {:.0} above the rate; {:.0} may be without any fault, {:.0} with these",
            self.worst, self.promised, self.bound
        )?;
        writeln!(f, "denied wrongly       {}", self.denied_wrongly)?;
        writeln!(f, "nodes alive          {} of {}", self.alive.0, self.alive.1)?;
        writeln!(f, "{}", if self.passes() { "passed" } else { "FAILED" })
    }
}
