//! Groups of a request whose hits are kept in a list of their own, because they outlive the request or are not its own.

use smallvec::SmallVec;
use tollgate_core::{Combine, Group, Hit};

/// Groups of hits that lie one behind the other, by how each decides, whether it is a shadow, and how many hits it has.
pub(crate) fn grouped<'h>(
    shapes: impl Iterator<Item = (Combine, bool, usize)>,
    mut hits: &'h [Hit<'h>],
) -> SmallVec<[Group<'h>; 2]> {
    let group = |(combine, shadow, count)| {
        let (own, others) = hits.split_at(count);
        hits = others;
        Group { combine, shadow, ..Group::all(own) }
    };
    shapes.map(group).collect()
}

/// How a group decides, whether it is a shadow, and how many hits it has.
pub(crate) const fn shape(group: &Group<'_>) -> (Combine, bool, usize) {
    (group.combine, group.shadow, group.hits.len())
}
