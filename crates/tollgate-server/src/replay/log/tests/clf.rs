//! Lines of the common and the combined format.

use super::super::{Format, FormatChoice};
use super::{Request, auto, options, with};

const NOON_NS: u64 = 1_431_857_103_000_000_000;

#[test]
fn a_combined_line() {
    let text = r#"83.149.9.216 - frank [17/May/2015:10:05:03 +0000] "GET /a/b.png?c=d HTTP/1.1" 200 203023 "http://example.com/" "Mozilla/5.0 (Macintosh)""#;
    let outcome = auto(text);
    assert_eq!(outcome.formats, [Some(Format::Combined)]);
    assert_eq!(
        outcome.only(),
        Request {
            time_ns: NOON_NS,
            client: "83.149.9.216".into(),
            user: Some("frank".into()),
            method: "GET".into(),
            target: "/a/b.png?c=d".into(),
            status: Some(200),
            bytes: Some(203_023),
            user_agent: Some("Mozilla/5.0 (Macintosh)".into()),
            attributes: vec![],
        }
    );
}

#[test]
fn a_common_line() {
    let request = auto(r#"::1 - - [17/May/2015:12:05:03 +0200] "POST /a" 304 -"#).only();
    assert_eq!(request.time_ns, NOON_NS);
    assert_eq!((request.client.as_str(), request.user), ("::1", None));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/a"));
    assert_eq!((request.status, request.bytes, request.user_agent), (Some(304), None, None));
}

#[test]
fn a_common_log_has_no_user_agent() {
    let text = super::line("/a");
    let agent = |format| with(&options(FormatChoice::Always(format), &[]), text.as_str()).only().user_agent;
    assert_eq!(agent(Format::Common), None);
    assert_eq!(agent(Format::Combined), Some("agent".into()));
}

#[test]
fn attributes_are_absent() {
    let options = options(FormatChoice::Auto, &["key=a", "other=b"]);
    let outcome = with(&options, super::line("/a") + "bad\n" + &super::line("/b"));
    assert_eq!(outcome.requests[1].attributes, [None, None]);
}

#[track_caller]
fn head(head: &str) -> (String, Option<String>) {
    let request = auto(format!("{head} [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5")).only();
    (request.client, request.user)
}

#[test]
fn clients_and_users() {
    let user = |client: &str, user: &str| (client.to_owned(), Some(user.to_owned()));
    let nobody = |client: &str| (client.to_owned(), None);
    assert_eq!(head("1.2.3.4 - -"), nobody("1.2.3.4"));
    assert_eq!(head("1.2.3.4:5678 - bob"), user("1.2.3.4", "bob"));
    assert_eq!(head("[2001:db8::1]:443 - bob"), user("2001:db8::1", "bob"));
    assert_eq!(head("2001:db8::1 ident bob"), user("2001:db8::1", "bob"));
    assert_eq!(head("host.example - \"\""), nobody("host.example"));
    assert_eq!(head("1.2.3.4 - Bob de Bouwer"), user("1.2.3.4", "Bob de Bouwer"));
    assert_eq!(head("1.2.3.4 - "), nobody("1.2.3.4"));
    // With a virtual host before them.
    assert_eq!(head("example.com:80 1.2.3.4 - -"), nobody("1.2.3.4"));
    assert_eq!(head("[::1]:443 2001:db8::1 - bob"), user("2001:db8::1", "bob"));
    assert_eq!(head("example.com:80 1.2.3.4 - Bob de Bouwer"), user("1.2.3.4", "Bob de Bouwer"));
}

#[test]
fn quoted_fields_may_have_escapes() {
    let text = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a?q=\"x\"\x20\\ HTTP/1.1" 200 5 "\"\\" "the \"agent\" \x4d\\""#;
    let request = auto(text).only();
    assert_eq!(request.target, r#"/a?q="x" \\"#);
    assert_eq!(request.user_agent.unwrap(), r#"the "agent" M\\"#);
}

#[test]
fn targets_of_proxies_lose_their_authority() {
    assert_eq!(auto(super::line("http://example.com/a?b")).only().target, "/a?b");
    assert_eq!(auto(super::line(r"http://example.com?\x22")).only().target, "/?\"");
    assert_eq!(auto(super::line("example.com:443")).only().target, "example.com:443");
}

#[test]
fn more_fields_are_ignored() {
    let start = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;
    let agent = |rest: &str| auto(format!("{start}{rest}")).only().user_agent;
    assert_eq!(agent(r#" "-" "agent" "10.0.0.1" 0.003"#), Some("agent".into()));
    assert_eq!(agent(r#" "-" "agent"rubbish"#), Some("agent".into()));
    assert_eq!(agent(r#" 0.003 "-" "agent""#), None);
    assert_eq!(agent(r#" "-""#), None);
    assert_eq!(agent(r#" "-" "-""#), None);
    assert_eq!(agent(r#" "-" """#), None);
    assert_eq!(agent(" "), None);
}

#[test]
fn other_spellings_of_the_time() {
    for time in ["17/may/2015:10:05:03.000 +0000", "17/May/2015:05:05:03 -05:00", "2015-05-17T10:05:03+00:00"]
    {
        let text = format!("1.2.3.4 - - [{time}] \"GET / HTTP/1.1\" 200 5");
        assert_eq!(auto(text).only().time_ns, NOON_NS, "{time}");
    }
}

#[test]
fn bad_lines_say_what_is_wrong() {
    let time = "[17/May/2015:10:05:03 +0000]";
    for (text, wanted) in [
        ("hello".to_owned(), "no time in square brackets"),
        ("[17/May/2015:10:05:03 +0000] GET".to_owned(), "no time in square brackets"),
        (" [17/May/2015:10:05:03 +0000] GET".to_owned(), "fewer than three fields before the time"),
        (format!("1.2.3.4 - {time} \"GET / HTTP/1.1\" 200 5"), "fewer than three fields before the time"),
        (format!("- - - {time} \"GET / HTTP/1.1\" 200 5"), "no client: its field is `-` or empty"),
        (format!(" - - {time} \"GET / HTTP/1.1\" 200 5"), "no client: its field is `-` or empty"),
        (
            "1.2.3.4 - - [17/May/2015:10:05".to_owned(),
            "the time is not like 17/May/2015:10:05:03 +0000, 2015-05-17T10:05:03Z or 1431857103",
        ),
        ("1.2.3.4 - - [31/Feb/2015:10:05:03 +0000] ".to_owned(), "the time is on a day that no calendar has"),
        (format!("1.2.3.4 - - {time}"), "no request in quotes after the time"),
        (format!("1.2.3.4 - - {time} GET / 200 5"), "no request in quotes after the time"),
        (format!("1.2.3.4 - - {time} \"GET / HTTP/1.1"), "the request has no closing quote"),
        (format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\\\" 200 5"), "the request has no closing quote"),
        (format!("1.2.3.4 - - {time} \"GET /\\"), "the request has no closing quote"),
        (format!("1.2.3.4 - - {time} \"-\" 408 0"), "the request has no target after its method"),
        (format!("1.2.3.4 - - {time} \"\" 400 0"), "the request has no target after its method"),
        (format!("1.2.3.4 - - {time} \"GET HTTP/1.1\" 400 0"), "the request has no target after its method"),
        (format!("1.2.3.4 - - {time} \"\\x16\\x03\\x01 \\x01\" 400 0"), "the method is no HTTP method"),
        (format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\""), "no status of three digits after the request"),
        (format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" - 5"), "no status of three digits after the request"),
        (
            format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" 2000 5"),
            "no status of three digits after the request",
        ),
        (
            format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" 200"),
            "no size after the status: neither a number nor `-`",
        ),
        (
            format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" 200 99999999999999999999"),
            "no size after the status: neither a number nor `-`",
        ),
        (
            format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" 200 5k"),
            "no size after the status: neither a number nor `-`",
        ),
        (
            format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" 200 5 \"-\" \"cut o"),
            "the referrer or user agent has no closing quote",
        ),
        (
            format!("1.2.3.4 - - {time} \"GET / HTTP/1.1\" 200 5 \""),
            "the referrer or user agent has no closing quote",
        ),
    ] {
        assert_eq!(auto(text.as_str()).flaw(), wanted, "{text}");
    }
}
