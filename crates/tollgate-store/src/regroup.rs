//! Groups of a request whose hits are kept in a list of their own, because they outlive the request or are not its own.

use smallvec::SmallVec;
use tollgate_core::{Group, Hit};

/// A group without its hits, and how many it has.
pub(crate) type Shape = (Group<'static>, usize);

/// Groups of these shapes, of hits that lie one behind the other.
pub(crate) fn grouped<'h>(
    shapes: impl Iterator<Item = Shape>,
    mut hits: &'h [Hit<'h>],
) -> SmallVec<[Group<'h>; 2]> {
    let group = |(group, count): Shape| {
        let (own, others) = hits.split_at(count);
        hits = others;
        Group { hits: own, ..group }
    };
    shapes.map(group).collect()
}

/// The shape of a group.
pub(crate) const fn shape(group: &Group<'_>) -> Shape {
    let Group { hits, combine, shadow, sharing } = *group;
    (Group { hits: &[], combine, shadow, sharing }, hits.len())
}
