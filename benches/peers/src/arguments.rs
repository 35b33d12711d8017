//! What to measure, as the command line says it.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::Error;
use crate::setup::Outcome;
use crate::workload::Distribution;

pub(crate) const USAGE: &str = "\
Measures one rate limiter and prints one line of JSON.

Usage: peers <PEER> [OPTIONS]
       peers --list

Options:
  --mode <MODE>         throughput, latency, memory, growth or instructions [throughput]
  --keys <N>            How many keys [1000000]
  --distribution <D>    How often each key comes: uniform, or zipf (exponent 1) [uniform]
  --threads <N>         How many threads ask at the same time [1]
  --outcome <O>         What becomes of the decisions: allowed or denied [allowed]
  --batch <N>           How many decisions are asked for at once, where a peer can [1]
  --operations <N>      How many decisions each thread asks for [4000000]
  --seed <N>            What the order of the keys is drawn from [1]

`memory` and `growth` insert every key once and take no distribution, batch or operations; `growth` and `instructions`
take one thread. `instructions` repeats a short stream, for a run under valgrind.
";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Decisions in a second.
    Throughput,
    /// How long single decisions take.
    Latency,
    /// Bytes for each key.
    Memory,
    /// How long single decisions take while new keys pour in.
    Growth,
    /// A loop whose instructions can be counted from outside.
    Instructions,
}

impl Mode {
    /// The name in arguments and results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Growth => "growth",
            Self::Instructions => "instructions",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) peer: String,
    pub(crate) mode: Mode,
    pub(crate) keys: u32,
    pub(crate) distribution: Distribution,
    pub(crate) threads: usize,
    pub(crate) outcome: Outcome,
    pub(crate) batch: usize,
    pub(crate) operations: usize,
    pub(crate) seed: u64,
}

/// What the program is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    List,
    Measure(Arguments),
}

const THREADS_MAX: usize = 256;
const BATCH_MAX: usize = 1_024;

pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, Error> {
    let peer = match words.next().as_deref() {
        None => return Err(Error::Usage("say which peer to measure".to_owned())),
        Some("--help" | "-h") => return Ok(Command::Help),
        Some("--list") => return Ok(Command::List),
        Some(option) if option.starts_with('-') => {
            return Err(Error::Usage(format!("the peer comes first, not `{option}`")));
        }
        Some(peer) => peer.to_owned(),
    };
    let mut arguments = Arguments {
        peer,
        mode: Mode::Throughput,
        keys: 1_000_000,
        distribution: Distribution::Uniform,
        threads: 1,
        outcome: Outcome::Allowed,
        batch: 1,
        operations: 4_000_000,
        seed: 1,
    };
    while let Some(option) = words.next() {
        let value =
            words.next().ok_or_else(|| Error::Usage(format!("`{option}` is an option without a value")))?;
        set(&mut arguments, &option, &value)?;
    }
    consistent(&arguments)?;
    Ok(Command::Measure(arguments))
}

fn set(arguments: &mut Arguments, option: &str, value: &str) -> Result<(), Error> {
    const MODES: [Mode; 5] =
        [Mode::Throughput, Mode::Latency, Mode::Memory, Mode::Growth, Mode::Instructions];
    const DISTRIBUTIONS: [Distribution; 2] = [Distribution::Uniform, Distribution::Zipf];
    const OUTCOMES: [Outcome; 2] = [Outcome::Allowed, Outcome::Denied];
    match option {
        "--mode" => arguments.mode = named(option, value, &MODES, Mode::name)?,
        "--keys" => arguments.keys = number(option, value, 1, u32::MAX)?,
        "--distribution" => {
            arguments.distribution = named(option, value, &DISTRIBUTIONS, Distribution::name)?;
        }
        "--threads" => arguments.threads = number(option, value, 1, THREADS_MAX)?,
        "--outcome" => arguments.outcome = named(option, value, &OUTCOMES, Outcome::name)?,
        "--batch" => arguments.batch = number(option, value, 1, BATCH_MAX)?,
        "--operations" => arguments.operations = number(option, value, 1, usize::MAX / 64)?,
        "--seed" => arguments.seed = number(option, value, 0, u64::MAX)?,
        _ => return Err(Error::Usage(format!("there is no option `{option}`"))),
    }
    Ok(())
}

/// The one of `all` that is called `value`.
fn named<T: Copy>(option: &str, value: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, Error> {
    all.iter().copied().find(|one| name(*one) == value).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        Error::Usage(format!("`{option} {value}`: it is one of {}", names.join(", ")))
    })
}

/// A whole number, in whose digits `_` may make groups.
fn number<T: Copy + FromStr + PartialOrd + Display>(
    option: &str,
    value: &str,
    least: T,
    most: T,
) -> Result<T, Error> {
    match value.replace('_', "").parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(Error::Usage(format!("`{option} {value}`: it is a whole number from {least} to {most}"))),
    }
}

fn consistent(arguments: &Arguments) -> Result<(), Error> {
    let Arguments { mode, batch, threads, operations, .. } = arguments;
    if *batch > 1 && !matches!(mode, Mode::Throughput | Mode::Instructions) {
        return Err(Error::Usage(format!("the mode {} takes no batches", mode.name())));
    }
    if *threads > 1 && matches!(mode, Mode::Memory | Mode::Growth | Mode::Instructions) {
        return Err(Error::Usage(format!("the mode {} takes one thread", mode.name())));
    }
    if batch > operations {
        return Err(Error::Usage("a batch is more than all operations".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Error> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn reads_what_it_is_told() {
        let Ok(Command::Measure(arguments)) = parsed(
            "tollgate --keys 10_000 --distribution zipf --threads 2 --outcome denied --operations 500",
        ) else {
            panic!("it is a measurement")
        };
        assert_eq!((arguments.keys, arguments.threads, arguments.operations), (10_000, 2, 500));
        assert_eq!(arguments.distribution, Distribution::Zipf);
        assert_eq!(arguments.outcome, Outcome::Denied);
    }

    #[test]
    fn says_what_is_wrong() {
        for (line, part) in [
            ("", "which peer"),
            ("--keys 5", "comes first"),
            ("x --keys", "without a value"),
            ("x --keys 0", "from 1 to"),
            ("x --keys many", "whole number"),
            ("x --colour red", "no option `--colour`"),
            ("x --distribution normal", "uniform, zipf"),
            ("x --mode memory --threads 2", "one thread"),
            ("x --mode latency --batch 16", "no batches"),
            ("x --batch 16 --operations 4", "more than all"),
        ] {
            let error = parsed(line).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
