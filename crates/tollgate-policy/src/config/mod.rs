//! Policy files: YAML or TOML, checked as a whole.

mod adaptive;
mod calendar;
mod decode;
mod descriptors;
mod limitador;
mod limits;
mod overrides;
mod policies;
mod sharing;
mod store;
#[cfg(test)]
mod tests;
mod toml;
mod tree;
mod yaml;

use std::path::Path;
use std::sync::Arc;

use tollgate_core::Limit;

use self::decode::Decoder;
use self::tree::{FILE_BYTES_MAX, Node, Value};
use crate::adaptive::{ConcurrencyRules, HealthRules};
use crate::key_part::KeyPart;
use crate::policy::Policy;
use crate::problem::{Problem, Problems};

pub use self::overrides::ENVIRONMENT_PREFIX;
pub use self::store::StoreConfig;

/// The policies that are used where no file is named.
pub const EXAMPLE: &str = include_str!("../../policies/example.yaml");

/// The bits of addresses that are counted together.
const IPV4_PREFIX: u8 = 32;
const IPV6_PREFIX: u8 = 64;

/// What a policy file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.1.
    Toml,
}

impl Format {
    /// The format that a file's name ends in: TOML for `.toml`, YAML for all else.
    pub fn of(path: &Path) -> Self {
        let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if is_toml { Self::Toml } else { Self::Yaml }
    }

    fn parse(self, text: &str) -> Result<Node, Problem> {
        match self {
            Self::Yaml => yaml::parse(text),
            Self::Toml => toml::parse(text),
        }
    }
}

/// The content of a policy file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The policies, in the order of the file. They are shared by all copies of a configuration, and by the one that is
    /// [loaded again](Self::load_again) as far as they have not changed.
    pub policies: Vec<Arc<Policy>>,
    /// Whether every policy only watches.
    pub shadow: bool,
    /// The bits of an IPv4 address that are counted together; 32 by default, each by itself.
    pub ipv4_prefix: u8,
    /// The bits of an IPv6 address that are counted together; 64 by default, what one customer usually has.
    pub ipv6_prefix: u8,
    /// The store that nodes share, if the file says anything of it.
    pub store: StoreConfig,
    /// The services whose health policies may adapt to.
    pub health: Vec<HealthRules>,
    /// The services of which so much may be under way at once.
    pub concurrency: Vec<ConcurrencyRules>,
}

/// Why a policy file could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes; a policy file holds policies, not data")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// The file is not text.
    #[error("{path} is not UTF-8 text: byte {offset} is not part of a character")]
    NotText {
        /// The file.
        path: String,
        /// The first wrong byte.
        offset: usize,
    },
    /// The file holds something that a policy file cannot.
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl Policy {
    /// Reads a policy of this name by itself: what stands under `policies` in a file, of which the name may be left out.
    /// `source` stands for the text in messages. What it says of other policies is not [checked](Config::check).
    ///
    /// # Errors
    /// All that is wrong with the text.
    ///
    /// ```
    /// use tollgate_policy::{Format, Policy};
    ///
    /// let login = Policy::parse("inline", "{ key: ip, limit: 5/minute }", Format::Yaml, "login")?;
    /// assert_eq!((login.name(), login.definition()), ("login", Some(r#"{"name":"login","key":"ip","limit":"5/minute"}"#)));
    /// # Ok::<(), tollgate_policy::Problems>(())
    /// ```
    pub fn parse(source: &str, text: &str, format: Format, name: &str) -> Result<Self, Problems> {
        let failed = |problems| Problems::new(source, text, problems);
        let root = format.parse(text).map_err(|problem| failed(vec![problem]))?;
        let mut decoder = Decoder::default();
        match policies::decode_one(&mut decoder, root, name) {
            Some(policy) if !decoder.has_problems() => Ok(policy),
            _ => Err(failed(decoder.into_problems())),
        }
    }
}

