//! `tollgate explain`: why a running server lets a request pass, or does not.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::check::limits;
use super::request::{WORDS, question};
use super::{ConnectionOptions, Server, show};
use crate::cli::fail;
use crate::text::paint::{Paint, Style};
use crate::text::{format, safe};

/// The most columns of a key, a name, or a reason.
const WIDTH: usize = 60;

#[derive(Args, Debug)]
pub(crate) struct ExplainOptions {
    #[arg(value_name = "WORD", required = true, help = WORDS)]
    words: Vec<String>,

    /// What the request costs, in place of what the policies say
    #[arg(long, value_name = "N")]
    cost: Option<u32>,

    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,

    /// The administration of the server
    #[arg(long, value_name = "URL", env = "TOLLGATE_ADMIN_URL", default_value = "http://127.0.0.1:8082")]
    server: String,

    /// What the administration asks for, if it does
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,

    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Asks, and prints the answer.
pub(crate) fn run(options: &ExplainOptions) -> ExitCode {
    let question = match question(&options.words, options.cost) {
        Ok(question) => question,
        Err(error) => return fail(error),
    };
    let server = Server::new(&options.server, &options.connection);
    let asked =
        server.and_then(|server| server.with_token(options.token.as_ref()).ask("/v1/explain", &question));
    show(asked, options.json, render)
}

fn render(answer: &Value, style: Style) -> String {
    let mut out = String::new();
    let paint = if answer["allowed"] == true { Paint::Admitted } else { Paint::Denied };
    let summary = safe::elide(answer["summary"].as_str().unwrap_or_default(), 200);
    let (verdict, why) = summary.split_once(':').unwrap_or((&summary, ""));
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "{}{}{why}\n", style.paint(paint, verdict), if why.is_empty() { "" } else { ":" });
    if let Some(key) = answer["ban"]["key"].as_str() {
        let _ = writeln!(out, "The ban can be lifted: DELETE /v1/bans/{}\n", safe::elide(key, WIDTH));
    }
    let policies = answer["policies"].as_array().map_or(&[][..], Vec::as_slice);
    limits(&mut out, policies, style);
    for policy in policies {
        let text = |name: &str| safe::elide(policy[name].as_str().unwrap_or_default(), WIDTH);
        let _ = write!(out, "\n{} counts by {}", style.paint(Paint::Strong, &text("policy")), text("key"));
        let _ = writeln!(out, "{}", lately(&policy["history"], style));
    }
    let others = answer["others"].as_array().map_or(&[][..], Vec::as_slice);
    if !others.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, "Policies that do not apply"));
    }
    let widest =
        others.iter().filter_map(|other| other["policy"].as_str()).map(safe::width).max().unwrap_or(0);
    for other in others {
        let text = |name: &str| safe::elide(other[name].as_str().unwrap_or_default(), WIDTH);
        let policy = text("policy");
        let gap = " ".repeat((widest.min(WIDTH) + 2).saturating_sub(safe::width(&policy)));
        let _ = writeln!(out, "  {policy}{gap}{}", style.paint(Paint::Faint, &text("why")));
    }
    if let Some(more @ 1..) = answer["more_others"].as_u64() {
        let _ = writeln!(out, "  … and {} more", format::count(more));
    }
    out
}

/// What became of a key lately.
fn lately(history: &Value, style: Style) -> String {
    let number = |name: &str| history[name].as_u64();
    let (Some(allowed), Some(denied), Some(since)) =
        (number("allowed"), number("denied"), number("since_unix_ms"))
    else {
        return "\n  it has decided none of its requests lately".to_owned();
    };
    let mut text = format!(
        "\n  {} passed, {} denied since {}",
        format::count(allowed),
        style.paint(if denied > 0 { Paint::Denied } else { Paint::Plain }, &format::count(denied)),
        format::date_time(since / 1_000),
    );
    if let Some(last) = number("last_denied_unix_ms") {
        let _ = write!(text, "; last denied at {}", format::hour_minute_second(last / 1_000));
    }
    let minutes = history["minutes"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |name: &'static str| minutes.iter().rev().map(move |minute| minute[name].as_u64().unwrap_or(0));
    let most = of("allowed").chain(of("denied")).max().unwrap_or(0);
    if most > 0 {
        let _ = write!(
            text,
            "\n  the last {} minutes: passed {}  denied {}",
            minutes.len(),
            style.paint(Paint::Admitted, &bars(of("allowed"), most)),
            style.paint(Paint::Denied, &bars(of("denied"), most)),
        );
    }
    text
}

/// Numbers as bars of one character each.
pub(super) fn bars(numbers: impl Iterator<Item = u64>, most: u64) -> String {
    const STEPS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let step = |number: u64| {
        // At least the lowest, if there is anything at all.
        let step = u128::from(number) * 8 / u128::from(most.max(1));
        usize::try_from(step.clamp(u128::from(number > 0), 8)).unwrap_or(8)
    };
    numbers.map(|number| STEPS[step(number)]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_reads_well() {
        let minute = |allowed: u64, denied: u64| json!({ "allowed": allowed, "denied": denied });
        let answer = json!({
            "allowed": false,
            "summary": "denied: banned under `login` for 512 s more",
            "ban": { "policy": "login", "key": "00112233445566778899aabbccddeeff", "left_ms": 512_000 },
            "policies": [{
                "policy": "login", "key": "203.0.113.7", "shadow": false,
                "limits": [{ "rule": "5/minute GCRA", "admitted": false, "remaining": 0, "reset_after_ms": 60_000, "retry_after_ms": 12_000 }],
                "history": {
                    "allowed": 5, "denied": 43, "since_unix_ms": 1_772_409_600_000_u64, "last_denied_unix_ms": 1_772_409_660_000_u64,
                    "minutes": [minute(1, 40), minute(4, 3), minute(0, 0)],
                },
            }],
            "others": [{ "policy": "api", "why": "is for /api/**" }, { "policy": "night-shift", "why": "is not active at this time" }],
            "more_others": 2,
        });
        insta::assert_snapshot!(render(&answer, Style { color: false, width: 100 }));
    }

    #[test]
    fn bars_are_as_high_as_their_numbers() {
        assert_eq!(bars([0, 1, 50, 100, 200].into_iter(), 200), "·▁▂▄█");
        assert_eq!(bars([u64::MAX, 0].into_iter(), u64::MAX), "█·");
    }
}
