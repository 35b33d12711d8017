//! Joining: a key that has no entry gets one, and only one.
//!
//! A thread that joins claims an entry, then looks over the key's lines again. Of two that join with the same key, at
//! least one sees the other there, as both claim before they look, with a fence between; the one whose entry comes
//! first stays. So the entry that becomes a member is the only one. Likewise, that a segment is being split is written
//! before it is looked through: either whoever looks sees the claim, or the claimant sees the split.

use super::line::{First, Line, Status, Tag};
use super::segment::Segment;
use super::{Place, REACH, Seen, Table};
use crate::memory::Full;
use crate::memory::census::Census;
use crate::sync::{Ordering, fence, pause};

/// How often a thread looks again for another that joins with the same key, before it goes on without it.
const PATIENCE: u32 = if cfg!(loom) { 1 } else { 64 };

/// What came of bringing a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It has an entry now, with the state that it was brought with.
    Yes,
    /// It has one already, or had one in the meantime.
    Already,
}

impl<const W: usize> Table<W> {
    /// Looks over a key's lines for the key itself and for room.
    pub(super) fn survey(segment: &Segment<W>, place: Place, now: u64) -> Survey<'_, W> {
        let mut survey = Survey { own: None, vacant: None, unused: None, soonest: u64::MAX };
        for (distance, seen) in Self::entries(segment, place) {
            // The state is read after the tag: where it is already another's, the tag cannot be claimed.
            let first = seen.line.first(seen.entry);
            let status = seen.tag.status();
            match status {
                Status::Unused | Status::Left => {
                    survey.unused.get_or_insert((seen, distance, first));
                }
                Status::Joining | Status::Member
                    if seen.tag.is_of(place.hash, distance)
                        && (!first.is_dead() || status == Status::Joining) =>
                {
                    survey.own = Some(seen);
                    return survey;
                }
                Status::Member if first.is_vacant(now) || first.is_dead() => {
                    survey.vacant.get_or_insert((seen, distance, first));
                }
                Status::Member => survey.soonest = survey.soonest.min(first.moment()),
                Status::Joining => {}
            }
            if status == Status::Unused {
                return survey;
            }
        }
        survey
    }

    /// Brings a key that has no entry, with its first state.
    ///
    /// `moved` is the entry that the key has elsewhere if it only moves.
    ///
    /// # Errors
    /// If there is no room. A key that moves finds room whatever the census says.
    pub(super) fn join(
        &self,
        census: &Census,
        from: &Segment<W>,
        place: Place,
        words: [u64; W],
        now: u64,
        moved: Option<&Seen<'_, W>>,
    ) -> Result<Joined, Full> {
        let mut waits = 0;
        loop {
            let (segment, bits) = self.owner(census, from, place, now);
            let Survey { own, vacant, unused, soonest } = Self::survey(segment, place, now);
            if let Some(own) = own {
                if own.tag.status() == Status::Member {
                    return Ok(Joined::Already);
                }
                // Another thread joins with the same key. If it takes too long, it has to begin again.
                waits += 1;
                pause(waits);
                if waits > PATIENCE {
                    own.leave(census);
                }
                continue;
            }
            let claimed = match (vacant, unused) {
                (Some((seen, distance, first)), _) => {
                    // Nobody may use it any more before it becomes another's.
                    if !first.is_dead() && !seen.line.swap_first(seen.entry, first, First::DEAD) {
                        continue;
                    }
                    claim(seen, distance, place).map(|seen| (seen, distance, First::DEAD))
                }
                (None, Some((seen, distance, first))) => {
                    if moved.is_some() {
                        census.enter_anyway();
                    } else if !census.enter() {
                        return Err(Full { soonest });
                    }
                    let claimed = claim(seen, distance, place);
                    if claimed.is_none() {
                        census.leave();
                    }
                    claimed.map(|seen| (seen, distance, first))
                }
                (None, None) => {
                    if !self.split(census, segment, place, now) {
                        return Err(Full { soonest });
                    }
                    None
                }
            };
            let Some((own, distance, before)) = claimed else { continue };
            // Claimed first, then looked: see above.
            fence(Ordering::SeqCst);
            let stays = own.line.write_claimed(own.entry, own.tag, before, words)
                && Self::still_owns(segment, bits, place)
                && Self::is_first(census, segment, place, &own, distance)
                && moved.is_none_or(Seen::is_unchanged);
            if stays && own.retag(own.tag.joined()) {
                self.marks.mark(self.index(place));
                self.sweeper.note(words[0]);
                return Ok(Joined::Yes);
            }
            // If it is no longer there, another thread has sent it away.
            own.leave(census);
            if moved.is_some_and(|moved| !moved.is_unchanged()) {
                return Ok(Joined::Already);
            }
        }
    }

    /// Whether a segment is still a key's own.
    fn still_owns(segment: &Segment<W>, mut bits: u32, place: Place) -> bool {
        while segment.child(bits).is_some() {
            if place.bit(bits) {
                return false;
            }
            bits += 1;
        }
        true
    }

    /// Whether a claimed entry is the first of its key. Later ones, which are not members yet, are sent away.
    fn is_first(
        census: &Census,
        segment: &Segment<W>,
        place: Place,
        own: &Seen<'_, W>,
        own_distance: usize,
    ) -> bool {
        for distance in 0..REACH {
            let line = segment.line(place.home + distance);
            for entry in 0..Line::<W>::ENTRIES {
                if (distance, entry) == (own_distance, own.entry) {
                    continue;
                }
                loop {
                    let tag = line.tag(entry);
                    if tag.status() == Status::Unused && (distance, entry) > (own_distance, own.entry) {
                        return true;
                    }
                    if !tag.is_of(place.hash, distance) {
                        break;
                    }
                    if tag.status() == Status::Member {
                        if line.first(entry).is_dead() {
                            break;
                        }
                        return false;
                    }
                    if (distance, entry) < (own_distance, own.entry) {
                        return false;
                    }
                    if line.retag(entry, tag, tag.left()) {
                        census.leave();
                        break;
                    }
                }
            }
        }
        true
    }
}

/// What was found in a key's lines.
pub(super) struct Survey<'s, const W: usize> {
    /// The key's own entry, a member or joining. If there is one, the others may not be known.
    own: Option<Seen<'s, W>>,
    /// The first entry that is vacant or dead, how far from home, and its first state word.
    pub(super) vacant: Option<(Seen<'s, W>, usize, First)>,
    /// The first that is nobody's.
    unused: Option<(Seen<'s, W>, usize, First)>,
    /// The first moment at which one of the others will be vacant.
    soonest: u64,
}

/// Claims an entry for a key.
fn claim<const W: usize>(seen: Seen<'_, W>, distance: usize, place: Place) -> Option<Seen<'_, W>> {
    let tag = Tag::joining(place.hash, distance, seen.tag);
    seen.retag(tag).then_some(Seen { tag, ..seen })
}
