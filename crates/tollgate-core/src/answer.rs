//! What a store answers.

use smallvec::SmallVec;

use crate::decision::{Decision, Grant};
use crate::hit::Group;

/// What a store says of one hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the hit's limit says. Its `remaining` and `reset_after` describe the state after the request: with the
    /// cost taken only if it was.
    pub decision: Decision,
    /// What was taken from the limit: `None` if the request as a whole was denied, or this limit did not admit it.
    pub grant: Option<Grant>,
    /// What decided.
    pub source: Source,
}

/// What decided a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The state of the key itself, in this process.
    #[default]
    Memory,
    /// The rule for a full store, as the key is new and there is no room for it.
    Overflow,
    /// The state of the key in Redis, which other nodes share.
    Redis,
    /// The state of the key in PostgreSQL, which other nodes share.
    Postgres,
    /// The state of the key in a store that is not of this project.
    Custom,
    /// What this node has taken ahead from the store that nodes share.
    Lease,
    /// This node, which settles with the store that nodes share later.
    LocalFirst,
    /// This node alone, as the store that nodes share could not be asked.
    Fallback,
    /// A ban, whatever the limit says.
    Ban,
}

impl Source {
    /// The name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Overflow => "overflow",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Custom => "custom",
            Self::Lease => "lease",
            Self::LocalFirst => "local_first",
            Self::Fallback => "fallback",
            Self::Ban => "ban",
        }
    }
}

/// The outcomes of a request's hits; on the stack while there are few.
pub type Outcomes = SmallVec<[Outcome; 4]>;

/// What a store says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer that nobody looks at limits nothing"]
pub struct Answer {
    /// Whether the request passes: whether every group that is not a shadow admits it.
    pub allowed: bool,
    /// One outcome for each hit, in the order of the groups and of the hits in them.
    pub outcomes: Outcomes,
}

/// The rule by which hits decide together: whether the request passes, and for each hit whether its cost is taken.
///
/// `admits` holds what each hit's limit says by itself, in order. Stores of any kind share this function, so that they
/// agree.
pub fn combined(groups: &[Group<'_>], admits: &[bool]) -> (bool, SmallVec<[bool; 8]>) {
    let mut takes: SmallVec<[bool; 8]> = SmallVec::new();
    let mut allowed = true;
    let mut rest = admits;
    for group in groups {
        let (own, others) = rest.split_at(group.hits.len().min(rest.len()));
        rest = others;
        let admitting = own.iter().filter(|admits| **admits).count();
        let admitted = group.combine.admits(admitting, own.len());
        allowed &= admitted || group.shadow;
        for admits in own {
            takes.push(admitted && *admits);
        }
    }
    if !allowed {
        takes.fill(false);
    }
    (allowed, takes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Combine, Hit, KeyHash, Limit, LimitId};

    #[test]
    fn groups_agree_or_nothing_is_taken() {
        let hit = Hit::new(LimitId(0), KeyHash(0), &Limit::Unlimited);
        let hits = [hit; 3];
        let group = |combine, shadow| Group { combine, shadow, ..Group::all(&hits) };
        let (all, any) = (group(Combine::All, false), group(Combine::Any, false));
        let watched = group(Combine::All, true);

        let (allowed, takes) = combined(&[any], &[false, true, false]);
        assert!(allowed);
        assert_eq!(takes.as_slice(), [false, true, false]);

        let (allowed, takes) = combined(&[any, all], &[false, true, false, true, true, false]);
        assert!(!allowed);
        assert!(!takes.contains(&true));

        let (allowed, takes) = combined(&[watched, any], &[true, true, false, true, true, true]);
        assert!(allowed);
        assert_eq!(takes.as_slice(), [false, false, false, true, true, true]);

        assert!(combined(&[], &[]).0);
        assert!(combined(&[group(Combine::Majority, false)], &[true, false, true]).0);
    }
}
