//! How nodes that share a store count together, and what each does while it cannot ask.

use crate::time::Nanos;

/// How nodes count a limit that they share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// The store decides every request: one round trip each, and exactly the limit.
    #[default]
    Strict,
    /// Each node takes units ahead and decides by those: never more than the limit, and nearly always at once. What a node
    /// holds, others cannot use.
    Lease,
    /// Each node decides at once, and settles with the store in the background: a little more than the limit.
    LocalFirst,
}

impl Consistency {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Lease, Self::LocalFirst];

    /// The name in policy files and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lease => "lease",
            Self::LocalFirst => "local_first",
        }
    }
}

/// Who decides while the store that nodes share cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// Nobody: the request has no answer, which is an error and not a denial.
    Deny,
    /// Everything passes, for so long after the first failure of an outage; then nobody decides.
    Allow {
        /// How long.
        grace: Nanos,
    },
    /// This node, by its [share](crate::Share) of each limit.
    #[default]
    Local,
}

/// What a group of limits says of the store that nodes share; where it says nothing, the store's own settings hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sharing {
    /// How nodes count.
    pub consistency: Option<Consistency>,
    /// Who decides while the store is away.
    pub on_failure: Option<OnFailure>,
}

impl Sharing {
    /// Nothing: the store's settings hold.
    pub const DEFAULT: Self = Self { consistency: None, on_failure: None };
}
