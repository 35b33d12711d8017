//! JSON lines: those of well-known servers, and those that are none.

use serde_json::Value;

use super::super::{Format, FormatChoice};
use super::{Outcome, Request, auto, options, with};

const TIME_NS: u64 = 1_431_857_103_000_000_000;

fn fields(fields: &[&str], text: &str) -> Outcome {
    with(&options(FormatChoice::Auto, fields), text)
}

/// The request at that time which most of these logs hold.
#[track_caller]
fn check(request: &Request, agent: Option<&str>) {
    assert_eq!(request.time_ns / 1_000_000_000, TIME_NS / 1_000_000_000);
    assert_eq!(request.client, "1.2.3.4");
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!((request.status, request.bytes), (Some(200), Some(5)));
    assert_eq!(request.user_agent.as_deref(), agent);
}

#[test]
fn nginx() {
    let outcome = auto(
        r#"{"time_local":"17/May/2015:10:05:03 +0000","remote_addr":"1.2.3.4","remote_user":"","request":"GET /a?b=c HTTP/1.1","status": "200","body_bytes_sent":"5","http_user_agent":"agent"}"#,
    );
    assert_eq!(outcome.formats, [Some(Format::Json)]);
    let request = outcome.only();
    assert_eq!(request.user, None);
    check(&request, Some("agent"));
    let text = r#"{"msec":1431857103.250,"remote_addr":"1.2.3.4","remote_user":"bob","request_method":"GET","request_uri":"/a?b=c","uri":"/a","status":200,"bytes_sent":5}"#;
    let request = auto(text).only();
    assert_eq!((request.user.as_deref(), request.time_ns), (Some("bob"), TIME_NS + 250_000_000));
    check(&request, None);
}

#[test]
fn caddy() {
    let request = fields(
        &["key=request.headers.X-Api-Key", "none=request.headers.None"],
        r#"{"level":"info","ts":1431857103.5241024,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"1.2.3.4","remote_port":"41342","client_ip":"1.2.3.4","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/a?b=c","headers":{"User-Agent":["curl/7.82.0"],"X-Api-Key":["k1","k2"],"None":[]},"tls":{"resumed":false}},"bytes_read":0,"user_id":"","duration":0.000929675,"size":5,"status":200,"resp_headers":{"Server":["Caddy"]}}"#,
    )
    .only();
    check(&request, Some("curl/7.82.0"));
    assert_eq!(request.time_ns, TIME_NS + 524_102_400);
    assert_eq!((request.user, request.attributes), (None, vec![Some("k1".into()), None]));
}

#[test]
fn traefik() {
    let request = auto(
        r#"{"ClientAddr":"1.2.3.4:5678","ClientHost":"1.2.3.4","ClientUsername":"-","DownstreamContentSize":5,"DownstreamStatus":200,"RequestMethod":"GET","RequestPath":"/a?b=c","StartUTC":"2015-05-17T10:05:03.123456789Z","request_User-Agent":"agent","time":"2015-05-17T10:05:09Z"}"#,
    )
    .only();
    check(&request, Some("agent"));
    assert_eq!((request.user, request.time_ns), (None, TIME_NS + 123_456_789));
}

#[test]
fn elastic_common_schema() {
    let text = r#"{"@timestamp":"2015-05-17T10:05:03.000Z","source":{"ip":"1.2.3.4","address":"other"},"client":{"port":5},"user":{"name":"bob"},"http":{"request":{"method":"GET"},"response":{"status_code":200,"body":{"bytes":5}}},"url":{"original":"https://example.com/a?b=c","path":"/a"},"user_agent":{"original":"agent"}}"#;
    let request = auto(text).only();
    check(&request, Some("agent"));
    assert_eq!(request.user.as_deref(), Some("bob"));
    let flat = r#"{"@timestamp":"2015-05-17T10:05:03.000Z","source.ip":"1.2.3.4","http.request.method":"GET","http.response.status_code":200,"http.response.body.bytes":5,"url.original":"/a?b=c"}"#;
    check(&auto(flat).only(), None);
}

#[test]
fn pino_and_google() {
    let text = r#"{"level":30,"time":1431857103000,"req":{"method":"GET","url":"/a?b=c","headers":{"user-agent":"agent"},"remoteAddress":"1.2.3.4"},"res":{"statusCode":200},"size":5}"#;
    check(&auto(text).only(), Some("agent"));
    let text = r#"{"timestamp":"2015-05-17T10:05:03Z","httpRequest":{"requestMethod":"GET","requestUrl":"http://example.com/a?b=c","status":200,"responseSize":"5","userAgent":"agent","remoteIp":"1.2.3.4"}}"#;
    check(&auto(text).only(), Some("agent"));
}

