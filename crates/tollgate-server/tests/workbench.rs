//! `tollgate replay`, `validate`, and the command line itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use common::{root, run, run_with_input, stderr, stdout, tollgate};
use serde_json::Value;

const SAMPLE: &str = "samples/access.log";

fn json(arguments: &[&str]) -> Value {
    let output = run(&[&["replay", "--json"], arguments].concat());
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

fn json_of(log: &[u8], arguments: &[&str]) -> Value {
    let output = run_with_input(&[&["replay", "--json", "-"], arguments].concat(), log);
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

fn policy<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["policies"].as_array().unwrap().iter().find(|policy| policy["name"] == name).unwrap()
}

/// A line of a log at so many seconds after nine o'clock.
fn line(second: u32, client: &str, request: &str) -> String {
    let time =
        format!("02/Mar/2026:{:02}:{:02}:{:02} +0000", 9 + second / 3_600, second / 60 % 60, second % 60);
    format!("{client} - - [{time}] \"{request} HTTP/1.1\" 200 12 \"-\" \"-\"\n")
}

#[test]
fn help_reads_well() {
    let mut shown = String::new();
    let commands = ["serve", "replay", "validate", "import"].map(|command| vec![command, "--help"]);
    for arguments in std::iter::once(vec!["--help"]).chain(commands) {
        let output = run(&arguments);
        assert!(output.status.success());
        let _ = writeln!(shown, "$ tollgate {}\n{}", arguments.join(" "), stdout(&output));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn the_sample_log_gives_the_same_report_every_time() {
    let output = run(&["replay", SAMPLE]);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    assert_eq!(run(&["replay", SAMPLE]).stdout, output.stdout);
    assert_eq!(json(&[SAMPLE]), json(&[SAMPLE]));
}

#[test]
fn what_is_denied_is_what_the_limits_say() {
    // Seven logins in one minute, then one in the next: two of them are too many.
    let mut log = String::new();
    for second in [0, 1, 2, 3, 4, 5, 59, 60] {
        log += &line(second, "192.0.2.1", "POST /api/auth/login");
    }
    log += &line(30, "192.0.2.2", "POST /api/auth/login");
    let report = json_of(log.as_bytes(), &[]);
    let login = policy(&report, "login");
    assert_eq!((&login["matched"], &login["denied"], &login["keys"]), (&9.into(), &2.into(), &2.into()));
    assert_eq!(report["totals"]["denied"], 2);
    let suggestion = &login["suggestions"][0];
    assert_eq!((&suggestion["current"], &suggestion["denies_nobody"]), (&5.into(), &7.into()));
    assert_eq!(report["hardest_keys"][0]["key"], "192.0.2.1");
    assert_eq!(report["lines"]["out_of_order"], 1);
}

#[test]
fn order_in_the_file_does_not_matter_within_the_window() {
    let mut lines: Vec<String> =
        (0..200).map(|at| line(at / 4, "192.0.2.1", "GET /api/search?q=x")).collect();
    let sorted = json_of(lines.concat().as_bytes(), &[]);
    lines.reverse();
    let reversed = json_of(lines.concat().as_bytes(), &[]);
    assert_eq!(sorted["policies"], reversed["policies"]);
    assert_eq!(reversed["lines"]["late"], 0);
    // With a short window all but the last two seconds' are late: decided at the time that the replay has reached.
    let late = json_of(lines.concat().as_bytes(), &["--reorder-window", "1ms"]);
    assert_eq!(late["lines"]["late"], 192);
    assert_eq!(late["totals"]["requests"], 200);
}

#[test]
fn logs_are_merged_by_time_whatever_they_are_packed_in() {
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(SAMPLE)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut paths = Vec::new();
    for part in 0..3 {
        // As three servers behind a balancer would have written them.
        let own: Vec<&str> = lines.iter().skip(part).step_by(3).copied().collect();
        let path = directory.path().join(format!("server-{part}.log"));
        std::fs::write(&path, own.join("\n")).unwrap();
        let packer: Option<&[&str]> = match part {
            1 => Some(&["gzip", "--keep"]),
            2 => Some(&["zstd", "--quiet"]),
            _ => None,
        };
        let packed = packer.and_then(|packer| {
            let status = std::process::Command::new(packer[0]).args(&packer[1..]).arg(&path).status().ok()?;
            let ending = if packer[0] == "gzip" { "log.gz" } else { "log.zst" };
            status.success().then(|| path.with_extension(ending))
        });
        paths.push(packed.unwrap_or(path).display().to_string());
    }
    let arguments: Vec<&str> = paths.iter().map(String::as_str).collect();
    let (merged, whole) = (json(&arguments), json(&[SAMPLE]));
    for part in ["totals", "span", "timeline"] {
        assert_eq!(merged[part], whole[part], "{part}");
    }
    assert_eq!(policy(&merged, "login")["denied"], policy(&whole, "login")["denied"]);
}

#[test]
fn a_log_that_begins_again_is_replayed_again() {
    let once = std::fs::read(root().join(SAMPLE)).unwrap();
    let (single, triple) = (json(&[SAMPLE]), json_of(&once.repeat(3), &[]));
    assert_eq!(triple["lines"]["restarts"], 2);
    assert_eq!(triple["lines"]["late"], 0);
    for policy in ["login", "search", "upload", "burst-guard"] {
        let denied = |report: &Value| self::policy(report, policy)["denied"].as_u64().unwrap();
        assert_eq!(denied(&triple), 3 * denied(&single), "{policy}");
        let fitting =
            |report: &Value| self::policy(report, policy)["suggestions"][0]["denies_nobody"].clone();
        assert_eq!(fitting(&triple), fitting(&single), "{policy}");
    }
}

#[test]
fn json_lines_and_their_fields() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    let text = "policies: [{ name: tenant, key: 'header:x-tenant', where: {}, limit: 1/hour, algorithm: fixed_window }]";
    std::fs::write(&file, text.replace("where: {}, ", "")).unwrap();
    let log = concat!(
        r#"{"ts":1772442000.25,"remote":{"ip":"192.0.2.1"},"method":"GET","uri":"/a","t":"acme"}"#,
        "\n",
        r#"{"ts":1772442001,"remote":{"ip":"192.0.2.2"},"method":"GET","uri":"/b","t":"acme"}"#,
        "\n",
        r#"{"ts":1772442002,"remote":{"ip":"192.0.2.2"},"method":"GET","uri":"/b","t":"other"}"#,
        "\n{oops\n",
    );
    let arguments =
        ["--policy", file.to_str().unwrap(), "--field", "client=remote.ip", "--field", "header:x-tenant=t"];
    let report = json_of(log.as_bytes(), &arguments);
    let tenant = policy(&report, "tenant");
    assert_eq!((&tenant["matched"], &tenant["denied"], &tenant["keys"]), (&3.into(), &1.into(), &2.into()));
    assert_eq!(report["lines"]["bad"], 1);
}

#[test]
fn rubbish_is_counted_and_never_fatal() {
    let long = "x".repeat(3_000_000);
    let mut log = Vec::new();
    log.extend_from_slice(line(0, "192.0.2.1", "GET /a").as_bytes());
    log.extend_from_slice(b"\xff\xfe\x00\x01 not text\n\n\0\0\0\n");
    log.extend_from_slice(format!("{long}\n").as_bytes());
    log.extend_from_slice(&line(1, "192.0.2.1", "GET /\u{1b}[31mred").into_bytes());
    log.extend_from_slice(b"192.0.2.1 - - [02/Mar/2026:09:00:02 +0000] \"GET /\xff\xfe HTTP/1.1\" 200 1\n");
    log.extend_from_slice(b"not-an-address - - [02/Mar/2026:09:00:03 +0000] \"GET / HTTP/1.1\" 200 1");
    let output = run_with_input(&["replay", "-"], &log);
    assert!(output.status.success());
    assert!(!stdout(&output).contains('\u{1b}'), "an escape sequence reached the terminal");
    let report = json_of(&log, &[]);
    assert_eq!(report["lines"]["bad"], 3);
    assert_eq!(report["lines"]["requests"], 4);
    // Whoever has no address is not counted by it.
    assert_eq!(report["totals"]["unmatched"], 1);

    let empty = run_with_input(&["replay", "-"], b"");
    assert!(empty.status.success());
    assert!(stdout(&empty).contains("The logs are empty"), "{}", stdout(&empty));
}

#[cfg(target_os = "linux")]
#[test]
fn a_line_of_a_gigabyte_costs_no_memory() {
    // The data limit of the program is a third of the line's length.
    let mut child = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 400000; exec \"$0\" replay --json -", env!("CARGO_BIN_EXE_tollgate")])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let block = vec![b'x'; 1 << 20];
        for _ in 0..1_024 {
            stdin.write_all(&block).unwrap();
        }
        stdin.write_all(b"\n").unwrap();
        stdin.write_all(line(0, "192.0.2.1", "GET /a").as_bytes()).unwrap();
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["lines"]["bad"], &report["lines"]["requests"]), (&1.into(), &1.into()));
}

