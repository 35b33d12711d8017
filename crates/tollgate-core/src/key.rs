//! From an identity to the 128 bits that a store keeps.
//!
//! A key is hashed part by part, each with a tag for its kind and its length behind it, so that no choice of values
//! makes two different identities look alike: `("a", "bc")` and `("ab", "c")` differ, and so do the text `1` and the
//! number 1. The hash is SipHash-1-3 with 128 bits of output under a secret seed (J.-P. Aumasson and D. J. Bernstein,
//! *SipHash: a fast short-input PRF*, 2012): whoever chooses the values cannot aim for a collision, and what a store
//! holds does not reveal an API key.
//!
//! What is hashed is a string of bytes: each part padded with zeros to whole words of 8 bytes, then its tag and length
//! in a word, little-endian: 48 bits of length, 8 of tag, 8 of zeros, which the last part leaves out. It can be
//! read back from its end, so different keys are different strings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The secret that keys are hashed under: random for a store in this process, configured where nodes share a store.
#[derive(Clone, Copy)]
pub struct KeySeed([u8; 16]);

impl KeySeed {
    /// A seed of these 16 bytes. They should come from a random source, and be kept secret.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes: as secret as the seed itself.
    pub const fn to_bytes(&self) -> [u8; 16] {
        self.0
    }

    const fn words(&self) -> [u64; 2] {
        let both = u128::from_le_bytes(self.0);
        // The two halves.
        #[allow(clippy::cast_possible_truncation)]
        [both as u64, (both >> 64) as u64]
    }
}

/// Says nothing of the secret.
impl std::fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySeed(…)")
    }
}

/// What the keys of several limits by one identity are apart. Odd, so that all multiples differ; with bits all over, as
/// tables use the top and the bottom: the fraction of the golden ratio.
const STEP: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

/// The bits that the keys of all limits by one identity have in common.
const TAG: u128 = 0xFFFF << 112;

/// A key as a store sees it: 128 bits that look random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The key of the `index`-th of several limits that count by the same identity. The 0th is the hash itself.
    ///
    /// As the hash is as good as random to whoever does not know the seed, so is its sum with any number: the keys of two
    /// identities meet no more often than two random numbers. The [tag](Self::tag) stays as it is.
    ///
    /// ```
    /// # use tollgate_core::KeyHash;
    /// let key = KeyHash(7);
    /// assert_eq!(key.nth(0), key);
    /// assert_ne!(key.nth(1), key.nth(2));
    /// ```
    #[must_use]
    pub const fn nth(self, index: u64) -> Self {
        let sum = self.0.wrapping_add(STEP.wrapping_mul(index as u128));
        Self(self.0 & TAG | sum & !TAG)
    }

    /// The `to`-th key of the identity whose `from`-th this is.
    ///
    /// ```
    /// # use tollgate_core::KeyHash;
    /// let identity = KeyHash(7);
    /// assert_eq!(identity.nth(u64::MAX).renumbered(u64::MAX, 3), identity.nth(3));
    /// ```
    #[must_use]
    pub const fn renumbered(self, from: u64, to: u64) -> Self {
        let identity = self.0.wrapping_sub(STEP.wrapping_mul(from as u128));
        Self(self.0 & TAG | identity & !TAG).nth(to)
    }

    /// What the keys of all limits by one identity have in common, so that a store that is spread over servers can keep
    /// them together: the top 16 bits.
    ///
    /// ```
    /// # use tollgate_core::KeyHash;
    /// let key = KeyHash(7 << 120);
    /// assert_eq!(key.nth(1).tag(), key.tag());
    /// ```
    // As many bits.
    #[allow(clippy::cast_possible_truncation)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 112) as u16
    }
}

/// A key's hash, or all that is needed to finish it.
///
/// Half of the hash is half of the work, and a store that finds a key by that half never asks for the other.
pub trait HashedKey: Copy {
    /// The lower half of the [hash](Self::hash).
    fn low(&self) -> u64;

    /// The whole hash.
    fn hash(&self) -> KeyHash;
}

