//! The commands by name, and those of Redis's own that every client counts on.

use std::fmt::{Display, Write};
use std::str::FromStr;

use super::parse::Command;
use super::permit;
use super::policy::Kind;
use super::reply::{Protocol, Replies};
use super::session::Session;
use super::throttle::Dialect;

/// The version of Redis whose habits these are: clients that look for one would take a lower one for very old.
const REDIS_VERSION: &str = "7.2.0";

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Throttle(Dialect),
    Policy(Kind),
    Permit(permit::Kind),
    Status,
    Ping,
    Echo,
    Hello,
    Auth,
    Client,
    Command,
    Info,
    Select,
    Quit,
    Reset,
}

/// A command as it is found and described.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) verb: Verb,
    /// How many words it has, with its name: at least, at most.
    words: (usize, usize),
    /// Whether the second of them is a key.
    has_key: bool,
    summary: &'static str,
}

const ANY: usize = usize::MAX;

const fn known(
    name: &'static str,
    verb: Verb,
    words: (usize, usize),
    has_key: bool,
    summary: &'static str,
) -> Known {
    Known { name, verb, words, has_key, summary }
}

/// All of them. Those that throttle count their words themselves, as each has its own way to say it.
const COMMANDS: [Known; 21] = [
    known("CL.THROTTLE", Verb::Throttle(Dialect::Cell), (1, ANY), true, "Limits a key, as redis-cell does"),
    known("THROTTLE", Verb::Throttle(Dialect::Crab), (1, ANY), true, "Limits a key, as throttlecrab does"),
    known(
        "GCRA",
        Verb::Throttle(Dialect::Redis),
        (1, ANY),
        true,
        "Limits a key by the generic cell rate algorithm",
    ),
    known("TG.CHECK", Verb::Policy(Kind::Check), (3, ANY), false, "Decides a request by the policy file"),
    known(
        "TG.PEEK",
        Verb::Policy(Kind::Peek),
        (3, ANY),
        false,
        "Says what TG.CHECK would, and takes nothing",
    ),
    known("TG.RESET", Verb::Policy(Kind::Reset), (3, ANY), false, "Forgets what a request's keys have spent"),
    known(
        "TG.ACQUIRE",
        Verb::Permit(permit::Kind::Acquire),
        (4, ANY),
        true,
        "Grants a permit, of which only so many are held at once",
    ),
    known("TG.RENEW", Verb::Permit(permit::Kind::Renew), (4, 4), true, "Holds a permit for longer"),
    known("TG.RELEASE", Verb::Permit(permit::Kind::Release), (3, 3), true, "Gives a permit back"),
    known("TG.PERMITS", Verb::Permit(permit::Kind::Usage), (2, 2), true, "Says how many permits are held"),
    known("TG.STATUS", Verb::Status, (1, 1), false, "Says how the server fares"),
    known("PING", Verb::Ping, (1, 2), false, "Answers PONG, or the message"),
    known("ECHO", Verb::Echo, (2, 2), false, "Answers the message"),
    known("HELLO", Verb::Hello, (1, ANY), false, "Chooses the version of the protocol"),
    known("AUTH", Verb::Auth, (2, 3), false, "Says who asks"),
    known("CLIENT", Verb::Client, (2, ANY), false, "Names this connection, or says its name"),
    known("COMMAND", Verb::Command, (1, ANY), false, "Says which commands there are"),
    known("INFO", Verb::Info, (1, ANY), false, "Says what runs"),
    known("SELECT", Verb::Select, (2, 2), false, "Chooses the database 0, the only one"),
    known("QUIT", Verb::Quit, (1, ANY), false, "Ends the connection"),
    known("RESET", Verb::Reset, (1, 1), false, "Makes the connection as new"),
];

impl Known {
    /// Whether it can have so many words.
    pub(super) const fn takes(&self, words: usize) -> bool {
        self.words.0 <= words && words <= self.words.1
    }

