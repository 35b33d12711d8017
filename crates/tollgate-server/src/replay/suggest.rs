//! Which limits would have fitted: the smallest that denies nobody, and those that deny a thousandth and a hundredth.
//!
//! Each limit is tried alone, on all requests that it applied to. Its count is varied; a burst or capacity that differs
//! from it keeps its proportion. Trying means running the real algorithm over the recorded arrivals, so the answer is
//! exact; most keys need not be run, as they ask for so little that they cannot be denied.

use hashbrown::HashMap;
use tollgate::algorithm::{Gcra, LeakyBucket, Refill, TokenBucket, Windows};
use tollgate::quota::MAX_COUNT;
use tollgate::{Limit, PolicyLimit, Quota, State, Timestamp};

use super::report::Suggestion;
use super::tally::{Arrival, Arrivals, KeyTallies};

/// The requests that a limit applied to.
pub(super) struct Offered<'t> {
    pub(super) tier: Option<&'t str>,
    pub(super) limit: &'t PolicyLimit,
    /// What each of them cost.
    pub(super) cost: u32,
    pub(super) keys: &'t KeyTallies,
}

/// What would have fitted; `None` for a limit without a number, and where there were no requests.
pub(super) fn suggestion(offered: &Offered<'_>) -> Option<Suggestion> {
    let requests: u64 = offered.keys.0.values().map(|key| key.matched).sum();
    let limit = offered.limit.limit();
    let quota = limit.quota().filter(|_| requests > 0 && offered.cost > 0)?;
    let mut trials = Trials::new(offered, *limit, quota);
    // From the loosest to the strictest question: what one finds is of use to the next.
    let denies_1_percent = trials.smallest(requests / 100);
    let denies_0_1_percent = trials.smallest(requests / 1_000);
    let denies_nobody = trials.smallest(0);
    let rule = limit.to_string();
    let words: Vec<&str> = [offered.tier, offered.limit.name(), Some(&rule)].into_iter().flatten().collect();
    Some(Suggestion {
        limit: words.join(": "),
        current: quota.count(),
        period: quota.period_name(),
        requests,
        denies_nobody,
        denies_0_1_percent,
        denies_1_percent,
    })
}

/// One limit, tried with other counts.
struct Trials<'t> {
    limit: Limit,
    quota: Quota,
    cost: u32,
    /// The keys, and for each the most requests that came within one period; most first.
    keys: Vec<(u64, &'t Arrivals)>,
    /// How many requests each count denies, as far as tried. `None`: more than were asked about.
    tried: HashMap<u64, (u64, Option<u64>)>,
}

impl<'t> Trials<'t> {
    fn new(offered: &Offered<'t>, limit: Limit, quota: Quota) -> Self {
        let mut keys: Vec<_> = offered
            .keys
            .0
            .values()
            .map(|key| (busiest_period(&key.arrivals, &limit, quota), &key.arrivals))
            .collect();
        keys.sort_unstable_by_key(|(busiest, _)| std::cmp::Reverse(*busiest));
        Self { limit, quota, cost: offered.cost, keys, tried: HashMap::new() }
    }

    /// The smallest count that denies at most `bearable` requests; `None` if there is none.
    fn smallest(&mut self, bearable: u64) -> Option<u64> {
        let (mut too_small, mut fits) = (0, 1);
        while !self.bears(fits, bearable) {
            too_small = fits;
            fits = fits.saturating_mul(2);
            if fits > MAX_COUNT {
                return None;
            }
        }
        while fits - too_small > 1 {
            let middle = u64::midpoint(too_small, fits);
            if self.bears(middle, bearable) { fits = middle } else { too_small = middle }
        }
        Some(fits)
    }

    fn bears(&mut self, count: u64, bearable: u64) -> bool {
        if let Some((asked, denied)) = self.tried.get(&count) {
            match denied {
                Some(denied) => return *denied <= bearable,
                None if *asked >= bearable => return false,
                None => {}
            }
        }
        let denied = self.denied(count, bearable);
        self.tried.insert(count, (bearable, denied));
        denied.is_some()
    }

    /// How many requests a count would deny; `None` if more than `bearable`.
    fn denied(&self, count: u64, bearable: u64) -> Option<u64> {
        let limit = with_count(&self.limit, self.quota, count)?;
        let mut denied = 0;
        for (busiest, arrivals) in &self.keys {
            let most = busiest.saturating_mul(u64::from(self.cost));
            let (times, holds) = sure_of(&limit);
            let needs = most.saturating_mul(times);
            let holds = holds.min(count);
            if needs <= holds {
                break;
            }
            let mut state = limit.fresh(Timestamp::EPOCH);
            for arrival in arrivals.iter() {
                if arrival.restarted {
                    state = limit.fresh(arrival.at);
                }
                denied += denied_at_once(&limit, &mut state, &arrival, self.cost);
                if denied > bearable {
                    return None;
                }
            }
        }
        Some(denied)
    }
}

/// How many of the requests of one moment a limit denies: those for which not enough is left.
fn denied_at_once(limit: &Limit, state: &mut State, arrival: &Arrival, cost: u32) -> u64 {
    let (mut waiting, now) = (u64::from(arrival.requests), arrival.at);
    limit.settle(state, now);
    // Once, unless what they cost together passes a cost's range.
    while waiting > 0 {
        let most = waiting.min(u64::from(u32::MAX / cost));
        let admitted = most.min(limit.decide_settled(state, now, 0).remaining / u64::from(cost));
        if admitted == 0 {
            break;
        }
        // At most u32::MAX by the first line of the loop.
        limit.take(state, now, u32::try_from(admitted).unwrap_or(u32::MAX).saturating_mul(cost));
        waiting -= admitted;
    }
    waiting
}

