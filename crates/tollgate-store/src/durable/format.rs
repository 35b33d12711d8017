//! How states lie in a file: a head, then batches one after the other. All numbers are little-endian, on every machine.
//!
//! ```text
//! head    "TOLLGATE" | version u32 | 0 u32 | number of the file u64 | key seed, 16 bytes | 0, 20 bytes | CRC-32 u32
//! batch   "tgb1" | length u32 | number of the batch u64 | time u64 | CRC-32 u32 | sections
//! section kind u8 | whose u8 | 0 u16 | count u32 | so many entries
//! entry   0 word     place u64 | state u64
//!         1 triple   place u64 | state, 3 × u64
//!         2 no words place u64
//!         3 state    key u128 | vacant at u64 | length u32 | the state as `tollgate_core::written` has it
//!         4 no state key u128
//! ```
//!
//! The checksum of a batch is over the head without it, and all sections. A batch counts only whole, and only if all before it
//! do: what is torn or damaged ends the file for its reader.

use tollgate_core::{KeyHash, KeySeed, Timestamp};

use crate::memory::keep::{Entry, Part};

/// What this version writes, and reads.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"TOLLGATE";
pub(super) const HEAD_BYTES: usize = 64;
pub(super) const BATCH_MAGIC: &[u8; 4] = b"tgb1";
pub(super) const BATCH_HEAD_BYTES: usize = 28;

/// Longer batches are not written: the longest state, a log, is half of it.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 25;

/// A batch ends with the entry that makes it this long.
const BATCH_BYTES: usize = 1 << 20;

/// The head of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Which file it is: later ones have higher numbers.
    pub(super) number: u64,
    /// What the keys in it are hashed under.
    pub(super) seed: KeySeed,
}

/// Why a head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// It is of something else.
    Foreign,
    /// It is damaged.
    Damaged,
    /// It is of this version, which is not known here.
    Version(u32),
}

impl Head {
    pub(super) fn write(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.seed.to_bytes());
        let sum = crc32fast::hash(&bytes[..HEAD_BYTES - 4]);
        bytes[HEAD_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Result<Self, BadHead> {
        let mut rest = &bytes[..];
        if take::<8>(&mut rest) != Some(*MAGIC) {
            return Err(BadHead::Foreign);
        }
        let (body, sum) = bytes.split_at(HEAD_BYTES - 4);
        if crc32fast::hash(body).to_le_bytes() != sum {
            return Err(BadHead::Damaged);
        }
        match u32_of(&mut rest) {
            Some(VERSION) => {}
            version => return Err(BadHead::Version(version.unwrap_or_default())),
        }
        rest = &rest[4..];
        let number = u64_of(&mut rest).unwrap_or_default();
        let seed = KeySeed::new(take(&mut rest).unwrap_or_default());
        Ok(Self { number, seed })
    }
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHead {
    pub(super) length: usize,
    pub(super) number: u64,
    /// When its states were read.
    pub(super) time: Timestamp,
    sum: u32,
    begin: u32,
}

impl BatchHead {
    /// The head in these bytes, if it can be one.
    pub(super) fn read(bytes: &[u8; BATCH_HEAD_BYTES]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(BATCH_MAGIC)?;
        let length = u32_of(&mut rest)? as usize;
        let number = u64_of(&mut rest)?;
        let time = Timestamp::from_nanos(u64_of(&mut rest)?);
        let sum = u32_of(&mut rest)?;
        let begin = crc32fast::hash(&bytes[..BATCH_HEAD_BYTES - 4]);
        (length <= BATCH_BYTES_MAX).then_some(Self { length, number, time, sum, begin })
    }

    /// Whether these are its sections.
    pub(super) fn fits(&self, sections: &[u8]) -> bool {
        let mut sum = crc32fast::Hasher::new_with_initial_len(self.begin, (BATCH_HEAD_BYTES - 4) as u64);
        sum.update(sections);
        sum.finalize() == self.sum
    }
}

/// A batch that is being written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where the present section begins, and of which kind it is.
    section: Option<(usize, [u8; 2])>,
    count: u32,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it should end here.
    pub(super) const fn is_long(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, part: Part, entry: Entry<'_>) {
        let kind = match entry {
            Entry::Word(..) => 0,
            Entry::Triple(..) => 1,
            Entry::NoWords(_) => 2,
            Entry::State(..) => 3,
            Entry::NoState(_) => 4,
        };
        let kind = [kind, u8::from(part == Part::Shared)];
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEAD_BYTES, 0);
        }
        if self.section.is_none_or(|(_, present)| present != kind) {
            self.end_section();
            self.section = Some((self.bytes.len(), kind));
            self.bytes.extend([kind[0], kind[1], 0, 0, 0, 0, 0, 0]);
        }
        self.count += 1;
        let bytes = &mut self.bytes;
        match entry {
            // Nearly all are of this kind: at once.
            Entry::Word(place, [word]) => {
                bytes.extend_from_slice([place.to_le_bytes(), word.to_le_bytes()].as_flattened());
            }
            Entry::Triple(place, [first, second, third]) => {
                let numbers = [place, first, second, third].map(u64::to_le_bytes);
                bytes.extend_from_slice(numbers.as_flattened());
            }
            Entry::NoWords(place) => bytes.extend_from_slice(&place.to_le_bytes()),
            Entry::State(key, vacant_at, state) => {
                bytes.extend_from_slice(&key.0.to_le_bytes());
                bytes.extend_from_slice(&vacant_at.as_nanos().to_le_bytes());
                // A state is of at most sixteen megabytes.
                bytes.extend_from_slice(&u32::try_from(state.len()).unwrap_or(u32::MAX).to_le_bytes());
                bytes.extend_from_slice(state);
            }
            Entry::NoState(key) => bytes.extend_from_slice(&key.0.to_le_bytes()),
        }
    }

    fn end_section(&mut self) {
        if let Some((start, _)) = self.section.take() {
            self.bytes[start + 4..start + 8].copy_from_slice(&self.count.to_le_bytes());
        }
        self.count = 0;
    }

    /// The batch as it is written, under this number; the next begins with `clear`.
    pub(super) fn finish(&mut self, number: u64, time: Timestamp) -> &[u8] {
        self.end_section();
        let length = self.bytes.len().saturating_sub(BATCH_HEAD_BYTES);
        let head = &mut self.bytes[..BATCH_HEAD_BYTES];
        head[..4].copy_from_slice(BATCH_MAGIC);
        // It ended at a megabyte and one state.
        head[4..8].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        head[8..16].copy_from_slice(&number.to_le_bytes());
        head[16..24].copy_from_slice(&time.as_nanos().to_le_bytes());
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.bytes[..BATCH_HEAD_BYTES - 4]);
        sum.update(&self.bytes[BATCH_HEAD_BYTES..]);
        self.bytes[24..28].copy_from_slice(&sum.finalize().to_le_bytes());
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        // One long state should not hold its room for ever.
        self.bytes.shrink_to(2 * BATCH_BYTES);
        self.section = None;
        self.count = 0;
    }
}

