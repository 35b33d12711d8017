//! What the program decides by, from the files that are named.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tollgate::{Config, DescriptorRules, KeySeed, LimitadorLimits, LoadError, Problems};

use crate::cli::{count, fail, stderr_has_colour};

/// The largest file of rules.
pub(crate) const RULE_BYTES_MAX: u64 = 16 << 20;

/// What a server decides by.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// For people.
    pub(crate) name: String,
    pub(crate) config: Config,
    /// The names and texts of files of rules for descriptors, if those were named in place of a policy file.
    pub(crate) rules: Vec<(String, String)>,
    /// The text of a limits file of Limitador's, if one was named in place of a policy file.
    pub(crate) limits: Option<String>,
}

/// Why files cannot be used.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something in them is wrong.
    Problems(Vec<Problems>),
    /// They cannot be read, or are not what was expected.
    Other(String),
}

impl Failure {
    /// Says why, and gives the exit code for it.
    pub(crate) fn show(&self) -> ExitCode {
        let Self::Problems(wrong) = self else { return fail(self) };
        for problems in wrong {
            let _ = writeln!(io::stderr().lock(), "{}\n", problems.render(stderr_has_colour()));
        }
        if let [one] = wrong.as_slice() {
            return fail(format_args!("{} has {}", one.file(), count(one.len(), "problem")));
        }
        let found = wrong.iter().map(Problems::len).sum();
        fail(format_args!("{} in {}", count(found, "problem"), count(wrong.len(), "file")))
    }
}

/// All of it, without colour.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problems(wrong) => {
                for (index, problems) in wrong.iter().enumerate() {
                    write!(f, "{}{problems}", if index == 0 { "" } else { "\n\n" })?;
                }
                Ok(())
            }
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Problems(vec![problems])
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Problems(problems) => problems.into(),
            error => Self::Other(error.to_string()),
        }
    }
}

impl Loaded {
    /// What a path names: a policy file, or files of rules for descriptors; without one, the example.
    pub(crate) fn from(path: Option<&Path>, merges: bool) -> Result<Self, Failure> {
        let rules = match path {
            Some(path) if path.is_dir() => Some(rule_files(path)?),
            Some(path) => rule_file(path).map(|text| vec![(path.display().to_string(), text)]),
            None => None,
        };
        let limits = path.and_then(limits_file);
        let (true, Some(path)) = (rules.is_some() || limits.is_some(), path) else {
            let (name, config) = policies(path)?;
            return Ok(Self { name, config, rules: Vec::new(), limits: None });
        };
        let (name, rules) = (path.display().to_string(), rules.unwrap_or_default());
        // No policies beside the rules.
        let mut config = Config::example();
        config.policies.clear();
        let loaded = Self { name, config, rules, limits };
        // Whatever the seed: what is wrong is to be said now.
        let seed = KeySeed::new([0; 16]);
        loaded.rules(merges, seed)?;
        loaded.limits(seed)?;
        Ok(loaded)
    }

    /// Whether it is a policy file, and not one of another system's.
    pub(crate) fn is_of_policies(&self) -> bool {
        self.rules.is_empty() && self.limits.is_none()
    }

    /// The limits of Limitador's file, if there is one.
    pub(crate) fn limits(&self, seed: KeySeed) -> Result<Option<LimitadorLimits>, Failure> {
        let parsed = self.limits.as_ref().map(|text| LimitadorLimits::parse(&self.name, text, seed));
        Ok(parsed.transpose()?)
    }

    /// The rules for descriptors, if there are any.
    pub(crate) fn rules(&self, merges: bool, seed: KeySeed) -> Result<Option<DescriptorRules>, Failure> {
        if self.rules.is_empty() {
            return Ok(None);
        }
        let files: Vec<(&str, &str)> =
            self.rules.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        DescriptorRules::parse(&files, merges, seed).map(Some).map_err(Failure::Problems)
    }
}

/// The policies of a file, or of the example where none is named, with a name for them.
pub(crate) fn policies(path: Option<&Path>) -> Result<(String, Config), Failure> {
    match path {
        Some(path) => Ok((path.display().to_string(), Config::load(path)?)),
        None => Ok(("built-in example".to_owned(), Config::example())),
    }
}

/// The text of a file, if it is one of rules for descriptors. What cannot be read is a matter of who reads policy files.
pub(crate) fn rule_file(path: &Path) -> Option<String> {
    small_file(path).filter(|text| DescriptorRules::are_in(text))
}

/// The text of a file, if it is a limits file of Limitador's.
pub(crate) fn limits_file(path: &Path) -> Option<String> {
    // The head of a table in TOML may look like a list.
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    small_file(path).filter(|text| !is_toml && LimitadorLimits::are_in(text))
}

fn small_file(path: &Path) -> Option<String> {
    let is_small = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= RULE_BYTES_MAX);
    is_small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The YAML files of a directory, by name. All of them are rules for descriptors.
fn rule_files(directory: &Path) -> Result<Vec<(String, String)>, Failure> {
    let unread = |error| Failure::Other(format!("cannot read {}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !is_yaml || !path.is_file() {
            continue;
        }
        let Some(text) = rule_file(&path) else {
            return Err(Failure::Other(format!(
                "{} has no `domain:`; all files of a directory are rules for descriptors, and a policy file is named by itself",
                path.display()
            )));
        };
        files.push((path.display().to_string(), text));
    }
    if files.is_empty() {
        return Err(Failure::Other(format!("there is no .yaml or .yml file in {}", directory.display())));
    }
    files.sort();
    Ok(files)
}
