//! No history, however it is timed, gets more out of a limit than the limit says.

use proptest::prelude::*;
use tollgate_core::{Limit, State, Timestamp};

use crate::history::{Event, Happened, Key, RULES, Rule, any_events, forward_events, limits, starts};

/// What was admitted when.
fn admissions(limit: Limit, start: Timestamp, events: &[Event]) -> Vec<(u64, u128)> {
    let mut key = Key::new(limit, start);
    let mut admitted = Vec::new();
    for event in events {
        if let Happened::Admitted(cost) = key.play(*event) {
            admitted.push((key.now.as_nanos(), u128::from(cost)));
        }
    }
    admitted
}

/// The most that may be admitted from one moment to another, both included.
fn most(limit: &Limit, from: u64, to: u64) -> u128 {
    let (capacity, quota) = (u128::from(limit.capacity()), limit.quota().unwrap());
    let (count, period) = (u128::from(quota.count()), quota.period().as_nanos());
    let elapsed = u128::from(to - from);
    match Rule::of(limit) {
        Rule::Gcra | Rule::Greedy | Rule::Leaky => capacity + count * elapsed / u128::from(period),
        Rule::Interval => capacity + count * (elapsed / u128::from(period) + 1),
        Rule::Log => capacity * (elapsed / u128::from(period) + 1),
        // Below twice the limit in any window's length.
        Rule::Sliding if elapsed < u128::from(period) => 2 * capacity - 1,
        Rule::Periods => {
            let Limit::FixedWindow(window) = limit else { unreachable!() };
            let windows = window.windows();
            let last = windows.start(Timestamp::from_nanos(to));
            let mut start = windows.start(Timestamp::from_nanos(from));
            // What was carried over into the first, and each window's own. Where there are very many it is only said loosely.
            let mut most = u128::from(window.carry_over()) + count;
            if (last.as_nanos() - start.as_nanos()) / period > 50_000 {
                return most + count * (elapsed * 25 / 23 / u128::from(period) + 2);
            }
            while start < last {
                start = windows.next(start);
                most += count;
            }
            most
        }
        Rule::Fixed | Rule::Sliding => capacity * u128::from(to / period - from / period + 1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn no_interval_of_any_history_admits_more_than_the_limit_says(
        limit in limits(&RULES),
        start in starts(),
        events in forward_events(),
    ) {
        let admitted = admissions(limit, start, &events);
        for (first, (from, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &admitted[first..] {
                sum += cost;
                let most = most(&limit, *from, *to);
                prop_assert!(sum <= most, "{limit}: {sum} > {most} from {from} to {to} ns");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn a_log_never_holds_more_entries_than_its_limit(
        limit in limits(&[Rule::Log]),
        start in starts(),
        events in any_events(),
    ) {
        let mut key = Key::new(limit, start);
        for event in events {
            key.play(event);
            if let State::Log(log) = &key.state {
                prop_assert!(log.len() as u64 <= limit.capacity());
            }
        }
    }
}

#[test]
fn a_sliding_window_nears_twice_its_limit_and_never_reaches_it() {
    for (count, most) in [(1_u64, 1), (2, 3), (10, 19), (1_000, 1_998)] {
        let limit = Limit::sliding_window(format!("{count}/us").parse().unwrap());
        let all = u32::try_from(count).unwrap();
        let mut state = limit.fresh(Timestamp::from_nanos(5_000));
        // All of it in the last nanosecond of a window, and in the next one as early as it comes back.
        assert!(limit.acquire(&mut state, Timestamp::from_nanos(5_999), all).decision.allowed);
        let mut in_window = count;
        for now in 6_000..5_999 + 1_000 {
            while limit.acquire(&mut state, Timestamp::from_nanos(now), 1).decision.allowed {
                in_window += 1;
            }
        }
        assert_eq!(in_window, most, "{limit}");
    }
}
