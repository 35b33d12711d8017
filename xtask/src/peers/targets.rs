//! What Tollgate aims at, and whether it is there.

use super::format::{Table, grouped, number, time, times};
use super::plan::{Part, Scenario};
use super::results::{Results, Spread};
use super::tables::Section;

/// How a number is compared with its aim, and written.
#[derive(Clone, Copy)]
enum Aim {
    /// At least so many times as fast.
    Times(f64),
    /// At most so many times the cost.
    Cost(f64),
    /// At most so many bytes.
    Bytes(f64),
    /// At most so many nanoseconds.
    Nanos(f64),
}

impl Aim {
    fn met(self, value: f64) -> bool {
        match self {
            Self::Times(least) => value >= least,
            Self::Cost(most) | Self::Bytes(most) | Self::Nanos(most) => value <= most,
        }
    }

    fn write(self, value: f64) -> String {
        match self {
            Self::Times(_) | Self::Cost(_) => times(value),
            Self::Bytes(_) => number(value),
            Self::Nanos(_) => time(value),
        }
    }

    fn told(self) -> String {
        match self {
            Self::Times(least) => format!("≥ {}", times(least)),
            Self::Cost(most) => format!("≤ {}", times(most)),
            Self::Bytes(most) => format!("≤ {}", number(most)),
            Self::Nanos(most) => format!("≤ {}", time(most)),
        }
    }
}

/// Where the numbers are found.
struct Judge<'a> {
    scenarios: &'a [Scenario],
    results: &'a Results,
    table: Table,
}

const INTRODUCTION: &str = "\
Judged by the median of the rounds; beside it, the least and the greatest. Ratios are taken within a round. What a run did not
measure is marked with a dash.";

/// The section that judges.
pub(super) fn section(scenarios: &[Scenario], results: &Results) -> Section {
    let head = ["aim", "wanted", "measured", "min … max", "met"];
    let mut judge = Judge { scenarios, results, table: Table::new("Met or not", &head) };
    judge.speed();
    judge.rules();
    judge.memory_and_waits();
    Section { heading: "Aims", introduction: INTRODUCTION, tables: vec![judge.table] }
}

const MILLION: u32 = 1_000_000;
const TEN_MILLION: u32 = 10_000_000;

impl Judge<'_> {
    fn speed(&mut self) {
        for (keys, distribution, threads, limiter, least) in [
            (MILLION, "uniform", 1, "tollgate", 3.5),
            (MILLION, "zipf", 1, "tollgate", 3.0),
            (MILLION, "zipf", 2, "tollgate", 3.0),
            (TEN_MILLION, "uniform", 1, "tollgate", 4.5),
            (TEN_MILLION, "zipf", 2, "tollgate", 3.0),
            (MILLION, "uniform", 1, "tollgate-batch-16", 8.0),
            (MILLION, "zipf", 1, "tollgate-batch-16", 8.0),
        ] {
            let ratio = self.ratio((Part::Keyed, keys, distribution, threads), "governor", limiter);
            let keys = grouped(keys.into());
            let what =
                format!("`{limiter}` against `governor`: {keys} keys, {distribution}, threads: {threads}");
            self.judge(what, Aim::Times(least), ratio);
        }
        for threads in [1, 2] {
            let ratio =
                self.ratio((Part::Direct, 1, "uniform", threads), "governor-direct", "tollgate-direct");
            let what = format!("`tollgate-direct` against `governor-direct`, threads: {threads}");
            self.judge(what, Aim::Times(1.0), ratio);
        }
    }

    fn rules(&mut self) {
        for (part, rule, base, most) in [
            (Part::Together, "tollgate-store-three", "tollgate-store-one", 3.0),
            (Part::Rules, "tollgate-fixed-window", "tollgate", 1.5),
            (Part::Rules, "tollgate-sliding-window", "tollgate", 1.5),
        ] {
            for distribution in ["uniform", "zipf"] {
                let ratio = self.ratio((part, MILLION, distribution, 1), rule, base);
                let what = format!("`{rule}` against `{base}`: 1,000,000 keys, {distribution}");
                self.judge(what, Aim::Cost(most), ratio);
            }
        }
    }

    fn memory_and_waits(&mut self) {
        let bytes = self.spread((Part::Memory, TEN_MILLION, "uniform", 1), "bytes");
        self.judge("bytes a key: 10,000,000 keys".to_owned(), Aim::Bytes(36.0), bytes);
        for keys in [MILLION, TEN_MILLION] {
            let p99 = self.spread((Part::Latency, keys, "zipf", 2), "p99");
            let what = format!("99 % of single decisions: {} keys, zipf, threads: 2", grouped(keys.into()));
            self.judge(what, Aim::Nanos(1_000.0), p99);
        }
        for (number, share) in
            [("p9999", "99.99 % of decisions"), ("max_undisturbed", "longest undisturbed decision")]
        {
            let wait = self.spread((Part::Growth, TEN_MILLION, "uniform", 1), number);
            self.judge(format!("{share} while 10,000,000 keys pour in"), Aim::Nanos(100_000.0), wait);
        }
    }

    fn judge(&mut self, what: String, aim: Aim, measured: Option<Spread>) {
        let dash = || "–".to_owned();
        let range = |spread: Spread| format!("{} … {}", aim.write(spread.min), aim.write(spread.max));
        let met = |spread: Spread| if aim.met(spread.median) { "yes" } else { "**no**" }.to_owned();
        self.table.rows.push(vec![
            what,
            aim.told(),
            measured.map_or_else(dash, |spread| aim.write(spread.median)),
            measured.map_or_else(dash, range),
            measured.map_or_else(dash, met),
        ]);
    }

    /// How many times the time of `above` is that of `below`.
    fn ratio(&self, place: Place, above: &str, below: &str) -> Option<Spread> {
        self.results.ratio(self.scenario(place)?, "ns", above, below)
    }

    /// A number of Tollgate's.
    fn spread(&self, place: Place, number: &str) -> Option<Spread> {
        self.results.spread(self.scenario(place)?, "tollgate", number)
    }

    /// The scenario in which most passes, if several differ in that alone.
    fn scenario(&self, (part, keys, distribution, threads): Place) -> Option<&Scenario> {
        self.scenarios.iter().find(|scenario| {
            scenario.part == part
                && scenario.keys == keys
                && scenario.distribution == distribution
                && scenario.threads == threads
        })
    }
}

/// A part, and how many keys, how often each, and how many threads.
type Place = (Part, u32, &'static str, usize);

#[cfg(test)]
mod tests {
    use super::super::options::Options;
    use super::super::plan;
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn judges_by_the_median() {
        let scenarios = plan::scenarios(&Options::parse(&["--keys", "1000000"]).unwrap());
        let scenario = &scenarios[0];
        let named = |name: &str| *scenario.contenders.iter().find(|one| one.name == name).unwrap();
        let mut results = Results::default();
        for tollgate in [100.0, 101.0, 900.0] {
            results.add(scenario, named("governor"), Sample::of("ns", 400.0));
            results.add(scenario, named("tollgate"), Sample::of("ns", tollgate));
        }
        let section = section(&scenarios, &results);
        let rows = &section.tables[0].rows;
        assert_eq!(rows[0][1..], ["≥ 3.50×", "3.96×", "0.44× … 4.00×", "yes"]);
        // Nothing is said of what was not measured.
        assert_eq!(rows[3][2..], ["–", "–", "–"]);
    }
}
