//! `TG.CHECK`, `TG.PEEK` and `TG.RESET`: a request by its attributes, decided by the policy file.

use std::net::IpAddr;

use tollgate::{Attribute, Nanos, PolicyVerdict, Request, Verdict};

use super::commands::{shown, text, whole};
use super::parse::Command;
use super::reply::{Protocol, Replies};
use crate::serve::wire::millis;

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Check,
    Peek,
    Reset,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Check => "tg.check",
            Self::Peek => "tg.peek",
            Self::Reset => "tg.reset",
        }
    }
}

/// A request that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) kind: Kind,
    pub(super) request: Request,
    /// What the request costs, in place of what the policies say.
    pub(super) cost: Option<u32>,
}

impl Question {
    /// Reads pairs of a name and a value. The first value of each name counts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(kind: Kind, command: Command<'_>) -> Result<Self, String> {
        if command.len().is_multiple_of(2) {
            return Err(format!(
                "ERR wrong number of arguments for '{}' command: after each name comes its value",
                kind.name()
            ));
        }
        let (mut method, mut path, mut ip, mut cost) = (None, None, None, None);
        let mut others: Vec<(Attribute, &str)> = Vec::new();
        for at in (1..command.len()).step_by(2) {
            let (name, value) = (command.word(at), command.word(at + 1));
            let (name, value) = (text(name)?, text(value)?);
            match name {
                "method" => _ = method.get_or_insert(value),
                "path" => _ = path.get_or_insert(value),
                "ip" => {
                    let address: IpAddr = value
                        .parse()
                        .map_err(|_| format!("ERR ip: '{}' is not an address", shown(value.as_bytes())))?;
                    ip.get_or_insert(address);
                }
                "cost" => {
                    let units = whole("cost", value, u32::MAX)?;
                    cost.get_or_insert(units);
                }
                name => {
                    let attribute = name.parse().map_err(|error| {
                        format!(
                            "ERR {error}: there are method, path, ip, user, api_key, cost, and what a policy file may name, \
                             as in header:x-tenant"
                        )
                    })?;
                    others.push((attribute, value));
                }
            }
        }
        let mut request = Request::new(method.unwrap_or_default(), path.unwrap_or_default());
        if let Some(ip) = ip {
            request = request.with_ip(ip);
        }
        for (attribute, value) in others {
            request = request.with(attribute, value);
        }
        Ok(Self { kind, request, cost })
    }
}

/// What all policies together say: an array, or in RESP3 the same with names.
pub(super) fn write(verdict: &Verdict, protocol: Protocol, replies: &mut Replies) {
    const NAMES: [&str; 6] = ["allowed", "policy", "limit", "remaining", "retry_after_ms", "reset_after_ms"];
    let deciding = verdict.deciding();
    let deciding = deciding.as_ref();
    match protocol {
        Protocol::Two => replies.array(NAMES.len()),
        Protocol::Three => replies.map(protocol, NAMES.len()),
    }
    for name in NAMES {
        if protocol == Protocol::Three {
            replies.bulk(name.as_bytes());
        }
        // No policy applied, or the one that decides has no limit.
        let count = |count: Option<u64>, replies: &mut Replies| match count {
            None | Some(u64::MAX) => replies.null(protocol),
            Some(count) => replies.integer(i64::try_from(count).unwrap_or(i64::MAX)),
        };
        match name {
            "allowed" => replies.integer(verdict.is_allowed().into()),
            "policy" => match deciding {
                Some(deciding) => replies.bulk(deciding.policy.name().as_bytes()),
                None => replies.null(protocol),
            },
            "limit" => count(deciding.map(PolicyVerdict::limit), replies),
            "remaining" => count(deciding.map(PolicyVerdict::remaining), replies),
            "retry_after_ms" => replies.integer(verdict.retry_after().nanos().map_or(-1, whole_millis)),
            _ => replies.integer(deciding.map_or(0, |deciding| whole_millis(deciding.reset_after()))),
        }
    }
}

/// Milliseconds, as the protocol's numbers are.
fn whole_millis(length: Nanos) -> i64 {
    i64::try_from(millis(length)).unwrap_or(i64::MAX)
}
