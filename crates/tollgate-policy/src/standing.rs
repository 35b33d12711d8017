//! A limit as it is used, and what it was before it was changed.

use tollgate_core::{Former, HashedKey, Hit, KeyBuilder, KeySeed, Limit, LimitId, Timestamp};

use crate::policy::PolicyLimit;

/// The most changes of a limit that are remembered, each until nothing of that time can still be spent. Whoever changes a
/// limit more often meanwhile forgets what was spent before.
const FORMERS_MAX: usize = 8;

/// A limit as it is used.
///
/// The numbers of a limit are part of its keys: a state tells what was spent only by the rule that wrote it. So a limit that is
/// changed has new keys, and for as long as it matters a store is told where the old ones are.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    id: LimitId,
    limit: Limit,
    /// Its number among all limits that count by the same identity: any, but no other's.
    number: u64,
    /// What it was before, the latest first.
    formers: Box<[Former]>,
    /// The number of each, and until when its states matter.
    past: Box<[(u64, Timestamp)]>,
    /// Until when any of them matters.
    until: Timestamp,
}

impl Standing {
    pub(crate) fn new(limit: &PolicyLimit, seed: KeySeed) -> Self {
        let mut builder = KeyBuilder::new(&seed);
        builder.push(&limit.id.0);
        builder.push(&limit.limit);
        Self {
            id: limit.id,
            limit: limit.limit,
            // Half of the hash will do.
            number: builder.low(),
            formers: Box::default(),
            past: Box::default(),
            until: Timestamp::EPOCH,
        }
    }

    pub(crate) const fn id(&self) -> LimitId {
        self.id
    }

    pub(crate) const fn limit(&self) -> &Limit {
        &self.limit
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// What it was before, the latest first, whether that matters still or not.
    pub(crate) const fn formers(&self) -> &[Former] {
        &self.formers
    }

    /// A hit on it under this key.
    #[inline]
    pub(crate) fn hit<K: HashedKey>(&self, key: K, now: Timestamp) -> Hit<'_, K> {
        let hit = Hit::new(self.id, key, &self.limit);
        if now < self.until { hit.with_formers(&self.formers) } else { hit }
    }

    /// Takes note of what it was up to now.
    pub(crate) fn succeed(&mut self, former: &Self, now: Timestamp) {
        let latest = (former.number, former.limit, now.saturating_add(former.limit.recovery()));
        let before = former.formers.iter().zip(&former.past);
        let before = before.map(|(former, (number, until))| (*number, *former.limit(), *until));
        let past: Vec<(u64, Limit, Timestamp)> = std::iter::once(latest)
            .chain(before)
            // What it is again it has not ceased to be: those states are under its own keys.
            .filter(|(number, _, until)| *number != self.number && *until > now)
            .take(FORMERS_MAX)
            .collect();
        self.until = past.iter().map(|(_, _, until)| *until).max().unwrap_or(Timestamp::EPOCH);
        self.formers =
            past.iter().map(|(number, limit, _)| Former::new(*limit, *number, self.number)).collect();
        self.past = past.iter().map(|(number, _, until)| (*number, *until)).collect();
    }
}