impl HashedKey for KeyHash {
    #[inline(always)]
    // The lower half.
    #[allow(clippy::cast_possible_truncation)]
    fn low(&self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn hash(&self) -> KeyHash {
        *self
    }
}

/// The key of all parts so far.
impl HashedKey for KeyBuilder {
    #[inline(always)]
    fn low(&self) -> u64 {
        self.halves().0
    }

    #[inline(always)]
    fn hash(&self) -> KeyHash {
        self.finish()
    }
}

/// The [`nth`](KeyHash::nth) key of an identity, which is not hashed yet.
///
/// ```
/// use tollgate_core::{HashedKey, KeyBuilder, KeySeed, NthKey};
///
/// let mut identity = KeyBuilder::new(&KeySeed::new([7; 16]));
/// identity.push("203.0.113.7");
/// assert_eq!(NthKey::new(identity, 2).hash(), identity.finish().nth(2));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NthKey {
    identity: KeyBuilder,
    index: u64,
}

impl NthKey {
    /// The key of the `index`-th limit by this identity.
    pub const fn new(identity: KeyBuilder, index: u64) -> Self {
        Self { identity, index }
    }
}

impl HashedKey for NthKey {
    #[inline(always)]
    fn low(&self) -> u64 {
        // The lower halves: the tag is in the upper one.
        #[allow(clippy::cast_possible_truncation)]
        const LOW_STEP: u64 = STEP as u64;
        self.identity.low().wrapping_add(LOW_STEP.wrapping_mul(self.index))
    }

    #[inline(always)]
    fn hash(&self) -> KeyHash {
        self.identity.finish().nth(self.index)
    }
}

/// Collects the parts of a key.
///
/// ```
/// use tollgate_core::{KeyBuilder, KeySeed};
///
/// let seed = KeySeed::new([7; 16]);
/// let key = |a: &str, b: &str| {
///     let mut builder = KeyBuilder::new(&seed);
///     builder.push(a);
///     builder.push(b);
///     builder.finish()
/// };
/// assert_eq!(key("a", "bc"), key("a", "bc"));
/// assert_ne!(key("a", "bc"), key("ab", "c"));
/// ```
#[derive(Clone, Copy)]
pub struct KeyBuilder {
    /// The state of SipHash.
    state: [u64; 4],
    /// Tag and length of the last part, not yet hashed.
    label: u64,
    /// How many words were hashed, times two; odd as soon as there is a label.
    words: u64,
}

/// Says nothing of the secret.
impl std::fmt::Debug for KeyBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyBuilder(…)")
    }
}

// All of it is inlined always: only then the state stays in registers.
//
// The hash is written out here, although there are crates for it, because it is the larger half of a decision in memory:
// as all parts are whole words, it needs no buffer for bytes left over, and takes about half the instructions.
impl KeyBuilder {
    /// A key without parts yet. Clone one that already holds the parts common to many keys.
    pub const fn new(seed: &KeySeed) -> Self {
        let [k0, k1] = seed.words();
        // The paper's constants, and its mark for 128 bits of output.
        let state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { state, label: 0, words: 0 }
    }

    /// Adds a typed part.
    #[inline(always)]
    pub fn push<K: Key + ?Sized>(&mut self, part: &K) {
        part.write(self);
    }