impl Config {
    /// Loads a file, with what the environment sets in place of it (see [`ENVIRONMENT_PREFIX`]).
    ///
    /// # Errors
    /// If the file cannot be read, or anything in it is wrong: all of it is said at once.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::load_in_environment(path, None)
    }

    /// [Loads](Self::load) a file of which most was loaded before: policies whose text says the same are taken over as they
    /// are. The result is the same, in less time.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tollgate_policy::Config;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("policies.yaml");
    /// std::fs::write(&path, "policies:\n- { name: a, key: ip, limit: 1/s }\n- { name: b, key: ip, limit: 1/s }\n")?;
    /// let former = Config::load(&path)?;
    /// std::fs::write(&path, "policies:\n- { name: a, key: ip, limit: 1/s }\n- { name: b, key: ip, limit: 2/s }\n")?;
    /// let config = Config::load_again(&path, &former)?;
    ///
    /// assert!(Arc::ptr_eq(&config.policies[0], &former.policies[0]));
    /// assert_ne!(config.policies[1], former.policies[1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_again(path: &Path, former: &Self) -> Result<Self, LoadError> {
        Self::load_in_environment(path, Some(former))
    }

    fn load_in_environment(path: &Path, former: Option<&Self>) -> Result<Self, LoadError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(ENVIRONMENT_PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        let mut variables: Vec<_> = variables.collect();
        variables.sort();
        Self::load_by(path, &variables, former)
    }

    /// Loads a file with these variables as the environment.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(path: &Path, variables: &[(String, String)]) -> Result<Self, LoadError> {
        Self::load_by(path, variables, None)
    }

    fn load_by(
        path: &Path,
        variables: &[(String, String)],
        former: Option<&Self>,
    ) -> Result<Self, LoadError> {
        let name = path.display().to_string();
        let read_error = |source| LoadError::Read { path: name.clone(), source };
        // Not read whole before it is known to be small: it may be a device without end.
        let mut bytes = Vec::new();
        let limit = FILE_BYTES_MAX as u64 + 1;
        std::io::Read::read_to_end(
            &mut std::io::Read::take(std::fs::File::open(path).map_err(read_error)?, limit),
            &mut bytes,
        )
        .map_err(read_error)?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(LoadError::TooLarge { path: name });
        }
        let text = String::from_utf8(bytes).map_err(|error| LoadError::NotText {
            path: name.clone(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        Ok(Self::parse_by(&name, &text, Format::of(path), variables, former)?)
    }

    /// Reads the text of a policy file. `name` stands for the file in messages.
    ///
    /// # Errors
    /// All that is wrong with the text.
    ///
    /// ```
    /// use tollgate_policy::{Config, Format};
    ///
    /// let text = "policies: [{ name: api, key: ip, limit: 100/minute }]";
    /// let config = Config::parse("inline", text, Format::Yaml, &[])?;
    /// assert_eq!(config.policies[0].name(), "api");
    ///
    /// let wrong = Config::parse("inline", "policies: [{ nam: api }]", Format::Yaml, &[]).unwrap_err();
    /// assert!(wrong.to_string().contains("did you mean `name`?"));
    /// # Ok::<(), tollgate_policy::Problems>(())
    /// ```
    pub fn parse(
        name: &str,
        text: &str,
        format: Format,
        variables: &[(String, String)],
    ) -> Result<Self, Problems> {
        Self::parse_by(name, text, format, variables, None)
    }

    fn parse_by(
        name: &str,
        text: &str,
        format: Format,
        variables: &[(String, String)],
        former: Option<&Self>,
    ) -> Result<Self, Problems> {
        // A byte order mark is no part of the text, for a person who counts columns neither.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let failed = |problems| Problems::new(name, text, problems);
        let mut root = format.parse(text).map_err(|problem| failed(vec![problem]))?;
        let mut decoder = Decoder::default();
        for (variable, value) in variables {
            if let Err(error) = overrides::apply(&mut root, variable, value) {
                decoder.note(Problem::new(0..0, error.to_string()));
            }
        }
        let config = Self::decode(&mut decoder, &root, former);
        match config {
            Some(config) if !decoder.has_problems() => Ok(config),
            _ => Err(failed(decoder.into_problems())),
        }
    }

    /// Whether a text in YAML is meant as a policy file: a map with `policies`.
    pub fn is_in(text: &str) -> bool {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let Ok(Node { value: Value::Map(entries), .. }) = yaml::parse(text) else { return false };
        entries.iter().any(|(name, _)| name.text == "policies")
    }

    /// A single policy, named `default`, that limits every request that has these parts of a key.
    ///
    /// ```
    /// use tollgate_core::{Limit, Quota};
    /// use tollgate_policy::{Config, KeyPart};
    ///
    /// let config = Config::single([KeyPart::Ip], Limit::gcra(Quota::per_minute(100)));
    /// assert_eq!(config.policies[0].key().collect::<Vec<_>>(), ["ip"]);
    /// ```
    #[must_use]
    pub fn single(key: impl IntoIterator<Item = KeyPart>, limit: Limit) -> Self {
        let policies = vec![Arc::new(policies::only(key.into_iter().collect(), limit))];
        Self { policies, ..Self::empty() }
    }

    /// No policies.
    pub(crate) fn empty() -> Self {
        Self {
            policies: Vec::new(),
            shadow: false,
            ipv4_prefix: IPV4_PREFIX,
            ipv6_prefix: IPV6_PREFIX,
            store: StoreConfig::default(),
            health: Vec::new(),
            concurrency: Vec::new(),
        }
    }

    /// Puts a policy in the place of the one of its name, or else after all others.
    ///
    /// ```
    /// use tollgate_policy::{Config, Format, Policy};
    ///
    /// let mut config = Config::example();
    /// config.set(Policy::parse("inline", r#"{"key": "ip", "limit": "5/minute"}"#, Format::Yaml, "signup")?);
    /// config.check()?;
    /// assert_eq!(config.policies.last().map(|policy| policy.name()), Some("signup"));
    /// assert!(config.remove("signup").is_some());
    /// # Ok::<(), tollgate_policy::Problems>(())
    /// ```
    pub fn set(&mut self, policy: impl Into<Arc<Policy>>) {
        let policy = policy.into();
        match self.policies.iter_mut().find(|other| other.name == policy.name) {
            Some(place) => *place = policy,
            None => self.policies.push(policy),
        }
    }

    /// Takes out the policy of this name.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Policy>> {
        let index = self.policies.iter().position(|policy| policy.name == name)?;
        Some(self.policies.remove(index))
    }

    /// Checks what the policies say of each other, after one was set or taken out by a program: that what one replaces is
    /// there, and does not replace it in turn, and that what one adapts to is known. Of what was loaded as a whole this is known.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self) -> Result<(), Problems> {
        let mut decoder = Decoder::default();
        policies::check(&mut decoder, &self.policies, &self.health);
        if decoder.has_problems() {
            return Err(Problems::new("the policies together", "", decoder.into_problems()));
        }
        Ok(())
    }

    /// The policies that ship with Tollgate.
    ///
    /// # Panics
    /// Never: the example is part of the program, and tests load it.
    #[must_use]
    pub fn example() -> Self {
        match Self::parse("example.yaml", EXAMPLE, Format::Yaml, &[]) {
            Ok(config) => config,
            Err(problems) => unreachable!("the example policy is wrong:\n{problems}"),
        }
    }

    fn decode(decoder: &mut Decoder, root: &Node, former: Option<&Self>) -> Option<Self> {
        const KNOWN: [&str; 8] =
            ["version", "policies", "shadow", "ipv4_prefix", "ipv6_prefix", "store", "health", "concurrency"];
        if root.value == Value::Null {
            decoder.hinted(
                &root.span,
                "the file is empty",
                "a policy file starts with `policies:`; `policies: []` limits nothing",
            );
            return None;
        }
        let mut fields = decoder.fields(root, "a map with `policies:`")?;
        if let Some(node) = fields.take("version") {
            decoder.number(node, 1, 1);
        }
        let shadow = fields.take("shadow").and_then(|node| decoder.flag(node)).unwrap_or(false);
        let mut prefix = |name: &str, default: u8, most: u8| {
            let number = fields.take(name).and_then(|node| decoder.number(node, 1, most.into()));
            number.and_then(|number| u8::try_from(number).ok()).unwrap_or(default)
        };
        let (ipv4_prefix, ipv6_prefix) =
            (prefix("ipv4_prefix", IPV4_PREFIX, 32), prefix("ipv6_prefix", IPV6_PREFIX, 128));
        let store = fields.take("store").and_then(|node| store::decode(decoder, node)).unwrap_or_default();
        let health = fields.take("health").map(|node| adaptive::health(decoder, node)).unwrap_or_default();
        let concurrency = fields.take("concurrency");
        let concurrency = concurrency.map(|node| adaptive::concurrency(decoder, node)).unwrap_or_default();
        let policies = if let Some(node) = fields.take("policies") {
            policies::decode(decoder, node, &health, former.map_or(&[], |former| &former.policies))
        } else {
            decoder.hinted(
                &fields.span,
                "there is no `policies:`",
                "list them there; `policies: []` limits nothing",
            );
            Vec::new()
        };
        decoder.finish(fields, &KNOWN);
        Some(Self { policies, shadow, ipv4_prefix, ipv6_prefix, store, health, concurrency })
    }
}
