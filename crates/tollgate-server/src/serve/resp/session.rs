//! What a connection has said of itself, and what its commands come to.
//!
//! A session knows no socket and no store: it answers what it can by itself, and says what is to be asked elsewhere. So any
//! bytes, cut in any way, can be tried on it.

use subtle::ConstantTimeEq;
use tollgate::{KeyBuilder, KeySeed};

use super::commands::{self, Verb};
use super::parse::{Bounds, Command, Spans};
use super::permit::Wish;
use super::policy::Question;
use super::reply::{Protocol, Replies};
use super::throttle::{Dialect, Throttle};

/// The most bytes of each of a client's names.
const NAME_MAX: usize = 128;

/// How much is answered before what else was asked has to wait until those answers have left.
const ANSWERS_MAX: usize = 64 << 10;

/// What holds for all sessions.
#[derive(Debug)]
pub(super) struct Rules {
    /// What all keys begin with that clients name themselves.
    pub(super) keys: KeyBuilder,
    /// What clients have to know, if anything.
    password: Option<Vec<u8>>,
}

impl Rules {
    pub(super) fn new(seed: KeySeed, password: Option<&str>) -> Self {
        Self { keys: KeyBuilder::new(&seed), password: password.map(|text| text.as_bytes().to_vec()) }
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    /// Its address and the one that it reached, for `CLIENT INFO`.
    pub(super) addresses: (String, String),
    pub(super) protocol: Protocol,
    pub(super) name: Vec<u8>,
    pub(super) library: (Vec<u8>, Vec<u8>),
    is_known: bool,
}

/// What came of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has been answered.
    Answered,
    /// It has been answered, and the connection ends.
    Left,
    /// It was a question about a limit, and made no sense: it has been answered with an error.
    Refused,
    /// The store is to be asked.
    Ask(Ask),
    /// The server is to be asked of itself.
    Tell(Topic),
}

/// What came of all that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// How many bytes of it are done with.
    pub(super) taken: usize,
    /// Whether no more will be taken from this client.
    pub(super) is_over: bool,
    /// Whether there may be whole commands in what is left: their answers would have been too many.
    pub(super) is_full: bool,
}

/// What a store is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
// Most are the larger one, and are not kept.
#[allow(clippy::large_enum_variant)]
pub(super) enum Ask {
    Throttle(Throttle),
    Policy(Box<Question>),
    Permit(Box<Wish>),
}

impl Ask {
    /// What traces call it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Throttle(_) => "throttle",
            Self::Policy(question) => question.kind.name(),
            Self::Permit(_) => "permit",
        }
    }
}

/// What the server is asked of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// `INFO`, of these sections or of all.
    Info(Vec<Vec<u8>>),
    /// `TG.STATUS`.
    Status,
}

impl Session {
    pub(super) fn new(id: u64, addresses: (String, String), rules: &Rules) -> Self {
        Self {
            id,
            addresses,
            protocol: Protocol::Two,
            name: Vec::new(),
            library: Default::default(),
            is_known: rules.password.is_none(),
        }
    }

    /// How large its commands may be.
    pub(super) const fn bounds(&self) -> Bounds {
        if self.is_known { Bounds::ALL } else { Bounds::STRANGERS }
    }

    /// Does what the commands of the input say, in their order, as long as the answers are not too many. What came of each goes
    /// to `each`, with the version of the protocol that it is answered in.
    #[inline]
    pub(super) fn walk(
        &mut self,
        rules: &Rules,
        input: &[u8],
        spans: &mut Spans,
        replies: &mut Replies,
        mut each: impl FnMut(Step, Protocol, &mut Replies),
    ) -> Walked {
        let mut taken = 0;
        loop {
            if replies.0.len() >= ANSWERS_MAX && taken < input.len() {
                return Walked { taken, is_over: false, is_full: true };
            }
            let rest = &input[taken..];
            match spans.read(rest, self.bounds()) {
                Ok(None) => return Walked { taken, is_over: false, is_full: false },
                Ok(Some(more)) => {
                    taken += more;
                    let command = spans.command(rest);
                    if command.len() == 0 {
                        continue;
                    }
                    let step = self.run(rules, command, replies);
                    let is_over = matches!(step, Step::Left);
                    each(step, self.protocol, replies);
                    if is_over {
                        break;
                    }
                }
                Err(error) => {
                    replies.error(&error.0);
                    each(Step::Refused, self.protocol, replies);
                    break;
                }
            }
        }
        Walked { taken: input.len(), is_over: true, is_full: false }
    }