    /// Adds a part of the kind `tag`. Kinds below 16 are used by the implementations of [`Key`] in this crate.
    #[inline(always)]
    pub fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.begin();
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.absorb(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.absorb(padded(bytes, rest));
        }
        self.end(tag, bytes.len() as u64);
    }

    /// Adds a part of the kind `tag` that fits a word.
    #[inline(always)]
    pub fn word(&mut self, tag: u8, word: u64) {
        self.begin();
        self.absorb(word);
        self.end(tag, 8);
    }

    /// The hash of all parts.
    #[inline(always)]
    pub fn finish(&self) -> KeyHash {
        let (low, high) = self.halves();
        KeyHash(u128::from(high) << 64 | u128::from(low))
    }

    #[inline(always)]
    fn halves(mut self) -> (u64, u64) {
        // The last word of the string holds its length in the top byte: whole words, and seven bytes of the label.
        let length = ((self.words & !1) << 2) | ((self.words & 1) * 7);
        self.absorb(self.label | length << 56);
        self.state[2] ^= 0xee;
        let low = self.output();
        self.state[1] ^= 0xdd;
        (low, self.output())
    }

    #[inline(always)]
    fn begin(&mut self) {
        if self.words & 1 == 1 {
            self.absorb(self.label);
        }
    }

    #[inline(always)]
    fn end(&mut self, tag: u8, length: u64) {
        // No slice is as long as 2^48 bytes.
        self.label = u64::from(tag) << 48 | length & ((1 << 48) - 1);
        self.words |= 1;
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.state[3] ^= word;
        self.round();
        self.state[0] ^= word;
        self.words = self.words.wrapping_add(2);
    }

    #[inline(always)]
    fn output(&mut self) -> u64 {
        for _ in 0..3 {
            self.round();
        }
        let [a, b, c, d] = self.state;
        a ^ b ^ c ^ d
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.state;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        self.state = [a, b, c.rotate_left(32), d];
    }
}

/// The last one to seven bytes of `bytes`, which are `rest`, as a word padded with zeros.
#[inline(always)]
fn padded(bytes: &[u8], rest: &[u8]) -> u64 {
    // Two reads that overlap instead of a loop over the bytes.
    if let Some(last) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*last) >> (64 - 8 * rest.len());
    }
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first))
                | u64::from(u32::from_le_bytes(*last)) << (8 * (rest.len() - 4))
        }
        _ => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A type that can be a key, or a part of one.
///
/// Implement it by pushing what makes a value itself:
///
/// ```
/// use tollgate_core::{Key, KeyBuilder};
///
/// struct Tenant { region: String, id: u64 }
///
/// impl Key for Tenant {
///     fn write(&self, key: &mut KeyBuilder) {
///         key.push(self.region.as_str());
///         key.push(&self.id);
///     }
/// }
/// ```
pub trait Key {
    /// Adds all parts of this value to `key`, always as many for the same type, or preceded by their number.
    fn write(&self, key: &mut KeyBuilder);
}

const TAG_TEXT: u8 = 1;
const TAG_BYTES: u8 = 2;
const TAG_UNSIGNED: u8 = 3;
const TAG_SIGNED: u8 = 4;
const TAG_IPV4: u8 = 5;
const TAG_IPV6: u8 = 6;
const TAG_NONE: u8 = 7;
const TAG_SOME: u8 = 8;
const TAG_BOOL: u8 = 9;

impl Key for str {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        key.bytes(TAG_TEXT, self.as_bytes());
    }
}

impl Key for String {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        self.as_str().write(key);
    }
}

impl Key for [u8] {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        key.bytes(TAG_BYTES, self);
    }
}

impl Key for Vec<u8> {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        self.as_slice().write(key);
    }
}

impl Key for Ipv4Addr {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        key.word(TAG_IPV4, u64::from(self.to_bits()));
    }
}

impl Key for Ipv6Addr {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        key.bytes(TAG_IPV6, &self.octets());
    }
}

impl Key for IpAddr {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        match self {
            Self::V4(address) => address.write(key),
            Self::V6(address) => address.write(key),
        }
    }
}

impl Key for bool {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        key.word(TAG_BOOL, u64::from(*self));
    }
}

impl<K: Key> Key for Option<K> {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        match self {
            None => key.word(TAG_NONE, 0),
            Some(value) => {
                key.word(TAG_SOME, 1);
                value.write(key);
            }
        }
    }
}

impl<K: Key + ?Sized> Key for &K {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        (**self).write(key);
    }
}