#[test]
fn named_fields_take_the_place_of_the_usual_ones() {
    let text = r#"{"when":"2015-05-17T10:05:03Z","time":0,"client":"9.9.9.9","who":{"ip":"[::1]:80"},"m":"PUT","t":"/x","u":7,"s":204,"n":"8","a":"agent","on":true,"off":null}"#;
    let request = fields(
        &[
            "time=when",
            "client=who.ip",
            "method=m",
            "target=t",
            "user=u",
            "status=s",
            "bytes=n",
            "user_agent=a",
            "on=on",
            "off=off",
            "user2=u",
            "deep=who",
        ],
        text,
    )
    .only();
    assert_eq!(request.time_ns, TIME_NS);
    assert_eq!((request.client.as_str(), request.user.as_deref()), ("::1", Some("7")));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/x"));
    assert_eq!(
        (request.status, request.bytes, request.user_agent.as_deref()),
        (Some(204), Some(8), Some("agent"))
    );
    assert_eq!(request.attributes, [Some("true".into()), None, Some("7".into()), None]);
}

const REST: &str = r#""time":1431857103,"client":"1.2.3.4","method":"GET","path":"/"}"#;

#[track_caller]
fn attribute(field: &str, start: &str) -> Option<String> {
    fields(&[&format!("x={field}")], &format!("{{{start},{REST}")).only().attributes.remove(0)
}

