//! What `cargo xtask bench peers` is told.

use super::plan;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask bench peers [OPTIONS]

Options:
  --quick         One round with few keys and few decisions, to see that everything runs
  --rounds <N>    How often everything is measured [5]
  --keys <N,…>    How many keys; the first number is measured in all scenarios [1000000,10000000]
  --only <NAME,…> Only these limiters, and what they are compared with
";

/// What is measured, and how often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) quick: bool,
    pub(super) rounds: usize,
    pub(super) keys: Vec<u32>,
    pub(super) only: Option<Vec<String>>,
}

impl Options {
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let quick = words.contains(&"--quick");
        let mut options = Self {
            quick,
            rounds: if quick { 1 } else { 5 },
            keys: if quick { vec![10_000] } else { vec![1_000_000, 10_000_000] },
            only: None,
        };
        let mut words = words.iter().filter(|word| **word != "--quick");
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{option}` is an option without a value"));
            match *option {
                "--rounds" => options.rounds = rounds(value()?)?,
                "--keys" => options.keys = value()?.split(',').map(keys).collect::<Result<_, _>>()?,
                "--only" => options.only = Some(value()?.split(',').map(name).collect::<Result<_, _>>()?),
                _ => return Err(format!("there is no option `{option}`")),
            }
        }
        Ok(options)
    }

    /// Whether a limiter is to be measured for its own sake.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted == name))
    }

    /// The command that does the same again.
    pub(super) fn command(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        format!("cargo xtask bench peers --rounds {} --keys {}", self.rounds, keys.join(","))
    }
}

fn rounds(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(rounds @ 1..=1_000) => Ok(rounds),
        _ => Err(format!("`--rounds {value}`: it is a whole number from 1 to 1000")),
    }
}

fn keys(value: &str) -> Result<u32, String> {
    match value.replace('_', "").parse() {
        // With fewer keys, one of them would spend even the burst that nothing is to spend.
        Ok(keys) if keys >= 1_000 => Ok(keys),
        _ => Err(format!("`--keys {value}`: whole numbers from 1000 on, with commas between them")),
    }
}

fn name(value: &str) -> Result<String, String> {
    if plan::names().any(|name| name == value) {
        return Ok(value.to_owned());
    }
    let names: Vec<&str> = plan::names().collect();
    Err(format!("there is no limiter `{value}`; there are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn reads_what_it_is_told() {
        let options =
            Options::parse(&["--rounds", "3", "--keys", "5000,1_000_000", "--only", "tollgate"]).unwrap();
        assert_eq!((options.rounds, options.keys.as_slice()), (3, [5_000, 1_000_000].as_slice()));
        assert!(options.wants("tollgate") && !options.wants("governor"));
        assert_eq!(Options::parse(&["--quick"]).unwrap().rounds, 1);
        assert_eq!(Options::parse(&["--rounds", "2", "--quick"]).unwrap().rounds, 2);
    }

    #[test]
    fn says_what_is_wrong() {
        for (words, part) in [
            (&["--rounds"][..], "without a value"),
            (&["--rounds", "0"], "from 1 to 1000"),
            (&["--keys", "12,x"], "from 1000 on"),
            (&["--only", "nobody"], "no limiter `nobody`"),
            (&["--slow"], "no option `--slow`"),
        ] {
            let problem = Options::parse(words).unwrap_err();
            assert!(problem.contains(part), "{words:?}: {problem}");
        }
    }
}
