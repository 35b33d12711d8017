//! Calls of the scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, Script, Value};
use tollgate_core::{Answer, KeyHash, Limit, State, Timestamp};

use super::batch::{Batch, Reply};
use super::link::{Link, told};
use super::wire::MICRO;
use crate::store::StoreError;

/// One server, and what is needed to ask it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) link: Arc<Link>,
    prefix: String,
    decide: Script,
    swap: Script,
    /// The time that scripts are told, in nanoseconds; 0 if they read the server's.
    told_time: AtomicU64,
}

/// What a key is to hold in place of something else, and for how many milliseconds.
#[derive(Debug)]
pub(super) struct Swap {
    pub(super) key: KeyHash,
    /// Nothing if it is to be free.
    pub(super) from: Option<Vec<u8>>,
    pub(super) to: Option<(Vec<u8>, u64)>,
}

impl Caller {
    pub(super) fn new(link: Arc<Link>, prefix: String) -> Self {
        Self {
            link,
            prefix,
            decide: Script::new(include_str!("decide.lua")),
            swap: Script::new(include_str!("swap.lua")),
            told_time: AtomicU64::new(0),
        }
    }

    /// From now on it is this time.
    pub(super) fn tell(&self, now: Timestamp) {
        // Relaxed: whoever tells the time is the only one to ask.
        self.told_time.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// For how many milliseconds a state is worth remembering; `None` if it is as new.
    pub(super) fn lasting(&self, limit: &Limit, state: &State, now: Timestamp) -> Option<u64> {
        /// In case the clock is set back; and where the time is told, as the server's own says nothing then. As in the
        /// script.
        const MORE: [u64; 2] = [1_000, 600_000];

        let more = MORE[usize::from(self.told_time.load(Ordering::Relaxed) > 0)];
        let vacant_at = limit.vacant_at(state);
        (vacant_at > now).then(|| vacant_at.since(now).as_nanos().div_ceil(MICRO * 1_000) + more)
    }

    /// The name of a key: the prefix, and the hash in hexadecimal.
    pub(super) fn name(&self, key: KeyHash) -> String {
        format!("{}{:032x}", self.prefix, key.0)
    }

    /// Decides all requests of a batch.
    pub(super) async fn decide(&self, batch: &Batch) -> Result<Vec<Answer>, StoreError> {
        batch.answers(&self.ask(batch).await?)
    }

    /// Runs the deciding script; a batch without requests only reads.
    pub(super) async fn ask(&self, batch: &Batch) -> Result<Reply, StoreError> {
        let (rules, requests) = batch.pack();
        let names: Vec<String> = batch.keys().map(|key| self.name(key)).collect();
        let now = match self.told_time.load(Ordering::Relaxed) {
            0 => String::new(),
            nanos => (nanos / MICRO).to_string(),
        };
        let arguments: [&[u8]; 3] = [now.as_bytes(), &rules, &requests];
        Reply::read(self.run(&self.decide, include_str!("decide.lua"), &names, &arguments).await?)
    }

    /// Changes what keys hold, all or none. Returns whether they still held what they had to.
    pub(super) async fn swap(&self, swaps: &[Swap]) -> Result<bool, StoreError> {
        let names: Vec<String> = swaps.iter().map(|swap| self.name(swap.key)).collect();
        let lengths: Vec<String> =
            swaps.iter().map(|swap| swap.to.as_ref().map_or(0, |(_, millis)| *millis).to_string()).collect();
        let mut arguments: Vec<&[u8]> = Vec::new();
        for (swap, length) in swaps.iter().zip(&lengths) {
            arguments.push(swap.from.as_deref().unwrap_or_default());
            arguments.push(swap.to.as_ref().map_or(&[], |(value, _)| value.as_slice()));
            arguments.push(length.as_bytes());
        }
        let done = self.run(&self.swap, include_str!("swap.lua"), &names, &arguments).await?;
        Ok(matches!(done, Value::Int(1)))
    }

    /// Writes a key that means nothing, for a second.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}probe", self.prefix)).arg(1).arg("PX").arg(1_000);
        self.link.call(&command).await.map(drop).map_err(|error| told(&error))
    }

    /// What all nodes agree on under a name: what the first of them proposed.
    pub(super) async fn agree(&self, name: &str, proposal: &str) -> Result<String, StoreError> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(
                "redis.call('SET', KEYS[1], ARGV[1], 'NX') redis.call('EXPIRE', KEYS[1], 315360000) \
                 return redis.call('GET', KEYS[1])",
            )
            .arg(1)
            .arg(format!("{}{name}", self.prefix))
            .arg(proposal);
        match self.link.call(&command).await {
            Ok(Value::BulkString(agreed)) => Ok(String::from_utf8_lossy(&agreed).into_owned()),
            Ok(_) => {
                Err(StoreError::Defect(format!("{}{name} holds something that is no text", self.prefix)))
            }
            Err(error) => Err(told(&error)),
        }
    }

    /// Forgets keys.
    pub(super) async fn forget(&self, keys: &[KeyHash]) -> Result<(), StoreError> {
        let mut command = redis::cmd("UNLINK");
        for key in keys {
            command.arg(self.name(*key));
        }
        self.link.call(&command).await.map(drop).map_err(|error| told(&error))
    }

    /// Runs a script by its hash, and by its text where the server does not have it: then it was not run, so that it is run
    /// at most once.
    async fn run(
        &self,
        script: &Script,
        text: &str,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let command = |name: &str, script: &str| -> Cmd {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys);
            for argument in arguments {
                command.arg(*argument);
            }
            command
        };
        match self.link.call(&command("EVALSHA", script.get_hash())).await {
            Err(error) if error.code() == Some("NOSCRIPT") => self.link.call(&command("EVAL", text)).await,
            result => result,
        }
        .map_err(|error| told(&error))
    }
}
