//! What is random: the secret of a process, and pauses.

use std::hash::{BuildHasher, RandomState};
#[cfg(feature = "shared")]
use std::time::Duration;

use tollgate_core::KeySeed;

/// A seed from the operating system's random source, for keys that never leave this process.
pub fn random_seed() -> KeySeed {
    // The standard library keys its hasher from the operating system; what it then makes of two constants is as secret
    // and as random as that key.
    let hasher = RandomState::new();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&hasher.hash_one(0_u8).to_le_bytes());
    bytes[8..].copy_from_slice(&hasher.hash_one(1_u8).to_le_bytes());
    KeySeed::new(bytes)
}

/// A length between nothing and this: full jitter, so that those who fail together do not come back together.
#[cfg(feature = "shared")]
pub(crate) fn random_below(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    let nanos = (u128::from(random) * most.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A tag of keys, each as likely as the others.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn random_tag() -> u16 {
    let [first, second, ..] = RandomState::new().hash_one(1_u8).to_le_bytes();
    u16::from_le_bytes([first, second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::KeyBuilder;

    #[test]
    fn no_two_seeds_are_alike() {
        let hash = || KeyBuilder::new(&random_seed()).finish();
        assert_ne!(hash(), hash());
    }
}
