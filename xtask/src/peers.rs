//! `cargo xtask bench peers`: Tollgate's limiter against those of other crates.
//!
//! What measures is a program of its own (`benches/peers`), which is run once for each limiter, scenario and round. This
//! module decides what is run, and makes tables of it. Rounds go through everything before the next one begins, so
//! that whatever else the machine does meets all limiters, and a ratio is taken within a round.

mod format;
mod machine;
mod options;
mod page;
mod plan;
mod results;
mod runner;
mod sample;
mod tables;
mod targets;

use crate::chores::{ChoreError, root};
use options::Options;
use plan::Scenario;
use results::Results;
use runner::Runner;

pub(crate) use options::USAGE;

/// Where the page is written, from the project's root.
const PAGE: &str = "docs/benchmarks.md";

pub(crate) fn bench(words: &[&str]) -> Result<(), ChoreError> {
    let options = Options::parse(words).map_err(|problem| refused(&format!("{problem}\n\n{USAGE}")))?;
    let scenarios = plan::scenarios(&options);
    let runner = Runner::build()?;
    let mut results = Results::default();
    for round in 1..=options.rounds {
        for scenario in scenarios.iter().filter(|scenario| round == 1 || !scenario.mode.once()) {
            measure(&runner, &options, scenario, round, &mut results)?;
        }
    }
    let sections = tables::all(&scenarios, &results);
    for section in &sections {
        println!("{section}");
    }
    if options.quick || options.only.is_some() {
        eprintln!("{PAGE} is left as it is: this was not a whole run");
        return Ok(());
    }
    let page = root().join(PAGE);
    let text = page::text(&options, &sections);
    std::fs::create_dir_all(root().join("docs"))
        .and_then(|()| std::fs::write(&page, text))
        .map_err(|error| ChoreError::Io(PAGE.to_owned(), error))?;
    eprintln!("wrote {PAGE}");
    Ok(())
}

/// Runs each limiter of a scenario once. Each round begins with another one, so that none always follows the same.
fn measure(
    runner: &Runner,
    options: &Options,
    scenario: &Scenario,
    round: usize,
    results: &mut Results,
) -> Result<(), ChoreError> {
    let count = scenario.contenders.len();
    for place in 0..count {
        let contender = scenario.contenders[(place + round - 1) % count];
        eprint!("round {round}/{}  {}  {} … ", options.rounds, scenario.title(), contender.name);
        match runner.run(scenario, contender, round)? {
            Some(sample) => {
                eprintln!("{}", tables::brief(scenario.mode, &sample));
                results.add(scenario, contender, sample);
            }
            None => eprintln!("not counted: valgrind is not installed"),
        }
    }
    Ok(())
}

/// A chore that was refused before it began, or whose result cannot be trusted.
fn refused(reason: &str) -> ChoreError {
    ChoreError::Io("bench peers".to_owned(), std::io::Error::other(reason.to_owned()))
}
