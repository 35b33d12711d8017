//! Limits in a program, without a policy file and without a server.
//!
//! ```text
//! cargo run --example library
//! ```

use std::net::IpAddr;

use tollgate::algorithm::{SlidingLog, TokenBucket};
use tollgate::{KeyedLimiter, Limit, Limiter, Quota, Retry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One thing: at most three mails a minute leave this program.
    let mails = Limiter::new(Quota::per_minute(3));
    for mail in 1..=4 {
        let decision = mails.check();
        match decision.retry_after {
            Retry::Now => println!("mail {mail}: sent, {} more at once", decision.remaining),
            Retry::After(wait) => println!("mail {mail}: wait {} s", wait.as_secs_ceil()),
            Retry::Never => println!("mail {mail}: never"),
        }
    }

    // Each of many: every address gets two tries in ten seconds, exactly.
    let tries = KeyedLimiter::<IpAddr>::new(Limit::from(SlidingLog::new("2/10s".parse()?)?));
    for address in ["203.0.113.7", "203.0.113.7", "203.0.113.7", "198.51.100.1"] {
        let address: IpAddr = address.parse()?;
        println!("{address}: {}", if tries.check(&address).is_allowed() { "welcome" } else { "too often" });
    }

    // Costs: a bucket of 1,000 bytes, refilled at 100 a second. What is not used is given back.
    let bytes = KeyedLimiter::<str>::new(Limit::from(TokenBucket::new(1_000, Quota::per_second(100))?));
    match bytes.reserve("upload", 800) {
        Ok(reservation) => {
            println!("reserved {} bytes, {} left", reservation.cost(), bytes.status("upload").remaining);
            bytes.refund(reservation);
            println!("given back, {} left", bytes.status("upload").remaining);
        }
        Err(denied) => println!("no room for 800 bytes, only for {}", denied.remaining),
    }
    Ok(())
}
