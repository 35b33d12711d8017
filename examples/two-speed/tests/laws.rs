//! The rule keeps the laws of all rules.

use tollgate::Quota;
use tollgate::algorithm::Gcra;
use tollgate::conformance::algorithm::{Options, run};
use tollgate_two_speed::TwoSpeed;

#[test]
fn two_speeds_keep_the_laws() {
    let rates = [
        (Quota::per_second(10), 10, Quota::per_minute(100), 100),
        (Quota::per_second(7), 3, Quota::per_hour(1_000), 50),
        // The other way round, and one that never decides.
        (Quota::per_day(1), 5, Quota::per_second(1), 5),
        (Quota::per_second(1), 1_000_000, Quota::per_second(1), 1),
    ];
    for (seed, (fast, fast_burst, slow, slow_burst)) in (1..).zip(rates) {
        let rule = TwoSpeed::new(Gcra::new(fast, fast_burst).unwrap(), Gcra::new(slow, slow_burst).unwrap());
        let summary = run(&rule, Options::new(seed, 5_000)).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(summary.denied > 1_000, "{summary:?}");
    }
}
