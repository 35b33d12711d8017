//! The short way of the commonest requests: each is one hit of a limit whose state is one word, and all cost the same.
//!
//! A plain statement takes the cost where it is there, and what a function costs is saved. What it did not charge is looked at: what
//! is denied by that has its answer. All else is for the function: others came between, or a clock was set back, or the key holds
//! something else.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, Error, Row, Statement};
use tollgate_core::packed::LAST_MOMENT;
use tollgate_core::{Answer, KeyHash, Source, Timestamp};

use super::Caller;
use super::call::{Id, lock, number};
use crate::plain::States;
use crate::shared::batch::{Batch, Order, rule_of};
use crate::shared::cells::Cells as _;
use crate::shared::rule::{MICRO, Rule, Value, Word};
use crate::store::StoreError;

/// The statements of a connection.
#[derive(Debug)]
pub(super) struct Statements {
    take_one: Statement,
    take_some: Statement,
    look: Statement,
}

impl Statements {
    /// Has them prepared.
    pub(super) async fn prepare(client: &Client, schema: &str) -> Result<Self, Error> {
        let prepare = async |text: &str| client.prepare(&super::schema::named(text, schema)).await;
        let take = |asked: &str| include_str!("take.sql").replace("ASKED", asked);
        Ok(Self {
            take_one: prepare(&take("(values ($1::uuid, $2::int))")).await?,
            take_some: prepare(&take("unnest($1::uuid[], $2::int[])")).await?,
            look: prepare(
                "select s.key, s.word, coalesce($3, tollgate.clock()) from tollgate.state s \
                 where s.key = any($1) and s.kind = $2 and s.word is not null",
            )
            .await?,
        })
    }

    /// Charges the keys that hold as much, and returns these.
    pub(super) async fn take(&self, client: &Client, sent: &Sent) -> Result<Vec<Found>, Error> {
        let Sent { keys, letter, need, room, told_micros, .. } = sent;
        let locks: Vec<i32> = keys.iter().map(|key| lock(key.0)).collect();
        let rows = if let ([key], [lock]) = (&keys[..], &locks[..]) {
            client.query(&self.take_one, &[key, lock, letter, need, room, told_micros]).await?
        } else {
            client.query(&self.take_some, &[keys, &locks, letter, need, room, told_micros]).await?
        };
        rows.iter().map(|row| sent.charged(row)).collect()
    }

    /// Looks at some keys, and returns those of which it is clear that they hold too little.
    pub(super) async fn look(
        &self,
        client: &Client,
        sent: &Sent,
        keys: &[KeyHash],
    ) -> Result<Vec<Found>, Error> {
        let ids: Vec<Id> = keys.iter().copied().map(Id).collect();
        let rows = client.query(&self.look, &[&ids, &sent.letter, &sent.told_micros]).await?;
        rows.iter().filter_map(|row| sent.denied(row).transpose()).collect()
    }
}

impl Caller {
    /// Has a batch decided, and what is left of it by the function.
    pub(super) async fn take(&self, batch: &Batch, sent: Sent) -> Result<Vec<Answer>, StoreError> {
        let sent = Arc::new(sent);
        let own = Arc::clone(&sent);
        let take = self.pool.call(move |session| {
            let sent = Arc::clone(&own);
            async move { session.statements.words.take(&session.client, &sent).await }
        });
        let mut found = by_key(take.await?);
        // A call of its own, so that this one is not made again with it.
        if found.len() < batch.orders().len() {
            let keys = batch.keys().iter().map(|(key, _)| *key);
            let left: Arc<[KeyHash]> = keys.filter(|key| !found.contains_key(key)).collect();
            let own = Arc::clone(&sent);
            let look = self.pool.call(move |session| {
                let (sent, left) = (Arc::clone(&own), Arc::clone(&left));
                async move { session.statements.words.look(&session.client, &sent, &left).await }
            });
            found.extend(by_key(look.await?));
        }
        let mut rest = Batch::default();
        for order in batch.orders().iter().filter(|order| !found.contains_key(&order.hits[0].1)) {
            // It was together with the others before.
            let _ = rest.push(order.clone(), false);
        }
        let others =
            if rest.is_empty() { Vec::new() } else { rest.answers(&self.ask(&rest).await?, Self::SOURCE)? };
        let mut others = others.into_iter();
        let answer = |order: &Order| match found.get(&order.hits[0].1) {
            Some(found) => sent.answer(order, found, Self::SOURCE),
            None => others.next().ok_or_else(|| StoreError::Defect("no answer".to_owned())),
        };
        batch.orders().iter().map(answer).collect()
    }
}