#[test]
fn the_html_report_is_one_page_that_needs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("out.html");
    let output = run(&["replay", SAMPLE, "--report", page.to_str().unwrap()]);
    assert!(output.status.success());
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") || html.starts_with("<!doctype html>"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let found = html.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "the page refers to something outside: {outside}");
    }
    for expected in ["203.0.113.77", "burst-guard", "<svg", "prefers-color-scheme"] {
        assert!(html.contains(expected), "{expected}");
    }
    let unwritable = run(&["replay", SAMPLE, "--report", "/nowhere/out.html"]);
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(stderr(&unwritable).contains("cannot write /nowhere/out.html"));
}

#[test]
fn what_cannot_be_read_is_said() {
    let mut shown = String::new();
    for arguments in [
        &["replay", "missing.log"][..],
        &["replay", "samples"],
        &["replay", "--policy", "missing.yaml", SAMPLE],
        &["replay", "--field", "nonsense", SAMPLE],
        &["replay", "--reorder-window", "soon", SAMPLE],
        &["replay", "--format", "xml", SAMPLE],
        &["replay"],
        &["validate", "missing.yaml"],
        &["validate", "samples"],
    ] {
        let output = run(arguments);
        assert!(!output.status.success());
        let _ = writeln!(shown, "$ tollgate {}\n{}", arguments.join(" "), stderr(&output).trim_end());
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn validate_shows_every_problem_of_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("a-fine.yaml", "policies:\n  - { name: a, key: ip, limits: [1/s, 10/minute] }\n");
    write(
        "b-wrong.yaml",
        "policies:\n  - name: b\n    kee: ip\n    limit: 5/minutte\n  - name: b\n    key: ipp\n",
    );
    std::fs::create_dir(directory.path().join("more")).unwrap();
    write("more/c-wrong.toml", "[[policies]]\nname = \"c\"\nkey = \"ip\"\nlimit = 5\n");
    write("ignored.txt", "policies: nonsense");
    let output = tollgate().current_dir(directory.path()).args(["validate", "."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(format!("{}\n---\n{}", stdout(&output), stderr(&output)));

    let fine = tollgate().current_dir(directory.path()).args(["validate", "a-fine.yaml"]).output().unwrap();
    assert!(fine.status.success());
    assert_eq!(stdout(&fine), "a-fine.yaml: fine (1 policy, 2 limits)\n");
    let shipped = run(&["validate", "crates/tollgate-policy/policies"]);
    assert!(shipped.status.success(), "{}", stderr(&shipped));
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&["completions", shell])).contains("replay"), "{shell}");
    }
}
