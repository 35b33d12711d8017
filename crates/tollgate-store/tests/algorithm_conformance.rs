//! The laws of algorithms: all that are here keep them, and the kit finds who does not.

// Tests may panic.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use tollgate_core::algorithm::meter::ArrivalTime;
use tollgate_core::algorithm::{
    Algorithm, FixedWindow, Gcra, LeakyBucket, Refill, SlidingLog, SlidingWindow, TokenBucket,
};
use tollgate_core::quota::MAX_COUNT;
use tollgate_core::{Decision, Grant, Limit, Nanos, Quota, Retry, Timestamp};
use tollgate_store::conformance::algorithm::{Options, run};

const SECOND: u64 = 1_000_000_000;

/// Rates from nearly nothing to as much as can be, even and uneven.
fn quotas() -> impl Iterator<Item = Quota> {
    let numbers = [
        (1, SECOND),
        (5, 60 * SECOND),
        (7, SECOND),
        (10, 1),
        (100, 999_999_937),
        (9_999_991, 3_600 * SECOND),
        (3, 365 * 86_400 * SECOND),
        (MAX_COUNT, 86_400 * SECOND),
    ];
    numbers.into_iter().map(|(count, period)| Quota::new(count, Nanos::new(period)).unwrap())
}

fn keeps<A>(name: &str, rule: Option<A>) -> u64
where
    A: Algorithm,
    A::State: Clone + PartialEq + std::fmt::Debug,
{
    // Numbers that cannot be together make no rule.
    let Some(rule) = rule else { return 0 };
    let summary = run(&rule, Options::new(7, 600)).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    let now = Timestamp::from_secs(1);
    let can_be_spent = u32::try_from(rule.decide(&rule.fresh(now), now, 0).limit).is_ok();
    assert!(summary.denied < summary.decisions, "{name}: {summary:?}");
    assert!(summary.denied > 0 || !can_be_spent, "{name}: {summary:?}");
    summary.cases
}

#[test]
fn every_algorithm_keeps_the_laws() {
    let mut cases = 0;
    for quota in quotas() {
        for capacity in [1, 3, 1_000, quota.count()] {
            let bucket = TokenBucket::new(capacity, quota).ok();
            let batches = bucket.and_then(|bucket| bucket.with_refill(Refill::Interval).ok());
            let initial = |bucket: Option<TokenBucket>| bucket?.with_initial(capacity / 2).ok();
            let name = |kind: &str| format!("{kind} of {capacity} at {quota}");
            cases += keeps(&name("GCRA"), Gcra::new(quota, capacity).ok());
            cases += keeps(&name("leaky bucket"), LeakyBucket::new(capacity, quota).ok());
            for bucket in [bucket, batches, initial(bucket), initial(batches)] {
                cases += keeps(&name("token bucket"), bucket);
                cases += keeps(&name("limit"), bucket.map(Limit::from));
            }
        }
        cases += keeps(&format!("fixed window of {quota}"), FixedWindow::new(quota).ok());
        cases += keeps(&format!("sliding window of {quota}"), SlidingWindow::new(quota).ok());
        let log = quota.with_count(quota.count().min(30)).unwrap();
        cases += keeps(&format!("sliding log of {log}"), SlidingLog::new(log).ok());
        cases += keeps(&format!("limit of {quota}"), Some(Limit::sliding_window(quota)));
    }
    assert!(cases > 100_000, "{cases}");
}

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug)]
enum Fault {
    LooksCount,
    BooksLess,
    LiesAboutGrants,
    SaysMoreRemains,
    RetriesEarly,
    RetriesLate,
    GivesUp,
    SaysWholeSooner,
    ForgetsEarly,
    GrantsOnStepsBack,
    SettlesAgain,
    NeverSettles,
    HidesChanges,
    GivesBackTwice,
    GivesBackNothing,
    LeavesMore,
    Overflows,
}

/// GCRA, with a mistake in it.
struct Faulty {
    rule: Gcra,
    fault: Fault,
    looks: Cell<u64>,
}

impl Algorithm for Faulty {
    type State = ArrivalTime;

    fn fresh(&self, now: Timestamp) -> ArrivalTime {
        self.rule.fresh(now)
    }

    fn settle(&self, state: &mut ArrivalTime, now: Timestamp) -> bool {
        match self.fault {
            Fault::NeverSettles => false,
            Fault::SettlesAgain => {
                self.rule.settle(state, now);
                state.nanos = state.nanos.saturating_sub(1);
                true
            }
            Fault::GrantsOnStepsBack if self.rule.settle(&mut state.clone(), now) => {
                *state = self.rule.fresh(now);
                true
            }
            Fault::HidesChanges => {
                self.rule.settle(state, now);
                false
            }
            _ => self.rule.settle(state, now),
        }
    }

