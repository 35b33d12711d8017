//! Calls of the scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, RedisError, Value};
use tollgate_core::{Answer, KeyHash, Limit, State, Timestamp};

use super::batch::{Answered, Batch, Reply};
use super::link::{Link, told};
use super::wire::MICRO;
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
    told_time: Arc<ToldTime>,
    /// The server's time as it was last told, in nanoseconds.
    heard: AtomicU64,
}

/// The time that scripts are told, in nanoseconds; 0 if they read the server's.
#[derive(Debug, Default)]
pub(super) struct ToldTime(AtomicU64);

impl ToldTime {
    /// From now on it is this time.
    pub(super) fn tell(&self, now: Timestamp) {
        // Relaxed: whoever tells the time is the only one to ask.
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    fn nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// For how many milliseconds a state is worth remembering; `None` if it is as new.
    pub(super) fn lasting(&self, limit: &Limit, state: &State, now: Timestamp) -> Option<u64> {
        /// In case the clock is set back; and where the time is told, as the server's own says nothing then. As in the
        /// script.
        const MORE: [u64; 2] = [1_000, 600_000];

        let more = MORE[usize::from(self.nanos() > 0)];
        let vacant_at = limit.vacant_at(state);
        (vacant_at > now).then(|| vacant_at.since(now).as_nanos().div_ceil(MICRO * 1_000) + more)
    }
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

/// What a key is to hold in place of something else, and for how many milliseconds.
#[derive(Debug)]
pub(super) struct Swap {
    pub(super) key: KeyHash,
    /// Nothing if it is to be free.
    pub(super) from: Option<Vec<u8>>,
    pub(super) to: Option<(Vec<u8>, u64)>,
}

impl Caller {
    pub(super) fn new(link: Arc<Link>, prefix: String, told_time: Arc<ToldTime>) -> Self {
        Self {
            link,
            prefix,
            decide: Script::new(include_str!("decide.lua")),
            swap: Script::new(include_str!("swap.lua")),
            told_time,
            heard: AtomicU64::new(0),
        }
    }

    /// The name of a key: the prefix, and the hash in hexadecimal, of which a cluster looks at the tag in braces.
    fn name(&self, key: KeyHash) -> String {
        format!("{}{{{:04x}}}{:028x}", self.prefix, key.tag(), key.0 << 16 >> 16)
    }

    /// Decides all requests of a batch.
    pub(super) async fn decide(&self, batch: &Batch, asking: bool) -> Result<Vec<Answer>, CallError> {
        Ok(batch.answers(&self.ask(batch, asking).await?)?)
    }

    /// Runs the deciding script; a batch without requests only reads.
    pub(super) async fn ask(&self, batch: &Batch, asking: bool) -> Result<Reply, CallError> {
        /// How often the server's clock may leave the windows that it was told, before something is wrong with it.
        const TRIES: u32 = 4;

        let names: Vec<String> = batch.keys().map(|key| self.name(key)).collect();
        let now = match self.told_time.nanos() {
            0 => String::new(),
            nanos => (nanos / MICRO).to_string(),
        };
        for _ in 0..TRIES {
            // Relaxed, here and below: an old time costs another round trip at most.
            let about = Timestamp::from_nanos(self.heard.load(Ordering::Relaxed));
            let (rules, requests) = batch.pack(about);
            let arguments: [&[u8]; 3] = [now.as_bytes(), &rules, &requests];
            match Answered::read(self.run(&self.decide, &names, &arguments, asking).await?)? {
                Answered::Decided(reply) => {
                    self.heard.store(reply.now.as_nanos(), Ordering::Relaxed);
                    return Ok(reply);
                }
                // It has changed nothing, so it can be asked again.
                Answered::Elsewhere(now) => self.heard.store(now.as_nanos(), Ordering::Relaxed),
            }
        }
        Err(StoreError::Unavailable(format!("the server's clock was set {TRIES} times meanwhile")).into())
    }

    /// Changes what a key holds. Returns whether it still held what it had to.
    pub(super) async fn swap(&self, swap: &Swap, asking: bool) -> Result<bool, CallError> {
        let (to, millis) = swap.to.as_ref().map_or((&[][..], 0), |(value, millis)| (value, *millis));
        let millis = millis.to_string();
        let arguments = [swap.from.as_deref().unwrap_or_default(), to, millis.as_bytes()];
        let done = self.run(&self.swap, &[self.name(swap.key)], &arguments, asking).await?;
        Ok(matches!(done, Value::Int(1)))
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