    /// Does what a command says, as far as that is known here.
    #[inline]
    pub(super) fn run(&mut self, rules: &Rules, command: Command<'_>, replies: &mut Replies) -> Step {
        let name = command.word(0);
        // What nearly all are, ahead of the list.
        if self.is_known && name.len() == 11 && name.eq_ignore_ascii_case(b"CL.THROTTLE") {
            return throttle(Dialect::Cell, rules, command, replies);
        }
        self.run_any(rules, command, replies)
    }

    fn run_any(&mut self, rules: &Rules, command: Command<'_>, replies: &mut Replies) -> Step {
        let Some(known) = commands::find(command.word(0)) else {
            commands::unknown(command, replies);
            return Step::Answered;
        };
        if !known.takes(command.len()) {
            commands::wrong_number(&known.name.to_ascii_lowercase(), replies);
            return Step::Answered;
        }
        if !self.is_known && !matches!(known.verb, Verb::Auth | Verb::Hello | Verb::Quit | Verb::Reset) {
            replies.error("NOAUTH Authentication required.");
            return Step::Answered;
        }
        match known.verb {
            Verb::Throttle(dialect) => return throttle(dialect, rules, command, replies),
            Verb::Policy(kind) => {
                return asked(Question::read(kind, command), |it| Ask::Policy(Box::new(it)), replies);
            }
            Verb::Permit(kind) => {
                return asked(
                    Wish::read(kind, command, &rules.keys),
                    |it| Ask::Permit(Box::new(it)),
                    replies,
                );
            }
            Verb::Status => return Step::Tell(Topic::Status),
            Verb::Info => {
                return Step::Tell(Topic::Info(command.words_from(1).map(<[u8]>::to_vec).collect()));
            }
            Verb::Quit => {
                replies.simple("OK");
                return Step::Left;
            }
            Verb::Ping => match command.len() {
                1 => replies.simple("PONG"),
                _ => replies.bulk(command.word(1)),
            },
            Verb::Echo => replies.bulk(command.word(1)),
            Verb::Select => commands::select(command, replies),
            Verb::Command => commands::command(self.protocol, command, replies),
            Verb::Client => self.client(command, replies),
            Verb::Auth => self.auth(rules, command, replies),
            Verb::Hello => self.hello(rules, command, replies),
            Verb::Reset => {
                *self = Self::new(self.id, std::mem::take(&mut self.addresses), rules);
                replies.simple("RESET");
            }
        }
        Step::Answered
    }