    fn decide(&self, state: &ArrivalTime, now: Timestamp, cost: u32) -> Decision {
        let mut decision = self.rule.decide(state, now, cost);
        match (self.fault, decision.retry_after) {
            (Fault::LooksCount, _) => {
                self.looks.set(self.looks.get() + 1);
                decision.remaining = decision.remaining.saturating_sub(self.looks.get() % 2);
            }
            (Fault::SaysMoreRemains, _) => {
                decision.remaining = decision.limit.min(decision.remaining + 1);
            }
            (Fault::RetriesEarly, Retry::After(wait)) => {
                decision.retry_after = Retry::After(Nanos::new(wait.as_nanos() - 1));
            }
            (Fault::RetriesLate, Retry::After(wait)) => {
                decision.retry_after = Retry::After(Nanos::new(wait.as_nanos() + 1));
            }
            (Fault::GivesUp, Retry::After(_)) => decision.retry_after = Retry::Never,
            (Fault::SaysWholeSooner, _) => {
                decision.reset_after = Nanos::new(decision.reset_after.as_nanos() / 2);
            }
            (Fault::Overflows, _) => {
                assert!(now.as_nanos() < u64::MAX - SECOND, "attempt to add with overflow");
            }
            _ => {}
        }
        decision
    }

    fn take(&self, state: &mut ArrivalTime, now: Timestamp, cost: u32) -> Grant {
        let booked = if matches!(self.fault, Fault::BooksLess) { cost / 2 } else { cost };
        let mut grant = self.rule.take(state, now, booked);
        grant.cost = if matches!(self.fault, Fault::LiesAboutGrants) { cost / 2 } else { cost };
        grant
    }

    fn give_back(&self, state: &mut ArrivalTime, now: Timestamp, grant: Grant) {
        let times = match self.fault {
            Fault::GivesBackTwice => 2,
            Fault::GivesBackNothing => 0,
            _ => 1,
        };
        for _ in 0..times {
            self.rule.give_back(state, now, grant);
        }
    }

    fn vacant_at(&self, state: &ArrivalTime) -> Timestamp {
        let early = if matches!(self.fault, Fault::ForgetsEarly) { SECOND } else { 0 };
        self.rule.vacant_at(state).saturating_sub(Nanos::new(early))
    }

    fn with_available(&self, available: u64, now: Timestamp) -> ArrivalTime {
        let more = u64::from(matches!(self.fault, Fault::LeavesMore));
        self.rule.with_available(available.saturating_add(more), now)
    }
}

#[test]
fn the_kit_finds_each_mistake_and_says_which_law_it_breaks() {
    let mistakes = [
        (Fault::LooksCount, "looks"),
        (Fault::BooksLess, "books"),
        (Fault::LiesAboutGrants, "books"),
        (Fault::SaysMoreRemains, "books"),
        (Fault::RetriesEarly, "retry"),
        (Fault::RetriesLate, "retry"),
        (Fault::GivesUp, "retry"),
        (Fault::SaysWholeSooner, "whole"),
        (Fault::ForgetsEarly, "vacancy"),
        (Fault::GrantsOnStepsBack, "clock"),
        (Fault::SettlesAgain, "looks"),
        (Fault::NeverSettles, "clock"),
        (Fault::HidesChanges, "clock"),
        (Fault::GivesBackTwice, "refund"),
        (Fault::GivesBackNothing, "refund"),
        (Fault::LeavesMore, "available"),
        (Fault::Overflows, "panic"),
    ];
    for (fault, law) in mistakes {
        let rule = Faulty { rule: Gcra::new(Quota::per_minute(10), 10).unwrap(), fault, looks: Cell::new(0) };
        let violation = run(&rule, Options::new(1, 2_000)).unwrap_err();
        assert_eq!(violation.law, law, "{fault:?}: {violation}");
        assert!((2..=7).contains(&violation.steps.len()), "{fault:?} is not cut down: {violation}");
        let shown = violation.to_string();
        assert!(shown.contains(&format!("the law of {law} in case")) && shown.contains("seed 1"), "{shown}");
    }
}

#[test]
fn a_violation_reads_like_this() {
    let rule = Faulty {
        rule: Gcra::new(Quota::per_minute(10), 10).unwrap(),
        fault: Fault::ForgetsEarly,
        looks: Cell::new(0),
    };
    let violation = run(&rule, Options::new(1, 2_000)).unwrap_err();
    // As on the page about extending Tollgate.
    let page = include_str!("../../../docs/extending.md");
    assert!(page.contains(&violation.to_string()), "{violation}");
}
