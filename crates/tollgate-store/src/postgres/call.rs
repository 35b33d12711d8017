//! What the database is asked, and what it answers.

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Row, Statement};
use tollgate_core::{KeyHash, Limit, Timestamp};

use super::words;
use crate::shared::batch::{Answered, Batch, Reply, rule_of};
use crate::shared::cells::Swap;
use crate::shared::permits::Wish;
use crate::shared::rule::{MICRO, Rule, Value};
use crate::store::StoreError;
use crate::together::asked;

/// A key as the database knows it: 128 bits, which are in the order of numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) KeyHash);

impl ToSql for Id {
    fn to_sql(
        &self,
        _: &Type,
        to: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        to.extend_from_slice(&self.0.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }

    to_sql_checked!();
}

impl FromSql<'_> for Id {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(KeyHash(u128::from_be_bytes(raw.try_into()?))))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }
}

/// What is locked for a key. Two keys that have it in common wait for each other, and nothing more.
// A part of the hash.
#[allow(clippy::cast_possible_truncation)]
pub(super) const fn lock(key: KeyHash) -> i32 {
    (key.0 as u32).cast_signed()
}

/// What is locked for these keys, in order.
fn locks(keys: impl Iterator<Item = KeyHash>) -> Vec<i32> {
    let mut locks: Vec<i32> = keys.map(lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// Far below 2^63, as all numbers are.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How many numbers a rule takes, with its letter.
const RULE_NUMBERS: usize = 12;

/// The statements of a connection.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) words: words::Statements,
    decide: Statement,
    swap: Statement,
    forget: Statement,
    agree: Statement,
    probe: Statement,
    sweep: Statement,
    permits: Statement,
}

impl Statements {
    /// Has them prepared.
    pub(super) async fn prepare(client: &Client, schema: &str) -> Result<Self, Error> {
        let prepare = async |text: &str| client.prepare(&super::schema::named(text, schema)).await;
        Ok(Self {
            words: words::Statements::prepare(client, schema).await?,
            decide: prepare("select now, passed, held from tollgate.decide($1, $2, $3, $4, $5, $6)").await?,
            swap: prepare("select tollgate.swap($1, $2, $3, $4, $5, $6, $7)").await?,
            forget: prepare("select from tollgate.forget($1, $2)").await?,
            agree: prepare("select tollgate.agree($1, $2)").await?,
            // A key that means nothing, for a second.
            probe: prepare(
                "insert into tollgate.state values ($1, tollgate.clock() + 1000000, 0, '{}') \
                 on conflict (key) do update set expires = excluded.expires",
            )
            .await?,
            sweep: prepare("select tollgate.sweep($1, $2)").await?,
            permits: prepare("select tollgate.permits($1, $2, $3, $4, $5, $6)").await?,
        })
    }

    /// Decides all requests of a batch; a batch without any only reads.
    pub(super) async fn decide(
        &self,
        client: &Client,
        sent: &Sent,
        told_micros: Option<i64>,
    ) -> Result<Row, Error> {
        let Sent { keys, locks, rule_of, rules, requests, .. } = sent;
        client.query_one(&self.decide, &[keys, locks, rule_of, rules, requests, &told_micros]).await
    }

    pub(super) async fn swap(&self, client: &Client, swap: &Swap) -> Result<bool, Error> {
        let parts = |value: Option<&Value>| match value {
            None => (None, None),
            Some(value) => {
                let numbers: Vec<i64> = value.numbers.iter().copied().map(number).collect();
                (Some(i16::from(value.letter)), Some(numbers))
            }
        };
        let (old, old_numbers) = parts(swap.from.as_ref());
        let (new, new_numbers) = parts(swap.to.as_ref().map(|(value, _)| value));
        let millis = swap.to.as_ref().map(|(_, millis)| number(*millis));
        let (key, locks) = (Id(swap.key), [lock(swap.key)]);
        let sent: [&(dyn ToSql + Sync); 7] =
            [&key, &&locks[..], &old, &old_numbers, &new, &new_numbers, &millis];
        client.query_one(&self.swap, &sent).await?.try_get(0)
    }

    pub(super) async fn forget(&self, client: &Client, keys: &[KeyHash]) -> Result<(), Error> {
        let ids: Vec<Id> = keys.iter().copied().map(Id).collect();
        client.execute(&self.forget, &[&ids, &locks(keys.iter().copied())]).await.map(drop)
    }

    pub(super) async fn agree(&self, client: &Client, name: &str, proposal: &str) -> Result<String, Error> {
        client.query_one(&self.agree, &[&name, &proposal]).await?.try_get(0)
    }

    pub(super) async fn probe(&self, client: &Client, key: KeyHash) -> Result<(), Error> {
        client.execute(&self.probe, &[&Id(key)]).await.map(drop)
    }

    /// Does something with the permits of a key.
    pub(super) async fn permits(
        &self,
        client: &Client,
        key: KeyHash,
        wish: &Wish,
        told_micros: Option<i64>,
    ) -> Result<Vec<i64>, Error> {
        let (id, permit) = (Id(key), Id(KeyHash(wish.id.0)));
        let sent: [&(dyn ToSql + Sync); 6] =
            [&wish.what, &id, &&[lock(key)][..], &permit, &wish.numbers, &told_micros];
        client.query_one(&self.permits, &sent).await?.try_get(0)
    }

    /// Removes idle rows of so many pages, unless somebody did within so many microseconds. Returns how many there were.
    pub(super) async fn sweep(&self, client: &Client, pages: i64, every_micros: i64) -> Result<i64, Error> {
        client.query_one(&self.sweep, &[&pages, &every_micros]).await?.try_get(0)
    }
}

/// A batch as the function `decide` reads it.
#[derive(Debug)]
pub(super) struct Sent {
    keys: Vec<Id>,
    locks: Vec<i32>,
    rule_of: Vec<i32>,
    rules: Vec<i64>,
    requests: Vec<i64>,
    /// For each key of the batch, in its order, where it is among `keys`.
    places: Vec<usize>,
}

impl Sent {
    /// Of a batch, for a server where it is about this time.
    pub(super) fn of(batch: &Batch, about: Timestamp) -> Self {
        let mut order: Vec<usize> = (0..batch.keys().len()).collect();
        order.sort_unstable_by_key(|index| batch.keys()[*index].0);
        let mut places = vec![0; order.len()];
        for (place, index) in order.iter().enumerate() {
            places[*index] = place;
        }
        let keys: Vec<Id> = order.iter().map(|index| Id(batch.keys()[*index].0)).collect();
        let mut sent = Self {
            locks: locks(keys.iter().map(|key| key.0)),
            keys,
            rule_of: Vec::with_capacity(order.len()),
            rules: Vec::new(),
            requests: Vec::new(),
            places,
        };
        let mut limits: Vec<&Limit> = Vec::new();
        for index in order {
            let limit = &batch.keys()[index].1;
            let known = limits.iter().position(|other| *other == limit);
            let place = known.unwrap_or_else(|| {
                sent.push_rule(limit, about);
                limits.push(limit);
                limits.len() - 1
            });
            sent.rule_of.push(i32::try_from(place + 1).unwrap_or(i32::MAX));
        }
        for order in batch.orders() {
            order.with_groups(|groups| sent.push_request(batch, groups));
        }
        sent
    }

    fn push_rule(&mut self, limit: &Limit, about: Timestamp) {
        let rule = rule_of(limit);
        let end = self.rules.len() + RULE_NUMBERS - 1;
        self.rules.extend(rule.numbers(about).into_iter().map(number));
        self.rules.resize(end, 0);
        self.rules.push(rule.letter().into());
    }

    fn push_request(&mut self, batch: &Batch, groups: &[tollgate_core::Group<'_>]) {
        self.requests.push(count(groups.len()));
        let mut index = 0;
        for group in groups {
            let needed = group.combine.needed(group.hits.len());
            self.requests.extend([count(needed), group.shadow.into(), count(group.hits.len())]);
            for hit in group.hits {
                let rule = rule_of(hit.limit);
                if let Rule::Stateless { admits } = rule {
                    self.requests.extend([0, admits.into(), 0, 0, 0]);
                } else {
                    let place = self.places[batch.number_of(hit.key) - 1];
                    let [[need, need_part], [cost, part]] =
                        [asked(groups, index), hit.cost].map(|cost| rule.cost(cost));
                    self.requests.push(count(place + 1));
                    self.requests.extend([need, need_part, cost, part].map(number));
                }
                index += 1;
            }
        }
    }

    /// What the function answered.
    ///
    /// # Errors
    /// If it is nothing that the function answers.
    pub(super) fn reply(&self, row: &Row) -> Result<Answered, StoreError> {
        let strange =
            || StoreError::Defect("the database answered something that it never answers".to_owned());
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        let columns =
            (column::<i64>(row, 0), column::<Option<&str>>(row, 1), column::<Option<Vec<i64>>>(row, 2));
        let (Some(now), Some(passed), Some(held)) = columns else { return Err(strange()) };
        let now = Timestamp::from_nanos(whole(now).saturating_mul(MICRO));
        let (Some(passed), Some(held)) = (passed, held) else { return Ok(Answered::Elsewhere(now)) };
        let (mut rest, mut values) = (&held[..], Vec::with_capacity(self.keys.len()));
        while let [letter, count, others @ ..] = rest {
            let (own, others) = others
                .split_at_checked(usize::try_from(*count).map_err(|_| strange())?)
                .ok_or_else(strange)?;
            let letter = u8::try_from(*letter).map_err(|_| strange())?;
            let numbers = || own.iter().copied().map(whole).collect();
            values.push((letter != 0).then(|| Value { letter, numbers: numbers() }));
            rest = others;
        }
        if values.len() != self.keys.len() {
            return Err(strange());
        }
        Ok(Answered::Decided(Reply {
            now,
            passed: passed.as_bytes().to_vec(),
            values: self.places.iter().map(|place| values[*place].take()).collect(),
        }))
    }
}

fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Option<T> {
    row.try_get(index).ok()
}
