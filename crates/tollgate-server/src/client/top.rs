//! `tollgate top`: what a running server does at this moment, in a terminal.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use console::Term;
use serde_json::Value;

use super::explain::bars;
use super::{ConnectionOptions, Server, Unanswered};
use crate::cli::{fail, print_out};
use crate::text::paint::{Paint, Style};
use crate::text::table::{Cell, Column, Fit, Table};
use crate::text::{format, safe};

/// How many seconds of the past are shown.
const SECONDS: usize = 60;
/// The most columns of a name or of a key.
const NAME_WIDTH: usize = 40;
/// How many rows each list has at most.
const ROWS_MAX: usize = 10;

#[derive(Args, Debug)]
pub(crate) struct TopOptions {
    /// Print the present second, and end
    #[arg(long)]
    once: bool,

    /// Print each second as a line of JSON
    #[arg(long)]
    json: bool,

    /// The server
    #[arg(long, value_name = "URL", env = "TOLLGATE_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,

    #[command(flatten)]
    connection: ConnectionOptions,
}

/// The numbers of past seconds.
#[derive(Debug, Default)]
struct Past {
    allowed: VecDeque<u64>,
    denied: VecDeque<u64>,
}

/// Shows the server until it ends or nobody looks any more.
pub(crate) fn run(options: &TopOptions) -> ExitCode {
    let lines = Server::new(&options.server, &options.connection).and_then(|server| server.lines("/live"));
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => return fail(error),
    };
    let screen = Term::stdout();
    let is_screen = std::io::stdout().is_terminal() && !options.once && !options.json;
    if is_screen {
        end_on_key();
    }
    let (mut past, mut event) = (Past::default(), String::new());
    for line in lines {
        let line = match line {
            Ok(line) => line,
            Err(error) => return gone(&screen, is_screen, &options.server, &Unanswered(error.to_string())),
        };
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let Ok(value) = serde_json::from_str::<Value>(data) else { continue };
        if event == "history" {
            past = Past::of(&value);
            continue;
        }
        past.add(&value);
        if options.json {
            print_out(format!("{value}\n").as_bytes());
        } else {
            let (rows, columns) = screen.size_checked().unwrap_or((50, 100));
            let style = Style { color: true, width: columns.clamp(80, 120) };
            let text = render(&value, &past, &options.server, style);
            if is_screen {
                show(&screen, &text, usize::from(rows));
            } else {
                print_out(text.as_bytes());
            }
        }
        if options.once {
            return ExitCode::SUCCESS;
        }
    }
    gone(&screen, is_screen, &options.server, &Unanswered("it has ended".to_owned()))
}

/// Ends the program when somebody presses `q` or Escape. Where there is no keyboard, Ctrl-C will do.
fn end_on_key() {
    std::thread::spawn(|| {
        let keyboard = Term::stdout();
        while let Ok(key) = keyboard.read_key() {
            if matches!(key, console::Key::Char('q' | 'Q') | console::Key::Escape | console::Key::CtrlC) {
                // The terminal is as it was: nothing of it is changed but what is written.
                let _ = keyboard.show_cursor();
                std::process::exit(0);
            }
        }
    });
}

fn gone(screen: &Term, is_screen: bool, server: &str, why: &Unanswered) -> ExitCode {
    if is_screen {
        let _ = screen.show_cursor();
    }
    fail(format_args!("{server} does not answer any more: {why}"))
}

/// Puts a page where the last one was, as far as there is room.
fn show(screen: &Term, page: &str, rows: usize) {
    let lines: Vec<&str> = page.lines().take(rows.saturating_sub(1).max(1)).collect();
    let _ = screen.hide_cursor();
    let _ = screen.move_cursor_to(0, 0);
    // Line by line, so that nothing flickers.
    for line in &lines {
        let _ = screen.clear_line();
        let _ = screen.write_line(line);
    }
    let _ = screen.clear_to_end_of_screen();
}