/// Tells `each` the entries of a batch. `None` if the sections are not what they should be, though their checksum is.
pub(super) fn entries(mut sections: &[u8], mut each: impl FnMut(Part, Entry<'_>)) -> Option<()> {
    let rest = &mut sections;
    while !rest.is_empty() {
        let [kind, whose, 0, 0] = take::<4>(rest)? else { return None };
        let part = match whose {
            0 => Part::Own,
            1 => Part::Shared,
            _ => return None,
        };
        for _ in 0..u32_of(rest)? {
            let entry = match kind {
                0 => Entry::Word(u64_of(rest)?, [u64_of(rest)?]),
                1 => Entry::Triple(u64_of(rest)?, [u64_of(rest)?, u64_of(rest)?, u64_of(rest)?]),
                2 => Entry::NoWords(u64_of(rest)?),
                3 => {
                    let key = KeyHash(u128::from_le_bytes(take(rest)?));
                    let vacant_at = Timestamp::from_nanos(u64_of(rest)?);
                    let length = u32_of(rest)? as usize;
                    let (state, after) = rest.split_at_checked(length)?;
                    *rest = after;
                    Entry::State(key, vacant_at, state)
                }
                4 => Entry::NoState(KeyHash(u128::from_le_bytes(take(rest)?))),
                _ => return None,
            };
            each(part, entry);
        }
    }
    Some(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn u32_of(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}

fn u64_of(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: KeySeed = KeySeed::new([7; 16]);

    #[test]
    fn a_head_is_read_as_it_was_written_or_said_to_be_bad() {
        let head = Head { number: 3, seed: SEED };
        let bytes = head.write();
        assert_eq!(Head::read(&bytes).map(|head| (head.number, head.seed.to_bytes())), Ok((3, [7; 16])));
        for bit in 0..HEAD_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 { BadHead::Foreign } else { BadHead::Damaged };
            assert_eq!(Head::read(&flipped).err(), Some(expected), "{bit}");
        }
        let mut later = bytes;
        later[8] = 2;
        let sum = crc32fast::hash(&later[..HEAD_BYTES - 4]);
        later[HEAD_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Head::read(&later).err(), Some(BadHead::Version(2)));
    }

    fn example() -> Vec<(Part, Entry<'static>)> {
        vec![
            (Part::Own, Entry::Word(1, [2])),
            (Part::Own, Entry::Word(3, [4])),
            (Part::Shared, Entry::Word(5, [6])),
            (Part::Own, Entry::Triple(7, [8, 9, 10])),
            (Part::Own, Entry::NoWords(11)),
            (Part::Own, Entry::State(KeyHash(u128::MAX), Timestamp::from_secs(1), &[0])),
            (Part::Own, Entry::NoState(KeyHash(12))),
        ]
    }

    fn written(batch: &mut Batch) -> Vec<u8> {
        for (part, entry) in example() {
            batch.push(part, entry);
        }
        let bytes = batch.finish(5, Timestamp::from_secs(9)).to_vec();
        batch.clear();
        bytes
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let mut batch = Batch::default();
        let bytes = written(&mut batch);
        assert_eq!(written(&mut batch), bytes, "nothing is left of the one before");
        let (head, sections) = bytes.split_first_chunk().unwrap();
        let head = BatchHead::read(head).unwrap();
        assert_eq!((head.length, head.number, head.time), (sections.len(), 5, Timestamp::from_secs(9)));
        assert!(head.fits(sections));
        let mut expected = example().into_iter();
        entries(sections, |part, entry| assert_eq!(Some((part, entry)), expected.next())).unwrap();
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = written(&mut Batch::default());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (head, sections) = flipped.split_first_chunk().unwrap();
            let noticed = BatchHead::read(head)
                .is_none_or(|head| head.length != sections.len() || !head.fits(sections));
            assert!(noticed, "{bit}");
        }
    }

    #[test]
    fn no_sections_make_it_panic() {
        let bytes = written(&mut Batch::default());
        let sections = &bytes[BATCH_HEAD_BYTES..];
        for end in 0..sections.len() {
            entries(&sections[..end], |_, _| ());
        }
        for index in 0..sections.len() {
            for value in [0, 1, 2, 3, 4, 5, 127, 255] {
                let mut other = sections.to_vec();
                other[index] = value;
                entries(&other, |_, _| ());
            }
        }
    }
}
