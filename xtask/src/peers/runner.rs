//! Running the program that measures.

use std::fs::File;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::plan::{Contender, Mode, Scenario};
use super::refused;
use super::sample::Sample;
use crate::chores::{ChoreError, root};

/// The program, built.
pub(super) struct Runner {
    program: PathBuf,
    /// Every line that it printed: what the tables leave out.
    log: Mutex<File>,
    valgrind: bool,
}

/// Of the decisions that are to pass or to be denied, at least this share must be.
const CERTAIN: f64 = 0.99;

impl Runner {
    pub(super) fn build() -> Result<Self, ChoreError> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let target = root().join(target).join("peers");
        build(&target)?;
        let log = target.join("measurements.jsonl");
        let log = File::create(&log).map_err(|error| ChoreError::Io(log.display().to_string(), error))?;
        let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
        Ok(Self {
            program: target.join("release/peers"),
            log: Mutex::new(log),
            valgrind: valgrind.is_ok_and(|status| status.success()),
        })
    }

    /// One measurement; `None` if what it takes is not installed.
    pub(super) fn run(
        &self,
        scenario: &Scenario,
        contender: Contender,
        round: usize,
    ) -> Result<Option<Sample>, ChoreError> {
        if scenario.mode == Mode::Instructions {
            return if self.valgrind { self.count(scenario, contender).map(Some) } else { Ok(None) };
        }
        let arguments = arguments(scenario, contender, scenario.operations, round);
        self.measure(Command::new(&self.program).args(&arguments), scenario, &arguments)
            .map(|(sample, _)| Some(sample))
    }

    /// The instructions of a decision: what a long run takes more than a short one.
    fn count(&self, scenario: &Scenario, contender: Contender) -> Result<Sample, ChoreError> {
        // Whole streams of what the program repeats.
        const SHORT: usize = 1 << 16;
        const LONG: usize = 5 << 16;
        let count = |operations| {
            let arguments = arguments(scenario, contender, operations, 1);
            let mut command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&self.program);
            let (_, told) = self.measure(command.args(&arguments), scenario, &arguments)?;
            collected(&told).ok_or_else(|| refused("valgrind did not say how many instructions it collected"))
        };
        let (short, long) = (count(SHORT)?, count(LONG)?);
        // Numbers for people.
        #[allow(clippy::cast_precision_loss)]
        let each = long.saturating_sub(short) as f64 / (LONG - SHORT) as f64;
        Ok(Sample::of("instructions", each))
    }

    /// What the program measured, and what was said on standard error.
    fn measure(
        &self,
        command: &mut Command,
        scenario: &Scenario,
        arguments: &[String],
    ) -> Result<(Sample, String), ChoreError> {
        let shown = format!("peers {}", arguments.join(" "));
        let output = command.output().map_err(|error| ChoreError::Io(shown.clone(), error))?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            // What it said is of no use if it cannot be shown.
            let _ = stderr().write_all(&output.stderr);
            return Err(ChoreError::Failed(shown));
        }
        let line = String::from_utf8_lossy(&output.stdout);
        self.keep(&line)?;
        let sample =
            Sample::parse(&line).ok_or_else(|| refused(&format!("`{shown}` printed no result: {line}")))?;
        believable(scenario, &sample).map_err(|problem| refused(&format!("`{shown}`: {problem}")))?;
        Ok((sample, told))
    }

    fn keep(&self, line: &str) -> Result<(), ChoreError> {
        let mut log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        log.write_all(line.as_bytes())
            .map_err(|error| ChoreError::Io("the log of measurements".to_owned(), error))
    }
}

fn build(target: &Path) -> Result<(), ChoreError> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let shown = "cargo build --release --manifest-path benches/peers/Cargo.toml";
    eprintln!("$ {shown}");
    let status = Command::new(program)
        .args(shown.split(' ').skip(1))
        .arg("--target-dir")
        .arg(target)
        .current_dir(root())
        .status()
        .map_err(|error| ChoreError::Io(shown.to_owned(), error))?;
    if status.success() { Ok(()) } else { Err(ChoreError::Failed(shown.to_owned())) }
}

/// The arguments of one measurement. Each round has streams of its own, which are the same for all limiters.
fn arguments(scenario: &Scenario, contender: Contender, operations: usize, round: usize) -> Vec<String> {
    let mut arguments = vec![contender.peer.to_owned()];
    let mut set = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    set("--mode", scenario.mode.name().to_owned());
    set("--keys", scenario.keys.to_string());
    set("--distribution", scenario.distribution.to_owned());
    set("--threads", scenario.threads.to_string());
    set("--outcome", scenario.outcome.to_owned());
    set("--operations", operations.to_string());
    set("--batch", contender.batch.to_string());
    set("--seed", round.to_string());
    arguments
}

/// Whether the limiter did what the scenario is about.
fn believable(scenario: &Scenario, sample: &Sample) -> Result<(), String> {
    let Some(allowed) = sample.get("allowed") else { return Ok(()) };
    let (share, what) = match scenario.outcome {
        "denied" => (1.0 - allowed, "denied"),
        _ => (allowed, "allowed"),
    };
    if share > CERTAIN {
        Ok(())
    } else {
        Err(format!("of its decisions, {:.2} % were {what} instead of all", share * 100.0))
    }
}

/// The number of instructions in what callgrind says at its end.
fn collected(told: &str) -> Option<u64> {
    told.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected :")?;
        count.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::options::Options;
    use super::super::plan;
    use super::*;

    #[test]
    fn finds_the_count_of_instructions() {
        let told = "==7== Events    : Ir\n==7== Collected : 83268933\n==7== \n";
        assert_eq!(collected(told), Some(83_268_933));
        assert_eq!(collected("==7== error"), None);
    }

    #[test]
    fn unwanted_outcomes_are_not_believed() {
        let scenarios = plan::scenarios(&Options::parse(&["--quick"]).unwrap());
        for scenario in scenarios {
            let (good, bad) = if scenario.outcome == "allowed" { (0.999, 0.98) } else { (0.001, 0.02) };
            assert!(believable(&scenario, &Sample::of("allowed", good)).is_ok());
            assert!(believable(&scenario, &Sample::of("allowed", bad)).is_err());
        }
    }
}
