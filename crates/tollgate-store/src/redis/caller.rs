//! Calls of the scripts.

use std::sync::Arc;

use redis::{Cmd, RedisError, Value};
use tollgate_core::{Answer, KeyHash, Source};

use super::link::{Link, told};
use super::wire::{self, pack};
use crate::shared::batch::{Batch, Reply};
use crate::shared::cells::Swap;
use crate::shared::courier::Carrier;
use crate::shared::permits::Wish;
use crate::shared::{HeardTime, ToldTime};
use crate::store::StoreError;

/// A script, and the hash by which a server that has it is asked to run it.
#[derive(Debug)]
struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// One server, and what is needed to ask it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) link: Arc<Link>,
    prefix: String,
    decide: Script,
    swap: Script,
    permits: Script,
    told_time: Arc<ToldTime>,
    heard_time: HeardTime,
}

/// Why a call did nothing, or nothing that is known.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// Another server has the keys now.
    Moved(String),
    /// Another server may have them already, and is to be asked this once.
    Ask(String),
    /// Whoever asked has to live with it.
    Told(StoreError),
}

impl From<&RedisError> for CallError {
    fn from(error: &RedisError) -> Self {
        match (error.code(), error.redirect_node()) {
            (Some("MOVED"), Some((address, _))) => Self::Moved(address.to_owned()),
            (Some("ASK"), Some((address, _))) => Self::Ask(address.to_owned()),
            _ => Self::Told(told(error)),
        }
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Moved(to) | CallError::Ask(to) => {
                Self::Unavailable(format!("the keys are moving to {to}"))
            }
            CallError::Told(error) => error,
        }
    }
}

impl Caller {
    pub(super) fn new(link: Arc<Link>, prefix: String, told_time: Arc<ToldTime>) -> Self {
        Self {
            link,
            prefix,
            decide: Script::new(include_str!("decide.lua")),
            swap: Script::new(include_str!("swap.lua")),
            permits: Script::new(include_str!("permits.lua")),
            told_time,
            heard_time: HeardTime::default(),
        }
    }

    /// The name of a key: the prefix, and the hash in hexadecimal, of which a cluster looks at the tag in braces.
    fn name(&self, key: KeyHash) -> String {
        format!("{}{{{:04x}}}{:028x}", self.prefix, key.tag(), key.0 << 16 >> 16)
    }

    /// Decides all requests of a batch.
    pub(super) async fn decide(&self, batch: &Batch, asking: bool) -> Result<Vec<Answer>, CallError> {
        Ok(batch.answers(&self.ask(batch, asking).await?, Source::Redis)?)
    }

    /// Runs the deciding script; a batch without requests only reads.
    pub(super) async fn ask(&self, batch: &Batch, asking: bool) -> Result<Reply, CallError> {
        let names: Vec<String> = batch.keys().iter().map(|(key, _)| self.name(*key)).collect();
        let now = self.now();
        for _ in 0..HeardTime::TRIES {
            let (rules, requests) = pack(batch, self.heard_time.about());
            let arguments: [&[u8]; 3] = [now.as_bytes(), &rules, &requests];
            let answered = wire::reply(self.run(&self.decide, &names, &arguments, asking).await?)?;
            if let Some(reply) = self.heard_time.hear(answered) {
                return Ok(reply);
            }
        }
        Err(HeardTime::astray().into())
    }

    /// Changes what a key holds. Returns whether it still held what it had to.
    pub(super) async fn swap(&self, swap: &Swap, asking: bool) -> Result<bool, CallError> {
        let from = swap.from.as_ref().map_or_else(Vec::new, wire::bytes);
        let (to, millis) =
            swap.to.as_ref().map_or((Vec::new(), 0), |(value, millis)| (wire::bytes(value), *millis));
        let millis = millis.to_string();
        let arguments = [&from[..], &to, millis.as_bytes()];
        let done = self.run(&self.swap, &[self.name(swap.key)], &arguments, asking).await?;
        Ok(matches!(done, Value::Int(1)))
    }

    /// Does something with the permits of a key, and gives the numbers that it is answered with.
    pub(super) async fn permits(
        &self,
        key: KeyHash,
        wish: &Wish,
        asking: bool,
    ) -> Result<Vec<i64>, CallError> {
        let name = self.name(key);
        let names = ["held", "line", "units"].map(|part| format!("{name}:{part}"));
        let head = [wish.what.to_owned(), self.now(), wish.id.to_string()];
        let all: Vec<String> = head.into_iter().chain(wish.numbers.iter().map(ToString::to_string)).collect();
        let all: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
        match self.run(&self.permits, &names, &all, asking).await? {
            Value::Array(numbers) => {
                let number = |value: &Value| match value {
                    Value::Int(number) => Ok(*number),
                    other => Err(StoreError::Defect(format!("permits: {other:?} is no number")).into()),
                };
                numbers.iter().map(number).collect()
            }
            other => Err(StoreError::Defect(format!("permits: {other:?} are no numbers")).into()),
        }
    }

    /// The time that scripts are told, in microseconds; nothing if they read the server's.
    fn now(&self) -> String {
        self.told_time.micros().map_or_else(String::new, |micros| micros.to_string())
    }

    /// Writes a key with this tag that means nothing, for a second.
    pub(super) async fn probe(&self, tag: u16, asking: bool) -> Result<(), CallError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}{{{tag:04x}}}probe", self.prefix)).arg(1).arg("PX").arg(1_000);
        self.call(&command, asking).await.map(drop)
    }

    /// What all nodes agree on under a name: what the first of them proposed.
    pub(super) async fn agree(&self, name: &str, proposal: &str, asking: bool) -> Result<String, CallError> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(
                "redis.call('SET', KEYS[1], ARGV[1], 'NX') redis.call('EXPIRE', KEYS[1], 315360000) \
                 return redis.call('GET', KEYS[1])",
            )
            .arg(1)
            .arg(format!("{}{{0000}}{name}", self.prefix))
            .arg(proposal);
        if let Value::BulkString(agreed) = self.call(&command, asking).await? {
            return Ok(String::from_utf8_lossy(&agreed).into_owned());
        }
        let what = format!("{}{{0000}}{name} holds something that is no text", self.prefix);
        Err(StoreError::Defect(what).into())
    }

    /// Forgets keys with one tag.
    pub(super) async fn forget(&self, keys: &[KeyHash], asking: bool) -> Result<(), CallError> {
        let mut command = redis::cmd("UNLINK");
        for key in keys {
            command.arg(self.name(*key));
        }
        self.call(&command, asking).await.map(drop)
    }

    async fn call(&self, command: &Cmd, asking: bool) -> Result<Value, CallError> {
        self.link.call(command, asking).await.map_err(|error| CallError::from(&error))
    }

    /// Runs a script by its hash, and by its text where the server does not have it: then it was not run, so that it is run
    /// at most once.
    async fn run(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[&[u8]],
        asking: bool,
    ) -> Result<Value, CallError> {
        let command = |name: &str, script: &str| -> Cmd {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys);
            for argument in arguments {
                command.arg(*argument);
            }
            command
        };
        match self.link.call(&command("EVALSHA", &script.hash), asking).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                self.link.call(&command("EVAL", script.text), asking).await
            }
            result => result,
        }
        .map_err(|error| CallError::from(&error))
    }
}

impl Carrier for Caller {
    type Error = CallError;

    async fn carry(&self, batch: Batch) -> Result<Vec<Answer>, CallError> {
        self.decide(&batch, false).await
    }
}