    /// The number of words as Redis writes it: below zero where there may be more.
    fn arity(&self) -> i64 {
        let least = match self.verb {
            Verb::Throttle(_) => 5,
            _ => i64::try_from(self.words.0).unwrap_or(i64::MAX),
        };
        if self.words.0 == self.words.1 { least } else { -least }
    }
}

/// The command of this name.
pub(super) fn find(name: &[u8]) -> Option<&'static Known> {
    COMMANDS.iter().find(|known| known.name.as_bytes().eq_ignore_ascii_case(name))
}

/// What somebody sent, as it can be shown to them.
pub(super) fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned()
}

/// A word that is to be text.
pub(super) fn text(word: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(word).map_err(|_| format!("ERR '{}' is not UTF-8", shown(word)))
}

/// A text that is to be a whole number from nothing to so many.
pub(super) fn whole<N: FromStr + PartialOrd + Display + Copy>(
    name: &str,
    text: &str,
    most: N,
) -> Result<N, String> {
    text.parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("ERR {name}: '{}' is not a whole number up to {most}", shown(text.as_bytes())))
}

/// Answers a command that there is not, in Redis's words.
pub(super) fn unknown(command: Command<'_>, replies: &mut Replies) {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(command.word(0)));
    for word in command.words_from(1) {
        if text.len() >= 300 {
            break;
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "'{}' ", shown(word));
    }
    replies.error(&text);
}

/// Answers a command with too many words or too few, in Redis's words.
pub(super) fn wrong_number(name: &str, replies: &mut Replies) {
    replies.error(&format!("ERR wrong number of arguments for '{name}' command"));
}

pub(super) fn select(command: Command<'_>, replies: &mut Replies) {
    match std::str::from_utf8(command.word(1)).ok().and_then(|word| word.parse::<i64>().ok()) {
        Some(0) => replies.simple("OK"),
        Some(_) => replies.error("ERR DB index is out of range"),
        None => replies.error("ERR value is not an integer or out of range"),
    }
}

/// What `HELLO` answers.
pub(super) fn greet(session: &Session, replies: &mut Replies) {
    let version = if session.protocol == Protocol::Three { 3 } else { 2 };
    replies.map(session.protocol, 7);
    for (name, value) in [("server", "tollgate"), ("version", env!("CARGO_PKG_VERSION"))] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"proto");
    replies.integer(version);
    replies.bulk(b"id");
    replies.integer(i64::try_from(session.id).unwrap_or(i64::MAX));
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"modules");
    replies.array(0);
}

/// This connection in a line, as `CLIENT LIST` has it.
pub(super) fn client_line(session: &Session) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "id={} addr={} laddr={} name={} db=0 resp={} lib-name={} lib-ver={}\n",
        session.id,
        session.addresses.0,
        session.addresses.1,
        text(&session.name),
        if session.protocol == Protocol::Three { 3 } else { 2 },
        text(&session.library.0),
        text(&session.library.1),
    )
}

pub(super) fn client_help(replies: &mut Replies) {
    let lines = [
        "CLIENT <subcommand> [<arg> ...]. Subcommands are:",
        "GETNAME, SETNAME <name>: this connection's name.",
        "ID: its number.",
        "INFO, LIST: this connection in a line.",
        "SETINFO <LIB-NAME|LIB-VER> <value>: the library that speaks.",
    ];
    replies.array(lines.len());
    for line in lines {
        replies.simple(line);
    }
}

