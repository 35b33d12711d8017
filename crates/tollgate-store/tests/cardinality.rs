//! A flood of keys: fifty million of them at a store for one million. One test alone in its process, whose memory it
//! measures.

use tollgate_core::{Group, Hit, KeyHash, Limit, LimitId, Quota};
use tollgate_store::{LocalStore, MemoryOptions, MemoryStore, Overflow};

const FLOOD: u128 = 50_000_000;
const CAPACITY: usize = 1_000_000;

#[test]
fn fifty_million_keys_take_no_more_than_one_million_do() {
    let store = MemoryStore::new(MemoryOptions { capacity: CAPACITY, overflow: Overflow::Shared });
    let limit = Limit::gcra(Quota::per_day(1));
    // As hashed keys are: both halves look random.
    let hit = |key: u128| {
        let hash = KeyHash((key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
        Hit::new(LimitId(1), hash, &limit)
    };
    let take = |key| store.acquire(&[Group::all(&[hit(key)])]).allowed;
    assert!(take(0));
    let admitted = (1..FLOOD).filter(|key| store.acquire_one(&hit(*key)).decision.allowed).count();
    assert!(!take(0), "a limited key stays limited");
    assert!(store.len() <= CAPACITY);
    // All that had room of their own, and one in the state that the rest share.
    assert!((CAPACITY * 99 / 100..=CAPACITY).contains(&admitted), "{admitted}");
    assert_eq!(store.overflowed(), u64::try_from(FLOOD).unwrap() - admitted as u64);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    if let Some(kilobytes) = peak {
        let megabytes = kilobytes.trim().parse::<u64>().unwrap() / 1_000;
        println!("{megabytes} MB at the most");
        assert!(megabytes <= 200, "{megabytes} MB");
    }
}
