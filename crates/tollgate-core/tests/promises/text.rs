//! What people write as rates and lengths of time.

use proptest::prelude::*;
use tollgate_core::quota::{MAX_COUNT, MAX_PERIOD, parse_length};
use tollgate_core::{Limit, Nanos, Quota};

fn nanos() -> impl Strategy<Value = u64> {
    let units =
        [1_u64, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000];
    prop_oneof![
        any::<u64>(),
        (prop::sample::select(units.to_vec()), 0..10_000_u64).prop_map(|(unit, n)| unit.saturating_mul(n)),
        (0..64_u32).prop_map(|bits| u64::MAX >> bits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = text.parse::<Quota>();
        let _ = parse_length(&text);
    }

    #[test]
    fn any_text_that_looks_like_a_rate_is_read_or_refused(
        text in "[-+ ]?[0-9_,.]{0,24} ?(/| per |//)? ?[0-9_.,]{0,24} ?[a-zA-Zµμ]{0,12}",
    ) {
        if let Ok(quota) = text.parse::<Quota>() {
            prop_assert_eq!(quota.to_string().parse(), Ok(quota));
        }
        if let Ok(length) = parse_length(&text) {
            prop_assert_eq!(parse_length(&length.to_string()), Ok(length));
        }
    }

    #[test]
    fn every_length_is_written_as_it_is_read(nanos in nanos()) {
        let length = Nanos::new(nanos);
        prop_assert_eq!(parse_length(&length.to_string()), Ok(length), "{}", length);
    }

    #[test]
    fn every_quota_is_written_as_it_is_read(count in 0..=MAX_COUNT, nanos in nanos()) {
        if let Ok(quota) = Quota::new(count, Nanos::new(nanos)) {
            prop_assert_eq!(quota.to_string().parse(), Ok(quota), "{}", quota);
            // And so it can be copied from what a limit says of itself.
            if count > 0 {
                let text = Limit::fixed_window(quota).to_string();
                prop_assert_eq!(text.strip_suffix(" fixed window").unwrap().parse(), Ok(quota));
            }
        } else {
            prop_assert!(nanos == 0 || nanos > MAX_PERIOD.as_nanos());
        }
    }
}

#[test]
fn an_error_shows_no_more_than_the_start_of_a_long_text() {
    for text in
        ["ß".repeat(1 << 20), format!("{}/s", "9".repeat(1 << 20)), format!("1/{}", "h".repeat(1 << 20))]
    {
        let message = text.parse::<Quota>().unwrap_err().to_string();
        assert!(message.len() < 400, "{} bytes", message.len());
    }
}
