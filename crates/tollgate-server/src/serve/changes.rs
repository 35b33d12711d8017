//! What was changed while the server ran: policies that stand in place of the file's, and bans. It can be kept in a file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tollgate::{Ban, Config, Format, KeyHash, KeySeed, Policy, Timestamp};

use super::store::{digits_of, seed_of};
use crate::load::Failure;

/// Changes to what the files say.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Policies that were set, in the order in which they were first.
    set: Vec<Arc<Policy>>,
    /// Names of policies of the file that were taken out.
    removed: BTreeSet<String>,
}

/// The file that changes are kept in.
#[derive(Debug)]
pub(super) struct ChangesFile(PathBuf);

/// What the file holds.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept<'k> {
    version: u32,
    /// What keys are hashed under: bans are known by hashes. It is a secret, and so is the file.
    key_seed: String,
    #[serde(borrow)]
    policies: Vec<&'k RawValue>,
    removed: BTreeSet<String>,
    bans: Vec<KeptBan>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptBan {
    policy: String,
    /// In hexadecimal digits.
    key: String,
    until_unix_ns: u64,
}

/// What a file held when the server was started.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) changes: Changes,
    pub(super) bans: Vec<Ban>,
    pub(super) seed: Option<KeySeed>,
}

impl Changes {
    /// Changes a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        for name in &self.removed {
            config.remove(name);
        }
        for policy in &self.set {
            config.set(Arc::clone(policy));
        }
    }

    pub(super) fn set(&mut self, policy: Policy) {
        self.removed.remove(policy.name());
        let policy = Arc::new(policy);
        match self.set.iter_mut().find(|other| other.name() == policy.name()) {
            Some(place) => *place = policy,
            None => self.set.push(policy),
        }
    }

    /// Takes a policy out, of the file too if it is there.
    pub(super) fn remove(&mut self, name: &str, is_in_file: bool) {
        self.set.retain(|policy| policy.name() != name);
        if is_in_file {
            self.removed.insert(name.to_owned());
        }
    }

    /// Withdraws what was changed of a policy. Returns whether anything was.
    pub(super) fn withdraw(&mut self, name: &str) -> bool {
        let before = self.set.len();
        self.set.retain(|policy| policy.name() != name);
        self.removed.remove(name) || self.set.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// The names of the policies that were set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.set.iter().map(|policy| policy.name())
    }

    pub(super) const fn removed(&self) -> &BTreeSet<String> {
        &self.removed
    }
}

impl ChangesFile {
    /// The file and what it holds; nothing, if it is not there yet.
    pub(super) fn open(path: &Path) -> Result<(Self, Restored), Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "{}: {why}; it is written by the server itself: mend it, or move it away to start without changes",
                path.display()
            ))
        };
        let file = Self(path.to_owned());
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((file, Restored::default())),
            Err(error) => return Err(wrong(&error)),
        };
        let kept: Kept<'_> = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        if kept.version != 1 {
            return Err(wrong(&format_args!("version {} is not known here", kept.version)));
        }
        let mut changes = Changes { set: Vec::new(), removed: kept.removed };
        for definition in kept.policies {
            let name = serde_json::from_str::<Named>(definition.get()).map_err(|error| wrong(&error))?.name;
            let source = format!("{}, policy {name}", path.display());
            changes.set.push(Policy::parse(&source, definition.get(), Format::Yaml, &name)?.into());
        }
        let ban = |ban: KeptBan| {
            let key = u128::from_str_radix(&ban.key, 16).map_err(|error| wrong(&error))?;
            Ok(Ban::new(ban.policy, KeyHash(key), Timestamp::from_nanos(ban.until_unix_ns)))
        };
        let bans = kept.bans.into_iter().map(ban).collect::<Result<_, Failure>>()?;
        let seed = seed_of(&kept.key_seed).map_err(|error| wrong(&error))?;
        Ok((file, Restored { changes, bans, seed: Some(seed) }))
    }

    /// The same in a directory for state, which may not be there yet.
    pub(super) fn within(directory: &Path) -> Result<(Self, Restored), Failure> {
        let path = directory.join("changes.json");
        if directory.is_dir() { Self::open(&path) } else { Ok((Self(path), Restored::default())) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes it anew, as a whole.
    pub(super) fn save(&self, changes: &Changes, bans: &[Ban], seed: &KeySeed) -> Result<(), String> {
        let policies = changes.set.iter().filter_map(|policy| policy.definition());
        let policies = policies.map(serde_json::from_str).collect::<Result<Vec<&RawValue>, _>>();
        let kept = Kept {
            version: 1,
            key_seed: digits_of(seed),
            policies: policies.map_err(|error| format!("a definition cannot be kept: {error}"))?,
            removed: changes.removed.clone(),
            bans: bans
                .iter()
                .map(|ban| KeptBan {
                    policy: ban.policy.clone(),
                    key: format!("{:032x}", ban.key.0),
                    until_unix_ns: ban.until.as_nanos(),
                })
                .collect(),
        };
        let mut text = serde_json::to_vec_pretty(&kept).map_err(|error| error.to_string())?;
        text.push(b'\n');
        replace(&self.0, &text).map_err(|error| format!("cannot write {}: {error}", self.0.display()))
    }
}

/// Writes a file that only its owner may read, so that it holds all of this or, after a crash, all that it held before.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    // Where a directory cannot be opened as a file, its entries are written when the system likes.
    if let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) {
        directory.sync_all()?;
    }
    Ok(())
}

/// A definition's name.
#[derive(Deserialize)]
struct Named {
    name: String,
}