#[test]
fn the_whole_name_of_a_field_goes_before_its_levels() {
    assert_eq!(attribute("a.b.c", r#""a":{"b":{"c":"deep"}}"#).unwrap(), "deep");
    assert_eq!(attribute("a.b.c", r#""a":{"b":{"c":"deep"},"b.c":"half"}"#).unwrap(), "half");
    assert_eq!(attribute("a.b.c", r#""a.b.c":"whole","a":{"b":{"c":"deep"}}"#).unwrap(), "whole");
    assert_eq!(attribute("a.b.c", r#""a":{"b":{"c":"deep"}},"a.b.c":"whole""#).unwrap(), "whole");
    assert_eq!(attribute("a.b.c", r#""a.b":{"c":"half"}"#).unwrap(), "half");
    assert_eq!(attribute("a.b.c", r#""a":{"b":"c"}"#), None);
    assert_eq!(attribute("a.b.c", r#""a":[{"b":{"c":"in a list"}}]"#), None);
    assert_eq!(attribute("a", r#""a":1,"a":2"#).unwrap(), "2", "as with most parsers, the last one counts");
    assert_eq!(attribute("a.", r#""a":{"":"x"}"#).unwrap(), "x");
    assert_eq!(attribute("ab", r#""\u0061\x62":"escaped name""#).unwrap(), "escaped name");
}

#[test]
fn values_of_attributes() {
    assert_eq!(
        attribute("a", r#""a":"caf\u00e9 \"\ud83d\ude00\" \x41\/""#).unwrap(),
        r#"caf\xc3\xa9 "\xf0\x9f\x98\x80" A/"#
    );
    assert_eq!(attribute("a", r#""a":-1.5e+3"#).unwrap(), "-1.5e+3");
    assert_eq!(attribute("a", r#""a":[[["x"]],"y"]"#).unwrap(), "x");
    for absent in
        [r#""a":"""#, r#""a":"-""#, r#""a":null"#, r#""a":{}"#, r#""a":[]"#, r#""a":[null]"#, r#""b":1"#]
    {
        assert_eq!(attribute("a", absent), None, "{absent}");
    }
}

#[test]
fn the_same_field_can_have_several_parts() {
    let text = format!(r#"{{"id":"\u0061\u0062",{REST}"#);
    let request = fields(&["user=id", "one=id", "two=id", "both=none", "both=id"], &text).only();
    assert_eq!(request.user.unwrap(), "ab");
    assert!(request.attributes.iter().all(|value| value.as_deref() == Some("ab")));
}

#[test]
fn a_time_that_cannot_be_read_gives_way_to_the_next() {
    let text = r#"{"time":"tomorrow","ts":1431857103,"client":"1.2.3.4","method":"GET","path":"/"}"#;
    assert_eq!(auto(text).only().time_ns, TIME_NS);
    let text = r#"{"time":"1/2/3","ts":-1,"client":"1.2.3.4","method":"GET","path":"/"}"#;
    assert!(auto(text).flaw().starts_with("the time is not like"));
}

#[test]
fn optional_numbers_that_are_none_are_absent() {
    for (status, bytes) in [
        ("\"-\"", "-1"),
        ("70000", "1.5"),
        ("\"OK\"", "1e3"),
        ("[]", "99999999999999999999"),
        ("\"\"", "\".0\""),
    ] {
        let request = auto(format!(r#"{{"status":{status},"bytes":{bytes},{REST}"#)).only();
        assert_eq!((request.status, request.bytes), (None, None), "{status} {bytes}");
    }
    let request = auto(format!(r#"{{"status":200.0,"bytes":"5.00",{REST}"#)).only();
    assert_eq!((request.status, request.bytes), (Some(200), Some(5)));
}

#[test]
fn bad_lines_say_what_is_wrong() {
    let deep = format!(r#"{{"a":{}1{},{REST}"#, "[".repeat(70), "]".repeat(70));
    for (text, wanted) in [
        ("{", "not JSON, or cut off"),
        (r#"{"time":1431857103,"client":"1.2"#, "not JSON, or cut off"),
        (r#"{"time":1431857103} {"#, "more text after the JSON object"),
        (deep.as_str(), "JSON nested more than 64 deep"),
        (
            r#"{"client":"1.2.3.4","method":"GET","path":"/"}"#,
            "no time (looked for `@timestamp`, `timestamp`, `StartUTC` and 11 more); say where it is with time=FIELD",
        ),
        (
            r#"{"time":1431857103,"method":"GET","path":"/"}"#,
            "no client (looked for `client`, `remote_addr`, `client_ip` and 21 more); say where it is with client=FIELD",
        ),
        (r#"{"time":1431857103,"client":"1.2.3.4","request":"-","path":"/"}"#, "no method (looked for"),
        (r#"{"time":1431857103,"client":"1.2.3.4","method":"GET"}"#, "no target (looked for"),
        (
            r#"{"time":1431857103,"client":"1.2.3.4","method":"G T","path":"/"}"#,
            "the method is no HTTP method",
        ),
        (
            r#"{"time":1431857103,"client":"1.2.3.4","request":"GET"}"#,
            "the request has no target after its method",
        ),
        (r#"{"time":true,"client":"1.2.3.4","method":"GET","path":"/"}"#, "the time is not like"),
        (r#"{"time":1e400,"client":"1.2.3.4","method":"GET","path":"/"}"#, "the time is not within"),
    ] {
        let reason = auto(text).flaw();
        assert!(reason.starts_with(wanted), "{reason} for {text}");
    }
    let options = options(FormatChoice::Always(Format::Json), &["client=ip"]);
    assert_eq!(with(&options, super::line("/a")).flaw(), "not a JSON object");
    assert_eq!(
        with(&options, "{\"time\":1431857103}").flaw(),
        "no client (looked for `ip`); say where it is with client=FIELD"
    );
}

/// What `serde_json` takes for JSON and what is taken here differ only where this says so.
#[test]
fn the_grammar_is_that_of_json() {
    let values = [
        "0",
        "-0",
        "01",
        "-",
        "1.",
        ".5",
        "1.5",
        "1e5",
        "1e",
        "1e+",
        "1E-5",
        "+1",
        "0x1",
        "1.5.5",
        "true",
        "tru",
        "truex",
        "false",
        "null",
        "nul",
        "True",
        "[]",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,2]",
        "[[]]",
        "[1",
        "{}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{\"a\":{\"b\":[1,{\"c\":null}]}}",
        "\"\"",
        "\"",
        "\"\\\"",
        "\"\\\\\"",
        "\"\\q\"",
        "\"\\u12\"",
        "\"\\u00zz\"",
        "\"\\u00e9\"",
        "'a'",
        "",
        " 1 ",
        "\t[ 1 , 2 ]\r",
        "1]",
        "1}",
        "\"a\"b",
        "\"\\/\\b\\f\\n\\r\\t\"",
        "//",
        "NaN",
        "Infinity",
        "1 1",
        "\u{a0}1",
    ];
    for value in values {
        let text = format!("{{\"x\":{value},{REST}");
        let wanted = serde_json::from_str::<Value>(&text).is_ok();
        assert_eq!(auto(text.as_str()).requests.len() == 1, wanted, "{text}");
    }
    // Not JSON, but found in logs.
    for value in [&b"\"\\x41\""[..], b"\"\t\x01\0\"", b"\"\xff\xfe\"", b"\"\\ud83d\""] {
        let text = [b"{\"x\":", value, b",", REST.as_bytes()].concat();
        assert_eq!(auto(text).requests.len(), 1, "{value:?}");
    }
}
