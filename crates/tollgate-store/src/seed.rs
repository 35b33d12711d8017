//! The secret of a process.

use std::hash::{BuildHasher, RandomState};

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