fn by_key(found: Vec<Found>) -> HashMap<KeyHash, Found> {
    found.into_iter().map(|found| (found.key, found)).collect()
}

/// A batch as the short way takes it.
#[derive(Debug)]
pub(super) struct Sent {
    /// In ascending order of their locks.
    keys: Vec<Id>,
    letter: i16,
    /// The cost, and how much farther than that from the present a word may be afterwards, in nanoseconds.
    need: i64,
    room: i64,
    told_micros: Option<i64>,
    rule: Rule,
    word: Word,
}

/// What was found under a key.
#[derive(Debug)]
pub(super) struct Found {
    key: KeyHash,
    now: Timestamp,
    /// Before the cost was taken.
    word: Timestamp,
    passed: bool,
}

impl Sent {
    /// Of a batch, and the time, if it is told; nothing if the batch has to go the long way.
    ///
    /// The spans are at most 2^58 ns and a time that is told below 2^62, so no sum passes 2^63; nor by the server's own clock, up to the
    /// year 2240.
    pub(super) fn of(batch: &Batch, told_micros: Option<i64>) -> Option<Self> {
        let (limit, cost) = batch.in_common()?;
        let rule = rule_of(limit);
        let word = rule.word()?;
        let need = word.unit.as_nanos().checked_mul(cost.into())?;
        let is_early = told_micros.is_none_or(|micros| micros <= number(LAST_MOMENT.as_nanos() / MICRO));
        if need == 0 || need > word.full.as_nanos() || !is_early {
            return None;
        }
        let mut keys: Vec<Id> = batch.keys().iter().map(|(key, _)| Id(*key)).collect();
        keys.sort_unstable_by_key(|key| lock(key.0));
        let (need, letter) = (number(need), rule.letter().into());
        Some(Self {
            keys,
            letter,
            need,
            room: number(word.full.as_nanos()) - 2 * need,
            told_micros,
            rule,
            word,
        })
    }

    /// A key that was charged.
    fn charged(&self, row: &Row) -> Result<Found, Error> {
        let (key, word, now) = columns(row)?;
        let full_at = Timestamp::from_nanos(word.as_nanos().saturating_sub(self.word.full.as_nanos()));
        let need = self.need.unsigned_abs();
        Ok(Found {
            key,
            // Read again after it was decided. If the clock was set back in this moment, it still was late enough.
            now: now.max(full_at),
            word: Timestamp::from_nanos(word.as_nanos().saturating_sub(need)),
            passed: true,
        })
    }

    /// A key that holds too little.
    fn denied(&self, row: &Row) -> Result<Option<Found>, Error> {
        let (key, word, now) = columns(row)?;
        let debt = word.since(now);
        let lacks = debt.as_nanos() > self.word.full.as_nanos() - self.need.unsigned_abs();
        let found = Found { key, now, word, passed: false };
        Ok((lacks && debt <= self.word.farthest).then_some(found))
    }

    /// What a request is told of whose key this was found.
    fn answer(&self, order: &Order, found: &Found, source: Source) -> Result<Answer, StoreError> {
        let nanos = found.word.as_nanos();
        let value = Value {
            letter: self.rule.letter(),
            numbers: [nanos / MICRO, nanos % MICRO].into_iter().collect(),
        };
        let state = self.rule.read_state(&value);
        let mut states: States = state.into_iter().map(|state| (found.key, state)).collect();
        order.answer(found.now, &mut states, found.passed, source)
    }
}

/// A key, its word, and the time.
fn columns(row: &Row) -> Result<(KeyHash, Timestamp, Timestamp), Error> {
    let (Id(key), word, now) = (row.try_get(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?);
    let moment = |nanos: i64| Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0));
    Ok((key, moment(word), moment(now.saturating_mul(number(MICRO)))))
}
