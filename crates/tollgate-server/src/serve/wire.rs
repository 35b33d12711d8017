//! Questions and answers as JSON.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};
use tollgate::http::{Denial, response_body};
use tollgate::{
    Attribute, Condition, Limit, Nanos, Policy, PolicySet, PolicyVerdict, Request, Retry, Statistics, Verdict,
};

use super::decode;

/// A request that somebody asks about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Question {
    method: String,
    /// With or without the query.
    path: String,
    ip: Option<IpAddr>,
    user: Option<String>,
    api_key: Option<String>,
    headers: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    cookies: BTreeMap<String, String>,
    claims: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    /// What the request costs, in place of what the policies say.
    #[serde(deserialize_with = "decode::whole_or_null")]
    pub(super) cost: Option<u32>,
}

/// A question about the state of one policy, or of all that apply.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResetQuestion {
    #[serde(deserialize_with = "decode::object")]
    pub(super) request: Question,
    /// Only this policy's state.
    pub(super) policy: Option<String>,
}

/// Several questions, answered in order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    #[serde(deserialize_with = "decode::objects")]
    pub(super) requests: Vec<Question>,
}

impl Question {
    /// The request as policies see it.
    pub(super) fn into_request(self) -> Request {
        let mut request = Request::new(self.method, self.path);
        if let Some(ip) = self.ip {
            request = request.with_ip(ip);
        }
        if let Some(user) = self.user {
            request = request.with_user(user);
        }
        if let Some(key) = self.api_key {
            request = request.with_api_key(key);
        }
        for (name, value) in self.headers {
            request = request.with_header(&name, value);
        }
        let queries = self.query.into_iter().map(|(name, value)| (Attribute::Query(name), value));
        let cookies = self.cookies.into_iter().map(|(name, value)| (Attribute::Cookie(name), value));
        let claims = self.claims.into_iter().map(|(name, value)| (Attribute::Claim(name), value));
        let others = self.attributes.into_iter().map(|(name, value)| (Attribute::Custom(name), value));
        for (attribute, value) in queries.chain(cookies).chain(claims).chain(others) {
            request = request.with(attribute, value);
        }
        request
    }
}

/// What all policies together say.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'v> {
    allowed: bool,
    /// The policy that decided; absent if none applied.
    #[serde(flatten)]
    deciding: Option<Numbers<'v>>,
    /// What each policy said that applied.
    policies: Vec<PolicyAnswer<'v>>,
    /// For people who were denied.
    #[serde(flatten)]
    denial: Option<Denial>,
}

/// Where a policy's tightest limit stands.
#[derive(Debug, Serialize)]
struct Numbers<'v> {
    policy: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    reset_after_ms: u64,
    /// 0 if it passes now; absent if waiting does not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct PolicyAnswer<'v> {
    #[serde(flatten)]
    numbers: Numbers<'v>,
    admitted: bool,
    shadow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'v str>,
    limits: Vec<LimitAnswer<'v>>,
}

#[derive(Debug, Serialize)]
struct LimitAnswer<'v> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'v str>,
    #[serde(serialize_with = "as_text")]
    rule: &'v Limit,
    admitted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    reset_after_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    source: &'static str,
}

impl<'v> Answer<'v> {
    pub(super) fn new(verdict: &'v Verdict) -> Self {
        Self {
            allowed: verdict.is_allowed(),
            deciding: verdict.deciding().map(numbers),
            policies: policy_answers(verdict).collect(),
            denial: (!verdict.is_allowed()).then(|| response_body(verdict)),
        }
    }
}

fn numbers(policy: PolicyVerdict<'_>) -> Numbers<'_> {
    Numbers {
        policy: policy.policy.name(),
        limit: finite(policy.limit()),
        remaining: finite(policy.remaining()),
        reset_after_ms: millis(policy.reset_after()),
        retry_after_ms: retry_millis(policy.retry_after),
    }
}

/// What each policy says that applies.
pub(super) fn policy_answers(verdict: &Verdict) -> impl Iterator<Item = PolicyAnswer<'_>> {
    verdict.policies().map(policy_answer)
}

