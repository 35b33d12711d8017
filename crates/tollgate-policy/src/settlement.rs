//! What a request really cost, known only after it was answered.

/// How a request that passed is to be charged in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settlement {
    /// It costs nothing: what was taken is given back.
    Refund,
    /// It costs this much, in place of what was taken.
    Actual(u32),
    /// It costs this much more than was taken.
    Extra(u32),
}

impl Settlement {
    /// How much is given back, and how much is taken beyond, where this much was `taken`.
    ///
    /// ```
    /// use tollgate_policy::Settlement;
    ///
    /// assert_eq!(Settlement::Refund.change(5), (5, 0));
    /// assert_eq!(Settlement::Actual(3).change(5), (2, 0));
    /// assert_eq!(Settlement::Actual(9).change(5), (0, 4));
    /// assert_eq!(Settlement::Extra(2).change(5), (0, 2));
    /// ```
    #[must_use]
    pub const fn change(self, taken: u32) -> (u32, u32) {
        match self {
            Self::Refund => (taken, 0),
            Self::Actual(cost) => (taken.saturating_sub(cost), cost.saturating_sub(taken)),
            Self::Extra(more) => (0, more),
        }
    }
}
