//! What is done rarely: states are read, worked with here, and swapped if they are still what they were.

use tollgate_core::{Answer, Group, KeyHash, Limit, Source, Timestamp};

use super::batch::{Batch, Order, Reply};
use super::rule::{Rule, Unfit, Value};
use super::told::ToldTime;
use crate::plain::{self, States, carried};
use crate::store::{Refund, StoreError};
use crate::together::hits;

/// What a key is to hold in place of something else, and for how many milliseconds.
#[derive(Debug)]
pub(crate) struct Swap {
    pub(crate) key: KeyHash,
    /// Nothing if it is to be free.
    pub(crate) from: Option<Value>,
    pub(crate) to: Option<(Value, u64)>,
}

/// The states on a server, or on several.
pub(crate) trait Cells: Sync {
    /// What decides there.
    const SOURCE: Source;

    /// Whether keys lie together, so that they can be read at once.
    fn together(&self, one: KeyHash, other: KeyHash) -> bool;

    /// The time that the server is told.
    fn told_time(&self) -> &ToldTime;

    /// What the keys of a batch hold, all of which lie together.
    fn read(&self, batch: &Batch) -> impl Future<Output = Result<Reply, StoreError>> + Send;

    /// Changes what a key holds. Returns whether it still held what it had to.
    fn swap(&self, swap: Swap) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Says what a request would be answered, and takes nothing.
pub(crate) async fn look<C: Cells>(cells: &C, groups: &[Group<'_>]) -> Result<Answer, StoreError> {
    Order::new(groups).map_err(unfit)?;
    let (mut states, now) = states(cells, groups).await?;
    Ok(plain::peek(now, groups, &mut states, C::SOURCE))
}

/// The states of all keys of a request, and of those that they had before; and the time at which they were read.
pub(crate) async fn states<C: Cells>(
    cells: &C,
    groups: &[Group<'_>],
) -> Result<(States, Timestamp), StoreError> {
    let mut keys: Vec<(KeyHash, Limit)> = hits(groups)
        .flat_map(|hit| {
            let formers = hit.formers.iter().map(|former| (former.key(hit.key), *former.limit()));
            std::iter::once((hit.key, *hit.limit)).chain(formers)
        })
        .filter(|(_, limit)| limit.is_stateful())
        .collect();
    keys.sort_by_key(|(key, _)| key.tag());
    let (mut states, mut now) = (States::new(), Timestamp::EPOCH);
    for keys in keys.chunk_by(|(one, _), (other, _)| cells.together(*one, *other)) {
        let batch = Batch::of_keys(keys.iter().copied());
        let reply = cells.read(&batch).await?;
        states.extend(batch.states(&reply));
        now = now.max(reply.now);
    }
    Ok((states, now))
}

/// Moves what is left of keys whose limits were changed to the keys of the new ones.
pub(crate) async fn carry_over<C: Cells>(cells: &C, groups: &[Group<'_>]) -> Result<(), StoreError> {
    let (states, now) = states(cells, groups).await?;
    for (hit, state) in carried(groups, &states, now) {
        let Ok(rule) = Rule::of(hit.limit) else { continue };
        let millis = cells.told_time().lasting(hit.limit, &state, now);
        let to = millis.map(|millis| (rule.value_of(&state), millis));
        let from = states.get(&hit.key).map(|state| rule.value_of(state));
        // The new one first: what is there twice counts once. If it was not done, somebody else did it.
        cells.swap(Swap { key: hit.key, from, to }).await?;
        for former in hit.formers {
            let (key, Ok(rule)) = (former.key(hit.key), Rule::of(former.limit())) else { continue };
            let Some(state) = states.get(&key) else { continue };
            cells.swap(Swap { key, from: Some(rule.value_of(state)), to: None }).await?;
        }
    }
    Ok(())
}

/// Gives back what was taken from a key.
pub(crate) async fn give_back<C: Cells>(cells: &C, refund: &Refund<'_>) -> Result<(), StoreError> {
    /// How often another decision may come between the look and the change.
    const TRIES: u32 = 16;

    let rule = Rule::of(refund.limit).map_err(unfit)?;
    let batch = Batch::of_keys([(refund.key, *refund.limit)]);
    for _ in 0..TRIES {
        let reply = cells.read(&batch).await?;
        let Some(mut state) = batch.states(&reply).remove(&refund.key) else { return Ok(()) };
        let from = reply.values.first().cloned().flatten();
        refund.limit.give_back(&mut state, reply.now, refund.grant);
        let millis = cells.told_time().lasting(refund.limit, &state, reply.now);
        let to = millis.map(|millis| (rule.value_of(&state), millis));
        if cells.swap(Swap { key: refund.key, from, to }).await? {
            return Ok(());
        }
    }
    Err(StoreError::Unavailable(format!("others changed the key {TRIES} times meanwhile")))
}

/// A limit that the store cannot keep, as an error of the store.
pub(crate) fn unfit(why: Unfit) -> StoreError {
    StoreError::Defect(why.to_string())
}