fn policy_answer(policy: PolicyVerdict<'_>) -> PolicyAnswer<'_> {
    let limits = policy.limits().map(|(limit, outcome)| LimitAnswer {
        name: limit.name(),
        rule: limit.limit(),
        admitted: outcome.decision.allowed,
        remaining: finite(outcome.decision.remaining),
        reset_after_ms: millis(outcome.decision.reset_after),
        retry_after_ms: retry_millis(outcome.decision.retry_after),
        source: outcome.source.name(),
    });
    PolicyAnswer {
        limits: limits.collect(),
        admitted: policy.admitted,
        shadow: policy.shadow,
        tier: policy.tier,
        numbers: numbers(policy),
    }
}

/// As people write it.
fn as_text<S: Serializer>(shown: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(shown)
}

/// A count, unless it stands for no limit.
fn finite(count: u64) -> Option<u64> {
    (count != u64::MAX).then_some(count)
}

/// Milliseconds, rounded up: asking a little late passes, a little early does not.
pub(super) const fn millis(length: Nanos) -> u64 {
    length.as_nanos().div_ceil(1_000_000)
}

pub(super) fn retry_millis(retry: Retry) -> Option<u64> {
    retry.nanos().map(millis)
}

/// A policy as it is in force.
#[derive(Debug, Serialize)]
pub(super) struct PolicyView<'p> {
    name: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'p str>,
    priority: i32,
    enabled: bool,
    shadow: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    methods: Vec<&'p str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<&'p str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    r#where: BTreeMap<String, Vec<String>>,
    key: Vec<String>,
    cost: u32,
    combine: String,
    limits: Vec<LimitView<'p>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaces: Vec<&'p str>,
}

#[derive(Debug, Serialize)]
struct LimitView<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'p str>,
    rule: String,
}

/// All policies, in the order of the configuration.
pub(super) fn policies(set: &PolicySet) -> Vec<PolicyView<'_>> {
    set.policies().map(|policy| policy_view(policy, set.is_shadow())).collect()
}

/// What a condition looks at, and what it may be.
fn condition_view(condition: &Condition) -> (String, Vec<String>) {
    let name = match condition {
        Condition::When(_) => "when".to_owned(),
        condition => condition.attribute().map_or_else(|| "ip".to_owned(), ToString::to_string),
    };
    (name, condition.values())
}

fn policy_view(policy: &Policy, all_shadow: bool) -> PolicyView<'_> {
    let limits = policy.variants().iter().flat_map(|variant| {
        variant.limits().iter().map(|limit| LimitView {
            tier: variant.tier(),
            name: limit.name(),
            rule: limit.limit().to_string(),
        })
    });
    PolicyView {
        name: policy.name(),
        description: policy.description(),
        priority: policy.priority(),
        enabled: policy.is_enabled(),
        shadow: policy.is_shadow() || all_shadow,
        methods: policy.methods().collect(),
        paths: policy.paths().collect(),
        r#where: policy.conditions().iter().map(condition_view).collect(),
        key: policy.key().collect(),
        cost: policy.cost(),
        combine: format!("{:?}", policy.combine()).to_lowercase(),
        limits: limits.collect(),
        replaces: policy.replaces().collect(),
    }
}

/// How the server fares.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    uptime_seconds: u64,
    draining: bool,
    allowed: u64,
    denied: u64,
    mean_latency_ns: u64,
    active_policies: u64,
    store: StoreStatus,
    policies: Vec<PolicyStatus>,
}

/// How the store fares.
#[derive(Debug, Serialize)]
pub(super) struct StoreStatus {
    pub(super) backend: &'static str,
    pub(super) available: bool,
    pub(super) consecutive_failures: u64,
    /// What is wrong, while something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trouble: Option<String>,
    /// Keys that this process remembers.
    pub(super) keys: usize,
    /// Keys for which this node holds units ahead, or owes some.
    pub(super) held: usize,
    pub(super) capacity: usize,
    /// Hits for which there was no room.
    pub(super) overflowed: u64,
}

#[derive(Debug, Serialize)]
struct PolicyStatus {
    name: String,
    matched: u64,
    denied: u64,
}

impl Status {
    pub(super) fn new(
        statistics: Statistics,
        store: StoreStatus,
        uptime_seconds: u64,
        draining: bool,
    ) -> Self {
        let policies = statistics.policies.into_iter().map(|policy| PolicyStatus {
            name: policy.name,
            matched: policy.matched,
            denied: policy.denied,
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds,
            draining,
            allowed: statistics.allowed,
            denied: statistics.denied,
            mean_latency_ns: u64::try_from(statistics.mean_latency.as_nanos()).unwrap_or(u64::MAX),
            active_policies: statistics.active_policies,
            store,
            policies: policies.collect(),
        }
    }
}