/// `COMMAND [COUNT | LIST | INFO [name …] | DOCS [name …]]`.
pub(super) fn command(protocol: Protocol, command: Command<'_>, replies: &mut Replies) {
    let what = command.word(1).to_ascii_uppercase();
    match (command.len(), what.as_slice()) {
        (1, _) | (2, b"INFO") => details(protocol, COMMANDS.iter().map(Some), replies),
        (2, b"COUNT") => replies.integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        (2, b"LIST") => {
            replies.array(COMMANDS.len());
            for known in &COMMANDS {
                replies.bulk(known.name.to_ascii_lowercase().as_bytes());
            }
        }
        (_, b"INFO") => {
            let named: Vec<_> = command.words_from(2).map(find).collect();
            details(protocol, named.into_iter(), replies);
        }
        (2, b"DOCS") => docs(protocol, COMMANDS.iter(), replies),
        (_, b"DOCS") => {
            let named: Vec<_> = command.words_from(2).filter_map(find).collect();
            docs(protocol, named.into_iter(), replies);
        }
        (_, b"COUNT" | b"LIST") => {
            let what = String::from_utf8_lossy(&what).to_ascii_lowercase();
            wrong_number(&format!("command|{what}"), replies);
        }
        _ => {
            let what = shown(command.word(1));
            replies
                .error(&format!("ERR unknown subcommand '{what}'. Try COMMAND COUNT, DOCS, INFO or LIST."));
        }
    }
}

/// Commands as `COMMAND` lists them; nothing for those that there are not.
fn details(
    protocol: Protocol,
    all: impl ExactSizeIterator<Item = Option<&'static Known>>,
    replies: &mut Replies,
) {
    replies.array(all.len());
    for known in all {
        let Some(known) = known else {
            replies.null(protocol);
            continue;
        };
        let key = i64::from(known.has_key);
        replies.array(10);
        replies.bulk(known.name.to_ascii_lowercase().as_bytes());
        replies.integer(known.arity());
        replies.array(1);
        replies.simple("fast");
        // The first key, the last, and how many words lie between keys.
        for _ in 0..3 {
            replies.integer(key);
        }
        // Of categories, hints, places of keys and subcommands there are none.
        for _ in 0..4 {
            replies.array(0);
        }
    }
}

fn docs(protocol: Protocol, all: impl ExactSizeIterator<Item = &'static Known>, replies: &mut Replies) {
    replies.map(protocol, all.len());
    for known in all {
        replies.bulk(known.name.to_ascii_lowercase().as_bytes());
        replies.map(protocol, 2);
        replies.bulk(b"summary");
        replies.bulk(known.summary.as_bytes());
        replies.bulk(b"group");
        replies.bulk(if matches!(known.verb, Verb::Throttle(_) | Verb::Policy(_) | Verb::Permit(_)) {
            b"rate limiting"
        } else {
            b"connection"
        });
    }
}

/// What `INFO` says, in the sections that were asked for.
pub(super) fn info(numbers: &Numbers, wanted: &[Vec<u8>]) -> String {
    let server = format!(
        "# Server\r\ntollgate_version:{}\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nprocess_id:{}\r\n\
         uptime_in_seconds:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        numbers.uptime_s,
    );
    let clients = format!(
        "# Clients\r\nconnected_clients:{}\r\nmaxclients:{}\r\n",
        numbers.connections, numbers.connections_max
    );
    let stats = format!(
        "# Stats\r\ndecisions_allowed:{}\r\ndecisions_denied:{}\r\ndecisions_failed:{}\r\nkeys:{}\r\n",
        numbers.allowed, numbers.denied, numbers.errors, numbers.keys
    );
    // Clients wait for a server that is loading.
    let persistence = "# Persistence\r\nloading:0\r\n".to_owned();
    let replication = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n".to_owned();
    let sections = [
        ("server", server),
        ("clients", clients),
        ("persistence", persistence),
        ("stats", stats),
        ("replication", replication),
    ];
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted.iter().any(|word| {
                [name, "all", "default", "everything"]
                    .iter()
                    .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
            })
    };
    let texts = sections.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, text)| text);
    texts.collect::<Vec<_>>().join("\r\n")
}

/// What the server counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) uptime_s: u64,
    pub(super) connections: usize,
    pub(super) connections_max: usize,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    pub(super) errors: u64,
    pub(super) keys: usize,
}
