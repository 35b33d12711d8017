//! From an identity to the 128 bits that a store keeps.
//!
//! A key is hashed part by part, each with a tag for its kind and its length in front, so that no choice of values
//! makes two different identities look alike: `("a", "bc")` and `("ab", "c")` differ, and so do the text `1` and the
//! number 1. The hash is SipHash-1-3 with 128 bits of output under a secret seed (J.-P. Aumasson and D. J. Bernstein,
//! *SipHash: a fast short-input PRF*, 2012): whoever chooses the values cannot aim for a collision, and what a store
//! holds does not reveal an API key.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip128::{Hasher128, SipHasher13};

/// The secret that keys are hashed under: random for a store in this process, configured where nodes share a store.
#[derive(Clone, Copy)]
pub struct KeySeed([u8; 16]);

impl KeySeed {
    /// A seed of these 16 bytes. They should come from a random source, and be kept secret.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Says nothing of the secret.
impl std::fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySeed(…)")
    }
}

/// A key as a store sees it: 128 bits that look random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The key of the `index`-th of several limits that count by the same identity. The 0th is the hash itself.
    ///
    /// As the hash is as good as random to whoever does not know the seed, so is its sum with any number: the keys of two
    /// identities meet no more often than two random numbers of 128 bits.
    ///
    /// ```
    /// # use tollgate_core::KeyHash;
    /// let key = KeyHash(7);
    /// assert_eq!(key.nth(0), key);
    /// assert_ne!(key.nth(1), key.nth(2));
    /// ```
    #[must_use]
    pub const fn nth(self, index: u64) -> Self {
        // Odd, so that all multiples differ; with bits all over, as tables use the top and the bottom: the fraction of the
        // golden ratio.
        const STEP: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;
        Self(self.0.wrapping_add(STEP.wrapping_mul(index as u128)))
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
#[derive(Clone)]
pub struct KeyBuilder(SipHasher13);

/// Says nothing of the secret.
impl std::fmt::Debug for KeyBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyBuilder(…)")
    }
}

impl KeyBuilder {
    /// A key without parts yet. Clone one that already holds the parts common to many keys.
    pub fn new(seed: &KeySeed) -> Self {
        Self(SipHasher13::new_with_key(&seed.0))
    }

    /// Adds a typed part.
    pub fn push<K: Key + ?Sized>(&mut self, part: &K) {
        part.write(self);
    }

    /// Adds a part of the kind `tag`. Kinds below 16 are used by the implementations of [`Key`] in this crate.
    pub fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        // One write for the head: the tag in the top byte of the length, which no slice can reach.
        self.0.write_u64(u64::from(tag) << 56 | bytes.len() as u64);
        self.0.write(bytes);
    }

    /// Adds a part of the kind `tag` that fits a word.
    pub fn word(&mut self, tag: u8, word: u64) {
        self.0.write_u64(u64::from(tag) << 56 | 8);
        self.0.write_u64(word);
    }

    /// The hash of all parts.
    pub fn finish(&self) -> KeyHash {
        KeyHash(self.0.finish128().as_u128())
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
    fn write(&self, key: &mut KeyBuilder) {
        key.bytes(TAG_TEXT, self.as_bytes());
    }
}

impl Key for String {
    fn write(&self, key: &mut KeyBuilder) {
        self.as_str().write(key);
    }
}

impl Key for [u8] {
    fn write(&self, key: &mut KeyBuilder) {
        key.bytes(TAG_BYTES, self);
    }
}

impl Key for Vec<u8> {
    fn write(&self, key: &mut KeyBuilder) {
        self.as_slice().write(key);
    }
}

impl Key for Ipv4Addr {
    fn write(&self, key: &mut KeyBuilder) {
        key.word(TAG_IPV4, u64::from(self.to_bits()));
    }
}

impl Key for Ipv6Addr {
    fn write(&self, key: &mut KeyBuilder) {
        key.bytes(TAG_IPV6, &self.octets());
    }
}

impl Key for IpAddr {
    fn write(&self, key: &mut KeyBuilder) {
        match self {
            Self::V4(address) => address.write(key),
            Self::V6(address) => address.write(key),
        }
    }
}

impl Key for bool {
    fn write(&self, key: &mut KeyBuilder) {
        key.word(TAG_BOOL, u64::from(*self));
    }
}

impl<K: Key> Key for Option<K> {
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
    fn write(&self, key: &mut KeyBuilder) {
        (**self).write(key);
    }
}

macro_rules! integer_keys {
    ($tag:ident: $($type:ty),+) => {$(
        impl Key for $type {
            fn write(&self, key: &mut KeyBuilder) {
                key.bytes($tag, &self.to_le_bytes());
            }
        }
    )+};
}
integer_keys!(TAG_UNSIGNED: u8, u16, u32, u128);
integer_keys!(TAG_SIGNED: i8, i16, i32, i64, i128, isize);

impl Key for u64 {
    fn write(&self, key: &mut KeyBuilder) {
        key.word(TAG_UNSIGNED, *self);
    }
}

impl Key for usize {
    fn write(&self, key: &mut KeyBuilder) {
        // No machine's usize is wider.
        key.word(TAG_UNSIGNED, *self as u64);
    }
}

macro_rules! tuple_keys {
    ($(($($name:ident $index:tt),+))+) => {$(
        impl<$($name: Key),+> Key for ($($name,)+) {
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
