//! `TG.ACQUIRE`, `TG.RENEW`, `TG.RELEASE` and `TG.PERMITS`: at most so many at once.

use tollgate::concurrency::{Admission, Concurrency, PermitId, PermitRequest};
use tollgate::permit_store::{PermitStore, permit_id};
use tollgate::{KeyBuilder, KeyHash, Nanos, StoreError};

use super::commands::{shown, text, whole};
use super::parse::Command;
use super::reply::Replies;
use crate::serve::permits::{self, Desk, limit, named};
use crate::serve::wire::millis;

/// The longest that a place in line is kept, in milliseconds: an hour.
const PLACE_MAX: u64 = 3_600_000;

/// What is to be done with the permits of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Acquire,
    Renew,
    Release,
    Usage,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    key: KeyHash,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Acquire(Concurrency, PermitRequest),
    Renew(Concurrency, PermitId),
    Release(PermitId),
    Usage,
}

impl Wish {
    /// Reads a command.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(kind: Kind, command: Command<'_>, keys: &KeyBuilder) -> Result<Self, String> {
        let text = |index| text(command.word(index));
        let refused = |message: String| format!("ERR {message}");
        let id = |index| named(text(index)?).map_err(refused);
        let what = match kind {
            Kind::Usage => What::Usage,
            Kind::Release => What::Release(id(2)?),
            Kind::Renew => {
                What::Renew(limit(u32::MAX, whole("ttl_ms", text(3)?, u64::MAX)?).map_err(refused)?, id(2)?)
            }
            Kind::Acquire => {
                let most = whole("limit", text(2)?, u32::MAX)?;
                let limit = limit(most, whole("ttl_ms", text(3)?, u64::MAX)?).map_err(refused)?;
                let mut request = PermitRequest::new(permit_id());
                if !command.len().is_multiple_of(2) {
                    return Err(
                        "ERR wrong number of arguments for 'tg.acquire' command: after each option comes its value"
                            .to_owned(),
                    );
                }
                for at in (4..command.len()).step_by(2) {
                    match text(at)?.to_ascii_uppercase().as_str() {
                        "UNITS" => {
                            let units = whole("units", text(at + 1)?, u32::MAX)?;
                            request.units =
                                units.try_into().map_err(|_| "ERR units: ask for at least one".to_owned())?;
                        }
                        "ID" => request.id = id(at + 1)?,
                        "PLACE" => {
                            request.patience = Nanos::from_millis(whole("place", text(at + 1)?, PLACE_MAX)?);
                        }
                        _ => return Err(format!("ERR unknown option '{}'", shown(command.word(at)))),
                    }
                }
                What::Acquire(limit, request)
            }
        };
        Ok(Self { key: permits::key(keys, text(1)?).map_err(refused)?, what })
    }

    /// Has it done, and writes what came of it.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub(super) async fn fulfil(&self, desk: Desk<'_>, replies: &mut Replies) -> Result<(), StoreError> {
        let key = self.key;
        let number = |number: u64, replies: &mut Replies| {
            replies.integer(i64::try_from(number).unwrap_or(i64::MAX));
        };
        match &self.what {
            What::Acquire(limit, request) => {
                let admission = desk.acquire(key, limit, request).await;
                desk.asked(&admission);
                let (granted, lasts, ahead, retry) = match admission? {
                    Admission::Granted { lasts } => (1, millis(lasts), 0, Some(Nanos::ZERO)),
                    Admission::Full { ahead, retry_after } => (0, 0, ahead, retry_after),
                };
                replies.array(5);
                replies.integer(granted);
                replies.bulk(request.id.to_string().as_bytes());
                number(lasts, replies);
                number(ahead, replies);
                match retry {
                    Some(retry) => number(millis(retry), replies),
                    None => replies.integer(-1),
                }
            }
            What::Renew(limit, id) => {
                let lasts = desk.renew(key, limit, *id).await?;
                number(lasts.map_or(0, millis), replies);
            }
            What::Release(id) => replies.integer(desk.give_back(key, *id).await?.into()),
            What::Usage => {
                let usage = desk.usage(key).await?;
                replies.array(2);
                number(usage.in_use, replies);
                number(usage.awaited, replies);
            }
        }
        Ok(())
    }
}