    fn auth(&mut self, rules: &Rules, command: Command<'_>, replies: &mut Replies) {
        if command.len() == 2 && rules.password.is_none() {
            replies.error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            );
            return;
        }
        let (user, password) = match command.len() {
            2 => (&b"default"[..], command.word(1)),
            _ => (command.word(1), command.word(2)),
        };
        if self.is_let_in(rules, user, password, replies) {
            replies.simple("OK");
        }
    }

    /// Whether somebody may come in; if not, they are told.
    fn is_let_in(&mut self, rules: &Rules, user: &[u8], password: &[u8], replies: &mut Replies) -> bool {
        // Where no password is set, any will do, as for Redis's own default user.
        let fits = rules.password.as_ref().is_none_or(|set| set.as_slice().ct_eq(password).into());
        if user == b"default" && fits {
            self.is_known = true;
            return true;
        }
        replies.error("WRONGPASS invalid username-password pair or user is disabled.");
        false
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`: all of it, or nothing.
    fn hello(&mut self, rules: &Rules, command: Command<'_>, replies: &mut Replies) {
        let mut protocol = self.protocol;
        if command.len() > 1 {
            protocol = match command.word(1) {
                b"2" => Protocol::Two,
                b"3" => Protocol::Three,
                word if std::str::from_utf8(word).is_ok_and(|word| word.parse::<i64>().is_ok()) => {
                    replies.error("NOPROTO unsupported protocol version");
                    return;
                }
                _ => {
                    replies.error("ERR Protocol version is not an integer or out of range");
                    return;
                }
            };
        }
        let (mut credentials, mut name, mut at) = (None, None, 2);
        while at < command.len() {
            let option = command.word(at);
            if option.eq_ignore_ascii_case(b"AUTH") && at + 2 < command.len() {
                credentials = Some((command.word(at + 1), command.word(at + 2)));
                at += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && at + 1 < command.len() {
                name = Some(command.word(at + 1));
                at += 2;
            } else {
                replies.error(&format!("ERR Syntax error in HELLO option '{}'", commands::shown(option)));
                return;
            }
        }
        if let Some((user, password)) = credentials
            && !self.is_let_in(rules, user, password, replies)
        {
            return;
        }
        if !self.is_known {
            replies.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time",
            );
            return;
        }
        if let Some(name) = name
            && !self.set_name(name, replies)
        {
            return;
        }
        self.protocol = protocol;
        commands::greet(self, replies);
    }

    /// Takes a name, unless it cannot be one: then its sender is told.
    fn set_name(&mut self, name: &[u8], replies: &mut Replies) -> bool {
        if is_name(name) {
            name.clone_into(&mut self.name);
            return true;
        }
        replies.error(&format!(
            "ERR Client names cannot contain spaces, newlines or special characters, and have at most {NAME_MAX} bytes."
        ));
        false
    }

    fn client(&mut self, command: Command<'_>, replies: &mut Replies) {
        let what = command.word(1).to_ascii_uppercase();
        let arguments = match what.as_slice() {
            b"SETINFO" => 4,
            b"SETNAME" => 3,
            b"GETNAME" | b"ID" | b"INFO" | b"HELP" => 2,
            // Filters are taken, and not looked at: there is only this one.
            b"LIST" => command.len(),
            _ => {
                let what = commands::shown(command.word(1));
                replies.error(&format!("ERR unknown subcommand '{what}'. Try CLIENT HELP."));
                return;
            }
        };
        if command.len() != arguments {
            let what = String::from_utf8_lossy(&what).to_ascii_lowercase();
            commands::wrong_number(&format!("client|{what}"), replies);
            return;
        }
        match what.as_slice() {
            b"SETINFO" => self.set_library(command, replies),
            b"SETNAME" => {
                if self.set_name(command.word(2), replies) {
                    replies.simple("OK");
                }
            }
            b"GETNAME" if self.name.is_empty() => replies.null(self.protocol),
            b"GETNAME" => replies.bulk(&self.name),
            b"ID" => replies.integer(i64::try_from(self.id).unwrap_or(i64::MAX)),
            b"HELP" => commands::client_help(replies),
            _ => replies.text(self.protocol, &commands::client_line(self)),
        }
    }

    fn set_library(&mut self, command: Command<'_>, replies: &mut Replies) {
        let (option, value) = (command.word(2), command.word(3));
        let place = if option.eq_ignore_ascii_case(b"LIB-NAME") {
            &mut self.library.0
        } else if option.eq_ignore_ascii_case(b"LIB-VER") {
            &mut self.library.1
        } else {
            let option = commands::shown(option);
            replies.error(&format!("ERR Unrecognized option '{option}'"));
            return;
        };
        if is_name(value) {
            value.clone_into(place);
            replies.simple("OK");
        } else {
            let option = commands::shown(option).to_ascii_lowercase();
            replies.error(&format!("ERR {option} cannot contain spaces, newlines or special characters."));
        }
    }
}

/// Whether these bytes can be a name: they stand in lines of names and values.
fn is_name(bytes: &[u8]) -> bool {
    bytes.len() <= NAME_MAX && bytes.iter().all(u8::is_ascii_graphic)
}

#[inline]
fn throttle(dialect: Dialect, rules: &Rules, command: Command<'_>, replies: &mut Replies) -> Step {
    asked(Throttle::read(dialect, command, &rules.keys), Ask::Throttle, replies)
}

/// What is asked of a store, or why it makes no sense.
#[inline]
fn asked<T>(read: Result<T, impl AsRef<str>>, ask: impl FnOnce(T) -> Ask, replies: &mut Replies) -> Step {
    match read {
        Ok(it) => Step::Ask(ask(it)),
        Err(refusal) => {
            replies.error(refusal.as_ref());
            Step::Refused
        }
    }
}

#[cfg(test)]
mod tests;