/// By how much a limit's count and what it holds at first must exceed the busiest period of a key, so that the key cannot
/// be denied, and what it holds at first.
///
/// In any time `t`, a key whose busiest period has `f` sends at most `f·(t/period + 2)`. A limit that holds `2f` and
/// recovers `f` in a period admits all of that. Where whole batches come at the end of a period, the last may still
/// be on its way: `3f`. A fixed window's periods are the very ones that were counted.
fn sure_of(limit: &Limit) -> (u64, u64) {
    match limit {
        Limit::FixedWindow(window) => (1, window.limit()),
        Limit::TokenBucket(bucket) if bucket.style() == Refill::Interval => (3, bucket.initial()),
        Limit::TokenBucket(bucket) => (2, bucket.initial()),
        _ => (2, limit.capacity()),
    }
}

/// The most requests that came within one period: of the limit's windows if they are fixed, else aligned to the epoch.
fn busiest_period(arrivals: &Arrivals, limit: &Limit, quota: Quota) -> u64 {
    let windows = match limit {
        Limit::FixedWindow(window) => window.windows(),
        _ => Windows::Epoch { length: quota.period() },
    };
    let (mut busiest, mut count, mut current) = (0_u64, 0_u64, None);
    for arrival in arrivals.iter() {
        let window = Some(windows.start(arrival.at));
        if arrival.restarted || window != current {
            (count, current) = (0, window);
        }
        count += u64::from(arrival.requests);
        busiest = busiest.max(count);
    }
    busiest
}

/// The same limit with another count; `None` if it cannot be.
fn with_count(limit: &Limit, quota: Quota, count: u64) -> Option<Limit> {
    let rate = quota.with_count(count).ok()?;
    // A burst or capacity in proportion, rounded up, at least 1.
    let scaled = |size: u64| {
        let scaled = (u128::from(size) * u128::from(count)).div_ceil(u128::from(quota.count().max(1)));
        u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
    };
    Some(match limit {
        Limit::Gcra(gcra) => Limit::from(Gcra::new(rate, scaled(gcra.burst())).ok()?),
        Limit::TokenBucket(bucket) => {
            let same =
                TokenBucket::new(scaled(bucket.capacity()), rate).ok()?.with_refill(bucket.style()).ok()?;
            let initial = if bucket.initial() == bucket.capacity() {
                same.capacity()
            } else {
                scaled(bucket.initial())
            };
            Limit::from(same.with_initial(initial.min(same.capacity())).ok()?)
        }
        Limit::LeakyBucket(bucket) => Limit::from(LeakyBucket::new(scaled(bucket.capacity()), rate).ok()?),
        Limit::FixedWindow(window) => {
            let carry = if window.carry_over() == 0 { 0 } else { scaled(window.carry_over()) };
            Limit::from(window.with_limit(rate.count()).ok()?.with_carry_over(carry.min(rate.count())).ok()?)
        }
        Limit::SlidingWindow(_) => Limit::sliding_window(rate),
        Limit::SlidingLog(_) => Limit::sliding_log(rate).ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate::Nanos;

    /// Tries every count from 1, running every key: slow, and plainly right.
    fn plainly(limit: &Limit, arrivals: &[Arrivals], cost: u32, bearable: u64) -> Option<u64> {
        let quota = limit.quota().unwrap();
        (1..=2_000).find(|count| {
            let Some(limit) = with_count(limit, quota, *count) else { return false };
            let denied: usize = arrivals
                .iter()
                .map(|arrivals| {
                    let mut state = limit.fresh(Timestamp::EPOCH);
                    let each =
                        arrivals.iter().flat_map(|at| std::iter::repeat_n(at.at, at.requests as usize));
                    each.filter(|at| !limit.acquire(&mut state, *at, cost).decision.allowed).count()
                })
                .sum();
            denied as u64 <= bearable
        })
    }

    #[test]
    fn the_smallest_limit_is_found_without_trying_all() {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let rate: Quota = "30/minute".parse().unwrap();
        let limits = [
            Limit::fixed_window(rate),
            Limit::sliding_window(rate),
            Limit::sliding_log(rate).unwrap(),
            Limit::gcra(rate),
            Limit::gcra_with_burst(rate, 7).unwrap(),
            Limit::token_bucket(90, rate).unwrap(),
            Limit::from(TokenBucket::new(60, rate).unwrap().with_initial(10).unwrap()),
            Limit::from(TokenBucket::new(30, rate).unwrap().with_refill(Refill::Interval).unwrap()),
        ];
        for round in 0..40 {
            // Some keys steady, some in bursts.
            let arrivals: Vec<Arrivals> = (0..5)
                .map(|key| {
                    let mut arrivals = Arrivals::default();
                    let mut at = Timestamp::from_secs(1_000_000 + next(60));
                    for _ in 0..next(80) {
                        at = at.saturating_add(Nanos::from_millis(if next(8) == 0 {
                            next(90_000)
                        } else {
                            next(key * 900 + 10) / 400 * 400
                        }));
                        arrivals.push(at);
                    }
                    arrivals
                })
                .collect();
            for limit in limits {
                let quota = limit.quota().unwrap();
                let cost = 1 + u32::from(round % 4 == 0);
                let mut keys: Vec<_> = arrivals
                    .iter()
                    .map(|arrivals| (busiest_period(arrivals, &limit, quota), arrivals))
                    .collect();
                keys.sort_unstable_by_key(|(busiest, _)| std::cmp::Reverse(*busiest));
                let mut trials = Trials { limit, quota, cost, keys, tried: HashMap::new() };
                for bearable in [20, 3, 0] {
                    assert_eq!(
                        trials.smallest(bearable),
                        plainly(&limit, &arrivals, cost, bearable),
                        "{limit} {bearable}"
                    );
                }
            }
        }
    }
}
