//! The numbers that headers and bodies say, taken from a verdict in one way.

use tollgate_core::Retry;
use tollgate_policy::{PolicyVerdict, Verdict};

/// The largest integer of a structured field (RFC 9651, 3.3.1). Exact in JSON as well.
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// A number that every reader can hold.
pub(crate) fn clamped(number: u64) -> u64 {
    number.min(INTEGER_MAX)
}

/// Whether the policy limits anything that a number could say.
pub(crate) fn is_limited(policy: &PolicyVerdict<'_>) -> bool {
    policy.limit() != u64::MAX
}

/// The policies that were enforced. Shadows are nobody's business.
pub(crate) fn enforced(verdict: &Verdict) -> impl Iterator<Item = PolicyVerdict<'_>> {
    verdict.policies().filter(|policy| !policy.shadow)
}

/// The policy that single numbers speak of.
pub(crate) fn tightest(verdict: &Verdict) -> Option<PolicyVerdict<'_>> {
    let deciding = verdict.deciding().filter(is_limited);
    // An unlimited policy decides if all limits are full; there is still something to say then.
    deciding.or_else(|| enforced(verdict).find(is_limited))
}

/// In how many seconds the whole limit comes back once it is spent: the length of a window, or of the period that a
/// rate is given in. A burst apart from the rate takes as long as the rate needs for it, so that `limit` in
/// `window_s` is always the rate.
pub(crate) fn window_s(policy: &PolicyVerdict<'_>) -> Option<u64> {
    let quota = policy.rule()?.quota()?;
    let nanos =
        u128::from(quota.period().as_nanos()) * u128::from(policy.limit()) / u128::from(quota.count().max(1));
    let seconds = u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX);
    Some(clamped(seconds.max(1)))
}

/// In how many seconds the limit is whole again.
pub(crate) fn whole_again_s(policy: &PolicyVerdict<'_>) -> u64 {
    clamped(policy.reset_after().as_secs_ceil())
}

/// In how many seconds a denied request would pass; at least 1. `None` if waiting does not help.
pub(crate) fn retry_s(retry: Retry) -> Option<u64> {
    retry.nanos().map(|wait| clamped(wait.as_secs_ceil().max(1)))
}

/// What a header says that a request costs: at least 1, and at most so much. `None` if it is no whole number.
pub fn stated_cost(value: &[u8], most: u32) -> Option<u32> {
    let cost: u64 = std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()?;
    Some(u32::try_from(cost).unwrap_or(u32::MAX).min(most).max(1))
}
