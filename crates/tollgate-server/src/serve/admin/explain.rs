//! Why a request passes or not: every policy, its numbers, and what became of the key lately.

use serde::Serialize;
use serde_json::Value;
use tollgate::{Clock, Reason, Store, StoreError, Verdict};

use crate::serve::api::App;
use crate::serve::live::KeyHistory;
use crate::serve::wire::{PolicyAnswer, Question, policy_answers, retry_millis};

/// The most policies that are listed with the reason for which they do not apply.
const OTHERS_MAX: usize = 100;

/// Why a request passes or not. Nothing is taken for it.
#[derive(Debug, Serialize)]
struct Explanation<'v> {
    allowed: bool,
    /// The whole of it in a sentence.
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ban: Option<BanNow>,
    policies: Vec<Applying<'v>>,
    /// Policies that do not apply, and why.
    others: Vec<Other>,
    /// How many more there are of those.
    more_others: usize,
}

#[derive(Debug, Serialize)]
struct BanNow {
    policy: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_ms: Option<u64>,
}

/// A policy that applies.
#[derive(Debug, Serialize)]
struct Applying<'v> {
    /// What the request is counted by; secrets are veiled.
    key: String,
    key_hash: String,
    #[serde(flatten)]
    answer: PolicyAnswer<'v>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<KeyHistory>,
}

#[derive(Debug, Serialize)]
struct Other {
    policy: String,
    why: String,
}

pub(super) async fn explain(app: &App, question: Question) -> Result<Value, StoreError> {
    let (now, cost) = (app.clock.now(), question.cost);
    let request = question.into_request();
    let set = app.gate.policies();
    let banned = app.gate.peek_async(now, &request, cost).await?;
    // What the limits say, whether there is a ban or not.
    let plan = set.plan(&request, now, cost);
    let answer = Store::peek(app.gate.store(), &plan.groups()).await?;
    let verdict = plan.verdict(&set, answer);
    let ban = ban_of(&banned);
    let policies = verdict
        .policies()
        .zip(policy_answers(&verdict))
        .map(|(policy, answer)| {
            let key = verdict.key_of(policy.index);
            Applying {
                key: set.describe_key(policy.index, &request).unwrap_or_default(),
                key_hash: key.map(|key| format!("{:032x}", key.0)).unwrap_or_default(),
                answer,
                history: key.and_then(|key| app.live.history(key)),
            }
        })
        .collect();
    let reasons = set.explain(&request, now);
    let others = set.policies().zip(reasons).filter(|(_, reason)| *reason != Reason::Applies);
    let mut others: Vec<Other> = others
        .map(|(policy, reason)| Other { policy: policy.name().to_owned(), why: reason.to_string() })
        .collect();
    let more_others = others.len().saturating_sub(OTHERS_MAX);
    others.truncate(OTHERS_MAX);
    let explanation = Explanation {
        allowed: banned.is_allowed(),
        summary: summary(&verdict, ban.as_ref()),
        ban,
        policies,
        others,
        more_others,
    };
    // Texts and numbers can always be written.
    Ok(serde_json::to_value(explanation).unwrap_or_default())
}

fn ban_of(verdict: &Verdict) -> Option<BanNow> {
    if !verdict.is_banned() {
        return None;
    }
    let policy = verdict.deciding()?;
    Some(BanNow {
        policy: policy.policy.name().to_owned(),
        key: verdict.key_of(policy.index).map(|key| format!("{:032x}", key.0)).unwrap_or_default(),
        left_ms: retry_millis(policy.retry_after),
    })
}

fn summary(verdict: &Verdict, ban: Option<&BanNow>) -> String {
    let seconds = |ms: u64| format!("{} s", ms.div_ceil(1_000));
    if let Some(ban) = ban {
        let left = ban.left_ms.map(|left| format!(" for {} more", seconds(left))).unwrap_or_default();
        return format!("denied: banned under `{}`{left}", ban.policy);
    }
    let Some(policy) = verdict.deciding() else { return "passes: no policy applies".to_owned() };
    let (name, rule) = (policy.policy.name(), policy.rule().map(ToString::to_string).unwrap_or_default());
    if verdict.is_allowed() {
        return match policy.remaining() {
            u64::MAX => format!("passes: `{name}` does not limit it"),
            left => format!("passes: `{name}` ({rule}) has {left} of {} left", policy.limit()),
        };
    }
    let wait = match retry_millis(policy.retry_after) {
        Some(wait) => format!("; it passes in {}", seconds(wait)),
        None => "; waiting does not help".to_owned(),
    };
    format!("denied: `{name}` ({rule}) has {} of {} left{wait}", policy.remaining(), policy.limit())
}
