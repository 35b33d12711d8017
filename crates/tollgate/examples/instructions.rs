//! Makes so many decisions of one kind, for counting what they make the processor do:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/instructions waiting 20000
//! ```
//!
//! What that counts more than for 10000 is what 10,000 decisions take. The kinds are `limiter`, `gate`, and `waiting`, for
//! decisions that could be waited for, which have a span for whoever collects traces: nobody, here.

use std::hint::black_box;

use tollgate::{Clock, Gate, KeyPart, KeyedLimiter, Quota, Request, SystemClock};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "waiting".to_owned());
    let decisions: u32 = arguments.next().map_or(Ok(10_000), |count| count.parse())?;

    let quota = Quota::per_second(1_000_000_000);
    let request = Request::default().with_ip("203.0.113.7".parse()?);
    let gate = Gate::per(KeyPart::Ip, quota);
    let mut allowed = 0_u32;
    match kind.as_str() {
        "limiter" => {
            let limiter = KeyedLimiter::<str>::new(quota);
            for _ in 0..decisions {
                allowed += u32::from(limiter.check(black_box("203.0.113.7")).is_allowed());
            }
        }
        "gate" => {
            for _ in 0..decisions {
                allowed += u32::from(gate.check(black_box(&request)).is_allowed());
            }
        }
        "waiting" => tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
            let clock = SystemClock::new();
            for _ in 0..decisions {
                let verdict = gate.check_async(clock.now(), black_box(&request), None).await?;
                allowed += u32::from(verdict.is_allowed());
            }
            Ok::<(), tollgate::StoreError>(())
        })?,
        _ => return Err(format!("{kind}: write `limiter`, `gate` or `waiting`").into()),
    }
    println!("{allowed} of {decisions} were allowed");
    Ok(())
}
