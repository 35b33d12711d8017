//! The secret of a process.

use tollgate_core::KeySeed;

/// A seed from the operating system's random source, for keys that never leave this process.
///
/// # Errors
/// If the operating system has no random source.
pub fn random_seed() -> Result<KeySeed, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(KeySeed::new(bytes))
}
