//! `tollgate check`: what a running server says of a request.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::request::{WORDS, question};
use super::{ConnectionOptions, Server, show};
use crate::cli::fail;
use crate::text::paint::{Paint, Style};
use crate::text::table::{Cell, Column, Fit, Table};
use crate::text::{format, safe};

/// The most columns of a name or of a key.
const NAME_WIDTH: usize = 40;

#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    #[arg(value_name = "WORD", required = true, help = WORDS)]
    words: Vec<String>,

    /// What the request costs, in place of what the policies say
    #[arg(long, value_name = "N")]
    cost: Option<u32>,

    /// Take the cost, as the request itself would; without this, nothing is taken
    #[arg(long)]
    take: bool,

    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,

    /// The server
    #[arg(long, value_name = "URL", env = "TOLLGATE_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,

    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Asks, and prints the answer.
pub(crate) fn run(options: &CheckOptions) -> ExitCode {
    let question = match question(&options.words, options.cost) {
        Ok(question) => question,
        Err(error) => return fail(error),
    };
    let path = if options.take { "/v1/check" } else { "/v1/peek" };
    let server = Server::new(&options.server, &options.connection);
    show(server.and_then(|server| server.ask(path, &question)), options.json, render)
}

fn render(answer: &Value, style: Style) -> String {
    let mut out = String::new();
    let (paint, says) =
        if answer["allowed"] == true { (Paint::Admitted, "passes") } else { (Paint::Denied, "denied") };
    let by = answer["policy"].as_str().map(|policy| format!(" by {}", safe::elide(policy, NAME_WIDTH)));
    let by = by.unwrap_or_else(|| ": no policy applies".to_owned());
    out.push_str(&style.paint(paint, says));
    out.push_str(&by);
    if let Some(message) = answer["error"]["message"].as_str() {
        out.push_str("\n  ");
        out.push_str(&safe::elide(message, 200));
    }
    out.push_str("\n\n");
    limits(&mut out, answer["policies"].as_array().map_or(&[], Vec::as_slice), style);
    out
}

/// A table of the limits of policies.
pub(super) fn limits(out: &mut String, policies: &[Value], style: Style) {
    if policies.is_empty() {
        return;
    }
    let mut table = Table::new(vec![
        Column::left("policy", Fit::Elide),
        Column::left("limit", Fit::Elide),
        Column::right("left"),
        Column::right("passes in"),
        Column::right("whole in"),
        Column::left("", Fit::Fixed),
    ]);
    for policy in policies {
        let mut name = safe::elide(policy["policy"].as_str().unwrap_or_default(), NAME_WIDTH);
        if let Some(tier) = policy["tier"].as_str() {
            name = format!("{name} ({})", safe::elide(tier, NAME_WIDTH));
        }
        for (index, limit) in policy["limits"].as_array().into_iter().flatten().enumerate() {
            let admitted = limit["admitted"] == true;
            let mut rule = safe::elide(limit["rule"].as_str().unwrap_or_default(), NAME_WIDTH);
            if let Some(own) = limit["name"].as_str() {
                rule = format!("{}: {rule}", safe::elide(own, NAME_WIDTH));
            }
            let left = limit["remaining"]
                .as_u64()
                .map_or_else(Cell::nothing, |left| Cell::plain(format::cell(left)));
            let says = match (policy["shadow"] == true, admitted) {
                (false, true) => Cell::new("passes", Paint::Admitted),
                (false, false) => Cell::new("denies", Paint::Denied),
                (true, true) => Cell::new("would pass", Paint::Faint),
                (true, false) => Cell::new("would deny", Paint::Warning),
            };
            table.row(vec![
                if index == 0 { Cell::new(name.clone(), Paint::Strong) } else { Cell::empty() },
                Cell::plain(rule),
                left,
                length(&limit["retry_after_ms"], admitted),
                length(&limit["reset_after_ms"], true),
                says,
            ]);
        }
    }
    // Writing to a string cannot fail.
    let _ = table.write(out, style);
}

/// A length of time that was told in milliseconds.
fn length(millis: &Value, now_if_none: bool) -> Cell {
    match millis.as_u64() {
        None if now_if_none => Cell::nothing(),
        None => Cell::new("never", Paint::Warning),
        Some(0) => Cell::nothing(),
        Some(millis) if millis < 1_000 => Cell::plain(format!("{millis} ms")),
        Some(millis) => Cell::plain(format::duration(millis.div_ceil(1_000))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_denial_reads_well() {
        let limit = |rule: &str, left: u64, retry: Value| json!({ "rule": rule, "admitted": left > 0, "remaining": left, "reset_after_ms": 61_000, "retry_after_ms": retry });
        let answer = json!({
            "allowed": false,
            "policy": "login",
            "error": { "message": "Rate limit exceeded: the policy `login` allows 5 requests per 60 seconds." },
            "policies": [
                { "policy": "login", "shadow": false, "limits": [limit("5/minute GCRA", 0, json!(11_200))] },
                { "policy": "tiers", "tier": "gold\u{202e}", "shadow": true, "limits": [
                    limit("10/second GCRA", 3, json!(0)), limit("0/hour", 0, Value::Null),
                ] },
            ],
        });
        insta::assert_snapshot!(render(&answer, Style { color: false, width: 100 }));
    }
}
