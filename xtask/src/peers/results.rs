//! All samples, and what follows from them.

use super::plan::{Contender, Scenario};
use super::sample::Sample;

/// The least, the median and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of some numbers; of an even count, the median is halfway between the two in the middle.
    pub(super) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let (first, last) = (*numbers.first()?, *numbers.last()?);
        let median = f64::midpoint(numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
        Some(Self { min: first, median, max: last })
    }
}

/// The samples of each limiter in each scenario, by round.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Row>);

#[derive(Debug)]
struct Row {
    scenario: String,
    contender: &'static str,
    samples: Vec<Sample>,
}

impl Results {
    pub(super) fn add(&mut self, scenario: &Scenario, contender: Contender, sample: Sample) {
        let scenario = scenario.title();
        let known = |row: &&mut Row| row.scenario == scenario && row.contender == contender.name;
        match self.0.iter_mut().find(known) {
            Some(row) => row.samples.push(sample),
            None => self.0.push(Row { scenario, contender: contender.name, samples: vec![sample] }),
        }
    }

    fn samples(&self, scenario: &Scenario, contender: &str) -> &[Sample] {
        let title = scenario.title();
        self.0
            .iter()
            .find(|row| row.scenario == title && row.contender == contender)
            .map_or(&[], |row| row.samples.as_slice())
    }

    /// A number of one limiter in each round.
    pub(super) fn numbers(
        &self,
        scenario: &Scenario,
        contender: &str,
        number: &str,
    ) -> impl Iterator<Item = f64> {
        self.samples(scenario, contender).iter().filter_map(move |sample| sample.get(number))
    }

    /// A number of one limiter over all rounds.
    pub(super) fn spread(&self, scenario: &Scenario, contender: &str, number: &str) -> Option<Spread> {
        Spread::of(self.numbers(scenario, contender, number))
    }

    /// How many times the number of `above` is that of `below`, each round by itself.
    pub(super) fn ratio(
        &self,
        scenario: &Scenario,
        number: &str,
        above: &str,
        below: &str,
    ) -> Option<Spread> {
        let pairs = self.samples(scenario, above).iter().zip(self.samples(scenario, below));
        Spread::of(pairs.filter_map(|(above, below)| Some(above.get(number)? / below.get(number)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Options;
    use super::super::plan;
    use super::*;

    #[test]
    fn spreads_know_their_middle() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let scenarios = plan::scenarios(&Options::parse(&["--quick"]).unwrap());
        let scenario = &scenarios[0];
        let (governor, other) = (scenario.contenders[1], scenario.contenders[2]);
        let mut results = Results::default();
        // A machine that was busy in the second round changes no ratio.
        for (theirs, ours) in [(100.0, 50.0), (1_000.0, 500.0), (90.0, 30.0)] {
            results.add(scenario, governor, Sample::of("ns", theirs));
            results.add(scenario, other, Sample::of("ns", ours));
        }
        let ratio = results.ratio(scenario, "ns", governor.name, other.name).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 2.0, 3.0));
    }
}