impl Past {
    fn of(history: &Value) -> Self {
        let mut past = Self::default();
        let points = history.as_array().map_or(&[][..], Vec::as_slice);
        // The last of them comes again as the present second.
        for point in points.iter().take(points.len().saturating_sub(1)) {
            past.add(point);
        }
        past
    }

    fn add(&mut self, point: &Value) {
        for (numbers, name) in [(&mut self.allowed, "allowed"), (&mut self.denied, "denied")] {
            if numbers.len() == SECONDS {
                numbers.pop_front();
            }
            numbers.push_back(point[name].as_u64().unwrap_or(0));
        }
    }
}

fn render(now: &Value, past: &Past, server: &str, style: Style) -> String {
    let mut out = String::new();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let count = |value: &Value| format::count(number(value));
    let strong = |text: &str| style.paint(Paint::Strong, text);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        out,
        "{} {}  {}  up {}  {}",
        strong("tollgate"),
        now["version"].as_str().unwrap_or_default(),
        safe::elide(server, NAME_WIDTH),
        format::duration(number(&now["uptime_s"])),
        style.paint(Paint::Faint, "q ends"),
    );
    let time = |name: &str| now[name].as_u64().map_or_else(|| format::NOTHING.to_owned(), nanos);
    let _ = writeln!(
        out,
        "\n  allowed {} /s   denied {} /s   errors {} /s   p50 {}   p99 {}",
        style.paint(Paint::Admitted, &count(&now["allowed"])),
        style.paint(Paint::Denied, &count(&now["denied"])),
        count(&now["errors"]),
        time("p50_ns"),
        time("p99_ns"),
    );
    let most = past.allowed.iter().chain(&past.denied).copied().max().unwrap_or(0);
    let _ =
        writeln!(out, "  passed {}", style.paint(Paint::Admitted, &bars(past.allowed.iter().copied(), most)));
    let _ =
        writeln!(out, "  denied {}", style.paint(Paint::Denied, &bars(past.denied.iter().copied(), most)));
    store(&mut out, now, style);
    policies(&mut out, now, style);
    for (title, name) in
        [("Keys that ask the most", "busy_keys"), ("Keys that are denied the most", "denied_keys")]
    {
        keys(&mut out, title, &now[name], style);
    }
    out
}

fn store(out: &mut String, now: &Value, style: Style) {
    let store = &now["store"];
    let state = if store["available"] == true {
        style.paint(Paint::Admitted, "available")
    } else {
        style.paint(Paint::Denied, "away")
    };
    let count = |value: &Value| format::count(value.as_u64().unwrap_or(0));
    let _ = write!(
        out,
        "\n  store {} {state}   {} of {} keys   {} bans",
        safe::elide(store["backend"].as_str().unwrap_or_default(), NAME_WIDTH),
        count(&store["keys"]),
        count(&store["capacity"]),
        count(&now["bans"]),
    );
    if let Some(trouble) = store["trouble"].as_str() {
        let _ = write!(out, "\n  {}", style.paint(Paint::Warning, &safe::elide(trouble, 100)));
    }
    if let Some(failure) = now["reload_failure"].as_str() {
        let first = failure.lines().next().unwrap_or_default();
        let text = format!("the policy files are wrong, and those before stay in force: {first}");
        let _ = write!(out, "\n  {}", style.paint(Paint::Warning, &safe::elide(&text, 100)));
    }
    out.push('\n');
}

