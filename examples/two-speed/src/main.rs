//! Somebody asks twenty times a second, for a minute and a half: first the fast rate holds, then the slow one.

use std::time::Duration;

use tollgate::algorithm::Gcra;
use tollgate::{CustomLimiter, ManualClock, MemoryOptions, Quota};
use tollgate_two_speed::TwoSpeed;

fn main() -> Result<(), tollgate::LimitError> {
    let rule = TwoSpeed::new(Gcra::new(Quota::per_second(10), 10)?, Gcra::new(Quota::per_minute(100), 100)?);
    let clock = ManualClock::default();
    let limiter = CustomLimiter::<str, _, _>::with_clock(rule, clock.clone(), MemoryOptions::default());

    println!("10 a second and 100 a minute, asked 20 times a second");
    for stretch in 0..18 {
        let mut admitted = 0;
        for _ in 0..100 {
            admitted += usize::from(limiter.check("ann").is_allowed());
            clock.advance(Duration::from_millis(50));
        }
        println!(
            "{:>3} s to {:>3} s: {admitted:>3} passed {}",
            stretch * 5,
            stretch * 5 + 5,
            "▪".repeat(admitted)
        );
    }
    let denied = limiter.peek("ann", 10);
    println!("ten at once: {:?}", denied.retry_after.duration());
    println!("eleven at once: {:?}", limiter.peek("ann", 11).retry_after);
    Ok(())
}
