//! What a denied client reads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::Gate;
use tollgate_http::{response_body, response_body_without_policy};
use tollgate_policy::Verdict;

fn body(verdict: &Verdict) -> Value {
    serde_json::from_slice(&response_body(verdict).to_json()).unwrap()
}

#[test]
fn a_denial_says_what_happened_and_what_to_do() {
    let gate = Gate::new("policies: [{ name: login, key: ip, algorithm: fixed_window, limit: 5/minute }]");
    assert!(gate.ask(5).is_allowed());
    gate.clock().advance(std::time::Duration::from_millis(29_001));
    assert_eq!(
        body(&gate.ask(1)),
        json!({ "error": {
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Rate limit exceeded: the policy `login` allows 5 requests per minute. Try again in 31 seconds.",
            "details": { "limit": 5, "window_seconds": 60, "retry_after_seconds": 31 },
            "recovery_suggestions": [
                "Wait 31 seconds before sending this request again; the Retry-After header says how long.",
                "Spread requests out over time instead of sending them all at once.",
                "Keep answers that you need again, so that you ask for them only once.",
            ],
        }})
    );
    let hidden = response_body_without_policy(&gate.ask(1));
    assert!(!String::from_utf8_lossy(&hidden.to_json()).contains("login"));
    let response = hidden.to_response();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (429, &"application/json".parse().unwrap())
    );
}

#[test]
fn who_can_never_pass_is_told_so() {
    let gate = Gate::new("policies: [{ name: api, key: ip, limit: 5/minute, cost: 2 }]");
    let dear = body(&gate.ask(6));
    assert_eq!(
        dear["error"]["details"],
        json!({ "limit": 5, "window_seconds": 60, "retry_after_seconds": null })
    );
    assert_eq!(
        dear["error"]["message"],
        "Rate limit exceeded: this request costs more than the 5 units that the policy `api` allows at once, so it \
         can never pass. Do not retry it."
    );
    assert!(dear["error"]["recovery_suggestions"][0].as_str().unwrap().contains("does not help"));

    let closed = body(&Gate::new("policies: [{ name: shut, key: ip, limit: 0/minute }]").ask(1));
    assert_eq!(
        closed["error"]["details"],
        json!({ "limit": 0, "window_seconds": null, "retry_after_seconds": null })
    );
    assert_eq!(
        closed["error"]["message"],
        "Rate limit exceeded: the policy `shut` lets no request through, so this one can never pass."
    );
}

#[test]
fn periods_and_numbers_read_like_speech() {
    for (limit, said) in [
        ("1/s", "allows 1 request per second. Try again in 1 second."),
        ("2/hour", "allows 2 requests per hour. Try again in 1800 seconds."),
        ("2/30s", "allows 2 requests per 30 seconds. Try again in 15 seconds."),
    ] {
        let gate = Gate::new(&format!("policies: [{{ name: a, key: ip, limit: {limit} }}]"));
        let denied = std::iter::repeat_with(|| gate.ask(1)).find(|verdict| !verdict.is_allowed()).unwrap();
        let message = body(&denied)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(said), "{message}");
    }
}