fn policies(out: &mut String, now: &Value, style: Style) {
    let policies = now["policies"].as_array().map_or(&[][..], Vec::as_slice);
    if policies.is_empty() {
        return;
    }
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut sorted: Vec<&Value> = policies.iter().collect();
    sorted.sort_by_key(|policy| {
        std::cmp::Reverse((number(&policy["matched"]), number(&policy["all_matched"])))
    });
    let mut table = Table::new(vec![
        Column::left("policy", Fit::Elide),
        Column::right("/s"),
        Column::right("denied /s"),
        Column::right("in all"),
        Column::right("denied"),
        Column::right("share"),
    ]);
    for policy in sorted.iter().take(ROWS_MAX) {
        let denied = number(&policy["denied"]);
        let mut name = safe::elide(policy["name"].as_str().unwrap_or_default(), NAME_WIDTH);
        if policy["shadow"] == true {
            name.push_str(" (watches)");
        }
        table.row(vec![
            Cell::new(name, Paint::Strong),
            Cell::plain(format::cell(number(&policy["matched"]))),
            Cell::new(format::cell(denied), if denied > 0 { Paint::Denied } else { Paint::Plain }),
            Cell::plain(format::cell(number(&policy["all_matched"]))),
            Cell::plain(format::cell(number(&policy["all_denied"]))),
            Cell::plain(format::percent(number(&policy["all_denied"]), number(&policy["all_matched"]))),
        ]);
    }
    out.push('\n');
    let _ = table.write(out, style);
}

fn keys(out: &mut String, title: &'static str, keys: &Value, style: Style) {
    let keys = keys.as_array().map_or(&[][..], Vec::as_slice);
    if keys.is_empty() {
        return;
    }
    let mut table = Table::new(vec![
        Column::left(title, Fit::Elide),
        Column::left("policy", Fit::Elide),
        Column::right("lately"),
    ]);
    for key in keys.iter().take(ROWS_MAX) {
        let text = |name: &str| safe::elide(key[name].as_str().unwrap_or_default(), NAME_WIDTH);
        let count = format::cell(key["count"].as_u64().unwrap_or(0));
        table.row(vec![
            Cell::plain(text("key")),
            Cell::new(text("policy"), Paint::Faint),
            Cell::plain(count),
        ]);
    }
    out.push('\n');
    let _ = table.write(out, style);
}

/// A short time: `850 ns`, `12.3 µs`, `4.0 ms`.
fn nanos(nanos: u64) -> String {
    let tenths = |unit: u64, name: &str| format!("{}.{} {name}", nanos / unit, nanos % unit * 10 / unit);
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => tenths(1_000, "µs"),
        1_000_000..1_000_000_000 => tenths(1_000_000, "ms"),
        _ => tenths(1_000_000_000, "s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_second_reads_well() {
        let policy = |name: &str, matched: u64, denied: u64| {
            json!({ "name": name, "shadow": name == "trial", "matched": matched, "denied": denied,
                    "all_matched": matched * 100, "all_denied": denied * 90 })
        };
        let key = |key: &str, count: u64| json!({ "policy": "login", "key": key, "count": count });
        let now = json!({
            "allowed": 12_345, "denied": 678, "errors": 0, "p50_ns": 850, "p99_ns": 12_345, "version": "0.1.0",
            "uptime_s": 93_784, "bans": 2,
            "store": { "backend": "memory", "available": true, "keys": 54_321, "capacity": 1_000_000 },
            "reload_failure": "error: unknown setting `kee`\n --> policies.yaml:3:5",
            "policies": [policy("api", 12_000, 0), policy("login", 1_023, 678), policy("trial", 5, 5)],
            "busy_keys": [key("203.0.113.7", 4_000), key("\u{1b}[31m2001:db8::/64", 30)],
            "denied_keys": [key("203.0.113.7", 600)],
        });
        let mut past =
            Past::of(&json!([{ "allowed": 10_000, "denied": 0 }, { "allowed": 5_000, "denied": 600 }, {}]));
        past.add(&now);
        insta::assert_snapshot!(render(
            &now,
            &past,
            "http://127.0.0.1:8080",
            Style { color: false, width: 100 }
        ));
    }

    #[test]
    fn short_times_read_well() {
        let told = [0, 999, 1_000, 12_345, 4_050_000, 3_200_000_000].map(nanos);
        assert_eq!(told, ["0 ns", "999 ns", "1.0 µs", "12.3 µs", "4.0 ms", "3.2 s"]);
    }
}