macro_rules! integer_keys {
    ($tag:ident: $($type:ty),+) => {$(
        impl Key for $type {
            #[inline(always)]
            fn write(&self, key: &mut KeyBuilder) {
                key.bytes($tag, &self.to_le_bytes());
            }
        }
    )+};
}
integer_keys!(TAG_UNSIGNED: u8, u16, u32, u128);
integer_keys!(TAG_SIGNED: i8, i16, i32, i64, i128, isize);

impl Key for u64 {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        key.word(TAG_UNSIGNED, *self);
    }
}

impl Key for usize {
    #[inline(always)]
    fn write(&self, key: &mut KeyBuilder) {
        // No machine's usize is wider.
        key.word(TAG_UNSIGNED, *self as u64);
    }
}

macro_rules! tuple_keys {
    ($(($($name:ident $index:tt),+))+) => {$(
        impl<$($name: Key),+> Key for ($($name,)+) {
            #[inline(always)]
            fn write(&self, key: &mut KeyBuilder) {
                $(self.$index.write(key);)+
            }
        }
    )+};
}
tuple_keys! { (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn hash(key: &(impl Key + ?Sized)) -> KeyHash {
        let mut builder = KeyBuilder::new(&KeySeed::new([3; 16]));
        builder.push(key);
        builder.finish()
    }

    #[test]
    fn different_identities_differ() {
        let hashes = [
            hash("1"),
            hash(&1_u64),
            hash(&1_u32),
            hash(&1_i64),
            hash(b"1".as_slice()),
            hash(&true),
            hash(""),
            hash(&("a", "bc")),
            hash(&("ab", "c")),
            hash(&("abc", "")),
            hash("abc"),
            hash(&Some("abc")),
            hash(&None::<&str>),
            hash("a\0bc"),
            hash(&Ipv4Addr::LOCALHOST),
            hash(&Ipv6Addr::LOCALHOST),
            hash(&Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        ];
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
    }

    #[test]
    fn the_hash_is_siphash_of_the_string_that_is_written_down() {
        use siphasher::sip128::SipHasher13;

        let seed = *b"0123456789abcdef";
        let siphash = |string: &[u8]| KeyHash(SipHasher13::new_with_key(&seed).hash(string).as_u128());
        let new = || KeyBuilder::new(&KeySeed::new(seed));
        assert_eq!(new().finish(), siphash(b""));
        let text: Vec<u8> = (0..300_u32).map(|i| (i % 251) as u8).collect();
        for length in 0..text.len() {
            let mut string = text[..length].to_vec();
            string.resize(length.next_multiple_of(8), 0);
            string.extend_from_slice(&(length as u64).to_le_bytes()[..6]);
            string.push(42);

            let mut key = new();
            key.bytes(42, &text[..length]);
            assert_eq!(key.finish(), siphash(&string), "{length}");

            string.push(0);
            string.extend_from_slice(&7_u64.to_le_bytes());
            string.extend_from_slice(&[8, 0, 0, 0, 0, 0, 43]);
            key.word(43, 7);
            assert_eq!(key.finish(), siphash(&string), "{length}");
        }
    }

    #[test]
    fn halves_agree_with_the_whole() {
        let mut identity = KeyBuilder::new(&KeySeed::new([7; 16]));
        identity.push("x");
        assert_eq!(identity.low(), identity.finish().low());
        for index in [0, 1, 2, 3_000_000_000, u64::MAX] {
            let key = NthKey::new(identity, index);
            assert_eq!((key.low(), key.hash()), (key.hash().low(), identity.finish().nth(index)));
        }
    }

    #[test]
    fn the_seed_matters_and_stays_secret() {
        let other = KeyBuilder::new(&KeySeed::new([4; 16]));
        assert_ne!(other.finish(), KeyBuilder::new(&KeySeed::new([3; 16])).finish());
        assert!(!format!("{:?} {other:?}", KeySeed::new([77; 16])).contains("77"));
    }

    #[test]
    fn equal_values_of_one_type_are_one_key() {
        assert_eq!(hash("x"), hash(&String::from("x")));
        assert_eq!(hash(&IpAddr::V4(Ipv4Addr::LOCALHOST)), hash(&Ipv4Addr::LOCALHOST));
    }
}
