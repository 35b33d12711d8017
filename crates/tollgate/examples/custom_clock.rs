//! Time that a test or a simulation sets: a day of a quota in an instant.
//!
//! ```text
//! cargo run --example custom_clock
//! ```

use std::time::Duration;

use tollgate::{KeyedLimiter, Limit, ManualClock, MemoryOptions, MemoryStore, Quota, Timestamp};

fn main() {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let store = MemoryStore::with_clock(clock.clone(), MemoryOptions::default());
    let limiter = KeyedLimiter::<str, _>::with_store(Limit::gcra(Quota::per_day(24)), store);

    // A customer asks every ten minutes, all day long: 144 times, where 24 a day are allowed.
    let mut admitted_by_hour = Vec::new();
    for _hour in 0..24 {
        let mut admitted = 0;
        for _ask in 0..6 {
            admitted += u32::from(limiter.check("customer").is_allowed());
            clock.advance(Duration::from_mins(10));
        }
        admitted_by_hour.push(admitted);
    }
    println!("admitted in each hour: {admitted_by_hour:?}");
    println!("admitted in all:       {}", admitted_by_hour.iter().sum::<u32>());
}
